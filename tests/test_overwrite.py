"""`--overwrite` and what dies half way: nothing of a person's is lost, and nothing of ours is left lying about."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commands import COMMAND, manifest, train, tree
from crowdselect.errors import OutputError
from crowdselect.manifests import UNFINISHED, files_in, own_files, read_manifest, write_manifest
from crowdselect.writing import check_output, new_file, new_folder

STORED = Path(__file__).parent / "stored" / "selection-0.1.0"
MINE = {"notes.md": "mine", "checkpoint/weights.bin": "a week", ".hidden": "mine too"}


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def add_mine(folder: Path) -> None:
    for name, text in MINE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def mine_is_whole(folder: Path) -> bool:
    return all((folder / name).read_text() == text for name, text in MINE.items())


def beside(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is ours


def test_a_manifest_lists_what_was_written_and_only_that_is_replaced(run, sim):
    select = ["select", sim, "--clusters", 0, "-o", "out"]
    assert run(*select, "--budget", 5, "--for", "trl").code == 0
    assert manifest("out")["written"] == files_in(Path("out"))
    add_mine(Path("out"))
    assert run(*select, "--budget", 6, "--overwrite", "--file-type", "parquet").code == 0
    assert mine_is_whole(Path("out"))
    assert set(files_in(Path("out"))) == {*manifest("out")["written"], *MINE}
    assert "train.parquet" in manifest("out")["written"]
    assert beside() == ["out"]


@pytest.mark.parametrize("command", [["demo"], ["select", "SIM", "--method", "random", "--budget", 5]])
def test_every_command_that_writes_a_selection_keeps_what_is_not_ours(run, sim, command):
    command = [str(sim) if part == "SIM" else part for part in command]
    assert run(*command, "-o", "out").code == 0
    assert set(manifest("out")["written"]) == set(files_in(Path("out")))  # the page of `demo` among them
    add_mine(Path("out"))
    again = [] if command == ["demo"] else ["--overwrite"]
    assert run(*command, "-o", "out", *again).code == 0
    assert mine_is_whole(Path("out"))


def test_a_training_folder_keeps_what_is_not_ours_in_subfolders_too():
    for names in (["a.bin", "adapter/x.bin", "adapter/deep/y.bin"], ["b.bin", "adapter/z.bin"]):
        with new_folder(Path("out").absolute(), overwrite=True) as folder:
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("ours")
            write_manifest(folder, {"tool": "crowdselect", "kind": "training"})
        if "a.bin" in names:
            add_mine(Path("out"))
            Path("out/adapter/mine.bin").write_text("mine")
    assert set(files_in(Path("out"))) == {
        *MINE,
        "adapter/mine.bin",
        "b.bin",
        "adapter/z.bin",
        "manifest.json",
    }
    assert not Path("out/adapter/deep").exists()


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hosts", "ABSOLUTE", "sub/../../outside", "link/outside", "", ".", "a\0b"]
)
def test_a_manifest_cannot_make_anything_outside_be_removed(tmp_path, name):
    name = str(tmp_path / "outside") if name == "ABSOLUTE" else name
    Path("outside").write_text("mine")
    Path("out").mkdir()
    Path("out/link").symlink_to("..")
    listed = [name, "manifest.json", 7, None, ["x"]]
    Path("out/manifest.json").write_text(json.dumps({"tool": "crowdselect", "written": listed}))
    assert own_files(Path("out")) == {"manifest.json"}
    with new_folder(Path("out").absolute(), overwrite=True) as folder:
        write_manifest(folder, {"tool": "crowdselect"})
    assert Path("outside").read_text() == "mine"
    assert Path("out/link").is_symlink()


def test_a_link_of_that_name_is_removed_and_not_what_it_leads_to():
    Path("precious").write_text("mine")
    Path("out").mkdir()
    Path("out/a.txt").symlink_to("../precious")
    Path("out/manifest.json").write_text(json.dumps({"tool": "crowdselect", "written": ["a.txt"]}))
    with new_folder(Path("out").absolute(), overwrite=True) as folder:
        (folder / "a.txt").write_text("ours")
        write_manifest(folder, {"tool": "crowdselect"})
    assert Path("precious").read_text() == "mine"
    assert Path("out/a.txt").read_text() == "ours"
    assert not Path("out/a.txt").is_symlink()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_file_of_somebody_elses_under_our_name_is_refused_before_any_work(run, sim, kind):
    assert run("select", sim, "--budget", 5, "--clusters", 0, "-o", "out").code == 0
    place = Path("out/train.parquet")
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        (place / "deep").mkdir(parents=True)
    else:
        place.symlink_to("nowhere")
    before = tree()
    command = [
        "select",
        sim,
        "--budget",
        6,
        "--clusters",
        0,
        "-o",
        "out",
        "--file-type",
        "parquet",
        "--overwrite",
    ]
    run(*command).refuses("out/train.parquet: was not written by crowdselect and is in the way")
    assert tree() == before
    assert beside() == ["out"]


def test_a_page_that_is_not_ours_is_not_replaced(run, sim):
    pytest.importorskip("altair", exc_type=ImportError)
    pytest.importorskip("vl_convert", exc_type=ImportError)
    assert run("select", sim, "--budget", 5, "--clusters", 0, "-o", "out").code == 0
    Path("out/report.html").write_text("mine")
    run("report", "out", "--map", "none").refuses("out/report.html: was not written by crowdselect")
    run("select", sim, "--budget", 5, "-o", "out", "--overwrite", "--report").refuses(
        "out/report.html: was not"
    )
    assert run("select", sim, "--budget", 5, "--clusters", 0, "-o", "out", "--overwrite").code == 0
    assert Path("out/report.html").read_text() == "mine"
    assert run("report", "out", "--map", "none", "--overwrite").code == 0
    assert "report.html" in manifest("out")["written"]
    assert run("report", "out", "--map", "none").code == 0  # now it is ours
    assert run("select", sim, "--budget", 5, "--clusters", 0, "-o", "out", "--overwrite").code == 0
    assert not Path("out/report.html").exists()  # of another selection than this one


def test_figures_replace_only_figures(run, sim):
    pytest.importorskip("altair", exc_type=ImportError)
    pytest.importorskip("vl_convert", exc_type=ImportError)
    assert run("select", sim, "--budget", 5, "--clusters", 0, "-o", "out").code == 0
    report = ["report", "out", "--map", "none", "--figures", "figures"]
    Path("figures").mkdir()
    Path("figures/crowd.svg").write_text("mine")
    ran = run(*report)  # the page itself is written before
    assert ran.code == 2
    assert "figures/crowd.svg: was not written by crowdselect" in ran.err
    assert files_in(Path("figures")) == ["crowd.svg"]
    Path("figures/crowd.svg").rename("figures/mine.svg")
    assert run(*report).code == 0
    assert run(*report).code == 0
    listed = read_manifest(Path("figures"), "figures.json")["written"]
    assert {*listed, "mine.svg"} == set(files_in(Path("figures")))
    assert Path("figures/mine.svg").read_text() == "mine"


def test_the_lists_of_a_pool_and_of_rewards_name_their_files(run, sim):
    Path("scorer_here.py").write_text(
        "def length(chats):\n    return [len(chat[-1]['content']) for chat in chats]\n"
    )
    pool = Path("pool.parquet")
    shutil.copy(sim, pool)
    reward = ["reward", pool, "--with", "python:scorer_here:length", "-o", "r.parquet"]
    Path("r.parquet.manifest.json").write_text("mine")
    run(*reward).refuses("r.parquet.manifest.json: was not written by crowdselect")
    Path("r.parquet.manifest.json").unlink()
    ran = run(*reward)
    assert ran.code in {0, 3}, ran
    found = json.loads(Path("r.parquet.manifest.json").read_text())
    assert found["written"] == ["r.parquet", "r.parquet.manifest.json"]


# A folder of 0.1.0


@pytest.fixture
def former() -> Path:
    shutil.copytree(STORED / "chosen", "chosen")
    return Path("chosen")


def test_what_0_1_0_wrote_is_read(run, former):
    pool = STORED / "pool.parquet"
    row = train(former)[0]["id"]
    ran = run("why", former, row, "--pool", pool)
    assert (ran.code, ran.err) == (0, "")
    assert run("select", pool, "--budget", 5, "--clusters", 2, "--seed", 1, "-o", "other").code == 0
    assert run("compare", former, "other", "--pool", pool).code == 0
    pytest.importorskip("altair", exc_type=ImportError)
    pytest.importorskip("vl_convert", exc_type=ImportError)
    assert run("report", former, "--pool", pool, "--map", "none").code == 0
    assert run("report", former, "--pool", pool, "--map", "none").code == 0


def test_what_0_1_0_wrote_is_replaced_and_nothing_else(run, former):
    assert "written" not in manifest(former)
    add_mine(former)
    (former / "pool.parquet").write_text("not ours, though the manifest's `files` name it")
    (former / "report.html").write_text("of 0.1.0")
    select = ["select", STORED / "pool.parquet", "--budget", 4, "--clusters", 0, "-o", former]
    assert run(*select, "--overwrite", "--file-type", "parquet").code == 0
    assert mine_is_whole(former)
    ours = {"README.md", "manifest.json", "selection.parquet", "train.parquet"}
    assert set(files_in(former)) == {*ours, *MINE, "pool.parquet"}


@pytest.mark.parametrize(
    ("trainer", "left"), [("llamafactory", {"trl.sh"}), ("trl", {"dataset_info.json", "llamafactory.yaml"})]
)
def test_trainer_files_of_0_1_0_go_with_their_trainer_alone(former, trainer, left):
    found = manifest(former)
    found["export"] = {"format": "messages", "file": "../pool.parquet", "trainer": trainer}
    (former / "manifest.json").write_text(json.dumps(found))
    names = {"trl.sh", "dataset_info.json", "llamafactory.yaml"}
    assert own_files(former) & names == names - left
    assert "../pool.parquet" not in own_files(former)


# Links


def test_a_link_to_a_folder_is_written_through_and_stays_a_link(run, sim):
    Path("far/away").mkdir(parents=True)
    Path("link").symlink_to("far/away")
    for options in ([], ["--overwrite"]):
        assert run("select", sim, "--budget", 5, "--clusters", 0, "-o", "link", *options).code == 0
        assert Path("link").is_symlink()
        assert len(train("far/away")) == 5
        add_mine(Path("link"))
    assert mine_is_whole(Path("far/away"))
    assert beside() == ["far", "link"]
    assert beside(Path("far")) == ["away"]
    run("select", sim, "--budget", 5, "-o", "link").refuses("link: holds another result: --clusters was 0")


# Killed at any moment

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from crowdselect.writing import new_folder, write_manifest
left = int(sys.argv[1])
def counted(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
with new_folder(Path("out").absolute(), overwrite=True) as folder:
    for name in ("a.txt", "new.txt", "sub/b.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("new")
    write_manifest(folder, {"tool": "crowdselect", "kind": "selection", "what": "new"})
    for name in ("rename", "replace", "unlink", "mkdir", "rmdir"):
        setattr(Path, name, counted(getattr(Path, name)))
"""


def test_a_kill_between_any_two_steps_loses_nothing_and_can_be_repeated():
    moments = 0
    for moment in range(1, 40):
        shutil.rmtree("out", ignore_errors=True)
        with new_folder(Path("out").absolute(), overwrite=True) as folder:
            for name in ("a.txt", "old.txt", "sub/c.txt"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text("old")
            write_manifest(folder, {"tool": "crowdselect", "kind": "selection", "what": "old"})
        add_mine(Path("out"))
        Path("out/sub/mine.txt").write_text("mine")
        ended = subprocess.run([sys.executable, "-c", KILLED_AT, str(moment)], check=False)
        assert mine_is_whole(Path("out"))
        assert Path("out/sub/mine.txt").read_text() == "mine"
        found = read_manifest(Path("out"))
        if found is not None:  # then it is complete
            texts = {(Path("out") / name).read_text() for name in found["written"] if name != "manifest.json"}
            assert texts == {found["what"]}
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        moments += 1
        assert found is not None or (Path("out") / UNFINISHED).exists()
        assert subprocess.run([sys.executable, "-c", KILLED_AT, "0"], check=False).returncode == 0
        names = {"a.txt", "new.txt", "sub/b.txt", "manifest.json", "sub/mine.txt", *MINE}
        assert set(files_in(Path("out"))) == names
        assert beside() == ["out"]
    assert moments > 8


def test_a_stop_waits_until_the_files_are_in_place():
    with new_folder(Path("out").absolute(), overwrite=True) as folder:
        write_manifest(folder, {"tool": "crowdselect"})
    code = KILLED_AT.replace("SIGKILL", "SIGINT").replace("left == 0", "left in (0, -1)")
    ended = subprocess.run([sys.executable, "-c", code, "3"], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in ended.stderr
    assert files_in(Path("out")) == manifest("out")["written"]
    assert "new.txt" in manifest("out")["written"]
    assert beside() == ["out"]


def test_two_runs_do_not_move_files_into_one_folder_at_once():
    import fcntl

    with new_folder(Path("out").absolute(), overwrite=True) as folder:
        write_manifest(folder, {"tool": "crowdselect"})
    before = tree()
    other = os.open("out", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    def write() -> None:
        with new_folder(Path("out").absolute(), overwrite=True) as folder:
            write_manifest(folder, {"tool": "crowdselect", "more": 1})

    with pytest.raises(OutputError, match="out: another run is writing to this folder"):
        write()
    os.close(other)
    assert tree() == before
    write()


# Dead runs and living ones

HOLDING = """
import sys, time
from pathlib import Path
from crowdselect.writing import new_file, new_folder
make = new_file(Path(sys.argv[1]).absolute()) if "." in sys.argv[1] else new_folder(Path(sys.argv[1]).absolute(), overwrite=False)
with make as partial:
    print(partial, flush=True)
    time.sleep(60)
"""


def begin_and_end(name: str) -> None:
    """Begin to write there, and fail."""
    place = Path(name).absolute()

    def fail() -> None:
        with new_file(place) if "." in name else new_folder(place, overwrite=False):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()


@pytest.mark.parametrize("name", ["out", "m.csv", "a[b]*"])
def test_what_a_dead_run_left_goes_and_what_a_living_one_holds_stays(name):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, name], stdout=subprocess.PIPE, text=True
    ) as process:
        partial = Path(process.stdout.readline().strip())
        others = [f".{name}.partial-mine", ".other.partial-abcdefgh", f"{name}.partial-abcdefgh"]
        for other in others:
            Path(other).mkdir()
        begin_and_end(name)
        assert partial.exists()
        process.kill()
    assert partial.exists()
    begin_and_end(name)
    assert not partial.exists()
    assert set(beside()) == set(others)


# SIGTERM

SLOW = """
import sys, time
import crowdselect.{module} as module
def slow(*arguments, **options):
    print("here", flush=True)
    time.sleep(60)
module.{name} = slow
from crowdselect.cli.main import main
main()
"""


def stopped(arguments: list[object], *, module: str, name: str, how: int = signal.SIGTERM) -> tuple[int, str]:
    """Run a command until it reaches a function, and stop it there."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOW.format(module=module, name=name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(how)
        _, errors = process.communicate(timeout=30)
    return process.returncode, errors


@pytest.mark.parametrize(
    ("arguments", "module", "name"),
    [
        (["select", "SIM", "--budget", 5, "--clusters", 0, "-o", "out"], "selection.folder", "dataset_card"),
        (["metrics", "SIM", "-o", "m.csv"], "writing", "write_table"),
        (["simulate", "-o", "pool.parquet"], "simulate.pool", "drawn"),
        (["simulate", "-o", "pool", "--shards", 2], "simulate.pool", "drawn"),
        (["inspect", "SIM"], "selection.inspection", "inspect_pool"),
    ],
)
def test_sigterm_ends_a_command_as_ctrl_c_does(sim, arguments, module, name):
    given = [str(sim) if part == "SIM" else part for part in arguments]
    for how in (signal.SIGTERM, signal.SIGINT):
        code, errors = stopped(given, module=module, name=name, how=how)
        assert (code, errors) == (130, "\nstopped\n")
        assert beside() == []


def test_a_run_stopped_while_the_page_is_made_says_that_the_selection_is_whole(sim):
    pytest.importorskip("altair", exc_type=ImportError)
    pytest.importorskip("vl_convert", exc_type=ImportError)
    arguments = ["select", sim, "--budget", 5, "--clusters", 0, "-o", "my out", "--report"]
    code, errors = stopped(arguments, module="report.report", name="make_page")
    assert code == 130
    said = "the selection in my out is complete; only its page is missing: crowdselect report 'my out'"
    assert errors == f"warning: {said}\n\nstopped\n"
    assert len(train("my out")) == 5
    assert not Path("my out/report.html").exists()
    assert subprocess.run([*COMMAND, "report", "my out", "--map", "none"], check=False).returncode == 0


def test_a_forked_process_ends_at_sigterm_at_once():
    code = (
        "import os, signal, time\n"
        "from crowdselect.stops import handle_sigterm\n"
        "handle_sigterm()\n"
        "child = os.fork()\n"
        "if child == 0:\n    time.sleep(60)\n"
        "time.sleep(0.3)\n"
        "os.kill(child, signal.SIGTERM)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ended.stdout, ended.stderr) == ("-15\n", "")


# Refused commands

CROWD = """
[defaults]
base_url = "http://127.0.0.1:9/v1"
[[model]]
name = "m-7b"
[[judge]]
name = "judge"
"""


@pytest.fixture
def crowd() -> Path:
    Path("crowd.toml").write_text(CROWD)
    Path("ask.jsonl").write_text('{"id": "a", "instruction": "2 + 2?"}\n')
    return Path("crowd.toml")


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "taken.parquet"],
        ["-o", "crowd.parquet", "--ledger", "ask.jsonl"],
        ["-o", "none/p.parquet"],
        ["-o", "p.parquet", "--samples", 0],
    ],
)
def test_collect_refused_leaves_no_ledger_and_no_lock(run, crowd, options):
    Path("taken.parquet").write_text("mine")
    before = tree()
    assert run("collect", "ask.jsonl", "--crowd", crowd, *options).code == 2
    assert tree() == before


def test_a_ledger_with_nothing_in_it_goes_and_one_with_something_stays():
    from crowdselect.ask.ledger import Ledger

    with Ledger("l.ledger") as ledger:
        ledger.note("last", {"samples": 1})
        with pytest.raises(Exception, match="another process"):
            Ledger("l.ledger")
    assert beside() == []
    with Ledger("l.ledger") as ledger:
        ledger.note("hold", [1, 0.5])
    assert beside() == ["l.ledger"]
    with Ledger("l.ledger") as ledger:
        assert sum(spent.attempts for spent in ledger.spent().values()) == 1
    assert beside() == ["l.ledger"]


def test_baselines_refused_leave_no_folder(run, sim):
    command = ["select", "--method", "random", "--budget", 5, "--seeds", 2, "-o", "out"]
    run(*command, "no-such-pool.parquet").refuses("no-such-pool.parquet")
    run(*command, sim, "--answer", "model:nobody").refuses("nobody")
    assert beside() == []


def test_a_recipe_refused_leaves_no_folder(run, monkeypatch, sim):
    from crowdselect.errors import InputError
    from crowdselect.recipe import running

    def refuse(*_arguments, **_options):
        raise InputError("pool: no such thing")

    Path("recipe.toml").write_text(f'[pool]\nfile = "{sim}"\n[select]\nbudget = 3\n')
    monkeypatch.setattr(running, "make_plan", refuse)
    ran = run("run", "recipe.toml", "-o", "out")
    assert ran.code == 2
    assert beside() == ["recipe.toml"]


def test_a_taken_folder_of_checkpoints_gives_back_only_what_a_run_keeps_there():
    from crowdselect.train.workplace import occupy, workplace

    place = workplace(Path("student").absolute())
    occupy(place, {"a": 1}, overwrite=False).close()
    place.leave(processes=1)
    assert beside() == []
    occupy(place, {"a": 1}, overwrite=False).close()
    (place.folder / "checkpoint-3").mkdir()
    (place.folder / "checkpoint-mine").mkdir()
    (place.folder / "notes.md").write_text("mine")
    place.remove()
    assert sorted(files_in(place.folder)) == ["notes.md"]
    assert (place.folder / "checkpoint-mine").is_dir()


def test_names_that_will_be_written_are_looked_at_before_any_work():
    Path("out").mkdir()
    Path("out/manifest.json").write_text(json.dumps({"tool": "crowdselect", "written": ["a"]}))
    Path("out/a").write_text("ours")
    Path("out/b").write_text("mine")
    check_output("out", inputs=[], overwrite=True, folder=True, writes=["a"])
    with pytest.raises(OutputError, match="out/b: was not written by crowdselect"):
        check_output("out", inputs=[], overwrite=True, folder=True, writes=["a", "b"])


def test_asking_leaves_the_handlers_of_signals_as_they_were():
    """asyncio would put the system's own handler in their place, and a SIGTERM while the pool is written would kill."""
    from crowdselect.ask.ask import run as ask
    from crowdselect.ask.budget import Limits
    from crowdselect.ask.ledger import Ledger
    from crowdselect.cli.entry import stopped_by_sigterm

    before = signal.getsignal(signal.SIGTERM)
    with stopped_by_sigterm(), Ledger("l.ledger") as ledger:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert handlers[1] is not before
        ask([], ledger, Limits())
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.extra
def test_sigterm_ends_a_command_on_ray_as_ctrl_c_does(sim):
    pytest.importorskip("ray", exc_type=ImportError)
    arguments = ["select", sim, "--budget", 5, "-o", "out", "--engine", "ray"]
    code, errors = stopped(arguments, module="cli.choosing", name="_choose")
    assert (code, errors) == (130, "\nstopped\n")
    assert beside() == []


def test_a_folder_of_parts_gives_back_only_what_is_ours():
    pytest.importorskip("ray", exc_type=ImportError)
    from crowdselect.collect.sharded import _remove_empty

    class Endpoint:
        digest = b"\1" * 32

    place = Path("p.parquet.parts") / ("01" * 8)
    (place / ".requests-abc").mkdir(parents=True)
    Path("p.parquet.parts/notes.md").write_text("mine")
    _remove_empty(Path("p.parquet.parts"), [Endpoint()])
    assert beside(Path("p.parquet.parts")) == ["notes.md"]
    Path("p.parquet.parts/notes.md").unlink()
    _remove_empty(Path("p.parquet.parts"), [Endpoint()])
    assert beside() == []


def test_what_is_said_to_be_written_is_what_was_written(run, sim):
    asked = ("select", sim, "--budget", 5, "--clusters", 0, "-o", "out")
    assert run(*asked).code == 0
    Path("out/notes.md").write_text("mine")
    said = run(*asked, "--overwrite").out
    assert "README.md, manifest.json, selection.parquet, train.jsonl" in said
    assert "notes.md" not in said
