"""Pools: the same content gives the same arrays, whatever the layout, file type and order of rows."""

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect._optional import install_command
from crowdselect.errors import InputError, MissingExtraError
from crowdselect.pool.connection import connect
from crowdselect.pool.files import fingerprint
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.seeding import seeded_hash

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
                    "id": ["2024-01-01", "007", "1.50", "ü", "Z", "a'b\";--", "\U0001d4b3", "\ufffd"][i]
                    if i < 8
                    else f"row {i}",
                    "instruction": [None, "  ", "日本語の質問?", 'q "x", y\nz'][i]
                    if i < 4
                    else f"Question {i}, {i}?",
                    "model": model,
                    "response": [None, "", " \u3000\n", "\uff12"][(i + j) % 4]
                    if i % 5 == j
                    else f"answer {i}/{j} 'é'",
                    "score": None
                    if (i * j) % 7 == 3
                    else NAN
                    if (i + j) % 11 == 10
                    else rng.choice([0.1, 1.0, -2.5, 1e-300]),
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
            "completions": [
                {"model": r["model"], "response": r["response"], "score": r["score"]} for r in group
            ],
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
        return (
            ""
            if value is None
            else '"' + value.replace('"', '""') + '"'
            if isinstance(value, str)
            else repr(value)
        )

    lines = [separator.join(map(cell, values)) for values in [rows[0], *(row.values() for row in rows)]]
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
    texts = [
        list(pool.ids),
        list(pool.models),
        list(pool.instructions()),
        pool.responses(pairs),
        pool.prompts(pairs),
    ]
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
    with open_pool(
        write_parquet(tmp_path_factory.mktemp("reference") / "pool.parquet", rows_of_small_pool())
    ) as pool:
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


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "jsonl.zst", "csv", "csv.gz"])
@pytest.mark.parametrize("how", ["folder", "glob", "nested"])
def test_several_files_are_one_pool(kind, how, tmp_path, reference):
    folder = tmp_path / 'it\'s; a "pool" [1]'
    (folder / "deep").mkdir(parents=True)
    rows = shuffled(rows_of_small_pool())
    where = folder / "deep" if how == "nested" else folder
    for part in range(3):
        some = [dict(row) for row in rows[part::3]]
        if part == 1:  # another order of columns
            some = [dict(reversed(row.items())) for row in some]
        writer = write_parquet if kind == "parquet" else write_jsonl if "jsonl" in kind else write_csv
        writer(where / f"part*{part}'?.{kind}", some)
    (where / f".hidden.{kind}").write_text("no")
    (folder / "card.json").write_text("{}")
    (folder / "README.md").write_text("no")
    path = f"{tmp_path}/it*/part*.{kind}" if how == "glob" else folder
    with open_pool(path) as pool:
        assert len(pool.files) == 3
        assert everything(pool) == reference


def test_files_with_different_columns_are_joined_by_name(tmp_path):
    rows = [{"id": "a", "model": m, "instruction": "?", "score": float(s)} for s, m in enumerate("mn")]
    write_parquet(tmp_path / "1.parquet", rows)
    write_parquet(tmp_path / "2.parquet", [{**row, "id": "b", "judge": 5.0, "response": "x"} for row in rows])
    with open_pool(tmp_path) as pool:
        assert pool.reward_columns == ("score", "judge")
        np.testing.assert_array_equal(pool.scores("judge"), [[NAN, NAN], [5, 5]])
        np.testing.assert_array_equal(pool.answered(), [[False, False], [True, True]])
        assert pool.responses([("a", "m"), ("b", "m")]) == [None, "x"]


HOSTILE = [
    '"; DROP TABLE x; --',
    "'",
    "a.b",
    "k",
    "c0",
    "row",
    "file",
    "answer",
    "value",
    "said",
    "pair",
    "name",
    "select",
    " ",
]


@pytest.mark.parametrize(
    "form",
    [
        "zoo.parquet",
        "zoo.jsonl",
        "matrix.parquet",
        "matrix.csv",
        "long.csv",
        "ultrafeedback.parquet",
        "distilabel.jsonl",
    ],
)
def test_names_are_data(form, tmp_path):
    layout, _, kind = form.partition(".")
    path = tmp_path / f"'; \".{kind}"
    cells = [
        {"id": i, "instruction": i, "model": m, "response": f"{i}{m}", "score": float(s)}
        for i in ("'", '";')
        for s, m in enumerate(HOSTILE)
    ]
    shape = {"zoo": as_zoo, "ultrafeedback": as_ultrafeedback, "distilabel": as_distilabel, "long": list}
    rows = (
        shape[layout](cells)
        if layout != "matrix"
        else [
            {"id": i, "instruction": i} | {c["model"]: c["score"] for c in cells if c["id"] == i}
            for i in ("'", '";')
        ]
    )
    {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}[kind](path, rows)
    with open_pool(path) as pool:
        assert pool.layout == layout
        hostile = [
            name for name in HOSTILE if layout != "matrix" or name not in {"answer", "row"}
        ]  # these are a right answer and a number of the row
        assert pool.models == tuple(sorted(hostile))
        assert list(pool.ids) == list(pool.instructions()) == ['";', "'"]
        order = [HOSTILE.index(model) for model in pool.models]
        np.testing.assert_array_equal(pool.scores(), [order, order])
        if layout != "matrix":
            assert pool.answered().all()
            pairs = [(i, m) for m in HOSTILE for i in pool.ids]
            assert pool.responses(pairs) == [f"{i}{m}" for i, m in pairs]


def test_hostile_columns(tmp_path):
    rows = [
        {
            "id": "a",
            "model": m,
            "instruction": "?",
            'r"; --': 1.5,
            "filename": f"f{m}",
            "rowid": "x",
            "it's": "v",
            "response": m,
        }
        for m in "mn"
    ]
    with open_pool(write_parquet(tmp_path / "p.parquet", rows)) as pool:
        assert pool.reward_columns == ('r"; --',)
        np.testing.assert_array_equal(pool.scores(), [[1.5, 1.5]])
        assert pool.responses([("a", "n"), ("a", "m")]) == ["n", "m"]
        assert list(pool.column("it's")) == ["v"]


def test_types_are_not_guessed(tmp_path):
    ids = [
        "2024-01-01",
        "007",
        "1.50",
        "12:30",
        "true",
        "550e8400-e29b-41d4-a716-446655440000",
        "1_000",
        "null",
    ]
    rows = [
        {"id": i, "instruction": i, "model": m, "response": i, "score": 1, "when": i}
        for i in ids
        for m in ids[:2]
    ]
    for path in (write_csv(tmp_path / "p.csv", rows), write_jsonl(tmp_path / "p.jsonl", rows)):
        with open_pool(path) as pool:
            assert list(pool.ids) == sorted(ids) == list(pool.instructions()) == list(pool.column("when"))
            assert pool.models == ("007", "2024-01-01")
            assert pool.responses([(i, "007") for i in ids]) == ids
            assert pool.reward_columns == ("score",)


def test_numbers_as_ids_keep_their_form(tmp_path):
    path = tmp_path / "p.jsonl"
    written = ["7", "1.50", "12345678901234567890123", '"x"']
    path.write_text("".join(f'{{"id": {i}, "model": {m}, "score": 1}}\n' for i in written for m in (1, 2)))
    with open_pool(path) as pool:
        assert pool.models == ("1", "2")
        assert set(pool.ids) >= {"7", "12345678901234567890123", "x"}
    write_parquet(
        tmp_path / "p.parquet", [{"id": 10 - i, "model": m, "score": i} for i in range(9) for m in (2, 1)]
    )
    with open_pool(tmp_path / "p.parquet") as pool:
        assert list(pool.ids) == sorted(str(10 - i) for i in range(9))


def test_a_column_first_seen_late_is_there(tmp_path):
    rows = [
        {"id": f"{i:05}", "model": m, "instruction": "?", "score": i} for i in range(13_000) for m in "mn"
    ]
    rows[-1]["judge"] = 0.5
    rows[-1]["note"] = "late"
    with open_pool(write_jsonl(tmp_path / "p.jsonl", rows)) as pool:
        assert pool.reward_columns == ("score", "judge")
        assert pool.scores("judge")[-1].tolist()[1] == 0.5
        assert pool.column("note")[-1] == "late"


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_long_line(kind, tmp_path):
    text = "long\n" * 5_000_000
    rows = [{"id": "a", "model": m, "instruction": "?", "score": 1.5, "response": text} for m in "mn"]
    with open_pool((write_jsonl if kind == "jsonl" else write_csv)(tmp_path / f"p.{kind}", rows)) as pool:
        assert pool.responses([("a", "n")]) == [text]


def test_a_csv_column_is_numeric_by_all_of_its_cells(tmp_path):
    rows = [
        {"id": f"{i:04}", "model": m, "a": 1, "b": "1", "c": None, "d": True, "e": "1e-3", "f": "nan"}
        for i in range(3000)
        for m in "mn"
    ]
    rows[-1] |= {"b": "x", "e": " -2.5E+3 "}
    with open_pool(write_csv(tmp_path / "p.csv", rows)) as pool:
        assert pool.reward_columns == ("a", "d", "e")
        assert pool.scores("e")[-1].tolist() == [0.001, -2500.0]


def test_rewards_are_numbers_with_no_other_meaning(tmp_path):
    row = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cost": 0.1,
        "latency": 2.0,
        "turn": 1,
        "attempts": 1,
        "ok": True,
        "uuid": 3,
    }
    rows = [{"id": 1, "model": m, "sample": 0, **row, "judge": 3} for m in "mn"]
    with open_pool(write_parquet(tmp_path / "p.parquet", rows)) as pool:
        assert pool.reward_columns == ("ok", "judge")
        assert pool.reward_name(None) == "judge"  # of numbers there is one
        assert pool.reward_name("cost") == "cost"  # by name it may be had


def test_decimals_and_small_types_are_rewards(tmp_path):
    columns = {"id": ["a", "a"], "model": ["m", "n"]}
    types = {"i8": pa.int8(), "u64": pa.uint64(), "f32": pa.float32(), "d": pa.decimal128(9, 2)}
    arrays = {name: pa.array(["1", "2"]).cast(kind) for name, kind in types.items()}
    pq.write_table(pa.table(columns | arrays), tmp_path / "p.parquet")
    with open_pool(tmp_path / "p.parquet") as pool:
        assert pool.reward_columns == tuple(types)
        for name in types:
            assert pool.scores(name).tolist() == [[1.0, 2.0]]


# ── samples, rewards files, limit ──────────────────────────────────────────────────────────────────────


def test_samples_are_averaged_whatever_their_order(tmp_path):
    rng = random.Random(5)
    values = {
        (i, m): [rng.uniform(-1, 1) * 10 ** rng.randint(-8, 8) for _ in range(7)] for i in "abc" for m in "mn"
    }
    rows = [
        {"id": i, "model": m, "sample": s, "score": v, "response": f"{s}" if s > 1 else " " if s else None}
        for (i, m), several in values.items()
        for s, v in enumerate(several)
    ]
    rows[0]["score"] = NAN
    seen = set()
    for name, write, order in [
        ("1.parquet", write_parquet, rows),
        ("2.parquet", write_parquet, shuffled(rows)),
        ("3.csv", write_csv, shuffled(rows)),
        ("4.jsonl", write_jsonl, rows[::-1]),
    ]:
        with open_pool(write(tmp_path / name, order)) as pool:
            scores = pool.scores()
            seen.add(scores.tobytes())
            assert scores[0, 0] == pytest.approx(np.mean(values["a", "m"][1:]), rel=1e-12)
            assert scores[2, 1] == pytest.approx(np.mean(values["c", "n"]), rel=1e-12)
            assert pool.answered().all()
            assert pool.responses([("a", "m"), ("c", "n")]) == ["2", "2"]
    assert len(seen) == 1


@pytest.mark.parametrize("layout", ["long", "zoo", "ultrafeedback"])
@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl.gz"])
def test_rewards_from_a_second_file(layout, kind, tmp_path):
    rows = [
        {"id": i, "instruction": i, "model": m, "response": None, "score": None} for i in "ab" for m in "mn"
    ]
    shaped = {"long": list, "zoo": as_zoo, "ultrafeedback": as_ultrafeedback}[layout](rows)
    pool_file = write_jsonl(tmp_path / "p.jsonl", shaped)
    judged = [("b", "n", 4.0), ("a", "m", 1.0), ("a", "x", 7.0), ("z", "m", 8.0), ("b", "m", NAN)]
    second = [{"model": m, "judge": v, "id": i, "text": "t"} for i, m, v in judged]
    writer = {"parquet": write_parquet, "csv": write_csv, "jsonl.gz": write_jsonl}[kind]
    path = writer(tmp_path / f"r'.{kind}", second)
    with open_pool(pool_file, rewards=path) as pool:
        assert pool.reward_columns == ("judge",)
        assert pool.notes == []
        np.testing.assert_array_equal(pool.scores(), [[1.0, NAN], [NAN, 4.0]])
        assert pool.notes == [f"rewards: left out: 2 rows of {path} whose (id, model) is not in the pool"]
        assert pool.files == (pool_file, path)
        assert pool.rewards_path == str(path)
    with open_pool(pool_file, rewards=path, limit=1) as pool:
        assert pool.scores().shape == (1, 2)
        assert pool.notes == [f"rewards: left out: 2 rows of {path} whose (id, model) is not in the pool"]


def test_rewards_join_by_sample_where_both_have_it(tmp_path):
    rows = [{"id": "a", "model": m, "sample": s} for m in "mn" for s in (0, 1)]
    pool_file = write_parquet(tmp_path / "p.parquet", rows)
    judged = [{"id": "a", "model": m, "sample": s, "judge": float(s)} for m in "mn" for s in (0, 1, 2)]
    with open_pool(pool_file, rewards=write_csv(tmp_path / "r.csv", judged)) as pool:
        np.testing.assert_array_equal(pool.scores(), [[0.5, 0.5]])
        assert "2 rows" in pool.notes[0]
    once = [{"uuid": "a", "model": m, "judge": 3.0} for m in "mn"]
    with open_pool(pool_file, rewards=write_csv(tmp_path / "once.csv", once)) as pool:
        np.testing.assert_array_equal(pool.scores(), [[3.0, 3.0]])
        assert pool.notes == []


@pytest.mark.parametrize("form", ["long.csv", "zoo.parquet", "ultrafeedback.jsonl"])
def test_limit_takes_the_same_instructions_everywhere(form, tmp_path, reference):
    path = WRITERS[form](tmp_path / form, rows_of_small_pool())
    with open_pool(path) as pool:
        keys = seeded_hash(pool.ids, seed=3, salt="limit")
        rows = np.sort(np.argsort(keys)[:7])
        whole = pool.ids[rows], pool.scores()[rows], pool.answered()[rows], pool.instructions()[rows]
        left_out = pool.ids[np.argsort(keys)[7]]
    with open_pool(path, limit=7, seed=3) as pool:
        assert pool.ids.tolist() == whole[0].tolist()
        np.testing.assert_array_equal(pool.scores(), whole[1])
        np.testing.assert_array_equal(pool.answered(), whole[2])
        assert pool.instructions().tolist() == whole[3].tolist()
        assert len(pool.prompts([(id_, pool.models[0]) for id_ in pool.ids])) == 7
        with pytest.raises(InputError, match="no id"):
            pool.prompts([(left_out, pool.models[0])])
    with open_pool(path, limit=10**9) as pool:
        assert everything(pool) == reference


def test_what_lies_beyond_the_limit_is_not_looked_at(tmp_path):
    rows = [{"id": i, "model": m, "score": 1.0, "instruction": i} for i in "abcdefgh" for m in "mn"]
    with open_pool(write_parquet(tmp_path / "p.parquet", rows), limit=3) as pool:
        kept = set(pool.ids)
    bad = next(row for row in rows if row["id"] not in kept)
    bad |= {"score": float("inf"), "instruction": "another"}
    with open_pool(
        write_parquet(tmp_path / "q.parquet", [*rows, bad | {"sample": 0}][::-1]), limit=3
    ) as pool:
        assert set(pool.ids) == kept
        assert np.isfinite(pool.scores()).all()
        assert set(pool.instructions()) == kept


# ── ids that are made, text, messages, columns ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "form", ["zoo.parquet", "ultrafeedback.jsonl", "distilabel.parquet", "ultrafeedback.parquet", "zoo.jsonl"]
)
def test_ids_made_of_the_content_do_not_depend_on_the_layout(form, tmp_path):
    rows = [row | {"instruction": f"Question {row['id']}"} for row in rows_of_small_pool()]
    layout, _, kind = form.partition(".")
    shaped = {"zoo": as_zoo, "ultrafeedback": as_ultrafeedback, "distilabel": as_distilabel}[layout](
        shuffled(rows)
    )
    shaped = [{name: value for name, value in row.items() if name not in {"id", "uuid"}} for row in shaped]
    with open_pool((write_parquet if kind == "parquet" else write_jsonl)(tmp_path / form, shaped)) as pool:
        assert pool.notes == [
            "no id column (id, uuid or prompt_id): an id is the hash (md5) of the instruction and its answers"
        ]
        assert len(pool.ids) == 23
        assert all(len(id_) == 32 for id_ in pool.ids)
        first = dict(zip(pool.instructions(), pool.ids, strict=True))
        ninth = [row for row in rows if row["id"] == "row 9" and row["response"] is not None]
        pairs = sorted(
            ({name: row[name] for name in ("model", "response")} for row in ninth),
            key=lambda pair: pair["model"],
        )
        written = json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))
        assert first["Question row 9"] == hashlib.md5(f"Question row 9\x1f{written}".encode()).hexdigest()


def test_ids_made_of_the_instruction(tmp_path):
    rows = [{"instruction": i, "model": m, "score": 1} for i in "ab" for m in "mn"]
    with open_pool(write_csv(tmp_path / "p.csv", rows)) as pool:
        assert sorted(pool.ids) == sorted(hashlib.md5(i.encode()).hexdigest() for i in "ab")
        assert pool.scores().shape == (2, 2)
        assert "of the instruction" in pool.notes[0]


CHATS = {
    "one": [{"role": "user", "content": "Hi\n"}],
    "two": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "white": [{"role": "user", "content": " \n"}],
    "none": [],
}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("layout", ["long", "ultrafeedback"])
def test_messages(kind, layout, tmp_path):
    rows = [
        {"id": i, "messages": chat, "instruction": None, "model": m, "response": "x", "score": 1.0}
        for i, chat in CHATS.items()
        for m in "mn"
    ]
    if layout == "ultrafeedback":
        if kind == "csv":
            pytest.skip("CSV has no lists")
        rows = [
            new | {"messages": old["messages"]}
            for new, old in zip(as_ultrafeedback(rows), rows[::2], strict=True)
        ]
    if kind == "csv":
        rows = [row | {"messages": json.dumps(row["messages"])} for row in rows]
    writer = {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}[kind]
    with open_pool(writer(tmp_path / f"p.{kind}", rows)) as pool:
        assert dict(zip(pool.ids, pool.instructions(), strict=True)) == {
            "one": "Hi\n",
            "two": "system: Be brief.\n\nuser: Hi",
            "white": None,
            "none": None,
        }
        assert pool.prompts([(id_, "n") for id_ in CHATS]) == list({**CHATS, "white": []}.values())
        assert pool.prompt_codes() is None
        assert pool.has_text


def test_messages_come_before_the_instruction(tmp_path):
    rows = [
        {"id": i, "messages": chat, "instruction": "I", "model": m, "score": 1}
        for i, chat in [("a", CHATS["two"]), ("b", None)]
        for m in "mn"
    ]
    with open_pool(write_parquet(tmp_path / "p.parquet", rows)) as pool:
        assert pool.instructions().tolist() == ["I", "I"]
        assert pool.prompts([("b", "m"), ("a", "n")]) == [[{"role": "user", "content": "I"}], CHATS["two"]]


def talk(first: str, *more: str) -> list[dict]:
    """User and assistant in turns."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate((first, *more))]


OWN = [  # (id, model, sample, messages, response): "a" has answers of the models' own in it, "b" has not
    ("a", "m", 0, talk("hi", "m says", "and?"), None),
    ("a", "m", 1, talk("hi", "m says more", "and?"), "m1"),
    ("a", "n", 0, talk("hi", "n says", "and?"), "n0"),
    ("a", "o", 0, talk("hi", "n says", "and?"), "o0"),
    ("b", "m", 0, talk("yo", "given", "so?"), "m"),
    ("b", "n", 0, talk("yo", "given", "so?"), "n"),
]


def own_rows(rows=OWN) -> list[dict]:
    names = ("id", "model", "sample", "messages", "response")
    return [dict(zip(names, row, strict=True)) | {"score": float(n)} for n, row in enumerate(rows)]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_each_model_has_its_own_earlier_answers(kind, order, tmp_path):
    rows = own_rows()[::order]
    if kind == "csv":
        rows = [row | {"messages": json.dumps(row["messages"])} for row in rows]
    writer = {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}[kind]
    with open_pool(writer(tmp_path / f"p.{kind}", rows)) as pool:
        assert pool.instructions().tolist() == [
            "user: hi\n\nuser: and?",
            "user: yo\n\nassistant: given\n\nuser: so?",
        ]
        pairs = [("b", "n"), ("a", "n"), ("a", "m")]
        assert pool.responses(pairs) == ["n", "n0", "m1"]
        assert pool.prompts(pairs) == [OWN[5][3], OWN[2][3], OWN[1][3]]  # of the sample that is read
        codes = pool.prompt_codes()
        assert [[row[i] == row[j] for i, j in ((0, 1), (1, 2))] for row in codes] == [
            [False, True],
            [True, False],
        ]
        assert codes[1, 2] == -1
        found = {
            (pool.ids[row], pool.models[model], sample): prompt
            for batch in pool.stream_responses(2)
            for row, model, sample, prompt in zip(
                batch.rows, batch.models, batch.samples, pool.prompts_of(batch), strict=True
            )
        }
        assert found == {(id_, model, sample): chat for id_, model, sample, chat, _ in OWN}
    with open_pool(tmp_path / f"p.{kind}", limit=1) as pool:
        chats = {(id_, model): chat for id_, model, _, chat, _ in OWN}
        assert pool.prompts([(pool.ids[0], "n")]) == [chats[pool.ids[0], "n"]]


def test_an_id_is_made_of_what_all_models_were_asked(tmp_path):
    rows = [{name: value for name, value in row.items() if name != "id"} for row in own_rows()]
    with open_pool(write_parquet(tmp_path / "p.parquet", rows)) as pool:
        assert len(pool.ids) == 2
        assert pool.answered().sum() == 5


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        (talk("hi", "o says", "or?"), "messages .* differs within id 'a'"),
        (talk("hi"), "differs within id 'a'"),
        (None, "messages of id 'a', model 'o' are missing"),
    ],
)
def test_other_questions_within_an_id_are_refused(chat, words, tmp_path):
    rows = own_rows([*OWN[:3], ("a", "o", 0, chat, "o0")])
    with (
        open_pool(write_jsonl(tmp_path / "p.jsonl", rows)) as pool,
        pytest.raises(InputError, match=words),
    ):
        pool.prompts([("a", "o")])


def test_answers_may_have_system_prompts_of_their_own(tmp_path):
    own = [{"role": "system", "content": "Be brief."}, *talk("hi", "n says", "and?")]
    rows = own_rows([*OWN[:3], ("a", "o", 0, own, "o0")])
    with open_pool(write_jsonl(tmp_path / "p.jsonl", rows)) as pool:
        assert pool.prompts([("a", "o")]) == [own]
        assert "system" not in pool.instructions()[0]


def test_columns_are_text_and_the_same_from_every_file_type(tmp_path):
    rows = [
        {"id": i, "model": m, "score": 1.0, "n": n, "f": n / 4, "t": t}
        for n, (i, t) in enumerate([("a", "x"), ("b", None), ("c", "")])
        for m in "mn"
    ]
    found = []
    for path in (
        write_csv(tmp_path / "p.csv", rows),
        write_jsonl(tmp_path / "p.jsonl", rows),
        write_parquet(tmp_path / "p.parquet", rows),
    ):
        with open_pool(path) as pool:
            found.append([pool.column(name).tolist() for name in ("n", "f", "t")])
    assert found == [[["0", "1", "2"], ["0.0", "0.25", "0.5"], ["x", None, None]]] * 3


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_vectors(kind, tmp_path):
    rows = [
        {"id": i, "model": m, "score": 1.0, "v": [n + 0.5, -n, 3.0]} for n, i in enumerate("ab") for m in "mn"
    ]
    if kind == "csv":
        rows = [row | {"v": json.dumps(row["v"])} for row in rows]
    with open_pool(
        {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}[kind](tmp_path / f"p.{kind}", rows)
    ) as pool:
        vectors = pool.vector_column("v")
        assert vectors.dtype == np.float32
        assert vectors.tolist() == [[0.5, 0.0, 3.0], [1.5, -1.0, 3.0]]


# ── matrix, laziness, statistics ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_matrix(kind, tmp_path):
    rows = [{"id": i, "m": 1, "n": None, "o": 0.5 * n, "cost": 3, "task": "x"} for n, i in enumerate("ba")]
    rows[0]["n"] = 2.5
    with open_pool(
        {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}[kind](tmp_path / f"p.{kind}", rows)
    ) as pool:
        assert (pool.layout, pool.models, pool.reward_columns) == ("matrix", ("m", "n", "o"), ("score",))
        np.testing.assert_array_equal(pool.scores(), [[1, NAN, 0.5], [1, 2.5, 0]])
        assert not pool.has_text
        assert not pool.has_responses
        assert pool.instructions().tolist() == [None, None]
        assert pool.prompts([("a", "m")]) == [[]]
        assert pool.responses([("a", "m")]) == [None]
        assert pool.column("task").tolist() == ["x", "x"]
        (note,) = pool.notes
        assert note.startswith(
            "matrix: not models, by their name or for not being numeric: cost, task; a crowd file"
        )


def test_scores_are_column_major(tmp_path, reference):
    for form in ("long.parquet", "zoo.parquet"):
        with open_pool(WRITERS[form](tmp_path / form, rows_of_small_pool())) as pool:
            assert pool.scores().flags.f_contiguous
            assert pool.answered().flags.f_contiguous
            assert pool.scores().dtype == np.float64


def test_zoo_without_answers(tmp_path):
    rows = [
        {
            "id": i,
            "instruction": i,
            "m": {"score": 1.0},
            "n": {"score": 2.0, "q": True},
            "meta": {"source": "x"},
        }
        for i in "ab"
    ]
    with open_pool(write_jsonl(tmp_path / "p.jsonl", rows)) as pool:
        assert (pool.layout, pool.models, pool.reward_columns) == ("zoo", ("m", "n"), ("score", "q"))
        assert not pool.has_responses
        np.testing.assert_array_equal(pool.scores(), [[1, 2], [1, 2]])


def test_a_zoo_reward_that_one_model_lacks(tmp_path):
    rows = [
        {
            "id": i,
            "instruction": i,
            "m": {"content": "x", "r": 1.0},
            "n": {"content": "y", "r": None},
            "o": {"content": None, "r": 2.0},
        }
        for i in "ab"
    ]
    with open_pool(write_jsonl(tmp_path / "p.jsonl", rows)) as pool:
        np.testing.assert_array_equal(pool.scores(), [[1, NAN, 2]] * 2)
        np.testing.assert_array_equal(pool.answered(), [[True, True, False]] * 2)


@pytest.mark.parametrize(
    ("texts", "proven"),
    [
        (["a", "!", "~é"], True),
        (["a", "b", None], False),
        (["a", "b", ""], False),
        (["a", "b", " b"], False),
        (["a", "b", "\u3000"], False),  # nothing but a space of another script
        (["a", "b", "é"], False),
    ],
)
@pytest.mark.parametrize("layout", ["long", "zoo"])
def test_statistics_that_prove_answers_save_the_reading(texts, proven, layout, tmp_path, monkeypatch):
    rows = [
        {"id": str(i), "instruction": "?", "model": m, "response": text, "score": 1.0}
        for i, text in enumerate(texts)
        for m in ("m.1", "n")
    ]
    path = write_parquet(tmp_path / "p.parquet", as_zoo(rows) if layout == "zoo" else rows, row_group_size=2)
    with open_pool(path) as pool:
        assert len(pool.models) == 2
        pool.scores()
        read = []
        monkeypatch.setattr(
            pool._source,
            "fetch",
            lambda *sql: read.append(sql) or type(pool._source).fetch(pool._source, *sql),
        )
        expected = [[bool(text and text.strip())] * 2 for text in texts]
        assert pool.answered().tolist() == expected
        assert bool(read) is not proven  # reasoning is looked for in any case, but not by SQL


def test_opening_a_parquet_pool_reads_its_schema_alone(tmp_path, monkeypatch):
    path = WRITERS["zoo.parquet"](tmp_path / "p.parquet", rows_of_small_pool())
    monkeypatch.setattr("crowdselect.pool.source.Source.fetch", lambda *_: pytest.fail("read"))
    with open_pool(path) as pool:
        assert pool.columns == ("uuid", "instruction", *MODELS)
        assert pool.reward_columns == ("score",)
        assert pool.has_responses
        assert (
            pool.fingerprint()
            == hashlib.sha256(f"{path.stat().st_size};".encode() + path.read_bytes() * 2).hexdigest()
        )


def test_fingerprint_is_of_the_content(tmp_path):
    (tmp_path / "x").mkdir()
    first = write_csv(tmp_path / "p.csv", rows_of_small_pool())
    second = write_csv(tmp_path / "x" / "q.csv", rows_of_small_pool())
    third = write_csv(tmp_path / "x" / "r.csv", rows_of_small_pool()[::-1])
    prints = [fingerprint([path]) for path in (first, second, third)]
    assert prints[0] == prints[1] != prints[2]


def test_duckdb_is_locked(tmp_path):
    connection = connect()
    for sql in ("SET threads = 1", "SET allow_community_extensions = true", "INSTALL httpfs FROM community"):
        with pytest.raises(duckdb.Error):
            connection.execute(sql)
    connection.close()


# ── the Hub ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for huggingface_hub: the data set lies in a folder of this test."""
    asked = []

    def snapshot_download(repo_id, **options):
        asked.append((repo_id, options))
        if repo_id != "owner/name":
            raise FileNotFoundError("404:\n  no such repository")
        return str(tmp_path / "snapshot")

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    for part in ("train-0", "train-1"):
        (tmp_path / "snapshot" / "data").mkdir(parents=True, exist_ok=True)
        rows = [{"id": part, "model": m, "score": 1.0} for m in "mn"]
        write_parquet(tmp_path / "snapshot" / "data" / f"{part}.parquet", rows)
    return asked


@pytest.mark.parametrize(
    ("path", "revision", "files"),
    [("", None, 2), ("@v1", "v1", 2), ("@v1/data", "v1", 2), ("/data/train-1.parquet", None, 1)],
)
def test_a_data_set_of_the_hub(path, revision, files, hub):
    with open_pool(f"hf://datasets/owner/name{path}") as pool:
        assert len(pool.files) == len(pool.ids) == files
    (repository, options) = hub[0]
    assert (repository, options["repo_type"], options["revision"]) == ("owner/name", "dataset", revision)
    assert "*.parquet" in options["allow_patterns"]


def test_logs_of_an_evaluation_on_the_hub(hub, tmp_path):
    stored = Path(__file__).parent / "stored" / "lm-eval-0.4.13" / "results"
    shutil.rmtree(tmp_path / "snapshot")
    shutil.copytree(stored, tmp_path / "snapshot" / "results")
    with open_pool("hf://datasets/owner/name", filter="strict-match") as pool:
        assert pool.models == ("example/lol-1b", "example/lol-7b")
        assert pool.evaluations == ("capitals", "endings", "passages", "sums")
    file = next((stored / "example__lol-7b").glob("samples_capitals_*"))
    with open_pool(f"hf://datasets/owner/name/results/example__lol-7b/{file.name}") as pool:
        assert (pool.models, pool.evaluations) == (("example/lol-7b",), ("capitals",))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("hf://datasets/owner", "wanted hf://datasets/OWNER/NAME"),
        (
            "hf://datasets/no/one",
            "the Hub did not give the data set no/one, revision main: 404: no such repository",
        ),
        ("hf://datasets/owner/name/gone", "no file or folder 'gone'"),
    ],
)
def test_a_data_set_that_is_not_there(path, said, hub):
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        open_pool(path)
    assert str(caught.value).startswith(path)


@pytest.mark.extra
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("no/one", "the data set no/one, revision main: there is none of this name, or it is private"),
        ("own/gated", "the data set own/gated, revision main: it is gated; accept its terms"),
        ("own/name@v9", "the data set own/name, revision v9: it has no such revision"),
        ("own/broken", "the data set own/broken, revision main: "),
    ],
)
def test_what_failed_at_the_hub_is_said_in_one_line(place, said, tmp_path):
    """By huggingface_hub itself, against a server that answers as the Hub does."""
    pytest.importorskip("huggingface_hub")
    codes = {
        "no/one": (404, "RepoNotFound"),
        "own/gated": (403, "GatedRepo"),
        "own/name": (404, "RevisionNotFound"),
        "own/broken": (400, ""),
    }

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            status, code = codes["/".join(self.path.split("/")[3:5])]
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ran = hub_command(place, f"http://127.0.0.1:{server.server_port}", tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1
    assert said in ran.stderr


@pytest.mark.extra
@pytest.mark.parametrize(
    ("offline", "said"), [("1", "HF_HUB_OFFLINE is set"), ("0", "the Hub cannot be reached")]
)
def test_a_hub_that_cannot_be_asked(offline, said, tmp_path):
    pytest.importorskip("huggingface_hub")
    ran = hub_command("own/name", "http://127.0.0.1:9", tmp_path, offline=offline)
    assert ran.returncode == 2
    assert f"the data set own/name, revision main: {said}" in ran.stderr


def hub_command(place, address, cache, *, offline="0"):
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_OFFLINE": offline}
    return subprocess.run(
        [sys.executable, "-m", "crowdselect", "inspect", f"hf://datasets/{place}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hub_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("hub"))):
        open_pool("hf://datasets/owner/name")


# ── real pools ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape", "filled", "facts"),
    [
        ("shaberi", (320, 121), 0.992, (True, 5)),
        ("zeroeval", (2840, 56), 0.810, (True, 2)),
        ("wildbench", (1024, 15), 0.799, (False, 3)),
    ],
)
def test_real_pool(name, shape, filled, facts, data):
    has_text, rewards = facts
    with open_pool(data / f"{name}.parquet") as pool:
        assert (pool.layout, len(pool.reward_columns), pool.notes) == ("long", rewards, [])
        scores = pool.scores("score")
        assert scores.shape == shape
        assert np.isfinite(scores).mean() == pytest.approx(filled, abs=5e-4)
        assert pool.has_text is has_text
        assert list(pool.ids) == sorted(pool.ids)
        i, j = np.argwhere(pool.answered())[-1]
        (text,) = pool.responses([(pool.ids[i], pool.models[j])])
        assert text.strip()
