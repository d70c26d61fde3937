"""Which answer is taken: always a usable one, fairly among equals, and by nothing but its own row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import chisquare

from crowdselect.errors import OptionError
from crowdselect.numeric import responses
from crowdselect.numeric.responses import check_answer, find_answers
from crowdselect.seeding import content_hash

NAN = float("nan")
MODELS = ("Alpha", "beta", "é-7B", "it's", "z:9")
STRATEGIES = ("best", "random", "top1-random", "top2-random", "top99-random", "model:é-7B", "model:z:9")


def ids_of(count: int) -> list[str]:
    return [f"row {row}" for row in range(count)]


def find(scores, usable=None, *, answer="best", pairs=False, seed=0, ids=None, models=None):
    scores = np.asarray(scores, dtype=np.float64)
    return find_answers(
        scores,
        usable=np.ones(scores.shape, dtype=bool) if usable is None else np.asarray(usable),
        hashes=content_hash(ids_of(len(scores)) if ids is None else ids),
        models=MODELS[: scores.shape[1]] if models is None else models,
        answer=answer,
        pairs=pairs,
        seed=seed,
    )


@st.composite
def tables(draw):
    """Rewards with ties and gaps, and which answers have text."""
    shape = (draw(st.integers(1, 8)), len(MODELS))
    scores = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([-1.0, 0.0, 0.5, 1e300, NAN])))
    return scores, draw(hnp.arrays(np.bool_, shape))


def allowed(row, usable, answer) -> set[int]:
    """The columns that a strategy may take, from its definition."""
    with_text = [j for j in range(len(row)) if usable[j]]
    if answer == "random":
        return set(with_text)
    if answer.startswith("model:"):
        return {MODELS.index(answer.removeprefix("model:"))} & set(with_text)
    rewarded = sorted((j for j in with_text if not np.isnan(row[j])), key=lambda j: -row[j])
    count = 1 if answer == "best" else int(answer.removeprefix("top").removesuffix("-random"))
    return {j for j in rewarded if row[j] >= row[rewarded[min(count, len(rewarded)) - 1]]}


@given(tables(), st.sampled_from(STRATEGIES), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_an_answer_that_the_strategy_allows_is_taken_wherever_there_is_one(table, answer, seed):
    scores, usable = table
    found = find(scores, usable, answer=answer, seed=seed)
    for row, has, column, best in zip(scores, usable, found.chosen, found.best_reward, strict=True):
        may = allowed(row, has, answer)
        assert column in may if may else column == -1
        known = row[has & ~np.isnan(row)]
        assert best == known.max() if known.size else np.isnan(best)
    assert found.rejected is None


@given(tables(), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_the_rejected_answer_is_the_lowest_and_strictly_below_the_best(table, seed):
    scores, usable = table
    found = find(scores, usable, pairs=True, seed=seed)
    for row, has, best, worst in zip(scores, usable, found.chosen, found.rejected, strict=True):
        known = row[has & ~np.isnan(row)]
        if len(set(known)) < 2:
            assert worst == -1
        else:
            assert has[worst]
            assert row[worst] == known.min() < row[best] == known.max()


@given(tables(), st.sampled_from(STRATEGIES), st.randoms())
@settings(max_examples=100, deadline=None)
def test_neither_other_rows_nor_the_order_of_models_change_a_draw(table, answer, random):
    scores, usable = table
    ids = ids_of(len(scores))
    whole = find(scores, usable, answer=answer, pairs=answer == "best")
    rows = random.sample(range(len(ids)), random.randint(1, len(ids)))
    columns = random.sample(range(len(MODELS)), len(MODELS))
    part = find(
        scores[np.ix_(rows, columns)],
        usable[np.ix_(rows, columns)],
        answer=answer,
        pairs=answer == "best",
        ids=[ids[row] for row in rows],
        models=tuple(MODELS[j] for j in columns),
    )
    names = np.array([*MODELS, None], dtype=object)
    shuffled = np.array([*(MODELS[j] for j in columns), None], dtype=object)
    assert shuffled[part.chosen].tolist() == names[whole.chosen[rows]].tolist()
    if answer == "best":
        assert shuffled[part.rejected].tolist() == names[whole.rejected[rows]].tolist()


@pytest.mark.parametrize("answer", ["best", "random", "top2-random"])
def test_a_model_that_cannot_be_taken_changes_no_draw(answer):
    rng = np.random.default_rng(0)
    scores = rng.integers(3, size=(300, 4)).astype(np.float64)
    usable = rng.random((300, 4)) < 0.8
    before = find(scores, usable, answer=answer, models=("a", "c", "d", "e"))
    more = np.insert(scores, 1, -1.0 if answer == "best" else 9.0, axis=1)
    with_text = np.insert(usable, 1, answer == "best", axis=1)  # a lower reward, or no text
    with_text[~usable.any(axis=1), 1] = False
    after = find(more, with_text, answer=answer, models=("a", "b", "c", "d", "e"))
    assert np.array_equal(np.where(after.chosen > 1, after.chosen - 1, after.chosen), before.chosen)


@pytest.mark.parametrize("answer", ["best", "random", "top1-random", "top2-random", "top5-random"])
@pytest.mark.parametrize("seed", [0, 1])
def test_among_equal_rewards_every_model_is_taken_as_often(answer, seed):
    found = find(np.full((20_000, 5), 7.0), answer=answer, seed=seed)
    counts = np.bincount(found.chosen, minlength=5)
    assert chisquare(counts).pvalue > 1e-4, counts


def test_equal_worst_answers_are_rejected_as_often_and_apart_from_the_best():
    scores = np.tile([1.0, 1.0, 1.0, 5.0, 5.0], (20_000, 1))
    found = find(scores, pairs=True)
    pairs = np.bincount(found.rejected * 2 + (found.chosen - 3), minlength=6)
    assert pairs.size == 6
    assert chisquare(pairs).pvalue > 1e-4, pairs


@pytest.mark.parametrize(("answer", "columns"), [("random", 5), ("top3-random", 3), ("top2-random", 2)])
def test_random_strategies_are_uniform_over_what_they_may_take(answer, columns):
    scores = np.tile([5.0, 4.0, 3.0, 2.0, 1.0], (20_000, 1))
    counts = np.bincount(find(scores, answer=answer).chosen, minlength=5)
    assert counts[columns:].sum() == 0
    assert chisquare(counts[:columns]).pvalue > 1e-4, counts


def test_random_takes_answers_without_a_reward_and_best_does_not():
    scores = np.tile([NAN, 1.0], (200, 1))
    assert set(find(scores, answer="random").chosen) == {0, 1}
    assert set(find(scores, answer="best").chosen) == {1}
    assert set(find(scores, answer="top5-random").chosen) == {1}
    assert set(find(scores, answer="model:Alpha").chosen) == {0}
    assert find(scores[:, :1]).chosen.tolist() == [-1] * 200
    assert np.isnan(find(scores[:, :1]).best_reward).all()


def test_another_seed_is_another_draw():
    scores = np.zeros((400, 5))
    for answer in ("best", "random", "top3-random"):
        draws = [find(scores, answer=answer, seed=seed).chosen for seed in (0, 0, 1, -1)]
        assert np.array_equal(draws[0], draws[1])
        assert 0.1 < np.mean(draws[0] == draws[2]) < 0.3
        assert 0.1 < np.mean(draws[0] == draws[3]) < 0.3


def test_blocks_of_rows_leave_no_seam(monkeypatch):
    scores = np.random.default_rng(0).integers(3, size=(50, 5)).astype(np.float64)
    expected = {answer: find(scores, answer=answer).chosen for answer in STRATEGIES}
    for block in (1, 7, 49, 50):
        monkeypatch.setattr(responses, "_BLOCK", block)
        for answer, chosen in expected.items():
            assert np.array_equal(find(scores, answer=answer).chosen, chosen)


def test_no_rows():
    found = find(np.empty((0, 5)), pairs=True)
    assert found.chosen.shape == found.rejected.shape == found.best_reward.shape == (0,)


@pytest.mark.parametrize(
    "answer", ["", "Best", "top0-random", "top-random", "top5", "top-1-random", "top5-random ", "worst"]
)
def test_an_unknown_strategy_is_named(answer):
    with pytest.raises(OptionError) as caught:
        check_answer(answer, models=MODELS)
    assert f"`answer={answer!r}` is unknown; use best, random, topN-random, model:NAME or fits:MODEL" in str(
        caught.value
    )


def test_an_unknown_teacher_is_named_with_the_models_there_are():
    with pytest.raises(
        OptionError, match="no model 'GPT' in the pool to teach; its models are: Alpha, beta, é-7B, it"
    ):
        find(np.zeros((1, 5)), answer="model:GPT")
    many = tuple(f"m{j:02d}" for j in range(30))
    with pytest.raises(OptionError, match=r"m18, m19, \.\.\.$"):
        check_answer("model:", models=many)
