"""What people see: text from pools is shown, never obeyed; tables keep their numbers on any terminal."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import COMMAND, tree
from crowdselect.cli.summary import crowd_line
from crowdselect.terminal import lines, stage_bar, table, visible

ATTACKS = {
    "markup": "[/b] [red]x[/] [link=http://e]",
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://e\x1b\\click",
    "c1": "\x9b31m \x85next",
    "right to left": "\u202eevil\u202c \u2066x\u2069 \u200f",
    "null": "a\0b",
    "lines": "one\ntwo\r\nthree\u2028four\u2029five\vsix\fseven",
    "table": "| cell | `code` ``` fence",
    "html": "<script>alert(1)</script> &lt; <!-- -->",
    "delete": "\x7f\b\b\b",
    "mark": "\ufeff\u200bzero",
    "front": "---\nlicense: mine\n---",
}
ALL = " ".join(ATTACKS.values())


def harmless(text: str) -> None:
    """Nothing in a text that a terminal or a display obeys."""
    for character in text:
        category = unicodedata.category(character)
        assert character in "\n\u200c\u200d" or category not in {"Cc", "Cf", "Cs", "Zl", "Zp"}, ascii(
            character
        )


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A pool in which every name and text is an attack."""
    monkeypatch.chdir(tmp_path)
    attacks = list(ATTACKS.values())
    rows = [
        {
            "id": f"{i} {attack}",
            "instruction": f"{attack} {i}",
            "model": f"{model} {ALL}",
            "response": f"{ALL} {model}",
            "judge [/b]\x1b[31m|`\u202e": float(len(attack) * (j + 1) % 7),
            "topic\x1b[1m": ALL if i % 2 else attack,
        }
        for i, attack in enumerate(attacks)
        for j, model in enumerate(("x-7b", "x-70b", "y-2b"))
    ]
    name = "po\x1bol\u202e[b].parquet"
    pq.write_table(pa.Table.from_pylist(rows), name)
    return name


def test_hostile_pools_in_every_command(run, hostile):
    select = [
        "select",
        hostile,
        "--clusters",
        0,
        "--weights",
        "difficulty=1",
        "--license",
        ALL.replace("\0", ""),
    ]
    commands = [
        ["inspect", hostile],
        ["inspect", hostile, "--json"],
        ["crowd", hostile],
        ["crowd", hostile, "--json"],
        ["crowd", hostile, "--toml"],
        ["metrics", hostile, "-o", "m\x1b[31m.csv"],
        [*select, "--budget", 5, "-o", "o\x1b]0;x\x07ut"],
        [*select, "--budget", 13, "-o", "all", "--for", "trl"],
        [*select, "--budget", 5, "-o", "json", "--json"],
        [*select[:2], "--cluster-by", "topic\x1b[1m", "--weights", "difficulty=1", "--budget", 5, "-o", "by"],
    ]
    for command in commands:
        ran = run(*command)
        assert ran.code == 0, ran.err
        harmless(ran.out + ran.err)
        if "--json" in command:
            assert ran.out.isascii()
            json.loads(ran.out)
    for row in pq.read_table("all/selection.parquet", columns=["id"])["id"].to_pylist():
        for more in ([], ["--json"]):
            if "\0" in row:
                continue  # no command line holds one
            ran = run("why", "all", *more, "--", row)
            assert ran.code == 0, ran.err
            harmless(ran.out + ran.err)
    for path in tree():
        if Path(path).suffix in {".md", ".sh", ".yaml"} or path.endswith("info.json"):
            harmless(Path(path).read_text())


def test_attacks_are_shown_as_what_they_are(run, hostile, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    shown = run("inspect", hostile).out
    for part in (
        "[/b] [red]x[/] [link=http://e]",
        r"\x1b[31mred\x1b[0m",
        r"\x1b]0;owned\x07",
        r"\u202eevil",
        r"a\x00b",
        "<script>",
    ):
        assert part in shown


def test_hostile_names_in_errors(run, hostile):
    for command in (
        ["inspect", hostile, "--reward", ALL.replace("\0", "")],
        ["select", hostile, "--budget", 1, "-o", "out", "--answer", f"model:{ALL}".replace("\0", "")],
        ["select", hostile, "--budget", 1, "-o", "out", "--weights", "\x1b[31m=1"],
        ["select", hostile, "--budget", "\x1b[31m", "-o", "out"],
        ["select", hostile, "--budget", 1, "-o", "out", "--cluster-by", "\x1b[31m\n"],
        ["select", hostile, "--budget", 1, "-o", "out", "--embedder", "\x1b]0;x\x07"],
        ["select", hostile, "--budget", 1, "-o", "out", "--\x1b[31m"],
        ["inspect", "\x1b[31mnone\u202e.parquet"],
        ["why", "\x1b[31m", "x"],
        ["\x1b[31m"],
    ):
        ran = run(*command)
        ran.refuses()
        harmless(ran.out + ran.err)


@given(st.text(st.characters(codec=None)))
def test_visible_is_harmless_and_keeps_what_is_plain(text):
    shown = visible(text)
    harmless(shown)
    assert "\n" not in shown
    plain = text.isascii() and text.isprintable()
    assert not plain or shown == text


@given(st.text(), st.integers(1, 20))
@settings(max_examples=50)
def test_visible_cuts_to_a_width(text, width):
    shown = visible(text, width=width)
    assert len(shown) <= width
    assert shown == visible(text) or shown.endswith("…")


def test_visible_keeps_scripts_and_emoji():
    for text in ("日本語の質問?", "हिन्दी क्‍ष", "می‌خواهم", "👩‍👩‍👧 ❤️", "naïve — “quoted”"):
        assert visible(text) == text


# Tables


def printed(capsys, *arguments, **options) -> list[str]:
    table(*arguments, **options)
    return capsys.readouterr().out.split("\n")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch, columns: int) -> io.StringIO:
    page = Terminal()
    monkeypatch.setattr(sys, "stdout", page)
    monkeypatch.setenv("COLUMNS", str(columns))
    return page


@pytest.mark.parametrize(("columns", "wide"), [(None, 80), (60, 60), (400, 400)])
def test_a_table_in_a_pipe_is_as_wide_as_columns_says(capsys, monkeypatch, columns, wide):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    rows = [["q" * 300, 1.25, None, "text " * 20], ["[b]n", 10, "z", "short"]]
    shown = printed(
        capsys,
        ["name", ">value", "more", "left out"],
        rows,
        title=" ".join(["a title"] * 15),
        optional=["left out"],
    )
    assert max(map(len, shown)) <= max(wide, len("not shown in 60 columns: left out (set COLUMNS=120)"))
    assert "".join(shown).count("q") == 300
    assert " ".join(" ".join(shown).split()).count("a title") == 15
    assert any(line.split()[-2:] == ["1.25", "-"] for line in shown) == (wide < 400)
    said = [line for line in shown if line.startswith("not shown")]
    assert said == (
        [] if wide == 400 else [f"not shown in {wide} columns: left out (set COLUMNS={2 * wide})"]
    )
    assert all(line == line.rstrip() for line in shown)


@pytest.mark.parametrize("columns", [80, 100, 140, 300])
@pytest.mark.parametrize("text", ["word " * 60, "質問" * 60, "x" * 200])
def test_one_line_per_row_and_no_number_is_cut(monkeypatch, columns, text):
    from rich.cells import cell_len

    page = on_terminal(monkeypatch, columns)
    heads = [
        ">rank",
        "instruction",
        ">cluster",
        ">harder than",
        ">differs more",
        ">size helps more",
        "answer by",
        ">reward",
    ]
    table(
        heads, [[rank, text, 17, "100%", "99%", "96%", text, -1.2345] for rank in range(1, 9)], one_line=True
    )
    shown = page.getvalue().rstrip("\n").split("\n")
    rows = [line for line in shown if re.match(r" +[1-8] ", line)]
    assert len(rows) == 8
    assert all(cell_len(line) <= columns for line in shown)
    for line in rows:
        assert "…" in line
        assert [part for part in line.split() if part in {"17", "100%", "99%", "96%", "-1.2345"}] == [
            "17",
            "100%",
            "99%",
            "96%",
            "-1.2345",
        ]


def test_other_tables_fold_their_texts_on_a_terminal(monkeypatch):
    page = on_terminal(monkeypatch, 60)
    table(["model", ">mean"], [["m" * 100, 3.25]])
    shown = page.getvalue()
    assert "…" not in shown
    assert shown.replace("model", "").replace("mean", "").count("m") == 100
    assert max(len(line) for line in shown.split("\n")) <= 60
    assert "3.25" in shown


def test_an_empty_table_and_none_in_lines(capsys):
    assert "name" in "".join(printed(capsys, ["name", ">n"], []))
    lines({"pool": "a\x1bb", "left out": None, "n": 3})
    assert capsys.readouterr().out == "pool      a\\x1bb\nn         3\n"


# Progress


def test_no_progress_in_a_pipe_but_of_long_stages(capsys, monkeypatch):
    with stage_bar("reading") as progress:
        progress(1, 2)
    assert capsys.readouterr() == ("", "")
    now = iter([0.0, 29.0, 31.0, 40.0, 62.0, 62.5])
    monkeypatch.setattr("crowdselect.terminal.time.monotonic", lambda: next(now))
    with stage_bar("clusters") as progress:
        for done in (10, 2_000, 2_500, 4_000):
            progress(done, 5_000)
    assert capsys.readouterr().err == (
        "clusters: 2,000 of 5,000 in 31 s\nclusters: 4,000 of 5,000 in 62 s\nclusters: done in 62 s\n"
    )


def test_progress_on_a_terminal_after_a_second():
    code = (
        "import time\n"
        "from crowdselect.terminal import stage_bar\n"
        "with stage_bar('quick') as progress:\n    progress(1, 2)\n"
        "with stage_bar('slow') as progress:\n    progress(1, 2)\n    time.sleep(1.5)\n"
    )
    master, slave = pty.openpty()
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while time.monotonic() < started + 30:
        try:
            read = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(master)
    assert process.wait() == 0
    assert b"slow" in shown
    assert b"1/2" in shown
    assert b"quick" not in shown


def test_no_escape_codes_in_a_pipe(sim):
    ended = subprocess.run(
        [*COMMAND, "select", str(sim), "--budget", "5", "--clusters", "0", "--dry-run"],
        capture_output=True,
        check=True,
    )
    assert b"\x1b" not in ended.stdout + ended.stderr


# One line about a crowd


def member(name, family, size):
    return {"name": name, "family": family, "size_b": size}


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ([], "no family of two sizes among 0 models"),
        ([member("a", None, None)], "no family of two sizes among 1 model"),
        ([member("a", "f", 7), member("b", "f", 7.0)], "no family of two sizes among 2 models"),
        ([member("a", "f", 1.5), member("b", "f", 7)], "1 family of two or more sizes: f 1.5/7B"),
        (
            [
                member("a", "f", 7),
                member("b", "f", 1.5),
                member("c", "f", None),
                member("d", "e", 3),
                member("e", None, 9),
            ],
            "1 family of two or more sizes: f 1.5/7B; 3 of 5 models in no such family",
        ),
        (
            [member(f"{f}{s}", f"f{f}", s) for f in range(8) for s in (1, 2)],
            "8 families of two or more sizes: f0 1/2B, f1 1/2B, f2 1/2B, f3 1/2B, f4 1/2B, f5 1/2B, and 2 more",
        ),
    ],
)
def test_a_crowd_in_one_line(members, line):
    assert crowd_line(members) == line
