"""Cells of spreadsheets: merged ones, numbers in wide digits, texts among scores."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Ran
from crowds import ALL, Row, write
from crowdselect import open_pool
from crowdselect.collect.instructions import open_instructions
from crowdselect.errors import CrowdselectError, InputError, RewardError
from crowdselect.pool.columns import Kind, as_number
from crowdselect.pool.connection import connect

NAMES = ("ash-1b", "elm-2b", "oak-7b")
PROMPTS = [f"Describe the river number {i}." for i in range(12)]
USUAL = ("id", "instruction", "model", "response", "score")
OTHER = ("No.", "prompt", "model", "answer", "score")


def score(i: int, j: int) -> int:
    return (3 * i + 2 * j) % 7


def sheet(names: tuple[str, ...] = USUAL, value: Callable[[int, int], Any] = score) -> list[Row]:
    """A row per answer, as on a sheet: number, question, model, answer, score."""
    return [
        dict(zip(names, (i + 1, p, m, f"{m} says: {p}", value(i, j)), strict=True))
        for i, p in enumerate(PROMPTS)
        for j, m in enumerate(NAMES)
    ]


def merged(rows: list[Row], *names: str) -> list[Row]:
    return [row | (dict.fromkeys(names, None) if at % len(NAMES) else {}) for at, row in enumerate(rows)]


def line_of(told: object) -> str:
    return re.split(r"; pandas [^:]*: ", str(told), maxsplit=1)[1]


# Merged cells

MERGED: dict[str, tuple[list[Row], dict[str, Any]]] = {
    "all": (merged(sheet(), "id", "instruction"), {}),
    "without an id": (
        merged([{n: v for n, v in r.items() if n != "id"} for r in sheet()], "instruction"),
        {},
    ),
    "an id per row": (
        merged([r | {"id": 100 + at} for at, r in enumerate(sheet())], "instruction"),
        {"id": ""},
    ),
    "other names": (merged(sheet(OTHER), "No.", "prompt"), {}),
    "a named id": (merged(sheet(OTHER), "No.", "prompt"), {"id": "No."}),
    "an id per row, other names": (
        merged([r | {"No.": 100 + at} for at, r in enumerate(sheet(OTHER))], "prompt"),
        {},
    ),
    "the model": (
        [
            row | ({"model": None} if at % len(PROMPTS) else {})
            for at, row in enumerate(sorted(sheet(), key=lambda row: str(row["model"])))
        ],
        {},
    ),
}


@ALL
@pytest.mark.extra
@pytest.mark.parametrize("shape", MERGED)
def test_merged_cells_are_told_with_the_line_that_fills_them(
    shape: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pandas = pytest.importorskip("pandas")
    rows, named = MERGED[shape]
    path = write(tmp_path, rows, kind)
    with pytest.raises(
        InputError, match=r"row 2: .* is empty, as in \d+ of 36 rows, and filled above"
    ) as told:
        open_pool(path, columns=named)
    with pytest.raises(InputError, match=re.escape(str(told.value))):
        open_pool(path, columns=named, skip_invalid=True)
    monkeypatch.chdir(tmp_path)
    exec(line_of(told.value), {"pd": pandas})
    with open_pool("pool.parquet", columns=named) as pool:
        assert pool.models == NAMES
        assert sorted(pool.instructions()) == sorted(PROMPTS)
        at = [PROMPTS.index(text) for text in pool.instructions()]
        assert pool.scores("score").tolist() == [[score(i, j) for j in range(3)] for i in at]


@ALL
def test_a_row_without_a_model_below_another_question_is_no_merged_cell(kind: str, tmp_path: Path) -> None:
    rows = [r | {"id": f"q{at}", "instruction": f"Question {at}?"} for at, r in enumerate(sheet())]
    path = write(tmp_path, [r | ({"model": None} if at % 2 else {}) for at, r in enumerate(rows)], kind)
    with pytest.raises(InputError, match="the model is missing") as told:
        open_pool(path)
    assert "merged" not in str(told.value)
    with open_pool(path, skip_invalid=True) as pool:
        assert pool.malformed == len(rows) // 2


@ALL
def test_texts_that_stand_once_beside_their_id_are_read(kind: str, tmp_path: Path) -> None:
    for names in (USUAL, ("id", *OTHER[1:])):
        with open_pool(write(tmp_path, merged(sheet(names), names[1]), kind)) as pool:
            assert sorted(pool.instructions()) == sorted(PROMPTS)
            assert not np.isnan(pool.scores("score")).any()


@ALL
def test_other_empty_cells_are_malformed_rows(kind: str, tmp_path: Path) -> None:
    gone = {"id": None, "instruction": None}
    for rows in (
        [row | (gone if at % 5 == 1 else {}) for at, row in enumerate(sheet())],  # too few
        [row | (gone if at % 3 != 1 else {}) for at, row in enumerate(sheet())],  # none above the first
        [row | (gone if row["id"] % 2 == 0 else {}) for row in sheet()],  # of the same model as one above
    ):
        with pytest.raises(InputError, match=r"\d+ of 36 rows are malformed: correct them"):
            open_pool(write(tmp_path, rows, kind))


# Numbers in the digits of Chinese and Japanese keyboards

WIDE = str.maketrans("0123456789.-", "０１２３４５６７８９．－")  # noqa: RUF001


@ALL
@pytest.mark.parametrize("names", [USUAL, OTHER])
def test_wide_digits_are_digits(names: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    def spelt(i: int, j: int) -> str:
        text = str((i - 3) / 2 if j else i)
        return (
            {0: text, 1: text.translate(WIDE), 2: f"{text.translate(WIDE)}\u3000"}[(i + j) % 3]
            if i
            else "NA\u3000"
        )

    with open_pool(write(tmp_path, sheet(names, spelt), kind)) as pool:
        at = [PROMPTS.index(text) for text in pool.instructions()]
        wanted = [[(i - 3) / 2 if j else i for j in range(3)] if i else [np.nan] * 3 for i in at]
        assert np.array_equal(pool.scores("score"), wanted, equal_nan=True)


def test_what_only_looks_like_a_number_is_told_with_its_row(tmp_path: Path) -> None:
    rows = [row | {"score": "ınf" if at == 4 else "1"} for at, row in enumerate(sheet(OTHER))]  # noqa: RUF001
    path = write(tmp_path, rows, "csv")
    with pytest.raises(InputError, match=rf"{path}: row 5: score is 'ınf'; wanted a number"):  # noqa: RUF001
        open_pool(path).scores("score")


def test_carried_numbers_of_instructions_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "ask.csv"
    path.write_text("instruction,level\nOne?,1.5\nTwo?,NA\nThree?,true\nFour?,４\n", encoding="utf-8")  # noqa: RUF001
    with open_instructions(path) as found:
        levels = [level for batch in found.batches() for level in batch.column("x0").to_pylist()]
    assert levels == [1.5, None, 1.0, 4.0]


# Texts among scores

ODD = {3: "未評価", 4: "-", 5: "", 6: "#DIV/0!"}


def some_odd(i: int, j: int) -> object:
    return ODD.get(i) if j == 1 and i in ODD else str(score(i, j)).translate(WIDE if i == 7 else {})


@ALL
@pytest.mark.extra
@pytest.mark.parametrize("name", ["score", "評価(10点満点)"])
@pytest.mark.parametrize("how", ["reward", "columns"])
def test_texts_among_scores_are_told_with_the_line_that_empties_them(
    how: str, name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    path = write(tmp_path, sheet((*USUAL[:4], name), some_odd), kind)
    columns = {"reward": name} if how == "columns" else {}
    with pytest.raises(CrowdselectError, match=r"'未評価'.* \(emptying '未評価', '-', '#DIV/0!'\)") as told:
        open_pool(path, columns=columns).scores(name if how == "reward" else "reward")
    assert ("skip_invalid" in str(told.value)) == (name == "score" and how == "reward")
    monkeypatch.chdir(tmp_path)
    exec(line_of(told.value), {"pd": pandas})
    with open_pool("pool.parquet") as pool:
        at = [PROMPTS.index(text) for text in pool.instructions()]
        wanted = [[np.nan if i in ODD and j == 1 else score(i, j) for j in range(3)] for i in at]
        assert np.array_equal(pool.scores(name), wanted, equal_nan=True)


def test_skip_invalid_is_named_only_where_it_helps(tmp_path: Path, run: Callable[..., Ran]) -> None:
    odd = {"quality": lambda i, j: "7-8" if (i, j) == (2, 1) else score(i, j)}
    path = write(tmp_path, sheet((*USUAL[:4], "quality"), odd["quality"]), "csv")
    said = run("inspect", path, "--reward", "quality")
    said.refuses("quality holds '7-8', too: write all scores as numbers")
    assert "--skip-invalid" not in said.err
    path = write(tmp_path, sheet(USUAL, odd["quality"]), "csv")
    with pytest.raises(RewardError, match="`skip_invalid=True` leaves such rows out"):
        open_pool(path).scores("score")
    with open_pool(path, skip_invalid=True) as pool:
        assert np.isnan(pool.scores("score")).sum() == 1


def test_usual_numbers_that_are_written_as_texts_take_no_longer_than_a_cast() -> None:
    with connect() as connection:
        connection.execute(
            "CREATE TABLE written AS SELECT CAST(i % 97 / 10 AS VARCHAR) AS score FROM range(200000) AS r(i)"
        )

        def seconds(sql: str) -> float:
            begun = time.process_time()
            connection.execute(f"SELECT sum({sql}) FROM written").fetchall()
            return time.process_time() - begun

        cast = min(seconds("TRY_CAST(score AS DOUBLE)") for _ in range(3))
        ours = min(seconds(as_number("score", Kind("number", written=True))) for _ in range(3))
    assert ours < 8 * cast + 0.02  # 30 times as long where each is looked at closely
