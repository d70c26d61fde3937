"""Files as people hand them over: wherever they lie, however they are packed and encoded."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import open_pool
from crowdselect.errors import CrowdselectError, InputError
from crowdselect.evaluate.files import read_rows as read_json_rows
from crowdselect.parquetfile import read_parquet
from crowdselect.pool.sidecars import read_ids
from crowdselect.textfile import DEEPEST, encoding_of
from crowdselect.train.rows import read_rows as read_training_rows

MODELS = ("crowd-1b", "crowd-3b", "crowd-7b")
ROWS = [
    {"id": f"q{i}", "instruction": f"Do {i}?", "model": model, "response": f"r{i}{j}", "score": i + 10 * j}
    for i in range(4)
    for j, model in enumerate(MODELS)
]


def jsonl(rows=ROWS) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def csv(rows=ROWS) -> bytes:
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows), ""]).encode()


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path.absolute())
    else:
        path.write_bytes(csv() if path.suffix == ".csv" else jsonl())
    return path


def read(path: str | Path) -> tuple:
    with open_pool(path) as pool:
        return list(pool.ids), pool.scores().tolist(), pool.responses([("q1", MODELS[2])])


def refuses(path: str | Path, *parts: str, reader=read) -> None:
    with pytest.raises(CrowdselectError) as error:
        reader(path)
    for part in (str(path), *parts):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


WANTED = ([f"q{i}" for i in range(4)], [[float(i + 10 * j) for j in range(3)] for i in range(4)], ["r12"])


# ── where a file lies ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("place", ["score=1/p.", "id=7/model=x/p.", "~/p.", "~p.", "a[1]*?/p."])
def test_the_path_never_changes_the_data(kind, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for column in ("score=2", "~"):  # what a leading `~` would be taken for
        write(tmp_path / "home" / column / "p.parquet")
    path = write(Path(f"{place}{kind}"))
    assert read(path) == read(str(path)) == read(tmp_path / path) == WANTED
    if path.parent != Path():
        assert read(str(path.parent)) == WANTED


def test_a_second_file_of_rewards_in_a_folder_named_like_a_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("p.jsonl"))
    rewards = [{"id": row["id"], "model": row["model"], "judge": row["score"] + 0.5} for row in ROWS]
    for name in ("judge=9/r.jsonl", "judge=9/r.csv", "~/r.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes((csv if name.endswith("csv") else jsonl)(rewards))
        with open_pool("p.jsonl", rewards=name) as pool:
            assert pool.scores("judge")[1].tolist() == [1.5, 11.5, 21.5]


def test_a_table_of_ids_and_one_of_training_rows_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (Path("id=7"), Path("~")):
        folder.mkdir()
        (folder / "ids.csv").write_text("id,x\na,1\n")
        pq.write_table(pa.table({"id": ["a"]}), tmp_path / folder / "ids.parquet")
        assert read_ids(f"{folder}/ids.csv") == read_ids(f"{folder}/ids.parquet") == {"a"}
        pq.write_table(
            pa.table({"id": ["a"], "instruction": ["b"], "output": ["c"]}), tmp_path / folder / "t.parquet"
        )
        assert [row.id for row in read_training_rows(f"{folder}/t.parquet").rows] == ["a"]


# ── how it is packed and encoded ───────────────────────────────────────────────────────────────────────


MARKED = b"\xef\xbb\xbf"
AS_WRITTEN = {
    "marked.jsonl": MARKED + jsonl(),
    "marked.json": MARKED + b"[" + b",".join(jsonl().splitlines()) + b"]",
    "marked.csv": MARKED + csv(),
    "marked.jsonl.gz": gzip.compress(MARKED + jsonl()),
    "gzip.jsonl": gzip.compress(jsonl()),
    "gzip.csv": gzip.compress(csv()),
    "marked-gzip.jsonl": gzip.compress(MARKED + jsonl()),
    "plain.jsonl.gz": jsonl(),
    "plain.csv.zst": csv(),
}


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_a_mark_and_an_untold_packing_change_nothing(name, tmp_path):
    (tmp_path / name).write_bytes(AS_WRITTEN[name])
    assert read(tmp_path / name) == WANTED


def test_zstd_without_its_ending(tmp_path):
    path = tmp_path / "p.jsonl"
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(jsonl())
    assert read(path) == WANTED


def test_files_that_are_packed_differently(tmp_path):
    for i, change in enumerate((gzip.compress, bytes, lambda data: gzip.compress(MARKED + data))):
        (tmp_path / f"part{i}.jsonl").write_bytes(change(jsonl(ROWS[4 * i : 4 * i + 4])))
    assert read(tmp_path) == WANTED


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(ending, encoding, tmp_path):
    path = tmp_path / f"p.{ending}"
    data = (jsonl() if ending == "jsonl" else csv()).decode().encode(encoding)
    for packed in (data, gzip.compress(data)):
        path.write_bytes(packed)
        refuses(path, "UTF-32" if "32" in encoding else "UTF-16", "not UTF-8; save it as UTF-8")
        if ending == "jsonl":
            refuses(path, "save it as UTF-8", reader=read_json_rows)
            refuses(path, "save it as UTF-8", reader=read_training_rows)
    assert encoding_of("{é".encode()) is None


@pytest.mark.parametrize("head", [b"BZh91AY&SY", b"\xfd7zXZ\x00", b"PK\x03\x04"])
def test_an_archive_is_named(head, tmp_path):
    (tmp_path / "p.jsonl").write_bytes(head + bytes(40))
    refuses(tmp_path / "p.jsonl", "is packed with", "unpack it first")


def test_parquet_under_another_name(tmp_path):
    write(tmp_path / "p.parquet").rename(tmp_path / "p.jsonl")
    refuses(tmp_path / "p.jsonl", "is a Parquet file by its content", "rename it")


def test_lists_of_ids_and_lines_of_json_packed_or_marked(tmp_path):
    for change in (gzip.compress, zstd_file, lambda data: MARKED + data):
        (tmp_path / "ids.txt").write_bytes(change(b"a\r\nb\r\n"))
        (tmp_path / "ids.jsonl").write_bytes(change(b'{"id": "a"}\n{"id": "b"}\n'))
        assert read_ids(str(tmp_path / "ids.txt")) == read_ids(str(tmp_path / "ids.jsonl")) == {"a", "b"}
        assert [row.value["id"] for row in read_json_rows(tmp_path / "ids.jsonl")] == ["a", "b"]
    (tmp_path / "ids.txt").write_text("a\nb\n", encoding="utf-16")
    refuses(str(tmp_path / "ids.txt"), "is UTF-16, not UTF-8", reader=read_ids)


def zstd_file(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("reader", [read, read_training_rows])
def test_a_pipe_is_refused_at_once(reader, tmp_path):
    path = tmp_path / "p.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(jsonl()), daemon=True)
    writer.start()
    if reader is read:
        refuses(path, "is a pipe", "to a file first", reader=reader)
    else:
        refuses(path, "no such file", reader=lambda place: reader(str(place)))
    path.read_bytes()  # lets the writer end
    writer.join()


def test_a_pipe_of_the_shell_is_refused_in_one_line(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "crowdselect", "inspect", "/dev/stdin"],
        input=jsonl(),
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"error: /dev/stdin: is a pipe")
    assert ran.stderr.count(b"\n") == 1


@pytest.mark.parametrize("levels", [DEEPEST + 1, 500, 10_000])
@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.jsonl.gz"])
def test_a_value_nested_too_deeply_is_named_by_its_line(levels, name, tmp_path):
    lines = jsonl().splitlines()
    lines[6] = lines[6][:-1] + b', "unused": ' + b'{"a":' * (levels - 1) + b"1" + b"}" * levels
    data = b"\n".join(lines)
    if name.endswith(".json"):
        data = b"[" + b",\n".join(lines) + b"]"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    refuses(tmp_path / name, "line 7", f"nested more than {DEEPEST} levels deep")


def test_values_as_deep_as_can_be_are_read(tmp_path):
    deep = b'{"a":' * (DEEPEST - 1) + b"1" + b"}" * (DEEPEST - 1)
    (tmp_path / "p.jsonl").write_bytes(jsonl().replace(b'"q2", ', b'"q2", "unused": %s, ' % deep))
    assert read(tmp_path / "p.jsonl") == WANTED


def test_training_rows_nested_too_deeply(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"id": "a", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n")
    refuses(str(path), "line 1", "nested", reader=read_training_rows)


# ── what it costs, and how a process ends ──────────────────────────────────────────────────────────────


def test_many_models_take_linear_time(tmp_path):
    def seconds(models: int) -> float:
        names = [f"family{k // 2}-{1 + k % 2}b" for k in range(models)]
        path = tmp_path / f"{models}.csv"
        lines = ["id,instruction," + ",".join(names)]
        lines += [f"q{i},Do {i}?," + ",".join(str(i * k % 10) for k in range(models)) for i in range(6)]
        path.write_text("\n".join(lines))
        begin = time.process_time()
        with open_pool(path) as pool:
            assert pool.models == tuple(sorted(names))
            scores = dict(zip(pool.models, pool.scores()[3].tolist(), strict=True))
        taken = time.process_time() - begin
        assert scores == {name: 3 * k % 10 for k, name in enumerate(names)}
        return taken

    seconds(10)
    assert seconds(2000) < 8 * seconds(500) + 1  # with its square it is 16 times, and 60 s


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_quick_readers_end_in_order_on_a_busy_machine(tmp_path):
    """Arrow's threads may not hold a file of Python's when the interpreter ends: that aborts (exit code 134)."""
    file = tmp_path / "part=3" / "t.parquet"
    file.parent.mkdir()
    columns = {f"c{i}": list(map(str, range(1000))) for i in range(20)}
    pq.write_table(pa.table(columns), file)
    assert read_parquet(file).column_names == list(columns)
    code = f"from crowdselect.parquetfile import read_parquet; read_parquet({str(file)!r})"
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        ended = []
        for _ in range(10):
            some = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
            ended += [process.wait() for process in some]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert ended == [0] * 60


def test_no_module_gives_arrow_a_file_of_pythons():
    source = Path(__file__).parent.parent / "src" / "crowdselect"
    found = [path.name for path in source.rglob("*.py") if "read_table(" in path.read_text(encoding="utf-8")]
    assert found == []


def test_a_path_that_is_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    moved = (tmp_path / "t.parquet").rename(folder / "t.parquet")
    assert read_parquet(moved).to_pylist() == [{"a": 1}]
    with pytest.raises(InputError, match="its name is not UTF-8"):
        read(moved)
