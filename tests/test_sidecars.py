"""A list of ids means the ids that stand in it; white space is left out only where nothing else fits."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, load_selection, open_pool, select
from crowdselect.pool.sidecars import found_in, read_ids

IDS = ["a", "a ", " b", "c", "d\t", "e"]


@pytest.fixture
def pool(tmp_path):
    rows = [
        {"id": i, "instruction": f"Question {n}?", "model": m, "response": "An answer.", "score": float(s)}
        for n, i in enumerate(IDS)
        for s, m in enumerate(["x", "y"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    with open_pool(tmp_path / "pool.parquet") as opened:
        yield opened


def write(path, entries):
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": entries}), path)
    else:
        path.write_text("\n".join(entries) + "\n\n   \n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["ids.txt", "ids.parquet"])
@pytest.mark.parametrize("option", ["include", "exclude"])
@pytest.mark.parametrize(
    "listed",
    [
        (["a "], {"a "}, 0),
        (["a"], {"a"}, 0),
        (["a ", "a"], {"a", "a "}, 0),
        (["  a"], {"a"}, 0),
        ([" b", "c ", "e\t"], {" b", "c", "e"}, 0),
        (["b", "d", "e "], {"e"}, 2),
    ],
)
def test_an_id_is_meant_as_it_is_written(listed, option, name, pool, tmp_path):
    entries, meant, unknown = listed
    path = write(tmp_path / name, entries)
    options = Options(budget=1, clusters=0, weights={"difficulty": 1.0}, **{option: path})
    found = select(pool, options)
    reason = "excluded" if option == "exclude" else "not_included"
    with_reason = {row["id"] for row in found.table.to_pylist() if row["reason"] == reason}
    assert with_reason == (meant if option == "exclude" else set(IDS) - meant)
    notes = [note for note in found.facts["notes"] if "not in the pool" in note]
    said = [f"`{option}` {path}: {unknown} of {len(entries)} ids are not in the pool"]
    assert notes == (said if unknown else [])


def test_ids_of_white_space_only_and_none(tmp_path):
    assert read_ids(write(tmp_path / "ids.txt", ["x", "", " y "])) == {"x", " y "}
    there, unknown = found_in({"x", " y "}, np.array(["y", "z"], dtype=object))
    assert (there.tolist(), unknown) == ([True, False], 1)
    assert found_in({"x"}, [])[1] == 1


ODD_IDS = [
    *(
        "007",
        "7",
        "1e5",
        "null",
        "true",
        "2024-01-01",
        "00:00:01",
        "ordinary",
        "with space ",
        "a,b",
        '"quoted"',
    ),
    *("two\nlines", "\u202eturned", "\U0001f600", "{}", "[1]", "line\u2028separator", "-v", "C:\\x"),
]


def marked(path, ids):
    """The file that a report's page saves: `JSON.stringify({ id })` per line."""
    lines = [json.dumps({"id": one}, separators=(",", ":"), ensure_ascii=False) + "\n" for one in ids]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


@pytest.fixture
def odd(tmp_path):
    rows = [
        {
            "id": one,
            "instruction": f"Say {n}",
            "model": f"m-{size}b",
            "response": f"{n} {size}",
            "score": n % 5 + size % 4,
        }
        for n, one in enumerate(ODD_IDS)
        for size in (3, 7)
    ]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path / "pool.jsonl"


def test_rows_that_a_report_marked_are_excluded_or_the_only_ones(odd, run, tmp_path):
    """A whole `select` with the file as the page saves it, whatever the ids look like."""
    taken, left = set(ODD_IDS[::2]), set(ODD_IDS[1::2])
    file = marked(tmp_path / "marked.jsonl", ODD_IDS[::2])
    for option, wanted, reason in (("--exclude", left, "excluded"), ("--include", taken, "not_included")):
        folder = tmp_path / option.strip("-")
        ran = run("select", odd, "--budget", len(wanted), "--clusters", 0, option, file, "-o", folder)
        assert ran.code == 0, ran
        assert "ids are not in the pool" not in ran.err
        table = load_selection(folder).table.to_pylist()
        assert {row["id"] for row in table if row["selected"]} == wanted
        assert {row["id"] for row in table if row["reason"] == reason} == set(ODD_IDS) - wanted
        again = run("select", odd, "--budget", len(wanted), "--clusters", 0, option, file, "-o", folder)
        assert again.out.startswith("up to date")
    file = marked(tmp_path / "marked.jsonl", [*ODD_IDS[::2], "of another pool"])
    ran = run("select", odd, "--budget", 3, "--clusters", 0, "--exclude", file, "-o", tmp_path / "third")
    assert f"1 of {len(taken) + 1} ids are not in the pool" in ran.err
