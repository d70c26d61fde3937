"""The tables of all shards, merged into one in id order, and the answers in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import SplitError
from crowdselect.finish import ENDINGS
from crowdselect.numeric.responses import ChosenAnswers, Several
from crowdselect.pool.codes import sorted_once, to_numpy
from crowdselect.selection.lists import several_in
from crowdselect.types import Table


@dataclass(frozen=True, slots=True)
class Merged:
    """The tables of all shards, in id order."""

    table: Table
    facts: list[dict[str, Any]]
    """One per shard: sums over its rows."""
    shard: NDArray[np.int32]
    """Shape (N,): the shard of each row."""

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column as a NumPy array."""
        return to_numpy(self.table[name])

    def named(self, kind: str) -> dict[str, NDArray[Any]]:
        """Return the columns of one kind, "column" or "reward", that were requested by name."""
        prefix = f"{kind} "
        return {
            name.removeprefix(prefix): self.numbers(name)
            for name in self.table.column_names
            if name.startswith(prefix)
        }

    def total(self, name: str) -> int:
        """Add up a fact over the shards."""
        return sum(int(facts[name]) for facts in self.facts)


def merge(found: Sequence[tuple[int, Table]], files: Sequence[object]) -> Merged:
    """Merge the tables of all shards into one in id order.

    Args:
        found: Shard and table, in any order; each table has a column `id`, ascending.
        files: The shards' names, for messages.

    Raises:
        SplitError: An id is in two shards.
    """
    import pyarrow as pa

    tables = [table for _, table in sorted(found, key=lambda each: each[0])]
    facts = [json.loads(table.schema.metadata[b"facts"]) for table in tables]
    shard = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
    whole = pa.concat_tables(
        [table.replace_schema_metadata(None) for table in tables], promote_options="default"
    )

    def twice(id_: str, first: int, second: int) -> SplitError:
        return SplitError(
            f"{files[shard[second]]}: id {id_!r} is in {files[shard[first]]} too; a pool that is read file by file must have "
            "all rows of an instruction in one file; split it by a hash of the id, see docs/scale.md"
        )

    _, order = sorted_once(whole["id"].combine_chunks(), twice)
    if order is not None:
        whole, shard = whole.take(order), shard[order]
    return Merged(whole.combine_chunks(), facts, shard)


def answers_in(merged: Merged) -> ChosenAnswers:
    """Give whose answer each row takes, and what was left out."""
    paired = "rejected" in merged.table.column_names
    sampled = "sample" in merged.table.column_names
    return ChosenAnswers(
        merged.numbers("chosen").astype(np.int64),
        merged.numbers("rejected").astype(np.int64) if paired else None,
        merged.numbers("best_reward"),
        reward=merged.numbers("reward"),
        rejected_reward=merged.numbers("rejected_reward") if paired else None,
        empty=merged.total("empty"),
        sample=merged.numbers("sample") if sampled else None,
        rejected_sample=merged.numbers("rejected_sample")
        if "rejected_sample" in merged.table.column_names
        else None,
        unfinished=merged.numbers("unfinished"),
        text=merged.numbers("text") if "text" in merged.table.column_names else None,
        endings=_endings(merged),
        several=_listed(merged, "several"),
        good=_listed(merged, "good answers"),
    )


def _listed(merged: Merged, name: str) -> Several | None:
    """Some answers of each row, where they were listed."""
    if name not in merged.table.column_names:
        return None
    sampled = "sample" in merged.table.column_names
    return several_in(merged.table[name].combine_chunks(), sampled=sampled)


def _endings(merged: Merged) -> dict[str, int]:
    """Count the answers with text by how they ended, for the endings that occur."""
    kinds = [kind for kind in ENDINGS if any(kind in facts["endings"] for facts in merged.facts)]
    return {kind: sum(facts["endings"].get(kind, 0) for facts in merged.facts) for kind in kinds}
