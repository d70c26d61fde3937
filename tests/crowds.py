"""Small files of crowds for the tests of how they are read, in every file type."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Pool

Row = dict[str, Any]
MODELS = ("m-1b", "m-7b")
ALL = pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
TYPED = pytest.mark.parametrize("kind", ["jsonl", "parquet"])


def write(folder: Path, rows: list[Row], kind: str, name: str = "pool") -> Path:
    path = folder / f"{name}.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([[_cell(row.get(name)) for name in names] for row in rows])
    return path


def _cell(value: Any) -> Any:
    return "" if value is None else json.dumps(value) if isinstance(value, list | dict) else value


def crowd(**columns: Callable[[int, int], Any] | Any) -> list[Row]:
    """Three instructions and two models, with other columns; None takes one away."""
    rows = []
    for i in range(3):
        for j, model in enumerate(MODELS):
            row = {
                "id": f"q{i}",
                "instruction": f"Do {i}",
                "model": model,
                "response": f"a{i}{j}",
                "score": float(i + j),
            }
            more = {name: value(i, j) if callable(value) else value for name, value in columns.items()}
            rows.append(
                {name: value for name, value in {**row, **more}.items() if columns.get(name, 0) is not None}
            )
    return rows


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def answered(pool: Pool) -> list[str | None]:
    return pool.responses([(id_, model) for id_ in pool.ids for model in pool.models])


def is_plain(pool: Pool, prompt: str = "Do 0", answer: str = "a00") -> None:
    """Three instructions of two models, all read."""
    assert pool.models == MODELS
    assert len(pool.ids) == 3
    assert set(pool.left_out()) == {None}
    assert pool.prompts([("q0", "m-1b")]) == [[user(prompt)]]
    assert answered(pool)[0] == answer
    assert pool.scores()[2].tolist() == [2, 3]
