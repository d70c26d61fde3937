"""A results folder of lm-evaluation-harness (written against its 0.4.13) as a crowd: its logged samples of several models.

    results/MODEL/results_DATE.json            the model's name, and whether higher is better
    results/MODEL/samples_TASK_DATE.jsonl      a line per document and filter

An instruction is a document of a task under one filter. Tasks that ask a model to write have answers; multiple choice
has rewards alone.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdselect.errors import InputError
from crowdselect.pool.rowfiles import Broken, Row, rows_of

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d{2}-\d{2}T[\d.:-]+)\.jsonl")
_RESULTS = re.compile(r"results_(?P<date>\d{4}-\d{2}-\d{2}T[\d.:-]+)\.json")


@dataclass(frozen=True, slots=True)
class Log:
    """The samples of one model in one task."""

    file: Path
    model: str
    task: str
    lower_better: frozenset[str] = frozenset()
    """Metrics of which the results file says that lower is better."""


def is_log(file: Path) -> bool:
    """Say whether a file is named like the samples of a task.

    Example:
        >>> is_log(Path("pool.jsonl"))
        False
    """
    return _SAMPLES.fullmatch(file.name) is not None and file.is_file()


def logs_in(place: Path) -> list[Log]:
    """Find the logs of a folder, the newest of each model and task, or the one that a file is; none where there are none."""
    newest: dict[tuple[Path, str], tuple[str, Path]] = {}
    for file in [place] if place.is_file() else sorted(place.rglob("samples_*.jsonl")):
        match = _SAMPLES.fullmatch(file.name)
        if match is not None:
            key = (file.parent, match["task"])
            newest[key] = max(newest.get(key, ("", file)), (match["date"], file))
    facts: dict[Path, list[tuple[str, Mapping[str, Any]]]] = {}
    return [
        _log(home, task, file, date, facts.setdefault(home, _results(home)))
        for (home, task), (date, file) in sorted(newest.items())
    ]


def _results(home: Path) -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for file in sorted(home.glob("results_*.json")):
        match = _RESULTS.fullmatch(file.name)
        if match is not None:
            try:
                found.append((match["date"], json.loads(file.read_text(encoding="utf-8"))))
            except ValueError as error:
                raise InputError(f"{file}: not JSON ({error}); copy it again") from error
    return found


def _log(
    home: Path, task: str, file: Path, date: str, results: Sequence[tuple[str, Mapping[str, Any]]]
) -> Log:
    own = [facts for when, facts in results if when == date] or [facts for _, facts in results[-1:]]
    facts = own[0] if own else {}
    model = facts.get("model_name") or _pretrained(facts) or home.name.replace("__", "/")
    better = (facts.get("higher_is_better") or {}).get(task) or {}
    return Log(file, str(model), task, frozenset(name for name, higher in better.items() if higher is False))


def _pretrained(facts: Mapping[str, Any]) -> str | None:
    arguments = str((facts.get("config") or {}).get("model_args") or "")
    match = re.search(r"(?:pretrained|model)=([^,]+)", arguments)
    return match[1] if match else None


def rows_in(log: Log, *, chosen: str | None, path: str) -> Iterator[tuple[int, Row | Broken]]:
    """Read a log as rows of a pool: id, prompt or messages, model, sample, response, the metrics, target.

    Args:
        log: From `logs_in`.
        chosen: The filter to take, where the task has several.
        path: The folder, for messages.

    Yields:
        Line and row; a row for each repetition of an answer.

    Raises:
        InputError: The task has several filters and none is chosen, or not the chosen one.
    """
    rows = (row for _, row in rows_of(log.file, "json"))
    every = list(dict.fromkeys(row.get("filter") for row in rows if isinstance(row, dict)))
    wanted = _filter_of(every, chosen, log, path)
    for number, row in rows_of(log.file, "json"):
        if isinstance(row, Broken):
            yield number, row
        elif row.get("filter") == wanted:
            for own in _rows(row, log):
                yield number, own


def _filter_of(every: Sequence[Any], chosen: str | None, log: Log, path: str) -> Any:  # noqa: ANN401  (a text or None)
    if len(every) < 2:
        return every[0] if every else None
    if chosen in every:
        return chosen
    listed = ", ".join(map(str, every))
    raise InputError(
        f"{path}: the task {log.task} was scored through several filters: {listed}; "
        + (f"`filter={chosen}` is none of them" if chosen else f"name one with `filter={every[-1]}`")
    )


def _rows(row: Row, log: Log) -> Iterator[Row]:
    asked = _asked(row)
    metrics = row.get("metrics") or []
    scores = {name: _number(row.get(name), reverse=name in log.lower_better) for name in metrics}
    first = metrics[0] if metrics else None
    base = {"id": f"{log.task}:{row.get('doc_id')}", **asked, "model": log.model, "task": log.task}
    base["target"] = None if row.get("target") is None else str(row["target"])
    for sample, answer in enumerate(_answers(row)):
        own = dict(scores) if sample == 0 else {}
        yield {
            **base,
            "sample": sample,
            "response": answer,
            "score": own.get(first) if first else None,
            **own,
        }


def _number(value: Any, *, reverse: bool) -> Any:  # noqa: ANN401  (of JSON)
    if isinstance(value, list | dict):
        return None  # of metrics that are made of many documents at once
    return -value if reverse and isinstance(value, int | float) else value


def _asked(row: Row) -> Row:
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        prompt = (arguments.get("gen_args_0") or {}).get("arg_0")
    else:  # of older versions: a list of lists
        prompt = arguments[0][0] if arguments and isinstance(arguments[0], list) and arguments[0] else None
    text = (
        prompt[0] if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str) else prompt
    )
    if isinstance(text, str) and text.lstrip().startswith("[{"):
        try:
            turns = json.loads(text)
        except ValueError:
            turns = None
        if isinstance(turns, list) and all(isinstance(turn, dict) and "role" in turn for turn in turns):
            return {"messages": turns}
    return {"instruction": text}


def _answers(row: Row) -> list[str | None]:
    """What was written, before filters; one None for what was not written but compared."""
    found = row.get("resps")
    first = found[0] if isinstance(found, list) and found else None
    if isinstance(first, str):
        return [first]
    if isinstance(first, list) and first and all(isinstance(answer, str) for answer in first):
        many = len(found) > 1 if isinstance(found, list) else False
        return [None] if many else list(first)
    return [None]
