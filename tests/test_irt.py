"""Difficulty from matrices with gaps: simulated truth, brute force, an independent package, and every way to ask for it."""

import importlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

import crowdselect
from crowdselect.compare.robustness import robustness
from crowdselect.engine.here import run_here
from crowdselect.numeric import irt
from crowdselect.numeric.irt import items_of

MODELS = 20
IRT = ("irt_difficulty", "irt_difficulty_se", "discrimination", "discrimination_se")


def simulated(kind, *, n, models=MODELS, seed=0):
    """Rewards without gaps, and the truth: difficulty and discrimination."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(0, 1, models)
    ability -= ability.mean()
    difficulty = rng.normal(0.3, 1.2, n)
    if kind == "logistic":
        discrimination = np.exp(rng.normal(0, 0.5, n))
        chance = 1 / (1 + np.exp(-discrimination[:, None] * (ability - difficulty[:, None])))
        return (rng.random((n, models)) < chance).astype(float), difficulty, discrimination
    discrimination = rng.normal(1, 0.5, n)
    noise = rng.normal(0, 0.7, (n, models))
    return discrimination[:, None] * ability - difficulty[:, None] + noise, difficulty, discrimination


def with_gaps(scores, share, gaps, *, seed=0):
    """Keep a share of the cells: at random, or of each of forty blocks of rows the same models."""
    rng, (n, models) = np.random.default_rng(seed), scores.shape
    if gaps == "random":
        kept = rng.random((n, models)) < share
    else:
        first = np.array([rng.permutation(models) < round(share * models) for _ in range(40)])
        kept = first[rng.integers(0, 40, n)]
    return np.where(kept, scores, np.nan)


@pytest.mark.parametrize("kind", ["logistic", "normal"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("gaps", ["random", "block"])
def test_intervals_cover_the_truth(kind, share, gaps):
    scores, *truth = simulated(kind, n=4000, seed=3)
    items = items_of(with_gaps(scores, share, gaps, seed=4))
    assert items.kind == kind
    assert items.converged
    known = ~np.isnan(items.difficulty)
    covered = np.abs(items.difficulty - truth[0])[known] < 1.96 * items.difficulty_se[known]
    assert 0.93 <= covered.mean() <= 0.97
    if share > 0.1:  # two answers of a row say next to nothing about its discrimination
        covered = np.abs(items.discrimination - truth[1])[known] < 1.96 * items.discrimination_se[known]
        assert 0.93 <= covered.mean() <= 0.97


def test_crowds_that_differ_are_comparable():
    """Weak models answer one half of the rows, strong ones the other: means mislead, the model does not."""
    rng = np.random.default_rng(1)
    n, ability = 3000, np.linspace(-2, 2, MODELS)
    difficulty = rng.normal(0, 1, n)
    scores = (rng.random((n, MODELS)) < 1 / (1 + np.exp(difficulty[:, None] - ability))).astype(float)
    weak = np.arange(n) < n // 2
    scores[weak, MODELS // 2 + 2 :] = np.nan
    scores[~weak, : MODELS // 2 - 2] = np.nan
    means, found = -np.nanmean(scores, axis=1), items_of(scores).difficulty
    gap = difficulty[weak].mean() - difficulty[~weak].mean()
    assert abs(found[weak].mean() - found[~weak].mean() - gap) < 0.15
    assert np.corrcoef(found, difficulty)[0, 1] > np.corrcoef(means, difficulty)[0, 1] + 0.1


@pytest.mark.parametrize("kind", ["logistic", "normal"])
def test_neither_order_nor_repetition_of_rows_matters(kind):
    scores = with_gaps(simulated(kind, n=300)[0], 0.5, "random")
    scores = np.concatenate((scores, scores[:50]))
    scores[60] = np.nan
    order = np.random.default_rng(1).permutation(len(scores))
    items, other = items_of(scores), items_of(np.asfortranarray(scores[order]))
    for name in ("difficulty", "discrimination", "difficulty_se", "discrimination_se"):
        values = getattr(items, name)
        assert np.array_equal(values[order], getattr(other, name), equal_nan=True)
        assert np.array_equal(values[:50], values[300:], equal_nan=True)
        assert np.isnan(values[60])


def recorded(monkeypatch, scores):
    """The objective, where the fit ended, and the estimates."""
    seen = {}

    def minimize(function, start, **how):
        seen["objective"] = function
        found = original(function, start, **how)
        seen["end"] = found.x
        return found

    original = irt.minimize
    monkeypatch.setattr(irt, "minimize", minimize)
    return items_of(scores), seen["objective"], seen["end"]


@pytest.mark.parametrize("kind", ["logistic", "normal"])
def test_the_gradient_is_that_of_the_likelihood(monkeypatch, kind):
    scores = with_gaps(simulated(kind, n=60, models=5)[0], 0.7, "random")
    _, objective, end = recorded(monkeypatch, scores)
    away = end + np.random.default_rng(0).normal(0, 0.3, len(end))
    numeric = approx_fprime(away, lambda at: objective(at)[0], 1e-6)
    assert objective(away)[1] == pytest.approx(numeric, abs=1e-5)
    assert np.abs(objective(end)[1]).max() < 1e-3


def test_logistic_against_a_fine_grid(monkeypatch):
    scores = with_gaps(simulated("logistic", n=200, models=8)[0], 0.7, "random")
    items, _, end = recorded(monkeypatch, scores)
    ability, (s, t) = end[:8], np.exp(end[8:])
    z = np.linspace(-6, 6, 301)
    b, a = np.meshgrid(s * z, np.exp(t * z), indexing="ij")
    prior = np.exp(-0.5 * (z[:, None] ** 2 + z**2))
    for row in range(0, 200, 20):
        known = ~np.isnan(scores[row])
        right = 1 / (1 + np.exp(-a[..., None] * (ability[known] - b[..., None])))
        weights = prior * np.where(scores[row, known] == 1, right, 1 - right).prod(axis=-1)
        weights /= weights.sum()
        for values, found, error in (
            (b - ability.mean(), items.difficulty, items.difficulty_se),
            (a, items.discrimination, items.discrimination_se),
        ):
            mean = (weights * values).sum()
            assert found[row] == pytest.approx(mean, abs=2e-3)
            assert error[row] == pytest.approx(np.sqrt((weights * (values - mean) ** 2).sum()), rel=5e-3)


def test_normal_against_the_joint_distribution(monkeypatch):
    scores = with_gaps(simulated("normal", n=80, models=6)[0], 0.7, "random") * 3 + 10
    items, objective, end = recorded(monkeypatch, scores)
    middle, unit = np.nanmean(scores), np.nanstd(scores)
    ability, m, (s, t, noise) = end[:6] - end[:6].mean(), end[6], np.exp(end[7:])
    total = 0.0
    for row, values in enumerate((scores - middle) / unit):
        known = ~np.isnan(values)
        if not known.any():
            continue
        loads = np.stack((-np.ones(known.sum()), ability[known]), axis=1)
        prior = np.diag([s**2, t**2])
        cov = loads @ prior @ loads.T + noise**2 * np.eye(known.sum())
        away = values[known] - (ability[known] - m)
        total += multivariate_normal.logpdf(away, np.zeros(known.sum()), cov)
        gain = prior @ loads.T @ np.linalg.inv(cov)
        mean, left = gain @ away, prior - gain @ loads @ prior
        assert items.difficulty[row] == pytest.approx((mean[0] + m) * unit - middle)
        assert items.discrimination[row] == pytest.approx(mean[1] + 1)
        assert items.difficulty_se[row] == pytest.approx(np.sqrt(left[0, 0]) * unit)
        assert items.discrimination_se[row] == pytest.approx(np.sqrt(left[1, 1]))
    centre = np.append(np.zeros(8), np.log([0.5, 0.5]))
    width = np.append(np.full(8, 3.0), [0.3, 3.0])
    weak = -0.5 * (((end - centre) / width) ** 2).sum()
    rows = (~np.isnan(scores)).any(axis=1).sum()
    assert -objective(end)[0] == pytest.approx((total + weak) / rows)


@pytest.mark.parametrize(
    "scores",
    [
        np.ones((5, 3)),
        np.zeros((1, 1)),
        np.array([[1.0, 0.0]]),
        np.full((4, 2), np.nan),
        np.empty((0, 3)),
        np.array([[1e300, -1e300], [3.0, 2.0]]),
    ],
)
def test_odd_matrices_have_finite_numbers(scores):
    items = items_of(scores)
    there = (~np.isnan(scores)).any(axis=1)
    for values in (items.difficulty, items.discrimination, items.difficulty_se, items.discrimination_se):
        assert np.array_equal(np.isfinite(values), there)


@pytest.mark.extra
def test_against_girth_on_the_turned_matrix():
    """Its items are our models, its persons our instructions: it fits 30 and integrates over 500, as we do."""
    girth = importlib.import_module("girth")
    rng = np.random.default_rng(2)
    ability, difficulty = rng.normal(0, 1, 30), rng.normal(0, 1.2, (500, 1))
    scores = (rng.random((500, 30)) < 1 / (1 + np.exp(difficulty - ability))).astype(float)
    turned, ours = scores.T.astype(int), items_of(scores)
    theirs = girth.onepl_mml(turned)
    sharp = theirs["Discrimination"]  # one for all; ours is 1 by construction
    assert np.corrcoef(-theirs["Difficulty"], ours.ability)[0, 1] > 0.999
    assert np.polyfit(-theirs["Difficulty"] * sharp, ours.ability, 1)[0] == pytest.approx(1, abs=0.03)
    persons = girth.ability_eap(turned, theirs["Difficulty"], np.full(30, sharp))
    assert np.corrcoef(-persons, ours.difficulty)[0, 1] > 0.998
    assert np.polyfit(-persons * sharp, ours.difficulty, 1)[0] == pytest.approx(1, abs=0.03)


def written(path, scores, *, shards=1):
    """A pool of a matrix, in one file or in several."""
    rows = [
        {
            "id": f"r{row:04}",
            "instruction": f"do {row}",
            "model": f"m{model:02}",
            "response": "x",
            "score": value,
        }
        for row, values in enumerate(scores)
        for model, value in enumerate(values)
        if not np.isnan(value)
    ]
    if shards == 1:
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    path.mkdir()
    for shard in range(shards):
        own = [row for row in rows if int(row["id"][1:]) % shards == shard]
        pq.write_table(pa.Table.from_pylist(own), path / f"{shard}.parquet")
    return path


def test_every_way_to_ask(tmp_path, run):
    scores = with_gaps(simulated("logistic", n=120, models=6)[0], 0.8, "random")
    scores = scores[(~np.isnan(scores)).sum(axis=1) > 1]
    pool, items = written(tmp_path / "pool.parquet", scores), items_of(scores)
    ran = run("metrics", pool, "-o", tmp_path / "m.parquet", "--also", ",".join(IRT))
    assert ran.code == 0, ran.err
    table = pq.read_table(tmp_path / "m.parquet")
    for name, values in zip(
        IRT,
        (items.difficulty, items.difficulty_se, items.discrimination, items.discrimination_se),
        strict=True,
    ):
        assert table[name].to_pylist() == values.tolist()
    options = crowdselect.Options(
        budget=10, clusters=0, weights={"irt_difficulty": 1.0}, keep=("discrimination=20%..",)
    )
    with crowdselect.open_pool(pool) as opened:
        whole = crowdselect.select(opened, options)
        stable = robustness(opened, options, bootstraps=1, seeds=1)
    assert any("right, wrong or a pass rate" in note for note in whole.facts["notes"])
    may = items.discrimination >= np.quantile(items.discrimination, 0.2, method="higher")
    hardest = np.sort(items.difficulty[may])[-10:]
    chosen = np.array(whole.table["selected"].to_pylist())
    assert np.array_equal(np.sort(items.difficulty[chosen]), hardest)
    assert all(variant.kept is not None for variant in stable.variants if variant.axis != "weights")
    with crowdselect.open_pool(written(tmp_path / "shards", scores, shards=3)) as opened:
        apart = crowdselect.select(opened, options, run=run_here)
    assert apart.table.equals(whole.table)
