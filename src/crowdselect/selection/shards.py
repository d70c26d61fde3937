"""A pool as shards: as it is, which is one that stays open; or file by file, read here or by a cluster."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from crowdselect.embed.given import is_parquet
from crowdselect.engine.here import Run, as_it_is, run_here, unchanged
from crowdselect.errors import OptionError
from crowdselect.pool.files import file_type
from crowdselect.pool.pool import Pool
from crowdselect.pool.shards import BLOCK, Places, Texts, models_in, shard_sources, sources_of
from crowdselect.selection.options import Options, wants_vectors
from crowdselect.types import IntArray, ObjectArray, Table

LARGE = 1_000_000
"""Rows from which on a pool of several files is read file by file: a million rows of vectors are 1 GB."""


@dataclass(frozen=True)
class Shards:
    """How a pool is read."""

    pool: Pool
    files: tuple[Path, ...] = ()
    """Its files, read one by one; none = the pool as it is."""
    run: Run = run_here
    """Who reads them."""

    @property
    def whole(self) -> bool:
        """Whether the pool is read as it is."""
        return not self.files

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The models of all shards, in code-point order."""
        if self.whole or self.pool.wide:
            return self.pool.models
        found = self.over(models_in, layout=self.pool.layout)
        return tuple(
            sorted({name for table in found for some in table["models"].to_pylist() for name in some})
        )

    @cached_property
    def texts(self) -> ObjectArray:
        """The instructions of a pool that is read as it is, shape (N,); None = no text."""
        return self.pool.instructions()

    def over(self, function: Callable[..., Table], **arguments: Any) -> Iterator[Table]:  # noqa: ANN401
        """Have a function of `sources` called with every shard's file."""
        return self.run(sources_of(self.files), as_it_is, function, arguments, batch=1)

    def asked(self, function: Callable[..., Table], sources: list[dict[str, Any]]) -> Iterator[Table]:
        """Have a function called with sources of its own, one by one."""
        return self.run(sources, as_it_is, function, {"layout": self.pool.layout}, batch=1)

    def texts_of(self, rows: IntArray, places: Places) -> Iterator[tuple[IntArray, list[str]]]:
        """Read the texts of some rows (ascending), a block at a time: which rows, and their texts."""
        if self.whole:
            yield rows, self.texts[rows].tolist()
            return
        sources = shard_sources(self.files, places, rows)
        for table in self.run(sources, Texts(self.pool.layout), unchanged, {}, batch=BLOCK):
            yield places.rows(table["shard"].to_numpy(), table["row"].to_numpy()), table["text"].to_pylist()


def shards_of(
    pool: Pool, *, run: Run | None = None, options: Options | None = None, method_needs: str | None = None
) -> Shards:
    """Decide whether a pool is read as it is or file by file.

    Args:
        pool: The pool, opened as usual.
        run: Who is to read its files one by one; None = this process, and only where the pool is large.
        options: Of the choice, if there is to be one.
        method_needs: Why its method needs the pool as a whole; None where it does not.

    Raises:
        OptionError: `run` is given, and the pool or the options need the pool as a whole.
    """
    if run is None and (len(pool.files) == 1 or pool.row_count <= LARGE):
        return Shards(pool)
    why_not = _needs_the_whole(pool, options) or method_needs
    if why_not is not None and run is not None:
        raise OptionError(f"{pool.path}: cannot be read file by file: {why_not}")
    if why_not is not None or (run is None and len(pool.filled) == 1):
        return Shards(pool)
    return Shards(pool, pool.filled, run or run_here)


def _needs_the_whole(pool: Pool, options: Options | None) -> str | None:
    """Say why a pool cannot be read file by file; None where it can."""
    if any(file_type(file) != "parquet" for file in pool.files):
        return "only Parquet files are; write the pool, and its second file of rewards, as Parquet"
    odd = pool.odd_file
    if odd is not None:
        return f"{odd}; write its files with the same columns"
    if options is None:
        return None
    if (
        wants_vectors(options)
        and options.embedder.startswith("file:")
        and not is_parquet(options.embedder[5:])
    ):
        return f"--embedder {options.embedder} is no Parquet file (id, vector)"
    if options.ensemble is not None:
        return "an ensemble ranks the answers of the whole pool; make one reward of them first"
    return None
