"""The instruction sets that a provenance names are those that the libraries say they use."""

import numpy as np

from pbtlib.processor import instruction_sets


def test_numpy_is_named_by_the_last_of_its_instruction_sets(monkeypatch):
    for simd, expected in (({"baseline": list("abc"), "found": list("de")}, "e"), ({"baseline": list("abc")}, "c")):
        monkeypatch.setattr(np, "show_config", lambda mode, simd=simd: {"SIMD Extensions": simd})
        assert instruction_sets()["numpy"] == expected
