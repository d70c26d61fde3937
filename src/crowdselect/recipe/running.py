"""The steps in their order, each a process: what each would do, and its run.

What is done is kept, what fails says how to go on. A step's output goes into a log, its end is a code, and a stop is
handed on to it. The plan says which steps are done or to do, and what they cost where the commands can tell.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import get_terminal_size
from tempfile import TemporaryDirectory
from typing import Any

from crowdselect.cli.entry import INTERRUPTED, MISSING
from crowdselect.progress import Progress
from crowdselect.recipe.graph import Step, StepGraph
from crowdselect.recipe.reading import has_option, spoken
from crowdselect.recipe.store import LOG, SAID, Store, say_who
from crowdselect.terminal import visible

_SHOWN = 12  # lines of a failed step's log
_FEW = 6  # of one with something missing

COMMAND = "$ crowdselect "
"""How the line of a log begins that holds the command."""

_TICK = 0.5  # seconds between two looks at a log that is shown
_AT_ONCE = 1.0  # seconds that a step has to end after the second signal to stop
_TAIL = 4096  # bytes of a log's end that are read
_REASONS = 3  # for each model or column; the JSON has all
_NO_JSON = ("select",)  # it would print every row
_PYTHON = (sys.executable, "-P", "-m", "crowdselect")  # -P: a file beside the recipe hides no module


@dataclass(slots=True)
class RunSummary:
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


def run_steps(graph: StepGraph, store: Store, *, lock: int, strict: bool, keep_going: bool) -> RunSummary:
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
    summary = RunSummary()
    stopped: set[Step] = set()
    for number, step in enumerate(graph.steps, start=1):
        if any(one in stopped for one in step.needs) or (summary.failed and not keep_going):
            summary.skipped.append(step)
            stopped.add(step)
            continue
        if not store.is_whole(step):
            code = _run(step, store, graph, lock=lock, at=f"{number}/{len(graph.steps)}")
            if code not in {0, MISSING} or (code == MISSING and strict):
                summary.failed.append(step)
                stopped.add(step)
                continue
            summary.made.append(step)
            if code == MISSING:
                summary.missing.append(step)
        summary.done.append(step)
    return summary


def _run(step: Step, store: Store, graph: StepGraph, *, lock: int, at: str) -> int:
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
        _write(f"   full log: {folder / LOG}\n")
    elif code:
        _say_tail(folder, _SHOWN)
        _write(
            f"   full log: {folder / LOG}\n   fix the cause and run the same recipe again; completed steps are kept\n"
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


def command_line(step: Step, store: Store, folder: Path, *, plan: bool = False) -> list[str]:
    """Write the arguments of a step whose inputs are there.

    Args:
        step: The step.
        store: Where its inputs are.
        folder: Where to write.
        plan: Only ask what would be done.

    Returns:
        The arguments after `crowdselect`.
    """
    places = []
    for one in step.inputs:
        done = store.done(one.source) if isinstance(one.source, Step) else None
        places.append(str(one.source) if done is None else str(done.path))
    line = step.line(places, str(folder / step.output))
    end = line.index("--")
    return [*line[:end], *_more(step, store, plan=plan), *line[end:]]


def _more(step: Step, store: Store, *, plan: bool) -> Iterator[str]:
    """Give the options that say how it is shown, and where what is known is kept."""
    section = step.section
    ledger = store.folder / "ledgers" / f"{section}.ledger"
    if has_option(section, "ledger") and "ledger" not in step.options and (ledger.exists() or not plan):
        yield f"--ledger={ledger}"
    if plan:
        yield "--dry-run"
    elif has_option(section, "overwrite") and section != "train":  # training goes on where it was stopped
        yield "--overwrite"
    if prints_json(section):
        yield "--json"


def prints_json(section: str) -> bool:
    """Whether the command's own JSON is kept beside its result."""
    return has_option(section, "json") and not section.startswith(_NO_JSON)


def run_step(step: Step, store: Store, *, lock: int, cwd: Path, head: str) -> tuple[int, float]:
    """Run a step to its end.

    Args:
        step: A step whose inputs are there.
        store: The folder of results.
        lock: The file descriptor that the process inherits.
        cwd: Where relative paths begin.
        head: What a terminal shows while it runs, before the time and the last line of its log.

    Returns:
        The exit code and the seconds it took.

    Raises:
        KeyboardInterrupt: The run was stopped; the step has ended.
    """
    folder = store.begin(step)
    (store.folder / "ledgers").mkdir(exist_ok=True)
    line = command_line(step, store, folder)
    start = time.monotonic()
    with (folder / LOG).open("ab") as log, (folder / SAID).open("wb") as said:
        log.write(f"{COMMAND}{shlex.join(line)}\n".encode("utf-8", "surrogateescape"))
        log.flush()
        with subprocess.Popen(  # noqa: S603  (our own command; no shell)
            [*_PYTHON, *line],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=said if prints_json(step.section) else log,
            stderr=log,
            pass_fds=(lock,),
        ) as process:
            say_who(lock, process.pid, f"crowdselect {step.section.replace('.', ' ')}")
            code = _wait(process, lambda: _show(head, time.monotonic() - start, folder / LOG))
        if code == MISSING and prints_json(step.section):
            log.write("".join(f"{line}\n" for line in _lacks(folder / SAID)).encode("utf-8", "replace"))
    say_who(lock, os.getpid(), "crowdselect run")
    if not prints_json(step.section):
        (folder / SAID).unlink()
    return code, time.monotonic() - start


def _lacks(said: Path) -> Iterator[str]:
    """Say what is missing and why: with --json a command puts that into its JSON, and not into the log."""
    try:
        found = json.loads(said.read_bytes())
    except ValueError:
        return  # it ended before it could say anything; its log says why
    parts = {**found.get("columns", {}), **found.get("models", {}), "verdicts": found.get("verdicts", {})}
    for name, part in parts.items():
        reasons = part["missing"] if name in found.get("columns", {}) else part.get("reasons", {})
        for reason, count in sorted(reasons.items(), key=lambda one: -one[1])[:_REASONS]:
            yield f"missing: {count} of {name}: {' '.join(reason.split())}"


def _wait(process: "subprocess.Popen[bytes]", show: Callable[[], None]) -> int:
    """Wait, and show on a terminal how it goes. A stop is the step's, too: its work is kept, then it ends."""
    with _handing_on(process):
        try:
            code = _watched(process, show)
        except KeyboardInterrupt:
            _clear()
            begun = "" if sys.stderr.isatty() else "\n"  # there the line of the step stands, not yet ended
            sys.stderr.write(f"{begun}stopping: the step keeps what it has (a second time: at once)\n")
            sys.stderr.flush()
            _end(process)
            raise
        finally:
            _clear()
    if code in {INTERRUPTED, -signal.SIGINT, -signal.SIGTERM}:
        raise KeyboardInterrupt
    return code


def _watched(process: "subprocess.Popen[bytes]", show: Callable[[], None]) -> int:
    while True:
        try:
            return process.wait(timeout=_TICK)
        except subprocess.TimeoutExpired:
            show()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a step that was asked to stop; asked twice, it has a second."""
    try:
        process.wait()
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            process.wait(timeout=_AT_ONCE)
        process.kill()  # what has ended already is left alone
        process.wait()


@contextmanager
def _handing_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Make a signal that reaches this process only a stop of the step, too."""

    def stop(number: int, _: object) -> None:
        if number != signal.SIGINT or not _is_in_front():  # a terminal's Ctrl-C has reached the step itself
            process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    wanted = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_in_front() -> bool:
    """Whether keys pressed on a terminal reach this process and what it has started."""
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _show(head: str, seconds: float, log: Path) -> None:
    """Keep one line on a terminal up to date."""
    _draw(f"{head}  {spoken(seconds)}{''.join(f'  {line}' for line in tail(log, 1))}")


def _clear() -> None:
    _draw("")
    if sys.stderr.isatty():
        sys.stderr.write("\r")


def _draw(text: str) -> None:
    if not sys.stderr.isatty():
        return
    from crowdselect.terminal import visible

    wide = max(get_terminal_size().columns - 1, 20)
    sys.stderr.write("\r" + visible(text, width=wide).ljust(wide))
    sys.stderr.flush()


def tail(log: Path, count: int) -> list[str]:
    """Read the last lines of the latest attempt; what a bar has drawn over itself counts as lines."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    begun = [at + 1 for at, line in enumerate(lines) if line.startswith(COMMAND)]
    return lines[begun[-1] if begun else 0 :][-count:]


@dataclass(frozen=True, slots=True)
class Line:
    """One step of a plan.

    Attributes:
        step: The step.
        state: `done`, `incomplete`: done, but something is missing, so it is run again; `to do`; `waiting`:
            whether it has to be done is known when the steps before it are.
        cost: What it costs, as its command says; "" = nothing to speak of.
        facts: The same as the command's JSON; None = unknown.
    """

    step: Step
    state: str
    cost: str = ""
    facts: Mapping[str, Any] | None = None


def make_plan(graph: StepGraph, store: Store, *, all_priced: bool, progress: Progress) -> list[Line]:
    """Say of every step whether it is done, and what is known of its cost.

    Args:
        graph: The steps.
        store: The results that are there.
        all_priced: Ask every command what it would do, which takes some seconds each; else the first of each kind.
        progress: Told how many steps were looked at.

    Returns:
        One line per step, in the order in which they run.
    """
    lines: list[Line] = []
    with TemporaryDirectory(prefix="crowdselect-plan-") as scratch:
        for number, step in enumerate(graph.steps):
            progress(number, len(graph.steps))
            known = not all_priced and any(one.facts and one.step.section == step.section for one in lines)
            lines.append(_line(step, graph, store, None if known else Path(scratch)))
    return lines


def _line(step: Step, graph: StepGraph, store: Store, scratch: Path | None) -> Line:
    if store.is_whole(step):
        return Line(step, "done")
    done = store.done(step)
    if done is None and store.key(step) is None:
        after = next(one for one in step.needs if store.done(one) is None)
        return Line(step, "waiting", f"known after {after.title}" if _tells(step) else "")
    state = "to do" if done is None else "incomplete"
    if scratch is None or not _tells(step):
        return Line(step, state, "--dry-run says what" if _tells(step) else "")
    facts, problem = _plan_of(step, graph, store, scratch)
    return Line(step, state, problem if facts is None else _SAYINGS[step.section](facts), facts)


def _tells(step: Step) -> bool:
    """Whether its command can say what it costs."""
    return step.section in _SAYINGS


def _plan_of(
    step: Step, graph: StepGraph, store: Store, scratch: Path
) -> tuple[Mapping[str, Any] | None, str]:
    """Have the command itself say what it would do."""
    ended = subprocess.run(  # noqa: S603  (our own command; no shell)
        [*_PYTHON, *command_line(step, store, scratch, plan=True)],
        cwd=graph.recipe.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    said = [line for line in ended.stderr.splitlines() if line.strip()]
    if ended.returncode:
        return None, said[-1] if said else f"unknown: its plan ended with {ended.returncode}"
    facts: Mapping[str, Any] = json.loads(ended.stdout)
    return facts, ""


def _calls(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Sum what models are to be asked; what is unknown of one is unknown of all."""
    calls = sum(one["calls"] for one in found.values())
    done = sum(one["done"] for one in found.values())
    words = [f"{calls:,} calls" + (f" ({done:,} done)" if done else "")]
    if calls:
        for name, what in (("prompt_tokens", "tokens sent"), ("answer_tokens", "received at most")):
            words.append(f"{_sum(found, name, '{:,.0f}')} {what}")
        words.append(f"cost at most {_sum(found, 'cost', '{:,.4g}')}")
    return "; ".join([", ".join(words), *(one["renamed"] for one in found.values() if one["renamed"])])


def _sum(found: Mapping[str, Mapping[str, Any]], name: str, form: str) -> str:
    values = [one[name] for one in found.values() if one["calls"]]
    return "unknown" if any(value is None for value in values) else form.format(sum(values))


def _scores(facts: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{row['column']}: {row['to_score']:,} to score, about {row['estimated_tokens']:,} tokens"
        + (f", {row['cost']}" if row.get("cost") else "")
        for row in facts["plan"]
    ) + "".join(f"; {note}" for note in facts["notes"])


def _training(facts: Mapping[str, Any]) -> str:
    return (
        f"{facts['steps']:,} steps, {facts['tokens']:,} tokens, {facts['flop']:.2g} operations, "
        f"about {facts['memory']['total'] / 2**30:.1f} GiB"
    )


_SAYINGS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "collect": lambda facts: _calls(facts["models"]),
    "reward": _scores,
    "train": _training,
    "evaluate.mt-bench": lambda facts: _calls(facts["plan"]),
    "evaluate.arena-hard": lambda facts: _calls(facts["plan"]),
}


def total(lines: list[Line]) -> str:
    """Say in one line how much there is to do.

    Example:
        >>> total([])
        '0 steps: 0 done'
    """
    counts = {
        state: sum(line.state == state for line in lines)
        for state in ("done", "to do", "waiting", "incomplete")
    }
    words = [f"{count} {state}" for state, count in counts.items() if count or state == "done"]
    return f"{len(lines)} steps: {', '.join(words)}"
