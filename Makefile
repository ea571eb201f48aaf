# Thin cover over run.py, which does the same on systems without make. V=1 shows what goes to the logs.
PYTHON ?= python3
RUN = $(PYTHON) run.py $@ $(if $(V),--verbose)
.PHONY: book test nbval portable newest lowest exec take seeds faults mutants lab pdf zip shots lint bench lock clean help
book lab pdf zip shots lint bench lock clean:
	@$(RUN)
test portable newest lowest:
	@$(RUN) $(if $(SEED),--seed $(SEED)) $(TESTS)
nbval:
	@$(RUN) $(TESTS)
exec take faults mutants:
	@$(RUN) $(NAME)
seeds:
	@$(RUN) $(SEEDS)
.PHONY: kills
kills:
	@$(RUN) $(PARTS)
help:
	@$(PYTHON) run.py --help
