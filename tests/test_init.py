"""`crowdselect init`: four recipes to begin with, each of which can be planned as soon as the file that it names is there."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect.recipe.begin import files_for

SITUATIONS = [(answers, rewards) for answers in ("no", "yes") for rewards in ("no", "yes")]


def rows(*, answers: bool, rewards: bool) -> list[dict]:
    """What somebody in this situation has."""
    if not (answers or rewards):
        return [{"id": f"i{n}", "instruction": f"Say {n}."} for n in range(60)]
    return [
        {"id": f"i{n}", "instruction": f"Say {n}.", "answer": f"{n}", "model": model}
        | ({"response": f"{model} says {n}"} if answers else {})
        | ({"score": float((n + len(model)) % 3 == 0)} if rewards else {})
        for n in range(60)
        for model in ("oak-1b", "oak-13b", "ash-7b")
    ]


@pytest.mark.extra
@pytest.mark.parametrize(("answers", "rewards"), SITUATIONS)
def test_a_recipe_for_each_situation_can_be_planned(tmp_path, run, answers, rewards):
    for name in ("openai", "torch", "transformers", "trl", "peft", "accelerate", "datasets"):
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    place = tmp_path / "work"
    ran = run("init", place, "--answers", answers, "--rewards", rewards)
    assert ran.code == 0, ran
    written = files_for(answers=answers == "yes", rewards=rewards == "yes")
    assert {path.name: path.read_text() for path in place.iterdir()} == written
    recipe = written["recipe.toml"]
    named = re.search(r'^(?:path|instructions) = "([^"]*)"', recipe, re.MULTILINE)[1]
    found = rows(answers=answers == "yes", rewards=rewards == "yes")
    if named.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(found), place / named)
    else:
        (place / named).write_text("".join(json.dumps(row) + "\n" for row in found))
    next_line = next(
        line.strip() for line in ran.out.splitlines() if line.strip().startswith("crowdselect run")
    )
    planned = run(*next_line.split()[1:])
    assert planned.code == 0, planned
    assert ("[[student]]" in written.get("crowd.toml", "")) == ("teachable" in recipe)
    assert "is the student" not in planned.err


def test_nothing_of_the_user_is_replaced(tmp_path, run):
    (tmp_path / "crowd.toml").write_text("mine")
    run("init", tmp_path).refuses("crowd.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["crowd.toml"]
    assert run("init", tmp_path, "--answers", "yes").code == 0
    run("init", tmp_path, "--answers", "yes").refuses("recipe.toml")
    assert run("init", tmp_path, "--overwrite").code == 0
    assert (tmp_path / "crowd.toml").read_text() == files_for(answers=False, rewards=False)["crowd.toml"]
    run("init", tmp_path / "no" / "where").refuses("no")
