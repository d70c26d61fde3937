"""The table of metrics, and tables written as Parquet, CSV or JSONL."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.errors import OutputError
from crowdselect.numeric.responses import find_answers
from crowdselect.pool.pool import Pool
from crowdselect.seeding import content_hash
from crowdselect.selection.rows import Measured
from crowdselect.writing import new_file

ENDINGS = (".parquet", ".csv", ".jsonl")


def metrics_table(pool: Pool, measured: Measured, *, models: Sequence[str] | None = None) -> Any:  # noqa: ANN401  (a pyarrow table; pyarrow ships no types)
    """Lay out the metrics of every instruction.

    Args:
        pool: The pool.
        measured: From `crowdselect.selection.rows.measure`.
        models: Names of the score matrix's columns; None = the pool's.

    Returns:
        A table in id order with `id`, `n_rewards`, `mean_reward`, `best_model`, `best_reward` (the highest
        reward, whether the answer has text or not; among equal ones a seeded hash decides) and the metrics;
        null where undefined.
    """
    import pyarrow as pa

    rewarded, names = ~np.isnan(measured.scores), tuple(pool.models if models is None else models)
    found = find_answers(
        measured.scores,
        usable=rewarded,
        hashes=content_hash(pool.ids),
        models=names,
        answer="best",
        pairs=False,
        seed=0,
    )

    def number(values: Any) -> Any:  # noqa: ANN401
        return pa.array(values, mask=np.isnan(values))

    return pa.table(
        {
            "id": pa.array(pool.ids, pa.string()),
            "n_rewards": pa.array(measured.n_rewards),
            "mean_reward": number(-measured.metrics["difficulty"]),
            "best_model": pa.array(names, pa.string()).take(pa.array(found.chosen, mask=found.chosen < 0)),
            "best_reward": number(found.best_reward),
            **{name: number(values) for name, values in measured.metrics.items()},
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
