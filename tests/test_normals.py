"""The counter-based normals: known answers, an independent re-computation, and a battery that a bad generator fails."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pbtlib.normals import _philox, draw_key, normals

# Published with the Random123 library, file kat_vectors, generator philox4x32 with 10 rounds: counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox_in_python(counter, key, rounds=10):
    (a, b, c, d), (k, m) = counter, key
    for _ in range(rounds):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q % 2**32, (p >> 32) ^ d ^ m, p % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return a, b, c, d


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    assert tuple(map(int, _philox(*map(np.uint64, (*counter, *key))))) == answer
    assert philox_in_python(counter, key) == answer
    assert philox_in_python(counter, key, rounds=9) != answer


@settings(deadline=None, max_examples=30)
@given(key=st.integers(0, 2**64 - 1), agent=st.integers(0, 2**40), block=st.integers(0, 2**40))
def test_a_normal_is_box_and_muller_of_its_own_counter(key, agent, block):
    found = normals(key, 1, 4, agent=agent, first=4 * block)[:, 0]
    words = philox_in_python((agent % 2**32, agent >> 32, block % 2**32, block >> 32), (key % 2**32, key >> 32))
    for half in range(2):
        radius = np.sqrt(-2 * np.log((words[half] + 0.5) / 2**32))
        quarter, fraction = words[2 + half] >> 30, words[2 + half] % 2**30
        angle = (fraction - 2**29 + 0.5) * (2 * np.pi / 2**32)
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        x = -x if quarter & 2 else x
        wanted = (y, x) if quarter & 1 else (x, y)
        np.testing.assert_allclose(found[2 * half : 2 * half + 2], wanted, atol=1e-13, rtol=1e-13)


@settings(deadline=None, max_examples=30)
@given(agent=st.integers(0, 60), first=st.integers(0, 30), agents=st.integers(1, 40), count=st.integers(1, 20))
def test_any_part_is_cut_from_the_same_table(agent, first, agents, count):
    table = normals(11, 100, 50)
    part = normals(11, agents, count, agent=agent, first=first)
    assert np.array_equal(part, table[first : first + count, agent : agent + agents])


def test_extreme_words_stay_finite():
    assert np.isfinite(normals(0, 1 << 16, 64)).all()


def p_values(z):
    """The battery: p-values of a table of numbers (count, agents) that ought to be independent standard normals."""
    flat, n = z.ravel(), z.size
    yield "Kolmogorov-Smirnov", stats.kstest(flat, "norm").pvalue
    for power, mean, second in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105), (6, 15, 10395)):
        score = (np.mean(flat**power) - mean) / np.sqrt((second - mean**2) / n)
        yield f"moment {power}", 2 * stats.norm.sf(abs(score))
    for level in (2.0, 3.0, 4.0, 4.5):
        outside = stats.binomtest(int((np.abs(flat) > level).sum()), n, 2 * stats.norm.sf(level))
        yield f"tail beyond {level}", outside.pvalue
    for name, a, b in (
        ("steps", z[1:], z[:-1]),
        ("blocks", z[4:], z[:-4]),
        ("agents", z[:, 1:], z[:, :-1]),
        ("far agents", z[:, 256:], z[:, :-256]),
    ):
        for what, x, y in (("values", a, b), ("squares", (a**2 - 1) / np.sqrt(2), (b**2 - 1) / np.sqrt(2))):
            yield f"{what} of neighbouring {name}", 2 * stats.norm.sf(abs(np.mean(x * y)) * np.sqrt(x.size))
    pairs = np.histogram2d(*stats.norm.cdf(z[:2]), bins=16, range=[[0, 1], [0, 1]])[0]
    yield "two-dimensional uniformity", stats.chisquare(pairs.ravel()).pvalue
    bits = np.sort(stats.norm.cdf(flat))
    yield "spacings", stats.kstest(np.diff(bits) * n, "expon").pvalue


def smallest(z):
    return min(p_values(z), key=lambda pair: pair[1])


def test_battery(seed):
    name, p = smallest(normals(seed, 4000, 200))
    assert p > 1e-6 / 25, name


def test_streams_of_neighbouring_keys_are_independent(seed):
    z = np.stack([normals(seed + k, 400, 8) for k in range(200)]).reshape(200, -1)
    name, p = smallest(z)
    assert p > 1e-6 / 25, name


@pytest.mark.parametrize(
    "spoil",
    [
        lambda z: 1.02 * z,
        lambda z: np.clip(z, -4, 4),
        lambda z: np.concatenate([z[:, :2000], z[:, :2000]], 1)[:, np.arange(4000) // 2],
        lambda z: np.repeat(z[::2], 2, axis=0),
        lambda z: z + 0.01 * z**2,
        lambda z: stats.norm.ppf((np.floor(stats.norm.cdf(z) * 2**8) + 0.5) / 2**8),
    ],
)
def test_battery_rejects_a_spoilt_generator(seed, spoil):
    assert smallest(spoil(normals(seed, 4000, 200)))[1] < 1e-9


def test_key_uses_all_bits(rng):
    keys = np.array([draw_key(rng) for _ in range(400)], dtype=np.uint64)
    ones = np.array([(keys >> np.uint64(b)) & np.uint64(1) for b in range(64)], dtype=int).sum(1)
    assert len(set(keys)) == 400
    assert np.abs(ones - 200).max() < 8 * 10  # eight standard deviations of a Binomial(400, 1/2)
