"""Where heavy steps run: the options, the protocol of an engine, and the engine in this process."""

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
        OptionError: The engine is unknown, a number is invalid, or an option of Ray is set without it.

    Example:
        >>> EngineOptions(engine="ray", workers=4).on_ray
        True
    """

    engine: str = "local"
    """`local`: in this process; `ray`: on actors of a Ray cluster."""
    ray_address: str | None = None
    """The cluster's address, `auto` for the one on this machine; None = start one here and shut it down."""
    workers: int | None = None
    """Number of actors; None = one per GPU of the cluster if they use GPUs, else one per CPU."""
    gpus_per_worker: float = 0.0
    """GPUs per actor; a fraction if several share one."""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise OptionError(f"`engine={self.engine!r}` is unknown; choose one of: {', '.join(ENGINES)}")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"`workers` is {self.workers}; wanted at least 1")
        if not 0 <= self.gpus_per_worker < 1e6 or (self.gpus_per_worker > 1 and self.gpus_per_worker % 1):
            raise OptionError(
                f"`gpus_per_worker` is {self.gpus_per_worker:g}; wanted 0, a part of 1, or a whole number"
            )
        ray_options = (self.ray_address, self.workers, self.gpus_per_worker or None)
        if not self.on_ray and any(value is not None for value in ray_options):
            raise OptionError("`ray_address`, `workers` and `gpus_per_worker` are for `engine=ray`; add it")

    @property
    def on_ray(self) -> bool:
        """Whether to use Ray."""
        return self.engine == "ray"


Read = Callable[[Table], Iterator[Table]]
"""Takes a table of one source, yields tables."""


Worker = Callable[..., Any]
"""A function of a table and further arguments; or, if it holds a model, a class that is constructed once with these
arguments and whose instances are called with tables."""


class Run(Protocol):
    """An engine: reads sources and runs a worker on them, in any order."""

    def __call__(
        self,
        sources: Sequence[dict[str, Any]],
        read: Read,
        worker: Worker,
        arguments: dict[str, Any],
        *,
        batch: int,
    ) -> Iterator[Table]:
        """Pass each source to `read`, and the tables it yields to `worker` with its arguments; yield the results."""
        ...


def run_here(
    sources: Sequence[dict[str, Any]],
    read: Read,
    worker: Worker,
    arguments: dict[str, Any],
    *,
    batch: int,  # noqa: ARG001  (tables are processed as they are read)
) -> Iterator[Table]:
    """Implement `Run` in this process, one source after the other."""
    import pyarrow as pa

    process = worker(**arguments) if isinstance(worker, type) else partial(worker, **arguments)
    for source in sources:
        for table in read(pa.Table.from_pylist([source])):
            yield process(table)


def as_it_is(sources: Table) -> Iterator[Table]:
    """Yield the sources unchanged: a `Read` for workers that open the files themselves."""
    yield sources


def unchanged(table: Table) -> Table:
    """Return the table unchanged: a `Worker`."""
    return table
