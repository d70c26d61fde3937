"""The table of metrics, and tables written as Parquet, CSV or JSONL."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.errors import OutputError
from crowdselect.selection.rows import Rows
from crowdselect.types import FloatArray, Table
from crowdselect.writing import new_file

ENDINGS = (".parquet", ".csv", ".jsonl")


def metrics_table(rows: Rows) -> Table:
    """Lay out the metrics of every instruction.

    Args:
        rows: From `crowdselect.selection.look.look_at`, without options.

    Returns:
        A table in id order with `id`, `n_rewards`, `mean_reward`, `best_model`, `best_reward` (the highest
        reward, whether the answer has text or not; among equal ones a seeded hash decides) and the metrics;
        null where undefined.
    """
    import pyarrow as pa

    found = rows.answers

    def number(values: FloatArray) -> Any:  # noqa: ANN401  (an Arrow array)
        return pa.array(values, mask=np.isnan(values))

    best = pa.array(rows.crowd.names, pa.string()).take(pa.array(found.chosen, mask=found.chosen < 0))
    return pa.table(
        {
            "id": pa.array(rows.ids, pa.string()),
            "n_rewards": pa.array(rows.n_rewards),
            "mean_reward": number(-rows.metrics["difficulty"]),
            "best_model": best,
            "best_reward": number(found.best_reward),
            **{name: number(values) for name, values in rows.metrics.items()},
        }
    )


def check_ending(path: str | os.PathLike[str]) -> None:
    """Refuse an ending that names no form of table, before any work is done.

    Args:
        path: Ends in `.parquet`, `.csv` or `.jsonl`.

    Raises:
        OutputError: Another ending.

    Example:
        >>> check_ending("metrics.parquet")
    """
    ending = Path(path).suffix
    if ending not in ENDINGS:
        raise OutputError(
            f"{path}: cannot write {ending or 'a file without an ending'}; use {', '.join(ENDINGS)}"
        )


def write_table(table: Any, path: Path) -> None:  # noqa: ANN401  (a pyarrow table)
    """Write a table in the form that the file's ending names, whole or not at all.

    Args:
        table: A pyarrow table.
        path: Ends in `.parquet`, `.csv` or `.jsonl`.

    Raises:
        OutputError: Another ending.
    """
    check_ending(path)
    with new_file(path) as partial:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, partial, compression="zstd")
        elif path.suffix == ".csv":
            from pyarrow import csv

            csv.write_csv(table, partial)
        else:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                for batch in table.to_batches(max_chunksize=10_000):
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
