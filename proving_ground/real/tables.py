"""The results as tables in Markdown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Literal

import numpy as np

from crowdselect.evaluate.comparison import HIGHER, LOWER, MethodComparison, MethodScore, compare
from crowdselect.evaluate.held_out import BANDS
from crowdselect.evaluate.measures import MEASURES
from crowdselect.evaluate.outcome import Loaded, MethodRuns
from crowdselect.evaluate.scores import Cells
from proving_ground.real.design import RANDOM, WAYS, order
from proving_ground.real.results import BASE, Record, Results, run_name
from proving_ground.tables import show, table

Measure = Literal["loss", "prefers"]
MEASURED: Mapping[Measure, str] = {"loss": "Loss", "prefers": "Prefers"}
_DIGITS: Mapping[Measure, int] = {"loss": 4, "prefers": 1}
_SUMMARY = (
    "Mean over the seeds on the held-out questions. Loss: nats per token of a right answer, lower is better. Prefers: questions on which a "
    "right answer is likelier than a wrong one. Told apart: by Holm over the ways with two seeds or more, and each run on the same side of "
    "each run of random."
)
BEFORE = "before training"
TOLD_APART, NOT_TOLD, ONE_SEED = "told apart", "not told apart", "one seed"


def write(results: Results) -> None:
    """Write `tables.md` beside the results, and their summary into the docs."""
    (results.folder / "tables.md").write_text(page(results), encoding="utf-8")
    show("real model", finding(results))


def finding(results: Results) -> str:
    """Write the summary for the docs: the table that decides, and what has not been run."""
    runs = runs_of(results)
    missing = [
        f"{way} ({len(runs.get(way, []))} of {count} seeds)"
        for way, count in Counter(way for way, _ in order()).items()
        if len(runs.get(way, [])) < count
    ]
    not_run = f"**Not run, or not in full:** {', '.join(missing) or 'nothing'}."
    shown = summary(results) if RANDOM in runs else "No run has ended yet."
    return f"{shown}\n\n{not_run}"


def page(results: Results) -> str:
    """Make the page; what has not been run is said."""
    head = (
        "# Tables of the real model\n\nMade by `python -m proving_ground.real tables`; what the words mean is in ../protocol.md. "
        "Intervals are of 95 %."
    )
    runs = runs_of(results)
    parts = [head, _progress(runs, results)]
    if BASE in results and RANDOM in runs:
        base = results[BASE]
        parts += [
            _chosen(runs),
            f"## Before and after\n\n{_SUMMARY}\n\n{summary(results)}",
            _each_seed(base, runs),
            *(_parts(base, runs, measure) for measure in MEASURED),
        ]
    return "\n\n".join(parts) + "\n"


def runs_of(results: Results) -> dict[str, list[Record]]:
    """Return way → the records of its runs, in the order of their seeds; ways without a run are left out."""
    found: dict[str, list[Record]] = {way: [] for way in WAYS}
    for way, seed in sorted(order(), key=lambda run: run[1]):
        if run_name(way, seed) in results:
            found[way].append(results[run_name(way, seed)])
    return {way: records for way, records in found.items() if records}


def summary(results: Results) -> str:
    """Make the table that decides: both measures, before and after, and whether a way is told apart from random."""
    base, runs = results[BASE], runs_of(results)
    by_measure = {measure: compared(base, runs, measure) for measure in MEASURED}
    rows = []
    for way in (BEFORE, *runs):
        cells = [way, str(len(runs.get(way, [])) or "")]
        for measure, found in by_measure.items():
            standing = next(one for one in found.standings if one.name == way)
            cells += [_number(standing.score, measure), *_to_random(found, way, measure)]
        rows.append(cells)
    head = ["way", "seeds"]
    for name in ("loss", "prefers, %"):
        head += [name, "to random", "told apart"]
    return table(head, rows)


def compared(
    base: Record,
    runs: Mapping[str, Sequence[Record]],
    measure: Measure,
    part: str | None = None,
) -> MethodComparison:
    """Compare all ways with random, as `evaluate compare` does; and, without correction, the model before training.

    Args:
        base: The record of the model before training.
        runs: Way → its records.
        measure: Which.
        part: Only the questions of this task or band.
    """
    groups = [_group(way, records, base, measure, part) for way, records in runs.items()]
    found = compare([*groups, _group(BEFORE, [base], base, measure, part)], against=RANDOM)
    several = [group for group in groups if len(group.runs) > 1]
    if len(several) < 2 or RANDOM not in [group.name for group in several]:
        return found
    corrected = {one.one: one for one in compare(several, against=RANDOM).differences}
    differences = [corrected.get(one.one, one) for one in found.differences]
    return replace(found, differences=differences)


def verdict(found: MethodComparison, way: str) -> str:
    """Say whether a way is told apart from random, by the protocol's rule."""
    own, random = (next(one for one in found.standings if one.name == name) for name in (way, RANDOM))
    if min(own.runs, random.runs) < 2:
        return ONE_SEED
    (difference,) = [one for one in found.differences if one.one == way]
    gap = _gap(own, random) if difference.verdict in {HIGHER, LOWER} else 0.0
    return TOLD_APART if gap > 0 else NOT_TOLD


def _gap(one: MethodScore, other: MethodScore) -> float:
    """Return how far apart the nearest runs of two methods are; at most 0 where they overlap."""
    assert one.lowest is not None
    assert one.highest is not None
    assert other.lowest is not None
    assert other.highest is not None
    return max(other.lowest - one.highest, one.lowest - other.highest)


def _group(
    name: str, records: Sequence[Record], base: Record, measure: Measure, part: str | None
) -> MethodRuns:
    """Lay records out as `evaluate compare` reads results."""
    inside = np.array([part in {None, *of} for of in zip(base["tasks"], base["bands"], strict=True)])
    loaded = []
    for record in records:
        values = np.array(record[measure], dtype=np.float64)  # None is NaN
        weights = np.isfinite(values) * (np.array(base["tokens"]) if measure == "loss" else 1.0)
        sums = np.nan_to_num(values) * weights
        cells = Cells(tuple(base["ids"]), tuple(base["tasks"]), sums[:, None], weights[:, None])
        loaded.append(Loaded(name, measure, name, None, None, {}, MEASURES[measure].unit, cells.only(inside)))
    return MethodRuns(name, tuple(loaded))


def _progress(runs: Mapping[str, Sequence[Record]], results: Results) -> str:
    wanted = Counter(way for way, _ in order())
    rows = [
        [way, f"{len(runs[way])} of {count}" if way in runs else "not run"] for way, count in wanted.items()
    ]
    took = (
        f"{results.cpu_seconds():,.0f} seconds of processor time in all, with the readings before training."
    )
    return f"## What has been run\n\n{took}\n\n{table(['way', 'seeds'], rows)}"


def _chosen(runs: Mapping[str, Sequence[Record]]) -> str:
    tasks = sorted({task for records in runs.values() for record in records for task in record["tasks"]})
    numbers = ("rows", "tokens", "answer_tokens", "steps", "limit", "cut")
    rows = []
    for way, records in runs.items():
        means = [f"{mean(record[name] for record in records):,.0f}" for name in numbers]
        shares = [
            f"{100 * mean(record['tasks'].get(task, 0) / record['rows'] for record in records):.0f}"
            for task in tasks
        ]
        rows.append([way, *means, *shares])
    head = [
        "way",
        "rows",
        "tokens",
        "of answers",
        "steps",
        "most tokens of a row",
        "rows cut",
        *(f"{task}, %" for task in tasks),
    ]
    return f"## What was trained on\n\nMean over the seeds.\n\n{table(head, rows)}"


def _each_seed(base: Record, runs: Mapping[str, Sequence[Record]]) -> str:
    seeds = sorted({record["seed"] for records in runs.values() for record in records})
    rows = []
    for way, records in runs.items():
        cells = [way]
        for measure in MEASURED:
            by_seed = {
                record["seed"]: compared(base, {RANDOM: [record]}, measure).standings[0].score
                for record in records
            }
            cells += [_number(by_seed[seed], measure) if seed in by_seed else "not run" for seed in seeds]
        rows.append(cells)
    head = ["way", *(f"{measure}, seed {seed}" for measure in MEASURED for seed in seeds)]
    return f"## Each seed\n\n{table(head, rows)}"


def _parts(base: Record, runs: Mapping[str, Sequence[Record]], measure: Measure) -> str:
    names = [*sorted(set(base["tasks"])), *BANDS]
    of = [*base["tasks"], *base["bands"]]
    found = [compared(base, runs, measure, name) for name in names]
    rows = []
    for way in (BEFORE, *runs):
        scores = [
            next(_number(one.score, measure) for one in each.standings if one.name == way) for each in found
        ]
        differences = [_to_random(each, way, measure)[0] for each in found]
        rows.append(
            [
                way,
                *(
                    f"{score} ({to_random})" if to_random else score
                    for score, to_random in zip(scores, differences, strict=True)
                ),
            ]
        )
    counts = [f"{name} ({of.count(name)})" for name in names]
    note = "By task and by third of the crowd's difficulty, with the difference to random and its interval, not corrected. Nothing is decided by this."
    return f"## {MEASURED[measure]}, by part\n\n{note}\n\n{table(['way', *counts], rows)}"


def _to_random(found: MethodComparison, way: str, measure: Measure) -> list[str]:
    """Write the difference to random with its interval, and whether it is told apart."""
    if way == RANDOM:
        return ["", ""]
    (one,) = [each for each in found.differences if each.one == way]
    if one.difference is None or one.interval is None:
        return ["", ""]
    digits = _DIGITS[measure]
    low, high = one.interval
    text = f"{one.difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return [text, "" if way == BEFORE else verdict(found, way)]


def _number(value: float | None, measure: Measure) -> str:
    return "" if value is None else f"{value:.{_DIGITS[measure]}f}"
