"""What a format holds and which trainer reads it; one chosen row in a format; and the other files that a trainer needs."""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from crowdselect.errors import InputError, OptionError
from crowdselect.pool.content import needs_of
from crowdselect.selection.records import FORMATS, IN_TURNS, RL, Messages, Record
from crowdselect.selection.trainers import TRAINERS, Stage, Start

if TYPE_CHECKING:
    import pyarrow as pa

PAPER_TRAINING = {
    "learning_rate": "1e-5",
    "num_train_epochs": "3",
    "per_device_train_batch_size": "1",
    "gradient_accumulation_steps": "2",
    "lr_scheduler_type": "cosine",
    "warmup_steps": "150",
}
"""The paper's hyper-parameters (its table 6), by the names that TRL gives them."""
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
    if name not in reads.forms:
        why = " (it does not train on preference pairs)" if name == "dpo" else ""
        raise OptionError(
            f"{reads.title} does not read `format={name!r}`{why}; choose one of: {', '.join(reads.forms)}"
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
        file_type: "jsonl" or "parquet"; calls of tools have no common type, so Parquet holds none but as texts.

    Example:
        >>> sorted(holds_of(None, trainer=None, file_type="jsonl")), sorted(holds_of("alpaca", trainer=None, file_type="jsonl"))
        (['tools', 'turns'], [])
    """
    form = (TRAINERS[trainer].forms if trainer in TRAINERS else FORMATS).get(name or "messages")
    if form is not None and "tools" in form.columns:
        return frozenset({"tools"})
    if name in IN_TURNS or (trainer in TRAINERS and TRAINERS[trainer].in_turns):
        return frozenset()
    whole = file_type_of(file_type, trainer=trainer) == "jsonl" and (form is None or form.tools)
    return frozenset({"turns", "tools"} if whole else {"turns"})


def no_room(need: str, name: str | None, *, trainer: str | None, file_type: str) -> tuple[str, str]:
    """Say what does not hold something that conversations may need, and which options would.

    Args:
        need: `turns` or `tools`.
        name: As for `holds_of`, which does not name it for these.
        trainer: Likewise.
        file_type: Likewise.

    Returns:
        Both in words; the second is empty where no option would.

    Example:
        >>> no_room("tools", "dpo", trainer="ms-swift", file_type="jsonl")
        ('the file for ms-swift', "`trainer='trl'`, `trainer='llamafactory'`, `trainer='axolotl'` or `trainer='unsloth'`")
    """
    if name in IN_TURNS and need in holds_of("messages", trainer=trainer, file_type="jsonl"):
        whole = need in holds_of("messages", trainer=trainer, file_type=file_type)
        return f"`format={name!r}`", "`format='messages'`" + ("" if whole else " and `file_type='jsonl'`")
    if trainer is None:
        if name == RL:
            return f"`format={name!r}`", ""
        return f"`file_type={file_type!r}`", "`file_type='jsonl'`"
    kept = name if name in {"dpo", RL} else None
    others = [
        f"`trainer={other!r}`"
        for other, reads in TRAINERS.items()
        if (kept or "messages") in reads.forms and need in holds_of(kept, trainer=other, file_type="jsonl")
    ]
    listed = " or ".join(part for part in (", ".join(others[:-1]), *others[-1:]) if part)
    return f"the file for {TRAINERS[trainer].title}", listed


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
    if in_turns and set(needs_of(prompt)) - holds_of(name, trainer=trainer, file_type="jsonl"):
        others = " or ".join(f"`trainer={key!r}`" for key, other in TRAINERS.items() if other.in_turns)
        roles = ", ".join(message["role"] for message in prompt)
        raise InputError(
            f"id {instruction_id!r}: its messages are of {roles}; {trainer or f'format {name}'} needs user and "
            "assistant in turns, the last of the user, and at most one of the system, first; leave the row out with "
            f"`exclude`, or use `format='messages'` or `format='prompt-completion'` without {others}"
        )
    form = FORMATS[name] if reads is None else reads.forms[name]
    fields = form.make(prompt, answer, rejected)
    if "tools" in form.columns:
        return {"id": instruction_id, **fields, "tools": tools or ""}
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
    if name == RL:
        from crowdselect.selection.rl import schema

        return schema(trainer)
    return (FORMATS if trainer is None else TRAINERS[trainer].forms)[name].schema()


def trainer_files(
    trainer: str, *, name: str, train_file: str, digest: str, rows: int, earlier: str = ""
) -> Mapping[str, str]:
    """Build the files that a trainer needs besides the training file, with the paper's hyper-parameters.

    The warm-up is the paper's, but at most a tenth of the steps that the rows make on one GPU.
    With these files the model is saved beside the folder, not in it: a training run has its own folder and manifest.
    The digest is in its name, so that runs on other rows neither meet nor go on from one another.

    Args:
        trainer: A key of `TRAINERS`.
        name: A key of `FORMATS`.
        train_file: The training file's name.
        digest: A short hash of its bytes.
        rows: Number of rows in the training file.
        earlier: From `Trainer.earlier_line`; a comment of theirs.

    Returns:
        Text by file name.

    Example:
        >>> sorted(trainer_files("llamafactory", name="messages", train_file="train.jsonl", digest="1f40fc92", rows=1000))
        ['dataset_info.json', 'llamafactory.yaml']
    """
    stage: Stage = "dpo" if name == "dpo" else "grpo" if name == RL else "sft"
    steps = _steps(rows)
    warm_up, note = _warm_up(steps)
    settings = PAPER_TRAINING | {"warmup_steps": str(warm_up)}
    settings |= {"learning_rate": _PREFERENCE_RATE} if stage == "dpo" else {}
    return TRAINERS[trainer].files(
        Start(
            format=name,
            train_file=train_file,
            digest=digest,
            stage=stage,
            settings=settings,
            steps=steps,
            note=_NOTES[stage] + ("" if stage == "grpo" else note) + (f"# {earlier}.\n" if earlier else ""),
        )
    )


def _steps(rows: int) -> int:
    """Count the steps that the rows make on one GPU.

    Example:
        >>> _steps(300)
        450
    """
    each = int(PAPER_TRAINING["per_device_train_batch_size"])
    batch = each * int(PAPER_TRAINING["gradient_accumulation_steps"])
    return math.ceil(rows / batch) * int(PAPER_TRAINING["num_train_epochs"])


def _warm_up(steps: int) -> tuple[int, str]:
    r"""Compute the steps of the warm-up, and a comment that says why.

    Example:
        >>> _warm_up(450)
        (45, "# warmup_steps: a tenth of the 450 steps on one GPU; the paper's is 150.\n")
    """
    paper, tenth = int(PAPER_TRAINING["warmup_steps"]), math.ceil(steps / 10)  # rounded up, as `train` does
    if tenth >= paper:
        return paper, "# warmup_steps: the paper's.\n"
    return tenth, f"# warmup_steps: a tenth of the {steps} steps on one GPU; the paper's is {paper}.\n"
