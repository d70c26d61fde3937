"""Pools of samples of every odd kind against brute force: metrics, answers, pairs, several answers, layouts."""

import json
import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect import Options, open_pool, select
from crowdselect.engine.here import run_here
from crowdselect.errors import BudgetError, InputError
from crowdselect.pool.codes import coded, codes_of
from crowdselect.pool.keys import ordered_keys
from crowdselect.selection.look import look_at
from crowdselect.selection.rows import metrics_table

MODELS = ("qwen2.5-1.5b", "qwen2.5-7b", "ollama/llama:8b")


def pool(seed, *, samples=lambda rng, model: range(4), score=None, text=None, number=None):
    """Rows in no order: an answer of every model to every instruction, and its samples."""
    rng = random.Random(seed)
    score = score or (lambda rng: rng.choice([0.0, 1.0, 0.5, 0.25]))
    rows = [
        {
            "id": f"q{i:02d}",
            "instruction": f"Question {i}?",
            "model": model,
            "sample": sample if number is None else number(sample),
            "response": f"{model} {sample} says {i}" if text is None else text(rng, model, sample),
            "score": score(rng),
        }
        for i in range(14)
        for model in MODELS
        for sample in samples(rng, model)
    ]
    rng.shuffle(rows)
    return rows


ODD = {
    "ragged": {"samples": lambda rng, model: range(rng.randrange(6))},
    "one sample of one model": {"samples": lambda rng, model: range(1 if model == MODELS[0] else 5)},
    "one sample of each": {"samples": lambda rng, model: [0]},
    "hardly any": {"samples": lambda rng, model: range(3 if rng.random() < 0.2 else 0)},
    "all tie": {"score": lambda rng: 0.5},
    "NaN and missing": {"score": lambda rng: rng.choice([0.0, 1.0, float("nan"), None])},
    "true and false": {"score": lambda rng: rng.random() < 0.5},
    "numbers as text": {"score": lambda rng: str(rng.choice([0, 1, 0.5]))},
    "thirds": {"score": lambda rng: rng.choice([1 / 3, 2 / 3, 0.0, 1.0])},
    "equal but for rounding": {"score": lambda rng: rng.choice([0.1 + 0.2, 0.3, 1 - 0.7])},
    "normal": {"score": lambda rng: rng.gauss(0, 1)},
    "minus zero and tiny": {"score": lambda rng: rng.choice([0.0, -0.0, 1e-12])},
    "equal texts": {"text": lambda rng, model, sample: rng.choice(["yes", "Yes ", "no"])},
    "hardly any text": {
        "text": lambda rng, model, sample: "said" if sample == 2 else rng.choice([" ", "", None])
    },
    "gaps": {"samples": lambda rng, model: rng.sample(range(1000), 4)},
    "text as number": {"number": str},
    "halves below zero": {"number": lambda sample: sample / 2 - 1},
    "large numbers": {"number": lambda sample: sample + 10**12},
    "one without a number": {"number": lambda sample: sample or None},
    "one that is NaN": {"number": lambda sample: float(sample) if sample else float("nan")},
}


@pytest.fixture(params=list(ODD))
def rows(request):
    return pool(request.param, **ODD[request.param])


@pytest.fixture
def file(rows, tmp_path):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def value(score):
    number = None if score is None else float(score)
    return None if number is None or math.isnan(number) else number


def key(row):
    number = value(row["sample"])
    return row["model"], 0.0 if number is None else number


def usable(rows, id_, *, rewarded=True):
    """The answers of an instruction that have text, and a reward."""
    own = [row for row in rows if row["id"] == id_ and (row["response"] or "").strip()]
    return [row for row in own if not rewarded or value(row["score"]) is not None]


def variance(values):
    mean = sum(values) / len(values)
    return sum((each - mean) ** 2 for each in values) / len(values)


def eligible(file, **options):
    """The table of a selection; nothing where no row can be chosen."""
    try:
        return chosen(file, **options)
    except BudgetError as error:
        assert "0 instructions are eligible" in str(error)  # noqa: PT017
        return []


def chosen(file, **options):
    given = {"budget": 1, "clusters": 0, "weights": {"difficulty": 1.0}, "keep": ("rewards=1..",)} | options
    with open_pool(file) as opened:
        return select(opened, Options(reward="score", cache=False, **given)).table.to_pylist()


def test_metrics(rows, file):
    with open_pool(file) as opened:
        table = metrics_table(look_at(opened, options=None, reward="score")[1])
    assert table["id"].to_pylist() == sorted({row["id"] for row in rows})
    for row in table.to_pylist():
        cells = {}
        for one in rows:
            if one["id"] == row["id"] and value(one["score"]) is not None:
                cells.setdefault(one["model"], []).append(Fraction(value(one["score"])))
        means = [sum(own) / len(own) for own in cells.values()]
        spread = [variance(own) for own in cells.values() if len(own) > 1]
        wanted = {
            "n_rewards": len(means),
            "mean_reward": float(sum(means) / len(means)) if means else None,
            "separability": float(variance(means)) if len(means) > 1 else None,
            "best_reward": max((float(max(own)) for own in cells.values()), default=None),
            "within": float(sum(spread) / len(spread)) if spread else None,
        }
        for name, number in wanted.items():
            found = row.get(name)  # a pool without two samples of a model has no `within`
            assert found == (None if number is None else pytest.approx(number, rel=1e-9, abs=1e-12)), name


@pytest.mark.parametrize("answer", ["best", "random", "top2-random", f"model:{MODELS[2]}"])
def test_answers(answer, rows, file):
    for row in chosen(file, answer=answer, weights={"rewards": 1.0}):
        own = usable(rows, row["id"], rewarded=answer != "random" and not answer.startswith("model:"))
        scores = {key(one): value(one["score"]) for one in own}
        if answer.startswith("model:"):
            mine = {at: score for at, score in scores.items() if at[0] == MODELS[2]}
            scores = {at: score for at, score in mine.items() if score is not None} or mine
        top = {"best": 1, "top2-random": 2}.get(answer, 1 if answer.startswith("model:") else None)
        ranked = sorted((score for score in scores.values() if score is not None), reverse=True)
        may = {
            at
            for at, score in scores.items()
            if top is None or not ranked or score >= ranked[min(top, len(ranked)) - 1]
        }
        if row["model"] is None:
            assert not may
        else:
            taken = row["model"], float(row["sample"] or 0)
            assert taken in may
            assert row["reward"] == scores[taken]


def pairs_of(rows, id_):
    own = usable(rows, id_)
    for one in own:
        for other in own:
            texts = {" ".join(each["response"].split()).casefold() for each in (one, other)}
            if len(texts) == 2 and value(one["score"]) > value(other["score"]):
                yield one, other


def test_the_widest_pair_of_all(rows, file):
    found = eligible(file, pairs="best-worst", weights={"rewards": 1.0}, keep=("rewards=0..",))
    assert found or not any(
        value(one["score"]) == max(value(each["score"]) for each in usable(rows, one["id"]))
        for id_ in {row["id"] for row in rows}
        for one, _ in pairs_of(rows, id_)
    )
    for row in found:
        if row["model"] is None:
            continue
        best = max(value(one["score"]) for one in usable(rows, row["id"]))
        assert row["reward"] == best
        taken = row["model"], float(row["sample"] or 0)
        worse = [value(other["score"]) for one, other in pairs_of(rows, row["id"]) if key(one) == taken]
        assert row["rejected_reward"] == min(worse, default=None)


def test_the_widest_pair_of_a_model(rows, file):
    found = eligible(file, pairs="within-model", weights={"rewards": 1.0}, keep=("rewards=0..",))
    assert found or not any(
        one["model"] == other["model"]
        for id_ in {row["id"] for row in rows}
        for one, other in pairs_of(rows, id_)
    )
    for row in found:
        margins = {
            (key(one), key(other)): value(one["score"]) - value(other["score"])
            for one, other in pairs_of(rows, row["id"])
            if one["model"] == other["model"]
        }
        widest = max(margins.values(), default=0.0)
        if row["model"] is None:
            assert widest < 1e-12  # equal but for rounding
            continue
        pair = tuple((row[f"{kind}model"], float(row[f"{kind}sample"])) for kind in ("", "rejected_"))
        assert margins[pair] == pytest.approx(widest)


@pytest.mark.parametrize("most", [2, 5])
def test_several_answers(most, rows, file):
    found = eligible(
        file, answers_per_row=most, keep=("rewards=0..", "best_reward=0.2.."), weights={"rewards": 1.0}
    )
    assert found or not any((value(row["score"]) or 0) >= 0.2 for row in rows)
    for row in found:
        if row["score"] is None:
            continue
        texts = {}
        for one in usable(rows, row["id"]):
            text, score = " ".join(one["response"].split()), value(one["score"])
            if score >= 0.2:
                texts[text] = max(score, texts.get(text, score))
        given = row["answers"]
        assert [each["reward"] for each in given] == sorted(texts.values(), reverse=True)[:most]
        own = {key(one): " ".join(one["response"].split()) for one in usable(rows, row["id"])}
        assert len({own[each["model"], float(each["sample"] or 0)] for each in given}) == len(given)


def test_order_file_type_and_seven_files_change_nothing(rows, file, tmp_path):
    table, places = pa.Table.from_pylist(rows), list(range(len(rows)))
    random.Random(1).shuffle(places)
    pq.write_table(table.take(places), tmp_path / "turned.parquet")
    plain = [{name: None if each != each else each for name, each in rows[at].items()} for at in places]  # noqa: PLR0124
    (tmp_path / "turned.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    (tmp_path / "seven").mkdir()
    home = np.array([int(id_[1:]) % 7 for id_ in table["id"].to_pylist()])
    for number in range(7):
        pq.write_table(table.take(np.flatnonzero(home == number)), tmp_path / "seven" / f"{number}.parquet")
    options = {"budget": 3, "keep": ("rewards=1..", "best_reward=10%.."), "answer": "best"}
    whole = chosen(file, **options)
    assert chosen(tmp_path / "turned.parquet", **options) == whole
    assert chosen(tmp_path / "turned.jsonl", **options) == whole
    with open_pool(tmp_path / "seven") as parts:
        told = Options(reward="score", cache=False, clusters=0, weights={"difficulty": 1.0}, **options)
        assert select(parts, told, run=run_here).table.to_pylist() == whole


def test_a_sample_more_changes_other_rows_through_its_own_numbers_alone(tmp_path):
    """Another sample of q03 with text and reward changes nothing of the other rows but their place among all."""
    rows = pool(5)
    more = [*rows, {**rows[0], "id": "q03", "instruction": "Question 3?", "sample": 9, "score": 1.0}]
    found = []
    for name, own in (("some", rows), ("more", more)):
        pq.write_table(pa.Table.from_pylist(own), tmp_path / f"{name}.parquet")
        for answer in ("best", "random", "top2-random"):
            of_all = chosen(tmp_path / f"{name}.parquet", answer=answer)
            found.append(
                [
                    [row[part] for part in ("id", "model", "sample", "reward", "difficulty", "within")]
                    for row in of_all
                    if row["id"] != "q03"
                ]
            )
    assert found[:3] == found[3:]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (lambda sample: "abc"[sample], "row 1: the sample is 'a'; wanted a number"),
        (lambda sample: f"sample_{sample}", "row 1: the sample is 'sample_0'"),
        (lambda sample: sample + 2**53, "row 1: the sample is '9.0072e\\+15'"),
        (lambda sample: float("inf") if sample == 1 else float(sample), "row 2: the sample is 'inf'"),
    ],
)
@pytest.mark.parametrize("second", [False, True])
def test_a_sample_that_is_no_number_is_refused(number, said, second, tmp_path):
    rows = [
        {"id": id_, "instruction": id_, "model": m, "sample": number(s), "response": f"{s}", "score": 1.0}
        for id_ in ("p", "q")
        for m in MODELS
        for s in range(3)
    ]
    table = pa.Table.from_pylist(rows)
    own = table.drop_columns(["score"]).set_column(3, "sample", pa.array([0, 1, 2] * 6))
    pq.write_table(own if second else table, tmp_path / "pool.parquet")
    pq.write_table(table.select(["id", "model", "sample", "score"]), tmp_path / "rewards.parquet")
    rewards = tmp_path / "rewards.parquet" if second else None
    with (
        open_pool(tmp_path / "pool.parquet", rewards=rewards) as opened,
        pytest.raises(InputError, match=said),
    ):
        opened.scores("score")


@pytest.mark.parametrize("none", [None, float("nan")])
def test_answers_without_a_number_are_numbered_by_their_content(none, tmp_path):
    found = []
    for number in (none, 0):
        rows = pool(3, samples=lambda rng, model: range(3), number=lambda sample: none if sample < 2 else 7)
        table = pa.Table.from_pylist(rows)
        file = tmp_path / f"{number}.parquet"
        pq.write_table(table if number is none else table.take(np.arange(len(table))[::-1]), file)
        with open_pool(file) as opened:
            found.append(select(opened, Options(budget=3, clusters=0, cache=False)).table)
            assert [note for note in opened.notes if "84 answers share instruction and model" in note]
    assert found[0].equals(found[1])
    assert set(found[0]["sample"].to_pylist()) <= {0, 1, 7}


@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 2), st.integers(0, 3)), max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_answers_in_order(answers, ordered, halves):
    answers = sorted(answers) if ordered else answers
    rows, models, samples = np.array(answers, dtype=np.int64).reshape(-1, 3).T
    samples = samples / 2 if halves else samples.astype(np.float64)
    keys, again = ordered_keys(rows, models, samples, width=3)
    cells = rows * 3 + models
    part = np.flatnonzero(rows >= 0)
    wanted = part[np.lexsort((part, samples[part], cells[part]))]
    assert keys.order.tolist() == wanted.tolist()
    assert keys.cell.tolist() == cells[wanted].tolist()
    assert keys.cells.tolist() == sorted(set(cells[part].tolist()))
    counts = Counter(zip(cells[part].tolist(), samples[part].tolist(), strict=True))
    assert sorted(again.tolist()) == [at for at in part.tolist() if counts[cells[at], samples[at]] > 1]


class Fake:
    """A source of texts, some of which have the same hash."""

    def __init__(self, texts, hashes):
        self._texts, self._hashes = texts, hashes

    def distinct(self, expression):
        texts = list(dict.fromkeys(self._texts))
        return pa.table(
            {"v": pa.array(texts, pa.string()), "h": pa.array([self._hashes[t] for t in texts], pa.uint64())}
        )

    def fetch(self, expression):
        if expression.startswith("hash"):
            return pa.table({"h": pa.array([self._hashes[text] for text in self._texts], pa.uint64())})
        return pa.table({"v": pa.array(self._texts, pa.string())})


@given(st.lists(st.sampled_from([None, "", "b", "a", "é", "zz"]), max_size=30), st.booleans())
def test_texts_are_numbered_in_code_point_order_whatever_their_hashes(texts, collide):
    hashes = {text: 7 if collide else place for place, text in enumerate(["zz", "a", None, "é", "b", ""])}
    known, codes = coded(Fake(texts, hashes), "text")
    wanted = sorted({text for text in texts if text is not None})
    assert known.to_pylist() == wanted
    assert codes.tolist() == [-1 if text is None else wanted.index(text) for text in texts]
    by_text = codes_of(pa.chunked_array([pa.array(texts, pa.string())]))
    assert by_text[0].to_pylist() == wanted
    assert by_text[1].tolist() == codes.tolist()
