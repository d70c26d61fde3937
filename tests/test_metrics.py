"""The three metrics against exact fractions, NumPy, SciPy and the authors' own rule."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from crowdselect.errors import OptionError, ShapeError
from crowdselect.numeric import exact
from crowdselect.numeric.exact import ordered_families
from crowdselect.numeric.metrics import METRICS, compute_metrics, difficulty, separability, stability, within

NAN = float("nan")
B = exact._BLOCK
DROPPED = (
    1e-12  # of the row's largest reward: below that, what is left where rewards cancel counts as nothing
)
SMALLEST = 1e-320  # squares of rewards below 1e-160 have no digits left in a double

TIED = st.sampled_from([0.0, 1.0, 2.0, 0.1, -0.0])
EXTREME = st.sampled_from([1e-300, -1e-300, 1e150, -1e150, 1e100, -1e100, 1.0, 0.1, 3e-9, 2.0**-93, -7e6])
OFFSET = st.integers(-9, 9).map(lambda k: 1e9 + k * 1.2e-7)  # a few units in the last place of 1e9
ANY = st.floats(-1e150, 1e150, allow_nan=False, allow_subnormal=False)
SIZES = st.sampled_from([0.5, 1.5, 7.0, 7.0, 70.0, NAN])
FAMILIES = st.sampled_from(["b", "a", "c", None])


@st.composite
def crowds(draw, *, most_models=12, most_rows=5):
    """A score matrix with some of everything, and sizes and families for its models."""
    m, n = draw(st.integers(1, most_models)), draw(st.integers(1, most_rows))
    kind = draw(st.sampled_from([TIED, EXTREME, OFFSET, ANY]))
    elements = st.one_of(kind, kind, st.just(NAN)) if draw(st.booleans()) else kind
    scores = draw(hnp.arrays(np.float64, (n, m), elements=elements))
    sizes = np.array(draw(st.lists(SIZES, min_size=m, max_size=m)))
    families = draw(st.lists(FAMILIES, min_size=m, max_size=m))
    return scores, sizes, families


def present(row) -> list[Fraction]:
    return [Fraction(float(value)) for value in row if not math.isnan(value)]


def close(got: float, truth: Fraction, *, absolute: float) -> bool:
    return abs(Fraction(float(got)) - truth) <= abs(truth) / 10**12 + Fraction(absolute)


def centred_ranks(values) -> list[Fraction]:
    """Average ranks less their mean, from the definition."""
    ranks = [
        sum(other < value for other in values) + Fraction(sum(other == value for other in values) + 1, 2)
        for value in values
    ]
    return [rank - Fraction(len(values) + 1, 2) for rank in ranks]


def parts_of_rho(row, *, sizes, families, family) -> tuple[Fraction, Fraction] | None:
    """Numerator and squared denominator of Spearman's rho in a family; None where it shows no order."""
    there = [
        j
        for j, name in enumerate(families)
        if name == family and not math.isnan(sizes[j]) and not math.isnan(row[j])
    ]
    by_size = centred_ranks([float(sizes[j]) for j in there])
    by_reward = centred_ranks([float(row[j]) for j in there])
    norms = [sum((rank * rank for rank in ranks), Fraction(0)) for ranks in (by_size, by_reward)]
    if norms[0] == 0:
        return None
    product = sum((a * b for a, b in zip(by_size, by_reward, strict=True)), Fraction(0))
    return product, norms[0] * norms[1] or Fraction(1)


def by_scipy(row, *, sizes, families) -> float:
    """The mean over families of SciPy's rho; an all-tied family, which SciPy refuses, counts 0."""
    found = []
    for family in sorted({name for name in families if name is not None}):
        there = [j for j, name in enumerate(families) if name == family and not math.isnan(sizes[j] + row[j])]
        if len({sizes[j] for j in there}) > 1:
            tied = len({row[j] for j in there}) == 1
            found.append(0.0 if tied else spearmanr(sizes[there], row[there]).statistic)
    return float(np.mean(found)) if found else NAN


def by_authors(row, sizes_of_families: list[int]) -> float:
    """Their rule: rank 1 = highest by a reversed argsort, models listed from small to large."""
    rhos, start = [], 0
    for count in sizes_of_families:
        part = np.asarray(row[start : start + count])
        start += count
        rank = np.empty(count)
        rank[np.argsort(part, kind="stable")[::-1]] = np.arange(1, count + 1)
        rhos.append(spearmanr(rank, np.arange(count, 0, -1)).statistic)
    return float(np.mean(rhos))


def all_three(scores, *, sizes, families, ties="average") -> np.ndarray:
    return np.stack(list(compute_metrics(scores, sizes=sizes, families=families, ties=ties).values()))


@given(crowds())
@example((np.array([[1e150, 1e100, -1e150, -1e100, 1e-300]]), np.ones(5), ["a"] * 5))
@settings(max_examples=150, deadline=None)
def test_difficulty_is_minus_the_exact_mean(crowd):
    scores = crowd[0]
    for got, row in zip(difficulty(scores), scores, strict=True):
        values = present(row)
        if not values:
            assert math.isnan(got)
            continue
        largest = float(max(abs(value) for value in values))
        assert close(-got, sum(values) / len(values), absolute=largest * DROPPED)


@given(crowds())
@settings(max_examples=150, deadline=None)
def test_separability_is_the_exact_population_variance(crowd):
    scores = crowd[0]
    for got, row in zip(separability(scores), scores, strict=True):
        values = present(row)
        if len(values) < 2:
            assert math.isnan(got)
            continue
        mean = sum(values) / len(values)
        truth = sum((value - mean) ** 2 for value in values) / len(values)
        assert close(got, truth, absolute=SMALLEST)
        assert got > 0 or truth < SMALLEST
        assert len(set(values)) > 1 or got == 0


@given(crowds())
@settings(max_examples=150, deadline=None)
def test_stability_agrees_with_scipy_family_by_family(crowd):
    scores, sizes, families = crowd
    got = stability(scores, sizes=sizes, families=families)
    expected = [by_scipy(row, sizes=sizes, families=families) for row in scores]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=2e-15)
    assert np.all(np.isnan(got) | (np.abs(got) <= 1))


@given(crowds(most_models=14))
@settings(max_examples=150, deadline=None)
def test_stability_is_the_nearest_double_wherever_it_is_a_fraction(crowd):
    scores, sizes, families = crowd
    got = stability(scores, sizes=sizes, families=families)
    for value, row in zip(got, scores, strict=True):
        parts = [
            part
            for family in ("a", "b", "c")
            if (part := parts_of_rho(row, sizes=sizes, families=families, family=family)) is not None
        ]
        if not parts:
            assert math.isnan(value)
            continue
        roots = [
            Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator)) for _, square in parts
        ]
        if all(root * root == square for root, (_, square) in zip(roots, parts, strict=True)):
            rho = sum(product / root for root, (product, _) in zip(roots, parts, strict=True))
            assert value == float(rho / len(parts))


def test_random_rewards_agree_with_numpy_and_scipy():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 19))
    sizes = rng.permutation(np.arange(1.0, 20.0))
    families = [f"f{j % 6}" for j in range(19)]
    np.testing.assert_allclose(difficulty(scores), -np.mean(scores, axis=1), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(separability(scores), np.var(scores, axis=1), rtol=1e-12)
    expected = [by_scipy(row, sizes=sizes, families=families) for row in scores]
    np.testing.assert_allclose(
        stability(scores, sizes=sizes, families=families), expected, rtol=1e-12, atol=1e-15
    )


@given(
    counts=st.lists(st.integers(2, 5), min_size=1, max_size=6),
    values=st.sampled_from([2, 3, 50]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_paper_ties_follow_the_authors_rule(counts, values, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(values, size=(4, sum(counts))).astype(np.float64)
    sizes = np.concatenate([np.sort(rng.permutation(30)[:count]) + 1.0 for count in counts])
    families = [f"family {place}" for place, count in enumerate(counts) for _ in range(count)]
    expected = [by_authors(row, counts) for row in scores]
    shuffled = rng.permutation(len(families))  # our columns may stand in any order
    got = stability(
        scores[:, shuffled],
        sizes=sizes[shuffled],
        families=[families[j] for j in shuffled],
        ties="paper",
    )
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


def test_paper_ties_count_for_the_larger_model_and_average_ties_for_nobody():
    options = {"sizes": [27.0, 2.0, 9.0], "families": ["g"] * 3}
    assert stability(np.full((1, 3), 0.5), ties="paper", **options).tolist() == [1.0]
    assert stability(np.full((1, 3), 0.5), **options).tolist() == [0.0]
    half_tied = np.array([[1.0, 0.0, 0.0]])  # only the two smaller are tied
    assert stability(half_tied, ties="paper", **options).tolist() == [1.0]
    assert stability(half_tied, **options)[0] == pytest.approx(math.sqrt(3) / 2, rel=1e-15)


def test_paper_ties_leave_missing_rewards_out():
    got = stability(
        np.array([[1.0, NAN, 1.0], [NAN, 1.0, NAN]]), sizes=[1.0, 2.0, 3.0], families=["g"] * 3, ties="paper"
    )
    np.testing.assert_array_equal(got, [1.0, NAN])


@given(crowds(most_rows=8), st.sampled_from(["average", "paper"]), st.randoms())
@settings(max_examples=150, deadline=None)
def test_order_of_rows_order_of_models_and_names_of_families_change_nothing(crowd, ties, random):
    scores, sizes, families = crowd
    whole = all_three(scores, sizes=sizes, families=families, ties=ties)
    rows = random.sample(range(len(scores)), len(scores))
    models = random.sample(range(len(families)), len(families))
    renamed = {"a": "z", "b": "m\n", "c": "", None: None}
    other = all_three(
        scores[np.ix_(rows, models)],
        sizes=sizes[models],
        families=[renamed[families[j]] for j in models],
        ties=ties,
    )
    assert np.array_equal(other, whole[:, rows], equal_nan=True)


@pytest.mark.parametrize(
    "row",
    [
        [1e150, 1e100, -1e150, -1e100, 1e-300],
        [1.0, 2.0**-53, 2.0**-53, 2.0**-105, -1.0],
        [1e16, 1.0, -1e16, 3e-9, 1e-17],
        [0.1, 0.2, 0.3, -0.6, 1e9],
    ],
)
def test_no_order_of_rewards_that_cancel_gives_another_number(row):
    scores = np.array(list(itertools.permutations(row)))
    assert len(np.unique(difficulty(scores))) == 1
    assert len(np.unique(separability(scores))) == 1


@given(crowds())
@settings(max_examples=60, deadline=None)
def test_a_model_without_any_reward_changes_nothing(crowd):
    scores, sizes, families = crowd
    more = np.column_stack([scores, np.full(len(scores), NAN)])
    whole = all_three(scores, sizes=sizes, families=families)
    assert np.array_equal(
        all_three(more, sizes=np.append(sizes, 3.0), families=[*families, "a"]), whole, equal_nan=True
    )


@pytest.mark.parametrize("rows", [0, 1, B - 1, B, B + 1, 2 * B + 5])
def test_blocks_of_rows_leave_no_seam(rows):
    rng = np.random.default_rng(rows)
    scores = np.round(rng.normal(size=(rows, 5)), 1)
    scores[rng.random(scores.shape) < 0.1] = NAN
    scores[B - 3 : B + 3] = 0.5  # a block without, a block with missing rewards
    sizes, families = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), ["a", "a", "b", "b", "b"]
    whole = all_three(scores, sizes=sizes, families=families)
    assert whole.shape == (3, rows)
    edges = [0, 7, B - 2, B - 1, B, B + 1, rows]
    parts = [
        all_three(scores[begin:end], sizes=sizes, families=families)
        for begin, end in itertools.pairwise(sorted({min(edge, rows) for edge in edges}))
    ]
    assert np.array_equal(np.concatenate([*parts, whole[:, :0]], axis=1), whole, equal_nan=True)
    for alone, together in (
        (difficulty(scores), whole[0]),
        (separability(scores), whole[1]),
        (stability(scores, sizes=sizes, families=families), whole[2]),
    ):
        assert np.array_equal(alone, together, equal_nan=True)


@pytest.mark.parametrize("threads", [1, 3, None])
def test_the_number_of_processors_changes_nothing(threads, monkeypatch):
    scores = np.random.default_rng(1).normal(size=(3 * B + 1, 4))
    expected = all_three(scores, sizes=np.arange(4.0), families=["a"] * 4)
    monkeypatch.setattr(exact.os, "cpu_count", lambda: threads)
    assert np.array_equal(all_three(scores, sizes=np.arange(4.0), families=["a"] * 4), expected)


def test_memory_layout_and_number_type_change_nothing():
    scores = np.random.default_rng(2).integers(0, 9, size=(50, 6))
    options = {"sizes": np.arange(6.0), "families": ["a"] * 3 + ["b"] * 3}
    expected = all_three(scores.astype(np.float64), **options)
    for same in (scores, np.asfortranarray(scores), scores.astype(np.float32), scores[::-1][::-1]):
        assert np.array_equal(all_three(same, **options), expected)


def test_rows_and_crowds_with_little_in_them():
    sizes, families = np.array([1.0, 2.0]), ["a", "a"]
    scores = np.array([[NAN, NAN], [3.0, NAN], [3.0, 3.0]])
    np.testing.assert_array_equal(
        all_three(scores, sizes=sizes, families=families),
        [[NAN, -3.0, -3.0], [NAN, NAN, 0.0], [NAN, NAN, 0.0]],
    )
    one_model = all_three(np.array([[4.0], [NAN]]), sizes=np.array([7.0]), families=["a"])
    np.testing.assert_array_equal(one_model, [[-4.0, NAN], [NAN, NAN], [NAN, NAN]])
    no_model = all_three(np.empty((2, 0)), sizes=np.empty(0), families=[])
    np.testing.assert_array_equal(no_model, np.full((3, 2), NAN))
    assert all_three(np.empty((0, 0)), sizes=np.empty(0), families=[]).shape == (3, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 13, 49, 121])
@pytest.mark.parametrize("value", [0.1, 0.3, -7.7, 1e150, 1e-300, 1 / 3, 123456789.123])
def test_equal_rewards_have_exactly_their_own_mean_and_no_variance(value, count):
    scores = np.full((1, count), value)
    assert difficulty(scores).tolist() == [-value]
    if count > 1:
        assert separability(scores).tolist() == [0.0]
        scores[0, 0] = np.nextafter(value, np.inf)  # as 0.1 + 0.2 is from 0.3
        gap = Fraction(scores[0, 0]) - Fraction(value)
        truth = gap * gap * (count - 1) / count**2
        decimal = value in {0.1, 0.3, -7.7, 1 / 3}  # there it is the rounding of whoever wrote the reward
        assert close(separability(scores)[0], Fraction(0) if decimal else truth, absolute=SMALLEST)


@pytest.mark.parametrize("models", [2, 3, 5, 19, 40, 130])
def test_perfect_order_is_exactly_one(models):
    sizes = np.random.default_rng(models).permutation(models) + 0.5
    for ties in ("average", "paper"):
        got = stability(np.stack([sizes, -sizes]), sizes=sizes, families=["a"] * models, ties=ties)
        assert got.tolist() == [1.0, -1.0]


def test_large_families_fit_their_sums():
    for models in (30, 31, 127, 128, 129):
        rng = np.random.default_rng(models)
        sizes = rng.integers(1, 60, size=models).astype(np.float64)
        scores = rng.integers(0, 40, size=(3, models)).astype(np.float64)
        expected = [by_scipy(row, sizes=sizes, families=["a"] * models) for row in scores]
        np.testing.assert_allclose(
            stability(scores, sizes=sizes, families=["a"] * models), expected, rtol=1e-12
        )


def test_two_models_of_one_size_share_a_rank():
    sizes, families = np.array([7.0, 7.0, 70.0]), ["a"] * 3
    got = stability(np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0]]), sizes=sizes, families=families)
    assert got[0] == got[1] == pytest.approx(spearmanr(sizes, [1, 2, 3]).statistic, rel=1e-15)
    # Only the two of one size have a reward: the family is left out.
    assert np.isnan(stability(np.array([[1.0, 2.0, NAN]]), sizes=sizes, families=families)).all()


def rewards_with_rho() -> dict[int, np.ndarray]:
    """For a family of five, rewards with each rho from -1 to 1, as tenths."""
    order = np.arange(5.0)
    found: dict[int, np.ndarray] = {}
    for rewards in itertools.permutations(range(5)):
        rho = 1 - Fraction(int(6 * ((np.array(rewards) - order) ** 2).sum()), 5 * 24)
        found.setdefault(int(rho * 10), np.array(rewards, dtype=np.float64))
    return found


def test_families_that_come_to_the_same_mean_in_different_ways_tie_exactly():
    rewards = rewards_with_rho()
    triples = list(itertools.product(rewards, repeat=3))
    scores = np.array([np.concatenate([rewards[tenths] for tenths in triple]) for triple in triples])
    got = stability(scores, sizes=np.tile(np.arange(1.0, 6.0), 3), families=["a"] * 5 + ["b"] * 5 + ["c"] * 5)
    expected = [float(Fraction(sum(triple), 30)) for triple in triples]
    assert got.tolist() == expected
    pair = np.array([[*rewards[3], *rewards[5]], [*rewards[8], *rewards[0]]])
    both = stability(pair, sizes=np.tile(np.arange(5.0), 2), families=["a"] * 5 + ["b"] * 5)
    assert both.tolist() == [0.4, 0.4]


@pytest.mark.parametrize("ties", ["average", "paper"])
def test_rows_without_ties_go_a_short_way_to_the_same_number(ties, monkeypatch):
    rng = np.random.default_rng(4)
    scores = rng.integers(40, size=(2000, 17)).astype(np.float64)  # about half of the rows have a tie
    scores[rng.random(scores.shape) < 0.01] = NAN
    families = ["a"] * 2 + ["b"] * 3 + ["c"] * 5 + ["d"] * 7
    sizes = rng.permutation(17) + 1.0
    short = stability(scores, sizes=sizes, families=families, ties=ties)
    monkeypatch.setattr(exact, "_LARGEST_COMMON", 0)
    assert np.array_equal(stability(scores, sizes=sizes, families=families, ties=ties), short)


def test_a_family_that_is_left_out_does_not_spoil_a_tie():
    rewards = rewards_with_rho()
    sizes, families = np.tile(np.arange(1.0, 6.0), 3), ["a"] * 5 + ["b"] * 5 + ["c"] * 5
    for tenths in rewards:
        rows = [np.concatenate([rewards[tenths]] * 3)]
        for gone in (slice(0, 5), slice(5, 15)):
            rows.append(rows[0].copy())
            rows[-1][gone] = NAN
        assert stability(np.array(rows), sizes=sizes, families=families).tolist() == [tenths / 10] * 3


def test_irrational_rhos_that_are_equal_tie_exactly():
    # sqrt(3)/2 from three models with a tie, and from five models with ties.
    three = np.array([[0.0, 0.0, 1.0]])
    assert stability(three, sizes=[1.0, 2.0, 3.0], families=["a"] * 3)[0] == pytest.approx(math.sqrt(3) / 2)
    found: dict[Fraction, set[float]] = {}
    for count in (3, 4, 5, 6):
        rows = np.array(list(itertools.product(range(3), repeat=count)), dtype=np.float64)
        sizes = np.arange(1.0, count + 1)
        for row, got in zip(rows, stability(rows, sizes=sizes, families=["a"] * count), strict=True):
            product, square = parts_of_rho(row, sizes=sizes, families=["a"] * count, family="a")
            found.setdefault(abs(product) * product / square, set()).add(float(got))
    several = {rho: values for rho, values in found.items() if len(values) > 1}
    assert several == {}
    assert len(found) > 100


def test_opposite_irrational_families_cancel_out():
    rewards = np.array([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.5, 1.0]])
    got = stability(
        rewards,
        sizes=[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0],
        families=["a", "a", "a", "b", "b", "b", "c", "c"],
    )
    assert got.tolist() == [float(Fraction(1, 3))]


@given(crowds())
@settings(max_examples=60, deadline=None)
def test_a_monotone_rescaling_of_the_rewards_leaves_stability(crowd):
    scores, sizes, families = crowd
    levels = np.unique(scores[~np.isnan(scores)])
    rescaled = np.where(np.isnan(scores), NAN, np.searchsorted(levels, scores) ** 3.0 - 5)
    before = stability(scores, sizes=sizes, families=families)
    assert np.array_equal(stability(rescaled, sizes=sizes, families=families), before, equal_nan=True)


@given(crowds(), st.sampled_from([0.25, 2.0, 1024.0]))
@settings(max_examples=60, deadline=None)
def test_a_change_of_unit_scales_mean_and_variance_exactly(crowd, unit):
    scores = crowd[0]
    if np.nanmax(np.abs(scores), initial=0) < 1e140 and not (np.abs(scores) < 1e-140).any():
        assert np.array_equal(difficulty(scores * unit), difficulty(scores) * unit, equal_nan=True)
        assert np.array_equal(separability(scores * unit), separability(scores) * unit**2, equal_nan=True)


@pytest.mark.parametrize("huge", [1.5e308, math.inf, -math.inf])
def test_what_overflows_is_not_finite_and_touches_no_other_row(huge):
    scores = np.array([[1.0, 2.0, 3.0], [huge, huge, -1.0], [1.0, 1.0, 4.0]])
    for values, expected in ((difficulty(scores), -2.0), (separability(scores), 2 / 3)):
        assert not np.isfinite(values[1]) or (huge == 1.5e308 and values[1] == pytest.approx(-1e308))
        assert values[0] == pytest.approx(expected)
        assert values[2] == pytest.approx(-2.0 if expected < 0 else 2.0)


def test_a_variance_that_overflows_is_not_finite_though_its_mean_is():
    scores = np.array([[1e200, -1e200], [1e200, NAN]])
    assert difficulty(scores).tolist() == [0.0, -1e200]
    assert not np.isfinite(separability(scores)).any()


def test_shapes_that_do_not_fit_are_said():
    for function in (difficulty, separability):
        with pytest.raises(ShapeError, match=r"\(instructions, models\), not \(3,\)"):
            function(np.zeros(3))
    with pytest.raises(ShapeError, match=r"not \(1, 2, 3\)"):
        stability(np.zeros((1, 2, 3)), sizes=np.zeros(2), families=["a", "b"])
    with pytest.raises(ShapeError, match="have 2 models, but there are 3 sizes and 2 families"):
        stability(np.zeros((1, 2)), sizes=np.zeros(3), families=["a", "b"])
    with pytest.raises(ShapeError, match="have 2 models, but there are 2 sizes and 1 families"):
        compute_metrics(np.zeros((1, 2)), sizes=np.zeros(2), families=["a"])
    with pytest.raises(OptionError, match=r"`ties='first'` is unknown; choose one of: average, paper"):
        stability(np.zeros((1, 2)), sizes=np.zeros(2), families=["a", "a"], ties="first")


def test_ordered_families_are_those_with_two_known_sizes():
    sizes = np.array([7.0, NAN, 1.0, 7.0, 3.0, 7.0, 9.0])
    families = ["b", "b", "b", "a", None, "a", "A"]
    assert [group.tolist() for group in ordered_families(sizes, families)] == [[0, 2]]
    sizes[5] = 70.0
    assert [group.tolist() for group in ordered_families(sizes, families)] == [[3, 5], [0, 2]]
    assert ordered_families(np.empty(0), []) == []


def test_metrics_come_by_name_in_a_fixed_order():
    assert list(METRICS) == ["difficulty", "separability", "stability", "within"]
    crowd = {"sizes": np.array([1.0, 2.0]), "families": ["a", "a"]}
    assert list(compute_metrics(np.eye(2), **crowd)) == ["difficulty", "separability", "stability"]
    assert list(compute_metrics(np.eye(2), **crowd, spread=np.eye(2))) == list(METRICS)


def test_within_is_the_mean_of_the_variances_that_there_are():
    spread = np.array([[0.25, 0.25, np.nan], [0.0, 0.25, 0.25], [np.nan, np.nan, np.nan], [0.1, 0.2, 0.3]])
    found = within(spread)
    assert found[[0, 1, 3]].tolist() == [0.25, 0.5 / 3, 0.2]
    assert np.isnan(found[2])
    assert np.array_equal(found, within(spread[:, ::-1]), equal_nan=True)
    assert np.array_equal(METRICS["within"](np.zeros((4, 3)), spread=spread), found, equal_nan=True)
    assert np.isnan(METRICS["within"](np.zeros((4, 3)))).all()
