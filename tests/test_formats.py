"""One chosen row as one training record, in the forms that trainers document."""

import json
import re
import shutil
import subprocess

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdselect.errors import InputError, OptionError
from crowdselect.selection.formats import (
    PAPER_TRAINING,
    check_format,
    holds_of,
    record,
    record_schema,
    trainer_files,
)
from crowdselect.selection.records import FORMATS, RL
from crowdselect.selection.trainers import TRAINERS

ANSWERED = [name for name in FORMATS if name != RL]


def user(text):
    return {"role": "user", "content": text}


DIGEST = "1f40fc92"


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


CHAT = [system("Be brief."), user("Hi"), assistant("Hello"), user("Why?")]


def made(name, prompt=None, answer="Because.", rejected="No.", trainer=None):
    prompt = CHAT if prompt is None else prompt
    return record(name, instruction_id="a", prompt=prompt, answer=answer, rejected=rejected, trainer=trainer)


def test_each_format():
    assert made("messages") == {"id": "a", "messages": [*CHAT, assistant("Because.")]}
    assert made("prompt-completion") == {"id": "a", "prompt": CHAT, "completion": [assistant("Because.")]}
    assert made("sharegpt") == {
        "id": "a",
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hello"},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "Because."},
        ],
        "system": "Be brief.",
    }
    assert made("alpaca") == {
        "id": "a",
        "instruction": "Why?",
        "input": "",
        "output": "Because.",
        "system": "Be brief.",
        "history": [["Hi", "Hello"]],
    }
    assert made("alpaca", prompt=[user("Why?")])["history"] == []
    dpo = {"id": "a", "prompt": CHAT, "chosen": [assistant("Because.")], "rejected": [assistant("No.")]}
    assert made("dpo") == dpo
    one = {"chosen": assistant("Because."), "rejected": assistant("No.")}
    assert made("dpo", trainer="llamafactory") == dpo | one | {"tools": ""}
    answered = [*CHAT, assistant("Because.")]
    assert made("dpo", trainer="ms-swift") == {"id": "a", "messages": answered, "rejected_response": "No."}
    whole = {"id": "a", "chosen": answered, "rejected": [*CHAT, assistant("No.")]}
    assert made("dpo", trainer="open-instruct") == whole
    for trainer in ("axolotl", "unsloth"):
        assert made("dpo", trainer=trainer) == dpo


ODD = [
    [assistant("Hi")],
    [user("Hi"), assistant("Hello")],
    [user("Hi"), user("there")],
    [user("Hi"), system("Be brief."), user("Why?")],
    [system("a"), system("b"), user("Hi")],
    [system("a")],
    [user("Hi"), {"role": "tool", "content": "4"}, user("Why?")],
    [],
]


@pytest.mark.parametrize("prompt", ODD, ids=lambda prompt: "-".join(m["role"] for m in prompt) or "empty")
def test_turns_that_a_trainer_would_drop_are_refused(prompt):
    """LLaMA-Factory passes over such rows with no more than a log line; sharegpt and alpaca cannot hold them."""
    for name, trainer in (
        ("sharegpt", None),
        ("alpaca", None),
        ("messages", "llamafactory"),
        ("dpo", "llamafactory"),
        ("messages", "ms-swift"),
        ("dpo", "ms-swift"),
    ):
        with pytest.raises(InputError, match=r"^id 'a': its messages are of .*`exclude`") as caught:
            made(name, prompt=prompt, trainer=trainer)
        assert (trainer or f"format {name}") in str(caught.value)
        assert ", ".join(m["role"] for m in prompt) in str(caught.value)
    for name in ("messages", "prompt-completion", "dpo"):
        assert made(name, prompt=prompt, trainer="trl")["id"] == "a"


texts = st.text(min_size=1, max_size=40)


@given(st.lists(texts, min_size=1, max_size=5).filter(lambda t: len(t) % 2), st.none() | texts, texts, texts)
@settings(max_examples=60)
def test_every_format_keeps_every_text(turns, first, answer, rejected):
    prompt = [(user, assistant)[i % 2](text) for i, text in enumerate(turns)]
    prompt = prompt if first is None else [system(first), *prompt]
    said = sorted([*turns, answer, *([] if first is None else [first])])

    def strings(value):
        if isinstance(value, str):
            return [value]
        return [
            text for part in (value.values() if isinstance(value, dict) else value) for text in strings(part)
        ]

    for name in ANSWERED:
        found = made(name, prompt=prompt, answer=answer, rejected=rejected)
        names = {"a", "", "user", "assistant", "system", "human", "gpt"}
        kept = [text for text in strings(found) if text not in names]
        wanted = [*said, rejected] if name == "dpo" else said
        assert sorted(kept) == sorted(text for text in wanted if text not in names)
        assert json.loads(json.dumps(found)) == found
        table = pa.Table.from_pylist([found], record_schema(name))
        assert table.to_pylist() == [found]


@pytest.mark.parametrize("name", ANSWERED)
def test_a_schema_has_the_columns_of_the_record(name):
    for trainer in (None, *(key for key, other in TRAINERS.items() if name in other.forms)):
        schema = record_schema(name, trainer=trainer)
        assert schema.names == list(made(name, trainer=trainer))
        assert pa.Table.from_pylist([made(name, trainer=trainer)], schema).to_pylist() == [
            made(name, trainer=trainer)
        ]
        assert "null" not in str(schema)


@pytest.mark.parametrize(
    ("name", "pairs", "trainer", "said"),
    [
        (
            "csv",
            None,
            None,
            "`format='csv'` is unknown; choose one of: messages, prompt-completion, sharegpt, alpaca, dpo",
        ),
        ("dpo", None, None, "`format='dpo'` needs preference pairs"),
        ("alpaca", "best-worst", None, "which `format='alpaca'` cannot hold; use `format='dpo'`"),
        ("messages", None, "TRL", "`trainer='TRL'` is unknown"),
        (
            "prompt-completion",
            None,
            "llamafactory",
            "LLaMA-Factory does not read `format='prompt-completion'`; choose one of: messages, sharegpt, alpaca, dpo",
        ),
        ("sharegpt", None, "trl", "TRL does not read `format='sharegpt'`"),
        ("alpaca", None, "trl", "TRL does not read `format='alpaca'`"),
        (
            "dpo",
            "best-worst",
            "verl",
            "verl does not read `format='dpo'` (it does not train on preference pairs); choose one of: messages, rl",
        ),
        ("prompt-completion", None, "axolotl", "axolotl does not read `format='prompt-completion'`"),
        ("rl", None, "ms-swift", "ms-swift does not read `format='rl'`; choose one of: messages, dpo"),
    ],
)
def test_what_does_not_fit_is_refused(name, pairs, trainer, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        check_format(name, pairs=pairs, trainer=trainer)


@pytest.mark.parametrize(
    ("name", "trainer", "file_type", "wanted"),
    [
        (None, None, "jsonl", {"turns", "tools"}),
        (None, None, "parquet", {"turns"}),
        ("dpo", "axolotl", "jsonl", {"turns", "tools"}),
        ("messages", "open-instruct", "jsonl", {"turns", "tools"}),
        ("dpo", "open-instruct", "jsonl", {"turns"}),  # its tokenizing of pairs is given the messages alone
        (None, "verl", "jsonl", {"turns"}),  # it reads Parquet
        ("messages", "ms-swift", "jsonl", set()),
        ("messages", "llamafactory", "parquet", {"tools"}),  # it reads them as texts
        ("alpaca", "llamafactory", "jsonl", set()),
        ("alpaca", "trl", "jsonl", set()),
    ],
)
def test_what_a_format_holds_besides_plain_turns(name, trainer, file_type, wanted):
    assert holds_of(name, trainer=trainer, file_type=file_type) == wanted


# LLaMA-Factory: what its data/README.md and converter ask for


@pytest.mark.parametrize("name", ["messages", "sharegpt", "alpaca", "dpo"])
def test_dataset_info_names_what_is_in_the_record(name):
    files = trainer_files("llamafactory", name=name, train_file="train.jsonl", digest=DIGEST, rows=9)
    info = json.loads(files["dataset_info.json"])["crowdselect"]
    row = made(name, trainer="llamafactory")
    assert info["file_name"] == "train.jsonl"
    assert info["formatting"] == ("alpaca" if name == "alpaca" else "sharegpt")
    assert info.get("ranking", False) == (name == "dpo")
    assert set(info["columns"].values()) <= set(row)
    tags = info.get(
        "tags",
        {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "system_tag": "system",
        },
    )
    if info["formatting"] == "sharegpt":
        turns = row[info["columns"]["messages"]]
        known = {tags["user_tag"], tags["assistant_tag"], tags["system_tag"]}
        assert all(set(turn) == {tags["role_tag"], tags["content_tag"]} for turn in turns)
        assert {turn[tags["role_tag"]] for turn in turns} <= known
        said = [turn for turn in turns if turn[tags["role_tag"]] != tags["system_tag"]]
        assert [turn[tags["role_tag"]] for turn in said][:2] == [tags["user_tag"], tags["assistant_tag"]]
        assert len(said) % 2 == (1 if name == "dpo" else 0)  # with the answer, or without it
    if name == "dpo":
        assert row["chosen"][tags["role_tag"]] == tags["assistant_tag"]


@pytest.mark.parametrize(("name", "stage", "rate"), [("alpaca", "sft", 1e-5), ("dpo", "dpo", 1e-6)])
def test_llamafactory_yaml(name, stage, rate):
    text = trainer_files("llamafactory", name=name, train_file="train.jsonl", digest=DIGEST, rows=4000)[
        "llamafactory.yaml"
    ]
    found = dict(line.split(": ") for line in text.splitlines() if not line.startswith("#"))
    assert found["stage"] == stage
    assert (found["dataset"], found["dataset_dir"], found["cutoff_len"]) == ("crowdselect", ".", "2048")
    assert re.fullmatch(r"\d\.\de-\d", found["learning_rate"])  # YAML 1.1 reads 1e-5 as text
    assert float(found["learning_rate"]) == rate
    others = set(PAPER_TRAINING) - {"learning_rate"}
    assert {key: found[key] for key in others} == {key: PAPER_TRAINING[key] for key in others}
    assert found["output_dir"].startswith("../")  # not into the folder that --overwrite replaces


@pytest.mark.parametrize(
    ("rows", "steps", "said"),
    [
        (1, "1", "a tenth of the 3 steps on one GPU; the paper's is 150"),
        (300, "45", "a tenth of the 450 steps on one GPU; the paper's is 150"),
        (40, "6", "a tenth of the 60 steps on one GPU; the paper's is 150"),
        (45, "7", "a tenth of the 69 steps on one GPU; the paper's is 150"),
        (999, "150", "the paper's."),
        (10_000, "150", "the paper's."),
    ],
)
def test_the_warm_up_is_at_most_a_tenth_of_the_steps(rows, steps, said):
    for trainer, file in (("trl", "trl.sh"), ("llamafactory", "llamafactory.yaml")):
        text = trainer_files(trainer, name="messages", train_file="train.jsonl", digest=DIGEST, rows=rows)[
            file
        ]
        assert re.search(r"warmup_steps[: ]+(\d+)", text.replace("# warmup_steps", ""))[1] == steps
        assert said in text


# TRL


@pytest.mark.parametrize(("name", "stage", "rate"), [("messages", "sft", "1e-5"), ("dpo", "dpo", "1e-6")])
def test_trl_script(name, stage, rate, tmp_path):
    """Run with a stand-in for `trl` that writes down what it is given."""
    folder = tmp_path / "a b; $x"
    folder.mkdir()
    (folder / "trl.sh").write_text(
        trainer_files("trl", name=name, train_file="train.jsonl", digest=DIGEST, rows=4000)["trl.sh"]
    )
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "trl").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / "trl").chmod(0o755)
    environment = {"PATH": f"{tools}:{shutil.os.environ['PATH']}", "MODEL": "my model"}
    shell = ["sh", folder / "trl.sh", "--max_steps", "1"]
    said = subprocess.run(
        shell, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0] == stage
    found = dict(zip(said[1::2], said[2::2], strict=True))
    wanted = {f"--{key}": value for key, value in PAPER_TRAINING.items()} | {"--learning_rate": rate}
    assert found == wanted | {
        "--model_name_or_path": "my model",
        "--dataset_name": str(folder),
        "--max_length": "2048",
        "--output_dir": f"{folder}-model-{DIGEST}",
        "--max_steps": "1",
    }
