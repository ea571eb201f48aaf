"""How a run of the tests ended, in a few lines: what passed, what was compared, what failed and why, what did not run.

python -m book.summary REPORT LOG    from pytest's JUnit report, and the log that its last line is in
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from book.build import EXECUTED, kept
from book.execute import ROOT, claims_of, names
from pbtlib.claims import COMPUTED, ledger

SHOWN = 8
"""Failures that are told one by one."""


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m book.summary", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("log", type=Path)
    arguments = parser.parse_args()
    log = arguments.log.relative_to(ROOT) if arguments.log.is_relative_to(ROOT) else arguments.log
    if arguments.report.is_file():
        print("\n".join(told(ElementTree.parse(arguments.report).getroot())))
        print(f"All that was said is in {log}.")
    else:
        print(f"The tests did not get as far as a report; the end of {log}:")
    lines = arguments.log.read_text(errors="replace").splitlines()
    print("\n".join(lines[-1 if arguments.report.is_file() else -20 :]))
    return 0


def told(report: ElementTree.Element) -> list[str]:
    """The lines that a report comes to.

    Parameters
    ----------
    report : Element
        Root of a JUnit report.

    Returns
    -------
    list of str
        First the failures, each with what was expected and found; one line for each cause for which tests did not run;
        then what was compared.
    """
    cases = list(report.iter("testcase"))
    lines = []
    failures = [(case, bad) for case in cases for bad in (*case.findall("failure"), *case.findall("error"))]
    for case, bad in failures[:SHOWN]:
        lines += [f"FAILED {_name(case)}", *(f"    {line}" for line in _reasons(bad))]
    if len(failures) > SHOWN:
        lines.append(f"... and {len(failures) - SHOWN} more failures")
    causes = Counter(skipped.get("message", "") for case in cases for skipped in case.findall("skipped"))
    lines += [f"{number} test{'s' * (number > 1)} did not run: {cause}." for cause, number in causes.items()]
    under = {_name(case).partition(".ipynb::")[0].rpartition("/")[2] for case in cases if ".ipynb" in _name(case)}
    under &= set(names())
    parted = {_name(case).partition(".ipynb::")[0].rpartition("/")[2] for case, _ in failures}
    if under:
        said = f"{len(under - parted)} of {len(under)} chapters ran under nbval and said what is stored"
        lines.append(f"{said}; {_claims(under)} claims as recorded.")
    compared = {case.get("name") for case in cases if case.get("classname") == "tests.test_compared"}
    chapters = {name for name in names() if f"test_stored_and_new_words_agree[{name}]" in compared}
    if chapters:
        lines.append(f"{len(chapters)} chapters compared, {_claims(chapters)} claims as recorded.")
    return lines


def _claims(chapters: set[str]) -> str:
    """How many of the claims that the ledger gives to these chapters are as recorded, as this pass executed them.

    After a cell that failed none is measured: these count as not as recorded.
    """
    executed = filter(None, (kept(EXECUTED / f"{name}.ipynb") for name in chapters))
    agree = {verdict["id"] for notebook in executed for verdict in claims_of(notebook) if verdict["agrees"]}
    due = {name for name, record in ledger().items() if record.chapter in chapters and record.status in COMPUTED}
    return f"{len(agree & due)} of {len(due)}"


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').replace('.', '/', 1)}::{case.get('name')}"


def _reasons(bad: ElementTree.Element) -> list[str]:
    """The lines of a failure that say what was expected and what found: pytest marks them with an E.

    nbval gives the source of the cell, whose claims are named, and at the end what Python raised or what was compared.
    """
    text = re.sub(r"(\x1b|#x1B)\[[0-9;]*m", "", bad.text or "")
    if cell := re.search(r"^(Cell \d+: .*?)\n\s*Input:\n(.*?)\n\s*Traceback:\n(.*)", text, re.DOTALL | re.MULTILINE):
        claims = re.findall(r"\bclaim\(\s*[\"']([^\"']+)", cell[2])
        said = [line.strip() for line in cell[3].splitlines() if line.strip()]
        last = said[-1:] if "exception" in cell[1] else said[:6]
        return [f"{cell[1]}, in the cell of {', '.join(claims) or 'no claim'}", *(line[:600] for line in last)]
    marked = [line[1:].strip() for line in text.splitlines() if re.match(r"E\s", line)]
    plain = [line.strip() for line in (bad.get("message") or text).splitlines()]
    return [line[:200] for line in marked or plain if line][:6]


if __name__ == "__main__":
    raise SystemExit(main())
