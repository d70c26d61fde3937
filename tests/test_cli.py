"""The commands: help, demo, inspect, crowd, metrics, simulate, and how a command ends."""

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import COMMAND, manifest, train, tree
from crowdselect import __version__
from crowdselect.ask.endpoints import load_endpoints
from crowdselect.cli.main import cli

COMMANDS = [
    "collect",
    "compare",
    "completion",
    "crowd",
    "demo",
    "evaluate",
    "explore",
    "export",
    "init",
    "inspect",
    "metrics",
    "push",
    "report",
    "reward",
    "robustness",
    "run",
    "select",
    "simulate",
    "status",
    "train",
    "view",
    "why",
]


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Help and start


def test_every_command_is_known_here():
    assert cli.list_commands(click.Context(cli)) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_explains_every_option(run, name):
    ran = run(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(rf"Example:  crowdselect {name}", ran.out)
    assert "\\b" not in ran.out
    for option in cli.get_command(click.Context(cli), name).params:
        if (
            option.param_type_name == "option"
            and not option.hidden
            and option.opts[-1] not in {"-o", "--output"}
        ):
            assert option.help, option.opts
            assert option.opts[-1] in ran.out


def every_command(group=cli, name=""):
    for own in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), own)
        yield f"{name} {own}".strip(), command
        if isinstance(command, click.Group):
            yield from every_command(command, own)


def test_an_example_can_be_copied_and_fits(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name, command in every_command():
        shown = run(*name.split(), "--help").out
        example = shown[shown.index("  Example:") :]
        assert shlex.split(example.replace("\\\n", "")) == shlex.split(command.epilog)
        assert max(map(len, example.split("\n"))) <= 80, name


def test_no_line_about_a_command_is_cut(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in ((), ("evaluate",)):
        listed = run(*group, "--help").out.split("Commands:")[1]
        assert not re.search(r"\.\.\.$", listed, re.MULTILINE)


def test_help_and_version(run):
    for ran in (run("--help"), run("-h")):
        assert (ran.code, ran.err) == (0, "")
        assert all(f"\n  {name} " in ran.out for name in COMMANDS)
        assert "..." not in ran.out.split("Commands:")[1]
    assert run("--version").out == f"crowdselect {__version__}\n"


@pytest.mark.parametrize("group", [(), ("evaluate",)])
def test_without_a_command_there_is_help_and_one_line(run, group):
    ran = run(*group)
    assert ran.code == 2
    assert ran.out == run(*group, "--help").out
    assert ran.err.startswith("error: which command? One of: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["slect"], "there is no command 'slect'; did you mean 'select'?"),
        (["evaluate", "mtbench"], "did you mean 'mt-bench'?"),
        (["select", "pool", "--bugdet", "3"], "there is no option --bugdet; did you mean '--budget'?"),
        (["select", "pool", "--budget", "3", "--method", "lenght"], "did you mean 'length'?"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(run, command, meant):
    run(*command).refuses(meant)


def test_help_of_select_is_in_sections(run):
    out = run("select", "--help").out
    heads = re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE)
    assert heads == [
        "Options",
        "Pool",
        "What counts",
        "Student",
        "Spread",
        "Method",
        "Answers",
        "Output",
        "Where it runs",
        "Methods",
    ]
    first = re.findall(r"^  (?:-o, )?--([\w-]+)", out, re.MULTILINE)
    assert first[:4] == ["output", "budget", "method", "weights"]


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import resource, sys\n"
        "from crowdselect.cli.main import main\n"
        "sys.argv = ['crowdselect', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'duckdb', 'pyarrow', 'torch', 'rich', 'datasets', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, file=sys.stderr)\n"
    )
    seconds = []
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        loaded, used = ended.stderr.splitlines()
        assert loaded == "[]"
        seconds.append(float(used))
    assert min(seconds) < 0.5


# demo


@pytest.fixture
def small_demo(monkeypatch):
    """The demo's way on fewer instructions; the full one runs in the checks before a change lands."""
    from crowdselect.simulate import pool as module

    real = module.simulate
    monkeypatch.setattr(module, "simulate", lambda path, **rest: real(path, instructions=300, **rest))


def test_demo_says_what_it_did_and_runs_again(run, small_demo, tmp_path):
    first = run("demo")
    assert first.code == 0
    assert first.out.startswith("SIMULATED POOL")
    assert "300 instructions x 12 models" in first.out
    assert "First 8 of 100, with ranks" in first.out
    assert "Compared with 200 random selections using the same quotas" in first.out
    assert len(train("crowdselect-demo")) == 100
    assert "simulated" in (tmp_path / "crowdselect-demo" / "README.md").read_text()
    before = tree(tmp_path / "crowdselect-demo")
    again = run("demo")
    assert again.code == 0
    after = tree(tmp_path / "crowdselect-demo")
    assert {k: v for k, v in before.items() if k != "manifest.json"} == {
        k: v for k, v in after.items() if k != "manifest.json"
    }
    assert [p.name for p in tmp_path.iterdir()] == ["crowdselect-demo"]


def test_demo_in_json_and_elsewhere(run, small_demo):
    ran = run("demo", "--json", "-o", "elsewhere")
    found = json.loads(ran.out)
    assert found["facts"]["simulated"] is True
    assert len(found["chosen"]) == 100
    assert len(train("elsewhere")) == 100


def test_demo_leaves_a_strangers_folder_alone(run, small_demo, tmp_path):
    (tmp_path / "crowdselect-demo").mkdir()
    (tmp_path / "crowdselect-demo" / "thesis.txt").write_text("years of work")
    run("demo").refuses("crowdselect-demo", "not replaced")
    assert (tmp_path / "crowdselect-demo" / "thesis.txt").read_text() == "years of work"


# inspect, crowd, metrics, simulate


def test_inspect_counts_what_is_there(run):
    rows = [
        {"id": i, "instruction": t, "model": m, "response": r, "judge": s, "other": None}
        for i, t, m, r, s in [
            ("a", "Same", "m-7b", "x", 1.0),
            ("a", "Same", "m-70b", "", 3.0),  # a reward, but no text
            ("b", "same ", "m-7b", None, None),  # neither
            ("b", "same ", "m-70b", "y", 5.0),
            ("c", None, "m-7b", "z", 2.0),  # m-70b has no row here
        ]
    ]
    pq.write_table(
        pa.Table.from_pylist(
            rows,
            pa.schema(
                {
                    "id": "string",
                    "instruction": "string",
                    "model": "string",
                    "response": "string",
                    "judge": "double",
                    "other": "double",
                }
            ),
        ),
        "pool.parquet",
    )
    ran = run("inspect", "pool.parquet", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["layout"], found["instructions"], found["models"]) == ("long", 3, 2)
    assert (found["without_text"], found["duplicates"], found["empty_answers"]) == (1, 1, 1)
    assert found["rewards"] == {
        "judge": {
            "filled": pytest.approx(4 / 6),
            "lowest": 1.0,
            "mean": 2.75,
            "highest": 5.0,
            "without_reward": 0,
            "with_one_reward": 2,
            "complete": 1,
            "with_stability": 1,
            "good": {"above": 4.0, "share": 0.25},
            "tells_of": "both",
        }
    }
    assert [(m["name"], m["size_b"], m["coverage"]["judge"]) for m in found["crowd"]] == [
        ("m-70b", 70.0, pytest.approx(2 / 3)),
        ("m-7b", 7.0, pytest.approx(2 / 3)),
    ]
    assert any("other is missing for every instruction" in note for note in found["notes"])
    shown = run("inspect", "pool.parquet")
    assert "1 with a reward but no text" in shown.out
    assert "3 (1 without text, 1 repeats another)" in shown.out
    assert shown.out.index("m-70b") < shown.out.index("m-7b ")
    assert "other is missing" in shown.err


def test_inspect_takes_rewards_near_the_largest_number(run):
    rows = [{"id": "a", "instruction": "A", "model": m, "score": 1.7e308} for m in ("x-7b", "x-70b")]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    assert json.loads(run("inspect", "pool.parquet", "--json").out)["rewards"]["score"][
        "mean"
    ] == pytest.approx(1.7e308)


def test_inspect_without_rewards(run):
    Path("pool.csv").write_text("id,instruction,model,response\na,A,x-7b,r\na,A,x-70b,s\n")
    ran = run("inspect", "pool.csv")
    assert ran.code == 0
    assert "No reward column. Score the answers" in ran.out
    assert "x-70b" in ran.out
    assert ran.out.splitlines()[-1].startswith("  crowdselect reward pool.csv --with ")


def test_inspect_proposes_no_command_where_there_is_nothing_to_choose_by_or_to_score(run):
    Path("pool.csv").write_text("id,instruction,model,tstamp\na,A,x-7b,3\na,A,x-70b,4\nb,B,x-7b,5\n")
    ran = run("inspect", "pool.csv")
    assert ran.code == 0
    assert "No reward column, and no texts of answers that could be scored" in ran.out
    assert "  crowdselect " not in ran.out


def test_inspect_of_many_reward_columns(run):
    names = [f"judge{i}" for i in range(8)]
    rows = [
        {"id": "a", "instruction": "A", "model": m, **dict.fromkeys(names, 1.0)} for m in ("x-7b", "x-70b")
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    ran = run("inspect", "pool.parquet")
    assert "only the first 6 of 8 reward columns are described" in ran.err
    assert "Several reward columns" in ran.out
    assert "judge7" in run("inspect", "pool.parquet", "--reward", "judge7").out
    run("select", "pool.parquet", "--budget", 1, "-o", "out").refuses(
        "several reward columns: judge0, judge1"
    )


def test_inspect_says_in_one_warning_which_rewards_contradict_each_other(run):
    rewards = {name: [*range(1, 12), 12] for name in ("one", "two", "three", "four")}
    rewards["one"][-1] = rewards["two"][-1] = 0  # highest by the others
    rows = [
        {"id": f"q{n}", "model": model}
        | {name: values[n] + (0.5 if (n, model) == (4, "x-7b") else 0.0) for name, values in rewards.items()}
        for n in range(12)
        for model in ("x-7b", "x-70b")
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    found = [
        line for line in run("inspect", "pool.parquet").err.splitlines() if "one of the two is wrong" in line
    ]
    assert len(found) == 1
    assert "2 answers have the highest " in found[0]
    assert found[0].count(" (2)") == 3
    assert "likewise the highest and the lowest of" in found[0]


def test_crowd_says_what_was_read_off_names_and_what_the_file_says(run, sim):
    ran = json.loads(run("crowd", sim, "-o", "crowd.toml", "--json").out)
    assert {member["source"] for member in ran} == {"name"}
    again = json.loads(run("crowd", sim, "-o", "crowd.toml", "--json").out)
    assert {member["source"] for member in again} == {"file"}


def test_a_crowd_file_goes_round(run, sim):
    written = run("crowd", sim, "--toml")
    assert len(tomllib.loads(written.out)["model"]) == 12
    Path("crowd.toml").write_text(written.out.replace('"sim-oak"', '"oak"'))
    shown = json.loads(run("crowd", sim, "--crowd", "crowd.toml", "--json").out)
    assert {m["source"] for m in shown} == {"file"}
    assert {m["family"] for m in shown} == {"sim-ash", "sim-elm", "sim-fir", "oak"}
    assert "oak 1.5/7/32B" in run("crowd", sim, "--crowd", "crowd.toml").out
    ran = run("select", sim, "--budget", 5, "--clusters", 0, "--crowd", "crowd.toml", "-o", "out")
    assert "oak 1.5/7/32B" in ran.out
    assert all(m["source"] == "file" for m in manifest("out")["facts"]["crowd"])


def test_crowd_writes_a_file_that_can_be_edited(run, sim):
    ran = run("crowd", sim, "-o", "crowd.toml")
    assert (ran.code, ran.err) == (0, "")
    assert "crowd.toml: 12 models added" in ran.out
    text = Path("crowd.toml").read_text()
    assert text == run("crowd", sim, "--toml").out
    Path("crowd.toml").chmod(0o600)
    again = run("crowd", sim, "-o", "crowd.toml")
    assert "every model was there; nothing changed" in again.out
    assert Path("crowd.toml").read_text() == text
    assert Path("crowd.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("end", ["\n", "\r\n", ""], ids=["lf", "crlf", "no line end"])
def test_crowd_keeps_every_line_of_a_file_and_appends_what_is_missing(run, sim, end):
    lines = [
        "# how we reach them: mine, not to be touched",
        "[defaults]",
        'base_url = "http://127.0.0.1:9/v1"',
        "",
        "[[model]]   # the small one",
        'name = "sim-oak-7b"',
        'family = "ours"',
        "extra_body = { top_k = 5 }",
        "",
        "[notes]",
        'why = "because"',
        "[[judge]]",
        'name = "j"  # last',
    ]
    before = ("\r\n" if end == "\r\n" else "\n").join(lines) + end
    Path("real.toml").write_bytes(before.encode())
    Path("crowd.toml").symlink_to("real.toml")
    ran = run("crowd", sim, "-o", "crowd.toml")
    assert "11 models added" in ran.out
    after = Path("real.toml").read_bytes().decode()
    assert Path("crowd.toml").is_symlink()
    assert after.startswith(before)
    document = tomllib.loads(after)
    assert document["model"][0] == {"name": "sim-oak-7b", "family": "ours", "extra_body": {"top_k": 5}}
    names = {model["name"] for model in document["model"]}
    assert names == {member["name"] for member in json.loads(run("crowd", sim, "--json").out)}
    assert all({"family", "size_b"} <= set(model) for model in document["model"][1:])
    assert (document["notes"], document["judge"]) == ({"why": "because"}, [{"name": "j"}])
    assert len(load_endpoints("crowd.toml").models) == 12  # `collect` takes the same file
    chosen = run("select", sim, "--budget", 5, "--clusters", 0, "--crowd", "crowd.toml", "-o", "out")
    assert chosen.code == 0


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("crowd.json", None, ["crowd.json", "ends in .toml"]),
        ("crowd.toml", "[[model]\n", ["crowd.toml", "broken TOML"]),
        ("crowd.toml", "model = [{name = 'a'}]\n", ["crowd.toml", "under its own [[model]]"]),
        ("crowd.toml", "[[model]]\nname = 'a'\nsize = 3\n", ["crowd.toml", "'size'", "'size_b'"]),
        ("no/crowd.toml", None, ["there is no folder"]),
    ],
)
def test_crowd_leaves_a_file_that_it_cannot_add_to(run, sim, name, text, words):
    if text is not None:
        Path(name).write_text(text)
    run("crowd", sim, "-o", name).refuses(*words)
    assert (Path(name).read_text() if Path(name).exists() else None) == text


def test_a_crowd_file_that_fits_in_part_is_a_warning(run, sim):
    Path("crowd.toml").write_text(
        '[[model]]\nname = "sim-oak-7b"\nfamily = "o"\nsize_b = 7\nbase_url = "x"\n'
        '[[model]]\nname = "sim-oak-32b"\nfamily = "o"\nsize_b = 32\n[[model]]\nname = "gone"\n'
    )
    for command in (
        ["inspect", sim],
        ["crowd", sim],
        ["metrics", sim, "-o", "m.csv"],
        ["select", sim, "--budget", 2, "--clusters", 0, "--dry-run"],
    ):
        ran = run(*command, "--crowd", "crowd.toml")
        assert ran.code == 0, ran.err
        assert "1 of 3 entries is not in the pool: 'gone'" in ran.err
        assert "10 of 12 models" in ran.err


def test_metrics_in_three_forms_hold_the_same(run, sim):
    for ending in ("parquet", "csv", "jsonl"):
        ran = run("metrics", sim, "-o", f"m.{ending}")
        assert ran.code == 0, ran.err
        assert ran.out.startswith(f"written to m.{ending}: 120 instructions, 12 models\n")
    rows = pq.read_table("m.parquet").to_pylist()
    assert list(rows[0]) == [
        "id",
        "n_rewards",
        "mean_reward",
        "best_model",
        "best_reward",
        "difficulty",
        "separability",
        "stability",
    ]
    assert [row["id"] for row in rows] == [f"sim-{i:09}" for i in range(120)]
    assert all(row["mean_reward"] == -row["difficulty"] for row in rows)
    assert [json.loads(line) for line in Path("m.jsonl").read_text().splitlines()] == rows
    with Path("m.csv").open(newline="") as file:
        texts = list(csv.DictReader(file))
    assert [float(row["separability"]) for row in texts] == [row["separability"] for row in rows]
    run("metrics", sim, "-o", "m.csv").refuses("m.csv: there is such a file already", "--overwrite")
    assert run("metrics", sim, "-o", "m.csv", "--overwrite", "--ties", "paper").code == 0
    assert sorted(p.name for p in Path().iterdir()) == ["m.csv", "m.jsonl", "m.parquet"]


@pytest.mark.parametrize("layout", ["long", "zoo", "matrix"])
def test_simulate_then_select(run, layout):
    ran = run(
        "simulate",
        "-o",
        "pool.jsonl",
        "--instructions",
        30,
        "--layout",
        layout,
        "--answer-chars",
        80,
        "--seed",
        2,
    )
    assert ran.code == 0, ran.err
    assert "a simulated pool of 30 instructions x 12 models" in ran.out
    assert json.loads(run("inspect", "pool.jsonl", "--json").out)["simulated"] is True
    ran = run("select", "pool.jsonl", "--budget", 4, "--clusters", 0, "-o", "out")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("SIMULATED POOL")
    assert (
        "the pool holds no answers (wanted a column response), so there is no training file" in ran.err
    ) == (layout == "matrix")
    assert (Path("out") / "train.jsonl").exists() == (layout != "matrix")
    run("simulate", "-o", "pool.jsonl", "--instructions", 30).refuses("pool.jsonl")


# How a command ends


def test_ctrl_c_ends_with_130_and_leaves_nothing(run, sim, tmp_path, monkeypatch):
    from crowdselect.selection import folder as exporter

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "dataset_card", interrupted)
    ran = run("select", sim, "--budget", 3, "--clusters", 0, "-o", "out")
    assert ran.code == 130
    assert ran.err.strip() == "stopped"
    assert tree(tmp_path) == {}


def test_ctrl_c_while_duckdb_reads(tmp_path):
    """DuckDB answers Ctrl-C with an error of its own."""
    code = (
        "import os, signal, sys, threading\n"
        "from crowdselect.pool import connection as opened\n"
        "real = opened.connect\n"
        "def connect():\n"
        "    connection = real()\n"
        "    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    return connection\n"
        "opened.connect = connect\n"
        "from crowdselect.pool import pool\n"
        "pool.connect = connect\n"
        "from crowdselect.cli.main import main\n"
        "main()\n"
    )
    row = json.dumps({"id": "a", "instruction": "x" * 300, "model": "m", "score": 1})
    (tmp_path / "pool.jsonl").write_text((row + "\n") * 300_000)
    ended = subprocess.run(
        [sys.executable, "-c", code, "inspect", "pool.jsonl"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 130, ended.stderr[-500:]
    assert ended.stderr.strip() == "stopped"


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_a_reader_that_goes_away_is_no_failure(sim, tmp_path, closed):
    for number, command in enumerate(
        (
            ["crowd", sim, "--json"],
            ["select", sim, "--budget", "50", "--clusters", "0", "-o", tmp_path / "out"],
            ["select", sim, "--budget", "0", "-o", tmp_path / "none"],
        )
    ):
        read, write = os.pipe()
        os.close(read)  # nobody reads
        streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        streams |= dict.fromkeys(streams, write) if closed == "both" else {closed: write}
        ended = subprocess.run([*COMMAND, *map(str, command)], text=True, check=False, **streams)
        os.close(write)
        assert ended.returncode == (2 if number == 2 else 0)
        assert "Traceback" not in (ended.stdout or "") + (ended.stderr or "")
        assert (tmp_path / "out" / "manifest.json").exists() == (number > 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["inspect", "select"])
def test_a_full_disk_behind_the_output_is_one_line_after_the_work_is_done(command, sim, tmp_path):
    more = ["--budget", "3", "--clusters", "0", "-o", str(tmp_path / "out")] if command == "select" else []
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*COMMAND, command, str(sim), *more], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        "error: standard output cannot be written: No space left on device; what was printed is not complete, "
        "but the files and folders that the command wrote are"
    )
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "out" / "manifest.json").exists() == (command == "select")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_error_changes_nothing(sim, tmp_path):
    arguments = ["select", str(sim), "--budget", "3", "--clusters", "0", "-o", str(tmp_path / "out")]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=full, check=False)
    assert ended.returncode == 0
    assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding(run, monkeypatch, encoding):
    rows = [
        {"id": "質問", "instruction": "これは何?", "model": m, "response": "答え", "score": s}
        for s, m in ((1.0, "モデル-7b"), (2.0, "モデル-70b"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    select = [
        "select",
        "pool.parquet",
        "--budget",
        1,
        "--clusters",
        0,
        "--weights",
        "difficulty=1",
        "--dry-run",
    ]
    for command in (["inspect", "pool.parquet"], ["crowd", "pool.parquet", "--toml"], select):
        page = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(page, encoding=encoding))
        ran = run(*command)
        assert (ran.code, ran.err) == (0, "")
        assert rb"\u30e2" in page.getvalue()
        assert rb"\u2500" not in page.getvalue()  # lines of tables, which have an ASCII form


def test_closed_streams_are_no_error(sim):
    shell = '"$@" >&- 2>&-'
    ended = subprocess.run(["sh", "-c", shell, "sh", *COMMAND, "crowd", str(sim)], check=False)
    assert ended.returncode == 0


def test_an_error_of_the_system_is_one_line(run, sim, monkeypatch):
    from crowdselect.selection import folder as exporter

    def denied(*_arguments, **_options):
        raise PermissionError(13, "Permission denied", "/locked/file")

    monkeypatch.setattr(exporter, "check_export", denied)
    run("select", sim, "--budget", 3, "-o", "out").refuses("error: /locked/file: Permission denied")


# The real pools, as a newcomer would call it


@pytest.mark.real
@pytest.mark.parametrize(("name", "budget"), [("shaberi", 50), ("zeroeval", 300)])
def test_select_from_a_real_pool(run, data, name, budget):
    pool, crowd = data / f"{name}.parquet", data / f"{name}.models.json"
    ran = run("select", pool, "--crowd", crowd, "--reward", "score", "--budget", budget, "-o", "out")
    assert ran.code == 0, ran.err
    assert len(train("out")) == budget
    assert len({row["id"] for row in train("out")}) == budget
    assert f"First 8 of {budget}" in ran.out
    assert str(data) not in (Path("out") / "README.md").read_text()
    assert run("why", "out", train("out")[-1]["id"]).err == ""


@pytest.mark.real
def test_a_real_pool_without_text(run, data):
    pool = data / "wildbench.parquet"
    run("select", pool, "--reward", "score", "--budget", 10, "-o", "out").refuses(
        "no instruction has text", "--clusters 0"
    )
    ran = run("select", pool, "--reward", "score", "--budget", 10, "--clusters", 0, "-o", "out")
    assert ran.code == 0
    assert (
        "the pool holds no instruction text (wanted a column instruction or messages), so there is no training"
        in ran.err
    )
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "README.md",
        "manifest.json",
        "selection.parquet",
    ]
    found = json.loads(run("inspect", pool, "--json").out)
    assert (found["without_text"], found["empty_answers"]) == (1024, 5)  # of the usual reward


@pytest.mark.real
def test_inspect_of_a_real_pool_counts_empty_answers_not_gaps(run, data):
    assert json.loads(run("inspect", data / "zeroeval.parquet", "--json").out)["empty_answers"] == 49


def test_signals_are_as_they_were():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
