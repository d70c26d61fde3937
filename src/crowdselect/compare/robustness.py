"""How stable a selection is: how much of it remains when the crowd, reward, weights, clusters or seed change.

Vectors are computed once and reused for every variant; instructions not eligible for the selection itself are not
eligible in any variant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crowdselect.compare.reselecting import reselecting
from crowdselect.compare.variants import (
    AXES,
    CHEAPEST,
    NUMBERS_OF_CLUSTERS,
    SIZE_AXES,
    Run,
    Todo,
    costs_of,
    of_crowd,
    of_options,
    of_sizes,
)
from crowdselect.crowd import Crowd
from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress
from crowdselect.report.page import render
from crowdselect.selection.methods import Method, default_method
from crowdselect.selection.options import Options
from crowdselect.selection.own_answers import own_answers
from crowdselect.selection.selection import score_line
from crowdselect.terminal import counted
from crowdselect.types import BoolArray

_OPEN = 12  # variants shown per axis, those that keep least; the rest are collapsed


@dataclass(frozen=True, slots=True)
class Reselection:
    """The selection made again with one choice changed."""

    axis: str
    """Which choice: a key of `AXES` or `SIZE_AXES`, or `CHEAPEST`."""
    name: str
    """The changed value."""
    kept: float | None
    """Share of the original selection that this one has too, 0 to 1; None if it cannot be made."""
    jaccard: float | None
    """Jaccard index of the two selections, 0 to 1; None if it cannot be made."""
    why: str = ""
    """Why it cannot be made; empty if it can."""
    size: int | None = None
    """How many models answer an instruction, where fewer do."""
    models: tuple[str, ...] = ()
    """The cheapest models that it was made by, the cheapest first."""


@dataclass(frozen=True, slots=True)
class Robustness:
    """How much of a selection remains under changed choices."""

    chosen: tuple[str, ...]
    """Ids of the selection itself, in code-point order."""
    eligible: int
    """Number of eligible instructions, without duplicates."""
    variants: tuple[Reselection, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    strata: tuple[tuple[int, int], ...] = ()
    """Chosen and eligible rows of each stratum, where there is a quota."""

    @property
    def chance(self) -> float:
        """Share that a random selection of this size, by the same quota, would have in common, on average."""
        whole = len(self.chosen)
        strata = self.strata or ((whole, self.eligible),)
        return math.fsum(chosen / whole * (chosen / eligible) for chosen, eligible in strata if chosen)

    def summary(self) -> list[dict[str, Any]]:
        """Return one row per axis with variants, the choice that matters most first.

        Returns:
            `axis`, `variants`, `kept` (mean share), `lowest` (share) and `lowest_name`; `failed` counts variants
            that could not be made.
        """
        rows = []
        for axis in AXES:
            own = [variant for variant in self.variants if variant.axis == axis]
            feasible = [(variant.kept, variant.name) for variant in own if variant.kept is not None]
            if feasible:
                worst = min(feasible)
                mean = round(
                    math.fsum(kept for kept, _ in feasible) / len(feasible), 12
                )  # so that equal means tie
                rows.append(
                    {
                        "axis": axis,
                        "variants": len(feasible),
                        "failed": len(own) - len(feasible),
                        "kept": mean,
                        "lowest": worst[0],
                        "lowest_name": worst[1],
                    }
                )
        return sorted(rows, key=lambda row: row["kept"])

    def sizes(self) -> list[dict[str, Any]]:
        """Return one row per size of the crowd that was tried, the smallest first; none where that was not asked for.

        Returns:
            `models` (how many answered an instruction), and for each key of `SIZE_AXES` `kept` (mean share), `lowest` and
            `highest` (share), all None where no draw could be made, and `failed`, how many could not.
        """
        rows = []
        for size in sorted({variant.size for variant in self.variants if variant.size is not None}):
            row: dict[str, Any] = {"models": size}
            for axis in SIZE_AXES:
                own = [v.kept for v in self.variants if v.axis == axis and v.size == size]
                made = [kept for kept in own if kept is not None]
                row[axis] = {
                    "kept": round(math.fsum(made) / len(made), 12) if made else None,
                    "lowest": min(made, default=None),
                    "highest": max(made, default=None),
                    "failed": len(own) - len(made),
                }
            rows.append(row)
        return rows

    def cheapest(self) -> list[dict[str, Any]]:
        """Return one row per crowd of the cheapest models, the smallest first; none where no two models have prices.

        Returns:
            `models` (how many), `kept` (share; None where the selection cannot be made), `names` (the cheapest first), `added`
            (those that the crowd before lacks) and `cost` (of all its answers in the pool; None where that is not known).
        """
        rows: list[dict[str, Any]] = []
        before: tuple[str, ...] = ()
        costs: Mapping[str, float] = self.facts.get("costs", {})
        for variant in (variant for variant in self.variants if variant.axis == CHEAPEST):
            known = all(name in costs for name in variant.models)
            rows.append(
                {
                    "models": variant.size,
                    "kept": variant.kept,
                    "names": list(variant.models),
                    "added": list(variant.models[len(before) :]),
                    "cost": math.fsum(costs[name] for name in variant.models) if known else None,
                }
            )
            before = variant.models
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "facts": dict(self.facts),
            "chosen": list(self.chosen),
            "eligible": self.eligible,
            "chance": self.chance,
            "summary": self.summary(),
            "sizes": self.sizes(),
            "cheapest": self.cheapest(),
            "variants": [
                {"axis": v.axis, "name": v.name, "kept": v.kept, "jaccard": v.jaccard, "why": v.why}
                for v in self.variants
            ],
        }


def robustness(
    pool: Pool,
    options: Options,
    *,
    crowd: Crowd | None = None,
    method: Method | None = None,
    bootstraps: int = 20,
    seeds: int = 5,
    clusters: Sequence[int] = NUMBERS_OF_CLUSTERS,
    crowd_sizes: bool = False,
    progress: Progress | None = None,
) -> Robustness:
    """Repeat a selection with one choice changed at a time.

    Args:
        pool: The pool.
        options: The options of the selection to test.
        crowd: Family and size of the models; None infers them from the names.
        method: As for `crowdselect.select`, if it scores rows by numbers alone.
        bootstraps: Number of bootstrap crowds.
        seeds: Number of other seeds to try.
        clusters: Numbers of clusters to try; 0 = none. With `cluster_by` only none.
        crowd_sizes: Also try crowds of fewer models, from two on, and as few answers of each instruction, see `SIZE_AXES`;
            and the cheapest models, where the crowd file has prices of two or more.
        progress: Called with the variants done and in total.

    Returns:
        Every variant, with the share of the selection that it keeps.

    Raises:
        CrowdselectError: The selection itself cannot be made; see `crowdselect.select`.
        OptionError: A number is negative, or the method reads texts.
    """
    method = method or default_method(options)
    if method.needs or method.known is not None or method.vectors:
        raise OptionError(
            f"`method={method.name}` reads texts, and would have to for every variant; robustness tries methods that score rows "
            "by numbers, such as crowd, reward or teachable"
        )
    for name, number in (
        ("bootstraps", bootstraps),
        ("seeds", seeds),
        ("clusters", min(clusters, default=0)),
    ):
        if number < 0:
            raise OptionError(f"`{name}` is {number}; wanted at least 0")
    with own_answers(options.the_student, pool) as own:
        base = reselecting(pool, options, crowd, method, own)
        choice = base.choice()
        chosen = choice.rank > 0
        todo: list[tuple[Todo, dict[str, Any]]] = [
            *((one, {}) for one in of_crowd(base, bootstraps=bootstraps)),
            *((one, {}) for one in of_options(base, seeds=seeds, clusters=clusters)),
            *(of_sizes(base) if crowd_sizes else ()),
        ]
        done = []
        for (axis, name, run), more in todo:
            done.append(replace(_tried(axis, name, run, chosen), **more))
            if progress is not None:
                progress(len(done), len(todo))
    return Robustness(
        tuple(str(i) for i in pool.ids[chosen]),
        len(np.unique(base.rows.groups[base.eligible])),
        tuple(done),
        {
            "pool": pool.path,
            "fingerprint": pool.fingerprint(),
            "reward": base.rows.reward,
            "models": len(base.rows.crowd.members),
            "simulated": "simulated" in pool.columns,
            "options": {**options.as_dict(), **method.settings},
            "embedder": base.grouping.embedder,
            **({"costs": costs_of(base)} if crowd_sizes else {}),
        },
        base.strata_of(choice),
    )


def _tried(axis: str, name: str, run: Run, chosen: BoolArray) -> Reselection:
    try:
        variant = run()
    except CrowdselectError as error:
        return Reselection(axis, name, None, None, str(error))
    shared = int((variant & chosen).sum())
    return Reselection(axis, name, shared / int(chosen.sum()), shared / int((variant | chosen).sum()))


def robustness_page(found: Robustness, *, made: Mapping[str, Any] | None = None) -> str:
    """Write the robustness of a selection as one page; its template is `robustness.html`, see `crowdselect.report.page`.

    Args:
        found: From `robustness`.
        made: As for `crowdselect.report.page.render`.

    Returns:
        A complete HTML document without scripts. Names from pools are shown as text.
    """
    options = found.facts["options"]
    axes = []
    for row in found.summary():
        own = [variant for variant in found.variants if variant.axis == row["axis"]]
        own.sort(key=lambda variant: (variant.kept is None, variant.kept, variant.name))
        axes.append({**row, "words": AXES[row["axis"]], "shown": own[:_OPEN], "rest": own[_OPEN:]})
    return render(
        "robustness.html",
        made=made,
        title=f"How stable is a selection of {counted(len(found.chosen), 'row')}?",
        kind="robustness",
        simulated=found.facts["simulated"],
        warnings=[],
        facts=found.facts,
        chosen=len(found.chosen),
        eligible=found.eligible,
        chance=found.chance,
        score=score_line(options),
        clusters=options["cluster_by"] or options["clusters"] or "none",
        axes=axes,
        sizes=found.sizes(),
        size_words=SIZE_AXES,
        cheapest=found.cheapest(),
    )
