"""How long each stage of a run takes, and a hook to show its progress."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

Progress = Callable[[int, int], None]
"""Called with how many units are done and how many there are in all."""


def _silent(name: str) -> AbstractContextManager[Progress]:  # noqa: ARG001  (the place to show it, not shown)
    return _nothing()


def _ignore(done: int, total: int) -> None:
    """Discard a progress report."""


@contextmanager
def _nothing() -> Iterator[Progress]:
    yield _ignore


@dataclass(slots=True)
class Stages:
    """Timer of named stages; `show` may draw them on a terminal.

    Example:
        >>> stages = Stages()
        >>> with stages("reading"):
        ...     pass
        >>> list(stages.seconds)
        ['reading']
    """

    show: Callable[[str], AbstractContextManager[Progress]] = _silent
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
