"""Uniform ranks against SciPy, and scores that tie exactly where their fractions do."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from crowdselect.errors import OptionError
from crowdselect.numeric.metrics import METRICS
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS, check_weights, combine, uniform_ranks

NAN = float("nan")
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, NAN]), st.floats(allow_nan=True, allow_infinity=False)
)


@st.composite
def columns(draw, *, most=30):
    values = draw(hnp.arrays(np.float64, st.integers(0, most), elements=VALUES))
    return values, draw(hnp.arrays(np.bool_, len(values)))


@given(columns())
@settings(max_examples=100, deadline=None)
def test_uniform_ranks_are_scipys_average_ranks_over_the_eligible_rows(column):
    values, eligible = column
    got = uniform_ranks(values, eligible)
    part = eligible & ~np.isnan(values)
    assert np.isnan(got[~part]).all()
    n = part.sum()
    if n > 1:
        assert np.array_equal(got[part], (rankdata(values[part], method="average") - 1) / (n - 1))
    assert n != 1 or got[part].tolist() == [0.5]


@given(columns())
@settings(max_examples=60, deadline=None)
def test_a_monotone_rescaling_and_another_order_of_rows_change_nothing(column):
    values, eligible = column
    ranks = uniform_ranks(values, eligible)
    levels = np.unique(values[~np.isnan(values)])
    rescaled = np.where(np.isnan(values), NAN, np.exp2(np.searchsorted(levels, values)) - 1e6)
    assert np.array_equal(uniform_ranks(rescaled, eligible), ranks, equal_nan=True)
    order = np.random.default_rng(len(values)).permutation(len(values))
    assert np.array_equal(uniform_ranks(values[order], eligible[order]), ranks[order], equal_nan=True)
    # A metric turned round gives the ranks turned round.
    assert np.allclose(uniform_ranks(-values, eligible), 1 - ranks, rtol=0, atol=1e-15, equal_nan=True)


def test_what_is_not_eligible_moves_no_rank():
    values, eligible = np.array([5.0, 1.0, 3.0, NAN]), np.array([True, False, True, True])
    before = uniform_ranks(values, eligible)
    values[1] = 1e9
    np.testing.assert_array_equal(uniform_ranks(values, eligible), before)
    np.testing.assert_array_equal(before, [1.0, NAN, 0.0, NAN])


@pytest.mark.parametrize("count", [2, 3, 1000])
def test_all_tied_is_a_half(count):
    assert set(uniform_ranks(np.full(count, 7.0), np.ones(count, dtype=bool))) == {0.5}


@given(
    data=st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=25),
    weights=st.sampled_from(
        [(1, 1, 2), (1, 1, 1), (1, -1, 1.5), (0.3, 0.3, 0.4), (0.1, 0, 0.7), (-2, 1e-3, 0.25)]
    ),
)
@settings(max_examples=100, deadline=None)
def test_scores_are_the_weighted_sum_and_tie_exactly_where_the_fractions_do(data, weights):
    everything = np.ones(len(data), dtype=bool)
    ranks = {
        name: uniform_ranks(np.array(values, dtype=np.float64), everything)
        for name, values in zip("abc", zip(*data, strict=True), strict=True)
    }
    score = combine(ranks, dict(zip("abc", weights, strict=True)))
    steps = max(2 * len(data) - 2, 2)
    exact = [
        sum(
            Fraction(str(weight)) * round(rank * steps) / steps
            for weight, rank in zip(weights, row, strict=True)
        )
        for row in zip(*(rank.tolist() for rank in ranks.values()), strict=True)
    ]
    for got, truth in zip(score, exact, strict=True):
        assert abs(Fraction(got) - truth) <= Fraction(1, 10**15) * 5
    order = np.argsort(score, kind="stable").tolist()
    assert order == sorted(range(len(exact)), key=lambda row: exact[row])
    assert len(np.unique(score)) == len(set(exact))


def test_no_tie_is_broken_by_rounding_in_a_large_pool():
    rng = np.random.default_rng(0)
    n = 3000
    ranks = {name: uniform_ranks(rng.normal(size=n), np.ones(n, dtype=bool)) for name in "abc"}
    score = combine(ranks, {"a": 1.0, "b": 1.0, "c": 1.0})
    whole = sum(np.rint(rank * (n - 1)).astype(int) for rank in ranks.values())
    assert len(np.unique(score)) == len(np.unique(whole)) < n
    plain = sum(ranks.values())
    np.testing.assert_allclose(score, plain, rtol=1e-14)
    assert len(np.unique(plain)) > len(np.unique(score))  # what the exact sum is for


def test_missing_ranks_count_only_where_they_weigh():
    ranks = {"a": np.array([0.0, 0.5, 1.0]), "b": np.array([0.0, NAN, 1.0])}
    np.testing.assert_array_equal(combine(ranks, {"a": 2.0, "b": 0.0}), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(combine(ranks, {"a": 2.0, "b": 1.0}), [0.0, NAN, 3.0])
    np.testing.assert_array_equal(combine(ranks, {"a": -1.0, "b": 0.0}), [0.0, -0.5, -1.0])


def test_one_row_and_no_row():
    one = np.array([0.5])
    assert combine({"a": one, "b": one}, {"a": 1.0, "b": 3.0}).tolist() == [2.0]
    none = np.full(2, NAN)
    np.testing.assert_array_equal(combine({"a": none}, {"a": 1.0}), none)
    assert combine({"a": np.empty(0)}, {"a": 1.0}).shape == (0,)


@pytest.mark.parametrize("weights", [(1e100, 1e100), (1e-300, 1e-300), (1e100, 1e-100), (1 / 3, 2 / 3)])
def test_weights_far_from_one_still_order_the_rows(weights):
    ranks = {"a": np.array([0.0, 0.5, 1.0]), "b": np.array([0.0, 0.5, 1.0])}
    score = combine(ranks, dict(zip("ab", weights, strict=True)))
    np.testing.assert_allclose(score, np.array([0.0, 0.5, 1.0]) * sum(weights), rtol=1e-12)


@pytest.mark.parametrize("weight", [1 / 3, 0.1234567, np.pi])
def test_weights_of_many_digits_break_no_tie(weight):
    n = 1000
    order = np.random.default_rng(0).permutation(n).astype(np.float64)
    everything = np.ones(n, dtype=bool)
    ranks = {
        "a": uniform_ranks(order, everything),
        "b": uniform_ranks(-order, everything),
        "c": uniform_ranks(order % 2, everything),
    }
    score = combine(ranks, dict.fromkeys("abc", weight))
    assert len(np.unique(score)) == 2  # the first two add up to the same everywhere


def test_weights_come_in_the_order_of_the_metrics_with_absent_ones_as_zero():
    got = check_weights({"stability": 2, "difficulty": -1}, known=METRICS)
    assert list(got.items()) == [
        ("difficulty", -1.0),
        ("separability", 0.0),
        ("stability", 2.0),
        ("within", 0.0),
    ]
    assert check_weights(DEFAULT_WEIGHTS, known=METRICS) == {
        "difficulty": 1.0,
        "separability": 1.0,
        "stability": 2.0,
        "within": 0.0,
    }


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"stabilty": 1.0},
            "unknown metric, 'stabilty'; the metrics are: difficulty, separability, stability",
        ),
        ({"difficulty": NAN}, "`weights`: difficulty=nan is not a finite number"),
        ({"difficulty": 1.0, "stability": -np.inf}, "`weights`: stability=-inf is not a finite number"),
        ({"separability": -1e101}, r"`weights`: separability=-1e\+101 is beyond 1e\+100"),
        (
            {"difficulty": 0.0, "separability": -0.0},
            "all weights are 0; give at least one of difficulty, sep",
        ),
        ({}, "all weights are 0"),
    ],
)
def test_weights_that_make_no_sense_are_named(weights, message):
    with pytest.raises(OptionError, match=message):
        check_weights(weights, known=METRICS)
