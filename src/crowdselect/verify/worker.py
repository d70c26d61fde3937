"""A process that checks answers; `processes` starts it and speaks with it in lines of JSON.

It limits itself: an answer that takes more time than the limit ends the process, even in the middle of one long
operation, so that no process is left behind by a parent that is gone. The limit is of this process's own time, where the
system counts that, so that a busy machine changes no verdict; and six times as much of the clock's. It may take 2 GiB of
memory.
"""

import contextlib
import faulthandler
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import IO

from crowdselect.verify.verifiers import VERIFIERS, Task, Verdict, Verifier, check

READY = "ready"
TIMED_OUT = frozenset({1, -getattr(signal, "SIGPROF", -1)})
"""How the process ends when the time limit is hit: by the clock, or by its own time."""
_CLOCK = 6  # seconds of the clock for one of the limit
_MEMORY = 2 << 30


def main() -> None:
    """Read the settings, then lists of tasks, each on a line; write a line per verdict."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    settings = json.loads(sys.stdin.readline())
    verifier = VERIFIERS[settings["verifier"]]
    extract = None if settings["extract"] is None else re.compile(settings["extract"])
    _limit_memory()
    if verifier.needs is not None:
        check(verifier, Task("$1$", "$x$"))  # loads the package before time counts
    answers.write(READY + "\n")
    answers.flush()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    errors = os.dup(2)
    os.dup2(quiet, 2)  # what parsers print is for nobody
    with os.fdopen(errors, "w") as log:
        for line in sys.stdin:
            for task in json.loads(line):
                with _limited(settings["seconds"], log):
                    verdict = _checked(verifier, Task(*task), extract)
                answers.write(json.dumps(verdict) + "\n")
                answers.flush()


def _checked(verifier: Verifier, task: Task, extract: re.Pattern[str] | None) -> Verdict:
    try:
        return check(verifier, task, extract)
    except Exception as error:  # noqa: BLE001  (whatever a parser raises is the reason why there is no verdict)
        return Verdict(None, f"it cannot be checked: {type(error).__name__}")


@contextlib.contextmanager
def _limited(seconds: float, log: IO[str]) -> Iterator[None]:
    """End the process if what is inside takes too long."""
    faulthandler.dump_traceback_later(_CLOCK * seconds, exit=True, file=log)
    has_timer = hasattr(signal, "setitimer")
    if has_timer:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal, which nobody handles, ends a process
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if has_timer:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not everywhere can it be limited
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, most))


if __name__ == "__main__":
    main()
