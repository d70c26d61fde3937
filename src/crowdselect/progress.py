"""How long each stage of a run takes, and a hook to show its progress."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from typing import Any

Progress = Callable[[int, int], None]
"""Called with how many units are done and how many there are in all."""


def _silent(name: str) -> AbstractContextManager[Progress]:  # noqa: ARG001  (the place to show it, not shown)
    return _nothing()


def _ignore(done: int, total: int) -> None:
    """Discard a progress report."""


@contextmanager
def _nothing() -> Iterator[Progress]:
    yield _ignore


class NotebookLine:
    """One line below a notebook's cell: the stage under way with a bar, and at last how long all took."""

    _EVERY = 0.2  # seconds between two looks of a bar

    def __init__(self) -> None:
        self._line: Any = None
        self._begun = self._told = time.monotonic()

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        """Show a stage while the block runs. Where that fails, the line stays as it was."""
        self._tell(f"{name} …")

        def report(done: int, total: int) -> None:
            if time.monotonic() - self._told >= self._EVERY or done == total:
                bar = f'<progress value="{done}" max="{total}"></progress> '
                self._tell(f"{name}: {done:,} of {total:,}", bar=bar)

        yield report
        self._tell(f"{name}: done, {time.monotonic() - self._begun:.1f} s in all")

    def _tell(self, text: str, bar: str = "") -> None:
        notebook = import_module("IPython.display")  # which a notebook has
        self._told = time.monotonic()
        shown = notebook.HTML(bar + escape(text))
        if self._line is None:
            self._line = notebook.display(shown, display_id=True)
        else:
            self._line.update(shown)


def _usual() -> Callable[[str], AbstractContextManager[Progress]]:
    """A line in a notebook; nothing elsewhere, as a program that imports us has its own output."""
    ipython = sys.modules.get("IPython")  # a notebook has loaded it
    shell = None if ipython is None else ipython.get_ipython()
    return _silent if getattr(shell, "kernel", None) is None else NotebookLine()


@dataclass(slots=True)
class Stages:
    """Timer of named stages; `show` may draw them: by itself in a notebook, by `stage_bar` on a terminal.

    Example:
        >>> stages = Stages()
        >>> with stages("reading"):
        ...     pass
        >>> list(stages.seconds)
        ['reading']
    """

    show: Callable[[str], AbstractContextManager[Progress]] = field(default_factory=_usual)
    """Shows the stage of a given name while the block runs; yields the function to report progress to."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds per stage, in the order in which they began."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        """Time one stage; using a name again adds to its time."""
        start = time.perf_counter()
        with self.show(name) as progress:
            yield progress
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
