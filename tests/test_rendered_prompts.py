"""Prompts that were rendered with a chat template: read as their messages, or told of, or left alone."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowds import ALL, MODELS, TYPED, Row, crowd, is_plain, user, write
from crowdselect import Options, open_pool, select
from crowdselect.collect.instructions import open_instructions
from crowdselect.pool.rendered import FORMS, READ, messages_in, with_markers
from crowdselect.selection.benchmarks import read_questions
from crowdselect.selection.inspection import inspect_pool

ROOT = Path(__file__).resolve().parent.parent
Turns = list[Row]
CHATML, LLAMA, SPOKEN = READ
SYSTEM = {"role": "system", "content": "Be brief."}
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"


def chatml(turns: Turns) -> str:
    said = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
    return f"{said}<|im_start|>assistant\n"


def llama(turns: Turns, dates: str = "") -> str:
    def header(role: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{dates if role == 'system' else ''}"

    said = "".join(f"{header(turn['role'])}{turn['content']}<|eot_id|>" for turn in turns)
    return f"<|begin_of_text|>{said}{header('assistant')}"


def spoken(turns: Turns) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in turns) + "\n\nAssistant:"


RENDERERS = {CHATML: chatml, LLAMA: llama, SPOKEN: spoken}


def alternating(texts: list[str]) -> Turns:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


def written(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


TEXTS = st.text(min_size=1).filter(
    lambda text: text.strip() and not re.search(r"<\|(im|start|end|eot|begin)_|\n(Human|Assistant):", text)
)
LISTS = st.lists(TEXTS, min_size=1, max_size=5).map(
    lambda texts: alternating(texts[: (len(texts) + 1) // 2 * 2 - 1])
)
MARKS = (
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|im_start|>user\nHi<|im_end|>\n",
        "<|im_start|>assistant\n",
        "<s>",
        "<think>",
    ),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "[INST]", "[/INST]"),
    *("system", "user", "assistant", "tool", "Human:", "Assistant:", "\n\nHuman: Hi", "\n\nAssistant:"),
    *("\n", "\n\n", " ", "Hi", "é"),
)
PIECES = st.lists(st.sampled_from(MARKS), max_size=9).map("".join)


@given(LISTS, st.none() | TEXTS, st.sampled_from(list(RENDERERS)))
def test_what_was_rendered_is_read_as_it_was(turns: Turns, system: str | None, form: int) -> None:
    told = [] if system is None or form == SPOKEN else [{"role": "system", "content": system}]
    assert messages_in([user(RENDERERS[form]([*told, *turns]))]) == ([*told, *turns], form)


@given(PIECES)
def test_nothing_is_lost_and_nothing_invented(text: str) -> None:
    """Whatever is read, its rendering is the text again, but for white space, the first token and the open turn."""
    read, form = messages_in([user(text)])
    if form not in READ:
        assert read == [user(text)]
        return
    bare = ("<s>", "<|begin_of_text|>", "<|im_start|>system<|im_end|>")

    def squeezed(said: str) -> str:
        said = re.sub(r"\s", "", re.sub(r"(<\|im_start\|>assistant|<think>)\s*", "", said))
        for piece in bare:
            said = said.removeprefix(piece)
        return said.replace(bare[-1], "")

    assert squeezed(RENDERERS[form](read)) == squeezed(text)


@given(PIECES)
def test_columns_and_texts_are_looked_at_alike(text: str) -> None:
    assert with_markers(pa.array([text, None])).tolist() == [messages_in([user(text)])[1] > 0, False]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("<|im_start|>user\nHi<|im_end|>", [user("Hi")]),  # after a user's turn
        ("\n<|endoftext|> <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant", [user("Hi")]),
        ("<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n", [user("Hi")]),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", [user("Hi")]),
        ("<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n", [user("Hi")]),
        ("<|im_start|>user\nWhat is [INST]?\n<|eot_id|><|im_end|>", [user("What is [INST]?\n<|eot_id|>")]),
        (llama([user("Hi")]).removeprefix("<|begin_of_text|>").rstrip(), [user("Hi")]),
        (llama([SYSTEM, user("Hi")], DATES), [SYSTEM, user("Hi")]),  # the template's own lines
        (llama([{"role": "system", "content": ""}, user("Hi")], DATES), [user("Hi")]),
        ("\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: So\n\nAssistant: ", alternating(["Hi", "Yes?", "So"])),
    ],
)  # fmt: skip
def test_forms_that_are_read(text: str, read: Turns) -> None:
    assert messages_in([user(text)])[0] == read


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("<|im_start|>user\nHi<|im_end|> So?", "<|im_start|>"),
        ("<|im_start|>user\nWhat is <|im_start|>?<|im_end|>\n", "<|im_start|>"),
        ("<|im_start|>user\nHi", "<|im_start|>"),
        ("<|im_start|>user\n \n<|im_end|>\n", "<|im_start|>"),  # nothing is asked
        ("<|im_start|>narrator\nHi<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n", "<|im_start|>"),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>user\nHo<|im_end|>\n", "<|im_start|>"),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n", "<|im_start|>"),
        (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nIt is",
            "<|im_start|>",
        ),  # a beginning of the answer
        ("Be brief.\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|>assistant"),
        ("<|start_header_id|>user<|end_header_id|>\n\nHi", "<|start_header_id|>"),
        ("<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]", "[INST]"),
        ("Be brief. [INST] Hi [/INST] ", "[/INST]"),
        ("<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<start_of_turn>"),
        ("<|user|>\nHi<|end|>\n<|assistant|>\n", "<|user|>"),
        ("Hi<|assistant|>", "<|assistant|>"),
        ("Human: Hi\n\nAssistant:", "Human: ... Assistant:"),  # without what it begins with
        ("\n\nHuman: Hi\n\nHuman: Ho\n\nAssistant:", "Human: ... Assistant:"),
        ("\n\nHuman: Hi [/INST]", "[/INST]"),  # with no turn to answer
    ],
)
def test_what_only_looks_rendered_stays_and_is_told(text: str, marker: str) -> None:
    assert messages_in([user(text)]) == ([user(text)], FORMS.index(marker))


@pytest.mark.parametrize(
    "text",
    [
        "What does <|im_start|> mean?",
        "Explain this:\n<|im_start|>user\nHi<|im_end|>\nWhich model uses it?",
        "`<|im_start|>system\nBe brief.<|im_end|>`",
        "Why does Llama write <|begin_of_text|> and <|eot_id|>",
        "Is it [INST] or <<SYS>> first?",
        "Human: Hi",
        "Human:" + "\n" * 100_000 + "Assistant: and so on",  # in no time
        "Name an Assistant:",
        "\n\nHuman: Hi",
        "<s>struck out</s>",
        "<|im_end|>",
        "",
    ],
)  # fmt: skip
def test_text_that_speaks_of_markers_is_plain(text: str) -> None:
    assert messages_in([user(text)]) == ([user(text)], 0)


@pytest.mark.parametrize(
    ("system", "inner", "read"),
    [
        ("Be brief.", [user("Hi")], [SYSTEM, user("Hi")]),
        ("Be brief.", [SYSTEM, user("Hi")], [SYSTEM, user("Hi")]),
        ("Be long.", [SYSTEM, user("Hi")], None),  # whose word counts is not ours to say
    ],
)
def test_a_system_prompt_beside_a_rendered_one(system: str, inner: Turns, read: Turns | None) -> None:
    chat = [{"role": "system", "content": system}, user(chatml(inner))]
    assert messages_in(chat)[0] == (chat if read is None else read)


def test_conversations_are_left_alone() -> None:
    chat = [*alternating(["Hi", "Yes?"]), user(chatml([user("So")]))]
    assert messages_in(chat) == (chat, 0)


# In pools


@ALL
@pytest.mark.parametrize("render", RENDERERS.values(), ids=["chatml", "llama", "spoken"])
@pytest.mark.parametrize("name", ["instruction", "prompt"])
def test_every_pool_reads_them(render, name: str, kind: str, tmp_path: Path) -> None:
    rows = crowd(**{"instruction": None, name: lambda i, _: render([user(f"Do {i}")])})
    with open_pool(write(tmp_path, rows, kind)) as pool:
        is_plain(pool)
        assert pool.instructions().tolist() == ["Do 0", "Do 1", "Do 2"]
        assert pool.asked(["q1"]) == [[user("Do 1")]]
        assert next(map(pool.prompts_of, pool.stream_responses()))[0] == [user("Do 0")]
    with open_pool(rows) as pool:
        is_plain(pool)


@TYPED
def test_every_layout_reads_them(kind: str, tmp_path: Path) -> None:
    asked = [chatml([SYSTEM, user(f"Do {i}")]) for i in range(3)]
    layouts: dict[str, list[Row]] = {
        "messages": crowd(instruction=None, messages=lambda i, _: [user(asked[i])]),
        "system": crowd(instruction=lambda i, _: chatml([user(f"Do {i}")]), system="Be brief."),
        "zoo": [{"id": f"q{i}", "instruction": asked[i], **{m: {"content": "a", "score": 1.0 + j} for j, m in enumerate(MODELS)}} for i in range(3)],
        "matrix": [{"id": f"q{i}", "instruction": asked[i], "m-1b": 1.0, "m-7b": 2.0} for i in range(3)],
        "ultrafeedback": [{"id": f"q{i}", "instruction": asked[i], "completions": [{"model": m, "response": "a", "score": 1.0 + j} for j, m in enumerate(MODELS)]} for i in range(3)],
    }  # fmt: skip
    for name, rows in layouts.items():
        with open_pool(write(tmp_path, rows, kind, name)) as pool:
            assert pool.prompts([("q2", "m-7b")]) == [[SYSTEM, user("Do 2")]], name
            assert pool.instructions()[2] == "system: Be brief.\n\nuser: Do 2", name
            assert pool.prompt_forms.tolist() == [CHATML] * 3, name


def test_a_row_of_messages_beside_one_of_a_text(tmp_path: Path) -> None:
    rows = crowd(
        instruction=lambda i, _: chatml([user("Do 0")]) if i == 0 else f"Do {i}",
        messages=lambda i, _: [user(f"Do {i}")] if i == 1 else None,
    )
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        assert pool.asked(["q0", "q1", "q2"]) == [[user(f"Do {i}")] for i in range(3)]
        assert pool.instructions().tolist() == ["Do 0", "Do 1", "Do 2"]
        assert pool.prompt_forms.tolist() == [CHATML, 0, 0]


def test_models_with_system_prompts_of_their_own(tmp_path: Path) -> None:
    own = [{"role": "system", "content": f"You are {model}."} for model in MODELS]
    rows = crowd(instruction=None, messages=lambda i, j: [own[j], user(chatml([user(f"Do {i}")]))])
    with open_pool(write(tmp_path, rows, "parquet")) as pool:
        assert pool.prompts([("q0", "m-1b"), ("q2", "m-7b")]) == [
            [own[0], user("Do 0")],
            [own[1], user("Do 2")],
        ]
        assert pool.instructions().tolist() == ["Do 0", "Do 1", "Do 2"]
        batch = next(pool.stream_responses())
        assert [chat[1] for chat in pool.prompts_of(batch)] == [user(f"Do {i}") for i in batch.rows]


@ALL
def test_ids_are_of_what_the_file_has_and_duplicates_of_what_is_asked(kind: str, tmp_path: Path) -> None:
    rows = crowd(id=None, instruction=lambda i, _: ("Do it", chatml([user("Do it")]), "Do that")[i])
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert len(pool.ids) == 3
        assert inspect_pool(pool)["duplicates"] == 1


def test_it_is_said_how_many_were_read_and_which_could_not(run, tmp_path: Path) -> None:
    texts = [chatml([user("Do 0")]), "[INST] Do 1 [/INST]", "What does <|im_start|> mean?"]
    pool = write(tmp_path, crowd(instruction=lambda i, _: texts[i]), "parquet")
    for ran in (
        run("inspect", pool),
        run("select", pool, "--budget", 3, "--clusters", 0, "-o", tmp_path / "out"),
    ):
        said = " ".join((ran.out + ran.err).split())
        assert "read as 1 prompt is read as the messages that a chat template was applied to (ChatML)" in said
        assert said.count("1 prompt holds markers of a chat template ([INST]); they stay as they are") == 1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "ChatML" in manifest["facts"]["read_as"]
    asked = {row["id"]: row["messages"][0]["content"] for row in written(tmp_path / "out")}
    assert asked == {"q0": "Do 0", "q1": texts[1], "q2": texts[2]}


def test_plain_pools_are_not_spoken_of(run, tmp_path: Path) -> None:
    ran = run("inspect", write(tmp_path, crowd(), "parquet"))
    assert "template" not in ran.out + ran.err
    assert "read as" not in ran.out


def test_files_read_one_by_one_count_alike(tmp_path: Path) -> None:
    from crowdselect.engine.here import run_here

    folder = tmp_path / "pool"
    folder.mkdir()
    rows = crowd(instruction=lambda i, _: (llama([SYSTEM, user("Do 0")]), "<|user|>Do 1", "Do 2")[i])
    for part in range(3):
        write(folder, [row for row in rows if row["id"] == f"q{part}"], "parquet", f"part-{part}")
    options = Options(budget=2, clusters=0, weights={"difficulty": 1})
    with open_pool(folder) as pool:
        whole, parted = select(pool, options), select(pool, options, run=run_here)
    assert whole.facts["read_as"] == parted.facts["read_as"]
    assert "(Llama 3)" in str(whole.facts["read_as"])
    assert whole.warnings == parted.warnings
    assert any("(<|user|>)" in line for line in whole.warnings)
    assert whole.table.equals(parted.table)


@pytest.mark.parametrize("format_", ["messages", "sharegpt", "alpaca"])
def test_trainers_get_messages(run, format_: str, tmp_path: Path) -> None:
    turns = [SYSTEM, user("Say 1"), {"role": "assistant", "content": "1"}]
    pool = write(tmp_path, crowd(instruction=lambda i, _: chatml([*turns, user(f"Do {i}")])), "parquet")
    for_ = ("--for", "axolotl") if format_ == "messages" else ()
    options = (*for_, "--format", format_, "--budget", 3, "--clusters", 0)
    assert run("select", pool, *options, "-o", tmp_path / "out").code == 0
    rows = written(tmp_path / "out")
    row = next(row for row in rows if row["id"] == "q0")
    if format_ == "messages":
        said = [*turns, user("Do 0"), {"role": "assistant", "content": "a01"}]
        assert row["messages"] == [{**turn, "train": at == len(said) - 1} for at, turn in enumerate(said)]
    elif format_ == "sharegpt":
        assert [turn["value"] for turn in row["conversations"]][-4:] == ["Say 1", "1", "Do 0", "a01"]
        assert "Be brief." in json.dumps(row)
    else:
        assert (row["system"], row["history"]) == ("Be brief.", [["Say 1", "1"]])
        assert (row["instruction"], row["output"]) == ("Do 0", "a01")
    assert "im_start" not in (tmp_path / "out" / "train.jsonl").read_text()


def test_a_dry_run_of_training_templates_them_once(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "transformers", "trl"):
        pytest.importorskip(name)
    from tiny_models import build_model

    monkeypatch.chdir(tmp_path)
    build_model(Path("base"))
    tokens = []
    for name, render in {"plain": None, "rendered": chatml}.items():
        asked = [[user(f"Do {i}")] for i in range(3)]
        rows = crowd(instruction=lambda i, _: asked[i][0]["content"] if render is None else render(asked[i]))  # noqa: B023  (used at once)
        pool = write(tmp_path, rows, "parquet", name)
        assert run("select", pool, "--budget", 3, "--clusters", 0, "-o", f"{name}-out").code == 0
        ran = run("train", f"{name}-out", "--base", "base", "-o", "m", "--dry-run", "--json")
        assert ran.code == 0, ran.err
        tokens.append(json.loads(ran.out)["tokens"])
    assert tokens[0] == tokens[1]


# Elsewhere


def test_instructions_to_ask_are_sent_as_messages(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [{"id": "1", "instruction": chatml([SYSTEM, user("Hi")])}, {"id": "2", "instruction": "Ho"}],
        "jsonl",
    )
    with open_instructions(path) as found:
        assert [json.loads(prompt.prompt) for prompt in found.prompts()] == [
            [SYSTEM, user("Hi")],
            [user("Ho")],
        ]
        assert (found.has_instruction, found.has_messages) == (True, True)
        assert any("1 prompt is read as the messages" in note for note in found.notes)


def test_questions_of_a_benchmark_are_what_they_ask(tmp_path: Path) -> None:
    path = write(tmp_path, [{"question_id": "1", "prompt": chatml([user("Hi")])}], "jsonl")
    assert read_questions(str(path))[0].texts == ("Hi",)


def test_the_docs_name_every_form() -> None:
    page = (ROOT / "docs" / "pools.md").read_text()
    assert all(FORMS[form] in page for form in READ)
    assert np.all([FORMS.count(form) == 1 for form in FORMS])


# Answers


WRAPPED = {
    "ChatML": "<|im_start|>assistant\n{}<|im_end|>",
    "ChatML, open": "<|im_start|>assistant\n{}",
    "Llama 3": "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
    "twice ended": "<|im_start|>assistant\n{}<|im_end|>\n<|endoftext|>\n",
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", ["long", "rewritten", "zoo", "ultrafeedback"])
@pytest.mark.parametrize("template", WRAPPED)
def test_an_answer_that_is_a_rendered_turn_is_what_it_says(
    kind: str, form: str, template: str, tmp_path: Path
) -> None:
    """Everywhere: where texts are compared, measured and exported."""
    first, second = "<think>\nHm.\n</think>\n\nYes.", "No."
    wrapped = [WRAPPED[template].format(first), second]
    rows = [{"id": f"q{i}", "instruction": f"Do {i}"} for i in range(3)]
    if form in {"long", "rewritten"}:
        rows = crowd(response=lambda i, j: wrapped[j])
        rows = rows if form == "long" else [{**row, "system": "S"} for row in rows]
    for row in rows:
        said = [{"model": model, "score": 1.0} for model in MODELS]
        if form == "zoo":
            row |= {
                each["model"]: {**each, "content": text} for each, text in zip(said, wrapped, strict=True)
            }
        if form == "ultrafeedback":
            row["completions"] = [
                {**each, "response": text} for each, text in zip(said, wrapped, strict=True)
            ]
    path = write(tmp_path, rows, kind)
    pairs = [("q0", model) for model in MODELS]
    with open_pool(path) as pool:
        assert pool.responses(pairs) == ["Yes.", second]
        assert pool.exported(pairs) == [first, second]
        assert pool.response_lengths()[0].tolist() == [4, 3]
        assert pool.answered().all()
        told = [note for note in pool.notes if "as a chat template writes" in note]
        assert told == [
            "answers of 3 rows are written as a chat template writes the assistant's turn; its markers are taken off"
        ]
    with open_pool(path, reasoning="drop") as pool:
        assert pool.exported(pairs) == ["Yes.", second]


@TYPED
@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nAnd?",
        "<|im_start|>assistant\nWrite <|im_end|> at the end.",
        "<|im_start|>assistant\nHi<|im_end|> So",
        "<|start_header_id|>assistant<|end_header_id|>\n\nHi<|start_header_id|>user<|end_header_id|>",
    ],
)
def test_an_answer_that_holds_more_than_a_turn_stays(kind: str, text: str, tmp_path: Path) -> None:
    rows = crowd(response=lambda i, j: text if i == j == 0 else f"a{i}{j}")
    with open_pool(write(tmp_path, rows, kind)) as pool:
        assert pool.responses([("q0", MODELS[0])]) == [text]
        told = [note.partition(";")[0] for note in pool.notes if "marker" in note]
        assert told == ["answers of 1 row begin with a chat template's marker and hold others"]


@pytest.mark.parametrize(
    "text", ["It begins with <|im_start|>assistant\n.", "<|im_start|>user\nHi", "assistant\nHi"]
)
def test_an_answer_that_speaks_of_markers_is_plain(text: str, tmp_path: Path) -> None:
    with open_pool(write(tmp_path, crowd(response=lambda i, j: text), "jsonl")) as pool:
        assert pool.responses([("q0", MODELS[0])]) == [text]
        assert not any("marker" in note for note in pool.notes)


def test_a_rendered_turn_that_says_nothing_is_no_answer(tmp_path: Path) -> None:
    rows = crowd(response=lambda i, j: "<|im_start|>assistant\n<|im_end|>" if j else f"a{i}")
    with open_pool(write(tmp_path, rows, "parquet")) as pool:
        assert pool.answered().tolist() == [[True, False]] * 3


def test_a_rendered_turn_whose_reasoning_never_ends_is_no_target(tmp_path: Path) -> None:
    rows = crowd(response=lambda i, j: "<|im_start|>assistant\n<think>Hm" if j else f"<think>a</think>b{i}")
    with open_pool(write(tmp_path, rows, "jsonl")) as pool:
        chosen = select(pool, Options(budget=3, clusters=0, answer="best"))
        assert set(chosen.table["model"].to_pylist()) == {MODELS[0]}
