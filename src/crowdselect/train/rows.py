"""Rows from a folder of `select`, or a training file in one of its formats; and their tokens as the trainers see them.

A row is a prompt, an answer, and optionally a rejected answer. `lengths` counts each row's tokens, how many of them
are the answer, and what the limit cuts.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from crowdselect._optional import optional
from crowdselect.errors import InputError, OptionError
from crowdselect.malformed import Malformed
from crowdselect.pool.content import TurnsError, turns_of, written
from crowdselect.pool.files import file_type
from crowdselect.pool.prompts import Chat, for_template, parse_turn, tool_names
from crowdselect.pool.rowfiles import Broken, Row, rows_of
from crowdselect.progress import Progress
from crowdselect.reward.loading import one_line
from crowdselect.seeding import seeded_hash
from crowdselect.selection.eligible import NEEDS_TOOLS
from crowdselect.selection.rl import HOLDS_REFERENCE
from crowdselect.train.student import EXTRA, Student
from crowdselect.writing import read_manifest

Messages = Chat
_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
_TAGGED = {"function_call", "observation"}  # turns of calls and their results, as LLaMA-Factory reads them
_WANTED = (
    "wanted messages, prompt and completion, conversations (sharegpt), instruction and output (alpaca), or prompt, "
    "chosen and rejected"
)


_WITHOUT_TOOLS = {"simpo", "orpo"}  # objectives whose trainers in TRL pass no tools to the template


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One training row."""

    id: str
    prompt: Messages
    """The messages before the answer; earlier answers in it are not trained on."""
    answer: str
    rejected: str | None = None
    """The answer that `answer` is preferred to; None if there is none."""
    tools: str | None = None
    """Those that may be called, as JSON; None if there are none."""

    @property
    def tool_names(self) -> set[str]:
        """The functions that the prompt calls or may call."""
        return tool_names(self.prompt, self.tools)


@dataclass(frozen=True, slots=True)
class TrainRows:
    """All rows of one source, in file order."""

    rows: tuple[TrainRow, ...]
    file: Path
    manifest: Mapping[str, Any] | None
    """The selection's manifest; None for a bare file."""
    malformed: int = 0
    """How many rows of the file were left out because they are malformed."""
    notes: tuple[str, ...] = ()
    """Lines for the user."""

    @property
    def has_pairs(self) -> bool:
        """Whether every row has a rejected answer; a file has them in all rows or in none."""
        return self.rows[0].rejected is not None

    def fingerprint(self) -> str:
        """Hash the rows, whatever their order and format: 64 hexadecimal digits."""
        lines = sorted(
            json.dumps([r.id, r.prompt, r.answer, r.rejected, *([r.tools] if r.tools else [])])
            for r in self.rows
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_rows(path: str, *, skip_invalid: bool = False) -> TrainRows:
    """Read training rows.

    Args:
        path: A folder that `select` wrote, or one training file: JSONL (plain, .gz or .zst) or
            Parquet in one of the formats of `crowdselect.selection.records`. A row without an id gets a hash of its
            content as id.
        skip_invalid: Leave malformed rows out, counted, instead of stopping at them.

    Returns:
        The rows; at least one.

    Raises:
        InputError: There is no such file, it has no sound row, its rows are for reinforcement learning, or a row does not fit
            any format; the message counts all such rows.

    Example:
        >>> read_rows("no-such-folder")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-folder: no such file or folder; wanted one that `select` wrote, or a training file
    """
    place = Path(path)
    manifest = None
    if place.is_dir():
        manifest = read_manifest(place)
        place = _training_file(place, manifest)
    elif not place.is_file():
        raise InputError(
            f"{path}: no such file or folder; wanted one that `select` wrote, or a training file"
        )
    if any(_is_for_rl(record) for _, record in islice(_records(place), 1)):
        raise InputError(
            f"{path}: its format is rl: questions with reference answers, and no answers to learn; choose the rows again with "
            "`crowdselect select --format messages`, and train on that"
        )
    malformed = Malformed(skip=skip_invalid)
    rows = tuple(malformed.parsed(_row, _records(place)))
    if not rows:
        raise InputError("; ".join((f"{place}: holds no row to train on", *malformed.notes)))
    paired = [row.rejected is not None for row in rows]
    if len(set(paired)) > 1:
        raise InputError(
            f"{place}: row {rows[paired.index(not paired[0])].id!r} differs from the first: rows with a rejected "
            "answer and rows without one do not go together"
        )
    return TrainRows(rows, place, manifest, malformed.count, tuple(malformed.notes))


def divide(rows: TrainRows, *, share: float, seed: int) -> tuple[list[TrainRow], list[TrainRow]]:
    """Shuffle rows by ids and seed alone, and hold some out.

    Args:
        rows: All rows.
        share: Share of the distinct ids to hold out, 0 to below 1: those with the lowest seeded hashes; at least
            one if above 0.
        seed: Seed of the order and of the held-out rows.

    Returns:
        Rows to train on, rows to evaluate on.

    Raises:
        OptionError: Nothing would be left to train on.
    """
    ids = sorted({row.id for row in rows.rows})
    hashes = dict(zip(ids, seeded_hash(ids, seed=seed, salt="held out").tolist(), strict=True))
    count = max(1, round(share * len(ids))) if share > 0 else 0
    if count >= len(ids):
        raise OptionError(
            f"`eval_share` of {share} holds out {count} of {len(ids)} rows, and none is left to train on; give less"
        )
    held_out = set(sorted(ids, key=lambda id_: (hashes[id_], id_))[:count])
    order = dict(zip(ids, seeded_hash(ids, seed=seed, salt="order").tolist(), strict=True))
    ordered = sorted(rows.rows, key=lambda row: (order[row.id], row.id, row.answer, row.rejected or ""))
    return [r for r in ordered if r.id not in held_out], [r for r in ordered if r.id in held_out]


def _training_file(folder: Path, manifest: Mapping[str, Any] | None) -> Path:
    named = (manifest or {}).get("export", {}).get("file", "train.jsonl")
    if named is None:
        raise InputError(
            f"{folder}: holds no training file, because its pool has no texts; choose from a pool with the models' "
            "answers"
        )
    existing = [
        folder / name for name in (named, "train.jsonl", "train.parquet") if (folder / name).is_file()
    ]
    if not existing:
        raise InputError(f"{folder}: holds no {named}; name a folder that `select` wrote, or a training file")
    return existing[0]


def _records(file: Path) -> Iterator[tuple[str, Row | Broken]]:
    """The rows of a training file, and where each is."""
    kind = file_type(file)
    if kind == "csv":
        raise InputError(f"{file}: a table of text cannot hold conversations; wanted JSONL or Parquet")
    unit = "row" if kind != "json" else "element" if file.suffix == ".json" else "line"
    try:
        yield from ((f"{file}: {unit} {number}", row) for number, row in rows_of(file, kind))
    except pa.ArrowException as error:
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _is_for_rl(record: Row | Broken) -> bool:
    """Say whether a row has a question and a reference, and no answer, as `crowdselect.selection.rl` writes it."""
    if isinstance(record, Broken) or not any(record.get(name) is not None for name in HOLDS_REFERENCE):
        return False
    asked = record.get("messages") or record.get("prompt")
    is_question = (
        isinstance(asked, list) and asked and isinstance(asked[-1], dict) and asked[-1].get("role") == "user"
    )
    answers = {name for names in _FORMS for name in names} - {"messages", "prompt", "instruction"}
    return bool(is_question) and all(record.get(name) is None for name in answers)


def _row(placed: tuple[str, Row | Broken]) -> TrainRow:
    where, record = placed
    if isinstance(record, Broken):
        raise InputError(f"{where} {record.what}")
    id_ = record.get("id")
    if id_ is None:
        id_ = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    where = f"{where} (id {id_!r})"
    parts = next(
        (made for names, made in _FORMS.items() if all(record.get(n) is not None for n in names)), None
    )
    if parts is None:
        raise InputError(f"{where} has {', '.join(map(str, record)) or 'nothing'}; {_WANTED}")
    prompt, answer, rejected = parts(record, where)
    if not any(message["role"] == "user" for message in prompt):
        raise InputError(f"{where}: no message of the user stands before the answer; wanted one")
    for name, text in (("answer", answer), ("rejected answer", rejected)):
        if text is not None and not text.strip():
            raise InputError(
                f"{where}: the {name} is empty; there is nothing to learn from; leave the row out"
            )
    tools = written(record.get("tools")) or None
    if tools is not None and not isinstance(tools, list):
        raise InputError(f"{where}: tools is {str(tools)[:80]!r}; wanted a list")
    listed = None if tools is None else json.dumps(tools)
    return TrainRow(str(id_), for_template(prompt), answer, rejected, listed)


def _of_messages(record: Mapping[str, Any], where: str) -> tuple[Messages, str, str | None]:
    messages = _checked(record["messages"], f"{where}: messages")
    return messages[:-1], _last(messages, where), None


def _of_completion(record: Mapping[str, Any], where: str) -> tuple[Messages, str, str | None]:
    return (
        _checked(record["prompt"], f"{where}: prompt"),
        _only(record["completion"], f"{where}: completion"),
        None,
    )


def _of_pair(record: Mapping[str, Any], where: str) -> tuple[Messages, str, str | None]:
    return (
        _checked(record["prompt"], f"{where}: prompt"),
        _only(record["chosen"], f"{where}: chosen"),
        _only(record["rejected"], f"{where}: rejected"),
    )


def _of_conversations(record: Mapping[str, Any], where: str) -> tuple[Messages, str, str | None]:
    """Read two conversations that differ in the last message, open-instruct's pairs."""
    chosen = _checked(record["chosen"], f"{where}: chosen")
    rejected = _checked(record["rejected"], f"{where}: rejected")
    if chosen[:-1] != rejected[:-1]:
        raise InputError(
            f"{where}: chosen and rejected differ before the last message; there is no preference"
        )
    return chosen[:-1], _last(chosen, where), _last(rejected, where)


def _of_rejected(record: Mapping[str, Any], where: str) -> tuple[Messages, str, str | None]:
    """Read a conversation and another last answer, ms-swift's pairs."""
    prompt, answer, _ = _of_messages(record, where)
    rejected = record["rejected_response"]
    if not isinstance(rejected, str):
        raise InputError(f"{where}: rejected_response is {str(rejected)[:80]!r}; wanted a text")
    return prompt, answer, rejected


def _of_sharegpt(record: Mapping[str, Any], where: str) -> tuple[Messages, str, str | None]:
    turns = record["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(f"{where}: conversations is not a list of turns; {_WANTED}")
    written = [
        {"role": _ROLES.get(str(turn.get("from")), turn.get("from")), "content": turn.get("value")}
        for turn in turns
    ]
    messages = _checked(written, f"{where}: conversations")
    return _system(record) + messages[:-1], _last(messages, where), None


def _of_alpaca(record: Mapping[str, Any], where: str) -> tuple[Messages, str, str | None]:
    for name in ("instruction", "input", "output"):
        if not isinstance(record.get(name) or "", str):
            raise InputError(f"{where}: {name} is {str(record[name])[:80]!r}; wanted a text")
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) for pair in history):
        raise InputError(f"{where}: history is {str(history)[:80]!r}; wanted a list of [asked, answered]")
    instruction = record["instruction"] + (f"\n{record['input']}" if record.get("input") else "")
    earlier = [
        {"role": role, "content": text}
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=False)
    ]
    messages = [*_system(record), *earlier, {"role": "user", "content": instruction}]
    return _checked(messages, f"{where}: instruction and history"), record["output"], None


_FORMS: Mapping[tuple[str, ...], Callable[[Mapping[str, Any], str], tuple[Messages, str, str | None]]] = {
    ("prompt", "chosen", "rejected"): _of_pair,
    ("chosen", "rejected"): _of_conversations,
    ("prompt", "completion"): _of_completion,
    ("messages", "rejected_response"): _of_rejected,
    ("messages",): _of_messages,
    ("conversations",): _of_sharegpt,
    ("instruction", "output"): _of_alpaca,
}


def _system(record: Mapping[str, Any]) -> Messages:
    return [{"role": "system", "content": record["system"]}] if record.get("system") else []


def _checked(messages: Any, where: str) -> Messages:  # noqa: ANN401  (whatever the file holds)
    """Return role and content of messages, which must be texts, but for a content beside calls of tools."""
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where} is not a list of messages; wanted objects with role and content")
    found = []
    for message in messages:
        try:
            tagged = isinstance(message, dict) and message.get("role") in _TAGGED
            found.append(parse_turn(turns_of([message])[0] if tagged else message))
        except TurnsError as error:
            raise InputError(f"{where}: {error}") from error
        except ValueError as error:
            raise InputError(
                f"{where} holds {str(message)[:80]!r}; wanted an object with role and content as text, or with "
                "tool_calls instead of a content"
            ) from error
    return found


def _last(messages: Messages, where: str) -> str:
    last = messages[-1]
    if last["role"] != "assistant":
        raise InputError(f"{where}: the last message is of {last['role']!r}; wanted the assistant's answer")
    if "tool_calls" in last:
        raise InputError(
            f"{where}: the answer is a call of tools; only texts are trained on; leave the row out"
        )
    return str(last["content"])


def _only(answer: Any, where: str) -> str:  # noqa: ANN401  (whatever the file holds)
    """Return the single message of an answer, in a list (TRL) or alone (LLaMA-Factory)."""
    messages = _checked(answer if isinstance(answer, list) else [answer], where)
    if len(messages) != 1:
        raise InputError(f"{where} has {len(messages)} messages; wanted one, of the assistant")
    return _last(messages, where)


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of one row; for a pair the sums over both conversations, and `longest` the longer one's."""

    kept: int
    """Tokens that go through the model, after truncation."""
    answer: int
    """Those of `kept` that are the answer, which the loss is on."""
    longest: int
    """Tokens before truncation."""
    is_cut: bool
    """Whether it is longer than the limit."""
    is_lost: bool
    """Whether nothing of an answer is within the limit."""
    is_bent: bool
    """Whether the template writes the prompt differently when an answer follows."""


def without_unheld(
    source: TrainRows, student: Student, *, objective: str, skip_invalid: bool = False
) -> TrainRows:
    """Leave out the rows with tools that the student's template, or the trainer, does not hold.

    Args:
        source: The rows.
        student: The base model, for its template.
        objective: What is minimised.
        skip_invalid: Leave them out, counted like malformed rows, instead of stopping at them.

    Raises:
        InputError: There are some, and they are not to be left out, or no other row is there; the message counts them.
    """

    def held(row: TrainRow) -> TrainRow:
        if row.tool_names and objective in _WITHOUT_TOOLS:
            raise InputError(f"id {row.id!r}: {NEEDS_TOOLS.format(f'trainer for {objective}')}; dpo does")
        if row.tool_names:
            _ids(row, row.prompt, student, ask=True)
        return row

    malformed = Malformed(skip=skip_invalid)
    rows = tuple(malformed.parsed(held, source.rows))
    if not rows:
        raise InputError("; ".join((f"{source.file}: holds no row to train on", *malformed.notes)))
    notes = (*source.notes, *malformed.notes)
    return replace(source, rows=rows, malformed=source.malformed + malformed.count, notes=notes)


def lengths(
    rows: Sequence[TrainRow],
    student: Student,
    *,
    limit: int,
    objective: str,
    progress: Progress | None = None,
) -> list[Length]:
    """Count the tokens of rows.

    Args:
        rows: The rows.
        student: The base model, for its tokenizer and template.
        limit: Maximum tokens of a conversation.
        objective: What is minimised: `simpo` and `orpo` append an end token to an answer that has none.
        progress: Called with the number of rows done and in total.

    Returns:
        One per row.

    Raises:
        InputError: The template refuses a row; the message names its id.
    """
    counted = []
    for at, row in enumerate(rows):
        answers = [row.answer] if objective == "sft" or row.rejected is None else [row.answer, row.rejected]
        prompt = _ids(row, row.prompt, student, ask=True)
        parts = [_part(row, prompt, answer, student, limit=limit, objective=objective) for answer in answers]
        counted.append(
            Length(
                kept=sum(part.kept for part in parts),
                answer=sum(part.answer for part in parts),
                longest=max(part.longest for part in parts),
                is_cut=any(part.is_cut for part in parts),
                is_lost=any(part.is_lost for part in parts),
                is_bent=any(part.is_bent for part in parts),
            )
        )
        if progress is not None:
            progress(at + 1, len(rows))
    return counted


def _part(
    row: TrainRow, prompt: list[int], answer: str, student: Student, *, limit: int, objective: str
) -> Length:
    whole = _ids(row, [*row.prompt, {"role": "assistant", "content": answer}], student, ask=False)
    begin = next(
        (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b),
        min(len(prompt), len(whole)),
    )
    if objective in {"simpo", "orpo"} and whole[-1] != student.tokenizer.eos_token_id:
        whole = [*whole, student.tokenizer.eos_token_id]
    kept = min(len(whole), limit)
    return Length(
        kept, max(0, kept - begin), len(whole), len(whole) > limit, begin >= kept, begin < len(prompt)
    )


def _ids(row: TrainRow, messages: Messages, student: Student, *, ask: bool) -> list[int]:
    jinja: Any = optional("jinja2", extra=EXTRA)
    tools = None if row.tools is None else json.loads(row.tools)
    try:
        text = student.tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=ask, tokenize=False
        )
        encoded = student.tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=ask, tokenize=True, return_dict=True
        )
    except (jinja.TemplateError, TypeError) as error:  # the latter where one joins a text and an object
        raise InputError(
            f"id {row.id!r}: the chat template refuses it: {one_line(error)}; leave the row out, or give another "
            "template with `chat_template`"
        ) from error
    if not all(name in text for name in row.tool_names):
        raise InputError(
            f"id {row.id!r}: {NEEDS_TOOLS.format('chat template')} (another one is given with `chat_template`)"
        )
    ids: list[int] = encoded["input_ids"]
    return ids
