"""A Ray cluster for one command: found by its address, or started on this machine and shut down again."""

import logging
import os
import re
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from crowdselect import errors
from crowdselect._optional import optional
from crowdselect.engine.options import EngineOptions
from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.stops import kept_handlers

_PATIENCE = 10.0  # seconds for a cluster's head to answer
_BLOCK = 4 << 20  # bytes: small blocks, so that every actor gets some soon
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep the user's CUDA_VISIBLE_DEVICES as it is
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's own notes; what fails comes as an error
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}

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
