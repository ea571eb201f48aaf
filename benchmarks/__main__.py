"""``python -m benchmarks [name ...]``: run the benchmarks and print a table of ratios beside their bars."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main(names: list[str]) -> int:
    """Run the modules named (all by default).

    Each has a function ``rows()`` that yields `benchmarks.Row`, or else a ``main(arguments)`` that prints.
    """
    known = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))
    unknown = set(names) - set(known)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    print(f"{'what':<66} {'measured':>9} {'bar':>9}        times")
    missed = 0
    for name in names or known:
        module = importlib.import_module(f"benchmarks.{name}")
        if not hasattr(module, "rows"):
            module.main([])
            continue
        for row in module.rows():
            missed += not row.met
            sign, verdict = ("<=" if row.at_most else ">="), ("met" if row.met else "MISSED")
            print(f"{row.what:<66} {row.value:9.2f} {sign} {row.bar:<6g} {verdict:<6} {row.detail}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
