"""Where results go: never over an input or a stranger's files, whole or not at all."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import COMMAND, manifest, train, tree
from crowdselect import Options, export, open_pool, select
from crowdselect.errors import OutputError
from crowdselect.selection import folder as exporter
from crowdselect.writing import check_beside, check_output, new_file, new_folder, read_manifest

FORMER = ["--clusters", 0, "-o", "out"]


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ours(folder: Path, **files: str) -> Path:
    """Make a folder that looks like a former result."""
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"tool": "crowdselect", "kind": "selection"}))
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


# What may be replaced


def test_a_folder_is_replaced_only_if_asked_and_only_if_ours(run, sim):
    select = ["select", sim, "--budget", 5, *FORMER]
    assert run(*select).code == 0
    first = tree(Path("out"))
    other = ["select", sim, "--budget", 6, *FORMER]
    run(*other).refuses(
        "out: holds another result: --budget was 5 and is now 6; pass --overwrite to replace it"
    )
    assert tree(Path("out")) == first
    Path("out/notes.txt").write_text("mine")
    assert run("select", sim, "--budget", 6, *FORMER, "--overwrite").code == 0
    assert len(train("out")) == 6
    assert Path("out/notes.txt").read_text() == "mine"
    assert [p.name for p in Path().iterdir()] == ["out"]


@pytest.mark.parametrize(
    "content",
    [None, "{", "[]", "null", '{"tool": "other"}', '{"tool": ["crowdselect"]}', "\xff", '"crowdselect"'],
)
def test_a_folder_without_our_manifest_is_never_replaced(run, sim, content):
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("years of work")
    if content is not None:
        Path("out/manifest.json").write_text(content, encoding="latin-1")
    before = tree()
    run("select", sim, "--budget", 5, *FORMER, "--overwrite").refuses(
        "out: not a crowdselect output folder (no manifest.json)"
    )
    assert tree() == before


def test_a_manifest_that_is_a_folder_is_not_ours():
    Path("out/manifest.json").mkdir(parents=True)
    assert read_manifest(Path("out")) is None
    assert read_manifest(Path("out/manifest.json/none")) is None


def test_an_empty_folder_is_taken(run, sim):
    Path("out").mkdir()
    assert run("select", sim, "--budget", 5, *FORMER).code == 0
    assert len(train("out")) == 5


def test_files_and_links_in_the_way_of_a_folder(run, sim):
    Path("file").write_text("x")
    run("select", sim, "--budget", 5, "-o", "file").refuses("file: this is not a folder")
    run("select", sim, "--budget", 5, "-o", "file", "--overwrite").refuses("file: this is not a folder")
    ours(Path("real"))
    Path("link").symlink_to("real")
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    before = tree()
    for name in ("dangling", "loop"):
        run("select", sim, "--budget", 5, "-o", name, "--overwrite").refuses(f"{name}: this is not a folder")
    run("metrics", sim, "-o", "real", "--overwrite").refuses("cannot write a file without an ending")
    assert tree() == before


def test_the_current_folder_and_mounts_cannot_be_replaced(run, sim, tmp_path, monkeypatch):
    ours(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", tmp_path / "here", "../here", ""):
        run("select", sim, "--budget", 5, "-o", name, "--overwrite").refuses(
            "the current folder and mounted ones"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda self: True)
    run("select", sim, "--budget", 5, "-o", "here", "--overwrite").refuses(
        "the current folder and mounted ones"
    )


def test_a_metrics_file_is_replaced_only_if_asked(run, sim):
    Path("m.csv").write_text("mine")
    run("metrics", sim, "-o", "m.csv").refuses("m.csv: there is such a file already; add --overwrite")
    assert Path("m.csv").read_text() == "mine"
    Path("folder.csv").mkdir()
    run("metrics", sim, "-o", "folder.csv", "--overwrite").refuses(
        "folder.csv: this is a folder; name a file"
    )
    assert run("metrics", sim, "-o", "m.csv", "--overwrite").code == 0
    assert Path("m.csv").read_text().startswith('"id"')


def test_a_link_in_the_way_of_a_file_is_replaced_not_followed(run, sim):
    Path("mine.csv").write_text("mine")
    Path("m.csv").symlink_to("mine.csv")
    run("metrics", sim, "-o", "m.csv").refuses("there is such a file already")
    assert run("metrics", sim, "-o", "m.csv", "--overwrite").code == 0
    assert Path("mine.csv").read_text() == "mine"
    assert not Path("m.csv").is_symlink()


# Inputs


@pytest.fixture
def inputs(run, sim):
    """A folder of ours that holds every kind of input."""
    folder = ours(Path("in"))
    table = pq.read_table(sim)
    pq.write_table(table.drop_columns(["simulated_reward"]), folder / "pool.parquet")
    pq.write_table(table.select(["id", "model", "simulated_reward"]), folder / "rewards.parquet")
    (folder / "crowd.toml").write_text(run("crowd", sim, "--toml").out)
    (folder / "ids.txt").write_text("\n".join(table["id"].to_pylist()))
    (folder / "never.txt").write_text("x")
    (folder / "c.toml").write_text("clusters = 0\n")
    ids = sorted(set(table["id"].to_pylist()))
    pq.write_table(pa.table({"id": ids, "vector": [[1.0]] * len(ids)}), folder / "v.parquet")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ["--crowd", "in/crowd.toml"],
        ["--include", "in/ids.txt"],
        ["--exclude", "in/never.txt"],
        ["--config", "in/c.toml"],
        ["--embedder", "file:in/v.parquet", "--clusters", 1],
        ["--rewards", "in/rewards.parquet"],
        [],
    ],
    ids=lambda options: options[0] if options else "the pool",
)
def test_every_input_is_safe_from_select(run, sim, inputs, options):
    pool = "in/pool.parquet" if options in ([], ["--rewards", "in/rewards.parquet"]) else str(sim)
    if "--rewards" in options:
        Path("answers.parquet").write_bytes(Path(pool).read_bytes())
        pool = "answers.parquet"
    before = tree()
    command = ["select", pool, "--budget", 5, *options]
    for output in ("in", "./in/", "in/../in", Path("in").absolute(), Path("in/..").absolute(), "/"):
        run(*command, "-o", output, "--overwrite").refuses("the output is, or contains, the input")
    assert tree() == before
    if pool == str(sim):
        assert run(*command, "-o", "in/inside").code == 0  # in the same folder is no harm


def test_inputs_are_safe_from_metrics(run, sim, inputs):
    shutil.copy("in/pool.parquet", "in/pool.csv")  # not read
    before = tree()
    pool = ["metrics", "in/pool.parquet", "--rewards", "in/rewards.parquet", "--overwrite"]
    for output in ("in/pool.parquet", "in/rewards.parquet", "in/../in/pool.parquet"):
        run(*pool, "-o", output).refuses("the output is, or contains, the input")
    shutil.copy("in/crowd.toml", "in/crowd.jsonl.toml")
    Path("crowd.parquet").symlink_to("in/crowd.toml")
    run("metrics", sim, "--crowd", "in/crowd.toml", "-o", "crowd.parquet", "--overwrite").refuses(
        "is, or contains, the input"
    )
    Path("crowd.parquet").unlink()
    Path("in/crowd.jsonl.toml").unlink()
    assert tree() == before


def test_inputs_are_known_through_links(run, sim):
    """Both ways: an output that leads to an input, and an input that is a link inside the output."""
    ours(Path("data"))
    shutil.copy(sim, "data/pool.parquet")
    Path("alias").symlink_to("data")
    Path("same.parquet").symlink_to("data/pool.parquet")
    ours(Path("former"))
    Path("former/pool.parquet").symlink_to(Path("data/pool.parquet").absolute())
    Path("former/sub").symlink_to(Path("data").absolute())
    before = tree()
    for pool, output in (
        ("alias/pool.parquet", "data"),
        ("same.parquet", "data"),
        ("data/pool.parquet", "alias"),
        ("former/pool.parquet", "former"),
        ("former/sub/pool.parquet", "former"),
    ):
        run("select", pool, "--budget", 5, "-o", output, "--overwrite").refuses("is, or contains, the input")
    run("metrics", "data/pool.parquet", "-o", "same.parquet", "--overwrite").refuses(
        "is, or contains, the input"
    )
    assert tree() == before


def test_an_output_does_not_join_the_pool(run):
    run("simulate", "-o", "pool", "--shards", 2, "--instructions", 20, "--answer-chars", 80)
    Path("deep").mkdir()
    Path("pool").rename("deep/shards")
    before = tree()
    for pool in ("deep/shards", "deep/shards/", "deep/shards/*.parquet", "deep"):
        run("metrics", pool, "-o", "deep/shards/m.parquet").refuses(
            "the output would be read as a part of the pool"
        )
    run("metrics", "deep", "-o", "deep/m.parquet").refuses("the output would be read as a part of the pool")
    run("select", "deep", "--budget", 2, "-o", "deep/out").refuses(
        "the output would be read as a part of the pool"
    )
    assert tree() == before
    assert run("metrics", "deep/shards/part-00000.parquet", "-o", "deep/shards/m.parquet").code == 0
    Path("deep/shards/m.parquet").unlink()
    assert run("select", "deep/shards", "--budget", 2, *FORMER).code == 0
    assert run("select", "deep/shards", "--budget", 2, "--clusters", 0, "-o", "deep/shards/out").code == 0
    assert run("inspect", "deep/shards").code == 0  # subfolders are not read where the folder itself has data


def test_the_python_way_is_as_careful(sim):
    shutil.copy(sim, "pool.parquet")
    Path("ids.txt").write_text("x")
    with open_pool("pool.parquet") as pool:
        selection = select(pool, Options(budget=3, clusters=0, exclude="ids.txt"))
        for place in ("pool.parquet", Path("pool.parquet"), ".", "ids.txt"):
            with pytest.raises(OutputError, match="is, or contains, the input"):
                export(selection, pool, place, overwrite=True)


# When it goes wrong in between


def dies(*_arguments, **_options):
    raise RuntimeError("in the middle")


@pytest.mark.parametrize("step", ["_write_training", "_write_parquet", "dataset_card", "_manifest"])
@pytest.mark.parametrize("former", [False, True])
def test_an_error_while_writing_changes_nothing(run, sim, monkeypatch, step, former):
    if former:
        assert run("select", sim, "--budget", 4, *FORMER).code == 0
    before = tree()
    monkeypatch.setattr(exporter, step, dies)
    with pytest.raises(RuntimeError, match="in the middle"):
        run("select", sim, "--budget", 5, *FORMER, "--overwrite")
    assert tree() == before


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_brings_the_former_result_back(monkeypatch, failing):
    ours(Path("out"), **{"a.txt": "former"})
    before = tree()
    real, calls = Path.rename, []

    def rename(self, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with (
        pytest.raises(OutputError, match=r"out: cannot be written: Input/output error"),
        new_folder(Path("out").absolute(), overwrite=True) as folder,
    ):
        (folder / "manifest.json").write_text("new")
    assert tree() == before


def write_while(meanwhile, *, overwrite: bool) -> None:
    with new_folder(Path("out").absolute(), overwrite=overwrite) as folder:
        (folder / "mine.txt").write_text("x")
        meanwhile()


def test_what_came_to_stand_there_meanwhile_is_not_replaced():
    with pytest.raises(OutputError, match="not empty"):
        write_while(lambda: ours(Path("out"), **{"other.txt": "of another run"}), overwrite=False)
    assert Path("out/other.txt").read_text() == "of another run"
    shutil.rmtree("out")

    def stranger():
        Path("out").mkdir()
        Path("out/thesis.txt").write_text("years of work")

    with pytest.raises(OutputError, match=r"not a crowdselect output folder \(no manifest\.json\)"):
        write_while(stranger, overwrite=True)
    assert tree() == {"out": None, "out/thesis.txt": b"years of work"}


STALLED = (
    "import sys, time\n"
    "from crowdselect.selection import folder as exporter\n"
    "real = exporter._write_training\n"
    "def slow(*arguments, **options):\n"
    "    real(*arguments, **options)\n"
    "    print('writing', flush=True)\n"
    "    time.sleep(60)\n"
    "exporter._write_training = slow\n"
    "from crowdselect.cli.main import main\n"
    "main()\n"
)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_killed_while_writing(run, sim, how):
    assert run("select", sim, "--budget", 4, *FORMER).code == 0
    before = tree(Path("out"))
    select = ["select", sim, "--budget", 5, *FORMER, "--overwrite"]
    with subprocess.Popen(
        [sys.executable, "-c", STALLED, *map(str, select)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(how)
        _, errors = process.communicate()
    assert process.returncode == (-how if how == signal.SIGKILL else 130)
    assert "Traceback" not in errors
    assert tree(Path("out")) == before
    left = [p for p in Path().iterdir() if p.name != "out"]
    assert all(p.name.startswith(".out.partial-") and not (p / "manifest.json").exists() for p in left)
    assert bool(left) == (how == signal.SIGKILL)
    run("why", left[0] if left else "none", "sim-000000000").refuses(
        "not a crowdselect output folder (no manifest.json)"
    )
    assert run(*select).code == 0  # nothing of it stands in the way
    assert len(train("out")) == 5
    assert [p.name for p in Path().iterdir()] == ["out"]  # what the dead process left is cleared away


def test_metrics_that_are_interrupted_leave_nothing(run, sim, monkeypatch):
    Path("m.parquet").write_text("former")
    before = tree()
    monkeypatch.setattr(pq, "write_table", dies)
    with pytest.raises(RuntimeError, match="in the middle"):
        run("metrics", sim, "-o", "m.parquet", "--overwrite")
    assert tree() == before


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); "
SLOW = r"(what this command is at could not be kept for `crowdselect status`: .*\n)?"
"""A command that takes a second, as on a busy machine, has that to say as well."""


@pytest.mark.parametrize("room", [10, 2_000])
@pytest.mark.parametrize(
    "command", ["select jsonl", "select parquet", "metrics parquet", "metrics csv", "metrics jsonl"]
)
def test_no_room_is_one_line(run, sim, command, room):
    """As on a full disk: no file may grow beyond `room` bytes."""
    name, form = command.split()
    if name == "select":
        arguments = ["select", sim, "--budget", 20, *FORMER, "--file-type", form, "--overwrite", "--no-cache"]
        assert run("select", sim, "--budget", 4, *FORMER).code == 0
    else:
        arguments = ["metrics", sim, "-o", f"m.{form}"]
    before = tree()
    code = LIMITED.format(room) + COMMAND[2]
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert re.fullmatch(rf"{SLOW}error: \S+: cannot be written: .*File too large.*\n", ended.stderr)
    assert tree() == before


def test_no_permission_is_one_line(run, sim, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    run("select", sim, "--budget", 4, *FORMER).refuses("out: no permission to write into")
    run("metrics", sim, "-o", "m.csv").refuses("m.csv: no permission to write into")
    monkeypatch.undo()

    def denied(*_arguments, **_options):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(tempfile, "mkdtemp", denied)
    monkeypatch.setattr(tempfile, "mkstemp", denied)
    run("select", sim, "--budget", 4, *FORMER).refuses("out: cannot be written: Permission denied")
    run("metrics", sim, "-o", "m.csv").refuses("m.csv: cannot be written: Permission denied")


def test_no_room_for_anything_is_one_line_too(sim):
    code = LIMITED.format(0) + COMMAND[2]
    command = [sys.executable, "-c", code, "select", str(sim), "--budget", "4", "-o", "out"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: ")


def test_names_as_long_as_a_name_may_be(run, sim):
    run("select", sim, "--budget", 4, "--clusters", 0, "-o", "x" * 255).refuses("File name too long")
    assert tree() == {}


# What is written


def test_what_is_written_can_be_read_by_others(run, sim):
    former = os.umask(0o022)
    try:
        assert run("select", sim, "--budget", 4, *FORMER).code == 0
        assert run("metrics", sim, "-o", "m.csv").code == 0
    finally:
        os.umask(former)
    assert stat.S_IMODE(Path("out").stat().st_mode) == 0o755
    assert stat.S_IMODE(Path("out/manifest.json").stat().st_mode) == 0o644
    assert stat.S_IMODE(Path("m.csv").stat().st_mode) == 0o644


def test_the_manifest_is_written_last(run, sim):
    assert run("select", sim, "--budget", 4, *FORMER, "--for", "trl").code == 0
    times = {p.name: p.stat().st_mtime_ns for p in Path("out").iterdir()}
    assert max(times.values()) == times["manifest.json"]


def test_names_that_are_no_utf8(run, sim):
    """A path is bytes: messages show it as it is, and nothing falls over."""
    odd = os.fsdecode(b"p\xe9ol.parquet")
    shutil.copy(sim, odd)
    run("inspect", odd).refuses("p\\udce9ol.parquet: its name is not UTF-8", "rename it")
    run("inspect", os.fsdecode(b"none\xe9")).refuses("none\\udce9: no such file")
    never = os.fsdecode(b"n\xe9ver.txt")
    Path(never).write_text("x")
    select = ["select", sim, "--budget", 4, "--clusters", 0, "--exclude", never, "-o"]
    made = os.fsdecode(b"\xffout")
    run(*select, made).refuses("\\udcffout: the path is not UTF-8")
    run("metrics", sim, "-o", f"{made}.csv").refuses("\\udcffout.csv: the path is not UTF-8")
    assert run(*select, "out").code == 0
    assert manifest("out")["options"]["exclude"] == never
    assert "`n\\udce9ver.txt`" in Path("out/README.md").read_text()
    Path("out").rename(made)
    assert run("why", made, train(made)[0]["id"]).err == ""


def test_new_file_has_the_ending_and_is_renamed():
    with new_file(Path("a.csv").absolute()) as partial:
        assert partial.suffix == ".csv"
        assert not Path("a.csv").exists()
        partial.write_text("x")
    assert tree() == {"a.csv": b"x"}


def test_check_beside_does_not_mind_one_file_or_another_folder():
    Path("a.parquet").write_text("x")
    files = [Path("a.parquet")]
    check_beside("b.parquet", pool="a.parquet", files=files, folder=False)
    check_beside("elsewhere/b.parquet", pool="*.parquet", files=files, folder=False)
    check_beside("out", pool=".", files=files, folder=True)
    for pool in (".", "*.parquet"):
        with pytest.raises(
            OutputError, match=re.escape(f"b.parquet: the output would be read as a part of the pool {pool}")
        ):
            check_beside("b.parquet", pool=pool, files=files, folder=False)


def test_parents_must_be_there():
    with pytest.raises(OutputError, match=r"a/b: there is no folder .*a; make it first"):
        check_output("a/b", inputs=[], overwrite=False, folder=True)
    Path("file").write_text("x")
    with pytest.raises(OutputError, match="there is no folder"):
        check_output("file/b", inputs=[], overwrite=False, folder=True)


def test_an_output_that_a_glob_does_not_match_may_stand_beside_its_files(run, sim):
    Path("part-1.parquet").write_bytes(Path(sim).read_bytes())
    assert run("metrics", "part-*.parquet", "-o", "metrics.parquet").code == 0
    run("metrics", "part-*.parquet", "-o", "part-m.parquet").refuses("would be read as a part of the pool")
