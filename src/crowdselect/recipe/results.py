"""The results of a recipe: one row per run, as JSON and as a page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crowdselect import __version__
from crowdselect.evaluate.measures import MEASURES
from crowdselect.recipe.graph import MeasuredModel, Step, StepGraph
from crowdselect.recipe.reading import ARGUMENTS, plain_name
from crowdselect.recipe.running import RunSummary
from crowdselect.recipe.store import LOG, SAID, Done, Store
from crowdselect.writing import new_file, read_manifest

TABLE = "table.json"
PAGE = "index.html"

_LOSSES = ("mean_loss", "last_loss", "eval_loss_before", "eval_loss")


def gather(graph: StepGraph, store: Store, summary: RunSummary) -> dict[str, Any]:
    """Read the steps' outputs.

    Args:
        graph: The steps.
        store: Their results.
        summary: Which steps were done, failed or skipped.

    Returns:
        Plain values. `steps`: each with its state and folder; `selections`: rows and figures; `runs`: one per
        model, with losses, and per benchmark the score with its 95 % interval; `differences`: methods against
        random selections (all pairs if there are none), paired over questions. Paths are relative to the
        results' folder; None = unknown or not done.
    """
    return {
        "version": __version__,
        "recipe": graph.recipe.path.name,
        "steps": [_step(step, store, summary) for step in graph.steps],
        "selections": _selections(graph, store),
        "runs": [_run(run, graph, store) for run in _all_runs(graph)],
        "differences": [
            found
            for benchmark, steps in graph.comparisons.items()
            for step in steps
            if (found := _differences(benchmark, step, store)) is not None
        ],
    }


def write_results(found: Mapping[str, Any], folder: Path) -> Path:
    """Write `table.json` and the page; return the page's path."""
    from crowdselect.recipe.page import results_page

    with new_file(folder / TABLE) as partial:
        partial.write_text(json.dumps(found, indent=2, ensure_ascii=True) + "\n", encoding="ascii")
    with new_file(folder / PAGE) as partial:
        partial.write_text(results_page(found), encoding="utf-8")
    return folder / PAGE


def print_results(found: Mapping[str, Any]) -> None:
    """Print one row per run, and the differences in their unit; what weakens them is warned of once."""
    from crowdselect.report.page import number
    from crowdselect.terminal import table, warn

    def scored(value: float | None, ends: Any) -> str:  # noqa: ANN401  (two numbers or None)
        return number(value) + ("" if ends is None else f" ({number(ends[0])} to {number(ends[1])})")

    names = list(dict.fromkeys(name for run in found["runs"] for name in run["results"]))
    if found["runs"]:
        rows = []
        for run in found["runs"]:
            results = [run["results"].get(name) for name in names]
            cells = [None if one is None else scored(one["score"], one["interval"]) for one in results]
            losses = run["losses"] or {}
            rows.append(
                [
                    run["run"],
                    run["rows"],
                    number(losses.get("last_loss")),
                    number(losses.get("eval_loss")),
                    *cells,
                ]
            )
        table(
            ["run", ">rows", ">training: last tenth", ">training: held out", *(f">{name}" for name in names)],
            rows,
        )
    for one in found["differences"]:
        lines = [
            [d["one"], d["other"], scored(d["difference"], d["interval"]), d["verdict"]]
            for d in one["differences"]
        ]
        table(
            ["method", "minus", ">difference (95 % interval)", "so the first is"],
            lines,
            title=f"{one['benchmark']}: {one['unit']}",
        )
    for text in dict.fromkeys(text for one in found["differences"] for text in one["notes"]):
        warn(text)
    if not found["runs"] and found["selections"]:
        reward = [(one["figures"] or {}).get("answer_reward") for one in found["selections"]]
        lines = [
            [one["selection"], one["rows"], number(mean)]
            for one, mean in zip(found["selections"], reward, strict=True)
        ]
        table(["selection", ">rows", ">reward of the answers, mean"], lines)


def _step(step: Step, store: Store, summary: RunSummary) -> dict[str, Any]:
    done = store.done(step)
    state = "done"
    for name, steps in (
        ("failed", summary.failed),
        ("left out", summary.skipped),
        ("incomplete", summary.missing),
    ):
        state = name if step in steps else state
    folder = store.place(step) if store.key(step) is not None else None
    known = folder is not None and folder.is_dir()
    return {
        "step": step.title,
        "command": step.section.replace(".", " "),
        "state": state,
        "made_now": step in summary.made,
        "seconds": None if done is None else done.seconds,
        "output": None if done is None else _relative(done.path, store),
        "log": _relative(folder / LOG, store) if known and folder is not None else None,
    }


def _selections(graph: StepGraph, store: Store) -> list[dict[str, Any]]:
    """Return every selection with its number of rows, and its figures from `compare`."""
    figures: dict[str, Mapping[str, Any]] = {}
    for step in graph.steps:
        if step.section == "compare" and (printed := _printed(step, store)) is not None:
            figures |= {side["name"]: side for side in printed["selections"]}
    rows = []
    for step in graph.selections:
        done = store.done(step)
        manifest = read_manifest(done.path) if done is not None else None
        side = figures.get(step.title, {})
        rows.append(
            {
                "selection": step.title,
                "folder": None if done is None else _relative(done.path, store),
                "report": _relative(report, store) if (report := _report(done)) is not None else None,
                "rows": None if manifest is None else manifest["counts"].get("selected"),
                "simulated": None if manifest is None else manifest["facts"]["simulated"],
                "figures": side.get("figures"),
                "beyond_random": side.get("beyond_random"),
                "warnings": [] if manifest is None else manifest["warnings"],
            }
        )
    return rows


def _report(done: Done | None) -> Path | None:
    place = None if done is None else done.path / "report.html"
    return place if place is not None and place.exists() else None


def _all_runs(graph: StepGraph) -> list[MeasuredModel]:
    """Return the trained models, and those that the recipe names."""
    measured = [run for results in graph.results.values() for run, _ in results]
    return list({run.title: run for run in (*graph.runs, *measured)}.values())


def _run(run: MeasuredModel, graph: StepGraph, store: Store) -> dict[str, Any]:
    step = run.model if isinstance(run.model, Step) else None
    done = store.done(step) if step is not None else None
    printed = _printed(step, store) if step is not None else None
    chosen = run.selection
    settings = {} if step is None else {n: v for n, v in step.options.items() if n != ARGUMENTS["train"]}
    return {
        "run": run.title,
        "method": plain_name(run.group),
        "selection": chosen.title if isinstance(chosen, Step) else chosen,
        "rows": None if printed is None else printed["plan"]["rows"],
        "training": settings or None,
        "model": run.model
        if isinstance(run.model, str)
        else None
        if done is None
        else _relative(done.path, store),
        "losses": None if printed is None else {name: printed["losses"][name] for name in _LOSSES},
        "warnings": [] if printed is None else printed["warnings"],
        "results": {
            name: _result(own, store)
            for name, results in graph.results.items()
            for other, own in results
            if other.title == run.title
        },
    }


def _result(step: Step, store: Store) -> dict[str, Any] | None:
    done, printed = store.done(step), _printed(step, store)
    if done is None or printed is None:
        return None
    wanted = printed["verdicts"] if "verdicts" in printed else printed["rows"]
    return {
        "score": printed["score"],
        "interval": printed["interval"],
        "unit": printed["unit"],
        "questions": printed["questions_scored"],
        "missing": wanted["missing"],
        "wanted": wanted["wanted"],
        "of": "verdicts" if "verdicts" in printed else printed["resampling"]["of"],
        "judge": printed["judge"],
        "baseline": printed["baseline"],
        "mean_tokens": (printed.get("lengths") or {}).get("mean_tokens"),
        "self_check": printed.get("self_check"),
        "folder": _relative(done.path, store),
    }


def _differences(benchmark: str, step: Step, store: Store) -> dict[str, Any] | None:
    done, printed = store.done(step), _printed(step, store)
    if done is None or printed is None:
        return None
    return {
        "benchmark": benchmark,
        "against": step.against,
        "unit": printed["unit"],
        "of": MEASURES[printed["benchmark"]].of,
        "standings": printed["standings"],
        "differences": printed["differences"],
        "notes": printed["notes"],
        "page": _relative(done.path, store),
    }


def _printed(step: Step, store: Store) -> Any:  # noqa: ANN401  (the command's JSON)
    """Read the JSON that a finished step printed; None if it is not finished."""
    done = store.done(step)
    return None if done is None else json.loads((done.folder / SAID).read_text(encoding="utf-8"))


def _relative(path: Path, store: Store) -> str:
    return path.relative_to(store.folder).as_posix()
