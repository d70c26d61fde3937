"""A new method is one entry of the registry; what a method reads goes through `Seen`, and it says so."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.compare.selections import compare
from crowdselect.engine.here import run_here
from crowdselect.errors import InputError, OptionError
from crowdselect.methods import METHODS, Entry
from crowdselect.methods.ifd import KeptRatios
from crowdselect.report.data import ReportData
from crowdselect.selection.look import look_at
from crowdselect.selection.methods import CROWD, Method, Scored, Seen
from crowdselect.selection.reading import Answered, mapped
from crowdselect.selection.selection import score_line


def vowels(texts):
    return np.array([sum(text.lower().count(letter) for letter in "aeiou") for text in texts], dtype=float)


def by_vowels(*, of="answer", weighted=False):
    """A method as somebody adds one: a function over texts."""

    def score(seen, progress):
        counts = seen.map(vowels, of=of, progress=progress, size=7)
        return Scored(counts, {"no vowel": counts == 0}, notes=("vowels were counted",))

    return Method(name="vowels", arguments={"of": of}, score=score, weighted=weighted, needs=frozenset({of}))


def both(rows):
    return np.array([float(len(row.prompt[0]["content"] + row.answer)) for row in rows])


def by_both():
    """A method of prompts and answers."""

    def score(seen, progress):
        return Scored(seen.map(both, of="both", progress=progress, size=7))

    return Method(name="both", score=score, needs=frozenset({"instruction", "answer"}))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(
        METHODS, "vowels", Entry(make=by_vowels, help="Many vowels.", drawn=True, control=True)
    )


def _said(seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("aeibcd"), rng.integers(1, 40))) for _ in range(3)]


@pytest.fixture
def pool_file(tmp_path):
    rows = [
        {
            "id": f"i{i:02d}",
            "instruction": f"Say {'a' * (i % 5)} {i}",
            "model": f"qwen2.5-{m + 1}b",
            "response": said,
            "score": float((i * 7 + m * 3) % 11),
            "mark": float(i % 6),
            "tags": [f"t{i % 4}", f"t{i % 3}"],
            "vector": [float(i % 3), float(i % 5), 1.0],
        }
        for i in range(30)
        for m, said in enumerate(_said(i))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def _options(**more) -> Options:
    return Options(**{"budget": 6, "clusters": 0, "reward": "score", **more})


def test_a_method_of_ones_own_chooses_explains_compares_and_is_a_reference(toy, pool_file, tmp_path):
    with open_pool(pool_file) as pool:
        for seed in range(2):
            found = select(pool, _options(seed=seed), method=METHODS["vowels"]())
            export(found, pool, tmp_path / f"vowels-{seed}")
        export(select(pool, _options()), pool, tmp_path / "ours")
        rows = {row["id"]: row for row in found.table.to_pylist()}
        wanted = {
            id_: vowels(pool.responses([(id_, row["model"])]))[0] for id_, row in rows.items() if row["model"]
        }
    assert all(rows[id_]["score"] == count for id_, count in wanted.items() if count)
    lost = [row for row in rows.values() if row["reason"] == "no_score:no vowel"]
    assert [row["score"] for row in found.rows()] == sorted(
        (row["score"] for row in rows.values() if row["score"] is not None), reverse=True
    )[:6]
    assert "vowels were counted" in found.facts["notes"]
    read = load_selection(tmp_path / "vowels-0")
    assert (read.options["method"], read.options["of"]) == ("vowels", "answer")
    assert score_line(read.options) == "vowels (of answer)"
    told = read.explain(read.chosen[0])["story"]
    assert any(line.startswith("score ") for line in told)
    assert "weight" not in " ".join(told)
    assert all("the method leaves it out: no vowel" in found.explain(row["id"])["story"][-1] for row in lost)
    folders = [str(tmp_path / name) for name in ("ours", "vowels-0", "vowels-1")]
    compared = compare(folders, embedder="column:vector", clusters=2, cache=False)
    assert compared.random == f"{tmp_path} (2 seeds)"  # drawn: seeds of one method are the reference
    assert [side.method for side in compared.sides] == [score_line(load_selection(folders[0]).options)]


def test_a_weighted_method_of_ones_own_needs_the_metrics(pool_file):
    with open_pool(pool_file) as pool:
        method = replace(
            CROWD, name="doubled", score=lambda seen, progress: Scored(2 * CROWD.score(seen, progress).score)
        )
        doubled, ours = select(pool, _options(), method=method), select(pool, _options())
    assert doubled.chosen == ours.chosen
    assert doubled.options["weights"] == ours.options["weights"]
    assert "weight 2 adds" in " ".join(doubled.explain(doubled.chosen[0])["story"])
    assert score_line(doubled.options) == "doubled"


@pytest.mark.extra
def test_the_report_of_a_method_of_ones_own(toy, pool_file, tmp_path):
    for name in ("altair", "vl_convert"):
        pytest.importorskip(name, exc_type=ImportError)
    from crowdselect.report.report import write_report

    with open_pool(pool_file) as pool:
        export(select(pool, _options(), method=METHODS["vowels"]()), pool, tmp_path / "run")
        write_report(
            ReportData(load_selection(tmp_path / "run"), pool), tmp_path / "report.html", method="none"
        )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "by the method <b>vowels</b>" in page
    assert "each metric as the share of eligible rows below it" not in page


ARGUMENTS = [
    ("random", {}),
    ("length", {}),
    ("length", {"of": "answer"}),
    ("reward", {}),
    ("tags", {"column": "tags"}),
    ("column", {"column": "mark"}),
    ("deita", {"complexity": "mark", "quality": "score"}),
    ("facility-location", {}),
    ("facility-location", {"weight_by": "mark"}),
    ("facility-location", {"weight_by": "reward"}),
]


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS)
def test_a_method_reads_what_it_says_it_needs_and_nothing_else(name, arguments, pool_file, monkeypatch):
    texts, columns = set(), set()

    def noted(of):
        texts.update({"instruction", "answer"} if of == "both" else {of})

    own = Seen.map
    monkeypatch.setattr(Seen, "map", lambda *given, of, **more: noted(of) or own(*given, of=of, **more))
    for how in ("column", "numbers"):
        real = getattr(Seen, how)
        monkeypatch.setattr(Seen, how, lambda seen, name, real=real: columns.add(name) or real(seen, name))
    method = METHODS[name](**arguments)
    with open_pool(pool_file) as pool:
        select(pool, _options(embedder="column:vector"), method=method)
    assert texts == set(method.needs)
    assert columns == set(method.columns)
    assert method.name == name == method.settings["method"]
    assert json.dumps(method.settings)


@pytest.fixture
def cut(pool_file, tmp_path):
    table, folder = pq.read_table(pool_file), tmp_path / "cut"
    folder.mkdir()
    for part in range(3):
        pq.write_table(
            table.filter(pa.array([int(id_[1:]) % 3 == part for id_ in table["id"].to_pylist()])),
            folder / f"part-{part}.parquet",
        )
    return folder


@pytest.mark.parametrize(
    "method",
    [
        METHODS["length"](),
        METHODS["length"](of="answer", direction="down"),
        METHODS["tags"](column="tags"),
        METHODS["column"](column="mark"),
        METHODS["column"](column="score"),
        METHODS["deita"](complexity="mark", quality="score"),
        by_both(),
        by_vowels(of="instruction"),
    ],
)
@pytest.mark.parametrize(
    "options", [{}, {"answer": "random", "seed": 3, "embedder": "column:vector", "clusters": 2}]
)
def test_methods_that_read_texts_choose_the_same_file_by_file(method, options, cut):
    with open_pool(cut) as pool:
        here = select(pool, _options(**options), method=method)
        there = select(pool, _options(**options), method=method, run=run_here)
    assert there.table.equals(here.table)
    assert there.options == here.options
    assert there.facts["notes"] == here.facts["notes"]


def _texts(shards, known, rows, of):
    """Row → what a function of a method is given of it, three rows at a time at most."""
    given, read = [], {}

    def noted(texts):
        given.append(list(texts))
        return np.zeros(len(texts))

    for at, _ in mapped(noted, rows, shards=shards, known=known, of=of, size=3):
        assert len(at) == len(given[-1]) <= 3
        read.update(zip(at.tolist(), given[-1], strict=True))
    return read


def test_texts_are_the_same_file_by_file_in_batches_of_the_size_asked_for(cut):
    rows = np.array([0, 3, 4, 11, 12, 13, 14, 29])
    with open_pool(cut) as pool:
        options = _options(answer="random")
        ways = [look_at(pool, options=options, run=run) for run in (None, run_here)]
        for of in ("instruction", "answer", "both"):
            read = [_texts(*way, rows, of) for way in ways]
            assert read[0] == read[1]
            assert sorted(read[0]) == rows.tolist()
        assert read[0][3] == Answered(
            prompt=[{"role": "user", "content": "Say aaa 3"}],
            answer=pool.responses([("i03", pool.models[ways[0][1].answers.chosen[3]])])[0],
        )


def test_answers_of_a_pool_without_any_are_refused(tmp_path):
    rows = [
        {"id": f"i{i}", "instruction": f"Do {i}", "model": m, "score": float(i)}
        for i in range(4)
        for m in "ab"
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    with (
        open_pool(tmp_path / "p.parquet") as pool,
        pytest.raises(OptionError, match="the pool holds no answers"),
    ):
        select(pool, Options(budget=2, clusters=0), method=METHODS["length"](of="answer"))


class Halves:
    """Stands in for a language model."""

    loaded = 0
    computed = ()

    def __init__(self, model, **_):
        Halves.loaded += 1

    def ratios(self, rows):
        Halves.computed = (*Halves.computed, *(row.answer for row in rows))
        return np.array([np.nan if not row.answer else len(row.answer) / 8 for row in rows])


def test_kept_ratios_are_those_of_0_1_0_and_are_computed_once(tmp_path, monkeypatch):
    monkeypatch.setattr("crowdselect.methods.ifd.IfdModel", Halves)
    monkeypatch.setattr(Halves, "loaded", 0)
    monkeypatch.setattr(Halves, "computed", ())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    told = {"model": str(tmp_path / "model"), "max_length": 64, "batch_tokens": 64, "device": "cpu"}
    rows = [Answered(prompt=[{"role": "user", "content": "Q"}], answer="a" * (n % 4)) for n in range(6)]
    first = KeptRatios(tmp_path / "parts", **told)
    wanted = [np.nan, 0.125, 0.25, 0.375, np.nan, 0.125]
    np.testing.assert_array_equal(first(rows), wanted)
    assert Halves.computed == ("", "a", "aa", "aaa")  # equal ones once
    np.testing.assert_array_equal(first(rows), wanted)  # handed out again: its part is there
    assert len(Halves.computed) == 4
    again = KeptRatios(tmp_path / "parts", **told)
    np.testing.assert_array_equal(again(rows[2:]), wanted[2:])
    assert (len(Halves.computed), Halves.loaded) == (4, 1)  # nothing is missing: no model is loaded
    (part,) = (tmp_path / "parts").glob("part-*.parquet")
    stored = {row["key"].hex(): row["ratio"] for row in pq.read_table(part).to_pylist()}
    assert (
        stored["5d8927526f7a9436e53c086dd8e4ceaffbc64b4d6742383fca2f1576e9fad1cc"] == 0.125
    )  # as 0.1.0 has it
    other = KeptRatios(tmp_path / "parts", **{**told, "max_length": 32})
    other(rows[1:2])
    assert Halves.computed[4:] == ("a",)
    KeptRatios(None, **told)(rows[1:2])
    assert Halves.computed[5:] == ("a",)
    with pytest.raises(OptionError, match="`max_length=4` is too small"):
        KeptRatios(None, **{**told, "max_length": 4})


def test_a_number_that_is_none_is_named_with_its_row(pool_file):
    with (
        open_pool(pool_file) as pool,
        pytest.raises(InputError, match=r"instruction of id 'i00' is 'Say  0'"),
    ):
        select(pool, _options(), method=METHODS["deita"](complexity="instruction", quality="score"))
