"""What is good, what is within reach, and the draw: against brute force, scikit-learn and counted chances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crowdselect.numeric.good import ease, good_cut, is_good, surely, tallied
from crowdselect.numeric.teachable import FOLDS, chance, drawn, folds, within_reach
from crowdselect.seeding import content_hash

NAN = float("nan")


def brute_cut(values):
    """The cut by trying every split, lowest first; costs that differ by rounding alone are equal."""
    ordered = sorted(values)
    best = None
    for at in range(1, len(ordered)):
        if ordered[at] == ordered[at - 1]:
            continue
        halves = np.array(ordered[:at]), np.array(ordered[at:])
        cost = sum(np.abs(half - np.median(half)).sum() for half in halves)
        if best is None or cost < best[0] - 1e-9:
            best = cost, (ordered[at] + ordered[at - 1]) / 2
    return None if best is None else best[1]


REWARDS = (
    st.lists(st.integers(0, 1), max_size=30),
    st.lists(st.integers(1, 10), max_size=40),
    st.lists(st.integers(-1000, 1000).map(lambda n: n / 8), max_size=40),
)


@given(st.one_of(*REWARDS))
@settings(deadline=None, max_examples=300)
def test_the_cut_is_that_of_brute_force(values):
    found, expected = good_cut(np.array(values, dtype=float)), brute_cut(values)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == pytest.approx(expected, abs=1e-9)


@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=40),
    st.sampled_from([0.1, 1 / 3, 1, 7, 1e6]),
    st.sampled_from([0, -3.7, 1000.3, 1e5]),
)
@settings(deadline=None, max_examples=300)
def test_shift_and_positive_scale_change_no_answer(values, scale, shift):
    values = np.array(values, dtype=float)
    moved = values * scale + shift
    cut, other = good_cut(values), good_cut(moved)
    assert (cut is None) == (other is None)
    if cut is not None:
        assert (is_good(values, cut) == is_good(moved, other)).all()


def test_the_cut_lies_between_its_neighbours():
    near = np.array([1.0, np.nextafter(1.0, 2.0)])
    assert is_good(near, good_cut(near)).tolist() == [0.0, 1.0]
    assert good_cut(np.array([0.0, 1.0] * 5)) == 0.5
    assert good_cut(np.array([-1e308, 1e308, 1e308])) == 0.0
    assert good_cut(np.array([])) is None
    assert good_cut(np.array([1.0, 2.0, 3.0])) == 1.5  # two splits are as good; the lowest
    outlier = np.array([*range(10), 1e9])
    assert good_cut(outlier) == pytest.approx(5e8)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 5)), max_size=20))
@settings(deadline=None)
def test_counts_are_repeats(pairs):
    values, counts = np.array([v for v, _ in pairs], dtype=float), np.array([n for _, n in pairs], dtype=int)
    repeated = np.repeat(values, counts)
    assert good_cut(values, counts) == good_cut(repeated)
    distinct, number = np.unique(repeated, return_counts=True)
    found = tallied(values, counts)
    assert found[0].tolist() == distinct.tolist()
    assert found[1].tolist() == number.tolist()


def crowd(rows, models, *, seed=0, missing=0.0, shares=False):
    rng = np.random.default_rng(seed)
    good = (rng.random((rows, models)) < rng.random((rows, 1))).astype(float)
    if shares:
        good = np.round(rng.random((rows, models)) * 4) / 4
    good[rng.random(good.shape) < missing] = NAN
    return good, rng


@pytest.mark.parametrize(
    ("models", "missing", "shares"), [(1, 0.0, False), (2, 0.1, False), (7, 0.0, True), (7, 0.3, True)]
)
def test_within_reach_is_a_cross_fitted_ridge(models, missing, shares):
    good, rng = crowd(400, models, missing=missing, shares=shares)
    if models > 2:
        good[:, 0] = 1.0  # a model that is always right tells nothing
    good[5] = NAN
    student = (rng.random(400) < np.nan_to_num(good[:, -1], nan=0.5)).astype(float)
    student[:17] = NAN
    fold = rng.integers(0, FOLDS, 400)
    found = within_reach(good, student, fold)
    for k in range(FOLDS):
        learnt, rows = (fold != k) & ~np.isnan(student), (fold == k) & ~np.isnan(good).all(axis=1)
        model = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=1.0))
        expected = model.fit(good[learnt], student[learnt]).predict(good[rows])
        np.testing.assert_allclose(found[rows], np.clip(expected, 0, 1), atol=1e-9)
    assert np.isnan(found[5])


def test_no_row_predicts_itself():
    good, rng = crowd(200, 3)
    student = (rng.random(200) < 0.5).astype(float)
    fold = folds(content_hash([str(i) for i in range(200)]), seed=0)
    before = within_reach(good, student, fold)
    other = student.copy()
    other[fold == 2] = 1 - other[fold == 2]
    after = within_reach(good, other, fold)
    assert (before[fold == 2] == after[fold == 2]).all()
    assert (before[fold != 2] != after[fold != 2]).any()


def test_the_order_of_models_plays_no_part():
    good, rng = crowd(300, 6, missing=0.1)
    student = (rng.random(300) < 0.4).astype(float)
    fold = rng.integers(0, FOLDS, 300)
    order = rng.permutation(6)
    np.testing.assert_allclose(
        within_reach(good, student, fold), within_reach(good[:, order], student, fold), atol=1e-11
    )
    assert (ease(good) == ease(good[:, order])).all()


def test_a_student_that_is_a_crowd_member_everywhere_is_foreseen():
    good, _ = crowd(2000, 5)
    found = within_reach(good, good[:, 3], np.arange(2000) % FOLDS)
    assert np.abs(found - good[:, 3]).max() < 0.01
    assert chance(found, good[:, 3], surely(good)).max() < 1e-3  # nothing is within reach and missed


def test_ease_and_surety():
    good = np.array([[1.0, 0.0, NAN], [0.5, 0.5, 0.5], [NAN, NAN, NAN], [0.0, 0.0, 0.0]])
    assert ease(good)[:2].tolist() == [0.5, 0.5]
    assert np.isnan(ease(good)[2])
    assert surely(good).tolist() == [True, True, False, False]
    assert np.isnan(is_good(np.array([NAN]), 0.0)).all()


def test_chances_by_hand():
    reach, student = np.array([0.5, 0.5, 0.9, NAN, 0.8]), np.array([0.0, NAN, 1.0, 0.0, 0.25])
    sure = np.array([True, True, True, True, False])
    assert chance(reach, student, sure).tolist() == pytest.approx([0.25, 0.125, 0.0, 0.0, 0.0])


def test_draws_follow_the_weights():
    """First draws of many seeds against the weights' shares."""
    weight = np.array([0.1, 0.2, 0.7, 0.0])
    hashes = content_hash(["a", "b", "c", "d"])
    scores = np.array([drawn(weight, np.zeros(4), hashes, seed=seed) for seed in range(4000)])
    first = np.bincount(scores.argmax(axis=1), minlength=4) / 4000
    np.testing.assert_allclose(first, weight, atol=0.03)  # over four standard deviations
    second = np.bincount(scores.argsort(axis=1)[:, -2], minlength=4) / 4000
    shares = weight[:3]
    expected = [sum(shares[j] * shares[i] / (1 - shares[j]) for j in range(3) if j != i) for i in range(3)]
    np.testing.assert_allclose(second[:3], expected, atol=0.03)
    assert (scores.argmin(axis=1) == 3).all()


def test_rows_of_no_weight_come_last_the_easiest_first():
    hashes = content_hash([str(i) for i in range(6)])
    score = drawn(
        np.array([0.0, 1e-30, 0.0, 1.0, 0.0, 0.5]), np.array([0.3, 0, 0.2, 0, 1.0, 0]), hashes, seed=1
    )
    assert score[[4, 0, 2]].tolist() == pytest.approx([-63.0, -63.7, -63.8])
    assert min(score[1], score[3], score[5]) > -32


def test_a_draw_depends_on_its_own_row_alone():
    ids = [str(i) for i in range(50)]
    weight = np.linspace(0.1, 1, 50)
    every = drawn(weight, weight, content_hash(ids), seed=3)
    some = drawn(weight[::7], weight[::7], content_hash(ids[::7]), seed=3)
    assert (every[::7] == some).all()
    assert (every != drawn(weight, weight, content_hash(ids), seed=4)).any()
