"""SIGTERM, which a batch system or a container sends before it kills, does what Ctrl-C does."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def handle_sigterm() -> None:
    """Raise KeyboardInterrupt at SIGTERM, in this process alone: a forked one ends at once, as it would have."""
    own = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def kept_handlers(*numbers: int) -> Iterator[None]:
    """Put handlers of signals back that a library replaces in the block (Ray, asyncio)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def unbroken() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def wait(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    try:
        with kept_handlers(signal.SIGINT, signal.SIGTERM):
            signal.signal(signal.SIGINT, wait)
            signal.signal(signal.SIGTERM, wait)
            yield
    finally:
        if came:
            signal.raise_signal(came[0])
