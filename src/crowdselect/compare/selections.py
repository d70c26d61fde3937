"""Compares selections of one pool with each other, and with random selections of the same size."""

import math
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.compare.facts import (
    Chance,
    Facts,
    Pick,
    by_chance,
    chance_of,
    check_one_crowd,
    figure_words,
    figures_of,
    mean_mixes,
    mixes_of,
    overlap_of,
    pick_of,
    read_answers,
    read_pool,
    read_vectors,
    standard,
    universe,
)
from crowdselect.crowd import Crowd
from crowdselect.errors import InputError, OptionError
from crowdselect.lengths import CHARACTERS
from crowdselect.methods import METHODS, Entry
from crowdselect.pool.pool import Pool
from crowdselect.pool.rewards import are_respelt
from crowdselect.progress import Progress
from crowdselect.report.page import render
from crowdselect.selection.folder import load_selection
from crowdselect.selection.methods import method_of
from crowdselect.selection.quota import read_quota
from crowdselect.selection.selection import Selection, samples_of, score_line
from crowdselect.selection.texts import reopen_pool
from crowdselect.terminal import counted
from crowdselect.types import FloatArray
from crowdselect.writing import read_manifest

_VALUES = 12  # values shown per mix; the rest are one line
_WIDE, _LANE = 240, 18  # pixels: the width of a strip of dots, the height of a lane
_DOT = 8  # its radius


@dataclass(frozen=True, slots=True)
class Side:
    """One selection and its figures."""

    name: str
    """The folder as given, or its name."""
    method: str
    """What its score is computed from."""
    figures: Mapping[str, float | None]
    """Figure → value; None if not known. The names are the keys of `crowdselect.compare.facts.figure_words`."""
    mixes: Mapping[str, Mapping[str, float]]
    """`models` and the columns of `MIXES` → value → share of the rows."""
    warnings: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    """Its bands."""
    quota: str | None = None
    """Its quota by a column."""


@dataclass(frozen=True, slots=True)
class SelectionComparison:
    """A comparison of selections."""

    pool: Mapping[str, Any]
    """Path, fingerprint, number of instructions, and whether it is simulated."""
    sides: tuple[Side, ...]
    """The selections in the order given, without the random ones that `chance` is computed from."""
    random: str
    """What the random selections are."""
    chance: Mapping[str, Chance]
    """Figure → its distribution over random selections."""
    random_mixes: Mapping[str, Mapping[str, float]]
    names: tuple[str, ...]
    """The selections of the overlap; seeds of one random method count as one."""
    overlap: FloatArray
    """Rows that two of them share, shape (S, S); for seeds the mean over pairs of different seeds."""
    jaccard: FloatArray
    """Jaccard index of each pair, shape (S, S), in [0, 1]; means likewise."""
    expected: FloatArray
    """Rows that two random selections of these sizes would share on average, shape (S, S)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Unit, embedder, clusters and so on."""
    problems: tuple[str, ...] = ()
    """What could not be computed, and why."""
    numbers: tuple[str, ...] = ()
    """Numbers besides the metrics that have a weight or a band in a selection; they are figures too."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "pool": dict(self.pool),
            "settings": dict(self.settings),
            "random": self.random,
            "figures": figure_words(self.numbers),
            "selections": [
                {
                    "name": side.name,
                    "method": side.method,
                    "keep": list(side.keep),
                    "quota": side.quota,
                    "figures": dict(side.figures),
                    "beyond_random": {
                        name: self.chance[name].beyond(value)
                        for name, value in side.figures.items()
                        if value is not None and name in self.chance
                    },
                    "mixes": {name: dict(mix) for name, mix in side.mixes.items()},
                    "warnings": list(side.warnings),
                }
                for side in self.sides
            ],
            "chance": {
                name: {"mean": c.mean, "spread": c.spread, "low": c.low, "high": c.high}
                for name, c in self.chance.items()
            },
            "random_mixes": {name: dict(mix) for name, mix in self.random_mixes.items()},
            "overlap": {
                "names": list(self.names),
                "rows": self.overlap.tolist(),
                "expected_by_chance": self.expected.tolist(),
                "jaccard": self.jaccard.tolist(),
            },
            "problems": list(self.problems),
        }


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Remove the parent folder that all names share.

    Args:
        names: As in `SelectionComparison.names`.

    Returns:
        Name → short name.

    Example:
        >>> short_names(["runs/a", "runs/random (5 seeds)"])
        {'runs/a': 'a', 'runs/random (5 seeds)': 'random (5 seeds)'}
        >>> short_names(["runs/a", "b"])
        {'runs/a': 'runs/a', 'b': 'b'}
    """
    parents = {name.rstrip("/").rpartition("/")[0] for name in names}
    if len(parents) > 1:
        return {name: name for name in names}
    return {name: name.rstrip("/").rpartition("/")[2] for name in names}


def compare(
    folders: Sequence[str],
    *,
    names: Sequence[str] = (),
    pool: str | None = None,
    crowd: Crowd | None = None,
    unit: str = CHARACTERS,
    embedder: str = "lsa",
    clusters: int = 10,
    near: float = 0.9,
    mixes: Sequence[str] = (),
    draws: int = 20,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> SelectionComparison:
    """Compare selections with each other and with random ones.

    Args:
        folders: Folders of `select`, all of one pool; a folder with several seeds means all of them.
        names: A name for each; none = its path.
        pool: Where the pool is now; None = the path in the manifests.
        crowd: Family and size of the models, for the stability of all rows; None = the one that all
            selections were made with.
        unit: Unit of lengths: "characters", or a tokenizer (see `crowdselect.lengths.counter`).
        embedder: The embedder for distances and clusters of all selections, whatever they were made with.
        clusters: Number of clusters of all rows.
        near: Two rows with a cosine above this are near-duplicates.
        mixes: Columns whose mix is shown besides those of `MIXES` and of quotas.
        draws: Number of random selections to draw if fewer than two of `folders` are random: as many rows, from those
            eligible for one of the selections, with its answers and by its quota. That one is made by CrowdSelect if
            possible, with the most eligible rows, independent of the order of `folders`; `random` names it.
        seed: Seed of draws, clusters and `lsa`.
        cache: Store vectors for later runs.
        progress: Called with the number of texts embedded.

    Returns:
        Figures, their spread over random selections, and overlaps.

    Raises:
        InputError: A folder is not a selection, or they are of different pools, or made with different crowds and
            none is named; or `pool` lacks their ids.
        OptionError: A folder is named twice, or an option is invalid.
    """
    _check(folders, names, draws=draws, clusters=clusters)
    called = _expanded(dict(zip(folders, names or folders, strict=True)), folders)
    selections = [load_selection(path) for path in called]
    names = list(called.values())
    _check_one_pool(names, selections, pool)
    if crowd is None:
        check_one_crowd(selections, names)
    order = standard(selections, names)
    first = selections[order[0]]
    facts = universe([selections[place] for place in order])
    picks = [pick_of(facts, selection) for selection in selections]
    entries = _entries(names, selections)
    reference = _reference(entries, selections, quota=first.options.get("quota"))
    size = len(picks[order[0]].rows)
    chance_picks = (
        [picks[place] for place in entries[reference]]
        if reference
        else _random_picks(facts, first, draws=draws, seed=seed)
    )
    with_quota = "" if first.options.get("quota") is None else " and its quota"
    random_selections = (
        reference
        or f"{draws} draws of {size} rows that {names[order[0]]} could choose, with its answers{with_quota}"
    )
    if not reference and picks[order[0]].fits is not None:
        random_selections += " (the best-rewarded ones, as fits are of chosen rows)"
    opened_pool = _reopened(facts, first, pool, crowd)
    if opened_pool is not None:
        with closing(opened_pool):
            shown = [*mixes, *(name for name in _quota_columns(selections) if name in opened_pool.columns)]
            read_pool(facts, opened_pool, first, unit=unit, mixes=shown, crowd=crowd)
            read_vectors(
                facts,
                opened_pool,
                embedder=embedder,
                clusters=clusters,
                seed=seed,
                cache=cache,
                progress=progress,
            )
            read_answers(facts, opened_pool, [*picks, *chance_picks], unit=unit)
    random_figures = [figures_of(facts, pick, near=near) for pick in chance_picks]
    overlap, jaccard, expected = overlap_of(list(entries.values()), selections, picks)
    return SelectionComparison(
        pool={
            "path": pool or first.facts["pool"],
            "instructions": len(facts.ids),
            **{name: first.facts[name] for name in ("fingerprint", "simulated")},
        },
        sides=tuple(
            _side(facts, name, [(selections[i], picks[i]) for i in places], near=near)
            for name, places in entries.items()
            if name != reference
        ),
        random=random_selections,
        chance={
            name: chance_of([found[name] for found in random_figures]) for name in by_chance(random_figures)
        },
        random_mixes=mean_mixes([mixes_of(facts, pick) for pick in chance_picks]),
        names=tuple(entries),
        overlap=overlap,
        jaccard=jaccard,
        expected=expected,
        settings={"selections": len(names), "unit": unit, "near": near, "seed": seed, **facts.settings},
        problems=tuple(facts.problems),
        numbers=facts.numbers,
    )


def _check(folders: Sequence[str], names: Sequence[str], *, draws: int, clusters: int) -> None:
    if names and len(names) != len(folders):
        raise OptionError(
            f"`names` has {counted(len(names), 'name')} for {counted(len(folders), 'selection')}; give one for each, or none"
        )
    if draws < 2:
        raise OptionError(f"`draws` is {draws}; wanted at least 2, for a standard deviation")
    if clusters < 1:
        raise OptionError(f"`clusters` is {clusters}; wanted at least 1")


def _quota_columns(selections: Sequence[Selection]) -> list[str]:
    """The columns by which the selections have quotas."""
    quotas = [read_quota(one.options.get("quota")) for one in selections]
    return [quota.column for quota in quotas if quota is not None]


def _reopened(facts: Facts, first: Selection, path: str | None, crowd: Crowd | None) -> Pool | None:
    """Open the pool; a failure is noted in the comparison, or raised if a crowd needs the pool's rewards."""
    opened, problem = reopen_pool(first, path)
    if problem is not None:
        facts.problems.append(problem)
    if crowd is not None and opened is None:
        raise InputError(f"{crowd.origin}: no other crowd can be used: {problem}")
    return opened


def _side(facts: Facts, name: str, own: Sequence[tuple[Selection, Pick]], *, near: float) -> Side:
    """Return the figures of one selection, or the means of several of one method."""
    figures = [figures_of(facts, pick, near=near) for _, pick in own]
    means = {
        figure: None
        if any(one[figure] is None for one in figures)
        else math.fsum(float(one[figure] or 0) for one in figures) / len(figures)
        for figure in figures[0]
    }
    warnings = own[0][0].warnings if len(own) == 1 else ()
    return Side(
        name,
        score_line(own[0][0].options),
        means,
        mean_mixes([mixes_of(facts, pick) for _, pick in own]),
        warnings,
        tuple(own[0][0].options.get("keep") or ()),
        own[0][0].options.get("quota"),
    )


def _expanded(called: Mapping[str, str], folders: Sequence[str]) -> dict[str, str]:
    """Return folder → name; a folder with `seed-0`, `seed-1`, ... is replaced by these."""
    pairs: list[tuple[str, str]] = []
    for folder in folders:
        inner = sorted(Path(folder).glob("seed-*")) if read_manifest(Path(folder)) is None else []
        own = [
            (str(path), f"{called[folder]}/{path.name}") for path in inner if read_manifest(path) is not None
        ]
        pairs += own or [(str(folder), str(called[folder]))]
    for at in (0, 1):
        twice = [named for named, count in Counter(pair[at] for pair in pairs).items() if count > 1]
        if twice:
            raise OptionError(f"{twice[0]} is named twice; name each selection once")
    return dict(pairs)


def _check_one_pool(names: Sequence[str], selections: Sequence[Selection], pool: str | None) -> None:
    first = selections[0].facts["fingerprint"]
    for name, selection in zip(names, selections, strict=True):
        if pool is None and selection.facts["fingerprint"] != first:
            raise InputError(
                f"{name}: made from another pool ({selection.facts['pool']}) than {names[0]} "
                f"({selections[0].facts['pool']}); compare selections of one pool, or say with `pool` where it is now"
            )
        own, known = (one.table["id"].combine_chunks() for one in (selection, selections[0]))
        if are_respelt(own, known):
            raise InputError(
                f"{name}: no instruction in common with {names[0]}: its ids are written as {own[0].as_py()!r}, those as "
                f"{known[0].as_py()!r}; one of them was made by an earlier version: select again"
            )


def _entries(names: Sequence[str], selections: Sequence[Selection]) -> dict[str, list[int]]:
    """Group selections by name; drawn ones that differ only in their seed are one, named after their folder."""
    groups: dict[str, list[int]] = {}
    for place, selection in enumerate(selections):
        own = f"{place}"
        entry = _entry(selection)
        if entry is not None and entry.drawn:
            own = repr(sorted((name, value) for name, value in selection.options.items() if name != "seed"))
        groups.setdefault(own, []).append(place)
    found: dict[str, list[int]] = {}
    for places in groups.values():
        parents = {str(Path(names[place]).parent) for place in places}
        shared = (
            parents.pop()
            if len(parents) == 1 and "." not in parents
            else method_of(selections[places[0]].options)
        )
        name = names[places[0]] if len(places) == 1 else f"{shared} ({len(places)} seeds)"
        found[name if name not in found else f"{name}, from {names[places[0]]}"] = places
    return found


def _entry(selection: Selection) -> Entry | None:
    """The record of a selection's method; None for the crowd's, and for one that is not in the registry."""
    return METHODS.get(method_of(selection.options))


def _reference(
    entries: Mapping[str, list[int]], selections: Sequence[Selection], *, quota: str | None
) -> str | None:
    """Choose the random selections to compare with: those with this quota, plain ones before clustered ones, then the most seeds."""
    methods = {name: _entry(selections[places[0]]) for name, places in entries.items() if len(places) > 1}
    several = [name for name, entry in methods.items() if entry is not None and entry.control]

    def order(name: str) -> tuple[bool, bool, int, str]:
        one = selections[entries[name][0]]
        return one.options.get("quota") != quota, bool(one.facts["quotas"]), -len(entries[name]), name

    return min(several, key=order, default=None)


def _random_picks(facts: Facts, first: Selection, *, draws: int, seed: int) -> list[Pick]:
    """Draw random selections from the eligible rows of `first` by its quota, to compare with if no selections are random."""
    import pyarrow as pa

    table = first.table.filter(pa.array(first.eligible))
    ids, models = table["id"].to_pylist(), table["model"].to_pylist()
    rewards, samples = table["reward"].to_numpy(), samples_of(table)
    strata, chosen = first.strata[first.eligible], table["selected"].to_numpy()
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata[chosen])]
    rng = np.random.default_rng(seed)
    picks = []
    for _ in range(draws):
        drawn = np.sort(
            np.concatenate([rng.choice(own, size=int(chosen[own].sum()), replace=False) for own in members])
        )
        rows = np.array([facts.place[ids[row]] for row in drawn], dtype=np.int64)
        taken, numbers = (tuple(column[row] for row in drawn) for column in (models, samples))
        picks.append(Pick(rows, taken, numbers, rewards[drawn]))
    return picks


# The page


def comparison_page(comparison: SelectionComparison, *, made: Mapping[str, Any] | None = None) -> str:
    """Write a comparison as one page; its template is `compare.html`, see `crowdselect.report.page`.

    Args:
        comparison: From `compare`.
        made: As for `crowdselect.report.page.render`.

    Returns:
        A complete HTML document without scripts. Names and values from pools are shown as text.
    """
    short = short_names(comparison.names)
    sides = [
        {
            "letter": _letter(at),
            "name": short[side.name],
            "method": side.method,
            "keep": side.keep,
            "quota": side.quota,
        }
        for at, side in enumerate(comparison.sides)
    ]
    warnings: dict[str, list[str]] = {}
    for side in comparison.sides:
        for warning in side.warnings:
            warnings.setdefault(warning, []).append(short[side.name])
    mixes = dict.fromkeys(
        [name for side in comparison.sides for name in side.mixes] or comparison.random_mixes
    )
    tables = zip(
        comparison.overlap.tolist(), comparison.jaccard.tolist(), comparison.expected.tolist(), strict=True
    )
    return render(
        "compare.html",
        made=made,
        title=f"{counted(comparison.settings['selections'], 'selection')} of one pool",
        kind="comparison",
        simulated=bool(comparison.pool["simulated"]),
        warnings=comparison.problems,
        pool=comparison.pool,
        settings=comparison.settings,
        random=short.get(comparison.random, comparison.random),
        sides=sides,
        rows=_figure_rows(comparison),
        cells=sum(side.figures[name] is not None for side in comparison.sides for name in comparison.chance),
        names=list(short.values()),
        overlap=[
            (name, list(zip(*cells, strict=True))) for name, cells in zip(short.values(), tables, strict=True)
        ],
        mixes=[_mix(name, comparison) for name in mixes],
        told=warnings,
    )


def _letter(place: int) -> str:
    letters = string.ascii_uppercase
    return letters[place] if place < len(letters) else str(place + 1)


def _figure_rows(comparison: SelectionComparison) -> list[dict[str, Any]]:
    """Return a row per known figure: description, chance, each selection's value, and a strip plot."""
    rows = []
    for name, words in figure_words(comparison.numbers).items():
        chance, values = comparison.chance.get(name), [side.figures[name] for side in comparison.sides]
        if chance is None and all(value is None for value in values):
            continue
        cells = [(value, 0 if value is None or chance is None else chance.beyond(value)) for value in values]
        strip = None if chance is None else _strip(chance, comparison, values)
        rows.append({"words": words, "chance": chance, "cells": cells, "strip": strip})
    return rows


def _strip(
    chance: Chance, comparison: SelectionComparison, values: Sequence[float | None]
) -> dict[str, Any] | None:
    """Lay out a strip plot in pixels: selections as dots on the range of random ones; None if all values are equal."""
    short = short_names(comparison.names)
    known = [
        (value, _letter(at), short[side.name])
        for at, (side, value) in enumerate(zip(comparison.sides, values, strict=True))
        if value is not None
    ]
    ends = [chance.low, chance.high, *(value for value, *_ in known)]
    low, high = min(ends), max(ends)
    if not known or not math.isfinite(high - low) or high == low:
        return None

    def at(value: float) -> float:
        return round(_DOT + 1 + (_WIDE - 2 * _DOT - 2) * (value - low) / (high - low), 1)

    dots: list[dict[str, Any]] = []
    ends_of_lanes: list[float] = []  # overlapping dots go into lanes below
    for value, letter, name in sorted(known):
        x = at(value)
        lane = next((i for i, end in enumerate(ends_of_lanes) if x >= end), len(ends_of_lanes))
        ends_of_lanes[lane : lane + 1] = [x + 2 * _DOT]
        y = _LANE * lane + _LANE / 2 + 2
        dots.append({"x": x, "y": y, "letter": letter, "name": name, "value": value})
    return {
        "width": _WIDE,
        "height": _LANE * len(ends_of_lanes) + 4,
        "low": at(chance.low),
        "band": max(round(at(chance.high) - at(chance.low), 1), 1),
        "mean": at(chance.mean),
        "dots": dots,
    }


def _mix(name: str, comparison: SelectionComparison) -> dict[str, Any]:
    """Return the shares of a column's values, most common first, and of all others together."""
    mixes = [comparison.random_mixes.get(name, {}), *(side.mixes.get(name, {}) for side in comparison.sides)]
    total: dict[str, float] = {}
    for mix in mixes:
        for value, share in mix.items():
            total[value] = total.get(value, 0.0) + share
    values = sorted(total, key=lambda value: (-total[value], value))
    rows = [(value, [mix.get(value, 0.0) for mix in mixes]) for value in values[:_VALUES]]
    if rest := values[_VALUES:]:
        shares = [sum(mix.get(value, 0.0) for value in rest) for mix in mixes]
        rows.append((counted(len(rest), "other"), shares))
    return {"name": name, "title": "Whose answers" if name == "models" else f"Mix of {name}", "rows": rows}
