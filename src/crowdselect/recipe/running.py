"""The steps in their order: what is done is kept, what fails says how to go on."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from crowdselect.recipe.graph import Graph, Step
from crowdselect.recipe.process import run_step, tail
from crowdselect.recipe.store import LOG, MISSING, Store
from crowdselect.recipe.titles import spoken
from crowdselect.terminal import visible

_SHOWN = 12  # lines of a failed step's log
_FEW = 6  # of one with something missing


@dataclass(slots=True)
class Outcome:
    """How the steps went.

    Attributes:
        done: Steps that were done before, or are now.
        made: Of these, those that were run now.
        missing: Of these, those that ended with something missing.
        failed: Steps that ended with an error.
        skipped: Steps that need one of those.
    """

    done: list[Step] = field(default_factory=list)
    made: list[Step] = field(default_factory=list)
    missing: list[Step] = field(default_factory=list)
    failed: list[Step] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code: 2 where a step failed, 3 where something is missing."""
        return 2 if self.failed else MISSING if self.missing else 0


def run_steps(graph: Graph, store: Store, *, lock: int, strict: bool, keep_going: bool) -> Outcome:
    """Run what is not done.

    Args:
        graph: The steps.
        store: The results.
        lock: The lock's file descriptor, for the processes.
        strict: A step with something missing is a failure.
        keep_going: After a failure go on with the steps that do not need it.

    Returns:
        What was done. A failure has been said already.

    Raises:
        KeyboardInterrupt: The run was stopped.
    """
    outcome = Outcome()
    stopped: set[Step] = set()
    for number, step in enumerate(graph.steps, start=1):
        if any(one in stopped for one in step.needs) or (outcome.failed and not keep_going):
            outcome.skipped.append(step)
            stopped.add(step)
            continue
        if not store.is_whole(step):
            code = _run(step, store, graph, lock=lock, at=f"{number}/{len(graph.steps)}")
            if code not in {0, MISSING} or (code == MISSING and strict):
                outcome.failed.append(step)
                stopped.add(step)
                continue
            outcome.made.append(step)
            if code == MISSING:
                outcome.missing.append(step)
        outcome.done.append(step)
    return outcome


def _run(step: Step, store: Store, graph: Graph, *, lock: int, at: str) -> int:
    """Run one step, with one line on standard error."""
    head = f"{at}  {step.title}"
    drawn = sys.stderr.isatty()  # there the line is drawn while the step runs
    _write("" if drawn else head)
    code, seconds = run_step(step, store, lock=lock, cwd=graph.recipe.folder, head=head)
    folder = store.place(step)
    there = (folder / step.output).exists()
    if code in {0, MISSING} and there:
        store.finish(step, code=code, seconds=seconds)
    words = {0: "done", MISSING: "done, but something is missing"}.get(code, _failure(code))
    words, code = (words, code) if there or code not in {0, MISSING} else ("failed: it wrote nothing", 2)
    _write(f"{head if drawn else ''}  {words} in {spoken(seconds)}\n")
    if code == MISSING:
        _say_tail(folder, _FEW)
        _write(f"   all it said: {folder / LOG}\n")
    elif code:
        _say_tail(folder, _SHOWN)
        _write(
            f"   all it said: {folder / LOG}\n   mend the cause and run the same recipe again: what is done is kept\n"
        )
    return code


def _failure(code: int) -> str:
    return f"failed with exit code {code}" if code > 0 else f"failed: killed by signal {-code}"


def _say_tail(folder: Path, count: int) -> None:
    _write("".join(f"   | {line}\n" for line in tail(folder / LOG, count)))


def _write(text: str) -> None:
    shown = "\n".join(visible(line) for line in text.split("\n"))
    sys.stderr.write(shown)
    sys.stderr.flush()
