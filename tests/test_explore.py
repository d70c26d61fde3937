"""`explore`: what goes into its page, what it refuses, and that a command can name the clusters of a page."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, explore, open_pool, select
from crowdselect.errors import InputError, OptionError
from crowdselect.explorer import payload as payloads
from crowdselect.explorer.payload import payload_of
from crowdselect.simulate.pool import simulate

HOSTILE = "</script><script>window.hit = 1</script> \u2028 \u202e \x1b[31m"


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulate("pool.parquet", instructions=80)
    with open_pool("pool.parquet") as opened:
        yield opened


def sections(payload) -> dict:
    """The arrays of a page, read as engine.js reads them."""
    data, found, at = gzip.decompress(payload.packed), {}, 0
    for head in payload.head["sections"]:
        name, kind, length = head["name"], head["kind"], head["length"]
        if "same" in head:
            found[name] = found[head["same"]]
        elif kind == "json":
            found[name] = json.loads(data[at : at + length])
            at += length
        else:
            dtype = np.dtype("<" + kind[0] + str(int(kind[1:]) // 8))
            size = length * dtype.itemsize
            planes = np.frombuffer(data[at : at + size], np.uint8).reshape(dtype.itemsize, length)
            found[name] = np.ascontiguousarray(planes.T).view(dtype)[:, 0] if length else np.zeros(0, dtype)
            at += size
    assert at == len(data)
    return found


def test_the_numbers_of_the_page_are_those_of_the_pool(pool):
    options = Options(budget=8, clusters=3, cache=False)
    payload, selection = payload_of(pool, options), select(pool, options)
    found, table = sections(payload), selection.table
    assert found["ids"] == table["id"].to_pylist()
    for name in ("difficulty", "separability", "stability"):
        code, values = found[f"code {name}"], found[f"value {name}"]
        assert values[code].tolist() == table[name].to_pylist()
    assert found["label"].tolist() == table["cluster"].to_pylist()
    assert sorted(found["key"].tolist()) == list(range(80))


def test_the_page_warns_of_answers_as_select_does(tmp_path):
    rows = [
        {"id": f"{i:02d}", "instruction": f"question {i}", "model": model, "response": f"{model} {i}"}
        | {"reward": float(i * j % 7), "finish_reason": "length" if i % 5 == j else "stop"}
        for i in range(40)
        for j, model in enumerate(("oak-1b", "oak-7b", "elm-3b"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    options = Options(budget=8, clusters=0, cache=False)
    with open_pool(tmp_path / "pool.parquet") as opened:
        payload, selection = payload_of(opened, options), select(opened, options)
    cut = [line for line in payload.head["warnings"] if line.startswith("24 answers were cut")]
    assert len(cut) == 1
    assert cut[0] in selection.warnings
    rewards = dict(zip(selection.table["id"].to_pylist(), sections(payload)["reward"].tolist(), strict=True))
    assert all(rewards[row["id"]] == row["reward"] for row in selection.rows())


def test_the_same_pool_makes_the_same_page(pool):
    options = Options(budget=8, clusters=3, cache=False)
    assert payload_of(pool, options) == payload_of(pool, options)


def test_hostile_texts_stay_data(tmp_path):
    rows = [
        {
            "id": f"{i} {HOSTILE}",
            "instruction": f"{i} {HOSTILE}",
            "model": model,
            "response": "x",
            "</script>": i * weight,
        }
        for i in range(12)
        for model, weight in (("a-1b</script>", 1.0), ("a-7b", -0.5))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    with open_pool(tmp_path / "pool.parquet") as opened:
        page = explore(opened, Options(budget=2, clusters=0)).html()
    assert page.count("<script") == 4  # data, packed numbers, the engine, the page's own
    assert "window.hit" not in page


def test_a_pool_that_is_too_large_says_what_to_do(pool, monkeypatch):
    monkeypatch.setattr(payloads, "MOST", 50)
    with pytest.raises(
        InputError, match=r"80 instructions are too many for a page, which holds 50; .*`limit=50`"
    ):
        explore(pool)


@pytest.mark.parametrize("weight", [0.1234567, 1000.5])
def test_weights_that_are_not_exact_are_refused(pool, weight):
    with pytest.raises(OptionError, match="at most 6 decimals and nothing beyond 1000"):
        explore(pool, Options(budget=8, weights={"difficulty": weight}))


def test_a_method_that_the_page_does_not_compute_is_refused(pool):
    with pytest.raises(
        OptionError, match="`method=length` is none that a page computes; these are: crowd, random, easy"
    ):
        explore(pool, method="length")


def test_a_notebook_shows_the_page_in_a_frame(pool):
    shown = explore(pool, Options(budget=8, clusters=0))._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert shown.count('"') == 8  # nothing of the page ends an attribute


def test_several_bands_of_one_number_all_count(pool):
    values = np.sort(select(pool, Options(budget=1, clusters=0)).table["difficulty"].to_numpy())
    low, high = float(values[20]), float(values[59])
    keep = (f"difficulty={low!r}..", f"difficulty=..{high!r}")
    one = select(pool, Options(budget=10, clusters=0, keep=(f"difficulty={low!r}..{high!r}",)))
    assert select(pool, Options(budget=10, clusters=0, keep=keep)).chosen == one.chosen


def test_clusters_may_be_a_column_of_the_file_of_numbers(pool, tmp_path):
    ids = select(pool, Options(budget=1, clusters=0)).table["id"].to_pylist()
    lines = [json.dumps({"id": id_, "mine": None if i % 7 == 0 else i % 3}) for i, id_ in enumerate(ids)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = select(pool, Options(budget=9, metrics="mine.jsonl", cluster_by="mine"))
    assert found.facts["cluster_names"] == ["0", "1", "2", "(missing)"]
    assert sorted(found.facts["quotas"].values()) == [2, 2, 2, 3]


def test_the_command_writes_a_page_and_knows_it_again(pool, run):
    assert "opens offline" in run("explore", "pool.parquet", "-o", "page.html", "--clusters", "2").out
    assert "up to date" in run("explore", "pool.parquet", "-o", "page.html", "--clusters", "2").out
    run("explore", "pool.parquet", "-o", "page.html", "--clusters", "3").refuses("page.html", "--overwrite")
    run("explore", "pool.parquet", "-o", "page").refuses("page: the page is HTML", "ends in .html")


def test_a_selection_is_explored_with_its_own_options(pool, run):
    assert run("select", "pool.parquet", "--budget", "7", "--clusters", "2", "-o", "chosen").code == 0
    assert "opens offline" in run("explore", "chosen", "-o", "page.html").out
    run("explore", "chosen", "-o", "other.html", "--budget", "3").refuses(
        "--budget is that of the selection in chosen"
    )
    run("explore", "pool.parquet", "-o", "other.html", "--pool", "x").refuses("no selection")
    run("explore", "pool.parquet", "-o", "other.html", "--near-duplicates", "0.9").refuses("needs vectors")
