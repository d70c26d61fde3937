"""Scores, intervals, Bradley-Terry, self-checks and comparisons against independent ways to compute them."""

import itertools
import re
from decimal import Decimal

import numpy as np
import pytest

from crowdselect.errors import InputError, OptionError
from crowdselect.evaluate.comparison import (
    CORRECTED,
    HIGHER,
    LOWER,
    ROUNDS,
    UNCLEAR,
    compare,
    hierarchical,
    holm,
)
from crowdselect.evaluate.display import forest_lines, print_comparison
from crowdselect.evaluate.files import Question
from crowdselect.evaluate.judging import Verdict, read_rating, weighed
from crowdselect.evaluate.outcome import Loaded, MethodRuns
from crowdselect.evaluate.scores import (
    Cells,
    bradley_terry,
    graded,
    interval,
    length_bias,
    position_bias,
    published,
    resampled,
    won,
)
from crowdselect.reward.verdicts import LABELS, canonical, read_label

WEIGHT = {"A>>B": (1, 3), "A>B": (1, 1), "A=B": (0.5, 1), "B>A": (0, 1), "B>>A": (0, 3)}


def asked(count, turns=2):
    return [Question(f"q{n:03d}", f"q{n:03d}", "ab"[n % 2], ("x",) * turns) for n in range(count)]


def games(count, seed=0, missing=()):
    """Random labels for both games of each question."""
    generator = np.random.default_rng(seed)
    drawn = generator.choice(LABELS, size=(count, 2))
    return {
        (f"q{n:03d}", game): Verdict(reason="?")
        if (n, game) in missing
        else Verdict(label=str(drawn[n, game]))
        for n in range(count)
        for game in range(2)
    }


# Verdicts


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("[[7]]", 7),
        ("Rating: [[7.5]] and again [[7.5]]", 7.5),
        ("**Rating:** 3", 3),
        ("rating: [4]", 4),
        ("x" * 100_000 + "[[10]]", 10),
        ("<b>[[1]]</b>", 1),
        ("[[ 5 ]]", 5),
        ("7", 7),
        ("I would say [7]", None),
        ("[[0]]", None),
        ("[[10.5]]", None),
        ("[[-3]]", None),
        ("[[3]] [[4]]", None),
        ("[[rating]]", None),
        ("[[NaN]]", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_ratings(text, rating):
    found = read_rating(text)
    assert found.rating == rating
    assert (found.reason is None) == (rating is not None)
    assert len(found.reason or "") < 150


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *((f"verdict: [[{label}]]", label) for label in LABELS),
        ("[[B=A]]", "A=B"),
        ("[[A<<B]]", "B>>A"),
        ("[[B<A]] so [[A>B]]", "A>B"),
        ("[[B]]", "B>A"),
        ("[[C]]", "A=B"),
        ("[[A>B]] or [[B>A]]", None),
        ("[[A>>A]]", None),
        ("A>B", None),
        ("[[D]]", None),
        ("[[A&gt;B]]", None),
    ],
)
def test_labels(text, label):
    assert read_label(text).value == label


def test_a_label_turned_round_is_worth_the_rest():
    turned = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B"}
    for label, other in turned.items():
        assert weighed(label) == WEIGHT[label]
        assert weighed(label)[0] + weighed(other)[0] == 1
        assert canonical(label.replace(">", "<")) == other


# Scores


def test_mt_bench_means_by_hand():
    questions = asked(3)
    grades = {
        ("q000", 0): 8,
        ("q000", 1): 6,
        ("q001", 0): 10,
        ("q001", 1): None,
        ("q002", 0): 1,
        ("q002", 1): 2.5,
    }
    verdicts = {
        place: Verdict(rating=g) if g is not None else Verdict(reason="?") for place, g in grades.items()
    }
    cells = graded(questions[::-1], verdicts, turns=2)
    assert cells.ids == ("q000", "q001", "q002")
    assert cells.mean() == (8 + 6 + 10 + 1 + 2.5) / 5
    assert cells.only(np.array([True, False, True])).mean() == 17.5 / 4
    assert Cells((), (), np.empty((0, 2)), np.empty((0, 2))).mean() is None


def test_the_share_of_wins_by_counting():
    questions, verdicts = asked(60, turns=1), games(60, missing={(3, 0), (7, 1)})
    wins = weights = 0.0
    for n in set(range(60)) - {3, 7}:  # a question counts with both games or not at all
        first, second = (WEIGHT[verdicts[f"q{n:03d}", game].label] for game in range(2))
        wins += (1 - first[0]) * first[1] + second[0] * second[1]
        weights += first[1] + second[1]
    assert won(questions, verdicts).mean() == pytest.approx(wins / weights)
    same = {place: Verdict(label="A=B") for place in verdicts}
    assert won(questions, same).mean() == 0.5


def test_the_interval_of_arena_hard_auto_with_the_same_draws():
    questions, verdicts = asked(40, turns=1), games(40)
    battles = []
    for n in range(40):
        first, second = (WEIGHT[verdicts[f"q{n:03d}", game].label] for game in range(2))
        battles += [1 - first[0]] * first[1] + [second[0]] * second[1]
    generator = np.random.default_rng(5)
    means = [
        np.mean([battles[i] for i in generator.integers(0, len(battles), len(battles))]) for _ in range(100)
    ]
    found = published(questions, verdicts, seed=5)
    assert found["score"] == pytest.approx(100 * np.mean(means))
    assert found["low"] == pytest.approx(100 * np.percentile(means, 5))
    assert found["high"] == pytest.approx(100 * np.percentile(means, 95))


def test_the_bootstrap_keeps_a_question_together_and_does_not_depend_on_order():
    questions, verdicts = asked(30, turns=1), games(30)
    cells = won(questions, verdicts)
    drawn = resampled(cells, seed=1, rounds=500)
    generator = np.random.default_rng(1)
    draws = [rows for size in (256, 244) for rows in generator.integers(0, 30, size=(size, 30))]
    truth = [sum(cells.sums[i, 0] for i in rows) / sum(cells.weights[i, 0] for i in rows) for rows in draws]
    assert drawn == pytest.approx(truth)
    one = won(questions[:1], verdicts)
    assert one.mean() is not None
    assert interval(resampled(one, seed=1)) is None  # every draw of one question is that question
    assert (resampled(won(questions[::-1], verdicts), seed=1, rounds=500) == drawn).all()
    # Its spread is that of a mean over questions, by the delta method.
    share = cells.sums.sum() / cells.weights.sum()
    spread = np.sqrt(((cells.sums - share * cells.weights) ** 2).sum()) / cells.weights.sum()
    low, high = interval(resampled(cells, seed=1))
    assert (high - low) / 3.92 == pytest.approx(spread, rel=0.15)


# Bradley-Terry


def likelihood(strengths, first, second, share, weight):
    margin = strengths[first] - strengths[second]
    return (weight * (share * -np.logaddexp(0, -margin) + (1 - share) * -np.logaddexp(0, margin))).sum()


def random_games(players, count, seed):
    generator = np.random.default_rng(seed)
    first = generator.integers(0, players, count)
    second = (first + generator.integers(1, players, count)) % players
    return first, second, generator.choice([0.0, 0.5, 1.0], count), generator.choice([1.0, 3.0], count)


@pytest.mark.parametrize(("players", "seed"), [(2, 0), (4, 1), (7, 2)])
def test_bradley_terry_is_logistic_regression(players, seed):
    from sklearn.linear_model import LogisticRegression

    first, second, share, weight = random_games(players, 200, seed)
    design = np.zeros((200, players))
    design[np.arange(200), first] += 1
    design[np.arange(200), second] -= 1
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12, max_iter=10_000)
    both = np.vstack([design, design])[:, 1:]
    model.fit(
        both, np.repeat([1, 0], 200), sample_weight=np.concatenate([share * weight, (1 - share) * weight])
    )
    found = bradley_terry(first, second, share, weight, players=players)
    assert found[0] == 0
    assert found[1:] == pytest.approx(model.coef_[0], abs=1e-4)


def test_bradley_terry_has_the_greatest_likelihood_of_a_grid():
    given = random_games(3, 60, 3)
    found = bradley_terry(*given, players=3)
    best = likelihood(found, *given)
    for steps in itertools.product(np.linspace(-2, 2, 41), repeat=2):
        assert likelihood(found + np.array([0, *steps]), *given) <= best + 1e-12


def test_bradley_terry_without_a_finite_answer_is_missing():
    nan = np.isnan
    always = bradley_terry(np.array([1, 1]), np.array([0, 0]), np.ones(2), np.ones(2), players=2)
    assert nan(always[1])
    apart = bradley_terry(np.array([2]), np.array([1]), np.array([0.5]), np.ones(1), players=3)
    assert nan(apart[1])
    assert nan(apart[2])


# The judge's self-check


def test_position_bias_counts_flips():
    labels = [("A>B", "A>B"), ("A>>B", "B>A"), ("A=B", "A>B"), ("B>A", "A>>B")]
    verdicts = {
        (f"q{n:03d}", game): Verdict(label=pair[game]) for n, pair in enumerate(labels) for game in range(2)
    }
    verdicts |= {("q004", 0): Verdict(label="A>B"), ("q004", 1): Verdict(reason="?")}
    found = position_bias(asked(5, turns=1), verdicts)
    # 0: A both times, a flip; 1: the baseline both times; 2: a tie, then the model; 3: the model both times.
    assert found == {
        "pairs": 4,
        "flipped": 0.25,
        "changed": 0.5,
        "first_wins": pytest.approx((2 + 1 + 1.5 + 1) / 8),
    }


def test_length_bias_is_spearman_or_nothing():
    from scipy.stats import rankdata

    generator = np.random.default_rng(0)
    values, lengths = (
        generator.integers(1, 11, 50).astype(float),
        generator.integers(10, 90, 50).astype(float),
    )
    truth = np.corrcoef(rankdata(values), rankdata(lengths))[0, 1]
    assert length_bias(values.tolist(), lengths.tolist())["spearman"] == pytest.approx(truth)
    assert length_bias([5, 5, 5], [1, 2, 3])["spearman"] is None
    assert length_bias([], [])["spearman"] is None


# Comparisons


def loaded(name, grades, *, ids=None, **values):
    """A result with one grade per question and turn; 0 = missing."""
    sums = np.atleast_2d(np.asarray(grades, float)).reshape(len(grades), -1)
    ids = tuple(ids or (f"q{n:03d}" for n in range(len(sums))))
    cells = Cells(ids, ("",) * len(sums), sums, (sums > 0).astype(float))
    facts = {
        "benchmark": "mt-bench",
        "model": name,
        "judge": "j",
        "baseline": None,
        "conditions": {},
        "unit": "u",
    }
    return Loaded(name, **{**facts, **values}, cells=cells)


def test_a_difference_is_paired_and_its_interval_is_that_of_the_pairs():
    generator = np.random.default_rng(0)
    base = generator.uniform(2, 8, 80)  # questions differ far more than methods do
    better = base + generator.normal(0.3, 0.5, 80)
    found = compare([MethodRuns("a", (loaded("a", better),)), MethodRuns("b", (loaded("b", base),))])
    [one] = found.differences
    pairs = better - base
    assert one.difference == pytest.approx(pairs.mean())
    assert one.questions == one.differing == 80
    spread = pairs.std() / np.sqrt(80)
    assert one.interval == pytest.approx(
        (pairs.mean() - 1.96 * spread, pairs.mean() + 1.96 * spread), abs=0.03
    )
    assert one.verdict == HIGHER
    turned = compare(
        [MethodRuns("b", (loaded("b", base),)), MethodRuns("a", (loaded("a", better),))]
    ).differences[0]
    assert turned.verdict == LOWER


def test_equal_results_are_not_shown_to_differ():
    one = np.arange(1, 11)
    [found] = compare(
        [MethodRuns("a", (loaded("a", one),)), MethodRuns("b", (loaded("b", one),))]
    ).differences
    assert (found.difference, found.differing, found.p, found.verdict) == (0, 0, 1, UNCLEAR)
    assert found.interval == (0, 0)


def test_one_question_shows_no_difference():
    found = compare([MethodRuns("a", (loaded("a", [9]),)), MethodRuns("b", (loaded("b", [1]),))])
    [one] = found.differences
    assert (one.difference, one.interval, one.p, one.p_holm, one.verdict) == (8, None, None, None, UNCLEAR)
    assert {standing.interval for standing in found.standings} == {None}


def test_runs_are_a_second_level():
    """With many questions only the runs' spread is left: that of a mean over runs drawn with replacement."""
    shifts = np.array([-0.5, 0.0, 0.4, 0.7])
    runs = tuple(loaded(f"r{n}", np.full(400, 5 + shift)) for n, shift in enumerate(shifts))
    single = loaded("s", np.full(400, 5.0))
    found = compare([MethodRuns("m", runs), MethodRuns("s", (single,))])
    [one] = found.differences
    assert one.difference == pytest.approx(shifts.mean())
    means = [np.mean(some) for some in itertools.product(shifts, repeat=4)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert one.interval == pytest.approx((low, high), abs=0.03)
    assert (found.standings[0].lowest, found.standings[0].highest) == pytest.approx((4.5, 5.7))
    assert any("few training runs: m (4)" in note for note in found.notes)
    assert any("one training run each: s" in note for note in found.notes)


def test_choices_are_resampled_each_with_all_its_runs():
    """Two trainings of one choice are no evidence of how much choices vary: only whole choices are drawn."""
    choices = np.array([[-0.6, -0.4], [-0.1, 0.1], [0.3, 0.5], [0.6, 0.8]])
    runs = tuple(loaded(f"r{n}", np.full(400, 5 + shift)) for n, shift in enumerate(choices.ravel()))
    single = MethodRuns("s", (loaded("s", np.full(400, 5.0)),))
    found = compare([MethodRuns("m", runs, (0, 0, 1, 1, 2, 2, 3, 3)), single])
    [one] = found.differences
    assert one.difference == pytest.approx(choices.mean())
    means = [np.mean(some) for some in itertools.product(choices.mean(axis=1), repeat=4)]
    assert one.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.03)
    [flat] = compare([MethodRuns("m", runs), single]).differences
    assert flat.interval[1] - flat.interval[0] < 0.8 * (one.interval[1] - one.interval[0])
    assert (found.standings[0].runs, found.standings[0].choices) == (8, 4)
    assert (found.standings[0].lowest, found.standings[0].highest) == pytest.approx((4.4, 5.8))
    assert any("few choices: m (4)" in note for note in found.notes)
    assert not any("few training runs" in note for note in found.notes)


def test_one_choice_is_resampled_by_its_runs():
    runs = tuple(loaded(f"r{n}", np.full(50, 5 + shift)) for n, shift in enumerate((0.0, 0.5, 0.9)))
    single = MethodRuns("s", (loaded("s", np.full(50, 5.0)),))
    said = compare([MethodRuns("m", runs, (0, 0, 0)), single])
    assert said == compare([MethodRuns("m", runs), single])


def test_resampling_two_levels_is_what_a_loop_does():
    generator = np.random.default_rng(0)
    sums, weights = generator.uniform(0, 3, (3, 5)), generator.integers(1, 4, (3, 5)).astype(float)
    questions = generator.multinomial(5, np.full(5, 0.2), size=20)
    found = hierarchical(sums, weights, questions, np.random.default_rng(1))
    runs = np.random.default_rng(1).multinomial(3, np.full(3, 1 / 3), size=20)
    for b in range(20):
        top = sum(runs[b, r] * questions[b, q] * sums[r, q] for r in range(3) for q in range(5))
        under = sum(runs[b, r] * questions[b, q] * weights[r, q] for r in range(3) for q in range(5))
        assert found[b] == pytest.approx(top / under)


def test_only_common_turns_are_paired():
    one = loaded("a", [[5, 5], [6, 0], [9, 9]])
    other = loaded("b", [[4, 4], [4, 8], [1, 1]], ids=("q000", "q001", "q009"))
    [found] = compare([MethodRuns("a", (one,)), MethodRuns("b", (other,))]).differences
    assert found.difference == pytest.approx((5 + 5 + 6) / 3 - 4)
    assert (found.questions, found.left_out) == (2, 2)
    apart = loaded("c", [[4, 4]], ids=("z",))
    [found] = compare([MethodRuns("a", (one,)), MethodRuns("c", (apart,))]).differences
    assert (found.difference, found.p_holm, found.verdict) == (None, None, UNCLEAR)


def test_holm_is_the_step_down_of_bonferroni():
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.uniform(0, 0.2, 6)
        found = holm(values.tolist())
        for level in (0.01, 0.05, 0.1, 0.3):
            left = sorted(range(6), key=lambda at: values[at])
            rejected = set()
            while left and values[left[0]] * len(left) <= level:
                rejected.add(left.pop(0))
            assert {at for at in range(6) if found[at] <= level} == rejected


def test_several_comparisons_are_corrected_and_said():
    generator = np.random.default_rng(4)
    base = generator.uniform(3, 7, 60)
    near = [MethodRuns(f"m{n}", (loaded(f"m{n}", base + generator.normal(0, 0.6, 60)),)) for n in range(5)]
    edge = MethodRuns("edge", (loaded("edge", base + generator.normal(0.17, 0.6, 60)),))
    ref = MethodRuns("ref", (loaded("ref", base),))
    found = compare([*near, edge, ref], against="ref")
    assert [one.other for one in found.differences] == ["ref"] * 6
    for one in found.differences:
        assert one.p_holm >= one.p >= 2 / (ROUNDS + 1)
        holds_zero = one.interval[0] <= 0 <= one.interval[1]
        assert (one.verdict == UNCLEAR) == holds_zero
        if one.verdict == CORRECTED:
            assert one.p_holm > 0.05
    assert CORRECTED in {one.verdict for one in found.differences}
    assert len(compare([*near, ref]).differences) == 15


def test_what_cannot_be_compared_is_refused():
    one = MethodRuns("a", (loaded("a", [5]),))
    for name, value in (("benchmark", "arena-hard"), ("judge", "k"), ("baseline", "b")):
        with pytest.raises(InputError, match=f"its {name} is"):
            compare([one, MethodRuns("b", (loaded("b", [5], **{name: value}),))])
    with pytest.raises(OptionError, match="at least two"):
        compare([one])
    with pytest.raises(OptionError, match="`against` is 'x'"):
        compare([one, MethodRuns("b", (loaded("b", [5]),))], against="x")


@pytest.mark.parametrize("seed", range(8))
def test_the_differences_shown_are_those_of_the_scores_shown(seed, capsys):
    generator = np.random.default_rng(seed)
    one, other = (generator.integers(1, 11, 397) for _ in range(2))
    other[:396] = generator.permutation(one[:396])  # means that differ a little at most
    print_comparison(compare([MethodRuns("a", (loaded("a", one),)), MethodRuns("b", (loaded("b", other),))]))
    shown = capsys.readouterr().out
    a, b = (Decimal(re.search(rf"^ +{name} +1 +397 +([0-9.]+) ", shown, re.MULTILINE)[1]) for name in "ab")
    difference = Decimal(re.search(r"^ +a - b +([-+0-9.]+) ", shown, re.MULTILINE)[1])
    assert a - b == difference
    assert (difference == 0) == (one.sum() == other.sum())
    assert "-0.00 " not in shown


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("methods", [2, 4])
def test_a_comparison_fits_80_columns_and_shows_only_columns_that_say_something(
    methods, runs, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    generator = np.random.default_rng(0)
    groups = [
        MethodRuns(
            f"method-{m}", tuple(loaded(f"m{m}-{r}", generator.integers(1, 11, 9)) for r in range(runs))
        )
        for m in range(methods)
    ]
    print_comparison(compare(groups))
    shown = capsys.readouterr().out
    assert max(map(len, shown.split("\n"))) <= 80
    assert shown.startswith("MT-Bench, judged by j (score: u)\n")
    assert ("lowest run" in shown) == (runs > 1)
    assert ("(Holm)" in shown) == (methods > 2)
    assert len(re.findall(r"^ +difference ", shown, re.MULTILINE)) == 1  # one table, not several
    assert len(re.findall(r"^ +method-0 -", shown, re.MULTILINE)) == methods - 1


def test_a_forest_without_differences_is_none():
    one = MethodRuns("a", (loaded("a", [5]),))
    apart = MethodRuns("c", (loaded("c", [4], ids=("z",)),))
    assert forest_lines(compare([one, apart]).differences) == []
