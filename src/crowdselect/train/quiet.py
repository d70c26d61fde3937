"""Libraries that speak only of errors: what a user should know is said by us."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from crowdselect._optional import optional
from crowdselect.train.student import EXTRA


@contextmanager
def quiet() -> Iterator[None]:
    """Let the libraries speak of errors only, and draw no bars of their own."""
    datasets = optional("datasets", extra=EXTRA)
    logs = optional("transformers.utils.logging", extra=EXTRA)
    before, bars, drawn = (
        logs.get_verbosity(),
        logs.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
    )
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():  # of what the libraries have yet to change among themselves
            warnings.filterwarnings("ignore", ".* is deprecated and will be removed in", FutureWarning)
            yield
    finally:
        logs.set_verbosity(before)
        if bars:
            logs.enable_progress_bar()
        if not drawn:
            datasets.enable_progress_bars()
