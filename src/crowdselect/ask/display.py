"""What a person sees of a run: a live table on a terminal, a line now and then in a log, tables at the end."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from crowdselect.ask.budget import UNPRICED, Estimate
from crowdselect.ask.conversations import ModelTally
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.lane import Lane
from crowdselect.progress import Stages
from crowdselect.running import running
from crowdselect.terminal import counted, laid_out, note, say, table, visible

_LINE = 30.0  # seconds between two lines in a log
_STATUSES = ("ok", "length", "empty", "odd", "filtered", "failed", "gave_up", "not_asked")
_SHOWN_REASONS = 3  # per model


def announce(endpoints: Sequence[Endpoint], requests: int) -> None:
    """Say where requests will go, and whose keys with them, before the first is sent."""
    for endpoint in endpoints:
        key = f"with the key of {endpoint.api_key_env}" if endpoint.api_key_env else "without a key"
        most = counted(requests, "request")
        note(f"{visible(endpoint.name)}: up to {most} to {visible(endpoint.host)}, {key}")


def note_of(text: str) -> None:
    """Print a fact that may hold names from outside."""
    note(f"note: {visible(text)}")


@contextmanager
def watch(lanes: Sequence[Lane], total: int, *, told: set[str] | None = None) -> Iterator[Callable[[], None]]:
    """Show a run: a live table on a terminal, else a line every half minute, and a bar in a notebook.

    Args:
        lanes: The run's.
        total: Requests of each.
        told: Gets the names of the endpoints of which a line said why they stopped.

    Yields:
        What to call whenever something may have changed.
    """
    at = running()
    with _shown(lanes, total, set() if told is None else told) as update, Stages()("asking models") as report:

        def both() -> None:
            counts = [lane.counts for lane in lanes]
            done, cost = sum(count.done for count in counts), sum(count.cost for count in counts)
            at.tell("asking models", done, total * len(counts), cost=cost)
            report(done, total * len(counts))
            update()

        yield both


@contextmanager
def _shown(lanes: Sequence[Lane], total: int, told: set[str]) -> Iterator[Callable[[], None]]:
    started = time.monotonic()
    if not sys.stderr.isatty():
        yield _Log(lanes, total, started, told)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def update() -> None:
            text = _live_text(lanes, total, time.monotonic() - started, wide=console.width)
            live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

        yield update


class _Log:
    """Writes a line every half minute, and one whenever an endpoint is paused, goes on or is given up."""

    def __init__(self, lanes: Sequence[Lane], total: int, started: float, told: set[str]) -> None:
        self._lanes = lanes
        self._total = total
        self._started = started
        self._said = started
        self._told = told
        self._states = dict.fromkeys((lane.endpoint.name for lane in lanes), "")

    def __call__(self) -> None:
        for lane in self._lanes:
            state = _state(lane, brief=True)
            if state != self._states[lane.endpoint.name]:
                self._states[lane.endpoint.name] = state
                if state not in {"", "done"}:
                    note(f"{visible(lane.endpoint.name)}: {visible(state)}")
                if lane.stopped is not None:
                    self._told.add(lane.endpoint.name)
        now = time.monotonic()
        if now - self._said >= _LINE:
            self._said = now
            counts = [lane.counts for lane in self._lanes]
            note(
                f"{sum(c.done for c in counts):,} of {self._total * len(counts):,} done, "
                f"{sum(c.failed for c in counts):,} failed, {sum(c.in_flight for c in counts)} in flight, "
                f"{sum(c.cost for c in counts):.4f} spent, {now - self._started:.0f} s"
            )


def _state(lane: Lane, *, brief: bool = False) -> str:
    """Say what an endpoint is at."""
    if lane.stopped is not None:
        return f"stopped: {lane.stopped}"
    if lane.waits and lane.pace is not None:
        left = max(0.0, lane.pace.paused_until - time.monotonic())
        why = "does not answer" if lane.pace.failures > 1 else "asks to slow down"
        return f"{why}; paused" if brief else f"{why}; paused for {left:.0f} s"
    return ""


def _live_text(lanes: Sequence[Lane], total: int, seconds: float, *, wide: int) -> str:
    """Lay out where each endpoint is, in so many cells; below, what holds one up."""
    rows = []
    for lane in lanes:
        counts = lane.counts
        asked = counts.done - counts.known
        left = (total - counts.done) * seconds / asked if asked else None
        rows.append(
            [
                lane.endpoint.name,
                f"{counts.done:>{len(f'{total:,}')},}/{total:,}",
                f"{counts.failed:,}",
                f"{counts.in_flight:,}",
                None if lane.pace is None else f"{int(lane.pace.limit):,}",
                f"{counts.tokens / max(seconds, 1e-9):,.0f}",
                _money(counts.cost, counts.cost_unknown),
                None if left is None else _duration(left),
            ]
        )
    heads = ["model", ">done", ">failed", ">in flight", ">at most", ">tokens/s", ">cost", ">left"]
    text, _ = laid_out(heads, rows, wide=wide, one_line=True, optional=["at most", "tokens/s", "cost"])
    states = [(lane.endpoint.name, _state(lane)) for lane in lanes]
    held_up = [f"{visible(name)}: {visible(state)}" for name, state in states if state]
    return text + "\n".join(held_up)


def print_plan(found: Mapping[str, Estimate], notes: Sequence[str]) -> None:
    """Print what a run would do; what is not known is said to be."""
    is_likely_known = any(made.likely_tokens is not None for made in found.values())
    rows = [
        [
            name,
            f"{made.calls:,}",
            f"{made.done:,}",
            _about(made.prompt_tokens),
            _about(made.answer_tokens),
            _cost(made.cost),
            *([_about(made.likely_tokens), _cost(made.likely_cost)] if is_likely_known else []),
            "unknown" if made.minutes is None else _duration(made.minutes * 60),
        ]
        for name, made in found.items()
    ]
    likely = [">likely tokens", ">likely cost"] if is_likely_known else []
    table(
        ["model", ">calls", ">done", ">prompt tokens", ">answer tokens", ">cost", *likely, ">time"],
        rows,
        title="Plan (prompt tokens: an estimate; answer tokens and cost: at most; time: at least; cost in the currency of the prices)",
        optional=["done", "prompt tokens", "answer tokens"],
    )
    failed = sum(made.failed for made in found.values())
    if failed:
        say(
            f"{counted(failed, 'request')} failed before and {'is' if failed == 1 else 'are'} not sent again without "
            "`retry_failed=True`"
        )
    costs = [made.cost for made in found.values()]
    known = [cost for cost in costs if cost is not None]
    total = f"at most {sum(known):.4f}" if len(known) == len(costs) else "unknown"
    calls = counted(sum(made.calls for made in found.values()), "call")
    say(f"{calls} in all; cost {total}; nothing was sent")
    if len(known) < len(costs):
        say(UNPRICED)
    for line in notes:
        note_of(line)


def print_tallies(tallies: Mapping[str, ModelTally]) -> None:
    """Print what is in the pool, and what is missing and why."""
    there = [status for status in _STATUSES if any(tally.statuses[status] for tally in tallies.values())]
    rows = [
        [
            name,
            tally.rows,
            *(tally.statuses[status] or None for status in there),
            f"{tally.completion_tokens:,}",
            _money(tally.cost, tally.cost_unknown),
        ]
        for name, tally in tallies.items()
    ]
    headings = (f">{status.replace('_', ' ')}" for status in there)
    table(["model", ">rows", *headings, ">tokens", ">cost"], rows, title="Answers")
    for name, tally in tallies.items():
        for reason, count in tally.odd.most_common(_SHOWN_REASONS):
            note(
                f"note: {visible(name)}: {counted(count, 'answer')} ended for an unknown reason "
                f"({visible(reason, width=60)}) and {'was' if count == 1 else 'were'} kept; `retry_failed=True` asks again"
            )
    reasons = [
        [name, count, visible(reason, width=300)]
        for name, tally in tallies.items()
        for reason, count in tally.reasons.most_common(_SHOWN_REASONS)
    ]
    if reasons:
        table(
            ["model", ">missing", "why"], reasons, title="Missing (the manifest has all counts and reasons)"
        )


def _about(tokens: float | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,.0f}"


def _cost(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:.4f}"


def _money(cost: float, unknown: int) -> str:
    """Write a sum; a plus says that there are costs that are not known."""
    if unknown and not cost:
        return "unknown"
    return f"{cost:.4f}{'+?' if unknown else ''}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
