"""What a person sees on a terminal: screens of 80 columns, and next steps that can be pasted."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

from commands import COMMAND
from crowdselect.terminal import counted, laid_out, shown_path, without_shared

LONG = "You are given a Python function and an assertion. Complete the assertion:"
MODELS = (
    "fireworks_ai__accounts__models__elm-instruct-1.5b",
    "fireworks_ai__accounts__models__elm-instruct-70b",
)


def screen(*arguments: object, columns: int = 80) -> str:
    """Run a command whose standard output is a terminal; give what it shows there."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.PIPE,
        env=environment | {"PYTHONIOENCODING": "utf-8"},
    )
    os.close(its)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0, said
    return b"".join(parts).decode().replace("\r\n", "\n")


def typed(text: str) -> list[list[str]]:
    """The commands among what was printed, as a shell reads them, without the program's name."""
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("  crowdselect ")]


def fits(text: str, columns: int) -> None:
    """Every line fits, but for commands, which must not be broken."""
    wide = [line for line in text.splitlines() if cell_len(line) > columns]
    assert [line for line in wide if not line.startswith("  crowdselect ")] == []


@pytest.fixture
def wide(tmp_path, monkeypatch):
    """A pool of long texts that begin alike, and of models with long names."""
    monkeypatch.chdir(tmp_path)
    rows = ["id,instruction,model,response,score"]
    for i in range(40):
        for j, model in enumerate(MODELS):
            rows.append(
                f'{i},"{LONG} function number {i} of the library",{model},answer {i},{i * (j + 1) % 7}'
            )
    Path("my pool.csv").write_text("\n".join(rows))
    return "my pool.csv"


@pytest.mark.parametrize("columns", [80, 120])
def test_screens_of_select_inspect_and_compare_fit(wide, columns):
    inspected = screen("inspect", wide, columns=columns)
    fits(inspected, columns)
    for model in MODELS:
        assert model[:20] in inspected
    chosen = screen("select", wide, "--budget", 10, "--clusters", 2, "-o", "chosen", columns=columns)
    fits(chosen, columns)
    picks = [line for line in chosen.splitlines() if re.match(r" +[1-8]   ", line)]
    assert len(picks) == 8
    assert all(re.search(r"….*number \d+ of", line) for line in picks)  # what differs is there
    assert "diff" in chosen
    assert ("not shown in 80 columns: cluster, answer by" in chosen) == (columns == 80)
    for name, *options in (("random", "--method", "random"), ("by-length", "--method", "length:answer")):
        screen("select", wide, "--budget", 10, *options, "-o", name, columns=columns)
    compared = screen("compare", "chosen", "random", "by-length", "--draws", 3, columns=columns)
    fits(compared, columns)
    assert len(re.findall(r"(?m)^ +difficulty ", compared)) == 1  # one table
    assert len(re.findall(r"(?m)^ +figure ", compared)) == 1


def test_next_steps_run_as_they_are_printed(run, wide):
    """From inspect on, every line of a next step is typed as it stands."""
    (choose,) = typed(run("inspect", wide, "--limit", 30).out)
    assert choose == ["select", wide, "--limit", "30", "--budget", "10%", "-o", "chosen"]
    chosen = run(*choose, "--clusters", 0)
    assert chosen.code == 0, chosen.err
    why, report, random, compare, train = typed(chosen.out)
    assert (report, train[:2]) == (["report", "chosen"], ["train", "chosen"])
    assert random[:8] == ["select", wide, "--limit", "30", "--budget", "3", "--method", "random"]
    for command in (why, random, compare):
        ran = run(*command)
        assert ran.code == 0, ran.err
    assert typed(run(*why).out) == [["view", "chosen", "--id", why[-1]]]
    assert random not in typed(run(*choose, "--clusters", 0).out)  # it is there now
    assert typed(run("inspect", wide).out)[0][-1] == "chosen-2"  # never over what is there


def test_next_steps_say_what_a_dry_run_would_do(run, wide):
    given = ["select", wide, "--budget", "10%", "--weights", "difficulty=1,stability=-2"]
    assert typed(run(*given, "--dry-run").out) == [[*given, "-o", "chosen"]]
    Path("o.toml").write_text('weights = "difficulty=1"\nkeep = ["rewards=1.."]\n')
    given = ["select", wide, "--config", "o.toml", "--budget", "4", "-o", "chosen"]
    chosen = run(*given)
    random = typed(chosen.out)[2]
    assert "random" in random
    assert "--keep" in random  # what was asked for in the file holds for both
    assert "--config" not in random  # its weights do not
    assert run(*random).code == 0


def test_next_steps_of_several_rewards_and_of_none(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pool.csv").write_text("id,instruction,model,response,a,b\n1,x,m-1b,y,1,2\n1,x,m-7b,y,2,1\n")
    assert typed(run("inspect", "pool.csv").out)[0][1:6] == [
        "pool.csv",
        "--clusters",
        "0",
        "--reward",
        "NAME",
    ]
    assert "--reward b" in " ".join(typed(run("inspect", "pool.csv", "--reward", "b").out)[0])
    Path("alone.csv").write_text(
        "id,model,score\n" + "".join(f"{i},{m},{i}\n" for i in range(40) for m in "ab")
    )
    step = typed(run("inspect", "alone.csv").out)[0]
    assert step[2:6] == ["--clusters", "0", "--weights", "difficulty=1,separability=1"]
    assert run(*step).code == 0
    crowd = typed(run("crowd", "pool.csv", "-o", "my.toml").out)
    assert crowd == [["inspect", "pool.csv", "--crowd", "my.toml"]]
    run("crowd", "alone.csv", "-o", "alone.toml")
    step = typed(run("inspect", "alone.csv", "--crowd", "alone.toml").out)[
        0
    ]  # no family of two sizes: no stability
    assert step[2:8] == [
        "--crowd",
        "alone.toml",
        "--clusters",
        "0",
        "--weights",
        "difficulty=1,separability=1",
    ]
    assert run(*step[:-1], "with-crowd").code == 0
    Path("bare.csv").write_text("id,instruction,model,response\n1,x,m-1b,y\n1,x,m-7b,y\n")
    assert typed(run("inspect", "bare.csv").out)[0][:3] == ["reward", "bare.csv", "--with"]
    assert typed(run("simulate", "-o", "new.parquet", "--instructions", 120).out) == [
        ["inspect", "new.parquet"]
    ]


def test_no_next_step_beside_json(run, wide):
    for command in (["inspect", wide], ["crowd", wide], ["select", wide, "--budget", 3, "--dry-run"]):
        assert "crowdselect select" not in run(*command, "--json").out


def test_counts_of_one_agree(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pool.csv").write_text("id,instruction,model,response,score\n1,x,m,y,1\n1,x,n,y,2\n")
    inspected, crowd = run("inspect", "pool.csv"), run("crowd", "pool.csv", "-o", "c.toml")
    metrics = run("metrics", "pool.csv", "-o", "m.csv")
    chosen = run(
        "select",
        "pool.csv",
        "--budget",
        1,
        "--clusters",
        0,
        "--weights",
        "difficulty=1",
        "--keep",
        "rewards=1..",
        "-o",
        "c",
    )
    assert chosen.code == 0, chosen.err
    assert "1 (0 without text, 0 repeat another)" in inspected.out
    assert "c.toml: 2 models added" in crowd.out
    assert "written to m.csv: 1 instruction, 2 models\n" in metrics.out
    assert "1 instruction x 2 models (long layout)" in chosen.out
    assert "1 row to train on" in chosen.out
    said = "".join(ran.out + ran.err for ran in (inspected, crowd, metrics, chosen))
    assert re.findall(r"\b1 (?:rows|instructions|models|families|answers|columns)\b", said) == []


def test_all_rewards_equal_is_said(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{i},text {i},{model},y,3" for i in range(9) for model in ("m-1b", "m-7b")]
    Path("pool.csv").write_text("id,instruction,model,response,score\n" + "\n".join(rows))
    said = "all rewards are equal (3), so there is nothing to choose by"
    assert f"score: {said}" in run("inspect", "pool.csv").err
    chosen = run("select", "pool.csv", "--budget", 2, "--clusters", 0, "-o", "c")
    assert said in chosen.err
    assert "well" not in chosen.err  # that nobody answered well is no finding then


# The parts


def test_columns_go_in_their_order_until_the_text_has_room():
    heads = ["text", ">first", ">second", ">third"]
    rows = [["x" * 40, 12345678, 12345678, 12345678]]
    found = [
        laid_out(heads, rows, wide=wide, one_line=True, optional=["second", "first"])[1]
        for wide in (90, 60, 50, 30)
    ]
    assert found == [[], [], ["second"], ["second", "first"]]


def test_short_headings_only_where_the_long_ones_do_not_fit():
    for wide, head in ((80, "difficulty"), (20, "diff")):
        text, _ = laid_out(
            ["text", ">difficulty"], [["x" * 20, 1]], wide=wide, one_line=True, short={"difficulty": "diff"}
        )
        assert text.splitlines()[1].split()[-1] == head


def test_a_table_of_too_many_numbers_is_divided():
    heads = ["figure", *(f">selection {i}" for i in range(9))]
    rows = [[f"a figure with a long name {i}", *(f"{i}.{j} above" for j in range(9))] for i in range(3)]
    text, _ = laid_out(heads, rows, wide=80)
    assert max(map(cell_len, text.splitlines())) <= 80
    for i in range(3):
        for j in range(9):
            assert text.count(f"{i}.{j} above") == 1
    assert laid_out(heads, rows, wide=10_000)[0].count("figure ") == 4  # the heading and three rows, once


@pytest.mark.parametrize(
    ("texts", "width", "shown"),
    [
        (["same start, a", "same start, b"], 20, ["same start, a", "same start, b"]),
        (["the same start a", "the same start b"], 8, ["…start a", "…start b"]),
        (["a b", "c d"], 2, ["a b", "c d"]),
        (["日本語の質問 一 二三四五六", "日本語の質問 一 七八九"], 8, ["…二三四五六", "…七八九"]),
        (["one text", "one text"], 3, ["one text", "one text"]),
    ],
)
def test_a_shared_beginning_is_left_out(texts, width, shown):
    assert without_shared(texts, width=width) == shown


def test_a_path_is_shown_as_it_was_typed_or_shorter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path("out/a.csv") == "out/a.csv"
    assert shown_path(tmp_path / "out" / "a.csv") == str(Path("out", "a.csv"))
    assert shown_path("/etc/x") == "/etc/x"
    assert shown_path("hf://datasets/a/b") == "hf://datasets/a/b"
    assert shown_path("a\x1bb") == "a\\x1bb"


def test_counts():
    assert [counted(n, "row") for n in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
