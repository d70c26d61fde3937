"""A Ray cluster for one command, connected to or started here, and Ray Data on it.

Tasks read the sources, and actors compute: batches go to the actors, and counts come back.
"""

import logging
import os
import re
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from crowdselect import errors
from crowdselect._optional import optional
from crowdselect.engine.here import EngineOptions, Read, Run, Worker
from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.stops import kept_handlers
from crowdselect.types import Table

_PATIENCE = 10.0  # seconds for a cluster's head to answer
_BLOCK = 4 << 20  # bytes: small blocks, so that every actor gets some soon
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # send no usage statistics
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep the user's CUDA_VISIBLE_DEVICES as it is
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # hide Ray's own log; failures are raised
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}

# Less than a whole CPU each: with as many actors as CPUs, the tasks that read for them must find room too, or
# Ray Data waits for ever.
_WORKER_CPUS = 0.75
_READER_CPUS = 0.1
_NAMED = re.compile(r"crowdselect\.errors\.(\w+): (.+)")


@contextmanager
def cluster(options: EngineOptions) -> Iterator[Any]:
    """Connect to a Ray cluster, or start one; Ray's environment variables are respected.

    Args:
        options: Only `ray_address` is used.

    Yields:
        The module `ray`.

    Raises:
        MissingExtraError: Ray is not installed.
        OptionError: There is no cluster at that address.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    ray = optional("ray", extra="ray")
    data = optional("ray.data", extra="ray")
    started = not ray.is_initialized()
    if started:
        _start(ray, options)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True  # a worker's exception is raised unchanged
    context.target_max_block_size = _BLOCK
    with warnings.catch_warnings():
        # A pool of few files keeps few actors busy: the user cannot change that.
        warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
        try:
            yield ray
        finally:
            if started:
                ray.shutdown()


def workers_of(ray: Any, options: EngineOptions) -> int:  # noqa: ANN401  (the module)
    """Return the number of actors.

    Raises:
        OptionError: The actors need more GPUs than the cluster has.
    """
    has = ray.cluster_resources()
    gpus = options.gpus_per_worker
    most = int(has.get("GPU", 0) / gpus) if gpus else max(int(has.get("CPU", 1)), 1)
    if most < 1:
        raise OptionError(
            f"`gpus_per_worker` is {gpus:g}, but the Ray cluster has {has.get('GPU', 0):g} GPUs in all; leave it out to use CPUs"
        )
    if gpus and options.workers is not None and options.workers > most:
        raise OptionError(
            f"`workers={options.workers}` of {gpus:g} GPUs each are more than the {has['GPU']:g} GPUs of the Ray cluster"
        )
    return options.workers or most


def own_error(error: BaseException) -> CrowdselectError | None:
    """Return the crowdselect error that ended a task or an actor, which Ray wraps in tracebacks; None if there is none.

    Example:
        >>> own_error(RuntimeError("Traceback ..." + chr(10) + "crowdselect.errors.InputError: a.csv: no rows" + chr(10)))
        InputError('a.csv: no rows')
    """
    found = _NAMED.findall(str(error))
    kind = getattr(errors, found[-1][0], None) if found else None
    return kind(found[-1][1]) if kind is not None else None


def _start(ray: Any, options: EngineOptions) -> None:  # noqa: ANN401  (the module)
    address = options.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        host, colon, port = _found(address).rpartition(":")
        if colon and port.isdigit() and "/" not in host:  # Ray itself may try forever
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
        with _silenced(), kept_handlers(signal.SIGTERM):  # Ray's handler would end the process silently
            ray.init(address=address, logging_level="error", log_to_driver=False, **local)
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:300]
        hint = "start one with `ray start --head`, give its HOST:PORT, or leave `ray_address` out to start one for the command"
        if "RAY_AUTH_MODE" not in os.environ and not isinstance(error, OSError):
            hint += "; if it wants a token, set RAY_AUTH_MODE=token"
        raise OptionError(f"`ray_address={address}`: no Ray cluster there: {reason}; {hint}") from error


def _found(address: str) -> str:
    """Return the address that Ray resolves `auto` to; it may be that of a cluster that no longer exists.

    Raises:
        ConnectionError: There is none.
    """
    if address != "auto":
        return address
    with suppress(ImportError):  # a private module of Ray; without it, pass `auto` on
        services = import_module("ray._private.services")
        return str(
            getattr(services, "get_ray_address_from_environment", lambda given, _: given)(address, None)
        )
    return address


@contextmanager
def _silenced() -> Iterator[None]:
    """Discard what Ray's C++ part writes to standard error at start; failures are raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def streamed(
    sources: Sequence[dict[str, Any]],
    read: Read,
    worker: Worker,
    arguments: dict[str, Any],
    *,
    batch: int,
    options: EngineOptions,
) -> Iterator[Table]:
    """Read sources in tasks, and process the tables in actors.

    Args:
        sources: Plain values, one task each.
        read: Takes a table of one source, yields tables; must be picklable. It may run again after a crash.
        worker: Takes a table, returns one; a class is constructed once per actor.
        arguments: Arguments of the function, or of the class's constructor.
        batch: Rows per call of a worker.
        options: The number of workers and their resources.

    Yields:
        The workers' results, in order of completion.

    Raises:
        CrowdselectError: The first error of a task or a worker.
    """
    if not sources:
        return
    with cluster(options) as ray:
        count = workers_of(ray, options)
        if batch == 1:  # rows are sources: further workers would be idle
            count = min(count, len(sources))
        sources_data = ray.data.from_items(list(sources), override_num_blocks=len(sources))
        read_in = sources_data.map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=_READER_CPUS)
        is_class = isinstance(worker, type)
        done = read_in.map_batches(
            worker if is_class else _Applied,
            batch_size=batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=_WORKER_CPUS,
            num_gpus=options.gpus_per_worker or None,
            fn_constructor_kwargs=arguments if is_class else {"function": worker, "arguments": arguments},
        )
        try:
            yield from done.iter_batches(batch_size=None, batch_format="pyarrow")
        except (
            Exception
        ) as error:  # Ray wraps what a worker raised; unwrap our own errors, re-raise all others
            ours = own_error(error)
            if ours is None:
                raise
            raise ours from None


class _Applied:
    """A function as an actor: with actors Ray Data limits the batches in progress."""

    def __init__(self, function: Worker, arguments: dict[str, Any]) -> None:
        self._function = partial(function, **arguments)

    def __call__(self, table: Table) -> Table:
        return self._function(table)


@contextmanager
def on_cluster(options: EngineOptions) -> Iterator[Run | None]:
    """Yield an engine on a Ray cluster, valid inside the block; None with the local engine.

    The cluster is connected to or started before the first file is read, so that invalid options are reported first.
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
    """Return the folder in which workers look for the user's modules."""
    return str(Path.cwd())
