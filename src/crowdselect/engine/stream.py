"""Sources to tasks that read to actors that compute, by Ray Data: what goes over is batches, what comes back is counts."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crowdselect.engine.options import EngineOptions
from crowdselect.engine.session import cluster, own_error, workers_of

# Less than a whole CPU each: with as many actors as CPUs, the tasks that read for them must find room too, or
# Ray Data waits for ever.
_WORKER_CPUS = 0.75
_READER_CPUS = 0.1

Table = Any
"""An Arrow table; pyarrow ships no types."""
Read = Callable[[Table], Iterator[Table]]
"""From one row of sources to batches."""


def streamed(
    sources: Sequence[dict[str, Any]],
    read: Read,
    worker: type,
    arguments: dict[str, Any],
    *,
    batch: int,
    options: EngineOptions,
) -> Iterator[Table]:
    """Read sources, and have actors work on what is read.

    Args:
        sources: Plain values, a task each.
        read: Given a table of one source, yields tables; must be picklable. It may run again after a crash.
        worker: A class whose instances are called with a table and return one; made once per actor.
        arguments: Of its constructor.
        batch: Rows that a worker is given at a time.
        options: How many workers, and what they run on.

    Yields:
        What the workers return, in the order in which they do.

    Raises:
        CrowdselectError: The first that a task or a worker ended with.
    """
    if not sources:
        return
    with cluster(options) as ray:
        count = workers_of(ray, options)
        made = ray.data.from_items(list(sources), override_num_blocks=len(sources))
        read_in = made.map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=_READER_CPUS)
        done = read_in.map_batches(
            worker,
            batch_size=batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=_WORKER_CPUS,
            num_gpus=options.gpus_per_worker or None,
            fn_constructor_kwargs=arguments,
        )
        try:
            yield from done.iter_batches(batch_size=None, batch_format="pyarrow")
        except Exception as error:
            ours = own_error(error)
            if ours is None:
                raise
            raise ours from None


def mapped(sources: Sequence[dict[str, Any]], work: Read, *, options: EngineOptions) -> Iterator[Table]:
    """Turn each source into tables in a task of its own; in the order in which they are ready."""
    if not sources:
        return
    with cluster(options) as ray:
        made = ray.data.from_items(list(sources), override_num_blocks=len(sources))
        done = made.map_batches(
            work,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            concurrency=options.workers,
        )
        try:
            yield from done.iter_batches(batch_size=None, batch_format="pyarrow")
        except Exception as error:
            ours = own_error(error)
            if ours is None:
                raise
            raise ours from None


def here() -> str:
    """The folder that a worker is to find the user's modules in."""
    return str(Path.cwd())
