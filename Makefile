# Thin cover over run.py, which does the same on systems without make.
PYTHON ?= python3
.PHONY: book test exec take seeds lab pdf zip shots lint bench clean help
book lab pdf zip shots lint bench clean:
	@$(PYTHON) run.py $@
test:
	@$(PYTHON) run.py test $(if $(SEED),--seed $(SEED)) $(TESTS)
exec take:
	@$(PYTHON) run.py $@ $(NAME)
seeds:
	@$(PYTHON) run.py seeds $(SEEDS)
help:
	@$(PYTHON) run.py --help
