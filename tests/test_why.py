"""`crowdselect why`: one row's story, also when its pool has moved, changed or gone."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import COMMAND, train


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def chosen(sim, tmp_path_factory):
    """A selection from the simulated pool, made once."""
    from crowdselect import Options, export, open_pool, select

    folder = tmp_path_factory.mktemp("chosen") / "out"
    with open_pool(sim) as pool:
        return export(select(pool, Options(budget=20, clusters=3)), pool, folder)


def test_why_a_row_is_in(run, chosen):
    first = train(chosen)[0]
    ran = run("why", chosen, first["id"])
    assert (ran.code, ran.err) == (0, "")
    assert f"instruction {first['id']}\n  {first['messages'][0]['content'][:80]}" in ran.out
    assert first["messages"][1]["content"][:60] in ran.out
    assert "- chosen, rank 1 of 20" in ran.out
    assert re.search(r"- stability .*weight 2 adds \+", ran.out)
    found = json.loads(run("why", chosen, first["id"], "--json").out)
    assert (found["rank"], found["reason"], found["instruction"]) == (
        1,
        "selected",
        first["messages"][0]["content"],
    )


def test_why_a_row_is_out(run, chosen):
    rows = pq.read_table(chosen / "selection.parquet").to_pylist()
    out = next(row for row in rows if row["reason"] == "below_cut")
    ran = run("why", chosen, out["id"])
    assert "- not chosen: below_cut" in ran.out
    assert "the last place there went to" in ran.out
    assert re.search(r"to be chosen it needs .* \(a larger --budget\)", ran.out)
    run("why", chosen, "no-such-id").refuses("'no-such-id'", "120 instructions")


def test_why_when_the_pool_has_moved_or_changed(run, tmp_path):
    run("simulate", "-o", "pool.parquet", "--instructions", 30, "--answer-chars", 80)
    assert run("select", "pool.parquet", "--budget", 3, "--clusters", 0, "-o", "out").code == 0
    first = train("out")[0]
    Path("pool.parquet").rename("moved.parquet")
    gone = run("why", "out", first["id"])
    assert gone.code == 0
    assert "chosen, rank 1 of 3" in gone.out
    assert first["messages"][0]["content"][:50] not in gone.out
    assert "warning: the texts are not shown" in gone.err
    assert "pass its current path as --pool" in gone.err
    moved = run("why", "out", first["id"], "--pool", "moved.parquet")
    assert (moved.code, moved.err) == (0, "")
    assert first["messages"][0]["content"][:50] in moved.out
    run("why", "out", first["id"], "--pool", "none.parquet").refuses("none.parquet: no such file")
    run("simulate", "-o", "pool.parquet", "--instructions", 40, "--answer-chars", 80)
    changed = run("why", "out", first["id"])
    assert changed.code == 0
    assert "its content is not what this selection was made from" in changed.err
    run(
        "simulate",
        "-o",
        "pool.parquet",
        "--instructions",
        1,
        "--answer-chars",
        80,
        "--overwrite",
        "--seed",
        9,
    )
    other = run("why", "out", train("out")[-1]["id"], "--json")
    assert other.code == 0
    assert json.loads(other.out)["answer"] is None
    assert "the texts are not shown" in other.err


def test_why_when_the_rewards_file_has_gone(run, sim):
    table = pq.read_table(sim)
    pq.write_table(table.drop_columns(["simulated_reward"]), "pool.parquet")
    pq.write_table(table.select(["id", "model", "simulated_reward"]), "rewards.parquet")
    assert (
        run(
            "select",
            "pool.parquet",
            "--rewards",
            "rewards.parquet",
            "--budget",
            3,
            "--clusters",
            0,
            "-o",
            "out",
        ).code
        == 0
    )
    first = train("out")[0]
    assert run("why", "out", first["id"]).err == ""
    Path("rewards.parquet").unlink()
    ran = run("why", "out", first["id"])
    assert ran.code == 0
    assert first["messages"][0]["content"][:50] in ran.out
    assert "the rewards cannot be read" in ran.err


def test_why_of_a_damaged_selection(run, chosen, tmp_path):
    for damage, part in (
        (lambda f: (f / "selection.parquet").write_bytes(b"PAR1 and so on"), "the selection is damaged"),
        (lambda f: (f / "selection.parquet").unlink(), "the selection is damaged"),
        (
            lambda f: (f / "manifest.json").write_text('{"tool": "crowdselect", "kind": "selection"}'),
            "has no 'options'",
        ),
        (
            lambda f: (f / "manifest.json").write_text('{"tool": "crowdselect"}'),
            "not a selection; pass a folder created by",
        ),
        (
            lambda f: (f / "manifest.json").write_text("{"),
            "not a crowdselect output folder (no manifest.json)",
        ),
        (lambda f: (f / "manifest.json").unlink(), "not a crowdselect output folder (no manifest.json)"),
    ):
        folder = tmp_path / "damaged"
        shutil.copytree(chosen, folder)
        damage(folder)
        run("why", folder, "sim-000000001").refuses("damaged", part)
        shutil.rmtree(folder)


def test_ids_that_look_like_options_or_shell_code(run):
    """The command that `select` shows for copying does what it says, whatever is in the id."""
    ids = ["--pool $(touch pwned)", "it's; `touch pwned`"]
    rows = [
        {"id": i, "instruction": f"Say {i}", "model": m, "response": "r", "score": float(s)}
        for i in ids
        for s, m in enumerate(("x-7b", "x-70b"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    for i in ids:
        Path("only.txt").write_text(i)
        options = ["--budget", 1, "--clusters", 0, "--weights", "difficulty=1", "--include", "only.txt"]
        ran = run("select", "pool.parquet", *options, "-o", "my out", "--overwrite")
        line = ran.out.split("crowdselect why ")[1].split("\n")[0]
        shell = ["sh", "-c", f"{shlex.join(COMMAND)} why {line}"]
        done = subprocess.run(shell, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"Say {i}" in done.stdout
    assert not Path("pwned").exists()


def test_what_a_reason_left_out_with_the_rows_it_refers_to(run):
    """Twelve questions, of which four stand a second time."""
    rows = [
        {
            "id": f"q{i:02d}",
            "instruction": f"What is {i % 12} plus one?",
            "model": m,
            "score": i + 1.5 * i * j,
        }
        for i in range(16)
        for j, m in enumerate(("a-3b", "a-7b"))
    ]
    Path("pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run("select", "pool.jsonl", "--budget", 3, "--clusters", 0, "-o", "out").code == 0
    table = pq.read_table("out/selection.parquet").to_pylist()
    copies = {row["id"]: row["reason"][13:] for row in table if row["reason"].startswith("duplicate_of:")}
    assert len(copies) == 4
    found = json.loads(run("why", "out", "--reason", "duplicate_of", "--json").out)["rows"]
    assert {row["id"]: row["other"] for row in found} == copies
    assert all(row["instruction"] == row["other_instruction"] for row in found)
    ran = run("why", "out", "--reason", "duplicate_of")
    assert (ran.code, ran.err) == (0, "")
    assert "4 rows: duplicate_of, the same text as a better-scoring instruction" in ran.out
    assert all(re.search(rf"{id_} +What is .* {other} +What is", ran.out) for id_, other in copies.items())
    [one, *_] = copies.values()
    found = json.loads(run("why", "out", "--reason", f"duplicate_of:{one}", "--json").out)["rows"]
    assert [row["other"] for row in found] == [one]


def test_a_reason_with_many_rows_is_cut_with_a_note(run, chosen):
    ran = run("why", chosen, "--reason", "below_cut")
    count = len(json.loads(run("why", chosen, "--reason", "below_cut", "--json").out)["rows"])
    assert f"{count} rows: below_cut, eligible, but others score higher" in ran.out
    assert "refers to" not in ran.out
    assert f"{count - 50} more are in the output of --json" in ran.out


def test_a_reason_that_no_row_has(run, chosen):
    run("why", chosen, "--reason", "duplicates").refuses(
        "no row has the reason 'duplicates'", "selected (20)"
    )
    ran = run("why", chosen, "--reason")
    assert ran.code == 0, ran
    assert re.search(r"selected +20 ", ran.out)
    counts = json.loads(run("why", chosen, "--reason", "--json").out)["reasons"]
    assert counts["selected"] == 20
    assert sum(counts.values()) == 120
    run("why", chosen, "x", "--reason").refuses("give the id of a row, or a --reason")
    run("why", chosen).refuses("give the id of a row, or a --reason, such as --reason duplicate_of")
    run("why", chosen, "x", "--reason", "selected").refuses("give the id of a row, or a --reason")


def test_a_reason_is_listed_without_its_pool(run, tmp_path):
    run("simulate", "-o", "pool.parquet", "--instructions", 60, "--answer-chars", 80)
    assert run("select", "pool.parquet", "--budget", 3, "--clusters", 0, "-o", "out").code == 0
    Path("pool.parquet").unlink()
    ran = run("why", "out", "--reason", "selected")
    assert ran.code == 0
    assert "3 rows: selected" in ran.out
    assert "the texts are not shown" in ran.err
