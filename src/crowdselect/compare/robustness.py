"""How much of a selection stays when the crowd, the reward, the weights, the clusters or the seed are others.

Vectors are computed once and kept for every variant; instructions that the selection itself could not choose
take no part in any variant.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.embed.models import Embedding
from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.numeric.clusters import group_labels
from crowdselect.numeric.metrics import METRICS, compute_metrics
from crowdselect.numeric.quotas import choose
from crowdselect.numeric.ranks import combine, uniform_ranks
from crowdselect.numeric.responses import Picks, check_answer, find_answers
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress
from crowdselect.seeding import UInt64Array, content_hash, reseeded
from crowdselect.selection.clusters import cluster_rows, embed_rows, unit_vectors
from crowdselect.selection.eligibility import ELIGIBLE, duplicate_groups
from crowdselect.selection.eligible import FixedBars, fixed_bars, row_reasons
from crowdselect.selection.options import Options
from crowdselect.selection.rows import Measured, check_usable, measure, pick_samples
from crowdselect.selection.targets import find_targets
from crowdselect.types import BoolArray, FloatArray, IntArray

AXES: dict[str, str] = {
    "model": "without one model",
    "family": "without one family",
    "crowd": "a bootstrap crowd: as many models, drawn with replacement",
    "reward": "another reward column",
    "weights": "another of the paper's weights (difficulty, separability, stability)",
    "clusters": "another number of clusters",
    "seed": "another seed (ties and clusters)",
}
"""Every choice that is varied."""

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
"""The paper's nine sets of weights, for difficulty, separability and stability."""

NUMBERS_OF_CLUSTERS = (0, 5, 10, 20, 30)
"""Numbers of clusters that are tried: the paper's, none, and 5."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The selection made once more with one choice changed."""

    axis: str
    """Which choice: a key of `AXES`."""
    name: str
    """What it was changed to."""
    kept: float | None
    """Share of the selection that this one has too, 0 to 1; None where it cannot be made."""
    jaccard: float | None
    """Shared rows by all rows of the two."""
    why: str = ""
    """Why it cannot be made."""


@dataclass(frozen=True, slots=True)
class Robustness:
    """How much of a selection stays."""

    chosen: tuple[str, ...]
    """Ids of the selection itself, in code-point order."""
    eligible: int
    """How many instructions could be chosen."""
    variants: tuple[Variant, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chance(self) -> float:
        """Share that a random choice of this size would have too."""
        return len(self.chosen) / self.eligible

    def summary(self) -> list[dict[str, Any]]:
        """One row per axis that has variants, the choice that matters most first.

        Returns:
            `axis`, `variants`, `kept` (mean share), `lowest` (share) and `lowest_name`; those that could not be
            made are counted in `failed`.
        """
        rows = []
        for axis in AXES:
            own = [variant for variant in self.variants if variant.axis == axis]
            made = [(variant.kept, variant.name) for variant in own if variant.kept is not None]
            if made:
                worst = min(made)
                mean = round(math.fsum(kept for kept, _ in made) / len(made), 12)  # so that equal ones tie
                rows.append(
                    {
                        "axis": axis,
                        "variants": len(made),
                        "failed": len(own) - len(made),
                        "kept": mean,
                        "lowest": worst[0],
                        "lowest_name": worst[1],
                    }
                )
        return sorted(rows, key=lambda row: row["kept"])

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "facts": dict(self.facts),
            "chosen": list(self.chosen),
            "eligible": self.eligible,
            "chance": self.chance,
            "summary": self.summary(),
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
    bootstraps: int = 20,
    seeds: int = 5,
    clusters: Sequence[int] = NUMBERS_OF_CLUSTERS,
    progress: Progress | None = None,
) -> Robustness:
    """Choose again with one thing changed at a time.

    Args:
        pool: The pool.
        options: The selection that is put to the test.
        crowd: Family and size of the models; None reads them off the names.
        bootstraps: How many crowds to draw.
        seeds: How many other seeds to try.
        clusters: Numbers of clusters to try; 0 = none. With `cluster_by` only none.
        progress: Told (variants done, variants in all).

    Returns:
        Every variant, with the share of the selection that it keeps.

    Raises:
        CrowdselectError: The selection itself cannot be made; see `crowdselect.select`.
        OptionError: A number is negative.
    """
    for name, number in (("bootstraps", bootstraps), ("seeds", seeds), *(("clusters", k) for k in clusters)):
        if number < 0:
            raise OptionError(f"{name}={number} is negative")
    base = _base(pool, options, crowd)
    chosen = base.choose()
    todo = [*_of_crowd(base, bootstraps=bootstraps), *_of_options(base, seeds=seeds, clusters=clusters)]
    done = []
    for axis, name, run in todo:
        done.append(_tried(axis, name, run, chosen))
        if progress is not None:
            progress(len(done), len(todo))
    return Robustness(
        tuple(str(i) for i in pool.ids[chosen]),
        int(base.eligible.sum()),
        tuple(done),
        {
            "pool": pool.path,
            "fingerprint": pool.fingerprint(),
            "reward": base.measured.reward,
            "models": len(pool.models),
            "simulated": "simulated" in pool.columns,
            "options": options.as_dict(),
            "embedder": None if base.embedding is None else base.embedding.name,
        },
    )


_Run = Callable[[], BoolArray]
_Todo = tuple[str, str, _Run]  # axis, name, how to choose


@dataclass(frozen=True, slots=True)
class _Base:
    """Everything of a selection that its variants share."""

    pool: Pool
    options: Options
    measured: Measured
    usable: BoolArray
    prompts: IntArray | None
    picks: Picks | None
    hashes: UInt64Array
    groups: IntArray
    fixed: FixedBars
    eligible: BoolArray
    labels: NDArray[Any]
    embedding: Embedding | None
    unit: NDArray[np.float32] | None

    def choose(
        self,
        *,
        options: Options | None = None,
        measured: Measured | None = None,
        usable: BoolArray | None = None,
        prompts: IntArray | None = None,
        picks: Picks | None = None,
        labels: NDArray[Any] | None = None,
    ) -> BoolArray:
        """Choose with some things changed; which rows are chosen, shape (N,)."""
        options, measured = options or self.options, measured or self.measured
        usable = self.usable if usable is None else usable
        prompts = self.prompts if prompts is None else prompts
        picks = self.picks if picks is None else picks
        eligible = self.eligible
        if measured is not self.measured:
            eligible = eligible & self._reasons(measured, usable, prompts, picks, options)
        ranks = {
            name: uniform_ranks(measured.metrics[name], eligible)
            for name, weight in options.weights.items()
            if weight
        }
        choice = choose(
            np.where(eligible, combine(ranks, {name: options.weights[name] for name in ranks}), np.nan),
            labels=self.labels if labels is None else labels,
            keys=reseeded(self.hashes, seed=options.seed, salt="tie"),
            groups=self.groups,
            budget=options.budget,
            vectors=self.unit,
            near_duplicates=options.near_duplicates,
        )
        return choice.rank > 0

    def _reasons(
        self,
        measured: Measured,
        usable: BoolArray,
        prompts: IntArray | None,
        picks: Picks | None,
        options: Options,
    ) -> BoolArray:
        names = tuple(measured.crowd.names)
        check_answer(options.answer, models=names)
        answers = find_answers(
            measured.scores,
            usable=usable,
            hashes=self.hashes,
            models=names,
            answer=options.answer,
            pairs=options.pairs is not None,
            seed=options.seed,
            prompts=prompts,
            picks=picks,
        )
        reasons = row_reasons(len(self.hashes), self.fixed, measured, answers, options, weighted=True)
        return np.asarray(reasons == ELIGIBLE, dtype=np.bool_)

    def crowd_of(self, columns: Sequence[int]) -> BoolArray:
        """Choose with other models: some left out, some there twice."""
        crowd = Crowd(tuple(self.measured.crowd.members[j] for j in columns))
        scores = np.asfortranarray(self.measured.scores[:, columns])
        measured = _measured(scores, crowd, self.measured, self.options)
        _check_order(measured, self.options.weights)
        prompts = None if self.prompts is None else self.prompts[:, columns]
        picks = (
            None if self.picks is None else self.picks.changed(lambda values, _missing: values[:, columns])
        )
        return self.choose(measured=measured, usable=self.usable[:, columns], prompts=prompts, picks=picks)

    def reward_of(self, column: str) -> BoolArray:
        """Choose by another reward column."""
        measured = measure(
            self.pool,
            reward=column,
            numbers=self.options.metrics,
            crowd=self.measured.crowd,
            ties=self.options.ties,
        )
        usable = self.usable if self.pool.has_responses else ~np.isnan(measured.scores)
        return self.choose(
            measured=measured, usable=usable, picks=pick_samples(self.pool, column, self.options)
        )

    def clusters_of(self, k: int, *, seed: int) -> BoolArray:
        """Choose with other clusters of the same vectors, or with none."""
        labels, rows = np.zeros(len(self.hashes), dtype=np.int64), np.flatnonzero(self.eligible)
        if k and self.embedding is not None:
            if k > len(rows):
                raise OptionError(f"{k} clusters are more than the {len(rows)} eligible instructions")
            labels[rows] = cluster_rows(self.pool, self.embedding, rows, k=k, seed=seed)
        keep = self.options.cluster_by is not None and k > 0
        return self.choose(options=replace(self.options, seed=seed), labels=self.labels if keep else labels)


def _measured(scores: FloatArray, crowd: Crowd, whole: Measured, options: Options) -> Measured:
    """The metrics of another crowd; numbers from a file are what they were."""
    metrics = whole.metrics | compute_metrics(
        scores, sizes=crowd.sizes, families=crowd.families, ties=options.ties
    )
    n_rewards = np.asarray((~np.isnan(scores)).sum(axis=1), dtype=np.int64)
    return Measured(scores, n_rewards, metrics, crowd, ())


def _base(pool: Pool, options: Options, crowd: Crowd | None) -> _Base:
    """Read the pool once, as `crowdselect.selection.run.select` does."""
    measured = measure(
        pool,
        reward=options.reward,
        ensemble=options.ensemble,
        numbers=options.metrics,
        crowd=crowd,
        ties=options.ties,
    )
    check_usable(measured, options.weights)
    texts, hashes = pool.instructions(), content_hash(pool.ids)
    draft = _Base(
        pool=pool,
        options=options,
        measured=measured,
        usable=find_targets(pool, measured.scores, allow_cut=options.allow_cut).usable,
        prompts=pool.prompt_codes() if options.pairs is not None and not pool.sampled else None,
        picks=pick_samples(pool, options.reward, options),
        hashes=hashes,
        groups=duplicate_groups(texts),
        fixed=fixed_bars(pool, texts, options),
        eligible=np.ones(len(hashes), dtype=bool),
        labels=np.zeros(len(hashes), dtype=np.int64),
        embedding=None,
        unit=None,
    )
    eligible = draft._reasons(measured, draft.usable, draft.prompts, draft.picks, options)  # noqa: SLF001  (its own module)
    rows, labels = np.flatnonzero(eligible), draft.labels
    by_vectors = options.cluster_by is None and options.clusters > 0
    embedding = unit = None
    if by_vectors and options.clusters > len(rows):
        raise OptionError(f"clusters={options.clusters} is more than the {len(rows)} eligible instructions")
    if options.cluster_by is not None:
        labels[rows] = group_labels(pool.column(options.cluster_by)[rows])[0]
    if by_vectors or options.near_duplicates is not None:
        embedding = embed_rows(pool, texts, rows, options, _silent)
    if by_vectors and embedding is not None:
        labels[rows] = cluster_rows(pool, embedding, rows, k=options.clusters, seed=options.seed)
    if options.near_duplicates is not None and embedding is not None:
        unit = unit_vectors(embedding, rows, n=len(hashes))
    return replace(draft, eligible=eligible, labels=labels, embedding=embedding, unit=unit)


def _of_crowd(base: _Base, *, bootstraps: int) -> Iterator[_Todo]:
    """Variants of who belongs to the crowd."""
    members = base.measured.crowd.members
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


def _of_options(base: _Base, *, seeds: int, clusters: Sequence[int]) -> Iterator[_Todo]:
    """Variants of reward, weights, clusters and seed."""
    options = base.options
    for column in base.pool.reward_columns:
        if column != base.measured.reward:
            yield "reward", column, partial(base.reward_of, column)
    for numbers in PAPER_WEIGHTS:
        weights = {**options.weights, **dict(zip(METRICS, map(float, numbers), strict=True))}
        if weights != options.weights:
            yield "weights", ", ".join(f"{number:g}" for number in numbers), partial(_weighted, base, weights)
    for k in clusters:
        same = k == options.clusters and options.cluster_by is None
        if not same and (k == 0 or base.embedding is not None):
            yield "clusters", f"{k or 'none'}", partial(base.clusters_of, k, seed=options.seed)
    for seed in range(options.seed + 1, options.seed + 1 + seeds):
        yield "seed", f"{seed}", partial(base.clusters_of, options.clusters, seed=seed)


def _check_order(measured: Measured, weights: Mapping[str, float]) -> None:
    if weights["stability"] != 0 and not measured.families:
        raise OptionError("no model family of two sizes is there, so stability is undefined")


def _weighted(base: _Base, weights: Mapping[str, float]) -> BoolArray:
    """Choose by other weights; a metric that counted for nothing so far may be undefined in some rows."""
    options = replace(base.options, weights=weights)
    _check_order(base.measured, weights)
    measured = replace(base.measured)  # another object: who is eligible is asked again
    return base.choose(options=options, measured=measured)


def _tried(axis: str, name: str, run: _Run, chosen: BoolArray) -> Variant:
    try:
        found = run()
    except CrowdselectError as error:
        return Variant(axis, name, None, None, str(error))
    shared = int((found & chosen).sum())
    return Variant(axis, name, shared / int(chosen.sum()), shared / int((found | chosen).sum()))


def _silent(done: int, total: int) -> None:
    """Report progress to nobody."""
