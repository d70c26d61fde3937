"""A Ray cluster for one command, found or started here, and Ray Data on it.

Sources go to tasks that read, and on to actors that compute: what goes over is batches, what comes back is counts.
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
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep the user's CUDA_VISIBLE_DEVICES as it is
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's own notes; what fails comes as an error
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}

# Less than a whole CPU each: with as many actors as CPUs, the tasks that read for them must find room too, or
# Ray Data waits for ever.
_WORKER_CPUS = 0.75
_READER_CPUS = 0.1
_NAMED = re.compile(r"crowdselect\.errors\.(\w+): (.+)")


@contextmanager
def cluster(options: EngineOptions) -> Iterator[Any]:
    """Connect to a Ray cluster, or start one; what the user's environment says about Ray holds.

    Args:
        options: `ray_address` counts here.

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
    context.raise_original_map_exception = True  # what a worker ends with is told as it is
    context.target_max_block_size = _BLOCK
    with warnings.catch_warnings():
        # A pool of few files keeps few actors busy: that is the pool's, not the user's fault.
        warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
        try:
            yield ray
        finally:
            if started:
                ray.shutdown()


def workers_of(ray: Any, options: EngineOptions) -> int:  # noqa: ANN401  (the module)
    """Say how many actors there are to be.

    Raises:
        OptionError: The cluster has no GPU, and the actors want some.
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
    """Find the error of ours that a task or an actor ended with; Ray wraps it in tracebacks.

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
        if colon and port.isdigit() and "/" not in host:  # Ray itself may try for ever
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
        with _silenced(), kept_handlers(signal.SIGTERM):  # Ray would end the process without a word
            ray.init(address=address, logging_level="error", log_to_driver=False, **local)
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        said = " ".join(str(error).split())[:300]
        hint = "start one with `ray start --head`, give its HOST:PORT, or leave `ray_address` out to start one for the command"
        if "RAY_AUTH_MODE" not in os.environ and not isinstance(error, OSError):
            hint += "; if it wants a token, set RAY_AUTH_MODE=token"
        raise OptionError(f"`ray_address={address}`: no Ray cluster there: {said}; {hint}") from error


def _found(address: str) -> str:
    """Give the address that `auto` stands for, as Ray finds it: it may be that of a cluster that has gone.

    Raises:
        ConnectionError: There is none.
    """
    if address != "auto":
        return address
    with suppress(ImportError):  # of Ray's own; where it is not there, Ray is asked as it is
        services = import_module("ray._private.services")
        return str(
            getattr(services, "get_ray_address_from_environment", lambda given, _: given)(address, None)
        )
    return address


@contextmanager
def _silenced() -> Iterator[None]:
    """Drop what Ray's C++ part writes to standard error as it starts; what fails is raised."""
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
