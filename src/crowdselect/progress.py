"""How long each stage of a run takes, and a place to show that it is under way."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


def _silent(name: str) -> AbstractContextManager[Progress]:  # noqa: ARG001  (the place to show it, not shown)
    return _nothing()


def _ignore(done: int, total: int) -> None:
    """Report progress to nobody."""


@contextmanager
def _nothing() -> Iterator[Progress]:
    yield _ignore


@dataclass(slots=True)
class Stages:
    """Times stages by name; `show` may draw them on a terminal.

    Example:
        >>> stages = Stages()
        >>> with stages("reading"):
        ...     pass
        >>> list(stages.seconds)
        ['reading']
    """

    show: Callable[[str], AbstractContextManager[Progress]] = _silent
    """Given a stage's name, shows it while the block runs; yields where to report progress."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds per stage, in the order in which they began."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        """Time one stage; the same name again adds to it."""
        start = time.perf_counter()
        with self.show(name) as progress:
            yield progress
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
