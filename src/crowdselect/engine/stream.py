"""Sources to tasks that read to actors that compute, by Ray Data: what goes over is batches, what comes back is counts."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from crowdselect.engine.here import Read, Run, Worker
from crowdselect.engine.options import EngineOptions
from crowdselect.engine.session import cluster, own_error, workers_of
from crowdselect.types import Table

# Less than a whole CPU each: with as many actors as CPUs, the tasks that read for them must find room too, or
# Ray Data waits for ever.
_WORKER_CPUS = 0.75
_READER_CPUS = 0.1


def streamed(
    sources: Sequence[dict[str, Any]],
    read: Read,
    worker: Worker,
    arguments: dict[str, Any],
    *,
    batch: int,
    options: EngineOptions,
) -> Iterator[Table]:
    """Read sources, and have actors work on what is read.

    Args:
        sources: Plain values, a task each.
        read: Given a table of one source, yields tables; must be picklable. It may run again after a crash.
        worker: Is called with tables and returns one each; a class is made once per actor.
        arguments: Of the function, or of the class's constructor.
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
        if batch == 1:  # rows are sources: more workers than those would have nothing to do
            count = min(count, len(sources))
        made = ray.data.from_items(list(sources), override_num_blocks=len(sources))
        read_in = made.map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=_READER_CPUS)
        held = isinstance(worker, type)
        done = read_in.map_batches(
            worker if held else _Applied,
            batch_size=batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=_WORKER_CPUS,
            num_gpus=options.gpus_per_worker or None,
            fn_constructor_kwargs=arguments if held else {"function": worker, "arguments": arguments},
        )
        try:
            yield from done.iter_batches(batch_size=None, batch_format="pyarrow")
        except (
            Exception
        ) as error:  # Ray wraps whatever a worker raised; only our own errors are unwrapped, all else goes on
            ours = own_error(error)
            if ours is None:
                raise
            raise ours from None


class _Applied:
    """A function as an actor: with actors Ray Data bounds how much is under way."""

    def __init__(self, function: Worker, arguments: dict[str, Any]) -> None:
        self._function = partial(function, **arguments)

    def __call__(self, table: Table) -> Table:
        return self._function(table)


@contextmanager
def on_cluster(options: EngineOptions) -> Iterator[Run | None]:
    """Give what has a pool's files read by a Ray cluster, for as long as the block runs; None with the local engine.

    The cluster is started or found when the first file is to be read: what is wrong with the options is said before.
    """
    if not options.on_ray:
        yield None
        return
    with ExitStack() as stack:
        known: list[Any] = []

        def run(
            sources: Sequence[dict[str, Any]],
            read: Read,
            worker: Worker,
            arguments: dict[str, Any],
            *,
            batch: int,
        ) -> Iterator[Table]:
            if not known:
                known.append(stack.enter_context(cluster(options)))
            return streamed(sources, read, worker, arguments, batch=batch, options=options)

        yield run


def here() -> str:
    """The folder that a worker is to find the user's modules in."""
    return str(Path.cwd())
