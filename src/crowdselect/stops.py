"""SIGTERM, which a batch system or a container sends before it kills, does what Ctrl-C does."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def handle_sigterm() -> None:
    """Raise KeyboardInterrupt on SIGTERM in this process only: a forked one ends at once, as by default."""
    owner = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def kept_handlers(*numbers: int) -> Iterator[None]:
    """Restore signal handlers that a library replaces during the block (Ray, asyncio)."""
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
    """Defer Ctrl-C and SIGTERM until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def defer(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    try:
        with kept_handlers(signal.SIGINT, signal.SIGTERM):
            signal.signal(signal.SIGINT, defer)
            signal.signal(signal.SIGTERM, defer)
            yield
    finally:
        if received:
            signal.raise_signal(received[0])
