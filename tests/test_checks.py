"""What is allowed ends exactly where the message says."""

import re

import numpy as np
import pytest

from pbtlib.checks import LARGEST, check_array, check_number, check_together

ENDS = {"minimum": 0.0, "maximum": 1.0}


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, np.float32(0.25), 1])
def test_an_interval_holds_its_ends(value):
    check_number("x", value, **ENDS)


@pytest.mark.parametrize(
    ("value", "opened", "interval"),
    [
        (-0.1, (), "[0, 1]"),
        (1.1, (), "[0, 1]"),
        (0.0, ("open_minimum",), "(0, 1]"),
        (1.0, ("open_maximum",), "[0, 1)"),
        (np.nan, (), "[0, 1]"),
    ],
)
def test_what_lies_outside_is_refused_with_the_interval(value, opened, interval):
    with pytest.raises(ValueError, match=re.escape(f"x is {value!r}; it must be a finite number in {interval}")):
        check_number("x", value, **ENDS, **dict.fromkeys(opened, True))


def test_an_open_end_holds_what_is_just_inside():
    check_number("x", 1e-300, **ENDS, open_minimum=True)
    check_number("x", np.nextafter(1.0, 0.0), **ENDS, open_maximum=True)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1.0]])
def test_what_is_no_number_is_no_number(value):
    with pytest.raises(TypeError, match=r"x is .*; it must be a real number"):
        check_number("x", value)
    with pytest.raises(TypeError, match="it must be an integer"):
        check_number("x", 1.0, integer=True)


def test_the_largest_number_is_allowed_and_a_larger_one_is_not():
    check_number("x", LARGEST)
    check_number("x", -LARGEST)
    assert check_array("x", [LARGEST, -LARGEST]).tolist() == [LARGEST, -LARGEST]
    beyond = np.nextafter(LARGEST, np.inf)
    for value in (beyond, -beyond, 10**400):
        with pytest.raises(ValueError, match="it must be at most"):
            check_number("x", value)
    with pytest.raises(ValueError, match="entries must be at most"):
        check_array("x", [0.0, -beyond])
    assert check_array("x", [beyond], largest=np.inf) == beyond


@pytest.mark.parametrize(
    ("shape", "wanted", "fits"),
    [
        ((3,), (3,), True),
        ((2, 3), (3,), True),
        ((5, 2, 3), (2, 3), True),
        ((5, 2, 3), (None, 3), True),
        ((3, 2), (3,), False),
        ((3,), (2, 3), False),
        ((), (1,), False),
        ((5, 4, 3), (2, 3), False),
    ],
)
def test_a_shape_is_that_of_the_last_axes(shape, wanted, fits):
    value = np.ones(shape)
    if fits:
        assert check_array("x", value, shape=wanted).shape == shape
    else:
        with pytest.raises(ValueError, match=re.escape(f"x has shape {shape}; it must end in (")):
            check_array("x", value, shape=wanted)


def test_an_axis_of_any_length_is_called_so():
    with pytest.raises(ValueError, match=re.escape("x has shape (2, 4); it must end in (any, 3)")):
        check_array("x", np.ones((2, 4)), shape=(None, 3))


def test_bounds_of_entries_are_those_that_are_said():
    assert check_array("x", [0, 1], minimum=0).dtype == np.float64
    assert check_array("x", [1e-300], minimum=0, open_minimum=True).size == 1
    with pytest.raises(ValueError, match=r"x contains 0; every entry must be > 0"):
        check_array("x", [1, 0], minimum=0, open_minimum=True)
    with pytest.raises(ValueError, match=r"x contains -1; every entry must be >= 0"):
        check_array("x", [1, -1], minimum=0)
    with pytest.raises(ValueError, match="at least 2 axes"):
        check_array("x", [1.0], min_ndim=2)
    for bad, said in (([], "must not be empty"), ([1.0, np.inf], "contains inf; every entry must be finite")):
        with pytest.raises(ValueError, match=said):
            check_array("x", bad)
    with pytest.raises(TypeError, match="array of real numbers"):
        check_array("x", [1j])


def test_shapes_that_do_not_broadcast_are_named():
    assert check_together(x=np.zeros((3, 1)), y=np.zeros(2)) == (3, 2)
    with pytest.raises(ValueError, match=r"x has shape \(3,\), y has shape \(2,\); they must broadcast"):
        check_together(x=np.zeros(3), y=np.zeros(2))
