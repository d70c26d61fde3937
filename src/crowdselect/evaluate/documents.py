"""What lm-evaluation-harness logged of one model, scored document by document."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.errors import InputError
from crowdselect.evaluate.scores import Cells
from crowdselect.pool.lmeval import Document, Log, documents_in, logs_in
from crowdselect.pool.rowfiles import Broken

_NO_METRIC = "its metric is of all documents together"


@dataclass(frozen=True, slots=True)
class Task:
    """How a task was asked and scored.

    Attributes:
        scored_by: Its first metric that single documents have, and its filters where it has several; None = it has no such
            metric.
        asked: What the harness was told: few-shot examples, version, sampling, chat template, ...
    """

    scored_by: str | None
    asked: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """What one model did.

    Attributes:
        model: As the harness calls it.
        cells: By document, its task as category; a column for each filter, which weigh one together. Higher is better:
            metrics of which lower is better are negative.
        parts: The same by task, and by filter where a task has several.
        tasks: Task → how it was asked and scored.
        reasons: Why documents have no number, and how many.
    """

    model: str
    cells: Cells
    parts: Mapping[str, Cells]
    tasks: Mapping[str, Task]
    reasons: Counter[str]

    def tasks_as_dict(self) -> dict[str, Any]:
        """Write the tasks as plain values."""
        return {name: asdict(task) for name, task in self.tasks.items()}


def read_documents(place: Path) -> Documents | None:
    """Read a results folder of lm-evaluation-harness.

    Args:
        place: A folder with `samples_TASK_DATE.jsonl`, also in folders below; of several dates of a task the newest counts.

    Returns:
        The documents; None if there is no log.

    Raises:
        InputError: It holds several models, or a log cannot be read.
    """
    logs = logs_in(place)
    if not logs:
        return None
    by_model = {log.model: log for log in logs}
    if len(by_model) > 1:
        raise InputError(
            f"{place}: holds results of several models: {', '.join(by_model)}; name the folder of one, as "
            f"{logs[0].file.parent}"
        )
    scored = {log.task: _scores(log) for log in logs}
    width = max(len(filters) for _, filters, _ in scored.values())
    rows = sorted(
        (
            (f"{task}:{key}", task, values)
            for task, (_, _, found) in scored.items()
            for key, values in found.items()
        ),
    )
    sums, weights = np.zeros((len(rows), width)), np.zeros((len(rows), width))
    for at, (_, _, values) in enumerate(rows):
        known = np.isfinite(values)
        weights[at, : len(values)] = known / len(values)
        sums[at, : len(values)] = np.where(known, values, 0.0) / len(values)
    cells = Cells(tuple(id_ for id_, _, _ in rows), tuple(task for _, task, _ in rows), sums, weights)
    without = int((weights.sum(axis=1) == 0).sum())
    return Documents(
        logs[0].model,
        cells,
        {
            name: part
            for task, (_, filters, _) in scored.items()
            for name, part in _parts(cells, task, filters)
        },
        {log.task: Task(scored[log.task][0], log.asked) for log in logs},
        Counter({_NO_METRIC: without} if without else {}),
    )


def _parts(cells: Cells, task: str, filters: list[str]) -> list[tuple[str, Cells]]:
    """Give the cells of a task; where it has several filters, of each of them."""
    own = cells.only(np.array([category == task for category in cells.categories]))
    if len(filters) == 1:
        return [(task, own)]
    return [
        (f"{task} ({name})", Cells(own.ids, own.categories, own.sums[:, [at]], own.weights[:, [at]]))
        for at, name in enumerate(filters)
    ]


def _scores(log: Log) -> tuple[str | None, list[str], dict[str, list[float]]]:
    """Give a task's metric in words, its filters, and by document the number through each filter; NaN = none."""
    documents: dict[tuple[str, str], Document] = {}
    for line, one in documents_in(log):
        if isinstance(one, Broken):
            raise InputError(f"{log.file}: line {line}: {one.what}; copy the file again")
        if (one.key, one.filter) in documents:
            raise InputError(
                f"{log.file}: line {line}: the document {one.key} comes a second time; copy the file again"
            )
        documents[one.key, one.filter] = one
    filters = sorted({name for _, name in documents})
    metrics = dict.fromkeys(name for one in documents.values() for name in one.metrics)
    first = next(
        (name for name in metrics if any(one.metrics.get(name) is not None for one in documents.values())),
        None,
    )
    found: dict[str, list[float]] = {}
    for (key, chosen), one in documents.items():
        value = None if first is None else one.metrics.get(first)
        found.setdefault(key, [np.nan] * len(filters))[filters.index(chosen)] = (
            np.nan if value is None else value
        )
    through = f" through {', '.join(filters)}" if len(filters) > 1 else ""
    return None if first is None else f"{first}{through}", filters, found
