"""Logs of inspect_ai in its JSON format (as its 0.3.285 writes them) as a crowd: one file per run of a task with a model.

    {"status": "success", "eval": {"task": ..., "model": ...}, "samples": [{"id", "epoch", "messages", "output", "scores"}]}

A run holds the answers of one model. Of runs of the same task with the same model one counts: the newest that succeeded,
else the newest.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdselect.textfile import open_text

Row = dict[str, Any]

_HEAD = 1 << 16  # bytes of a file by which it is told whether it may be a log
_MAY_BE_LOG = re.compile(rb'"eval"\s*:\s*\{')
_VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""What the letters of a scorer stand for, as inspect_ai's own `value_to_float` has it."""
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
LETTERS = "C = 1, P = 0.5, I and N = 0"
CONVERT = "inspect log convert LOGS --to json --output-dir logs-json"
"""What makes JSON of logs in inspect_ai's own format."""
READ_AS = (
    f"logs of inspect_ai: {LETTERS}; the prompt is what the model was sent before its first turn, the id TASK:ID, and the "
    "newest successful run of a task with a model counts"
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a task with a model."""

    file: Path
    task: str
    model: str
    key: tuple[str, str, str]
    """Task, its arguments, model."""
    created: str
    status: str
    failed: int
    """Samples that ended with an error."""
    turns: int
    """Answers that came after other turns of the model."""


def is_inspect_log(value: object) -> bool:
    """Say whether a document is a log of inspect_ai.

    Example:
        >>> is_inspect_log({"status": "success", "eval": {"task": "sums", "model": "m"}, "samples": []})
        True
    """
    head = value.get("eval") if isinstance(value, dict) else None
    named = (
        isinstance(head, dict) and isinstance(head.get("model"), str) and isinstance(head.get("task"), str)
    )
    return (
        isinstance(value, dict)
        and named
        and "status" in value
        and isinstance(value.get("samples"), list | None)
    )


def runs_in(files: Sequence[Path]) -> list[Run]:
    """Find the logs among some files; none where there are none."""
    named = [
        file
        for file in files
        if file.name.lower().endswith((".json", ".json.gz", ".json.zst")) and file.is_file()
    ]
    return [_run(file, log) for file in named if (log := _log_in(file)) is not None]


def counting(runs: Sequence[Run]) -> list[Run]:
    """Take one run of each task and model: the newest that succeeded, else the newest."""
    best: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        other = best.get(run.key, run)
        best[run.key] = max(other, run, key=lambda each: (each.status == "success", each.created))
    return [run for run in runs if best[run.key] is run]


def told(runs: Sequence[Run], taken: Sequence[Run]) -> tuple[str, ...]:
    """What there is to say of some runs, and of those that are taken."""
    left = [f"{run.file.name} ({run.model}, {run.status})" for run in runs if run not in taken]
    notes = (
        [f"left out, since another run of the same task with the same model counts: {', '.join(left)}"]
        if left
        else []
    )
    notes += [
        f"the run of {run.model} in {run.file.name} did not succeed ({run.status}): it may lack samples"
        for run in taken
        if run.status != "success"
    ]
    failed, turns = sum(run.failed for run in taken), sum(run.turns for run in taken)
    if failed:
        notes.append(f"{failed} samples ended with an error: they are failed answers, without a reward")
    if turns:
        notes.append(f"{turns} answers came after other turns of the model, which are not in the prompt")
    return tuple(notes)


def inspect_rows(log: Mapping[str, Any]) -> list[Row]:
    """Read a log as rows of a pool: id, messages, model, sample, response, finish_reason, the scores, target.

    Example:
        >>> sample = {"id": 1, "epoch": 1, "input": "Hi", "output": {"completion": "Ho"}, "scores": {"is": {"value": "C"}}}
        >>> (row,) = inspect_rows({"eval": {"task": "t", "model": "m"}, "samples": [sample]})
        >>> row["id"], row["messages"], row["response"], row["scores"]
        ('t:1', [{'role': 'user', 'content': 'Hi'}], 'Ho', {'is': 1.0})
    """
    return [_row(sample, log["eval"]) for sample in log.get("samples") or () if isinstance(sample, dict)]


def _row(sample: Mapping[str, Any], head: Mapping[str, Any]) -> Row:
    output = _object(sample.get("output"))
    choice = _object(next(iter(_list(output.get("choices"))), None))
    asked, own = _turns(sample)
    failed = sample.get("error") is not None
    calls = next((turn["tool_calls"] for turn in own[:1] if turn.get("tool_calls")), None)
    answer = output.get("completion") or None
    several = (_object(head.get("config")).get("epochs") or 1) > 1
    return {
        "id": f"{head['task']}:{sample.get('id')}",
        "task": head["task"],
        "messages": None if failed else asked,  # it may have failed before all was in them
        "model": head["model"],
        **({"sample": sample.get("epoch")} if several else {}),
        "response": None if failed or calls else answer,
        "tool_calls": None if failed else calls,
        "reasoning": None if failed or calls else _reasoning(_object(choice.get("message"))),
        "finish_reason": "error"
        if failed
        else "length"
        if sample.get("limit")
        else choice.get("stop_reason"),
        "scores": {} if failed else dict(_scores(_object(sample.get("scores")))),
        "input": sample["input"] if isinstance(sample.get("input"), str) else None,
        "target": sample.get("target"),
        "metadata": sample.get("metadata"),
    }


def _turns(sample: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
    """What the model was sent before its first turn, and its own turns."""
    turns = [turn for turn in _list(sample.get("messages")) if isinstance(turn, dict)]
    given = sample.get("input")
    if not turns:
        user = {"role": "user", "content": given}
        turns = (
            [user] if isinstance(given, str) else [turn for turn in _list(given) if isinstance(turn, dict)]
        )
    shown = [turn for turn in turns if turn.get("role") == "assistant"]
    made = [turn for turn in shown if turn.get("source") == "generate"]
    if not made and sample.get("messages") and turns[-1].get("role") == "assistant":
        made = turns[-1:]  # older logs do not say where a turn comes from
    first = next((at for at, turn in enumerate(turns) if made and turn is made[0]), len(turns))
    return [{"role": turn.get("role"), "content": turn.get("content")} for turn in turns[:first]], made


def _object(value: Any) -> Mapping[str, Any]:  # noqa: ANN401  (whatever a log holds)
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401  (whatever a log holds)
    return value if isinstance(value, list) else []


def _reasoning(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    texts = [
        part["reasoning"]
        for part in parts
        if isinstance(part, dict) and part.get("type") == "reasoning" and not part.get("redacted")
    ]
    return "\n\n".join(map(str, texts)) or None


def _scores(scores: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of all scorers, and those inside a value that is an object."""
    for name, score in scores.items():
        value = score.get("value") if isinstance(score, dict) else score
        for inner, own in value.items() if isinstance(value, dict) else [("", value)]:
            yield (f"{name}.{inner}" if inner else name), _number(own)


def _number(value: Any) -> Any:  # noqa: ANN401  (whatever a scorer gave)
    """A letter or a word as its number; anything else as it stands, so that texts are told where they are read."""
    if isinstance(value, str):
        return _VALUES.get(value, _WORDS.get(value.strip().lower(), value))
    return value


def _log_in(file: Path) -> Mapping[str, Any] | None:
    with open_text(file) as stream:
        head = stream.read(_HEAD)
        if _MAY_BE_LOG.search(head) is None:
            return None
        try:
            value = json.loads(head + stream.read())
        except (ValueError, RecursionError):
            return None  # said where it is read
    return value if is_inspect_log(value) else None


def _run(file: Path, log: Mapping[str, Any]) -> Run:
    head = log["eval"]
    samples = [sample for sample in log.get("samples") or () if isinstance(sample, dict)]
    arguments = json.dumps(head.get("task_args"), sort_keys=True)
    turns = [len(_turns(sample)[1]) for sample in samples]
    return Run(
        file,
        head["task"],
        head["model"],
        (head["task"], arguments, head["model"]),
        str(head.get("created")),
        str(log["status"]),
        sum(sample.get("error") is not None for sample in samples),
        sum(count > 1 for count in turns),
    )
