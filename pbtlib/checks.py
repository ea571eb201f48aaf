"""Checks at the boundary: every message names the argument, its value and what is allowed."""

from __future__ import annotations

import math
import os
import sys

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["check_array", "check_memory", "check_number", "check_together", "memory"]

LARGEST = 1e150
"""Largest size of a number: beyond, squares and products overflow, and infinity less infinity is no number."""


def check_number(
    name: str,
    value: float,
    *,
    integer: bool = False,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    open_minimum: bool = False,
    open_maximum: bool = False,
) -> None:
    """Raise unless the value is a finite number in the interval from minimum to maximum.

    Parameters
    ----------
    name : str
        The argument's name, as the caller knows it.
    value : float
        What was passed.
    integer : bool
        Whether only whole numbers are allowed.
    minimum, maximum : float
        The interval's ends.
    open_minimum, open_maximum : bool
        Whether the end itself is excluded.

    Raises
    ------
    TypeError
        If it is no real number (or no integer where one is needed).
    ValueError
        If it is not finite or outside the interval.
    """
    kind = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kind):
        raise TypeError(f"{name} is {_shown(value)}; it must be {'an integer' if integer else 'a real number'}")
    if isinstance(value, int) and abs(value) > LARGEST:
        digits = math.ceil(value.bit_length() * math.log10(2))  # Python refuses to print integers that are too long
        raise ValueError(f"{name} is too large, of {digits} digits; it must be at most {LARGEST:g} in size")
    low_ok = value > minimum if open_minimum else value >= minimum
    high_ok = value < maximum if open_maximum else value <= maximum
    if not (math.isfinite(value) and low_ok and high_ok):
        left, right = (
            "(" if open_minimum or minimum == -math.inf else "[",
            ")" if open_maximum or maximum == math.inf else "]",
        )
        raise ValueError(f"{name} is {value!r}; it must be a finite number in {left}{minimum:g}, {maximum:g}{right}")
    if abs(float(value)) > LARGEST:  # in single precision the limit itself would overflow
        raise ValueError(
            f"{name} is {value!r}; it must be at most {LARGEST:g} in size, so that squares do not overflow"
        )


def check_array(
    name: str,
    value: ArrayLike,
    *,
    min_ndim: int = 0,
    shape: tuple[int | None, ...] | None = None,
    minimum: float = -math.inf,
    open_minimum: bool = False,
    largest: float = LARGEST,
) -> NDArray[np.float64]:
    """Return the value as a float64 array, or raise if it is empty, not finite, misshapen or too small.

    Parameters
    ----------
    name : str
        The argument's name, as the caller knows it.
    value : array_like
        What was passed.
    min_ndim : int
        The least number of axes.
    shape : tuple, optional
        The last axes' lengths; None stands for any length, further leading axes are allowed.
    minimum : float
        Lower bound of every entry.
    open_minimum : bool
        Whether the bound itself is excluded.
    largest : float
        Largest size of an entry; infinite where a diverged agent's values may be as large as they are.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError
        If it cannot be read as real numbers.
    ValueError
        If it breaks one of the conditions.
    """
    array = as_real(name, value)
    if array.ndim < min_ndim:
        raise ValueError(f"{name} has shape {array.shape}; it must have at least {min_ndim} axes")
    if shape is not None:
        tail = array.shape[array.ndim - len(shape) :] if array.ndim >= len(shape) else ()
        if len(tail) != len(shape) or any(want not in (None, have) for want, have in zip(shape, tail, strict=True)):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise ValueError(f"{name} has shape {array.shape}; it must end in ({wanted})")
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; it must not be empty")
    smallest, greatest = array.min(), array.max()  # NaN if any entry is
    if not (np.isfinite(smallest) and np.isfinite(greatest)):
        raise ValueError(f"{name} contains {array[~np.isfinite(array)].flat[0]}; every entry must be finite")
    if max(-smallest, greatest) > largest:
        worst = array.flat[np.abs(array).argmax()]
        raise ValueError(f"{name} contains {worst:g}; entries must be at most {largest:g} in size")
    if smallest < minimum or (open_minimum and smallest == minimum):
        sign = ">" if open_minimum else ">="
        raise ValueError(f"{name} contains {smallest:g}; every entry must be {sign} {minimum:g}")
    return array


def as_real(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return the value as a float64 array, whatever its entries and shape.

    Raises
    ------
    TypeError
        If it cannot be read as real numbers.
    ValueError
        If it holds an integer beyond all floating-point numbers.
    """
    try:
        if np.iscomplexobj(value):
            raise TypeError("complex numbers would lose their imaginary part")
        return np.asarray(value, dtype=np.float64)
    except OverflowError as error:
        raise ValueError(
            f"{name} contains an integer that is too large; entries must be at most {LARGEST:g} in size"
        ) from error
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {_shown(value)}; it must be an array of real numbers") from error


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # it holds an integer that is too long for Python to print
        return f"a {type(value).__name__} that is too long to print"


def check_together(**arrays: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the shape that arrays broadcast to, or raise.

    Parameters
    ----------
    **arrays : ndarray
        By the names that the caller knows.

    Raises
    ------
    ValueError
        If their shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> check_together(x=np.zeros((3, 1)), y=np.zeros(2))
    (3, 2)
    """
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError as error:
        said = ", ".join(f"{name} has shape {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{said}; they must broadcast") from error


def check_memory(what: str, size: float) -> None:
    """Raise if arrays are too large for this machine: the system might otherwise end the process without a word.

    Parameters
    ----------
    what : str
        The argument and its value, as the caller knows them.
    size : float
        What is to be held at once [bytes].

    Raises
    ------
    MemoryError
        If that is more than `memory` returns.
    """
    if size > (most := memory()):
        raise MemoryError(f"{what}, which needs {size / 1e9:,.1f} GB of memory; there are {most / 1e9:,.1f}")


def memory() -> float:
    """Memory of this machine, or what a process of it is allowed if that is less [bytes]; infinite if nobody knows.

    Examples
    --------
    >>> memory() > 0
    True
    """
    limits = [math.inf]
    if sys.platform != "win32":
        import resource

        limits += [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")]
        limits += [own for own in resource.getrlimit(resource.RLIMIT_AS)[:1] if own != resource.RLIM_INFINITY]
    return min(limits)
