"""Sample sizes of processes with known correlations; rates against known powers."""

import numpy as np
import pytest

from pbtlib import estimates as E  # noqa: N812


def autoregression(rng, coefficient, shape, drift=0.0):
    """Stationary AR(1) of variance one along the last axis, on a line that rises by ``drift`` a step."""
    x = rng.standard_normal(shape)
    for k in range(1, shape[-1]):
        x[..., k] = coefficient * x[..., k - 1] + np.sqrt(1 - coefficient**2) * x[..., k]
    return x + drift * np.arange(shape[-1])


@pytest.mark.parametrize("coefficient", [0.0, 0.6, 0.9])
def test_effective_sample_size_of_an_autoregression(rng, coefficient):
    chains, n = 200, 4000
    found = E.effective_sample_size(autoregression(rng, coefficient, (chains, n))) / n
    exact = (1 - coefficient) / (1 + coefficient)
    # truncation at 5τ loses ρ^{5τ} at most; the variance of a windowed τ is 2(2M+1)/n relative, M = 5τ + 1
    error = np.sqrt(2 * (2 * (5 / exact + 1) + 1) / (chains * n))
    assert abs(found / exact - 1) < 5 * error + 1.1 * coefficient ** (5 / exact) + 2 / (exact * n)


def test_ignoring_correlation_is_seen(rng):
    x = autoregression(rng, 0.9, (2000, 400))
    variance = x.mean(-1).var(ddof=1)
    relative = np.sqrt(2 / 2000)
    tau, edge = 1.9 / 0.1, 2 * 0.9 / (0.1 * 400) ** 2
    exact = tau / 400 - edge  # of a stationary AR(1), up to ρ^n
    assert abs(variance / exact - 1) < 5 * relative
    # A false alarm below 1e-6: five standard errors of a τ summed up to 5τ + 1; the edge term is not in τ/n, nor what
    # lies beyond the window
    error = np.sqrt(2 * (2 * (5 * tau + 1) + 1) / x.size)
    known = edge / exact + 1.1 * 0.9 ** (5 * tau)
    assert abs(1 / E.effective_sample_size(x) / exact - 1) < 5 * error + known < 0.15
    assert 1 / 400 / exact < 0.1


@pytest.mark.parametrize(("coefficient", "n"), [(0.9, 20), (0.95, 50), (0.98, 100), (0.99, 1000)])
def test_a_series_too_short_to_tell_is_refused(rng, coefficient, n):
    """A chain of at most 5τ looks less correlated than it is; nearly every one is refused.

    Of 1000 other chains of each kind at most 6 passed: that more than 20 of 400 do has a probability below 1e-9.
    """
    accepted = 0
    for chain in autoregression(rng, coefficient, (400, n)):
        try:
            E.effective_sample_size(chain)
        except ValueError as refused:
            assert "series has" in str(refused)  # noqa: PT017
        else:
            accepted += 1
    assert accepted <= 20
    tau = (1 + coefficient) / (1 - coefficient)
    long = round(10 * tau)
    found = E.effective_sample_size(autoregression(rng, coefficient, (400, long)))
    assert abs(found * tau / long - 1) < 5 * np.sqrt(2 * (2 * (5 * tau + 1) + 1) / (400 * long)) + 1.1e-4


def test_fifty_entries_that_do_not_remember_are_enough():
    x = np.random.default_rng(1).standard_normal(50)
    assert E.effective_sample_size(x) > 50
    with pytest.raises(ValueError, match="series has 49 entries in all"):
        E.effective_sample_size(x[:49])


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9])
def test_autocorrelation_and_effective_size_of_an_autoregressive_process(phi, rng):
    """ρ_k = φ^k in spite of a drift; the size the variance of means shows is the one the correlations predict."""
    groups, m = 40, 20
    x = autoregression(rng, phi, (groups, 200, m), drift=0.7)
    each = np.array([E.autocorrelation(group) for group in x])
    error = each.std(0, ddof=1) / np.sqrt(groups)
    assert (np.abs(each.mean(0) - phi ** np.arange(m))[1:] < 5 * error[1:] + 1e-3).all()
    k = np.arange(1, m)
    exact = m / (1 + 2 * np.sum((1 - k / m) * phi**k))
    assert E.effective_size(phi ** np.arange(m), m) == pytest.approx(exact)
    sizes = 1 / x.mean(-1).var(-1, ddof=1)  # the process has variance one
    assert abs(sizes.mean() - exact) < 5 * sizes.std(ddof=1) / np.sqrt(groups) + 0.03 * exact
    if phi:
        assert abs(sizes.mean() - m) > 5 * sizes.std(ddof=1) / np.sqrt(groups) + 0.03 * m, "as if independent"


def test_a_lasting_difference_between_replicates_is_correlation(rng):
    """x_ik = u_i + noise, variances 1 and 3: ρ_k = 1/4 at every lag, and no window is worth more than four draws."""
    x = rng.standard_normal((50, 100, 1)) + np.sqrt(3) * rng.standard_normal((50, 100, 30))
    each = np.array([E.autocorrelation(group) for group in x])
    error = each.std(0, ddof=1) / np.sqrt(50)
    assert (np.abs(each.mean(0) - 0.25)[1:] < 5 * error[1:] + 2e-3).all()
    assert E.effective_size(np.r_[1.0, np.full(999, 0.25)], 1000) == pytest.approx(1000 / 250.75)


# ------------------------------------------------------------------------------------------------ rates


@pytest.mark.parametrize("power", [-0.5, 1.0, 2.0])
def test_an_exact_power_is_found(power):
    x = np.array([1.0, 3.0, 10.0])
    rate = E.fit_rate(x, 2.5 * x**power)
    assert rate.slope == pytest.approx(power)
    assert np.exp(rate.intercept) == pytest.approx(2.5)
    assert np.isnan([rate.low, rate.high, rate.standard_error]).all()  # one replicate says nothing of its spread


def test_replicates_are_combined_by_their_mean_or_root_mean_square(rng):
    x = np.array([1.0, 3.0, 10.0])
    pair = np.outer([1.0, 7.0], x**-0.5)
    for norm, combined in ((1, 4.0), (2, 5.0)):
        rate = E.fit_rate(x, pair, rng, norm=norm, resamples=20)
        assert (rate.slope, np.exp(rate.intercept)) == pytest.approx((-0.5, combined))


@pytest.mark.parametrize("norm", [1, 2])
def test_the_band_has_the_width_it_claims(rng, norm):
    """The spread of fitted slopes over repeated experiments equals the bootstrap standard error."""
    x, fits = np.array([100, 400, 1600]), []
    for _ in range(150):
        errors = np.abs(rng.standard_normal((60, 3))) / np.sqrt(x)
        fits.append(E.fit_rate(x, errors, rng, norm=norm, resamples=200))
    slopes, claimed = np.array([f.slope for f in fits]), np.mean([f.standard_error for f in fits])
    assert abs(slopes.mean() + 0.5) < 5 * slopes.std() / np.sqrt(len(slopes))
    assert 0.7 < claimed / slopes.std() < 1.4  # the spread of 150 slopes is known to 6 %, five times that allowed
    covered = np.mean([f.low <= -0.5 <= f.high for f in fits])
    assert covered > 0.95 - 5 * np.sqrt(0.95 * 0.05 / 150) - 0.02
    assert np.mean([f.low <= -0.1 <= f.high for f in fits]) < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: E.fit_rate([1.0, 1.0], [1.0, 2.0]), "two different x"),
        (lambda: E.fit_rate([1.0, 2.0], [1.0, 0.0]), "errors vanish"),
        (lambda: E.fit_rate([1.0, 2.0], np.ones((3, 2))), "rng is None"),
        (lambda: E.effective_sample_size(np.ones(10)), "differ"),
        (
            lambda: E.effective_sample_size(np.tile([-1.0, 1.0], 50)),
            "correlation time -1, which is not above its stand",
        ),
        (lambda: E.effective_sample_size(np.tile([-1.0, 1.0], 20)), "40 entries in all"),
        (lambda: E.effective_sample_size(np.repeat([[0.0], [1.0]], 50, axis=1)), "fewer than five correlation times"),
        (lambda: E.effective_sample_size(np.repeat([0.0, 1.0, 0.0, 1.0], 25)), "it needs 50 times that"),
        (lambda: E.effective_size([1.0, 0.5], 3), "m is 3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
