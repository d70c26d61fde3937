"""Pools: the same content gives the same arrays, whatever the layout, file type and order of rows."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from crowdselect.errors import InputError, OptionError, RewardError
from crowdselect.pool import Pool, open_pool

MODELS = ["Qwen2.5-7B", "a;b", 'say "hi"', "it's", "Ünï-9B"]
NAN = float("nan")


def rows_of_small_pool() -> list[dict]:
    """Five models on 23 instructions: ties, NaN, gaps in text, blank answers, Unicode."""
    rng = random.Random(7)
    rows = []
    for i in range(23):
        for j, model in enumerate(MODELS):
            rows.append(
                {
                    "id": ["2024-01-01", "007", "1.50", "ü", "Z", "a'b\";--", "𝒳", "\ufffd"][i] if i < 8 else f"row {i}",
                    "instruction": [None, "  ", "日本語の質問?", 'q "x", y\nz'][i] if i < 4 else f"Question {i}, {i}?",
                    "model": model,
                    "response": [None, "", " \u3000\n", "２"][(i + j) % 4] if i % 5 == j else f"answer {i}/{j} 'é'",
                    "score": None if (i * j) % 7 == 3 else NAN if (i + j) % 11 == 10 else rng.choice([0.1, 1.0, -2.5, 1e-300]),
                }
            )
    return rows


def by_instruction(rows: list[dict]) -> list[list[dict]]:
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["id"], []).append(row)
    return list(groups.values())


def as_zoo(rows: list[dict]) -> list[dict]:
    return [
        {"uuid": group[0]["id"], "instruction": group[0]["instruction"]}
        | {row["model"]: {"content": row["response"], "score": row["score"]} for row in group}
        for group in by_instruction(rows)
    ]


def as_ultrafeedback(rows: list[dict]) -> list[dict]:
    return [
        {
            "id": group[0]["id"],
            "instruction": group[0]["instruction"],
            "completions": [{"model": r["model"], "response": r["response"], "score": r["score"]} for r in group],
        }
        for group in by_instruction(rows)
    ]


def as_distilabel(rows: list[dict]) -> list[dict]:
    return [
        {
            "id": group[0]["id"],
            "instruction": group[0]["instruction"],
            "generations": [row["response"] for row in group],
            "generation_models": [row["model"] for row in group],
            "ratings": [row["score"] for row in group],
        }
        for group in by_instruction(rows)
    ]


def write_parquet(path: Path, rows: list[dict], **options) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    data = "".join(json.dumps(row, ensure_ascii=len(row) % 2 == 0) + "\n" for row in rows).encode()
    return pack(path, data)


def write_csv(path: Path, rows: list[dict], *, start: str = "", separator: str = ",") -> Path:
    def cell(value) -> str:
        return "" if value is None else '"' + value.replace('"', '""') + '"' if isinstance(value, str) else repr(value)

    lines = [separator.join(rows[0]), *(separator.join(cell(value) for value in row.values()) for row in rows)]
    return pack(path, (start + "\n".join(lines) + "\n").encode())


def pack(path: Path, data: bytes) -> Path:
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = pa.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(data)
    return path


def everything(pool: Pool, reward: str | None = None) -> list[bytes]:
    """All that a pool says, as bytes."""
    pairs = [(id_, model) for id_ in pool.ids for model in pool.models][::-1]
    texts = [list(pool.ids), list(pool.models), list(pool.instructions()), pool.responses(pairs), pool.prompts(pool.ids)]
    return [
        json.dumps(texts).encode(),
        pool.scores(reward).tobytes("F"),
        pool.answered().tobytes("F"),
    ]


def shuffled(rows: list[dict]) -> list[dict]:
    rows = list(rows)
    random.Random(3).shuffle(rows)
    return rows


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> list[bytes]:
    with open_pool(write_parquet(tmp_path_factory.mktemp("reference") / "pool.parquet", rows_of_small_pool())) as pool:
        assert pool.layout == "long"
        return everything(pool)


WRITERS = {
    "long.parquet": lambda path, rows: write_parquet(path, shuffled(rows), row_group_size=10),
    "long.jsonl": lambda path, rows: write_jsonl(path, shuffled(rows)),
    "long.jsonl.gz": write_jsonl,
    "long.jsonl.zst": write_jsonl,
    "long.json": lambda path, rows: pack(path, json.dumps(shuffled(rows)).encode()),
    "long.csv": lambda path, rows: write_csv(path, shuffled(rows)),
    "long-bom.csv": lambda path, rows: write_csv(path, rows, start="\ufeff"),
    "long.csv.gz": write_csv,
    "long.csv.zst": write_csv,
    "long.tsv": lambda path, rows: write_csv(path, rows, separator="\t"),
    "zoo.parquet": lambda path, rows: write_parquet(path, shuffled(as_zoo(rows)), row_group_size=5),
    "zoo.jsonl": lambda path, rows: write_jsonl(path, shuffled(as_zoo(shuffled(rows)))),
    "ultrafeedback.parquet": lambda path, rows: write_parquet(path, as_ultrafeedback(shuffled(rows))),
    "ultrafeedback.jsonl": lambda path, rows: write_jsonl(path, as_ultrafeedback(shuffled(rows))),
    "distilabel.parquet": lambda path, rows: write_parquet(path, as_distilabel(shuffled(rows))),
    "distilabel.jsonl": lambda path, rows: write_jsonl(path, as_distilabel(rows)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_same_content_gives_the_same_bytes(name, tmp_path, reference):
    reward = "ratings" if name.startswith("distilabel") else "score"
    with open_pool(WRITERS[name](tmp_path / name, rows_of_small_pool())) as pool:
        assert pool.layout == name.partition(".")[0].removesuffix("-bom")
        assert pool.reward_columns == (reward,)
        assert everything(pool) == reference
