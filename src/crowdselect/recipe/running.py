"""Runs the steps in order, each as a process; and plans a run.

Completed steps are kept; a failure says how to resume. A step's output goes into a log, its result is an exit code,
and stop signals are forwarded to it. The plan lists which steps are done or left, and their cost if the commands know.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import get_terminal_size
from tempfile import TemporaryDirectory
from typing import Any

from crowdselect.cli.entry import INTERRUPTED, MISSING
from crowdselect.progress import Progress
from crowdselect.recipe.graph import Step, StepGraph
from crowdselect.recipe.reading import UNJUDGED, has_option, spoken
from crowdselect.recipe.store import LOG, SAID, Store, say_who
from crowdselect.running import running
from crowdselect.terminal import counted, visible

_SHOWN = 12  # lines shown of a failed step's log
_FEW = 6  # lines shown of the log of a step with something missing

COMMAND = "$ crowdselect "
"""The beginning of the log line with the command."""

_TICK = 0.5  # seconds between two updates of the log line on a terminal
_AT_ONCE = 1.0  # seconds for a step to end after the second stop signal
_TAIL = 4096  # bytes read from a log's end
_REASONS = 3  # reasons shown per model or column; the JSON has all
_NO_JSON = ("select",)  # it would print every row
_SLOW_TO_TELL = frozenset({"train", *UNJUDGED})
_PYTHON = (sys.executable, "-P", "-m", "crowdselect")  # -P: a file beside the recipe must not shadow a module


@dataclass(slots=True)
class RunSummary:
    """The outcome of each step.

    Attributes:
        done: Completed steps.
        made: Those of `done` that were run now.
        missing: Those of `made` that ended with something missing.
        failed: Steps that ended with an error.
        skipped: Steps that were not run because of a failed one.
    """

    done: list[Step] = field(default_factory=list)
    made: list[Step] = field(default_factory=list)
    missing: list[Step] = field(default_factory=list)
    failed: list[Step] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code: 2 if a step failed, else 3 if something is missing, else 0."""
        return 2 if self.failed else MISSING if self.missing else 0


def run_steps(graph: StepGraph, store: Store, *, lock: int, strict: bool, keep_going: bool) -> RunSummary:
    """Run the steps that are not done.

    Args:
        graph: The steps.
        store: The results.
        lock: The lock's file descriptor, inherited by the processes.
        strict: Treat a step with something missing as failed.
        keep_going: After a failure, run the steps that do not need it.

    Returns:
        The outcome of each step. Failures have been printed already.

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
            running().tell(step.title, len(summary.done), len(graph.steps))
            code = _run(step, store, graph, lock=lock, at=f"step {number}/{len(graph.steps)}")
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
    on_terminal = sys.stderr.isatty()  # on a terminal the line is updated while the step runs
    _write("" if on_terminal else head)
    code, seconds = run_step(step, store, lock=lock, cwd=graph.recipe.folder, head=head)
    folder = store.place(step)
    exists = (folder / step.output).exists()
    if code in {0, MISSING} and exists:
        store.finish(step, code=code, seconds=seconds)
    words = {0: "done", MISSING: "done, but something is missing"}.get(code, _failure(code))
    words, code = (words, code) if exists or code not in {0, MISSING} else ("failed: it wrote nothing", 2)
    _write(f"{head if on_terminal else ''}  {words} in {spoken(seconds)}\n")
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
    """Build the arguments of a step whose inputs exist.

    Args:
        step: The step.
        store: Where its inputs are.
        folder: Where to write.
        plan: Only plan (`--dry-run`).

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
    """Yield the options about output, overwriting and the ledger."""
    section = step.section
    ledger = store.folder / "ledgers" / f"{section}.ledger"
    if has_option(section, "ledger") and "ledger" not in step.options and (ledger.exists() or not plan):
        yield f"--ledger={ledger}"
    if plan:
        yield "--dry-run"
    elif has_option(section, "overwrite") and section != "train":  # training resumes
        yield "--overwrite"
    if prints_json(section):
        yield "--json"


def prints_json(section: str) -> bool:
    """Return whether the command's JSON is stored beside its result."""
    return has_option(section, "json") and not section.startswith(_NO_JSON)


def run_step(step: Step, store: Store, *, lock: int, cwd: Path, head: str) -> tuple[int, float]:
    """Run a step to its end.

    Args:
        step: A step whose inputs exist.
        store: The folder of results.
        lock: The file descriptor that the process inherits.
        cwd: The folder that relative paths start from.
        head: The beginning of the line on a terminal, before the time and the last line of the log.

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
    """Yield what is missing and why: with --json a command writes that into its JSON, not into the log."""
    try:
        found = json.loads(said.read_bytes())
    except ValueError:
        return  # it ended before writing JSON; its log says why
    parts = {**found.get("columns", {}), **found.get("models", {}), "verdicts": found.get("verdicts", {})}
    if "resampling" in found and "rows" in found:
        parts[found["resampling"]["of"]] = found["rows"]
    for name, part in parts.items():
        reasons = part["missing"] if name in found.get("columns", {}) else part.get("reasons", {})
        for reason, count in sorted(reasons.items(), key=lambda one: -one[1])[:_REASONS]:
            yield f"missing: {count} of {name}: {' '.join(reason.split())}"


def _wait(process: "subprocess.Popen[bytes]", show: Callable[[], None]) -> int:
    """Wait, showing progress on a terminal. A stop is forwarded to the step, which saves its work and ends."""
    with _handing_on(process):
        try:
            code = _watched(process, show)
        except KeyboardInterrupt:
            _clear()
            newline = (
                "" if sys.stderr.isatty() else "\n"
            )  # without a terminal, the step's line is not ended yet
            sys.stderr.write(f"{newline}stopping: the step keeps what it has (a second time: at once)\n")
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
    """Wait for a step to stop; after a second signal it has one second."""
    try:
        process.wait()
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            process.wait(timeout=_AT_ONCE)
        process.kill()  # what has ended already is left alone
        process.wait()


@contextmanager
def _handing_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Forward stop signals that reach only this process to the step."""

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
    """Return whether this process group is in the foreground, so that Ctrl-C reaches it and its children."""
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _show(head: str, seconds: float, log: Path) -> None:
    """Update the step's line on a terminal."""
    _draw(f"{head}  {spoken(seconds)}{''.join(f'  {line}' for line in tail(log, 1))}")


def _clear() -> None:
    _draw("")
    if sys.stderr.isatty():
        sys.stderr.write("\r")


def _draw(text: str) -> None:
    if not sys.stderr.isatty():
        return
    from crowdselect.terminal import visible

    width = max(get_terminal_size().columns - 1, 20)
    sys.stderr.write("\r" + visible(text, width=width).ljust(width))
    sys.stderr.flush()


def tail(log: Path, count: int) -> list[str]:
    """Read the last lines of the latest attempt; each update of a progress bar counts as a line."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    starts = [at + 1 for at, line in enumerate(lines) if line.startswith(COMMAND)]
    return lines[starts[-1] if starts else 0 :][-count:]


@dataclass(frozen=True, slots=True)
class Line:
    """One step of a plan.

    Attributes:
        step: The step.
        state: `done`; `incomplete`: done, but something is missing, so it is run again; `to do`; `waiting`:
            whether it has to run is known once earlier steps are done.
        amount: What it gets or sends, in rows or requests; "" = nothing to count.
        cost: Its cost according to its command; "" = negligible.
        facts: The plan as the command's JSON; None = unknown.
        after: The section whose result its amount and cost are known after; "" = they are known, or there are none.
    """

    step: Step
    state: str
    amount: str = ""
    cost: str = ""
    facts: Mapping[str, Any] | None = None
    after: str = ""


def make_plan(graph: StepGraph, store: Store, *, all_priced: bool, progress: Progress) -> list[Line]:
    """Return for every step whether it is done, and its cost if known.

    Args:
        graph: The steps.
        store: The results so far.
        all_priced: Ask every command for its plan; else of those whose plan takes seconds only the first of each kind.
        progress: Called with the number of steps done and in total.

    Returns:
        One line per step, in the order in which they run.
    """
    lines: list[Line] = []
    with TemporaryDirectory(prefix="crowdselect-plan-") as scratch:
        for number, step in enumerate(graph.steps):
            progress(number, len(graph.steps))
            known = (
                not all_priced
                and step.section in _SLOW_TO_TELL
                and any(one.step.section == step.section and one.facts for one in lines)
            )
            lines.append(_line(step, graph, store, None if known else Path(scratch), lines))
    return lines


def _line(step: Step, graph: StepGraph, store: Store, scratch: Path | None, earlier: Sequence[Line]) -> Line:
    if store.is_whole(step):
        return Line(step, "done")
    done = store.done(step)
    if done is None and store.key(step) is None:
        return _waiting(step, next(one for one in step.needs if store.done(one) is None), earlier)
    state = "to do" if done is None else "incomplete"
    if not _tells(step):
        return Line(step, state, _wanted(step))
    if scratch is None:
        return Line(step, state, "--dry-run says what")
    facts, problem = _plan_of(step, graph, store, scratch)
    if facts is None:
        return Line(step, state, cost=problem)
    amount, cost = _SAYINGS[step.section](facts)
    return Line(step, state, amount, "; ".join(part for part in (cost, _stop(step, facts)) if part), facts)


def _stop(step: Step, facts: Mapping[str, Any]) -> str:
    """Return where the cap on money ends a step; "" = there is none, or it is not below the estimate."""
    cap, plan = step.options.get("max-cost"), facts.get("models", facts.get("plan"))
    if cap is None or plan is None:
        return ""
    rows = plan.values() if isinstance(plan, Mapping) else plan
    money = sum(row.get("money", row.get("cost")) or 0.0 for row in rows)
    return f"stops at {cap:,.4g}" if cap < money else ""


def _waiting(step: Step, after: Step, earlier: Sequence[Line]) -> Line:
    if not _tells(step):
        return Line(step, "waiting", _wanted(step))
    return Line(step, "waiting", _most(step, earlier) or f"known after {after.title}", after=after.section)


def _most(step: Step, earlier: Sequence[Line]) -> str:
    """Return how many answers a waiting `reward` gets at most, by the requests of `collect`; "" = unknown."""
    if step.section != "reward":
        return ""
    plans = [one.facts for one in earlier if one.step in step.needs and one.step.section == "collect"]
    if len(plans) != 1 or plans[0] is None:
        return ""
    answers = sum(one["calls"] + one["done"] for one in plans[0]["models"].values())
    scorers = step.options["with"]
    each = f" by each of {len(scorers)}" if isinstance(scorers, list) and len(scorers) > 1 else ""
    return f"at most {counted(answers, 'answer')} to score{each}"


def _wanted(step: Step) -> str:
    """Return how many rows a step was told to choose."""
    budget = step.options.get("budget")
    return (
        ""
        if budget is None
        else f"{budget} of the rows"
        if str(budget).endswith("%")
        else counted(budget, "row")
    )


def _tells(step: Step) -> bool:
    """Return whether a step's command can plan its cost."""
    return step.section in _SAYINGS


def _plan_of(
    step: Step, graph: StepGraph, store: Store, scratch: Path
) -> tuple[Mapping[str, Any] | None, str]:
    """Run the step's command with `--dry-run`; return its JSON, or None and the problem."""
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


def _calls(found: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Sum the models' estimates; a value unknown for one is unknown in the sum."""
    calls = sum(one["calls"] for one in found.values())
    done = sum(one["done"] for one in found.values())
    amount = counted(calls, "request") + (f" ({done:,} answered already)" if done else "")
    cost = [one["renamed"] for one in found.values() if one["renamed"]]
    if calls:
        sent, received = (_sum(found, name, "{:,.0f}") for name in ("prompt_tokens", "answer_tokens"))
        money = _sum(found, "cost", "at most {:,.4g}").replace("unknown", "money unknown")
        cost.insert(0, f"{money} ({sent} tokens sent, {received} received at most)")
    return amount, "; ".join(cost)


def _sum(found: Mapping[str, Mapping[str, Any]], name: str, form: str) -> str:
    values = [one[name] for one in found.values() if one["calls"]]
    return "unknown" if any(value is None for value in values) else form.format(sum(values))


def _scores(facts: Mapping[str, Any]) -> tuple[str, str]:
    rows = facts["plan"]
    amount = "; ".join(f"{row['column']}: {row['to_score']:,} answers to score" for row in rows)
    costs = [
        f"{row.get('cost', 'no money')} (about {row['estimated_tokens']:,} tokens)"
        for row in rows
        if row["to_score"]
    ]
    return amount, "; ".join([*costs, *facts["notes"]])


def _training(facts: Mapping[str, Any]) -> tuple[str, str]:
    return (
        f"{facts['steps']:,} steps, {facts['tokens']:,} tokens",
        f"{facts['flop']:.2g} operations, about {facts['memory']['total'] / 2**30:.1f} GiB",
    )


def _documents(facts: Mapping[str, Any]) -> tuple[str, str]:
    known = [one["documents"] for one in facts["tasks"] if one["documents"] is not None]
    downloads = f"downloads {', '.join(facts['downloads'])}" if facts["downloads"] else ""
    return counted(sum(known), "document") if known else "", downloads


_SAYINGS: dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "collect": lambda facts: _calls(facts["models"]),
    "reward": _scores,
    "train": _training,
    "evaluate.mt-bench": lambda facts: _calls(facts["plan"]),
    "evaluate.arena-hard": lambda facts: _calls(facts["plan"]),
    "evaluate.harness": _documents,
    "evaluate.loss": lambda facts: (counted(facts["rows"], "answer"), ""),
    "evaluate.prefers": lambda facts: (f"{counted(facts['pairs'], 'pair')} of answers", ""),
}


def total(lines: list[Line]) -> str:
    """Summarise a plan in one line; it ends with the steps whose cost is in no line yet.

    Example:
        >>> total([])
        '0 steps: 0 done'
    """
    counts = {
        state: sum(line.state == state for line in lines)
        for state in ("done", "to do", "waiting", "incomplete")
    }
    words = [f"{count} {state}" for state, count in counts.items() if count or state == "done"]
    text = f"{counted(len(lines), 'step')}: {', '.join(words)}"
    waiting: dict[str, dict[str, None]] = {}  # what is waited for → the sections that wait, each once
    for line in lines:
        if line.after:
            waiting.setdefault(line.after, {})[line.step.section] = None
    open_ = [f"{', '.join(sections)} (known after {after})" for after, sections in waiting.items()]
    return f"{text}; not counted: {', '.join(open_)}" if open_ else text
