"""Benchmark questions: read from every form, found in instructions, never chosen."""

import json
import re
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdselect import Options, open_pool, select
from crowdselect.errors import InputError, OptionError
from crowdselect.numeric.duplicates import normalised
from crowdselect.selection.benchmarks import BenchmarkQuestion, read_questions
from crowdselect.selection.folder import export, load_selection
from crowdselect.selection.overlap import (
    CHARACTERS,
    WORDS,
    contaminated,
)
from crowdselect.simulate.pool import simulate

LETTERS = st.sampled_from([*"abcAB .,!'_\n", "é", "é", "語", "本", "ส", "ำ", "،", " ", "한", "\x00"])


def _units(text: str) -> tuple[list[str], str]:
    """The oracle's own cut: a word is letters, digits, low lines and marks."""
    kept = "".join(c if c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M" else " " for c in text)
    return kept.split(), kept.replace(" ", "")


def _unspaced(text: str) -> int:
    return len(re.findall("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]", text))


def _oracle(texts: list[str | None], questions: list[BenchmarkQuestion]) -> list[int]:
    def shares(one: str, other: str) -> bool:
        a, b = normalised(one), normalised(other)
        words, others = _units(a)[0], _units(b)[0]
        runs = {tuple(others[i : i + WORDS]) for i in range(len(others) - WORDS + 1)}
        at_all = any(words[i : i + len(others)] == others for i in range(len(words) - len(others) + 1))
        if others and at_all and (len(others) >= 4 or 2 * len(others) >= len(words)):
            return True
        if a == b != "" or any(tuple(words[i : i + WORDS]) in runs for i in range(len(words) - WORDS + 1)):
            return True
        if not (_unspaced(a) and _unspaced(b)):
            return False
        ours, theirs = _units(a)[1], _units(b)[1]
        if len(theirs) >= 8 and theirs in ours:
            return True
        pieces = {theirs[i : i + CHARACTERS] for i in range(len(theirs) - CHARACTERS + 1)}
        pieces = {piece for piece in pieces if _unspaced(piece) >= CHARACTERS / 2}
        return any(ours[i : i + CHARACTERS] in pieces for i in range(len(ours) - CHARACTERS + 1))

    return [
        next((q for q, question in enumerate(questions) if text is not None and any(shares(text, t) for t in question.texts)), -1)
        for text in texts
    ]  # fmt: skip


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.text(LETTERS, max_size=90), min_size=1, max_size=2), max_size=4),
    st.lists(st.none() | st.text(LETTERS, max_size=90), max_size=5),
    st.data(),
)
def test_agrees_with_a_plain_comparison(
    asked: list[list[str]], texts: list[str | None], data: st.DataObject
) -> None:
    questions = [BenchmarkQuestion(str(row), tuple(turns)) for row, turns in enumerate(asked)]
    for turns in asked:  # pieces of questions inside other text
        cut = data.draw(st.integers(0, len(turns[0])))
        texts.append(data.draw(st.sampled_from(["", "q ", "語"])) + turns[0][cut:] + " z" + turns[-1])
    assert contaminated(texts, questions).tolist() == _oracle(texts, questions)


def test_thirteen_words_are_found_and_twelve_are_not() -> None:
    words = [f"word{i}" for i in range(30)]
    asked = [BenchmarkQuestion("a", ("one two",)), BenchmarkQuestion("b", (" ".join(words),))]
    inside = "Please: " + ", ".join(words[5 : 5 + WORDS]).upper() + "! Thanks"
    short = "Please: " + ", ".join(words[5 : 4 + WORDS]) + " thanks"
    assert contaminated(
        [inside, short, "ONE  two", "one two three", "one two three four five"], asked
    ).tolist() == [
        1,
        -1,
        0,
        0,  # a short question counts where it is half of the row
        -1,
    ]


def test_fifty_characters_of_an_unspaced_script_are_found_and_forty_nine_are_not() -> None:
    text = "".join(chr(0x4E00 + 7 * i) for i in range(120))
    asked = [BenchmarkQuestion("ja", (text[:60] + "。" + text[60:],))]
    assert contaminated([f"前{text[30:80]}後", f"前{text[30:79]}後", "x" * 60], asked).tolist() == [0, -1, -1]


def test_latin_letters_in_a_row_are_no_unspaced_script() -> None:
    sentence = "a b c d e f g h i j k l"  # twelve words
    asked = [BenchmarkQuestion("q", (sentence * 1 + " 語",))]
    assert contaminated(["語 " + sentence], asked).tolist() == [-1]


def test_the_first_question_is_named_and_all_turns_count() -> None:
    asked = [BenchmarkQuestion("1", ("x", "Now again")), BenchmarkQuestion("2", ("now AGAIN",))]
    assert contaminated(["now again"], asked).tolist() == [0]
    assert contaminated(["now again"], []).tolist() == [-1]
    assert contaminated([], asked).tolist() == []
    assert contaminated(["", " "], [BenchmarkQuestion("e", ("", " "))]).tolist() == [-1, -1]


def test_every_form_of_questions_is_read(tmp_path: Path) -> None:
    def write(name: str, *rows: object) -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(tmp_path / name)

    fastchat = write("fastchat.jsonl", {"question_id": 81, "category": "w", "turns": ["One", "Two"]})
    arena = write("arena.jsonl", {"uid": "abc", "category": "x", "cluster": "y", "prompt": "Do it"})
    newer = write("newer.jsonl", {"question_id": "d", "turns": [{"content": "Three"}, {"content": None}]})
    table = write("table.jsonl", {"id": "t1", "instruction": "Four", "other": [1]}, {"instruction": "Five"})
    pool = write("pool.jsonl", *({"id": "p", "instruction": "Six", "model": m, "score": 1} for m in "ab"))
    (tmp_path / "plain.txt").write_text("First line\n\nThird <script>\n", encoding="utf-8")
    assert read_questions(fastchat) == [BenchmarkQuestion("81", ("One", "Two"))]
    assert read_questions(arena) == [BenchmarkQuestion("abc", ("Do it",))]
    assert read_questions(newer) == [BenchmarkQuestion("d", ("Three",))]
    assert read_questions(table) == [
        BenchmarkQuestion("t1", ("Four",)),
        BenchmarkQuestion("table.jsonl:2", ("Five",)),
    ]
    assert read_questions(pool) == [BenchmarkQuestion("p", ("Six",))]
    assert read_questions(str(tmp_path / "plain.txt")) == [
        BenchmarkQuestion("plain.txt:1", ("First line",)),
        BenchmarkQuestion("plain.txt:3", ("Third <script>",)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.txt", "\n \n", "none.txt: holds no benchmark question; wanted turns"),
        (
            "odd.jsonl",
            '{"choices": [1]}\n',
            "odd.jsonl: no benchmark question in the columns choices; wanted turns",
        ),
        (
            "turns.jsonl",
            '{"question_id": 7, "turns": [3]}\n',
            "turns.jsonl: turns of '7' is '[3",
        ),
        ("broken.jsonl", "{", "broken.jsonl"),
    ],
)
def test_what_holds_no_questions_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(said)):
        read_questions(str(tmp_path / name))


def test_contaminated_rows_are_not_chosen_and_say_why(tmp_path: Path) -> None:
    simulate(tmp_path / "pool.parquet", instructions=60, seed=1)
    with open_pool(tmp_path / "pool.parquet") as pool:
        free = select(pool, Options(budget=10, clusters=0))
        texts = dict(zip(pool.ids, pool.instructions(), strict=True))
        lines = [
            texts[free.chosen[0]].upper().replace("\n", " "),
            "unrelated",
            texts[free.chosen[3]].replace("\n", "  "),
        ]
        (tmp_path / "bench.txt").write_text("\n".join(lines), encoding="utf-8")
        bench = str(tmp_path / "bench.txt")
        clean = select(pool, Options(budget=10, clusters=0, decontaminate=(bench,)))
        export(clean, pool, tmp_path / "out")
    first, other = clean.explain(free.chosen[0]), clean.explain(free.chosen[3])
    assert (first["reason"], other["reason"]) == ("contaminated:bench.txt:1", "contaminated:bench.txt:3")
    assert first["story"][-1] == "to be chosen: it stays out while bench.txt:1 is in the evaluation"
    assert clean.counts()["contaminated"] == 2
    assert not {free.chosen[0], free.chosen[3]} & set(clean.chosen)
    again = load_selection(tmp_path / "out")
    assert again.options["decontaminate"] == [bench]
    assert [(b["questions"], b["contaminated"]) for b in again.facts["benchmarks"]] == [(3, 2)]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "bench.txt" in card
    assert str(tmp_path) not in card  # a card is published; where a folder lay here is nobody's business


def test_files_are_a_list() -> None:
    with pytest.raises(
        OptionError, match=re.escape("`decontaminate='b.txt'` is not a list of files; write ['b.txt']")
    ):
        Options(budget=1, decontaminate="b.txt")  # type: ignore[arg-type]


def test_many_rows_take_seconds() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(3000)])
    asked = [
        BenchmarkQuestion(str(i), (" ".join(row),))
        for i, row in enumerate(words[rng.integers(0, 3000, (580, 60))])
    ]
    texts = [" ".join(row) for row in words[rng.integers(0, 3000, (5000, 60))]]
    start = time.perf_counter()
    assert (contaminated(texts, asked) == -1).all()
    assert time.perf_counter() - start < 5


@pytest.mark.real
def test_the_real_benchmarks_are_read_and_find_themselves(data: Path) -> None:
    for name, count in (("mt_bench_question.jsonl", 80), ("arena_hard_v0.1_question.jsonl", 500)):
        questions = read_questions(str(data / "eval" / name))
        assert len(questions) == count
        found = contaminated([question.texts[0] for question in questions], questions)
        assert (found >= 0).all()
        assert (found == np.arange(count)).mean() > 0.9
