"""A results folder of lm-evaluation-harness (as its 0.4.13 writes it) as a crowd: its logged samples of several models.

    results/MODEL/results_DATE.json            the model's name, and whether higher is better
    results/MODEL/samples_TASK_DATE.jsonl      a line per document and filter

With `--output_path results/NAME.json` all of it lies in one folder, and the first file is `NAME_DATE.json`.

An instruction is a document of a task under one filter. Tasks that ask a model to write have answers; where likelihoods
are compared, as in multiple choice, there are rewards alone.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crowdselect.errors import InputError
from crowdselect.pool.columns import Kind
from crowdselect.pool.rowfiles import Broken, Row, Seen, number_of, rows_of

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d{2}-\d{2}T[\d.:-]+)\.jsonl")
_PARTS = frozenset({"id", "instruction", "messages", "doc", "model", "task", "target", "sample", "response"})
"""What a row of `rows_in` has besides `score` and the metrics."""
_RESULTS = re.compile(r".+_(?P<date>\d{4}-\d{2}-\d{2}T[\d.:-]+)\.json")


@dataclass(frozen=True, slots=True)
class Log:
    """The samples of one model in one task."""

    file: Path
    model: str
    task: str
    lower_better: frozenset[str] = frozenset()
    """Metrics of which the results file says that lower is better."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What the results file says of how the task was asked; equal if it was asked in the same way."""
    split: str | None = None
    """The part of the task's data that the documents are of, as the results file says; None = it does not."""

    @property
    def is_test(self) -> bool:
        """Whether models are measured by its documents: all are, but those of a split for training."""
        return not (self.split or "").startswith("train")


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a task under one filter, with its metrics: higher is better; None = of many documents at once."""

    key: str
    """Number and content, so that equal keys are equal documents."""
    filter: str
    metrics: Mapping[str, float | None]


def is_log(file: Path) -> bool:
    """Say whether a file is named like the samples of a task.

    Example:
        >>> is_log(Path("pool.jsonl"))
        False
    """
    return _SAMPLES.fullmatch(file.name) is not None and file.is_file()


def logs_in(place: Path) -> list[Log]:
    """Find the logs of a folder, the newest of each model and task, or the one that a file is; none where there are none.

    Raises:
        InputError: A results file is no JSON, or two folders hold the same task of the same model.
    """
    newest: dict[tuple[str, str], tuple[str, Log]] = {}
    known: dict[Path, dict[str, Mapping[str, Any]]] = {}
    for file in [place] if place.is_file() else sorted(place.rglob("samples_*.jsonl")):
        match = _SAMPLES.fullmatch(file.name)
        if match is None:
            continue
        if file.parent not in known:
            known[file.parent] = _results(file.parent)
        log = _log(file, match["task"], match["date"], known[file.parent])
        date, other = newest.get((log.model, log.task), ("", log))
        if other.file.parent != file.parent:
            raise InputError(
                f"{place}: {other.file.parent} and {file.parent} both hold the task {log.task} of {log.model}; keep one "
                "of them"
            )
        newest[log.model, log.task] = max((date, other), (match["date"], log), key=lambda dated: dated[0])
    return [log for _, log in sorted(newest.values(), key=lambda dated: str(dated[1].file))]


def _results(home: Path) -> dict[str, Mapping[str, Any]]:
    """What the results files of a folder say, by date."""
    found: dict[str, Mapping[str, Any]] = {}
    for file in sorted(home.glob("*.json")):
        match = _RESULTS.fullmatch(file.name)
        if match is not None:
            try:
                found[match["date"]] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(f"{file}: not JSON ({error}); copy it again") from error
    return found


def _log(file: Path, task: str, date: str, results: Mapping[str, Mapping[str, Any]]) -> Log:
    facts = results.get(date) or (results[max(results)] if results else {})
    model = facts.get("model_name") or file.parent.name.replace("__", "/")
    better = (facts.get("higher_is_better") or {}).get(task) or {}
    lower = frozenset(name for name, higher in better.items() if higher is False)
    config = (facts.get("configs") or {}).get(task) or {}
    split = config.get("test_split") or config.get(
        "validation_split"
    )  # in this order, as the harness takes them
    return Log(file, str(model), task, lower, _asked_by(facts, task), split)


def _asked_by(facts: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What decides how a task is asked; a model's own chat template counts by whether there is one."""
    return {
        "version": (facts.get("versions") or {}).get(task),
        "num_fewshot": (facts.get("n-shot") or {}).get(task),
        "gen_kwargs": (facts.get("config") or {}).get("gen_kwargs") or None,
        "chat": bool(facts.get("chat_template")),
        "system_instruction": facts.get("system_instruction") or None,
        "fewshot_as_multiturn": bool(facts.get("fewshot_as_multiturn")),
    }


def rows_in(log: Log, *, chosen: str | None, path: str) -> Iterator[tuple[int, Row | Broken]]:
    """Read a log as rows of a pool: id, prompt or messages, the document, model, sample, response, the metrics, target.

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


def columns_in(logs: Sequence[Log], *, chosen: str | None, path: str) -> dict[str, Kind]:
    """Say what the rows of some logs hold; the arguments are those of `rows_in`.

    `score` is the first metric of each document; where there is but one metric, it would be the same again.
    """
    seen = Seen()
    for _, row in (each for log in logs for each in rows_in(log, chosen=chosen, path=path)):
        if not isinstance(row, Broken):
            seen.add(row)
    found = {name: inner.kind() for name, inner in seen.fields.items()}
    metrics = [
        name for name, kind in found.items() if kind.name == "number" and name not in _PARTS | {"score"}
    ]
    if len(metrics) == 1:
        found.pop("score", None)
    return found | dict.fromkeys(("response", "target"), Kind("text"))


def questions_in(logs: Sequence[Log]) -> dict[str, str]:
    """Read what the documents of some logs ask, few-shot examples included, whatever the filter.

    Args:
        logs: From `logs_in`.

    Returns:
        `TASK:NUMBER` → text; of a conversation, that of its turns.

    Raises:
        InputError: A line is no JSON object.
    """
    found: dict[str, str] = {}
    for log in logs:
        for number, row in rows_of(log.file, "json"):
            if isinstance(row, Broken):
                raise InputError(f"{log.file}: line {number} is no JSON object; copy it again")
            asked = _asked(row)
            turns = asked.get("messages") or [{"content": asked.get("instruction")}]
            text = "\n\n".join(str(turn["content"]) for turn in turns if turn.get("content"))
            if text.strip():
                found.setdefault(f"{log.task}:{row.get('doc_id')}", text)
    return found


def documents_in(log: Log) -> Iterator[tuple[int, Document | Broken]]:
    """Read the metrics of a log.

    Args:
        log: From `logs_in`.

    Yields:
        Line and document, under each filter.
    """
    for number, row in rows_of(log.file, "json"):
        if isinstance(row, Broken):
            yield number, row
        else:
            content = str(row.get("doc_hash") or "")[:_HASH]
            key = f"{row.get('doc_id')}{f' {content}' if content else ''}"
            yield number, Document(key, str(row.get("filter")), _metrics(row, log))


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
    writes, scores = _writes(row), _metrics(row, log)
    first = next((value for value in scores.values() if value is not None), None)
    base = {"id": f"{log.task}:{row.get('doc_id')}", **_asked(row), "doc": row.get("doc")}
    base |= {"model": log.model, "task": log.task}
    base["target"] = None if row.get("target") is None else str(row["target"])
    for sample, answer in enumerate(_answers(row) if writes else [None]):
        own = {"score": first, **scores} if sample == 0 else {}
        yield {**base, "sample": sample, "response": answer, **dict.fromkeys(("score", *scores)), **own}


_HASH = 12  # digits of a document's hash
_LIKELIHOOD = "perplexity"
"""Of a document where likelihoods are compared, this metric is its log-likelihood: higher is better, as of no other."""


def _metrics(row: Row, log: Log) -> dict[str, float | None]:
    """Give the metrics of a document, turned so that higher is better."""
    scores = {name: _number(row.get(name)) for name in row.get("metrics") or []}
    for name, value in scores.items():
        if value is not None and name in log.lower_better and (name != _LIKELIHOOD or _writes(row)):
            scores[name] = 0.0 - value  # never -0.0
    return scores


def _number(value: Any) -> float | None:  # noqa: ANN401  (of JSON)
    """A metric of one document; None where it is made of many documents at once."""
    try:
        return number_of(value)
    except ValueError:
        return None


def _writes(row: Row) -> bool:
    """Whether the model was asked to write: then settings of that come after the prompt, else a continuation or nothing."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        return isinstance((arguments.get("gen_args_0") or {}).get("arg_1"), dict)
    first = arguments[0] if arguments else None
    return isinstance(first, list) and len(first) > 1 and isinstance(first[1], dict)


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
    """What was written, before filters: a text for each repetition."""
    found = row.get("resps")
    first = found[0] if isinstance(found, list) and found else None
    texts = first if isinstance(first, list) else [first]
    return [text if isinstance(text, str) else None for text in texts] or [None]
