"""What a recipe would do: the steps, done or to do, and what they cost where the commands can tell."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from crowdselect.ask.budget import check_cost_cap
from crowdselect.ask.endpoints import load_endpoints
from crowdselect.errors import OptionError
from crowdselect.progress import Progress
from crowdselect.recipe.graph import Graph, Step
from crowdselect.recipe.running import ask, command_line, prints_json
from crowdselect.recipe.store import Store

_ASKED = ("model", "baseline", "judge")  # options that may name somebody of a crowd file


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


def check_prices(step: Step, folder: Path) -> None:
    """Refuse a cap on money where the crowd file lacks a price: now, and not when the steps before it are done.

    Args:
        step: Any.
        folder: Where relative paths begin.

    Raises:
        CrowdselectError: A price is unknown, or the crowd file is not what it should be.
    """
    values = step.values()
    cap = values.get("max-cost")
    for name in _ASKED if cap is not None else ():
        file, _, wanted = str(values.get(name) or "").rpartition("#")
        if not file.endswith(".toml"):
            continue
        found = load_endpoints(folder / file)
        known = found.judges if name == "judge" else found.models
        # How long an answer may be is set by the command where the file does not say it.
        asked = [replace(one, max_tokens=one.max_tokens or 1) for one in known if one.name == wanted]
        try:
            check_cost_cap(tuple(asked), cap)
        except OptionError as error:
            raise OptionError(f"{step.where}: {error}") from error


def make_plan(graph: Graph, store: Store, *, all_priced: bool, progress: Progress) -> list[Line]:
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


def _line(step: Step, graph: Graph, store: Store, scratch: Path | None) -> Line:
    if store.is_whole(step):
        return Line(step, "done")
    done = store.done(step)
    if done is None and store.key(step) is None:
        after = next(one for one in step.needs if store.done(one) is None)
        return Line(step, "waiting", f"known after {after.title}" if _tells(step) else "")
    state = "to do" if done is None else "incomplete"
    if scratch is None or not _tells(step):
        return Line(step, state, "--plan says what" if _tells(step) else "")
    facts, problem = _asked(step, graph, store, scratch)
    return Line(step, state, problem if facts is None else _SAYINGS[step.section](facts), facts)


def _tells(step: Step) -> bool:
    """Whether its command can say what it costs; baselines may ask a judge."""
    return step.section in _SAYINGS or "judge" in step.options


def _asked(step: Step, graph: Graph, store: Store, scratch: Path) -> tuple[Mapping[str, Any] | None, str]:
    """Have the command itself say what it would do."""
    ended = ask(command_line(step, store, scratch, plan=True), cwd=graph.recipe.folder)
    said = [line for line in ended.stderr.splitlines() if line.strip()]
    if ended.returncode:
        return None, said[-1] if said else f"unknown: its plan ended with {ended.returncode}"
    if not prints_json(step.section):
        return None, said[-1] if said else ""
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
