"""Progress of a long run: how much is done, how fast, and how long it will take."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

_TERMINAL, _PIPE = 0.25, 30.0  # seconds between two words of it


class Meter:
    """Says how far a run is: in place on a terminal, a line every half minute elsewhere.

    Example:
        >>> import io
        >>> out = io.StringIO()
        >>> meter = Meter(out, clock=iter([0.0, 60.0]).__next__)
        >>> meter(300, 1000)
        >>> print(out.getvalue().strip())
        scored 300 of 1,000, 5.0/s, 0:02:20 left
    """

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = time.monotonic if clock is None else clock
        self._terminal = self._stream.isatty()
        self._began = self._said = self._clock()
        self._shown = False

    def __call__(self, done: int, total: int | None = None) -> None:
        """Take a count of what is done, and of what there is to do; None = nobody has counted."""
        now = self._clock()
        if now - self._said < (_TERMINAL if self._terminal else _PIPE):
            return
        self._said = now
        rate = done / max(now - self._began, 1e-9)
        text = f"scored {done:,}, {rate:,.1f}/s"
        if total is not None:
            left = (total - done) / rate if rate else 0.0
            text = f"scored {done:,} of {total:,}, {rate:,.1f}/s, {_clock(left)} left"
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._shown = True

    def end(self) -> None:
        """Clear the line on a terminal."""
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
