"""What the pages say of the stored CartPole runs, counted again from the file's own arrays in plain NumPy.

Each statement has its number from every seed, the mark it must pass, and the same number of something else that must
not. The runs themselves are remade in slices by `tests/test_studies.py`.
"""

import numpy as np
import pytest
from scipy.stats import norm, spearmanr, t

from pbtlib import results
from pbtlib.claims import ledger
from pbtlib.studies import sweep
from pbtlib.studies.frozen import latest

RAW = results.load(sweep.DATA)
RUNS = list(RAW["run"].to_numpy())
STRICT = 1 - norm.cdf(-3)  # the level of three standard errors


def hyper(run):
    """Scaled hyperparameters (seed, generation, agent, coordinate)."""
    return np.moveaxis(RAW["h"].to_numpy()[RUNS.index(run)], -1, 1) / 32767


def parent(run):
    """Index of each agent's parent (seed, update, agent)."""
    return np.moveaxis(RAW["parent"].to_numpy()[RUNS.index(run)], -1, 1).astype(int)


def total(run, m):
    """Sum of the last m returns (seed, update, agent)."""
    return RAW["window_sum"].sel(window=m).to_numpy()[RUNS.index(run)].astype(float)


def best_fifth(run, m=5):
    """Who is among the best fifth by the last m returns, with all who tie (seed, update, agent)."""
    score = total(run, m)
    return score >= np.quantile(score, 0.8, axis=-1, keepdims=True)


def lottery(sigma=0.1, runs=20, agents=500, updates=10):
    """Hyperparameters (update + 1, run, agent, coordinate) and parents if the best fifth is drawn by lot."""
    rng = np.random.default_rng([5, round(100 * sigma)])
    h = rng.uniform(-1, 1, (runs, agents, 3))
    film, parents = [h], []
    for _ in range(updates):
        order = rng.permuted(np.tile(np.arange(agents), (runs, 1)), axis=1)
        chosen = np.tile(np.arange(agents), (runs, 1))
        drawn = np.take_along_axis(order[:, 100:200], rng.integers(100, size=(runs, 100)), 1)
        np.put_along_axis(chosen, order[:, :100], drawn, 1)
        moved = (chosen != np.arange(agents))[..., None]
        h = np.take_along_axis(h, chosen[..., None], 1)
        h = np.clip(h + np.where(moved, sigma * rng.standard_normal(h.shape), 0), -1, 1)
        film.append(h)
        parents.append(chosen)
    return np.array(film), np.array(parents)


FILM, LOTS = lottery()


def spread_of_the_best(run):
    """Standard deviation of h among the best fifth, generations 6 to 10, over that by lot (seed, coordinate)."""
    h, good = hyper(run)[:, 5:10], best_fifth(run)[:, 5:10]
    width = np.array([[h[s, g][good[s, g]].std(0) for g in range(5)] for s in range(5)]).mean(1)
    return width / FILM[5:10].std(2).mean((0, 1))


def late_spread(run, agents=slice(None)):
    """Standard deviation of the scaled learning rate after updates 6 to 10 (seed)."""
    return hyper(run)[:, 6:, agents, 0].std(2).mean(1)


def variance_ratio(sums):
    """V₅ and V₁ from {window: (…, agent)}: last five against the five before, last one against the one before."""
    five = (sums[5] / 5 - (sums[10] - sums[5]) / 5).var(-1, ddof=1) / 2
    one = (sums[1] - (sums[2] - sums[1])).var(-1, ddof=1) / 2
    return five, one


LONG = [run for run in RUNS if run.startswith("1000 steps")]


def window_smooths():
    sums = {m: total(LONG[0], m)[:, 0].reshape(5, 10, 50) for m in (1, 2, 5, 10)}
    five, one = variance_ratio(sums)
    return five.mean(1) / one.mean(1)


def smooths_late(update=slice(4, None)):
    parts = [variance_ratio({m: total(run, m)[:, update] for m in (1, 2, 5, 10)}) for run in LONG]
    five, one = np.mean(parts, 0)
    return (five / one).mean(1)


def accuracy(first=5):
    """Gain in the next generation's fitness of a fifth chosen by the last five returns over one by `first` (seed)."""
    lots = np.random.default_rng(3).uniform(0, 1e-6, (5, 10, 500))

    def later(score):
        groups = (score + lots)[:, :-1].reshape(5, 9, 10, 50)
        order = np.argsort(-groups, -1)[..., :10]
        following = (total("no evolution", 5) / 5)[:, 1:].reshape(5, 9, 10, 50)
        return np.take_along_axis(following, order, -1).mean((1, 2, 3))

    if first == 5:
        return later(total("no evolution", 5)) - later(total("no evolution", 1))
    return later(total("no evolution", 2) - total("no evolution", 1)) - later(total("no evolution", 1))


def windows_alike():
    """Size of each window's gain over one episode at the last update, on average over the seeds, twice."""
    yard, gains = {200: 2, 500: 5, 1000: 10}, []
    for n, ms in ((200, (2,)), (500, (2, 5)), (1000, (2, 5, 10))):
        one = total(f"{n} steps m=1", yard[n])[:, -1].mean(-1) / yard[n]
        gains += [total(f"{n} steps m={m}", yard[n])[:, -1].mean(-1) / yard[n] - one for m in ms]
    return np.abs(np.mean(gains, 1))[:, None].repeat(2, 1)


def short_ahead(steps=2000):
    ends = [total(f"{n} steps m=2", 2)[:, steps // n - 1].mean(-1) / 2 for n in (200, 1000)]
    return ends[0] - ends[1]


def added(sigma, run, expected=None):
    """Variance that mutation adds in an update less what the clipped Gaussian says (seed, update)."""
    h, who = hyper(run)[..., :2], parent(run)
    copied = np.take_along_axis(h[:, :-1], who[..., None], 2)
    moved = (who != np.arange(500))[..., None]
    xi = norm.ppf((np.arange(60) + 0.5) / 60)
    strength = np.where(moved, sigma if expected is None else expected, 0)
    mutants = np.clip(copied[..., None] + strength[..., None] * xi, -1, 1)
    inside = np.square(mutants).mean(-1).mean(2) - mutants.mean(-1).mean(2) ** 2
    return (h[:, 1:].var(2) - inside).mean(-1)


def best_rate(update, coordinate=0, run="no evolution"):
    h, good = hyper(run)[:, 0, :, coordinate], best_fifth(run)[:, update]
    return np.array([h[s][good[s]].mean() for s in range(5)])


def lines(film, parents):
    """Index of every last agent's ancestor at each generation."""
    line, rows = np.arange(film.shape[1]), []
    for who in parents[::-1]:
        rows.append(line)
        line = who[line]
    return [line, *rows[::-1]]


def founders(run):
    return np.array([np.unique(lines(h, who)[0]).size for h, who in zip(hyper(run), parent(run), strict=True)])


def founders_by_lot():
    return np.mean([np.unique(lines(FILM[:, i], LOTS[:, i])[0]).size for i in range(20)])


def slower_ancestors(coordinate):
    run = "500 steps m=5"
    return np.array(
        [
            h[4, :, coordinate].mean() - h[4, lines(h, who)[4], coordinate].mean()
            for h, who in zip(hyper(run), parent(run), strict=True)
        ]
    )


def mean_rate(first, last, h):
    return h[..., first, :, 0].mean(-1) - h[..., last, :, 0].mean(-1)


def beyond(values, mark, sign, verified):
    """Whether the mean of the seeds passes the mark on this side: by Student's three standard errors if verified."""
    need = t(len(values) - 1).ppf(STRICT) * values.std(ddof=1) / np.sqrt(len(values)) if verified else 0.0
    return sign * (values.mean() - mark) > need


def level(run, m=5):
    """Mean of the last m returns over the population (seed, update)."""
    return total(run, m).mean(-1) / m


def best_tenth(run):
    """Last return of those who were best in the four before it, in the last generation (seed)."""
    newest = total(run, 1)[:, -1]
    order = np.argsort(newest - total(run, 5)[:, -1], axis=-1, kind="stable")[:, :50]
    return np.take_along_axis(newest, order, -1).mean(-1)


def above_four_fifths(run, update=-1):
    """Gain of a control over no evolution less four fifths of that of PBT (seed)."""
    start = level("no evolution")[:, update]
    return level(run)[:, update] - start - 0.8 * (level("500 steps m=5")[:, update] - start)


def survival(run):
    """Realised over promised gain of those who were replaced, from the sixth generation on (seed)."""
    m = int(RAW["m"].to_numpy()[RUNS.index(run)])
    judged, later, who = total(run, m) / m, total(run, 5) / 5, parent(run)
    copied = (who != np.arange(500))[:, 5:-1]
    promised = (np.take_along_axis(judged, who, -1) - judged)[:, 5:-1]
    realised = np.diff(later, axis=1)[:, 5:]
    return (realised * copied).sum((1, 2)) / (promised * copied).sum((1, 2))


def timid(run):
    """Mean return in the last generation of those with the smallest quarter of learning rates (seed)."""
    slow = hyper(run)[:, -2, :, 0] < -0.5
    return np.array([(x / 5)[who].mean() for x, who in zip(total(run, 5)[:, -1], slow, strict=True)])


def over_the_run(run):
    return (level(run) - level("500 steps m=5")).mean(1)


STATEMENTS = {
    "evolution-raises-the-mean": lambda: (
        [(level("500 steps m=5") - level("no evolution"))[:, -1]], 20.0, 1,
        best_tenth("500 steps m=5") - best_tenth("no evolution")),
    "evolution-and-the-best": lambda: (
        [best_tenth("500 steps m=5") - best_tenth("no evolution")], 5.0, -1,
        (level("500 steps m=5") - level("no evolution"))[:, -1]),
    "weights-keep-the-gain": lambda: (
        [above_four_fifths("weights only"), above_four_fifths("random")], 0.0, 1,
        above_four_fifths("weights only", 1)),
    "longer-windows-select-better": lambda: (
        [survival("500 steps m=5") - survival("500 steps m=1")], 0.2, 1,
        survival("sigma=0.05") - survival("sigma=0.2")),
    "copies-and-time-limits": lambda: (
        [over_the_run("carry"), over_the_run("bootstrap")], 0.0, 1, over_the_run("random")),
    "best-fixed": lambda: ([over_the_run("best fixed")], 5.0, 1, over_the_run("no evolution")),
    "timid-agents-keep-weights": lambda: ([timid("weights only")], 80.0, 1, timid("no evolution")),
    "fig-7-concentrates": lambda: (
        [spread_of_the_best("500 steps m=5")[:, i] for i in (0, 1)], 0.6, -1,
        spread_of_the_best("500 steps m=5")[:, 2]),
    "fig-7-at-1000-steps": lambda: (
        [spread_of_the_best("1000 steps m=5")[:, 0]], 0.6, -1,
        spread_of_the_best("1000 steps m=5")[:, 1:].min(1)),
    "fig-7-sigma-disperses": lambda: (
        [late_spread("sigma=0.2") - late_spread("sigma=0.05")], 0.06, 1,
        late_spread("sigma=0.2", slice(0, None, 2)) - late_spread("sigma=0.2", slice(1, None, 2))),
    "cartpole-window-smooths": lambda: ([window_smooths()], 0.5, -1, smooths_late()),
    "cartpole-window-late": lambda: ([smooths_late()], 0.4, 1, smooths_late(slice(0, 2))),
    "cartpole-window-accurate": lambda: ([accuracy()], 2.0, 1, accuracy(2)),
    "fig-6-windows-alike": lambda: (
        windows_alike(), 4.0, -1,
        (total("500 steps m=5", 5) - total("no evolution", 5))[:, -1].mean(-1) / 5),
    "cartpole-short-generations": lambda: (
        [short_ahead()], 5.0, 1,
        (total("200 steps m=2", 2) - total("1000 steps m=2", 2))[:, 1].mean(-1) / 2),
    "fig-7-target-moves": lambda: (
        [best_rate(1) - best_rate(9)], 0.2, 1, best_rate(1, 2) - best_rate(9, 2)),
    "fig-7-mean-follows": lambda: (
        [mean_rate(5, 10, hyper("500 steps m=5"))], 0.1, 1, mean_rate(5, 10, np.moveaxis(FILM, 0, 1))),
    "cartpole-fast-die-out": lambda: ([slower_ancestors(0)], 0.06, 1, slower_ancestors(2)),
    "cartpole-founders": lambda: (
        [founders("500 steps m=5")], 0.7 * founders_by_lot(), -1, founders("random")),
}  # fmt: skip
"""Numbers of each seed, the mark, its side, and the numbers that must not pass it."""


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_stored_runs_say_what_the_page_says_of_them_and_a_comparison_does_not(name):
    """Beyond what chance does with five seeds, unless the ledger calls the statement only consistent with them."""
    numbers, mark, sign, other = STATEMENTS[name]()
    assert all(beyond(values, mark, sign, ledger()[name].status != "consistent with") for values in numbers)
    assert not beyond(np.asarray(other, float), mark, sign, False)


def test_keeping_luck_ranks_founders_by_their_descendants_no_better_than_forgetting_it(rng):
    """Rank correlations over three intervals and five seeds; the mark is 0.05, which shuffled points are told by."""
    frozen = results.load(results.DATA / "cartpole_frozen.nc")
    returns, points = frozen["returns"].to_numpy().astype(float), frozen["h"].to_numpy()

    def features(h):
        return np.stack([np.ones(len(h)), *h.T, *(h[:, i] * h[:, j] for i in range(3) for j in range(i, 3))], 1)

    better, gain = [], []
    for steps, m in ((200, 2), (500, 5), (1000, 10)):
        score = np.stack([np.nanmean(latest(returns, steps * k, m), -1) for k in range(1, 11)], -1)
        b = 0.56 / score.std((0, 1)).mean()
        forgotten = np.log(np.exp(b * score).mean(1)).sum(-1) / b
        whole = b * score.sum(-1)
        kept = np.log(np.exp(whole - whole.max()).mean(1)) / b
        run = f"{steps} steps m={m}"
        for h, who in zip(hyper(run), parent(run), strict=True):
            descendants = np.bincount(lines(h, who)[0], minlength=500)

            def agreement(landscape, at, h=h, descendants=descendants):
                weights = np.linalg.lstsq(features(at), landscape, rcond=None)[0]
                return spearmanr(features(h[0]) @ weights, descendants).statistic

            luck = agreement(kept, points)
            better.append(luck - agreement(forgotten, points))
            gain.append(luck - agreement(forgotten, rng.permutation(points)))
    assert beyond(np.array(better), 0.05, -1, True)
    assert np.mean(gain) > 0.05


@pytest.mark.parametrize(("sigma", "run"), [(0.05, "sigma=0.05"), (0.1, "500 steps m=5"), (0.2, "sigma=0.2")])
def test_mutation_adds_the_variance_of_the_clipped_gaussian_in_the_stored_runs(sigma, run):
    """With another strength it does not; nearly a fifth of the agents mutate."""
    rest = added(sigma, run).ravel()
    error = rest.std(ddof=1) / np.sqrt(rest.size)
    allowed = 5 * error + 0.4 * sigma**2 / 500 + 5e-5
    assert abs(rest.mean()) < allowed
    wrong = 0.1 if sigma != 0.1 else 0.2
    assert abs(added(sigma, run, expected=wrong).mean()) > allowed


def test_the_noise_of_five_episodes_is_a_fifth_of_that_of_one_if_luck_does_not_last(rng):
    """The estimate on returns of known truth: independent ones, and a luck that lasts."""
    luck = rng.standard_normal((200, 50, 10))
    lasting = [luck[..., 0]]
    for k in range(1, 10):
        lasting.append(0.9 * lasting[-1] + np.sqrt(1 - 0.81) * luck[..., k])
    for series, low, high in ((luck, 0.17, 0.23), (np.stack(lasting, -1), 1.0, 9.0)):
        sums = {m: series[..., :m].sum(-1) + 0 * series[..., 0] for m in (1, 2, 5, 10)}
        five, one = variance_ratio(sums)
        assert low < five.mean() / one.mean() < high


# ------------------------------------------------------------------------------------------ agents of no population


@pytest.fixture(scope="module")
def frozen():
    """Returns of agents that train alone, (point, agent, episode), and the kind of their point."""
    data = results.load(results.DATA / "cartpole_frozen.nc")
    return data["returns"].to_numpy().astype(float), data["kind"].to_numpy()


def last_returns(returns, age, m):
    """The last m returns that had ended by an age, agent by agent; NaN where there are fewer."""
    found = np.full((*returns.shape[:2], m), np.nan)
    for point, rows in enumerate(returns):
        for agent, row in enumerate(rows):
            ended = row[: np.count_nonzero((row.cumsum() <= age) & (row > 0))][-m:]
            found[point, agent, m - len(ended) :] = ended
    return found


def spread(values, rng):
    """Ratio of two rows' means over the points, and its bootstrap error."""
    pick = rng.integers(values.shape[1], size=(300, values.shape[1]))
    return values[0].mean() / values[1].mean(), (values[0][pick].mean(1) / values[1][pick].mean(1)).std()


def test_a_mean_of_ten_returns_has_less_than_half_of_the_variance_of_one_while_agents_learn_and_not_later(frozen, rng):
    """And then ten are worth fewer than three."""
    returns, kind = frozen
    for age, learning in ((1000, True), (2000, True), (15_000, False)):
        seen = last_returns(returns[kind != "corner"], age, 10)
        variances = np.array([np.nanmean(seen, -1).var(1, ddof=1), seen[..., -1].var(1, ddof=1)])
        value, error = spread(variances, rng)
        assert (value + 4 * error < 0.5) == learning
        if age == 15_000:
            assert 1 / value < 3
    seen = last_returns(returns[kind != "corner"], 2000, 10)
    full = ~np.isnan(seen).any((1, 2))
    assert 1 / spread(np.array([seen[full].mean(-1).var(1, ddof=1), seen[full][..., -1].var(1, ddof=1)]), rng)[0] > 3


def test_less_than_half_of_the_variance_of_scores_is_between_evolved_points_and_more_between_first_ones(frozen):
    """By an analysis of variance of the last five returns at 10,000 steps."""
    returns, kind = frozen

    def share(which):
        x = np.nanmean(last_returns(returns[kind == which], 10_000, 5), -1)
        within = x.var(1, ddof=1).mean()
        between = max(x.mean(1).var(ddof=1) - within / x.shape[1], 0)
        return between / (between + within)

    assert share("late") < 0.5 < share("initial")


def test_evolved_hyperparameters_bring_fresh_agents_to_ninety_and_first_ones_do_not(frozen):
    """Mean return of episodes that begin between 4,500 and 5,000 steps; agents are the replicates."""
    returns, kind = frozen

    def reached(which):
        rows = returns[kind == which]
        begun = rows.cumsum(-1) - rows
        there = (begun >= 4500) & (begun < 5000) & (rows > 0)
        return ((rows * there).sum(-1) / there.sum(-1)).mean(0)

    late = reached("late")
    assert late.mean() - 5 * late.std(ddof=1) / np.sqrt(late.size) > 90
    assert reached("initial").mean() < 90


def test_ten_returns_tell_the_present_no_better_than_five_while_agents_learn_and_five_better_than_one(frozen):
    """Mean squared error between a window's mean and the agent's mean return around its age, less the noise of that."""
    returns, kind = frozen
    rows = returns[kind != "corner"]
    begun = rows.cumsum(-1) - rows
    error = dict.fromkeys((1, 5, 10), 0.0)
    for age in (1000, 1500, 2000):
        near = (begun >= age - 250) & (begun < age + 250) & (rows > 0)
        now = (rows * near).sum(-1) / near.sum(-1)
        for m in error:
            window = np.nanmean(last_returns(rows, age, m), -1)
            between = window.var(1, ddof=1)
            error[m] += between + np.square((window - now).mean(1)) - (window - now).var(1, ddof=1) / now.shape[1]
    more = error[10] - error[5]
    assert more.mean() > 3 * more.std(ddof=1) / np.sqrt(more.size)
    less = error[5] - error[1]
    assert less.mean() < -3 * less.std(ddof=1) / np.sqrt(less.size)


def test_within_a_generation_far_fewer_than_nine_first_points_in_ten_have_reached_their_level_for_good(frozen):
    """Mean return in windows of 500 steps, within ten of that after 15,000 and ever after; a quick world would."""
    returns, kind = frozen
    rows = returns[kind == "initial"]
    begun = rows.cumsum(-1) - rows
    centre = np.arange(250, 19_751, 250)

    def level(low, high):
        there = (begun >= low) & (begun < high) & (rows > 0)
        each = np.where(there.any(-1), (rows * there).sum(-1) / np.maximum(there.sum(-1), 1), np.nan)
        return np.nanmean(each, 1)

    def settled(curves, final, within):
        """Share of the points whose last window outside is centred before the deadline."""
        away = np.abs(curves - final[:, None]) > 10
        last = np.where(away.any(1), centre[away.shape[1] - 1 - away[:, ::-1].argmax(1)], 0)
        return (last < within).mean()

    curves = np.stack([level(t - 250, t + 250) for t in centre], 1)
    final = level(15_000, 19_900)
    for within in (500, 1000):
        assert settled(curves, final, within) < 0.9 - 5 * np.sqrt(0.09 / len(rows))
    quick = 100 * (1 - np.exp(-centre / 80))[None].repeat(20, 0)
    assert settled(quick, np.full(20, 100.0), 500) == 1


def test_every_window_is_full_of_episodes_of_one_generation():
    """At most a hundred steps each: at least two, five or ten in a generation; a cap of two hundred leaves half."""
    for n, m in ((200, 2), (500, 5), (1000, 10)):
        for run in RUNS:
            if int(RAW["n_steps"].to_numpy()[RUNS.index(run)]) == n:
                episodes = RAW["episodes"].to_numpy()[RUNS.index(run)]
                assert episodes.min() >= m > n // 200
                assert (total(run, m) <= n).all()


def test_multiplied_and_added_mutations_end_within_ten_returns_of_each_other():
    data = results.load(results.DATA / "cartpole_perturbation.nc")
    kinds = list(data["run"].to_numpy())
    last = data["window_sum"].sel(window=5).to_numpy()[..., -1, :].mean(-1) / 5
    gap = last[kinds.index("multiplied")] - last[kinds.index("added")]
    need = t(len(gap) - 1).ppf(STRICT) * gap.std(ddof=1) / np.sqrt(len(gap))
    assert abs(gap.mean()) + need < 10
    assert (level("500 steps m=5") - level("no evolution"))[:, -1].mean() > 10


def test_populations_of_networks_scatter_like_the_root_of_n_and_with_one_seed_the_first_returns_do_not():
    data = results.load(results.DATA / "cartpole_chaos.nc")
    rule, sizes = data["rule"].to_numpy(), data["agents"].to_numpy()
    returns = data["score"].to_numpy().astype(float).sum(-1) / sizes[:, None]
    means = np.concatenate([returns[..., None], data["h_mean"].to_numpy()[:, 1:]], -1)

    def slope(kind, values):
        n = np.unique(sizes[rule == kind])
        groups = [values[(rule == kind) & (sizes == k)] for k in n]
        worth = np.array([len(g) - 1.0 for g in groups])
        # the mean logarithm of a variance of w degrees of freedom lies 1/w below its own
        logs = np.log([g.std(ddof=1) for g in groups]) + 1 / (2 * worth)
        x = np.log(n) - np.average(np.log(n), weights=worth)
        return (worth * x) @ logs / (worth @ x**2), 1 / np.sqrt(2 * (worth @ x**2))

    for update in (0, -1):
        for kind in ("truncation", "Gibbs", "no evolution"):
            found = np.array([slope(kind, means[:, update, i]) for i in range(4)])
            assert (np.abs(found[:, 0] + 0.5) < 5 * found[:, 1] + 0.02).all()
    found, error = slope("one seed", means[:, 0, 0])
    assert found > -0.5 + 3.5 * error
