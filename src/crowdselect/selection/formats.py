"""Training records: one per chosen row, in each trainer's format; and the other files that a trainer needs."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from crowdselect.errors import InputError, OptionError

if TYPE_CHECKING:
    import pyarrow as pa

Messages = list[dict[str, Any]]
Record = dict[str, Any]
Format = Literal["messages", "prompt-completion", "sharegpt", "alpaca", "dpo", "rl"]
RL = "rl"
"""The format of prompts without answers, for reinforcement learning: see `crowdselect.selection.rl`."""

IN_TURNS = ("sharegpt", "alpaca")
"""Formats whose turns are the user's and the assistant's by turns, without tools."""

_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}


def _assistant(answer: str) -> dict[str, str]:
    return {"role": "assistant", "content": answer}


def _messages(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001  (one form for all)
    return {"messages": [*prompt, _assistant(answer)]}


def _prompt_completion(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    return {"prompt": prompt, "completion": [_assistant(answer)]}


def _sharegpt(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    turns = [message for message in [*prompt, _assistant(answer)] if message["role"] != "system"]
    return {
        "conversations": [
            {"from": _SHAREGPT_ROLES.get(m["role"], m["role"]), "value": m["content"]} for m in turns
        ],
        "system": _system(prompt),
    }


def _alpaca(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    turns = [message["content"] for message in prompt if message["role"] != "system"]
    return {
        "instruction": turns[-1],
        "input": "",
        "output": answer,
        "system": _system(prompt),
        "history": [list(pair) for pair in zip(turns[:-1:2], turns[1::2], strict=False)],
    }


def _dpo(prompt: Messages, answer: str, rejected: str | None) -> Record:
    return {"prompt": prompt, "chosen": [_assistant(answer)], "rejected": [_assistant(rejected or "")]}


def _prompt(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    return {"prompt": prompt}


def _system(prompt: Messages) -> str:
    return "\n\n".join(message["content"] for message in prompt if message["role"] == "system")


FORMATS: dict[str, Callable[[Messages, str, str | None], Record]] = {
    "messages": _messages,
    "prompt-completion": _prompt_completion,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "dpo": _dpo,
    RL: _prompt,
}
"""Record makers by format name: (prompt, answer, rejected answer) → record."""

_ROLE_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
_LLAMAFACTORY: dict[str, dict[str, Any]] = {
    "messages": {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": _ROLE_TAGS},
    "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system"}},
    "alpaca": {
        "formatting": "alpaca",
        "columns": {
            "prompt": "instruction",
            "query": "input",
            "response": "output",
            "system": "system",
            "history": "history",
        },
    },
    "dpo": {
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "prompt", "chosen": "chosen", "rejected": "rejected"},
        "tags": _ROLE_TAGS,
    },
}
PAPER_TRAINING = {
    "learning_rate": "1e-5",
    "num_train_epochs": "3",
    "per_device_train_batch_size": "1",
    "gradient_accumulation_steps": "2",
    "lr_scheduler_type": "cosine",
    "warmup_steps": "150",
}
"""The paper's hyper-parameters (its table 6), by the names that both trainers share."""
_PREFERENCE_RATE = "1e-6"  # the paper states none for preference training; TRL's own default for DPO
_NOTES = {
    "sft": "# The paper's hyper-parameters, full fine-tuning.\n",
    "grpo": (
        "# The reward is TRL's accuracy_reward (pip install math-verify): it reads the reference in the column solution.\n"
    ),
    "dpo": (
        "# The paper's hyper-parameters, which are those of its fine-tuning: it gives none for preference training.\n"
        "# The learning rate is therefore TRL's default for DPO.\n"
    ),
}


def check_format(name: str, *, pairs: str | None, trainer: str | None) -> None:
    """Refuse formats that do not fit the kind of data or the trainer.

    Args:
        name: A key of `FORMATS`.
        pairs: "best-worst" for preference data, else None.
        trainer: A key of `TRAINERS`, or None.

    Raises:
        OptionError: Unknown names, `dpo` without pairs, pairs in another format, or a format that the
            trainer cannot read.

    Example:
        >>> check_format("messages", pairs=None, trainer="llamafactory")
    """
    if name not in FORMATS:
        raise OptionError(f"`format={name!r}` is unknown; choose one of: {', '.join(FORMATS)}")
    if (name == "dpo") != (pairs is not None):
        raise OptionError(
            "`format='dpo'` needs preference pairs; add `pairs='best-worst'` or `pairs='within-model'`"
            if name == "dpo"
            else f"`pairs={pairs!r}` makes preference data, which `format={name!r}` cannot hold; use `format='dpo'`"
        )
    if trainer is None:
        return
    if trainer not in TRAINERS:
        raise OptionError(f"`trainer={trainer!r}` is unknown; choose one of: {', '.join(TRAINERS)}")
    reads = TRAINERS[trainer]
    if name not in reads.formats:
        raise OptionError(
            f"{reads.title} does not read `format={name!r}`; choose one of: {', '.join(reads.formats)}"
        )


def file_type_of(file_type: str, *, trainer: str | None) -> str:
    """Say of which type the training file is: of the one that the trainer reads, or as asked.

    Example:
        >>> file_type_of("jsonl", trainer="verl"), file_type_of("jsonl", trainer="trl")
        ('parquet', 'jsonl')
    """
    return (TRAINERS[trainer].file_type if trainer in TRAINERS else None) or file_type


def holds_of(name: str | None, *, trainer: str | None, file_type: str) -> frozenset[str]:
    """Return what a format can hold besides plain turns of user and assistant: `turns` that do not alternate, `tools`.

    Args:
        name: A key of `FORMATS`; None = the usual one.
        trainer: A key of `TRAINERS`, or None.
        file_type: "jsonl" or "parquet"; calls of tools have no common type, so Parquet holds none.

    Example:
        >>> sorted(holds_of(None, trainer=None, file_type="jsonl")), sorted(holds_of("alpaca", trainer=None, file_type="jsonl"))
        (['tools', 'turns'], [])
    """
    if name in IN_TURNS or (trainer is not None and trainer in TRAINERS and TRAINERS[trainer].in_turns):
        return frozenset()
    whole = file_type_of(file_type, trainer=trainer) == "jsonl"
    return frozenset({"turns", "tools"} if whole else {"turns"})


def record(
    name: str,
    *,
    instruction_id: str,
    prompt: Messages,
    answer: str,
    rejected: str | None,
    tools: str | None = None,
    trainer: str | None = None,
) -> Record:
    """Make one training record.

    Args:
        name: A key of `FORMATS`.
        instruction_id: Becomes the record's `id`, so that a row of training data can be traced.
        prompt: The messages before the answer.
        answer: The answer to train on.
        rejected: The answer to prefer it to, for `dpo`.
        tools: Those that may be called, as JSON.
        trainer: A key of `TRAINERS`, or None.

    Returns:
        A JSON-ready dictionary.

    Raises:
        InputError: The prompt's turns do not alternate, which `sharegpt`, `alpaca` and some trainers need.

    Example:
        >>> record("prompt-completion", instruction_id="a", prompt=[{"role": "user", "content": "Hi"}],
        ...        answer="Hello", rejected=None)["completion"]
        [{'role': 'assistant', 'content': 'Hello'}]
    """
    reads = None if trainer is None else TRAINERS[trainer]
    in_turns = name in IN_TURNS or (reads is not None and reads.in_turns)
    if in_turns and not _alternates(prompt):
        others = " or ".join(f"`trainer={key!r}`" for key, other in TRAINERS.items() if other.in_turns)
        roles = ", ".join(message["role"] for message in prompt)
        raise InputError(
            f"id {instruction_id!r}: its messages are of {roles}; {trainer or f'format {name}'} needs user and "
            "assistant in turns, the last of the user, and at most one of the system, first; leave the row out with "
            f"`exclude`, or use `format='messages'` or `format='prompt-completion'` without {others}"
        )
    fields = FORMATS[name](prompt, answer, rejected)
    if name == "dpo" and reads is not None and reads.one_message:
        fields |= {"chosen": fields["chosen"][0], "rejected": fields["rejected"][0]}
    return {"id": instruction_id, **fields, **({} if tools is None else {"tools": json.loads(tools)})}


def record_schema(name: str, *, trainer: str | None = None) -> "pa.Schema":
    """Build the schema of a Parquet file of records, the same whatever the records hold.

    Args:
        name: A key of `FORMATS`.
        trainer: As for `record`.

    Returns:
        The schema.

    Example:
        >>> record_schema("prompt-completion").names
        ['id', 'prompt', 'completion']
    """
    import pyarrow as pa

    text = pa.string()
    turn = pa.struct({"role": text, "content": text})
    turns = pa.list_(turn)
    answer = turn if trainer is not None and TRAINERS[trainer].one_message else turns
    if name == RL:
        from crowdselect.selection.rl import schema

        return schema(trainer)
    columns = {
        "messages": {"messages": turns},
        "prompt-completion": {"prompt": turns, "completion": turns},
        "sharegpt": {"conversations": pa.list_(pa.struct({"from": text, "value": text})), "system": text},
        "alpaca": {
            **dict.fromkeys(("instruction", "input", "output", "system"), text),
            "history": pa.list_(pa.list_(text)),
        },
        "dpo": {"prompt": turns, "chosen": answer, "rejected": answer},
    }
    return pa.schema({"id": text, **columns[name]})


def trainer_files(trainer: str, *, name: str, train_file: str, rows: int) -> Mapping[str, str]:
    """Build the files that a trainer needs besides the training file, with the paper's hyper-parameters.

    The warm-up is the paper's, but at most a tenth of the steps that the rows make on one GPU.
    With these files the model is saved beside the folder, not in it: a training run has its own folder and manifest.

    Args:
        trainer: A key of `TRAINERS`.
        name: A key of `FORMATS`.
        train_file: The training file's name.
        rows: Number of rows in the training file.

    Returns:
        Text by file name.

    Example:
        >>> sorted(trainer_files("llamafactory", name="messages", train_file="train.jsonl", rows=1000))
        ['dataset_info.json', 'llamafactory.yaml']
    """
    stage = {"dpo": "dpo", RL: "grpo"}.get(name, "sft")
    warm_up, note = _warm_up(rows)
    settings = PAPER_TRAINING | {"warmup_steps": str(warm_up)}
    settings |= {"learning_rate": _PREFERENCE_RATE} if stage == "dpo" else {}
    note = "" if stage == "grpo" else note
    return TRAINERS[trainer].files(name, train_file, stage, settings, _NOTES[stage] + note)


def _warm_up(rows: int) -> tuple[int, str]:
    r"""Compute the steps of the warm-up, and a comment that says why.

    Example:
        >>> _warm_up(300)
        (45, "# warmup_steps: a tenth of the 450 steps on one GPU; the paper's is 150.\n")
    """
    paper = int(PAPER_TRAINING["warmup_steps"])
    batch = int(PAPER_TRAINING["per_device_train_batch_size"]) * int(
        PAPER_TRAINING["gradient_accumulation_steps"]
    )
    steps = math.ceil(rows / batch) * int(PAPER_TRAINING["num_train_epochs"])
    if steps // 10 >= paper:
        return paper, "# warmup_steps: the paper's.\n"
    return steps // 10, f"# warmup_steps: a tenth of the {steps} steps on one GPU; the paper's is {paper}.\n"


def _alternates(prompt: Messages) -> bool:
    roles = [message["role"] for message in prompt]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    wanted = [("user", "assistant")[i % 2] for i in range(len(turns))]
    return turns == wanted and len(turns) % 2 == 1


def _trl_files(
    _name: str, _train_file: str, stage: str, settings: Mapping[str, str], note: str
) -> dict[str, str]:
    own = (
        {"reward_funcs": "accuracy_reward"} if stage == "grpo" else {**settings, "max_length": "2048"}
    )  # the paper says nothing of reinforcement learning
    options = {"model_name_or_path": '"$MODEL"', "dataset_name": '"$HERE"', **own}
    arguments = " \\\n  ".join(f"--{key} {value}" for key, value in options.items())
    script = (
        "#!/bin/sh\n"
        "# Fine-tune with TRL: MODEL=NAME_OR_PATH sh trl.sh\n"
        f"{note}"
        'MODEL="${MODEL:-meta-llama/Llama-3.2-3B-Instruct}"\n'
        'HERE=$(cd "$(dirname "$0")" && pwd)\n'
        f'trl {stage} {arguments} \\\n  --output_dir "$HERE-model" "$@"\n'
    )
    return {"trl.sh": script}


def _no_files(
    _name: str, _train_file: str, _stage: str, _settings: Mapping[str, str], _note: str
) -> dict[str, str]:
    return {}


def _llamafactory_files(
    name: str, train_file: str, stage: str, settings: Mapping[str, str], note: str
) -> dict[str, str]:
    entry = {"crowdselect": {"file_name": train_file, **_LLAMAFACTORY[name]}}
    return {
        "dataset_info.json": json.dumps(entry, indent=2) + "\n",
        "llamafactory.yaml": _llamafactory_yaml(stage, settings, note),
    }


def _llamafactory_yaml(stage: str, settings: Mapping[str, str], note: str) -> str:
    rate = settings["learning_rate"].replace("e", ".0e")  # YAML reads 1e-5 as text
    return (
        "# Fine-tune with LLaMA-Factory, in this folder: llamafactory-cli train llamafactory.yaml\n"
        "# Set the model and its template to yours.\n"
        f"{note}"
        "model_name_or_path: meta-llama/Llama-3.2-3B-Instruct\n"
        "template: llama3\n"
        f"stage: {stage}\n"
        "do_train: true\n"
        "finetuning_type: full\n"
        "dataset_dir: .\n"
        "dataset: crowdselect\n"
        "cutoff_len: 2048\n"
        + "".join(f"{key}: {value}\n" for key, value in {**settings, "learning_rate": rate}.items())
        + "bf16: true\n"
        "logging_steps: 10\n"
        "output_dir: ../crowdselect-model\n"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """What a trainer reads, and what it needs besides the training file."""

    title: str
    """Its name, in messages."""
    formats: tuple[str, ...]
    """Keys of `FORMATS` that it reads."""
    files: Callable[[str, str, str, Mapping[str, str], str], Mapping[str, str]]
    """Builds its files, text by name, from: format, name of the training file, stage ("sft" or "dpo"), hyper-parameters, and
    the comment on them."""
    in_turns: bool = False
    """It would silently skip a row whose turns do not alternate."""
    one_message: bool = False
    """It reads one message, not a list, as chosen and rejected."""
    file_type: str | None = None
    """The only type of training file that it reads; None = any."""


TRAINERS: dict[str, Trainer] = {
    "trl": Trainer(title="TRL", formats=("messages", "prompt-completion", "dpo", RL), files=_trl_files),
    "llamafactory": Trainer(
        title="LLaMA-Factory",
        formats=tuple(_LLAMAFACTORY),
        files=_llamafactory_files,
        in_turns=True,
        one_message=True,
    ),
    "verl": Trainer(title="verl", formats=(RL,), files=_no_files, file_type="parquet"),
    "open-instruct": Trainer(title="open-instruct", formats=(RL,), files=_no_files),
}
"""The trainers by the names that commands and manifests use."""
