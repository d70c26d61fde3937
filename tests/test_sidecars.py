"""A list of ids means the ids that stand in it; white space is left out only where nothing else fits."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, open_pool, select
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
