"""Sources read and worked on in this process; the protocol of whoever else does it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from crowdselect.types import Table

Read = Callable[[Table], Iterator[Table]]
"""Given one row about a source, yields tables."""


Worker = Callable[..., Any]
"""A function of a table and of further arguments; or, where a model is held, a class that is made once with these
arguments and whose instances are called with tables."""


class Run(Protocol):
    """Has sources read and worked on, by whom and in which order is its own business."""

    def __call__(
        self,
        sources: Sequence[dict[str, Any]],
        read: Read,
        worker: Worker,
        arguments: dict[str, Any],
        *,
        batch: int,
    ) -> Iterator[Table]:
        """Give each source to `read`, and what that yields to `worker` with its arguments; yield what it returns."""
        ...


def run_here(
    sources: Sequence[dict[str, Any]],
    read: Read,
    worker: Worker,
    arguments: dict[str, Any],
    *,
    batch: int,  # noqa: ARG001  (tables are worked on as they are read)
) -> Iterator[Table]:
    """Do what `Run` does in this process, one source after the other."""
    import pyarrow as pa

    made = worker(**arguments) if isinstance(worker, type) else partial(worker, **arguments)
    for source in sources:
        for table in read(pa.Table.from_pylist([source])):
            yield made(table)


def as_it_is(sources: Table) -> Iterator[Table]:
    """A `Read` for workers that open the files themselves."""
    yield sources


def unchanged(table: Table) -> Table:
    """A `Worker` that gives back what was read."""
    return table
