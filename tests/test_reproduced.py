"""What a chapter computes when it is run again is what is stored with it: the measurements and the data of figures."""

import csv
import json

import nbformat
import numpy as np
import pytest

from book import build
from book.execute import CHAPTERS, FIGURES, claims_of, names

CHAPTER = pytest.mark.parametrize("name", names())


@CHAPTER
def test_stored_and_new_measurements_agree(name, rerun):
    new = rerun(name)
    old_claims, new_claims = claims_of(nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)), claims_of(new)
    assert [c["id"] for c in new_claims] == [c["id"] for c in old_claims]
    for old, fresh in zip(old_claims, new_claims, strict=True):
        assert not disagreement(old, fresh), old["id"]


def disagreement(old, fresh):
    """Entries that differ by more than the two tolerances allow, beyond rounding."""
    a, b = (np.atleast_1d(claim["measured"]).astype(float) for claim in (old, fresh))
    slack = np.hypot(*(np.broadcast_to(claim["tolerance"], a.shape) for claim in (old, fresh)))
    return [
        pair
        for pair in zip(a.ravel(), b.ravel(), slack.ravel(), strict=True)
        if abs(pair[0] - pair[1]) > pair[2] + 1e-6 * abs(pair[0])
    ]


def test_a_stored_measurement_that_is_not_reproduced_is_noticed():
    claim = {"measured": [1.0, 2.0], "tolerance": [0.1, 0.1]}
    assert not disagreement(claim, {**claim, "measured": [1.0, 2.1]})
    assert disagreement(claim, {**claim, "measured": [1.0, 2.2]})


def read_csv(text):
    lines = text.splitlines()
    head = [line[2:] for line in lines if line.startswith("# ")]
    return head, list(csv.DictReader(lines[len(head) :]))


@CHAPTER
def test_stored_and_new_data_of_figures_show_the_same_series(name, rerun):
    """Numbers may differ in their last digits between machines, and populations with them; what is shown may not."""
    new = rerun(name)
    for file, text in build.figure_files(name, new, new.metadata["pbtlib"]["figures"]).items():
        old = (FIGURES / file).read_text()
        if file.endswith(".json"):
            assert outline(json.loads(old)) == outline(json.loads(text))
            continue
        (old_head, old_rows), (new_head, new_rows) = read_csv(old), read_csv(text)
        assert [h for h in old_head if "panel" in h] == [h for h in new_head if "panel" in h]
        shown = [{(r["panel"], r["series"], r["kind"]) for r in rows} for rows in (old_rows, new_rows)]
        assert shown[0] == shown[1]


def outline(data):
    """What a moving figure consists of, without its numbers and sentences."""
    if isinstance(data, dict):
        return {key: outline(value) for key, value in data.items()}
    if isinstance(data, list):
        return list(map(outline, data)) if data and isinstance(data[0], (dict, str)) else "numbers"
    return type(data).__name__
