"""What was found in the shards of a pool, put together in id order: one row per instruction, as arrays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import SplitError
from crowdselect.pool.index import to_numpy
from crowdselect.types import IntArray, Table


@dataclass(frozen=True, slots=True)
class Merged:
    """All shards together; row i is instruction i in id order."""

    table: Table
    facts: list[dict[str, Any]]
    """Of each shard."""
    shard: NDArray[np.int32]
    """Shape (N,): the shard of each row."""
    row: IntArray
    """Shape (N,): its place there."""

    def numbers(self, name: str) -> NDArray[Any]:
        """Give a column as NumPy has it."""
        return to_numpy(self.table[name])

    def total(self, name: str) -> int:
        """Add up a fact over the shards."""
        return sum(int(facts[name]) for facts in self.facts)


def merge(found: Sequence[tuple[int, Table]], files: Sequence[Any]) -> Merged:
    """Put the tables of all shards in id order.

    Args:
        found: Shard and table, in any order; each table has a column `id`, ascending.
        files: The shards' names, for messages.

    Raises:
        SplitError: An id is in two shards.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = [table for _, table in sorted(found, key=lambda one: one[0])]
    facts = [json.loads(table.schema.metadata[b"facts"]) for table in tables]
    counts = [len(table) for table in tables]
    shard = np.repeat(np.arange(len(tables), dtype=np.int32), counts)
    row = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    ids = whole["id"].combine_chunks()
    if not pc.all(pc.less(ids[:-1], ids[1:])).as_py():
        order = to_numpy(pc.sort_indices(ids)).astype(np.int64)
        whole, shard, row = whole.take(order), shard[order], row[order]
        ids = whole["id"].combine_chunks()
        same = to_numpy(pc.equal(ids[1:], ids[:-1]))
        if same.any():
            at = int(np.argmax(same))
            one, other = sorted(int(each) for each in shard[at : at + 2])
            raise SplitError(
                f"{files[other]}: id {ids[at].as_py()!r} is in {files[one]} too; a pool that is read file by file has all "
                "rows of an instruction in one file; cut it anew by a hash of the id, see docs/scale.md"
            )
    return Merged(whole.combine_chunks(), facts, shard, row)


def same_texts(digests: Any) -> IntArray:  # noqa: ANN401  (an Arrow column of 16 bytes each)
    """Group rows by the digest of their text, as `duplicate_groups` does by the text itself.

    Args:
        digests: N of them; null = no text.

    Returns:
        Shape (N,): rows that say the same share a number, the first row's.

    Example:
        >>> import pyarrow as pa
        >>> same_texts(pa.chunked_array([pa.array([b"a" * 16, None, b"a" * 16], pa.binary(16))])).tolist()
        [0, 1, 0]
    """
    groups = np.arange(len(digests), dtype=np.int64)
    there = np.flatnonzero(to_numpy(digests.is_valid()))
    if not there.size:
        return groups
    values = digests.drop_null().combine_chunks()
    words = np.frombuffer(values.buffers()[1], dtype=np.uint64).reshape(-1, 2)
    words = words[values.offset : values.offset + len(values)]
    order = np.lexsort((words[:, 1], words[:, 0]))
    high, low = words[order, 0], words[order, 1]
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    firsts = order[np.flatnonzero(begins)]  # lexsort is stable: the first of a group is its smallest row
    groups[there[order]] = there[firsts[np.cumsum(begins) - 1]]
    return groups
