"""The same command again is known by its options and the content of its inputs, and by nothing else."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import tree
from crowdselect.errors import OutputError
from crowdselect.manifests import MANIFEST, TOOL
from crowdselect.repeats import (
    as_metadata,
    difference,
    digest_of,
    is_current,
    is_current_file,
    made_by,
    made_in,
)
from crowdselect.report.page import render


def finished(folder: Path, made: object) -> Path:
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps({"tool": TOOL, "made": made}))
    return folder


def test_a_result_of_the_same_command_is_current_wherever_its_inputs_lie(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    made = made_by(
        "select", {"budget": 5, "decontaminate": ("x",)}, {"pool": tmp_path / "a.csv", "crowd": None}
    )
    folder = finished(tmp_path / "out", made)
    (tmp_path / "moved.csv").write_text("id\n1\n")
    os.utime(tmp_path / "moved.csv", (0, 0))
    again = made_by(
        "select", {"budget": 5, "decontaminate": ["x"]}, {"pool": [tmp_path / "moved.csv"], "crowd": None}
    )
    assert is_current(folder, again, overwrite=False)


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    made = made_by("select", {"budget": 5, "seed": 0}, {"pool": tmp_path / "a.csv"})
    folder = finished(tmp_path / "out", made)
    for options, said in (
        ({"budget": 6, "seed": 1}, "`budget` was 5 and is now 6"),
        ({"budget": 5}, "`seed` was 0 and is now unset"),
    ):
        with pytest.raises(OutputError, match=said):
            is_current(folder, {**made, "options": options}, overwrite=False)
    (tmp_path / "a.csv").write_text("id\n2\n")
    other = made_by("select", {"budget": 5, "seed": 0}, {"pool": tmp_path / "a.csv"})
    with pytest.raises(OutputError, match="`pool` had other content when it was made"):
        is_current(folder, other, overwrite=False)
    assert not is_current(folder, other, overwrite=True)
    assert difference({**made, "inputs": {}}, made) == "`pool` was not given when it was made"


def test_without_a_finished_result_there_is_something_to_do(tmp_path: Path) -> None:
    made = made_by("select", {}, {})
    assert not is_current(tmp_path / "none", made, overwrite=False)
    older = finished(tmp_path / "older", None)
    with pytest.raises(OutputError, match="does not say how it was made"):
        is_current(older, made, overwrite=False)


def test_a_large_file_is_read_in_pieces_to_its_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crowdselect.repeats._WHOLE", 4 << 20)
    file = tmp_path / "large"
    content = bytearray(os.urandom(100 << 20))
    file.write_bytes(content)
    before = digest_of([file])
    for place in (0, len(content) - 1):
        content[place] ^= 1
        file.write_bytes(content)
        assert digest_of([file]) != before
        content[place] ^= 1
    file.write_bytes(content)
    assert digest_of([file]) == before


def test_select_again_is_up_to_date_and_another_names_what_differs(run, sim, tmp_path):
    pool = tmp_path / "pool.parquet"
    pool.write_bytes(Path(sim).read_bytes())
    given = ("select", pool, "--budget", 5, "--clusters", 0, "-o", tmp_path / "out")
    assert run(*given).code == 0
    before = tree(tmp_path / "out")
    again = run(*given, "--no-cache")
    assert (again.code, again.out.split("\n\n")[0].count("\n")) == (0, 0)
    assert again.out.startswith("up to date: ")
    assert tree(tmp_path / "out") == before
    assert json.loads(run(*given, "--json").out)["chosen"]
    ids = tmp_path / "ids.txt"
    ids.write_text("x\n")
    for more, said in (
        (("--seed", 1), "--seed was 0 and is now 1"),
        (("--method", "random"), "is now random"),
        (("--format", "alpaca"), "--format was unset and is now alpaca"),
        (("--exclude", ids), "--exclude was not given when it was made"),
    ):
        run(*given, *more).refuses(said, "--overwrite")
    (tmp_path / "out" / "train.jsonl").unlink()
    run(*given).refuses("train.jsonl is missing", "--overwrite")
    assert run(*given, "--overwrite").code == 0
    assert tree(tmp_path / "out").keys() == before.keys()
    other = tmp_path / "other.parquet"
    assert run("simulate", "-o", other, "--instructions", 120, "--seed", 9).code == 0
    pool.write_bytes(other.read_bytes())
    run(*given).refuses("POOL had other content when it was made")


def test_a_folder_of_ours_is_what_it_lists_without_its_page_and_the_time_it_took(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out", {"command": "select"})
    before = made_by("compare", {}, {"folders": [folder]})
    (folder / "report.html").write_text("x")
    (folder / "notes.md").write_text("mine")
    facts = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(
        json.dumps({**facts, "written": ["report.html"], "seconds": {"choice": 1}})
    )
    assert made_by("compare", {}, {"folders": [folder]}) == before
    (folder / MANIFEST).write_text(json.dumps({**facts, "warnings": ["another"]}))
    assert made_by("compare", {}, {"folders": [folder]}) != before


def test_a_file_says_what_it_was_made_by_whatever_stands_in_it(tmp_path: Path) -> None:
    made = made_by("report", {"map": '"><script>&amp;\x7f\u202e é'}, {})
    page = tmp_path / "page.html"
    page.write_text(render("base.html", title="t", kind="k", simulated=False, warnings=[], made=made))
    assert "<script>&amp" not in page.read_text()
    assert made_in(page) == made
    table = pa.table({"id": ["a"]}).replace_schema_metadata(as_metadata(made))
    pq.write_table(table, tmp_path / "a.parquet")
    assert made_in(tmp_path / "a.parquet") == made
    assert is_current_file(page, made, overwrite=False)
    assert not is_current_file(page, made, overwrite=True)
    for name in ("none.html", "none.parquet", "m.csv"):
        assert made_in(tmp_path / name) is None
    for name in ("broken.parquet", "broken.html"):
        (tmp_path / name).write_bytes(b'<meta name="crowdselect" content="{">')
        assert made_in(tmp_path / name) is None
        assert not is_current_file(tmp_path / name, made, overwrite=False)


def test_what_may_grow_makes_a_file_old_and_not_another_ones(tmp_path: Path) -> None:
    made = made_by("reward", {"limit": 5, "references": None}, {})
    pq.write_table(pa.table({"id": ["a"]}).replace_schema_metadata(as_metadata(made)), tmp_path / "a.parquet")
    more = made_by("reward", {"limit": 9, "references": None}, {})
    assert not is_current_file(tmp_path / "a.parquet", more, overwrite=False, growing={"limit"})
    with pytest.raises(OutputError, match="`limit` was 5 and is now 9"):
        is_current_file(tmp_path / "a.parquet", more, overwrite=False)
    other = made_by("reward", {"limit": 9, "references": "answer"}, {})
    with pytest.raises(OutputError, match="`references` was unset and is now answer"):
        is_current_file(tmp_path / "a.parquet", other, overwrite=False, growing={"limit"})


def is_repeated(run, given, page: Path, *others) -> None:
    """The command is up to date the second time, another names what differs, and --overwrite writes anew."""
    assert run(*given).code == 0
    before = page.read_bytes()
    again = run(*given)
    assert (again.code, again.out.count("\n")) == (0, 1), again
    assert again.out.startswith("up to date: ")
    assert page.read_bytes() == before
    for more, said in others:
        run(*given, *more).refuses(said, "--overwrite")
        assert page.read_bytes() == before
    assert run(*given, *others[0][0], "--overwrite").code == 0
    run(*given).refuses("--overwrite")


def test_pages_and_tables_of_the_same_command_are_up_to_date(run, sim, tmp_path):
    pool, crowd = tmp_path / "pool.parquet", tmp_path / "crowd.toml"
    pool.write_bytes(Path(sim).read_bytes())
    assert run("crowd", pool, "-o", crowd).code == 0
    for seed in (0, 1):
        chosen = ("--budget", 9, "--clusters", 0, "--seed", seed, "--method", "random")
        assert run("select", pool, *chosen, "-o", tmp_path / f"c{seed}").code == 0
    table, page = tmp_path / "m.parquet", tmp_path / "p.html"
    another = (("--crowd", crowd), "--crowd was not given when it was made")
    is_repeated(
        run, ("metrics", pool, "-o", table), table, (("--ties", "paper"), "--ties was average"), another
    )
    tested = ("robustness", pool, "--budget", 5, "--clusters", 0, "--bootstraps", 2, "--seeds", 1)
    is_repeated(run, (*tested, "-o", page), page, (("--bootstraps", 3), "--bootstraps was 2"), another)
    assert json.loads(run(*tested, "-o", page, "--bootstraps", 3, "--json").out)  # the page stays
    page.unlink()
    given = ("compare", tmp_path / "c0", tmp_path / "c1", "--draws", 2, "--clusters", 2, "-o", page)
    is_repeated(run, given, page, (("--near", 0.8), "--near was 0.9 and is now 0.8"), another)


def test_export_again_is_up_to_date(run, sim, tmp_path):
    assert run("select", sim, "--budget", 9, "--clusters", 0, "-o", tmp_path / "chosen").code == 0
    given = ("export", tmp_path / "chosen", "-o", tmp_path / "e", "--format", "alpaca")
    others = (
        (("--file-type", "parquet"), "--file-type was jsonl"),
        (("--license", "mit"), "--license was unset"),
    )
    is_repeated(run, given, tmp_path / "e" / MANIFEST, *others)


@pytest.mark.extra
def test_a_report_again_is_up_to_date_in_its_folder_and_elsewhere(run, sim, tmp_path):
    pytest.importorskip("altair")
    chosen, page = tmp_path / "chosen", tmp_path / "page.html"
    select = ("select", sim, "--budget", 9, "--clusters", 0, "-o", chosen)
    assert run(*select, "--report").code == 0
    assert run("report", chosen).out.startswith("up to date: ")
    run("report", chosen, "--map", "none").refuses("--map was tsne and is now none", "--overwrite")
    assert run("report", chosen, "--map", "none", "--overwrite").code == 0
    is_repeated(
        run, ("report", chosen, "--map", "none", "-o", page), page, (("--map", "pca"), "--map was none")
    )
    assert run("report", chosen, "--map", "pca", "-o", page, "--figures", tmp_path / "figures").code == 0
    assert list((tmp_path / "figures").iterdir())
    assert run(*select, "--budget", 7, "--overwrite").code == 0
    run("report", chosen, "--map", "pca", "-o", page).refuses("DIR had other content when it was made")
    moved = tmp_path / "moved.parquet"
    shutil.copy(sim, moved)
    assert (
        run("select", moved, "--budget", 9, "--clusters", 0, "-o", tmp_path / "other", "--report").code == 0
    )
    moved.unlink()
    said = "was made with the pool, which cannot be opened now"
    run("report", tmp_path / "other").refuses(
        said, "moved.parquet", "say where it is with --pool", "--overwrite"
    )
    assert run("report", tmp_path / "other", "--pool", sim).out.startswith("up to date: ")
    ran = run("report", tmp_path / "other", "--overwrite")
    assert ran.code == 0, ran.err
