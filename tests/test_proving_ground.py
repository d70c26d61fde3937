"""The proving ground without torch: verifiers by brute force, pools, the bootstrap, Holm, what counts as better."""

import random

import numpy as np
import pytest
from scipy import stats

from proving_ground import arithmetic, facts, lookup, mixed, pairs, strings
from proving_ground.analysis import agreement, compare, difference, holm, verdict
from proving_ground.items import PLAIN, Item
from proving_ground.wording import PAIRS, TABLES, WORDS
from proving_ground.worlds import WORLDS

AGAIN = {
    "reverse": lambda s: "".join(s[len(s) - 1 - i] for i in range(len(s))),
    "sort": lambda s: "".join(wanted * s.count(wanted) for wanted in "abcdefgh"),
    "rotate": lambda s: "".join(s[(i + 1) % len(s)] for i in range(len(s))),
    "next": lambda s: s.translate(str.maketrans("abcdefgh", "bcdefgha")),
    "once": lambda s: "".join(c for i, c in enumerate(s) if c not in s[:i]),
    "swap": lambda s: "".join(s[{0: len(s) - 1, len(s) - 1: 0}.get(i, i)] for i in range(len(s))),
    "second": lambda s: "".join(c for i, c in enumerate(s) if i % 2 == 0),
    "consonants": lambda s: s.translate(str.maketrans("", "", "aeiou")) or "?",
    "outer": lambda s: s[0] + s[1] + s[len(s) - 2] + s[len(s) - 1],
    "count": lambda s: str(sum(1 for _ in s)),
}
"""The ten operations again, letter by letter."""


def test_strings_by_brute_force():
    rng = random.Random(1)
    for _ in range(2000):
        item = strings.make(rng, None)
        assert item.right(AGAIN[item.skill](item.instruction.split()[-1]))
        assert not item.right("x")


def test_arithmetic_by_python_and_every_step_counts():
    rng = random.Random(2)
    signs = {
        "plus": "+",
        "and": "+",
        "minus": "-",
        "less": "-",
        "times": "*",
        "by": "*",
        "mod": "%",
        "rem": "%",
    }
    for _ in range(2000):
        item = arithmetic.make(rng, None)
        words = item.instruction.split()
        words = words[next(i for i, word in enumerate(words) if word.isdigit()) :]
        value, shown = int(words[0]), []
        for operator, number in zip(words[1::2], words[2::2], strict=True):
            value = {"+": value + int(number), "-": value - int(number), "*": value * int(number)}.get(
                signs[operator], value % int(number)
            )
            shown.append(value)
        assert all(0 <= step <= arithmetic.LARGEST for step in shown)
        assert item.band == len(shown) - 1
        assert item.right(",".join(map(str, shown)))
        assert not item.right(str(shown[-1] + 1))


def test_facts_are_one_knowledge_base_in_many_words():
    rng = random.Random(3)
    known: dict[tuple[str, str], str] = {}
    for _ in range(5000):
        item = facts.make(rng, None)
        name = " ".join(word for word in item.instruction.split() if word in {*facts.FIRST, *facts.LAST})
        assert known.setdefault((item.skill, name), item.answer) == item.answer
    small = {facts.make(rng, None, 0).band for _ in range(2000)}
    assert small == {0, 1}  # what a small model is taught ends before the tail


def test_mixed_has_questions_without_an_answer():
    rng = random.Random(4)
    made = [mixed.make(rng, None) for _ in range(4000)]
    share = {skill: sum(item.skill == skill for item in made) / len(made) for skill in mixed.SKILLS}
    assert share["unanswerable"] == pytest.approx(0.05, abs=0.015)
    assert share["ill-posed"] == pytest.approx(0.05, abs=0.015)
    assert {item.answer for item in made if item.skill == "unanswerable"} == {"?"}
    assert not any(item.right("?") for item in made if item.skill == "ill-posed")


def positions(text: str, letter: str) -> list[int]:
    return [i for i, c in enumerate(text) if c == letter]


PAIRS_AGAIN = {
    "joined": lambda a, b: "".join([*a, *b]),
    "twined": lambda a, b: "".join((a[i // 2], b[i // 2])[i % 2] for i in range(2 * len(a))),
    "common": lambda a, b: "".join(c for c in a if positions(b, c)) or "?",
    "without": lambda a, b: a.translate({ord(c): None for c in b}) or "?",
    "either": lambda a, b: "".join(c for i, c in enumerate(a + b) if i == positions(a + b, c)[0]),
    "sorted": lambda a, b: "".join(wanted * (a + b).count(wanted) for wanted in "abcdefgh"),
    "raised": lambda a, b: "".join(
        chr(97 + (ord(x) + ord(y) - 2 * 97) % 8) for x, y in zip(a, b, strict=True)
    ),
    "later": lambda a, b: "".join(sorted((x, y))[1] for x, y in zip(a, b, strict=True)),
}
"""The eight operations on two strings again."""


def test_pairs_by_brute_force():
    rng = random.Random(7)
    for _ in range(2000):
        item = pairs.make(rng, None)
        one, other = (word for word in item.instruction.split() if not set(word) - set("abcdefgh"))
        assert item.right(PAIRS_AGAIN[item.skill](one, other))
        assert item.band == len(one) - 2 == len(other) - 2


def test_lookups_are_in_the_table():
    rng = random.Random(8)
    seen = set()
    for _ in range(2000):
        item = lookup.make(rng, None)
        *_, asked, a, b, c, d = item.instruction.split()
        rows = sorted((a, b, c, d))  # by letter
        quotes = [next(row for row in rows if one in row) for one in asked]
        wanted = {
            "value": quotes,
            "back": quotes[::-1],
            "after": [rows[(rows.index(quote) + 1) % 4] for quote in quotes],
            "total": [*quotes, ",", str(sum(int(quote[1]) for quote in quotes))],
            "largest": [max(quotes, key=lambda row: row[1])],
            "key": [quote[::-1] for quote in quotes],
        }
        assert item.right("".join(wanted[item.skill]))
        assert item.band == len(asked) - 1
        seen.add((a, b, c, d) == tuple(rows))
    assert seen == {True, False}


def test_new_worlds_use_the_old_worlds_words():
    for phrase in (phrase for phrases in (*PAIRS.values(), *TABLES.values()) for phrase in phrases):
        assert set(phrase.split()) - {"{}"} <= set(WORDS)  # which has none of their own


def test_credit_is_the_share_of_places_that_are_right():
    item = Item("sort dcba", "abcd", "sort", 0)
    shares = {"abcd": 1, "abdc": 0.5, "abc": 0.75, "bcd": 0, "": 0, "abcdabcd": 0.5}
    assert {answer: item.credit(answer) for answer in shares} == shares
    assert Item("or", None, "ill-posed", 2).credit("abcd") == 0
    assert [answer for answer in shares if item.credit(answer) == 1] == [a for a in shares if item.right(a)]


@pytest.mark.parametrize("world", WORLDS.values(), ids=lambda world: world.name)
def test_rewording_keeps_the_answer_and_changes_the_words(world):
    rng = random.Random(5)
    for _ in range(500):
        item = world.make(rng, None, 2)
        again = world.reword(rng, item)
        assert (again.answer, again.skill, again.band) == (item.answer, item.skill, item.band)
        assert again.instruction != item.instruction or item.skill in {"unanswerable", "ill-posed"}


@pytest.mark.parametrize("world", WORLDS.values(), ids=lambda world: world.name)
def test_a_diet_and_plain_words_are_followed(world):
    rng = random.Random(6)
    only = dict.fromkeys(world.skills, 0.0) | {world.skills[0]: 1.0}
    assert {world.make(rng, only, 2).skill for _ in range(200)} == {world.skills[0]}
    made = [item for _ in range(3000) if (item := world.make(rng, None, PLAIN)).answer is not None]
    plain = {word for item in made for word in item.instruction.split()}
    all_words = {word for _ in range(3000) for word in world.make(rng, None, 2).instruction.split()}
    others = {
        "pairs": {"twos", "alphabetically", "successors", "through"},
        "lookup": {"say", "has", "measure"},
    }
    fancy = others.get(world.name, {"arrange", "less", "dines", "hums"})
    assert fancy & all_words
    assert not fancy & plain


def coins(rng: np.random.Generator, *, seeds: int, items: int, hard: np.ndarray, shift: float) -> np.ndarray:
    """Right or not: items differ in difficulty, seeds differ a little, one way may be shifted."""
    tilt = rng.normal(0, 0.1, size=(seeds, 1))
    return (rng.random((seeds, items)) < 1 / (1 + np.exp(-(hard + shift + tilt)))).astype(float)


def test_the_bootstrap_of_one_seed_is_scipys():
    rng = np.random.default_rng(0)
    one, other = (rng.random((1, 300)) < p for p in (0.6, 0.45))
    ours = difference(one.astype(float), other.astype(float))
    gap = one[0].astype(float) - other[0]
    theirs = stats.bootstrap(
        (gap,), np.mean, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    assert ours.mean == pytest.approx(gap.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.008)


def test_the_bootstrap_over_seeds_has_their_standard_error():
    rng = np.random.default_rng(1)
    by_seed = rng.normal(0.05, 0.02, size=(8, 1))
    one = np.broadcast_to(by_seed, (8, 50))
    ours = difference(one, np.zeros((8, 50)))
    error = stats.sem(by_seed[:, 0])  # with ddof 1: the widening is what makes it so
    assert (ours.high - ours.low) / (2 * 1.96) == pytest.approx(error, rel=0.05)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        hard = rng.normal(size=200)
        one, other = (coins(rng, seeds=8, items=200, hard=hard, shift=0) for _ in range(2))
        found = difference(one, other, draws=500)
        hits += found.low <= 0 <= found.high
    assert 0.9 <= hits / 200 <= 1


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_a_planted_better_way_is_found_and_an_equal_one_is_not_called_better():
    rng = np.random.default_rng(3)
    hard = rng.normal(size=480)
    shifts = {"random": 0.0, "better": 0.6, "worse": -0.6, **{f"equal {i}": 0.0 for i in range(20)}}
    right = {
        way: dict(enumerate(coins(rng, seeds=8, items=480, hard=hard, shift=shift)))
        for way, shift in shifts.items()
    }
    found = compare(right, "random")
    assert {way: found.verdict(way) for way in found.differences} == {
        "better": "better",
        "worse": "worse",
        **{f"equal {i}": "not told apart" for i in range(20)},
    }


def test_only_seeds_that_both_have_are_compared():
    rows = np.ones((3, 10)), np.zeros((2, 10))
    found = compare({"a": dict(enumerate(rows[0])), "random": dict(enumerate(rows[1]))}, "random")
    assert found.differences["a"].seeds == 2
    assert verdict(found.differences["a"], found.adjusted["a"]) == "better"


def test_ranks_agree_or_not():
    one = {"a": 0.1, "b": 0.2, "c": 0.3}
    assert agreement(one, {"a": 1, "b": 2, "c": 3, "d": 9}).kendall == pytest.approx(1)
    assert agreement(one, {"a": 3, "b": 2, "c": 1}).spearman == pytest.approx(-1)
