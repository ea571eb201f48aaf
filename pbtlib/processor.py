"""The instruction sets that the numerical libraries of this process compute with."""

from __future__ import annotations

import importlib.util

import llvmlite.binding
import numba.core.config
import numpy as np
import scipy.linalg  # noqa: F401  (SciPy brings an OpenBLAS of its own)
from threadpoolctl import threadpool_info

__all__ = ["instruction_sets"]


def instruction_sets() -> dict[str, str]:
    """Say which instruction set each library has chosen for the processor it found.

    Sums of floating-point numbers, and chaotic paths that grow from their last digits, depend on them.

    Returns
    -------
    dict
        From library to the name it uses itself: ``numpy`` (the widest of its loops), ``numba`` (the processor that
        it compiles for), ``openblas`` and ``aten``, torch's tensor library (where they are installed).

    Examples
    --------
    >>> sorted(instruction_sets())[-2:]
    ['numpy', 'openblas']
    """
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    found = {
        "numpy": [*simd.get("baseline", []), *simd.get("found", [])][-1],
        "numba": vars(numba.core.config)["CPU_NAME"] or llvmlite.binding.get_host_cpu_name(),
    }
    blas = {library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"}
    if blas:
        found["openblas"] = ", ".join(sorted(blas))
    if importlib.util.find_spec("torch"):
        import torch

        found["aten"] = torch.backends.cpu.get_cpu_capability()
    return found
