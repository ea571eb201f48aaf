r"""What samples are worth, and rates read off errors.

`effective_sample_size` is for one stationary law and long series, whose correlation time it has to find.
`autocorrelation` and `effective_size` are for replicates of a process that drifts, over a window of given length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import next_fast_len
from scipy.stats import bootstrap

from pbtlib.checks import check_array, check_number

__all__ = ["Rate", "autocorrelation", "effective_sample_size", "effective_size", "fit_rate"]

Array = NDArray[np.float64]


def effective_sample_size(series: ArrayLike) -> float:
    r"""Return how many independent draws give the mean of a stationary series the same variance, n/τ.

    :math:`\tau = 1 + 2\sum_{k\ge1}\rho_k`, the autocorrelations averaged over the leading axes and summed up to the
    first lag k ≥ 5τ (Sokal's window).

    Parameters
    ----------
    series : array_like, shape (..., n)
        Leading axes are independent chains of the same law, whose common mean is subtracted.

    Raises
    ------
    ValueError
        If the series is constant, or too short to tell: if no lag k < n has k ≥ 5τ, if there are fewer than 50τ or 50
        entries in all, or if τ is below its own standard error, as that of a series that alternates may be.

    Examples
    --------
    >>> import numpy as np
    >>> fresh = np.random.default_rng(0).normal(size=10_000)
    >>> bool(effective_sample_size(fresh) > 3 * effective_sample_size(np.repeat(fresh, 4)[:10_000]))
    True
    """
    x = check_array("series", series, min_ndim=1)
    n = x.shape[-1]
    if n < 4 or x.min() == x.max():
        raise ValueError(f"series has {n} entries from {x.min():g} to {x.max():g}; at least 4 that differ are needed")
    y = (x - x.mean()).reshape(-1, n)
    power = np.abs(np.fft.rfft(y, next_fast_len(2 * n))) ** 2
    covariance = np.fft.irfft(power, next_fast_len(2 * n))[:, :n].mean(0) / (n - np.arange(n))
    tau = 2 * np.cumsum(covariance / covariance[0]) - 1
    enough = np.flatnonzero(np.arange(n) >= 5 * tau)
    if not enough.size:
        raise ValueError(f"series has {n} entries per chain, fewer than five correlation times; it must be longer")
    lag = enough[0]
    time = float(tau[lag])
    if x.size < 50 * max(time, 1.0):
        raise ValueError(
            f"series has {x.size} entries in all; at a correlation time of {time:.3g} it needs 50 times that or of 1"
        )
    error = np.sqrt(2 * (2 * lag + 1) / x.size)  # of the sum of that many autocorrelations, for independent entries
    if time <= error:
        raise ValueError(
            f"series has the correlation time {time:.3g}, which is not above its standard error {error:.3g}"
        )
    size: float = n / time
    return size


def autocorrelation(x: ArrayLike) -> Array:
    """Autocorrelation of independent replicates of a process that fluctuates about a mean that may drift.

    Deviations are taken from the mean over the replicates, not from that of each replicate: what sets one replicate
    apart for the whole time is correlation, too.

    Parameters
    ----------
    x : array_like, shape (..., replicate, time)
        Leading axes are pooled: groups of replicates, each with a mean of its own.

    Returns
    -------
    ndarray, shape (time,)
        ρ_0 = 1, ρ_1, ...

    Raises
    ------
    ValueError
        If all replicates are the same, or there is one only.

    Examples
    --------
    >>> autocorrelation([[1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]).tolist()
    [1.0, 0.0, -1.0]
    """
    values = check_array("x", x, min_ndim=2)
    deviation = values - values.mean(-2, keepdims=True)
    n = values.shape[-1]
    if not deviation.any():
        raise ValueError(f"x has shape {values.shape}, and all replicates are the same; at least two must differ")
    covariance = [(deviation[..., : n - k] * deviation[..., k:]).mean() for k in range(n)]
    correlation: Array = np.array(covariance) / covariance[0]
    return correlation


def effective_size(rho: ArrayLike, m: int) -> float:
    """Return how many independent draws have a mean of the same variance as m consecutive entries of a series.

    It is m / (1 + 2 Σ_{k<m} (1 − k/m) ρ_k): below m if they are positively correlated, above m if they alternate.

    Parameters
    ----------
    rho : array_like, shape (at least m,)
        Autocorrelation, ρ_0 = 1 first.
    m : int
        Length of the window, from 1 to the number of autocorrelations.

    Raises
    ------
    ValueError
        If ρ is no vector, m out of range, or the variance that ρ gives to the mean is not positive: of no series is it.

    Examples
    --------
    >>> effective_size([1.0, 0.0, 0.0], m=3), effective_size([1.0, 1.0, 1.0], m=3)
    (3.0, 1.0)
    """
    correlation = check_array("rho", rho)
    if correlation.ndim != 1:
        raise ValueError(f"rho has shape {correlation.shape}; it must be a vector")
    check_number("m", m, integer=True, minimum=1)
    if m > correlation.size:
        raise ValueError(f"m is {m}; it must be at most the number of entries of rho, {correlation.size}")
    k = np.arange(1, m)
    draws = 1 + 2 * np.sum((1 - k / m) * correlation[1:m])
    if not draws > 0:
        raise ValueError(
            f"rho makes the variance of the mean {draws / m:g} times that of one entry; it must be positive"
        )
    return float(m / draws)


@dataclass(frozen=True)
class Rate:
    """A fitted power law, error ≈ e^intercept · x^slope.

    Attributes
    ----------
    slope, intercept : float
        Of log error against log x.
    low, high : float
        Ends of the bootstrap band of the slope; NaN, since unknown, where there is one replicate only.
    standard_error : float
        Bootstrap standard error of the slope; NaN where there is one replicate only.

    Examples
    --------
    >>> Rate(slope=-0.5, intercept=0.0, low=-0.6, high=-0.4, standard_error=0.05).slope
    -0.5
    """

    slope: float
    intercept: float
    low: float
    high: float
    standard_error: float


def fit_rate(
    x: ArrayLike,
    errors: ArrayLike,
    rng: np.random.Generator | None = None,
    *,
    norm: int = 1,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Rate:
    """Fit a power of x to errors by least squares in logarithms, with a bootstrap band over replicates.

    Parameters
    ----------
    x : array_like, shape (K,)
        Sizes N, steps Δt, scales ε; all positive, at least two different.
    errors : array_like, shape (K,) or (R, K)
        Errors ≥ 0 with a positive mean; with R ≥ 2 the rows are independent replicates, and the replicates of
        different columns are taken to be independent of each other.
    rng : numpy.random.Generator, optional
        Needed with replicates.
    norm : {1, 2}
        Replicates are combined by the mean error or by the root mean square.
    confidence : float
        Level of the (percentile) band.
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    Rate

    Examples
    --------
    >>> round(fit_rate([10, 100, 1000], [1.0, 0.1, 0.01]).slope, 6)
    -1.0
    """
    points = check_array("x", x, minimum=0, open_minimum=True, shape=(None,))
    if points.ndim != 1:
        raise ValueError(f"x has shape {points.shape}; it must be a vector")
    values = np.atleast_2d(check_array("errors", errors, minimum=0))
    if values.shape[-1:] != points.shape:
        raise ValueError(f"x has shape {points.shape}, errors {values.shape}; errors must end in the axis of x")
    check_number("norm", norm, integer=True, minimum=1, maximum=2)
    if values.ndim != 2 or np.unique(points).size < 2:
        raise ValueError(f"x has shape {points.shape}, errors {values.shape}; at least two different x are needed")
    if not (values.max(0) > 0).all():
        raise ValueError("errors vanish at some x; a power law needs positive errors")
    log_x = np.log(points)
    weight = (log_x - log_x.mean()) / ((log_x - log_x.mean()) ** 2).sum()

    def slope(*columns: Array, axis: int = -1) -> Array:
        combined = np.stack([np.mean(c**norm, axis=axis) for c in columns], axis=-1)
        slopes: Array = np.log(combined) @ weight / norm
        return slopes

    estimate = float(slope(*values.T))
    intercept = float((np.log((values**norm).mean(0)) / norm).mean() - estimate * log_x.mean())
    if len(values) == 1:
        return Rate(estimate, intercept, np.nan, np.nan, np.nan)
    if rng is None:
        raise ValueError("rng is None; a band over the replicates that errors holds needs a random generator")
    band = bootstrap(
        tuple(values.T), slope, n_resamples=resamples, confidence_level=confidence, method="percentile", rng=rng
    )
    interval = band.confidence_interval
    return Rate(estimate, intercept, float(interval.low), float(interval.high), float(band.standard_error))
