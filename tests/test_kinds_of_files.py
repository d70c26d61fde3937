"""What you have, and how to open it: every command of the tables in README.md and docs/pools.md opens a file of that kind."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import Ran
from crowdselect import open_pool

ROOT = Path(__file__).resolve().parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs" / "pools.md"
LM_EVAL = Path(__file__).parent / "stored" / "lm-eval-0.4.13" / "results"
MODELS = ("qwen-1b", "qwen-7b")
Row = dict[str, Any]

pytestmark = pytest.mark.skipif(not DOCS.is_file(), reason="no docs beside the tests")


def answers(**columns: str) -> list[Row]:
    """Three instructions of two models, a row per answer; `columns` gives other names."""
    rows = [
        {"id": str(n), "instruction": f"Say {n}", "model": model, "response": f"{n}!", "score": n + place / 2}
        for n in range(3)
        for place, model in enumerate(MODELS)
    ]
    return [{columns.get(name, name): value for name, value in row.items()} for row in rows]


def of_each(make: Callable[[int], Row]) -> list[Row]:
    return [make(n) for n in range(3)]


def jsonl(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(path: Path, rows: list[Row], sign: str = ",") -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=sign)
        writer.writeheader()
        writer.writerows(rows)


def lists(n: int) -> Row:
    return {"problem": f"Say {n}", "generations": [f"{n}", "?"], "correctness_math_verify": [True, n > 1]}


def sides(one: str, other: str, form: str, n: int, *, response: str = "response_{1}", **more: str) -> Row:
    """A row with the answers and scores of both models, beside their names."""
    row: Row = {"prompt": f"Say {n}", **more}
    for side, model in zip((one, other), MODELS, strict=True):
        row |= {form.format("model", side): model, form.format("score", side): n / 2}
        row[response.format("", side)] = f"{n}!"
    return row


def shared(n: int) -> Row:
    row = answers()[n]
    turns = [{"from": "human", "value": row["instruction"]}, {"from": "gpt", "value": row["response"]}]
    return {"id": row["id"], "conversations": turns, "model": row["model"], "score": row["score"]}


def write(folder: Path, name: str) -> None:
    """Write what a command of the tables is told to open."""
    path = folder / name
    told = [{"model": model, "response": "!", "overall_score": place} for place, model in enumerate(MODELS)]
    plain: dict[str, list[Row]] = {
        "pool.jsonl": answers(),
        "nameless.jsonl": [row for row in answers(model="by") if row.pop("by") == "qwen-1b"],
        "alpaca.jsonl": [{**row, "input": "It is short.", "system": "Be brief."} for row in answers(response="output")],
        "sharegpt.jsonl": [shared(n) for n in range(6)],
        "openr1.jsonl": of_each(lists),
        "exported.jsonl": of_each(
            lambda n: {
                "id": n,
                "data": {"prompt": f"Say {n}", "answers": [{"model": m, "text": "!", "rating": n} for m in MODELS]},
                "project": 3,
            }
        ),
        "batch.jsonl": [
            {
                "custom_id": str(at),
                "body": {"messages": [{"role": "user", "content": row["instruction"]}]},
                "response": {"body": {"model": row["model"], "choices": [{"message": {"content": row["response"]}}]}},
                "judge": {"score": row["score"]},
            }
            for at, row in enumerate(answers())
        ],
        "ultrafeedback.jsonl": of_each(lambda n: {"instruction": f"Say {n}", "completions": told}),
        "distilabel.jsonl": of_each(
            lambda n: {"instruction": f"Say {n}", "generations": ["a", "b"], "model_names": [*MODELS], "ratings": [0, n]}
        ),
        "structs.jsonl": of_each(
            lambda n: {"prompt": f"Say {n}", "responses": dict.fromkeys(MODELS, "!"), "scores": dict.fromkeys(MODELS, n)}
        ),
        "skywork.jsonl": of_each(
            lambda n: {"prompt": f"Say {n}", "extra_info": {"model_difficulty": dict(zip(MODELS, (16, n), strict=True))}}
        ),
        "preferences.jsonl": of_each(lambda n: sides("chosen", "rejected", "{1}_{0}", n, response="{1}")),
        "routerbench.jsonl": of_each(
            lambda n: {
                "sample_id": str(n),
                "prompt": f"Say {n}",
                **dict.fromkeys(MODELS, n / 2),
                **{f"{model}|model_response": "!" for model in MODELS},
                **{f"{model}|total_cost": 0.1 for model in MODELS},
            }
        ),
    }  # fmt: skip
    tables: dict[str, list[Row]] = {
        "usual.csv": answers(instruction="prompt", response="output", model="model_name"),
        "renamed.csv": answers(instruction="task", model="by", response="said"),
        "pairs.csv": of_each(
            lambda n: {"prompt": f"Say {n}", **{f"{w}_{m}": v for m in MODELS for w, v in (("response", "!"), ("score", n))}}
        ),
        "battles.csv": of_each(lambda n: sides("a", "b", "{}_{}", n, winner="tie")),
        "matrix.csv": of_each(lambda n: {"id": f"q{n}", "instruction": f"Say {n}", **dict.fromkeys(MODELS, n / 2)}),
    }  # fmt: skip
    if name in plain:
        jsonl(path, plain[name])
    elif name in tables:
        table(path, tables[name])
    else:
        _others(path)[name]()


def _others(path: Path) -> dict[str, Callable[[], object]]:
    rows = answers()

    def per_model(form: str) -> None:
        for model in MODELS:
            file = path / form.format(model)
            file.parent.mkdir(parents=True, exist_ok=True)
            own = [
                {name: value for name, value in row.items() if name != "model"}
                for row in rows
                if row["model"] == model
            ]
            jsonl(file, own)

    def saved() -> None:
        path.mkdir()
        data = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(str(path / "data.arrow"), data.schema) as writer:
            writer.write_table(data)
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))

    def of_the_hub() -> None:
        path.mkdir()
        for split in ("train", "test"):
            pq.write_table(pa.Table.from_pylist(rows), path / f"{split}-00000-of-00001.parquet")

    def of_a_batch_service() -> None:
        path.mkdir()
        bodies = [
            {"model": r["model"], "messages": [{"role": "user", "content": r["instruction"]}]} for r in rows
        ]
        sent = [
            {"custom_id": str(at), "method": "POST", "url": "/v1", "body": body}
            for at, body in enumerate(bodies)
        ]
        came = [
            {"model": row["model"], "choices": [{"message": {"content": row["response"]}}]} for row in rows
        ]
        jsonl(path / "input.jsonl", sent)
        jsonl(
            path / "output.jsonl",
            [{"custom_id": str(at), "response": {"body": body}} for at, body in enumerate(came)],
        )

    def logs() -> None:
        path.mkdir()
        for model in MODELS:
            samples = [
                {
                    "id": row["id"],
                    "input": row["instruction"],
                    "output": {"completion": row["response"]},
                    "scores": {"match": {"value": "C" if row["score"] > 1 else "I"}},
                }
                for row in rows
                if row["model"] == model
            ]
            log = {"status": "success", "eval": {"task": "say", "model": model}, "samples": samples}
            (path / f"{model}.json").write_text(json.dumps(log, indent=2))

    columns = {name: {str(at): row[name] for at, row in enumerate(rows)} for name in rows[0]}
    return {
        "answers": lambda: per_model("{}.jsonl"),
        "hive": lambda: per_model("model={}/part.jsonl"),
        "saved": saved,
        "batches": of_a_batch_service,
        "dataset": of_the_hub,
        "results": lambda: shutil.copytree(LM_EVAL, path),
        "frame.json": lambda: path.write_text(json.dumps(columns)),
        "logs": logs,
        "results.json": lambda: path.write_text(
            json.dumps({"run": {"by": "me"}, "results": {"rows": rows}}, indent=2)
        ),
        "excel.csv": lambda: table(path, [{"": at, **row} for at, row in enumerate(rows)], ";"),
    }


def _commands(page: Path) -> Iterator[tuple[str, str]]:
    """Each row of the table of a page, and the command in it."""
    lines = page.read_text(encoding="utf-8").splitlines()
    begin = lines.index("| what you have | how to open it |") + 2
    for line in lines[begin:]:
        if not line.startswith("|"):
            return
        found = re.findall(r"`inspect ([^`]+)`", line)
        assert len(found) == 1 or "| not:" in line, line
        if found:
            yield line, found[0]


def _anchors() -> set[str]:
    heads = re.findall(r"(?m)^#+ (.+)$", DOCS.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [README, DOCS], ids=["README", "pools"])
def test_every_command_of_the_table_opens_its_file(
    page: Path, tmp_path: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = list(_commands(page))
    assert len(rows) >= 11
    for line, command in rows:
        name, *options = command.split()
        write(tmp_path, name)
        ran = run("inspect", name, *options)
        assert ran.code == 0, (line, ran.err)
        models = re.search(r"(?m)^models +(\d+)", ran.out)
        assert models is not None, ran.out
        assert models[1] == ("1" if "--model" in options else "2"), (line, ran.out)
        asked = re.search(r"(?m)^instructions +(\d+)", ran.out)
        assert asked is not None, ran.out
        assert asked[1] == ("14" if name == "results" else "3"), (line, ran.out)
        for place in tmp_path.iterdir():
            shutil.rmtree(place) if place.is_dir() else place.unlink()


def test_every_line_of_the_readme_leads_to_its_section() -> None:
    rows = list(_commands(README))
    linked = [re.findall(r"\]\(docs/pools\.md#([\w-]+)\)", line) for line, _ in rows]
    assert all(len(found) == 1 for found in linked)
    assert {found[0] for found in linked} <= _anchors()
    assert set(re.findall(r"\]\(#([\w-]+)\)", DOCS.read_text(encoding="utf-8"))) <= _anchors()


def test_preference_pairs_are_no_crowd(tmp_path: Path, run: Callable[..., Ran]) -> None:
    jsonl(tmp_path / "pairs.jsonl", [{"prompt": "Say 1", "chosen": "1", "rejected": "2"}])
    run("inspect", tmp_path / "pairs.jsonl").refuses("preference pairs")


def test_objects_of_models_may_call_their_number_by_its_reward_model():
    rows = [
        {"id": str(i), "instruction": f"Do {i}", "oak-7b": {"skywork": i}, "ash-7b": {"skywork": 9 - i}}
        for i in range(4)
    ]
    with open_pool(rows) as pool:
        assert (pool.models, pool.reward_columns) == (("ash-7b", "oak-7b"), ("skywork",))
