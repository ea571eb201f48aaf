"""Operators as values: what a frozen dataclass, an array or a function says about itself, as JSON values."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

__all__ = ["ASIDE", "describe"]

ASIDE = {"aside": True}
"""Metadata of a dataclass field that does not belong to the identity: it cannot change a result that was obtained."""


def describe(value: Any) -> Any:
    """Return what tells a value from others, as JSON values.

    Parameters
    ----------
    value : object
        Numbers, text, arrays (told by a checksum), lists, dictionaries; frozen dataclasses and other objects, by their
        class and the values that they hold; functions that can be imported, by their name. The code of a class or
        function is not looked at.

    Returns
    -------
    JSON value

    Raises
    ------
    TypeError
        On a function made inside another one, or a lambda: nothing tells it from the next.

    Examples
    --------
    >>> from pbtlib.evolution import Gibbs, Selection
    >>> describe(Selection(Gibbs(2.0), tau=0.5))
    {'type': 'pbtlib.evolution.Selection', 'rule': {'type': 'pbtlib.evolution.Gibbs', 'beta': 2.0}, 'tau': 0.5, \
'resampling': 'multinomial'}
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case np.ndarray():
            digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return f"{value.dtype} {value.shape} with SHA-256 {digest}"
        case list() | tuple():
            return [describe(part) for part in value]
        case dict():
            return {str(name): describe(part) for name, part in value.items()}
        case partial():
            return {"type": "partial", "of": describe(value.func), "args": describe([value.args, value.keywords])}
    if hasattr(value, "__qualname__") or isinstance(value, np.ufunc):
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, type(np)):
            return {"type": "method", "name": value.__name__, "of": describe(owner)}
        name = getattr(value, "__qualname__", value.__name__)
        if "<" in name:
            raise TypeError(f"{value!r} cannot describe itself; a frozen dataclass with __call__ can")
        return f"{getattr(value, '__module__', 'numpy')}.{name}"
    kind = type(value)
    if is_dataclass(value):
        parts = {f.name: getattr(value, f.name) for f in fields(value) if not f.metadata.get("aside")}
    elif hasattr(value, "__dict__"):
        parts = vars(value)
    else:
        raise TypeError(f"{value!r} cannot describe itself; a frozen dataclass can")
    return {"type": f"{kind.__module__}.{kind.__qualname__}", **{name: describe(part) for name, part in parts.items()}}
