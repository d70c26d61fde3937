"""How stable a selection is: how much of it remains when the crowd, reward, weights, clusters or seed change.

Vectors are computed once and reused for every variant; instructions not eligible for the selection itself are not
eligible in any variant.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.errors import CrowdselectError, OptionError, ShapeError
from crowdselect.numeric.clusters import group_labels, kmeans
from crowdselect.numeric.irt import items_of
from crowdselect.numeric.metrics import by_family, compute_metrics
from crowdselect.numeric.quotas import Choice
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress
from crowdselect.report.page import render
from crowdselect.seeding import reseeded
from crowdselect.selection.clusters import Grouping, group
from crowdselect.selection.eligible import ELIGIBLE, Lists, bars, lists
from crowdselect.selection.look import look_at
from crowdselect.selection.matrix import Matrix, answers_of, checked_metrics
from crowdselect.selection.measure import Lengths, matrix_of
from crowdselect.selection.methods import Method, Seen, arranged, choice_of, default_method
from crowdselect.selection.numbers import (
    Measured,
    check_marks,
    depends_on_all,
    item_numbers,
    parted,
    rests_on_full_marks,
    rests_on_items,
)
from crowdselect.selection.options import BEST_STUDENT, Options, wants_vectors
from crowdselect.selection.own_answers import OwnAnswers, own_answers
from crowdselect.selection.reaching import goods_of
from crowdselect.selection.reading import (
    Shards,
    cluster_column,
    embeddable,
    number_of_bins,
    quota_strata,
)
from crowdselect.selection.rows import Rows, check_usable, weights_without
from crowdselect.selection.selection import score_line
from crowdselect.selection.student import Reach, reach_of
from crowdselect.terminal import counted
from crowdselect.types import BoolArray, FloatArray

PAPER_METRICS = ("difficulty", "separability", "stability")
"""The metrics of the paper; any other keeps its weight."""

AXES: dict[str, str] = {
    "model": "without one model",
    "family": "without one family",
    "crowd": "a bootstrap crowd: as many models, drawn with replacement",
    "reward": "another reward column",
    "weights": f"another of the paper's weights ({', '.join(PAPER_METRICS)})",
    "clusters": "another number of clusters",
    "seed": "another seed (ties, draws and clusters)",
}
"""The choices that are varied."""

SIZE_AXES: dict[str, str] = {
    "of_models": "fewer models, the same for all rows",
    "of_cells": "fewer models, others for each row",
}
"""What is varied to see how large a crowd has to be."""

CHEAPEST = "cheapest"
"""The axis of the crowds of the cheapest models, by the prices of the crowd file."""

PAPER_WEIGHTS: tuple[tuple[float, float, float], ...] = (
    (1, 1, 1),
    (1, -1, 1),
    (1, 1, 2),
    (1, 1, -1),
    (1, 1, 1.5),
    (1, -1, 1.5),
    (-1, -1, 1),
    (-1, -1, 2),
    (-1, -1, 1.5),
)
"""The paper's nine sets of weights, for `PAPER_METRICS`."""

NUMBERS_OF_CLUSTERS = (0, 5, 10, 20, 30)
"""Numbers of clusters to try: the paper's, none, and 5."""

_SIZES, _SIZE_DRAWS = 8, 5  # numbers of models to try at most, and draws of each
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
        base = _base(pool, options, crowd, method, own)
        choice = base.choice()
        chosen = choice.rank > 0
        todo: list[tuple[_Todo, dict[str, Any]]] = [
            *((one, {}) for one in _of_crowd(base, bootstraps=bootstraps)),
            *((one, {}) for one in _of_options(base, seeds=seeds, clusters=clusters)),
            *(_of_sizes(base) if crowd_sizes else ()),
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
            **({"costs": _costs(base)} if crowd_sizes else {}),
        },
        base.strata_of(choice),
    )


_Run = Callable[[], BoolArray]
_Todo = tuple[str, str, _Run]  # axis, name, how to choose


@dataclass(frozen=True, slots=True)
class _Base:
    """What all variants of a selection share."""

    shards: Shards
    rows: Rows
    method: Method
    options: Options
    own: OwnAnswers | None
    """The student's answers, where they are in a pool of their own."""
    listed: Lists
    eligible: BoolArray
    grouping: Grouping
    vectors: NDArray[np.float32] | None
    """Vectors of the eligible rows; None if there are none."""
    lengths: Lengths
    """How long answers are, for a number of that name."""

    @property
    def matrix(self) -> Matrix:
        """The score matrix with its targets and picks."""
        if self.rows.matrix is None:
            raise ShapeError("the rows were looked at without their matrix")
        return self.rows.matrix

    def choose(
        self, *, options: Options | None = None, rows: Rows | None = None, labels: NDArray[Any] | None = None
    ) -> BoolArray:
        """Select with some inputs replaced; return which rows are chosen, shape (N,)."""
        return self.choice(options=options, rows=rows, labels=labels).rank > 0

    def strata_of(self, choice: Choice) -> tuple[tuple[int, int], ...]:
        """Count the chosen and the eligible rows of each stratum, duplicates once; none without a quota."""
        strata = self.grouping.strata
        if strata is None:
            return ()
        own = np.flatnonzero(self.eligible & (choice.duplicate_of < 0))
        return tuple(zip(strata.sizes(np.flatnonzero(choice.rank > 0)), strata.sizes(own), strict=True))

    def choice(
        self, *, options: Options | None = None, rows: Rows | None = None, labels: NDArray[Any] | None = None
    ) -> Choice:
        """Do the same; return the whole choice."""
        options, eligible = options or self.options, self.eligible
        if rows is not None:
            reasons = bars(rows, self.listed, options, weighted=self.method.weighted)
            eligible = eligible & (reasons == ELIGIBLE)
        seen = Seen(shards=self.shards, known=rows or self.rows, options=options, eligible=eligible)
        scored = self.method.score(seen, _silent)
        for left_out in scored.left_out.values():
            seen = replace(seen, eligible=seen.eligible & ~left_out)
        labels = self._bins(seen) if labels is None else labels
        grouping = self.grouping if labels is None else replace(self.grouping, labels=labels)
        score = arranged(self.method, seen, scored, grouping).score
        return choice_of(seen, score, grouping)

    def _bins(self, seen: Seen) -> NDArray[np.int64] | None:
        """Make the bins of `cluster_by` of the rows as they are now; None where clusters are no bins of a number."""
        if number_of_bins(self.options, self.shards.pool) is None:
            return None
        column = cluster_column(self.shards, seen.known, self.options, seen.eligible)
        labels = np.zeros(len(seen.eligible), dtype=np.int64)
        if column is not None:
            labels[seen.rows], _ = group_labels(column[seen.rows])
        return labels

    def of_matrix(
        self,
        matrix: Matrix,
        crowd: Crowd,
        reach: Reach | None,
        *,
        whole: Matrix,
        reward: str | None = None,
    ) -> Rows:
        """Return the rows with metrics and numbers of another matrix; numbers from a file stay as they are.

        Args:
            matrix: Its columns are the members of `crowd`.
            crowd: Models of the pool, some of them left out or repeated.
            reach: What that crowd and the student can do.
            whole: A column for each model of the whole crowd: numbers of a named model do not depend on the crowd.
            reward: Its reward column; None = the selection's own.
        """
        metrics = compute_metrics(
            matrix.scores,
            sizes=crowd.sizes,
            families=crowd.families,
            ties=self.options.ties,
            spread=matrix.spread,
        )
        rewarded = ~np.isnan(matrix.scores)
        rows = replace(
            self.rows,
            metrics={name: metrics.get(name, values) for name, values in self.rows.metrics.items()},
            n_rewards=np.asarray(rewarded.sum(axis=1), dtype=np.int64),
            per_model=np.asarray(rewarded.sum(axis=0), dtype=np.int64),
            crowd=crowd,
        )
        if self.method.weighted:
            _check_order(rows, self.options.weights)
        answers = answers_of(matrix, hashes=rows.hashes, models=tuple(crowd.names), options=self.options)
        if rows.joined is not None and self.options.pairs == BEST_STUDENT:
            named = reward or (None if rows.look is None else rows.look.reward)
            answers = rows.joined.rejected(answers, named, self.options, model=len(crowd.names))
        return self._with_numbers(replace(rows, answers=answers, reach=reach), matrix, whole=whole)

    def _with_numbers(self, rows: Rows, matrix: Matrix, *, whole: Matrix) -> Rows:
        """Return the rows with their numbers made anew; see `of_matrix`."""
        names = tuple(rows.crowd.names)
        of_crowd, of_models = (
            Measured(
                answers=rows.answers,
                scores=each.scores,
                passes=each.passes,
                lengths=lambda: self.lengths.of(rows.answers, np.arange(len(rows)), models=names),
                models=models,
                agreement=None if rows.agreement is None else rows.agreement.rows,
            )
            for each, models in ((matrix, names), (whole, tuple(self.rows.crowd.names)))
        )
        new = {
            name: (of_crowd if parted(name)[1] is None else of_models).number(name)
            for name in rows.numbers
            if not depends_on_all(name)
        }
        new |= {} if rows.reach is None else rows.reach.numbers
        if any(map(rests_on_items, rows.numbers)):
            new |= item_numbers(rows.numbers, items_of(matrix.scores))
        weighted = {name: new[name] for name in rows.metrics if name in new}
        return replace(rows, metrics={**rows.metrics, **weighted}, numbers=new)

    def reach_of(
        self,
        good: FloatArray | None,
        *,
        seed: int | None = None,
        **changed: Any,  # noqa: ANN401  (as they are)
    ) -> Reach | None:
        """Compute what another crowd can do and the student should; None where that does not count.

        Args:
            good: Share of each model's answers that are good, shape (N, M).
            seed: Of the folds; None = that of the options.
            changed: `cut`, `share` or `student_good`, if they are others.
        """
        known = self.rows.reach
        if known is None:
            return None
        given = {name: getattr(known, name) for name in ("cut", "share", "student_good")} | changed
        return reach_of(
            np.full_like(self.matrix.scores, np.nan) if good is None else good,  # all rewards are equal
            given["student_good"],
            cut=given["cut"],
            share=given["share"],
            student=known.student,
            hashes=self.rows.hashes,
            seed=self.options.seed if seed is None else seed,
        )

    def crowd_of(self, columns: Sequence[int]) -> BoolArray:
        """Select with another crowd, in which models may be left out or repeated."""
        crowd, whole = Crowd(tuple(self.rows.crowd.members[j] for j in columns)), self.matrix
        matrix = whole.columns(columns, np.asfortranarray(whole.scores[:, columns]))
        return self.choose(rows=self.of_matrix(matrix, crowd, self.reach_of(matrix.good), whole=whole))

    def cells_of(self, kept: BoolArray) -> BoolArray:
        """Select with the answers of some cells alone, shape (N, M)."""
        matrix = self.matrix.cells(kept)
        return self.choose(
            rows=self.of_matrix(matrix, self.rows.crowd, self.reach_of(matrix.good), whole=self.matrix)
        )

    def reward_of(self, column: str) -> BoolArray:
        """Select by another reward column."""
        pool, look = self.shards.pool, self.rows.look
        if look is None:
            raise ShapeError("the rows were looked at without their matrix")
        look, reach = replace(look, reward=column, sample_reward=column), self.rows.reach
        changed: dict[str, Any] = {}
        if reach is not None:
            goods = goods_of(self.shards, look, reach.student, self.own, reward=column)
            look, changed = replace(look, cut=goods.cut), {"cut": goods.cut, "share": goods.share}
        matrix = matrix_of(pool, look)
        checked_metrics(matrix.scores, self.rows.crowd, ties=look.ties, ids=pool.ids, path=pool.path)
        if reach is not None and look.cut is not None:
            if self.rows.joined is not None:
                changed["student_good"] = self.rows.joined.good(column, look.cut)
            elif reach.student.column is None:
                changed["student_good"] = matrix.student_good
        for name in filter(rests_on_full_marks, self.rows.numbers):
            check_marks(name, column, matrix.marks)
        reach = self.reach_of(matrix.good, **changed)
        return self.choose(rows=self.of_matrix(matrix, self.rows.crowd, reach, whole=matrix, reward=column))

    def weighted(self, weights: Mapping[str, float]) -> BoolArray:
        """Select by other weights; a metric that had no weight before may be undefined in some rows."""
        _check_order(self.rows, weights)
        return self.choose(options=replace(self.options, weights=weights), rows=self.rows)

    def clusters_of(self, k: int, *, seed: int) -> BoolArray:
        """Select with other clusters of the same vectors, or with none."""
        labels, rows = np.zeros(len(self.rows), dtype=np.int64), np.flatnonzero(self.eligible)
        if k and self.vectors is not None:
            if k > len(rows):
                raise OptionError(f"{k} clusters are more than the {len(rows)} eligible instructions")
            keys = reseeded(self.rows.hashes[rows], seed=seed, salt="sample")
            labels[rows] = kmeans(self.vectors, k=k, keys=keys, seed=seed)
        keep = self.options.cluster_by is not None and k > 0
        known = None
        if seed != self.options.seed and self.rows.reach is not None:  # its folds are others
            redrawn = replace(self.rows, reach=self.reach_of(self.matrix.good, seed=seed))
            known = self._with_numbers(redrawn, self.matrix, whole=self.matrix)
        return self.choose(
            options=replace(self.options, seed=seed), rows=known, labels=None if keep else labels
        )


def _base(pool: Pool, options: Options, crowd: Crowd | None, method: Method, own: OwnAnswers | None) -> _Base:
    """Read the pool once, as `crowdselect.selection.run.select` does, keeping its matrix and vectors."""
    shards, rows = look_at(pool, options=options, crowd=crowd, method=method, keep=True, own=own)
    if method.weighted:
        check_usable(rows, options.weights)
    listed = lists(rows.ids, options)
    reasons = bars(rows, listed, options, weighted=method.weighted)
    eligible = np.asarray(reasons == ELIGIBLE, dtype=np.bool_)
    grouping = group(
        embeddable(shards, rows, options, eligible),
        eligible,
        rows.hashes,
        options,
        _silent,
        column=cluster_column(shards, rows, options, eligible),
        strata=quota_strata(rows, options, eligible),
        vectors=wants_vectors(options),
    )
    at = np.flatnonzero(eligible)
    vectors = None if grouping.vectors is None else grouping.vectors.raw(at)
    return _Base(shards, rows, method, options, own, listed, eligible, grouping, vectors, Lengths(pool))


def _of_crowd(base: _Base, *, bootstraps: int) -> Iterator[_Todo]:
    """Yield variants with other crowds."""
    members = base.rows.crowd.members
    every = range(len(members))
    for j, member in enumerate(members):
        yield "model", member.name, partial(base.crowd_of, [i for i in every if i != j])
    for family in sorted({member.family for member in members if member.family is not None}):
        left = [i for i in every if members[i].family != family]
        yield "family", family, partial(base.crowd_of, left)
    rng = np.random.default_rng(base.options.seed)
    for number in range(bootstraps):
        drawn = np.sort(rng.integers(0, len(members), len(members))).tolist()
        yield "crowd", f"draw {number}", partial(base.crowd_of, drawn)


def _of_sizes(base: _Base) -> Iterator[tuple[_Todo, dict[str, Any]]]:
    """Yield variants with fewer models, with the answers of as few drawn for each instruction, and with the cheapest; each with its size."""
    models, seed = len(base.rows.crowd.members), base.options.seed
    cheapest, names = _by_price(base.rows.crowd), base.rows.crowd.names
    rng = np.random.default_rng(seed)
    for size in sorted(set(np.rint(np.linspace(2, models - 1, _SIZES)).astype(int).tolist())):
        for draw in range(_SIZE_DRAWS if size < models else 0):
            drawn = np.sort(rng.permutation(models)[:size]).tolist()
            name = f"{size} of {models}, draw {draw}"
            yield ("of_models", name, partial(base.crowd_of, drawn)), {"size": size}
            yield ("of_cells", name, partial(_drawn_cells, base, size, f"{seed} {draw}")), {"size": size}
        if size <= min(len(cheapest), models - 1):
            own = cheapest[:size]
            told = {"size": size, "models": tuple(names[j] for j in own)}
            yield (CHEAPEST, f"the {size} cheapest of {models}", partial(base.crowd_of, sorted(own))), told


def _by_price(crowd: Crowd) -> list[int]:
    """Order the models that have prices, the cheapest first: by the price of answers, then of prompts, then by name."""
    priced = [(crowd.price(name), name, column) for column, name in enumerate(crowd.names)]
    known = [(price[1], price[0], name, column) for price, name, column in priced if price is not None]
    return [column for *_, column in sorted(known)]


def _costs(base: _Base) -> dict[str, float]:
    """Return what each model's answers cost by the pool's column `cost`, of the models where that is known of every answer with a reward."""
    pool = base.shards.pool
    if not pool.rewards.owns("cost") or pool.sampled:
        return {}
    costs, found = pool.scores_of_part("cost"), {}
    for column, name in enumerate(base.rows.crowd.names):
        own, scored = costs[:, pool.models.index(name)], ~np.isnan(base.matrix.scores[:, column])
        if scored.any() and not np.isnan(own[scored]).any():
            found[name] = math.fsum(own[~np.isnan(own)].tolist())
    return found


def _drawn_cells(base: _Base, size: int, salt: str) -> BoolArray:
    """Select with answers of `size` models, which are drawn for each instruction by a seeded hash of its id."""
    models = range(len(base.rows.crowd.members))
    keys = [reseeded(base.rows.hashes, seed=model, salt=f"cells {size} {salt}") for model in models]
    places = np.argsort(np.argsort(np.stack(keys, axis=1), axis=1, kind="stable"), axis=1, kind="stable")
    return base.cells_of(places < size)


def _of_options(base: _Base, *, seeds: int, clusters: Sequence[int]) -> Iterator[_Todo]:
    """Yield variants with another reward, weights, clusters or seed."""
    options = base.options
    for column in base.shards.pool.reward_columns:
        if column != base.rows.reward:
            yield "reward", column, partial(base.reward_of, column)
    for numbers in PAPER_WEIGHTS if base.method.weighted else ():
        weights = {**options.weights, **dict(zip(PAPER_METRICS, map(float, numbers), strict=True))}
        if weights != options.weights:
            yield "weights", ", ".join(f"{number:g}" for number in numbers), partial(base.weighted, weights)
    for k in clusters:
        same = k == options.clusters and options.cluster_by is None
        if not same and (k == 0 or base.vectors is not None):
            yield "clusters", f"{k or 'none'}", partial(base.clusters_of, k, seed=options.seed)
    for seed in range(options.seed + 1, options.seed + 1 + seeds):
        yield "seed", f"{seed}", partial(base.clusters_of, options.clusters, seed=seed)


def _check_order(rows: Rows, weights: Mapping[str, float]) -> None:
    for name in () if rows.families else by_family(weights):
        raise OptionError(
            f"no model family has two sizes, so {name} is undefined; leave it out with {weights_without(name, weights)}"
        )


def _tried(axis: str, name: str, run: _Run, chosen: BoolArray) -> Reselection:
    try:
        variant = run()
    except CrowdselectError as error:
        return Reselection(axis, name, None, None, str(error))
    shared = int((variant & chosen).sum())
    return Reselection(axis, name, shared / int(chosen.sum()), shared / int((variant | chosen).sum()))


def _silent(done: int, total: int) -> None:
    """Ignore progress."""


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
