"""What is equal mathematically is tied, whoever gave the rewards, in which order and in which unit: against fractions."""

import json
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdselect import Options, open_pool, select
from crowdselect.crowd import Crowd, Member
from crowdselect.methods.deita import deita
from crowdselect.numeric.ensembles import combine_rewards
from crowdselect.numeric.exact import moments
from crowdselect.numeric.metrics import compute_metrics, difficulty, separability
from crowdselect.numeric.quotas import choose
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS, combine, uniform_ranks

NAN = float("nan")
UNITS = {
    "plus 0.1": lambda x: x + 0.1,
    "plus 1000.3": lambda x: x + 1000.3,
    "times 3": lambda x: x * 3,
    "times 0.1": lambda x: x * 0.1,
}
SIZES = np.array([1.5, 7.0, 72.0, 8.0, 70.0, 9.0])
FAMILIES = ["q", "q", "q", "l", "l", None]


@st.composite
def tenthousandths(draw, *, most_rows=12, gaps=True):
    """Rewards of at most four decimals, in ten-thousandths: coarse ones, which tie, and fine ones; -1 << 40 = missing."""
    n, m = draw(st.integers(1, most_rows)), draw(st.integers(2, len(FAMILIES)))
    step = draw(st.sampled_from([10_000, 1_000, 1, 2_500]))
    most = draw(st.sampled_from([1, 4, 10, 100]))
    whole = draw(hnp.arrays(np.int64, (n, m), elements=st.integers(-most, most))) * step
    if gaps and draw(st.booleans()):
        whole[draw(hnp.arrays(np.bool_, (n, m)))] = -1 << 40
    return whole


def as_rewards(whole):
    return np.where(whole == -1 << 40, NAN, whole / 10_000)


def exact(whole):
    """Minus the mean, and the variance, of each row; None where there is none."""
    for row in whole.tolist():
        values = [Fraction(value, 10_000) for value in row if value != -1 << 40]
        mean = sum(values) / len(values) if values else None
        yield (
            None if mean is None else -mean,
            sum((value - mean) ** 2 for value in values) / len(values) if len(values) > 1 else None,
        )


def order_of(values):
    """Which row is before, at or after which other: the number of its value among all values."""
    known = sorted({value for value in values if value is not None})
    return [None if value is None else known.index(value) for value in values]


def plain(values):
    return [None if np.isnan(value) else float(value) for value in values]


@given(tenthousandths())
@settings(max_examples=200)
def test_difficulty_and_separability_tie_where_the_fractions_do(whole):
    truth = list(exact(whole))
    rewards = as_rewards(whole)
    for place, metric in enumerate((difficulty, separability)):
        found, fractions = plain(metric(rewards)), [row[place] for row in truth]
        assert order_of(found) == order_of(fractions)
        assert found == [None if value is None else float(value) for value in fractions]


def chosen(rewards, *, columns):
    """Metrics, and the ranks of the rows that are chosen of them."""
    metrics = compute_metrics(
        rewards, sizes=SIZES[columns], families=[FAMILIES[column] for column in columns]
    )
    eligible = ~np.any([np.isnan(values) for values in metrics.values()], axis=0)
    ranks = {name: uniform_ranks(values, eligible) for name, values in metrics.items()}
    rows = np.arange(len(rewards))
    choice = choose(
        combine(ranks, DEFAULT_WEIGHTS),
        labels=np.zeros(len(rows), dtype=np.int64),
        keys=(rows * 7919 % 104729).astype(np.uint64),
        groups=rows,
        budget=max(int(eligible.sum()) // 2, 1),
    )
    return [order_of(plain(values)) for values in metrics.values()], choice.rank.tolist()


@given(tenthousandths(), st.sampled_from(sorted(UNITS)), st.randoms())
@settings(max_examples=200)
def test_neither_a_unit_nor_the_order_of_models_changes_a_tie_an_order_or_the_choice(whole, unit, random):
    rewards, columns = as_rewards(whole), list(range(whole.shape[1]))
    orders, ranks = before = chosen_or_none(rewards, columns)
    assert chosen_or_none(UNITS[unit](rewards), columns) == before
    shuffled = random.sample(columns, len(columns))
    assert chosen_or_none(rewards[:, shuffled], shuffled) == (orders, ranks)


def chosen_or_none(rewards, columns):
    metrics = compute_metrics(
        rewards, sizes=SIZES[columns], families=[FAMILIES[column] for column in columns]
    )
    if np.any([np.isnan(values) for values in metrics.values()], axis=0).all():
        return [order_of(plain(values)) for values in metrics.values()], None
    return chosen(rewards, columns=columns)


def test_a_pool_of_whole_numbers_has_as_many_variances_as_there_are():
    whole = np.random.default_rng(0).integers(0, 11, size=(20_000, 19)) * 10_000
    rewards = as_rewards(whole)
    sums, squares = (whole // 10_000).sum(axis=1), ((whole // 10_000) ** 2).sum(axis=1)
    true = len(np.unique(19 * squares - sums**2))
    for unit in (lambda x: x, *UNITS.values()):
        assert len(np.unique(separability(unit(rewards)))) == true
        assert len(np.unique(difficulty(unit(rewards)))) == len(np.unique(sums))


@pytest.mark.parametrize("models", [56, 57, 99])
def test_as_many_right_as_wrong_answers_have_one_variance(models):
    rows = np.array([[float(model < right) for model in range(models)] for right in (8, models - 8)])
    assert len(np.unique(separability(rows))) == 1


@pytest.mark.parametrize("samples", [3, 5, 6, 7, 9, 10, 12, 16])
def test_means_over_samples_tie_as_the_numbers_of_right_ones_do(samples):
    right = np.random.default_rng(samples).integers(0, samples + 1, size=(3000, 5))
    for unit in (lambda x: x, *UNITS.values()):
        found = unit(right / samples)
        assert len(np.unique(difficulty(found))) == len(np.unique(right.sum(axis=1)))
        variances = 5 * (right**2).sum(axis=1) - right.sum(axis=1) ** 2
        assert len(np.unique(separability(found))) == len(np.unique(variances))


def test_numbers_that_are_no_decimals_are_rounded_to_twelve_digits():
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(7, 2000))
    mean, variance = moments(numbers, None, np.full(2000, 7.0))
    np.testing.assert_allclose(mean, numbers.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variance, numbers.var(axis=0), rtol=1e-12)
    before = numbers.copy()
    again = moments(np.ascontiguousarray(numbers[::-1]), None, np.full(2000, 7.0))
    assert np.array_equal([mean, variance], again)
    assert np.array_equal(numbers, before)
    alone = np.array([moments(numbers[:, [at]].copy(), None, np.array([7.0])) for at in range(50)])
    assert np.array_equal(alone[:, :, 0].T, [mean[:50], variance[:50]])
    gone = moments(np.array([[1e9 + 0.1], [-1e9], [-0.1]]), None, np.array([3.0]))
    assert gone[0].tolist() == [0.0]  # what is left is below 1e-12 of the largest


def test_large_scores_with_decimals_keep_their_variance_under_a_shift():
    whole = np.random.default_rng(2).integers(0, 30_000_000, size=(500, 40))
    before = separability(whole / 10_000)
    assert np.array_equal(separability(whole / 10_000 + 1000.3), before)
    np.testing.assert_allclose(before, np.var(whole / 10_000, axis=1), rtol=1e-11)


# ── in a pool ────────────────────────────────────────────────────────────────────────────────────────


def write(path, rewards, *, names, samples=None):
    rows = []
    for i, row in enumerate(rewards.tolist()):
        for name, reward in zip(names, row, strict=True):
            own = reward if samples is None else samples(i, name, reward)
            for number, value in enumerate(own if isinstance(own, list) else [own]):
                rows.append(
                    {
                        "id": f"q{i:03d}",
                        "instruction": f"Question number {i}?",
                        "model": name,
                        "response": f"An answer {number} by {name}.",
                        "score": value,
                        "sample": number,
                    }
                )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def crowd_of(names):
    return Crowd(
        tuple(Member(name, family, size, "file") for name, family, size in zip(names, *MEMBERS, strict=True))
    )


MEMBERS = (("q", "q", "q", "l", "l"), (1.5, 7.0, 72.0, 8.0, 70.0))


def table_of(path, names, **more):
    with open_pool(path) as pool:
        found = select(pool, Options(budget=20, clusters=0, **more), crowd=crowd_of(names)).table
    return {name: found[name].to_pylist() for name in ("id", "selected", "rank", "reason")}


def test_units_names_and_order_of_models_change_nothing_that_is_chosen(tmp_path):
    rewards = np.random.default_rng(3).integers(0, 11, size=(80, 5)) / 10
    names = [f"model-{letter}" for letter in "abcde"]
    before = table_of(write(tmp_path / "pool.parquet", rewards, names=names), names)
    for unit in UNITS.values():
        assert table_of(write(tmp_path / "other.parquet", unit(rewards), names=names), names) == before
    renamed = [f"another-{letter}" for letter in "ecbda"]
    assert table_of(write(tmp_path / "renamed.parquet", rewards, names=renamed), renamed) == before


def test_the_order_of_samples_breaks_no_tie_between_models(tmp_path):
    rewards = np.zeros((300, 2))
    turned = write(
        tmp_path / "pool.parquet",
        rewards,
        names=["a", "b"],
        samples=lambda _row, name, _reward: [0.1, 0.2, 0.3] if name == "a" else [0.3, 0.2, 0.1],
    )
    with open_pool(turned) as pool:
        assert np.array_equal(pool.scores("score")[:, 0], pool.scores("score")[:, 1])
        weights = {"difficulty": 1.0}
        table = select(pool, Options(budget=9, clusters=0, weights=weights)).table
    taken = table["model"].to_pylist()
    assert 100 < taken.count("a") < 200


def test_a_floor_at_a_quantile_is_that_row_and_not_a_rounding_above_it(tmp_path):
    rewards = np.column_stack([np.arange(101.0) % 101, np.full(101, -1.0)])
    file = write(tmp_path / "pool.parquet", rewards, names=["a", "b"])
    for quantile in (0.07, 0.14, 0.28, 0.29, 0.55, 0.56, 0.57, 0.58):
        options = Options(
            budget=5, clusters=0, weights={"difficulty": 1.0}, keep=f"best_reward={100 * quantile:g}%.."
        )
        with open_pool(file) as pool:
            reasons = select(pool, options).table["reason"].to_pylist()
        assert reasons.count("outside:best_reward") == round(100 * quantile)


def test_products_and_z_scores_tie(tmp_path):
    table = pq.read_table(write(tmp_path / "pool.parquet", np.ones((40, 2)), names=["a", "b"]))
    pairs = [(0.1, 0.6) if i % 2 else (0.2, 0.3) for i in range(40) for _ in range(2)]
    for at, name in enumerate(("hard", "good")):
        table = table.append_column(name, pa.array([pair[at] for pair in pairs]))
    pq.write_table(table, tmp_path / "pool.parquet")
    method = deita(complexity="hard", quality="good")
    with open_pool(tmp_path / "pool.parquet") as pool:
        made = select(pool, Options(budget=9, clusters=0, reward="score"), method=method)
    assert len(set(made.table["score"].to_pylist())) == 1
    json.dumps(dict(made.facts))
    rng = np.random.default_rng(4)
    matrices = {name: rng.integers(0, 9, size=(30, 4)) / 10 for name in "abc"}
    one = combine_rewards(matrices, how="mean-z")
    for columns in ([3, 1, 0, 2], [2, 3, 1, 0]):
        other = combine_rewards({name: matrix[:, columns] for name, matrix in matrices.items()}, how="mean-z")
        assert np.array_equal(other, one[:, columns])
