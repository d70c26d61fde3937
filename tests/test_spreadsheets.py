"""Tables of scores that people keep in spreadsheets, as they come out of them."""

import csv
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Ran
from crowds import ALL, Row, write
from crowdselect import open_pool
from crowdselect.errors import InputError, LayoutError, RewardError

NAMES = ("GPT-4 (June)", "ash-1b", "oak 7b")
PROMPTS = [f"Describe the river number {i}." for i in range(20)]


def answer(prompt: str, model: str) -> str:
    return f"{model} says: {prompt}"


def score(prompt: str, model: str) -> float:
    return (PROMPTS.index(prompt) * 7 + NAMES.index(model) * 5) % 10 + 0.5


def wide(scored: str, answered: str = "", value: Callable[[str, str], Any] = score, **more: Any) -> list[Row]:
    """A row per prompt, with a column of scores for each model, and one of its answers if that has a name."""
    rows = []
    for prompt in PROMPTS:
        row: Row = {"Prompt": prompt, **more}
        for model in NAMES:
            row |= {answered.format(model): answer(prompt, model)} if answered else {}
            row[scored.format(model)] = value(prompt, model)
        rows.append(row)
    return rows


def long(value: Callable[[str, str], Any], name: str = "score") -> list[Row]:
    return [
        {"prompt": p, "model": m, "response": answer(p, m), name: value(p, m)} for p in PROMPTS for m in NAMES
    ]


def battles(value: Callable[[str, str], Any]) -> list[Row]:
    rows = []
    for prompt in PROMPTS:
        sides = zip("ab", NAMES[:2], strict=True)
        parts = [
            {f"model_{s}": m, f"response_{s}": answer(prompt, m), f"score_{s}": value(prompt, m)}
            for s, m in sides
        ]
        rows.append({"prompt": prompt, **parts[0], **parts[1]})
    return rows


def table(path: Path, rows: list[list[Any]], sign: str = ",") -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=sign).writerows(rows)
    return str(path)


def cells(rows: list[Row]) -> list[list[Any]]:
    return [list(rows[0]), *(list(row.values()) for row in rows)]


# The names of columns


@pytest.mark.parametrize(
    ("answered", "scored"),
    [
        ("{} Answer", "{} Score"),
        ("{} response", "{} RATING"),
        ("Answer {}", "Score {}"),
        ("{}: answer", "{}: score"),
        ("{} (output)", "{} (score)"),
        ("{}.output", "{}.reward"),
        ("completion-{}", "grade-{}"),
        ("{}_answer", "{}_points"),
        ("Answer ({})", "Points ({})"),
        ("response_{}", "score_{}"),
    ],
)
@pytest.mark.parametrize("said", [True, False])
def test_columns_say_whose_they_are(answered: str, scored: str, said: bool, tmp_path: Path) -> None:  # noqa: FBT001  (of pytest)
    rows = wide(scored, answered if said else "")
    for kind in ("csv", "jsonl", "parquet"):
        with open_pool(write(tmp_path, rows, kind)) as pool:
            assert pool.models == NAMES
            assert pool.layout == ("column pairs" if said else "matrix")
            texts = list(pool.instructions())
            assert pool.scores().tolist() == [[score(t, m) for m in NAMES] for t in texts]
            if said:
                wanted = [(pool.ids[3], name) for name in NAMES]
                assert pool.responses(wanted) == [answer(texts[3], name) for name in NAMES]


@ALL
def test_answers_without_a_score_are_of_no_model(kind: str, tmp_path: Path) -> None:
    rows = wide("{} Score", "{} Answer", **{"Reference Answer": "It is long.", "elm-3b Answer": "Wet."})
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == NAMES
        assert "but of no model: Reference Answer, elm-3b Answer;" in str(pool.read_as)


@ALL
def test_numbered_answers_are_of_no_named_model(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": p, "Answer 1": "Yes.", "Score 1": 1, "Answer 2": "No.", "Score 2": 2} for p in PROMPTS]
    with pytest.raises(LayoutError, match="lacks the model that gave the answers in 'Answer 1'"):
        open_pool(write(tmp_path, rows, kind))


@ALL
def test_several_scores_of_each_model(kind: str, tmp_path: Path) -> None:
    rows = wide("{} Score")
    for i, row in enumerate(rows):
        row |= {f"{name} Rating": i for name in NAMES}
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == NAMES
        assert set(pool.reward_columns) == {"score", "rating"}
        assert pool.scores("score").tolist() == [[score(t, m) for m in NAMES] for t in pool.instructions()]


@ALL
@pytest.mark.parametrize("id_", [{}, {"id": ""}])
def test_other_numbers_beside_scores_of_models_are_no_models(
    id_: dict[str, str], kind: str, tmp_path: Path
) -> None:
    rows = [
        {**({"id": f"q{i}"} if id_ else {}), **row, "Words": i % 3} for i, row in enumerate(wide("{} Score"))
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == NAMES
        told = [str(pool.read_as), *pool.notes]
        assert any(re.search(r"(but no model|not models, .*): .*Words", line) for line in told)


@ALL
def test_numbers_about_answers_are_no_answers(kind: str, tmp_path: Path) -> None:
    rows = [{**row, "response_time": i} for i, row in enumerate(wide("score_{}", "response_{}"))]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == NAMES
        assert "but of no model: response_time;" in str(pool.read_as)


# A text among the scores of a model


@ALL
@pytest.mark.parametrize(
    ("scored", "answered"),
    [("{}", ""), ("{} Score", ""), ("{} Score", "{} Answer"), ("score_{}", "response_{}")],
)
@pytest.mark.parametrize("id_", [{}, {"id": ""}])
def test_a_text_among_the_scores_of_a_model(
    id_: dict[str, str], scored: str, answered: str, kind: str, tmp_path: Path
) -> None:
    rows = [{**({"id": f"q{i}"} if id_ else {}), **row} for i, row in enumerate(wide(scored, answered))]
    rows = [{name: str(value) for name, value in row.items()} for row in rows]
    for text in ("?", "-", "k.A."):
        rows[4][scored.format("oak 7b")] = text
        path = write(tmp_path, rows, kind)
        told = re.escape(f"row 5: {scored.format('oak 7b')} is '{text}', not a number; leave it empty")
        with pytest.raises(InputError, match=f"{told}.*; 1 of 20 rows is malformed"):
            open_pool(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert pool.models == NAMES
        assert pool.malformed == 1
        assert np.isnan(pool.scores()).sum() == len(NAMES)


@ALL
@pytest.mark.parametrize("count", [3, 5])
def test_one_text_is_enough_in_a_small_file(count: int, kind: str, tmp_path: Path) -> None:
    rows = [{name: str(value) for name, value in row.items()} for row in wide("{}")[:count]]
    rows[1]["ash-1b"] = "failed"
    with pytest.raises(InputError, match=f"row 2: ash-1b is 'failed'.* 1 of {count} rows"):
        open_pool(write(tmp_path, rows, kind))


@ALL
def test_a_column_of_many_texts_is_no_model_and_told(kind: str, tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", **row} for i, row in enumerate(wide("{}", stage="1"))]
    rows = [{name: str(value) for name, value in row.items()} for row in rows]
    for row in rows[::4]:
        row["stage"] = "last"
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == NAMES
        assert "but no model: stage (many of its values are texts)" in str(pool.read_as)
        assert set(pool.column("stage")) == {"1", "last"}


@ALL
def test_longer_texts_are_no_scores(kind: str, tmp_path: Path) -> None:
    rows = [{name: str(value) for name, value in row.items()} for row in wide("{}", note="2")]
    rows[3]["note"] = "The annotators did not agree about this river at all."
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.models == NAMES


# Scores that are texts throughout

AS_TEXT: dict[str, Callable[[str, str], str]] = {
    "8.5/10": lambda p, m: f"{score(p, m)}/10",
    "7,5/10": lambda p, m: f"{score(p, m)}/10".replace(".", ","),
    "85%": lambda p, m: f"{score(p, m) * 10:g}%",
    "85 %": lambda p, m: f"{score(p, m) * 10:g} %",
    "B+": lambda p, m: ["A", "B+", "B", "C-", "F"][int(score(p, m)) // 2],
}
SHAPES: dict[str, Callable[[Callable[[str, str], str]], list[Row]]] = {
    "long": long,
    "Rating": lambda value: long(value, "Rating"),
    "pairs": lambda value: wide("{} Score", "{} Answer", value),
    "named": lambda value: wide("{} score", "", value),
    "matrix": lambda value: wide("{}", "", value),
    "battles": battles,
}


def refused(path: Path, form: str) -> str:
    """What is said of scores that are texts."""
    with pytest.raises(
        (LayoutError, RewardError), match=r"row 1\b.*; the scores are texts, wanted numbers; "
    ) as told:
        open_pool(path).scores()
    assert repr(AS_TEXT[form](PROMPTS[0], NAMES[0])) in str(told.value)
    return str(told.value)


@ALL
@pytest.mark.parametrize("form", AS_TEXT)
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_that_are_texts_are_told(shape: str, form: str, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, SHAPES[shape](AS_TEXT[form]), kind)
    assert f"df = pd.read_{'json' if kind == 'jsonl' else kind}({str(path)!r}" in refused(path, form)


@ALL
@pytest.mark.extra
@pytest.mark.parametrize("form", AS_TEXT)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_line_makes_numbers_of_them(
    shape: str, form: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    told = refused(write(tmp_path, SHAPES[shape](AS_TEXT[form]), kind), form)
    monkeypatch.chdir(tmp_path)
    exec(told.partition("pandas makes them")[2].partition(": ")[2], {"pd": pandas})
    with open_pool("pool.parquet") as pool:
        assert set(pool.models) <= set(NAMES)
        order = [PROMPTS.index(text) for text in pool.instructions()]
        read, true = pool.scores(), np.array([[score(p, m) for m in pool.models] for p in PROMPTS])[order]
        assert not np.isnan(read).any()
        if form != "B+":
            assert np.allclose(read * true.max() / read.max(), true)


BESIDE = ("k. A.", "n. v. ", "NA", "none")  # no numbers, and for pandas texts but for one


def some_odd(form: str) -> Callable[[str, str], str]:
    """Scores of a form, and for the instructions 3 to 6 a text that stands for none."""
    value: Callable[[str, str], str] = {**AS_TEXT, "7,5": lambda p, m: f"{score(p, m)}".replace(".", ",")}[
        form
    ]
    return lambda p, m: BESIDE[at - 3] if 3 <= (at := PROMPTS.index(p)) < 7 else value(p, m)


@pytest.mark.extra
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "csv;"])
@pytest.mark.parametrize("form", ["7,5", "8.5/10", "85 %", "B+"])
@pytest.mark.parametrize("shape", ["long", "pairs"])
def test_the_line_empties_what_stands_for_no_number(
    shape: str, form: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    rows = SHAPES[shape](some_odd(form))
    path = write(tmp_path, rows, kind.rstrip(";"))
    if kind == "csv;":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter=";")
            table.writeheader()
            table.writerows(rows)
    with pytest.raises((LayoutError, RewardError), match=r"\(emptying 'k. A.'") as told:
        open_pool(path).scores()
    monkeypatch.chdir(tmp_path)
    exec(re.split(r"pandas (?:makes them|changes that).*?: ", str(told.value))[1], {"pd": pandas})
    with open_pool("pool.parquet") as pool:
        order = [PROMPTS.index(text) for text in pool.instructions()]
        read = pool.scores()[np.argsort(order)]
        true = np.array([[score(p, m) for m in pool.models] for p in PROMPTS])
        assert np.isnan(read[3:7]).all()
        read, true = np.delete(read, range(3, 7), 0), np.delete(true, range(3, 7), 0)
        assert not np.isnan(read).any()
        if form != "B+":
            assert np.allclose(read * true.max() / read.max(), true)


@ALL
@pytest.mark.parametrize(
    ("form", "other"),
    [("7,5", "1.234,5"), ("7,5", "7-8"), ("8.5/10", "8"), ("85 %", "85"), ("B+", "2")],
)
def test_no_line_empties_what_may_be_a_score(form: str, other: str, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, [*long(some_odd(form))[:30], {**long(score)[-1], "score": other}], kind)
    with pytest.raises(RewardError) as told:
        open_pool(path).scores()
    assert f"; score holds '{other}', too: write all scores as numbers" in str(told.value)
    assert "pd." not in str(told.value)


@pytest.mark.extra
def test_the_line_reads_numbers_beside_scores_that_are_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    rows = long(lambda p, m: score(p, m) if PROMPTS.index(p) % 2 else some_odd("7,5")(p, m))
    with pytest.raises(RewardError) as told:
        open_pool(write(tmp_path, rows, "jsonl")).scores()
    monkeypatch.chdir(tmp_path)
    exec(str(told.value).partition("pandas makes them")[2].partition(": ")[2], {"pd": pandas})
    with open_pool("pool.parquet") as pool:
        assert np.isnan(pool.scores()).sum() == 2 * len(NAMES)


def test_a_share_of_what_is_asked_for_is_no_score(tmp_path: Path) -> None:
    with open_pool(write(tmp_path, wide("{}", share="85%", option="B"), "csv")) as pool:
        assert pool.models == NAMES


def test_inspect_says_that_scores_are_texts(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = write(tmp_path, long(AS_TEXT["85%"]), "csv")
    seen = run("inspect", path)
    assert seen.code == 0
    assert re.search(r"warning: .*score is '5%' at id '\w+' \(.*: row 1\); the scores are texts", seen.err)
    other = write(tmp_path, [{**row, "quality": 1.5} for row in long(AS_TEXT["85%"])], "csv", "other")
    run("select", other, "--budget", "3", "-o", str(tmp_path / "out")).refuses("score is '5%' at id ")


# Headings

TITLES = [["Evaluation, June 2026", "", "", ""], ["", "", "", ""], ["by the team", "", "", ""]]


def made_by_line(told: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the line of pandas that a message proposes."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(folder)
    exec(told.partition("let pandas: ")[2], {"pd": pandas})
    return "pool.csv"


def refused_table(path: str, **how: Any) -> str:
    with pytest.raises(InputError) as told:
        open_pool(path, **how)
    return str(told.value)


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("unnamed", ["", "Unnamed: {}"])
def test_titles_above_the_headings(unnamed: str, sign: str, tmp_path: Path) -> None:
    first = [TITLES[0][0], *(unnamed.format(at) for at in (1, 2, 3))]
    path = table(tmp_path / "sheet.csv", [first, *TITLES[1:], *cells(long(score))], sign)
    for how in ({}, {"skip_invalid": True}):
        told = refused_table(path, **how)
        assert told.startswith(
            f"{path}: line 1 has 3 empty headings; the header seems to be line 4, the first with all cells filled "
            "(prompt, model, response, score); delete the lines above it, or let pandas: "
        )


@pytest.mark.extra
@pytest.mark.parametrize("blank", [[""] * 4, []])
@pytest.mark.parametrize("sign", [",", ";"])
def test_the_line_that_leaves_titles_out(
    sign: str, blank: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "sheet.csv", [TITLES[0], blank, TITLES[2], *cells(long(score))], sign)
    with open_pool(made_by_line(refused_table(path), tmp_path, monkeypatch)) as pool:
        assert pool.models == NAMES
        assert len(pool.ids) == len(PROMPTS)


MERGED = {
    "prompt below": (
        ["", *(part for name in NAMES for part in (name, ""))],
        ["Prompt", *["Answer", "Score"] * 3],
    ),
    "prompt above": (
        ["Prompt", *(part for name in NAMES for part in (name, ""))],
        ["", *["Answer", "Score"] * 3],
    ),
}


@pytest.mark.extra
@pytest.mark.parametrize("sign", [",", ";"])
@pytest.mark.parametrize("form", MERGED)
def test_headings_of_merged_cells(
    form: str, sign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = [["Evaluation", *[""] * 6], [""] * 7]
    data = cells(wide("{} Score", "{} Answer"))[1:]
    path = table(tmp_path / "sheet.csv", [*titles, *MERGED[form], *data], sign)
    told = refused_table(path)
    assert (
        "line 1 has 6 empty headings; the header seems to be lines 3 and 4, with merged cells; write each"
        in told
    )
    with open_pool(made_by_line(told, tmp_path, monkeypatch)) as pool:
        assert (pool.layout, pool.models) == ("column pairs", NAMES)
        assert pool.scores().tolist() == [[score(t, m) for m in NAMES] for t in pool.instructions()]


def levels(*above: list[str], models: str = "model") -> list[list[Any]]:
    """What pandas writes of a pivot: a line of what the columns hold, one of models, those above, and the data."""
    kinds = [kind for kind in ("response", "score") for _ in NAMES]
    data = [
        [*[n, p][2 - len(above[0]) :], *(answer(p, m) for m in NAMES), *(score(p, m) for m in NAMES)]
        for n, p in enumerate(PROMPTS)
    ]
    data[1][-5:-3] = ["None", ""]
    data[1][-1] = ""
    heads = [[*above[0], *kinds], [models, *above[0][1:], *NAMES, *NAMES]]
    if len(above) > 1:
        heads = [[*[""] * len(above[1]), *kinds], [models, *[""] * (len(above[1]) - 1), *NAMES, *NAMES]]
        heads.append([*above[1], *[""] * len(kinds)])
    return [*heads, *data]


def swapped(rows: list[list[Any]]) -> list[list[Any]]:
    return [rows[1], rows[0], *rows[2:]]


PIVOTS = {
    "two index columns": levels(["", ""], ["task_id", "prompt"]),
    "one index column": levels([""], ["prompt"]),
    "no name of the models": levels(["", ""], ["task_id", "prompt"], models=""),
    "names in line 1": levels(["task_id", "prompt"], models=""),
    "models above": swapped(levels([""], ["prompt"])),
    "models above, names in line 2": swapped(levels(["task_id", "prompt"], models="")),
}


@pytest.mark.extra
@pytest.mark.parametrize("sign", [",", ";"])
@pytest.mark.parametrize("form", PIVOTS)
def test_several_lines_of_headings(
    form: str, sign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "pivot.csv", PIVOTS[form], sign)
    told = refused_table(path)
    assert told.startswith(
        f"{path}: the file seems to have several lines of headings, as a pandas pivot has: line 1 ("
    )
    with open_pool(made_by_line(told, tmp_path, monkeypatch)) as pool:
        assert (pool.layout, pool.models) == ("long", NAMES)
        texts = pool.instructions().tolist()
        assert sorted(texts) == sorted(PROMPTS)
        at = texts.index(PROMPTS[1])
        wanted = [[score(t, m) for m in NAMES] for t in texts]
        wanted[at][-1] = float("nan")
        assert str(pool.scores("score").tolist()) == str(wanted)
        own = pool.ids[at]
        cells = [(own, NAMES[0]), (own, NAMES[1]), (own, NAMES[2])]
        assert pool.responses(cells) == [answer(PROMPTS[1], NAMES[0]), "None", None]


def test_names_that_are_only_twice_there_are_no_levels(tmp_path: Path) -> None:
    for first in (["prompt", "response", "response"], ["prompt", "score", "score"]):
        rows = [first, ["Name a prime.", "Two.", "Three."], ["Name a river.", "Elbe.", "Rhine."]]
        told = refused_table(table(tmp_path / "twice.csv", rows))
        assert "differ at most in case; rename one" in told


@pytest.mark.parametrize("how", [{}, {"skip_invalid": True}])
def test_columns_without_a_name_or_a_value_are_none(how: dict[str, Any], tmp_path: Path) -> None:
    for rows in (cells(long(score)), cells(wide("{}"))):
        path = table(tmp_path / "sheet.csv", [[*row, "", ""] for row in rows], ";")
        with open_pool(path, **how) as pool:
            assert pool.models == NAMES
            assert pool.malformed == 0
            assert not any("pandas" in note for note in pool.notes)
    path = table(tmp_path / "sheet.csv", [rows[0], *([*row, "", ""] for row in rows[1:])])
    with open_pool(path, **how) as pool:
        assert (pool.models, pool.malformed) == (NAMES, 0)
    rows = [[*row, "", ""] for row in cells(long(score))]
    rows[7][5] = "sic"
    told = refused_table(table(tmp_path / "sheet.csv", rows), **how)
    assert told.endswith("row 7: column 6 has no name, and holds 'sic'; name it in the header, or delete it")


def test_other_tables_have_no_titles(tmp_path: Path) -> None:
    rows = cells(long(score))
    with open_pool(
        table(tmp_path / "index.csv", [["", *rows[0]], *([i, *r] for i, r in enumerate(rows[1:]))])
    ) as pool:
        assert pool.models == NAMES
    path = tmp_path / "one.csv"
    path.write_text("prompt\nGo, and look\nSwim.\nRun.\n")
    with pytest.raises(LayoutError, match="lacks the answers"):
        open_pool(path)


FOOT = "row 21 seems to sum up the others; delete it if it does: here it is an instruction"


@pytest.mark.parametrize("answered", ["", "{} Answer"])
@pytest.mark.parametrize("word", ["Average", "total:", "Mittelwert"])
def test_a_row_that_sums_up_the_others_is_told(word: str, answered: str, tmp_path: Path) -> None:
    rows = cells(wide("{} Score", answered))
    foot = [word, *("" if "Answer" in name else 5.5 for name in rows[0][1:])]
    with open_pool(table(tmp_path / "sheet.csv", [*rows, foot])) as pool:
        assert [note for note in pool.notes if note.endswith(FOOT)]
    with open_pool(table(tmp_path / "other.csv", rows)) as pool:
        assert not [note for note in pool.notes if "sum up" in note]
    path = table(tmp_path / "sheet.csv", [*rows, ["", *foot[1:]]])
    assert "row 21: it has neither an id nor text" in refused_table(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert pool.malformed == 1


def test_a_footer_of_rows_with_one_answer_is_malformed(tmp_path: Path) -> None:
    rows = [*cells(long(score)), ["Average", "", "", 5.5]]
    path = table(tmp_path / "sheet.csv", rows)
    assert "row 61: the model is missing" in refused_table(path)
    with open_pool(path, skip_invalid=True) as pool:
        assert pool.malformed == 1
        assert not [note for note in pool.notes if "sum up" in note]


# Databases


@pytest.mark.parametrize("ending", ["sqlite3", "sqlite", "db"])
def test_a_database_is_told_with_a_line_that_writes_a_table(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"the judge's.{ending}")
    with closing(sqlite3.connect(path)) as base:
        base.execute("CREATE TABLE runs (started TEXT, prompt TEXT)")
        base.execute('CREATE TABLE "all answers" (prompt TEXT, model TEXT, response TEXT, score REAL)')
        base.executemany(
            'INSERT INTO "all answers" VALUES (?, ?, ?, ?)', [tuple(r.values()) for r in long(score)]
        )
        base.commit()
    before = path.read_bytes()
    with pytest.raises(InputError) as caught:
        open_pool(path)
    told = str(caught.value)
    assert "tables runs (started, prompt); all answers (prompt, model, response, score); write" in told
    line = shlex.split(told.partition("join): ")[2].partition("; wanted .parquet")[0])
    subprocess.run([sys.executable, *line[1:]], check=True)
    assert path.read_bytes() == before
    assert sorted(file.name for file in Path().iterdir()) == ["pool.csv", path.name]
    with open_pool("pool.csv") as pool:
        assert (pool.models, len(pool.ids)) == (NAMES, len(PROMPTS))


def test_a_database_that_cannot_be_read_or_is_empty_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(InputError, match="an SQLite database that cannot be read"):
        open_pool(path)
    with closing(sqlite3.connect(tmp_path / "b.db")) as base:
        base.execute("CREATE TABLE t (a)")
        base.execute("DROP TABLE t")
        base.commit()
    with pytest.raises(InputError, match="an SQLite database without a table"):
        open_pool(tmp_path / "b.db")
    path.write_bytes(b"no database")
    with pytest.raises(InputError, match="unknown file type"):
        open_pool(path)
