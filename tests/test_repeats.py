"""The same command again is known by its options and the content of its inputs, and by nothing else."""

import json
import os
from pathlib import Path

import pytest

from commands import tree
from crowdselect.errors import OutputError
from crowdselect.manifests import MANIFEST, TOOL
from crowdselect.repeats import difference, digest_of, is_current, made_by


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
    for more, said in (
        (("--seed", 1), "--seed was 0 and is now 1"),
        (("--method", "random"), "is now random"),
        (("--format", "alpaca"), "--format was unset and is now alpaca"),
        (("--exclude", "ids.txt"), "--exclude was not given when it was made"),
    ):
        Path("ids.txt").write_text("x\n")
        run(*given, *more).refuses(said, "--overwrite")
    (tmp_path / "out" / "train.jsonl").unlink()
    run(*given).refuses("train.jsonl is missing", "--overwrite")
    assert run(*given, "--overwrite").code == 0
    assert tree(tmp_path / "out").keys() == before.keys()
    other = tmp_path / "other.parquet"
    assert run("simulate", "-o", other, "--instructions", 120, "--seed", 9).code == 0
    pool.write_bytes(other.read_bytes())
    run(*given).refuses("POOL had other content when it was made")
