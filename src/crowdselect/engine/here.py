"""Sources read and worked on in this process; the protocol of whoever else does it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from crowdselect.types import Table

Read = Callable[[Table], Iterator[Table]]
"""Given one row about a source, yields tables."""


class Run(Protocol):
    """Has sources read and worked on, by whom and in which order is its own business."""

    def __call__(
        self,
        sources: Sequence[dict[str, Any]],
        read: Read,
        worker: type,
        arguments: dict[str, Any],
        *,
        batch: int,
    ) -> Iterator[Table]:
        """Give each source to `read`, and what that yields to instances of `worker`; yield what these return."""
        ...


def run_here(
    sources: Sequence[dict[str, Any]],
    read: Read,
    worker: Callable[..., Callable[[Table], Table]],
    arguments: dict[str, Any],
    *,
    batch: int,  # noqa: ARG001  (tables are worked on as they are read)
) -> Iterator[Table]:
    """Do what `Run` does in this process, one source after the other."""
    import pyarrow as pa

    made = worker(**arguments)
    for source in sources:
        for table in read(pa.Table.from_pylist([source])):
            yield made(table)


def as_it_is(sources: Table) -> Iterator[Table]:
    """A `Read` for workers that open the files themselves."""
    yield sources


class Unchanged:
    """A worker that gives back what was read."""

    def __call__(self, table: Table) -> Table:
        """Give it."""
        return table
