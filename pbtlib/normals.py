r"""Standard normals from a counter: the noise of the training kernels.

Agent :math:`i`'s :math:`n`-th normal is a function of (key, i, n) and of nothing else, so neither chunks nor threads
nor the order of work can change a result. The random bits are those of the counter-based generator Philox4x32 with
ten rounds, for the counter (i, ⌊n/4⌋); its four 32-bit words make four normals by the transformation of Box and
Muller. The logarithm and the sine and cosine are power series on reduced arguments, in double precision, written so
that every loop becomes vector instructions.

A uniform number has 32 bits here, so no normal exceeds :math:`\sqrt{2\cdot 33\log 2} = 6.76` in size; a true one
does with probability 1.4e-11.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pbtlib.checks import check_number

__all__ = ["COMPILE", "draw_key", "fill", "normals"]


def _keeps_compiled_code() -> bool:
    """Whether Numba finds a folder where it may keep compiled code; without one it refuses to cache at all."""
    try:
        njit(cache=True)(_keeps_compiled_code)
    except RuntimeError:
        return False
    return True


COMPILE: dict[str, Any] = {
    "nogil": True,
    "cache": _keeps_compiled_code(),
    "error_model": "numpy",
    "fastmath": {"contract"},
}
"""Options of the compiled functions: free of the interpreter's lock, kept on disk where that can be written to,
divisions that need no test."""

_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)

# An integer below 2^52, written into the mantissa of 2^52, makes the number 2^52 + integer: a conversion that every
# processor can vectorise.
_SHIFT = 2.0**52
_SHIFT_BITS = np.int64(np.array(_SHIFT).view(np.int64))
_ROOT_HALF_BITS = np.int64(np.array(np.sqrt(0.5)).view(np.int64))
_MANTISSA, _BIAS = np.int64(52), np.int64(1024)
_LOW_30, _SWAP, _SIGN = np.int64(2**30 - 1), np.int64(2**30), np.int64(2**31)
_LOG_2 = float(np.log(2.0))


@njit(inline="always", **COMPILE)
def _philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox4x32-10 on 32-bit words held in 64-bit integers."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0 = (p1 >> _HALF) ^ c1 ^ k0
        c2 = (p0 >> _HALF) ^ c3 ^ k1
        c1 = p1 & _MASK
        c3 = p0 & _MASK
        k0 = (k0 + _W0) & _MASK
        k1 = (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@njit(inline="always", **COMPILE)
def _series(x, a, b, c, d, e, f, g, h, i):  # type: ignore[no-untyped-def]
    """Evaluate a + bx + … + ix⁸."""
    return a + x * (b + x * (c + x * (d + x * (e + x * (f + x * (g + x * (h + x * i)))))))


@njit(**COMPILE)
def fill(z, key, agent, block):  # type: ignore[no-untyped-def]
    """Write normals 4·block … 4·block + 3 of agents agent … agent + n − 1 into rows 0 … 3 of z, shape (6, n).

    Rows 4 and 5 are scratch. ``key`` is a 64-bit integer, ``agent`` and ``block`` are at least 0.
    """
    n = z.shape[1]
    bits = z.view(np.int64)
    k0, k1 = key & _MASK, key >> _HALF
    first, count = np.uint64(agent), np.uint64(block)
    for j in range(n):
        i = first + np.uint64(j)
        w0, w1, w2, w3 = _philox(i & _MASK, i >> _HALF, count & _MASK, count >> _HALF, k0, k1)
        bits[0, j] = np.int64(w0) | _SHIFT_BITS
        bits[2, j] = np.int64(w1) | _SHIFT_BITS
        bits[4, j] = np.int64(w2)
        bits[5, j] = np.int64(w3)
    for half in range(2):
        u, v, word = 2 * half, 2 * half + 1, 4 + half
        for j in range(n):  # the uniform (w + 1/2) / 2^32
            z[u, j] = (z[u, j] - (_SHIFT - 0.5)) * 2.0**-32
        for j in range(n):  # is 2^e m with m in [√½, √2)
            exponent = (bits[u, j] - _ROOT_HALF_BITS) >> _MANTISSA
            bits[u, j] -= exponent << _MANTISSA
            bits[v, j] = (exponent + _BIAS) | _SHIFT_BITS
        for j in range(n):  # radius √(−2 log u), log m = 2 artanh((m − 1)/(m + 1))
            t = (z[u, j] - 1.0) / (z[u, j] + 1.0)
            artanh = t * _series(t * t, 1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13, 1 / 15, 1 / 17)
            z[u, j] = np.sqrt(-2.0 * (2.0 * artanh + (z[v, j] - (_SHIFT + 1024.0)) * _LOG_2))
        for j in range(n):
            bits[v, j] = (bits[word, j] & _LOW_30) | _SHIFT_BITS
        for j in range(n):  # an angle in [−π/4, π/4], then one of the four quarters of the circle
            radius = z[u, j]
            x = ((z[v, j] - (_SHIFT + 2.0**29)) + 0.5) * (np.pi / 2.0**31)
            y = x * x
            sine = (
                radius
                * x
                * _series(
                    y,
                    1.0,
                    -1 / 6,
                    1 / 120,
                    -1 / 5040,
                    1 / 362880,
                    -1 / 39916800,
                    1 / 6227020800,
                    -1 / 1307674368000,
                    0.0,
                )
            )
            cosine = radius * _series(
                y,
                1.0,
                -1 / 2,
                1 / 24,
                -1 / 720,
                1 / 40320,
                -1 / 3628800,
                1 / 479001600,
                -1 / 87178291200,
                1 / 20922789888000,
            )
            cosine = -cosine if bits[word, j] & _SIGN else cosine
            swap = bits[word, j] & _SWAP
            z[u, j] = sine if swap else cosine
            z[v, j] = cosine if swap else sine


def draw_key(rng: np.random.Generator) -> np.uint64:
    """Draw the 64-bit key of one training phase from the stream that belongs to it."""
    return rng.integers(0, 2**64, dtype=np.uint64)


def normals(key: int, agents: int, count: int, *, agent: int = 0, first: int = 0) -> NDArray[np.float64]:
    """Return normals first … first + count − 1 of agents agent … agent + agents − 1, shape (count, agents)."""
    for name, value, least in (("agents", agents, 1), ("count", count, 1), ("agent", agent, 0), ("first", first, 0)):
        check_number(name, value, integer=True, minimum=least, maximum=2**53)
    check_number("key", key, integer=True, minimum=0, maximum=2**64 - 1)
    start, stop = first // 4, -(-(first + count) // 4)
    z = np.empty((stop - start, 6, agents))
    for block in range(start, stop):
        fill(z[block - start], np.uint64(key), agent, block)
    return z[:, :4].reshape(-1, agents)[first - 4 * start :][:count]
