"""Where heavy steps run: the options, the protocol of who reads and works, and this process doing it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from crowdselect.errors import OptionError
from crowdselect.types import Table

ENGINES = ("local", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Where heavy steps run.

    Raises:
        OptionError: An unknown engine, a number that makes no sense, or an option of Ray's without it.

    Example:
        >>> EngineOptions(engine="ray", workers=4).on_ray
        True
    """

    engine: str = "local"
    """`local`: in this process; `ray`: on actors of a Ray cluster."""
    ray_address: str | None = None
    """The cluster's address, `auto` for the one of this machine; None = start one here and shut it down."""
    workers: int | None = None
    """How many actors; None = one per GPU of the cluster if they use GPUs, else one per CPU."""
    gpus_per_worker: float = 0.0
    """GPUs of each actor; a part of one where several share it."""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise OptionError(f"`engine={self.engine!r}` is unknown; choose one of: {', '.join(ENGINES)}")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"`workers` is {self.workers}; wanted at least 1")
        if not 0 <= self.gpus_per_worker < 1e6 or (self.gpus_per_worker > 1 and self.gpus_per_worker % 1):
            raise OptionError(
                f"`gpus_per_worker` is {self.gpus_per_worker:g}; wanted 0, a part of 1, or a whole number"
            )
        told = (self.ray_address, self.workers, self.gpus_per_worker or None)
        if not self.on_ray and any(value is not None for value in told):
            raise OptionError("`ray_address`, `workers` and `gpus_per_worker` are for `engine=ray`; add it")

    @property
    def on_ray(self) -> bool:
        """Whether Ray is asked for."""
        return self.engine == "ray"


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
