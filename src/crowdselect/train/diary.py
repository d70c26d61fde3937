"""The losses of a run: logged as JSONL, summarised at the end, drawn as a picture and as characters."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from crowdselect._optional import optional
from crowdselect.errors import InputError
from crowdselect.progress import Progress
from crowdselect.report.chartspec import LIGHT, theme

Entry = dict[str, Any]
_TIMES = ("_runtime", "_per_second", "num_tokens")  # differ from run to run, or restart when a run is resumed
_LAST = 10  # the last loss is the mean over a tenth of the steps, as single steps are noisy

_HEIGHT = 8  # lines of the drawing on a terminal
_WIDTH = 60  # its columns
_POINTS = 1500  # of a line in the picture; more than its width in pixels
_MARKS = {"loss": ("•", "."), "eval_loss": ("◆", "o")}


class _State(Protocol):
    """The trainer's state."""

    global_step: int
    max_steps: int
    is_world_process_zero: bool
    log_history: list[Entry]


class _Diary:
    """The callback methods that transformers calls."""

    def __init__(self, file: Path, progress: Progress) -> None:
        self.file = file
        self.progress = progress

    def on_train_begin(self, _args: object, state: _State, _control: object, **_more: object) -> None:
        """Start the log with the history in the checkpoint, if there is one."""
        if state.is_world_process_zero:
            write_log(self.file, state.log_history)
            self.progress(state.global_step, state.max_steps)

    def on_log(self, _args: object, state: _State, _control: object, **_more: object) -> None:
        """Append the latest entry."""
        if state.is_world_process_zero and (kept := _entry(state.log_history[-1])):
            with self.file.open("a", encoding="ascii") as stream:
                stream.write(_line(kept))

    def on_step_end(self, args: Any, state: _State, control: Any, **_more: object) -> None:  # noqa: ANN401  (of transformers)
        """Show progress; after the last step, request logging and evaluation."""
        if state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"


def diary(file: Path, progress: Progress) -> Any:  # noqa: ANN401  (a class that needs the extra)
    """Make the callback that writes the log, shows progress, and logs and evaluates after the last step.

    Args:
        file: The JSONL file; entries after a checkpoint are written again when a run resumes from it.
        progress: Called with the steps done and to do.

    Returns:
        A transformers callback.
    """
    base = optional("transformers", extra="train").TrainerCallback
    return type("Diary", (_Diary, base), {})(file, progress)


def write_log(file: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the log of a trainer's history, one line per entry."""
    file.write_text("".join(_line(kept) for one in history if (kept := _entry(one))), encoding="ascii")


def read_log(file: Path) -> list[Entry]:
    """Read a log.

    Raises:
        InputError: It is missing or broken.
    """
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file}: cannot be read as a log of losses ({error}); train again with `overwrite=True`"
        ) from error


def losses(log: Sequence[Entry]) -> dict[str, float | None]:
    """Summarise a log.

    Args:
        log: Entries, in the order of their steps.

    Returns:
        `first_loss`: of the first entry; `last_loss`: mean over the last tenth of the steps; `mean_loss`: over all
        steps; `eval_loss_before` and `eval_loss`: on the held-out rows before the first and after the last step.
        In the objective's own units, lower is better; None if there is no such entry.

    Example:
        >>> losses([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])["mean_loss"]
        1.5
    """
    trained = [(one["step"], one["loss"]) for one in log if one.get("loss") is not None]
    evaluated = [(one["step"], one["eval_loss"]) for one in log if one.get("eval_loss") is not None]
    steps = trained[-1][0] if trained else 0
    weights = [
        step - before
        for before, step in zip([0, *(s for s, _ in trained)], (s for s, _ in trained), strict=False)
    ]
    late = [
        (loss, weight)
        for (step, loss), weight in zip(trained, weights, strict=True)
        if step > steps - max(1, steps // _LAST)
    ]
    return {
        "first_loss": trained[0][1] if trained else None,
        "last_loss": _mean(late),
        "mean_loss": _mean([(loss, weight) for (_, loss), weight in zip(trained, weights, strict=True)]),
        "eval_loss_before": evaluated[0][1] if evaluated and evaluated[0][0] == 0 else None,
        "eval_loss": evaluated[-1][1] if evaluated else None,
    }


def _mean(weighed: list[tuple[float, int]]) -> float | None:
    total = sum(weight for _, weight in weighed)
    return sum(loss * weight for loss, weight in weighed) / total if total else None


def _entry(logged: Mapping[str, Any]) -> Entry:
    """Return the reproducible fields of a log entry; NaN and infinities become null."""
    if not {"loss", "eval_loss"} & logged.keys():
        return {}
    kept = {name: value for name, value in logged.items() if not name.endswith(_TIMES)}
    ordered = {"step": kept.pop("step"), **kept}
    return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in ordered.items()}


def _line(entry: Entry) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def drawn(log: Sequence[Entry]) -> str:
    """Draw the losses with characters, in plain ASCII if the terminal is not UTF-8.

    Args:
        log: Entries, in the order of their steps.

    Returns:
        Lines; each column is the mean of its steps. Empty if there are fewer than two losses.
    """
    series = {name: [(e["step"], e[name]) for e in log if e.get(name) is not None] for name in _MARKS}
    if len(series["loss"]) < 2:
        return ""
    last = max(step for points in series.values() for step, _ in points)
    columns = {name: _columns(points, last) for name, points in series.items()}
    values = [value for line in columns.values() for value in line.values()]
    low, high = min(values), max(values)
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    page = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for name, line in columns.items():
        for column, value in line.items():
            height = 0 if high == low else round((value - low) / (high - low) * (_HEIGHT - 1))
            page[_HEIGHT - 1 - height][column] = _MARKS[name][plain]
    ends = {0: f"{high:.4g}", _HEIGHT - 1: f"{low:.4g}"}
    wide = max(map(len, ends.values()))
    rows = [
        f"{ends.get(at, ''):>{wide}} {'|' if plain else '│'} {''.join(line).rstrip()}"
        for at, line in enumerate(page)
    ]
    held = f", {_MARKS['eval_loss'][plain]} held-out rows" if columns["eval_loss"] else ""
    return "\n".join(
        [*rows, f"{'':>{wide}} loss over {last} steps: {_MARKS['loss'][plain]} training{held}", ""]
    )


def write_curve(log: Sequence[Entry], file: Path, *, title: str) -> None:
    """Write the losses as a PNG.

    Args:
        log: Entries, in the order of their steps.
        file: The PNG.
        title: The title above the plot.

    Raises:
        MissingExtraError: The extra `train` is not installed.
    """
    convert = optional("vl_convert", extra="train")
    spec = {**_spec(log, title), "config": theme(dark=False), "background": "white"}
    file.write_bytes(convert.vegalite_to_png(spec, scale=2))


def _columns(points: Sequence[tuple[int, float]], last: int) -> dict[int, float]:
    by_column: dict[int, list[float]] = {}
    for step, value in points:
        by_column.setdefault(min(_WIDTH - 1, step * _WIDTH // (last + 1)), []).append(value)
    return {column: sum(values) / len(values) for column, values in by_column.items()}


def _spec(log: Sequence[Entry], title: str) -> dict[str, Any]:
    trained = _thinned([{"step": e["step"], "loss": e["loss"]} for e in log if e.get("loss") is not None])
    held = [{"step": e["step"], "loss": e["eval_loss"]} for e in log if e.get("eval_loss") is not None]
    rows = [{**row, "of": "training rows"} for row in trained] + [
        {**row, "of": "held-out rows"} for row in held
    ]
    colour = {
        "field": "of",
        "type": "nominal",
        "title": None,
        "scale": {"domain": ["training rows", "held-out rows"], "range": [LIGHT["pool"], LIGHT["chosen"]]},
        "legend": {"orient": "top-right"} if held else None,
    }
    line = {
        "x": {
            "field": "step",
            "type": "quantitative",
            "title": "step",
            "axis": {"grid": False, "tickMinStep": 1},
        },
        "y": {"field": "loss", "type": "quantitative", "title": "loss", "scale": {"zero": False}},
        "color": colour,
    }
    return {
        "title": {"text": title, "anchor": "start", "fontSize": 13, "fontWeight": "normal"},
        "width": 560,
        "height": 260,
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": line},
            {
                "transform": [{"filter": "datum.of == 'held-out rows'"}],
                "mark": {"type": "point", "filled": True, "size": 35, "opacity": 1},
                "encoding": line,
            },
        ],
    }


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reduce to as many points as are visible, each the mean of its neighbours."""
    step = -(-len(rows) // _POINTS)
    groups = [rows[at : at + step] for at in range(0, len(rows), max(1, step))]
    return [
        {"step": group[-1]["step"], "loss": sum(r["loss"] for r in group) / len(group)} for group in groups
    ]
