"""Rollouts as verl dumps them: a folder per model, files named by the step, prompts decoded without special tokens."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import Ran
from crowds import ALL, write
from crowdselect import open_pool
from crowdselect.collect.instructions import open_instructions
from crowdselect.errors import InputError, LayoutError
from crowdselect.pool.rendered import DECODED, decoded
from crowdselect.selection.inspection import inspect_pool

NAMES = ("ash-1b", "oak-7b")
QUESTIONS = [f"What is {i} times {i}?\n\nSay it as\nuser: {i}" for i in range(20)]
SYSTEM = {"role": "system", "content": "Be brief."}


def rendered(question: str, system: str | None = "Be brief.") -> str:
    told = "" if system is None else f"system\n{system}\n"
    return f"{told}user\n{question}\nassistant\n"


def rollouts(folder: Path, *, name: str = "0", ask: Callable[[str], str] = rendered) -> Path:
    for j, model in enumerate(NAMES):
        rows = [
            {"input": ask(q), "output": f"{model}: {i}", "score": (-1.0) ** (i * j)}
            for i, q in enumerate(QUESTIONS)
        ]
        (folder / "runs" / model).mkdir(parents=True)
        write(folder / "runs" / model, rows, "jsonl", name)
    return folder / "runs"


# Folders and files of one name


def test_folders_are_proposed_where_files_have_one_name(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = rollouts(tmp_path)
    run("inspect", str(path)).refuses("take it from the folders' names with --model-from folder")
    said = run("inspect", str(path), "--model-from", "file", "--columns", "instruction=input")
    said.refuses(
        "all 2 files have one name, '0', and would be answers of one model; take the model from their folders"
    )
    with open_pool(path, model_from="folder", columns={"instruction": "input"}) as pool:
        assert pool.models == NAMES


def test_files_of_one_model_in_several_folders_are_opened_by_its_name(tmp_path: Path) -> None:
    path = rollouts(tmp_path)
    with pytest.raises(InputError, match="or name the one model with `model='0'`"):
        open_pool(path, model_from="file", columns={"instruction": "input"})
    with open_pool(path, model="0", columns={"instruction": "input"}) as pool:
        assert pool.models == ("0",)


def test_steps_are_no_models(tmp_path: Path) -> None:
    path = rollouts(tmp_path)
    for model in NAMES:
        (path / model / "10.jsonl").write_bytes((path / model / "0.jsonl").read_bytes())
    with pytest.raises(LayoutError, match=r"from the folders' names with `model_from='folder'`"):
        open_pool(path)


def test_files_of_other_names_are_proposed(tmp_path: Path) -> None:
    for j, model in enumerate(NAMES):
        (tmp_path / f"task{j}").mkdir()
        write(tmp_path / f"task{j}", [{"prompt": "Hi?", "output": model, "score": j}], "jsonl", model)
    with pytest.raises(LayoutError, match=r"from the files' names with `model_from='file'`"):
        open_pool(str(tmp_path / "*" / "*.jsonl"))
    with open_pool(str(tmp_path / "*" / "*.jsonl"), model_from="file") as pool:
        assert pool.models == NAMES


# Prompts without their special tokens


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("user\nHi\nassistant\n", ["user"]),
        ("system\n\nuser\nHi\nassistant\n<think>\n", ["user"]),
        (
            "system\nS\nuser\nHi\nassistant\nHo\nuser\nAnd?\nassistant",
            ["system", "user", "assistant", "user"],
        ),
        ("user\nis a line\nassistant\nis one, too", None),
        ("user\nWho is called so?", None),
        ("users\nHi\nassistant\n", None),
        ("user\nHi\nuser\nHo\nassistant\n", None),
        ("user\nassistant\n", None),
        ("Tell me:\nuser\nHi\nassistant\n", None),
    ],
)
def test_what_is_read(text: str, read: list[str] | None) -> None:
    turns = decoded(text)
    assert (None if turns is None else [turn["role"] for turn in turns]) == read


@ALL
@pytest.mark.parametrize("names", [("id", "instruction", "response"), ("uid", "input", "output")])
@pytest.mark.parametrize("plain", [0, 1])
def test_prompts_are_read_where_nearly_all_are_so(
    plain: int, names: tuple[str, str, str], kind: str, tmp_path: Path
) -> None:
    id_, text, said = names
    rows = [
        {
            id_: f"q{i}",
            text: q if i >= len(QUESTIONS) - plain else rendered(q),
            "model": m,
            said: f"{m}: {i}",
            "score": i,
        }
        for i, q in enumerate(QUESTIONS)
        for m in NAMES
    ]
    columns = {} if text == "instruction" else {"instruction": text}
    with open_pool(write(tmp_path, rows, kind), columns=columns) as pool:
        texts, found = pool.instructions(), inspect_pool(pool)
        assert f"are read as the messages that a chat template was applied to ({DECODED})" in str(
            found["read_as"]
        )
        prompts = pool.prompts([(id_, NAMES[0]) for id_ in pool.ids])
        for at, prompt in enumerate(prompts):
            question = next(q for q in QUESTIONS if q in texts[at])
            turns = [{"role": "user", "content": question}]
            last = plain and question == QUESTIONS[-1]
            assert prompt == (turns if last else [SYSTEM, *turns])
        assert not any("markers of a chat template" in line for line in found["warnings"])


@ALL
def test_ids_are_of_the_text_in_the_file(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": rendered(q), "model": m, "response": m, "score": 1} for q in QUESTIONS for m in NAMES]
    other = [row | {"prompt": f"{row['prompt']}."} for row in rows]
    with (
        open_pool(write(tmp_path, rows, kind)) as pool,
        open_pool(write(tmp_path, other, kind, "b")) as plain,
    ):
        assert len(pool.ids) == len(QUESTIONS)
        assert not set(pool.ids) & set(plain.ids)


@ALL
def test_some_such_prompts_stay_and_are_told(kind: str, tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "instruction": q if i % 2 else rendered(q), "model": m, "response": m, "score": i}
        for i, q in enumerate([*QUESTIONS[:-1], "user\nis the name of a role; which others are there?"])
        for m in NAMES
    ]
    with open_pool(write(tmp_path, rows, kind)) as pool:
        found = inspect_pool(pool)
        assert "10 prompts hold markers of a chat template (user ... assistant)" in "".join(found["warnings"])
        [turn] = pool.prompts([("q0", NAMES[0])])[0]
        assert turn == {"role": "user", "content": rendered(QUESTIONS[0])}


def test_llamas_form_is_told(tmp_path: Path) -> None:
    text = "system\n\nCutting Knowledge Date: December 2023\n\nBe brief.user\n\n{}assistant\n\n"
    rows = [
        {"id": q, "instruction": text.format(q), "model": m, "response": m, "score": 1}
        for q in QUESTIONS
        for m in NAMES
    ]
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert any(
            "20 prompts hold markers of a chat template" in line for line in inspect_pool(pool)["warnings"]
        )


def test_instructions_to_ask_are_messages(tmp_path: Path) -> None:
    path = write(
        tmp_path, [{"id": str(i), "instruction": rendered(q)} for i, q in enumerate(QUESTIONS)], "jsonl"
    )
    with open_instructions(path) as found:
        assert (found.has_instruction, found.has_messages) == (False, True)


def test_the_way_of_rollouts(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = rollouts(tmp_path)
    seen = run("inspect", str(path), "--model-from", "folder", "--columns", "instruction=input")
    line = next(
        line.strip() for line in seen.out.splitlines() if line.strip().startswith("crowdselect select")
    )
    assert run(*shlex.split(line)[1:-1], str(tmp_path / "out")).code == 0
    first = json.loads((tmp_path / "out" / "train.jsonl").read_text().splitlines()[0])
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant"]
    assert first["messages"][1]["content"] in QUESTIONS
