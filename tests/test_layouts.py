"""A layout is one record: docs, help and messages say what the records say, and a new one is one more."""

import dataclasses
import json
from pathlib import Path

import pytest

from crowdselect import open_pool
from crowdselect.errors import LayoutError
from crowdselect.pool.layouts import LAYOUTS, Layout

ROOT = Path(__file__).resolve().parent.parent
RECORDS = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@RECORDS
def test_the_example_of_a_layout_is_a_pool_of_it(layout: Layout, tmp_path: Path):
    with open_pool(written(tmp_path / "pool.jsonl", layout.example)) as pool:
        assert pool.layout == layout.name
        assert pool.instructions().tolist() == ["Name a prime."]
        assert set(pool.models) <= {"qwen-1b", "qwen-7b"}
        reward = pool.reward_columns
        assert len(reward) == 1
        assert pool.scores_of_part(reward[0]).tolist() == [[0.5, 0.9][: len(pool.models)]]
        if pool.has_responses:
            assert pool.responses([(pool.ids[0], "qwen-1b")]) == ["Two."]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no docs beside the tests")
@RECORDS
def test_the_docs_come_from_the_record(layout: Layout):
    docs = (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8")
    assert f"| `{layout.name}` | {layout.row} | {layout.columns} |" in docs.split("\n")
    assert f"`{layout.name}`: {layout.needs}\n\n```json\n{json.dumps(layout.example)}\n```\n" in docs


@pytest.mark.parametrize("command", ["select", "inspect", "reward"])
def test_help_names_every_layout(command: str, run):
    said = " ".join(run(command, "--help").out.split())
    assert "long, ultrafeedback, distilabel, zoo or matrix; by default recognised" in said


def test_a_sixth_layout_is_one_more_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run):
    """Recognised, forced, viewed and named in messages; nothing else knows layouts by name."""
    long = LAYOUTS["long"]
    renamed = {"key": "id", "who": "model", "points": "points"}

    def as_long(columns):
        return {renamed.get(name, name): kind for name, kind in columns.items()}

    def view(columns):
        found = long.view(as_long(columns))
        answers = dataclasses.replace(found.answers, model=found.answers.model.replace('"model"', '"who"'))
        return dataclasses.replace(
            found, layout="sixth", id=found.id.replace('"id"', '"key"'), answers=answers, notes=("a sixth",)
        )

    sixth = Layout(
        name="sixth",
        fits=lambda columns: {"key", "who"} <= set(columns),
        view=view,
        needs="key, who",
        row="one answer",
        columns="`key`, `who`",
        example={"key": "7", "who": "qwen-1b", "points": 0.5},
    )
    monkeypatch.setitem(LAYOUTS, "sixth", sixth)
    path = written(tmp_path / "pool.jsonl", sixth.example, {"key": "7", "who": "qwen-7b", "points": 0.9})
    with open_pool(path) as pool:
        assert (pool.layout, pool.models, pool.notes) == ("sixth", ("qwen-1b", "qwen-7b"), ["a sixth"])
        assert pool.scores().tolist() == [[0.5, 0.9]]
    other = written(tmp_path / "other.jsonl", {"a": 1})
    with pytest.raises(LayoutError, match=r"sixth \(key, who\)"):
        open_pool(other)
    with pytest.raises(LayoutError, match=r"not a sixth pool; .* wanted key, who"):
        open_pool(other, layout="sixth")
    assert json.loads(run("inspect", path, "--json").out)["layout"] == "sixth"
