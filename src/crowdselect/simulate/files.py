"""Simulated blocks as tables of each layout, and tables as files.

pyarrow's arrays and tables are typed `Any` here: pyarrow ships no types.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.errors import OptionError, OutputError
from crowdselect.simulate.draws import Block, Plan
from crowdselect.simulate.text import answers_text, instructions_text
from crowdselect.simulate.words import TOPICS
from crowdselect.types import FloatArray

REWARD = "simulated_reward"
"""The name of the reward column, or of the field beside `content`."""

ID_DIGITS = 9
Write = Callable[[Any], None]
Sink = Callable[[Path], AbstractContextManager[Write]]


def sink_for(target: Path, *, layout: str, shards: int, overwrite: bool) -> Sink:
    """Check the place to write to, and choose how by the ending of its name.

    Args:
        target: A file, or with several shards a folder.
        layout: A CSV file has no structs and so no `"zoo"`.
        shards: More than one go into a folder that is new or empty.
        overwrite: Whether a file (never a folder) that is there may be replaced.

    Returns:
        A context manager for a path, which gives a function that appends a table.

    Raises:
        OptionError: No file type has this ending, or it cannot hold the layout.
        OutputError: The place is taken.
    """
    if shards > 1:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"{str(target)!r} is there already; shards go into a new or empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        return _parquet
    sink = _SINKS.get(target.suffix.lower())
    if sink is None or (layout == "zoo" and sink is _csv):
        raise OptionError(
            f"{str(target)!r}: layout {layout!r} is written as .parquet, .jsonl or, if not 'zoo', .csv"
        )
    if target.is_dir() or (target.exists() and not overwrite):
        raise OutputError(
            f"{str(target)!r} is there already; choose another name or ask to overwrite the file"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    return sink


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow.parquet as pq

    writer = None

    def write(table: Any) -> None:  # noqa: ANN401  (a pyarrow table)
        nonlocal writer
        if writer is None:
            # Answers and rewards hardly repeat: a dictionary would be built and thrown away.
            few = [name for name in ("topic", "model", "id", "instruction") if name in table.column_names]
            schema = table.schema.with_metadata({"simulated": "true"})
            writer = pq.ParquetWriter(path, schema, use_dictionary=few)
        writer.write_table(table.replace_schema_metadata({"simulated": "true"}))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield lambda table: file.writelines(
            json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in table.to_pylist()
        )


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    from pyarrow import csv

    with path.open("wb") as file:

        def write(table: Any) -> None:  # noqa: ANN401  (a pyarrow table)
            csv.write_csv(table, file, csv.WriteOptions(include_header=file.tell() == 0))

        yield write


_SINKS: dict[str, Sink] = {
    ".parquet": _parquet,
    ".jsonl": _jsonl,
    ".csv": _csv,
}


def _rewards(values: FloatArray) -> Any:  # noqa: ANN401  (a pyarrow array)
    import pyarrow as pa

    return pa.array(values, from_pandas=True)  # NaN becomes null


def _head(block: Block, *, key: str, with_text: bool) -> dict[str, Any]:
    import pyarrow as pa

    columns = {key: _ids(block)}
    if with_text:
        columns["instruction"] = instructions_text(block)
    columns["topic"] = pa.array(TOPICS, pa.string()).take(pa.array(block.latent["topic"]))
    return columns


def _marked(columns: dict[str, Any]) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    rows = len(next(iter(columns.values())))
    return pa.table({**columns, "simulated": pa.array(np.ones(rows, dtype=np.bool_))})


def _matrix(plan: Plan, block: Block) -> Any:  # noqa: ANN401  (a pyarrow table)
    columns = _head(block, key="id", with_text=plan.with_text)
    by_model = np.ascontiguousarray(block.rewards[:, :, 0].T)
    return _marked({**columns, **dict(zip(plan.crowd.names, map(_rewards, by_model), strict=True))})


def _zoo(plan: Plan, block: Block) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    columns = _head(block, key="uuid", with_text=plan.with_text)
    for model, name in enumerate(plan.crowd.names):
        leaves = [answers_text(plan, block, model, 0), _rewards(block.rewards[:, model, 0])]
        columns[name] = pa.StructArray.from_arrays(leaves, names=["content", REWARD])
    return _marked(columns)


def _long(plan: Plan, block: Block) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    n, m, s = block.rewards.shape
    row, model, sample = (axis.ravel() for axis in np.indices((n, m, s)))
    columns = {
        name: values.take(pa.array(row))
        for name, values in _head(block, key="id", with_text=plan.with_text).items()
    }
    columns["model"] = pa.array(plan.crowd.names, pa.string()).take(pa.array(model))
    if s > 1:
        columns["sample"] = pa.array(sample)
    if plan.with_text:
        answers = pa.concat_arrays([answers_text(plan, block, a, b) for a in range(m) for b in range(s)])
        columns["response"] = answers.take(pa.array((model * s + sample) * n + row))
    columns[REWARD] = _rewards(block.rewards.ravel())
    return _marked(columns)


LAYOUTS: dict[str, Callable[[Plan, Block], Any]] = {"long": _long, "zoo": _zoo, "matrix": _matrix}


def _ids(block: Block) -> Any:  # noqa: ANN401  (a pyarrow array; pyarrow has no types)
    import pyarrow as pa

    rows = np.arange(block.start, block.start + len(block.rewards))
    text = np.empty((len(rows), 4 + ID_DIGITS), dtype=np.uint8)
    text[:, :4] = np.frombuffer(b"sim-", dtype=np.uint8)
    text[:, 4:] = rows[:, None] // 10 ** np.arange(ID_DIGITS - 1, -1, -1) % 10 + ord("0")
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * text.shape[1]
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(text))
