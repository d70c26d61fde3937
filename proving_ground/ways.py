"""The selection methods, each through crowdselect's public API; everything else in a run is the same for all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import rankdata

from crowdselect import METRICS, Crowd, Options, Pool, select, separability
from crowdselect.compare.variants import PAPER_METRICS, PAPER_WEIGHTS
from crowdselect.methods import method_named
from crowdselect.methods.deita import deita
from crowdselect.methods.easy import easy_weights
from crowdselect.methods.facility_location import facility_location
from crowdselect.methods.length import by_length
from crowdselect.methods.random_choice import random_choice
from crowdselect.methods.reward import by_reward
from crowdselect.numeric.candidates import Candidates
from crowdselect.numeric.teachable import chance, drawn
from crowdselect.progress import Progress
from crowdselect.seeding import seeded_hash
from crowdselect.selection.methods import CROWD, Method, Scored, Seen
from proving_ground.pools import CORRECTED

CLUSTERS = 10
Kind = Literal["control", "baseline", "metric", "weights", "own", "crowd", "student", "target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One selection method."""

    kind: Kind
    method: Callable[[], Method] = lambda: CROWD
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    """Metric → weight; metrics not named have none."""
    number: str | None = None
    """A number of ours to weight instead; see `numbers`."""
    deployable: bool = True
    """Whether crowdselect's options alone can express it, so that it may become the default."""
    student: bool = False
    """It looks at the student's own answers."""
    target: bool = False
    """It chooses towards examples: `rds`."""
    fits: bool = False
    """Of each row's good answers it takes the one that the student's base finds likeliest."""
    reward: str | None = None
    """Its reward column, if not the setting's."""


def _weights(*values: float) -> str:
    return f"weights {', '.join(f'{value:g}' for value in values)}"


def _paper(*values: float) -> dict[str, float]:
    return dict(zip(PAPER_METRICS, values, strict=True))


def _metric_ways() -> dict[str, Way]:
    out = {}
    for name in (
        name for name, metric in METRICS.items() if not metric.of_samples
    ):  # the worlds have one answer each
        for weight, word in ((1.0, "up"), (-1.0, "down")):
            for clusters, ending in ((0, ""), (CLUSTERS, ", clusters")):
                options = {"clusters": clusters}
                out[f"{name} {word}{ending}"] = Way(kind="metric", weights={name: weight}, options=options)
    return out


RANDOM, SPREAD, PAPER = "random", "cluster + random", _weights(1, 1, 2)
"""The two controls, and the package's default: the paper's weights over ten clusters."""

WAYS: dict[str, Way] = {
    RANDOM: Way(kind="control", method=random_choice, options={"clusters": 0}),
    SPREAD: Way(kind="control", method=random_choice, options={"clusters": CLUSTERS}),
    PAPER: Way(kind="weights", weights=_paper(1, 1, 2)),
    "highest reward": Way(kind="baseline", method=by_reward, options={"clusters": 0}),
    **_metric_ways(),
    "longest answer": Way(kind="baseline", method=lambda: by_length(of="answer"), options={"clusters": 0}),
    "facility location": Way(kind="baseline", method=facility_location),
    "deita": Way(
        kind="baseline",
        method=lambda: deita(complexity="complexity", quality="quality"),
        options={"clusters": 0, "near_duplicates": 0.9},
        deployable=False,
    ),
    **{_weights(*w): Way(kind="weights", weights=_paper(*w)) for w in PAPER_WEIGHTS if w != (1, 1, 2)},
    _weights(-1, 1, 2): Way(kind="own", weights=_paper(-1, 1, 2)),
    "highest reward, clusters": Way(kind="own", method=by_reward),
    "separability, floor": Way(
        kind="own", weights={"separability": 1.0}, options={"keep": ("best_reward=25%..",)}
    ),
    "difficulty, floor": Way(
        kind="own", weights={"difficulty": 1.0}, options={"keep": ("best_reward=50%..",)}
    ),
    "separability x quality": Way(kind="own", number="separability_x_quality", deployable=False),
    "learnable": Way(kind="own", number="learnable", deployable=False),
}
"""The methods of the first protocol by name. Options not named have crowdselect's defaults: ten clusters of its own vectors (lsa)."""


HIGHEST, EASY, FAILS = "highest reward", "easy", "student fails, drawn"
TEACHABLE, PLAIN = "teachable", "teachable:plain"
"""The candidates of the second protocol, as `--method` names them."""
NO_LENGTH, FLOOR = ", length out", ", floor"
"""Endings of the remedies of a candidate."""


def _fails() -> Method:
    """Draw rows on which the student fails and some model of the crowd does not, with a chance in proportion to 1 - q."""

    def score(seen: Seen, _progress: Progress) -> Scored:
        reach = seen.known.reached
        assert reach.student_good is not None
        assert reach.within_reach is not None
        does = np.where(np.isnan(reach.student_good), reach.within_reach, reach.student_good)
        weights = chance(np.ones(len(does)), does, reach.sure)
        return Scored(drawn(weights, easy_weights(reach), seen.known.hashes, seed=seen.options.seed))

    return Method(name="student-fails", score=score, good=True, student=True)


def _candidate(name: str, *, reward: str | None = None, **options: Any) -> Way:  # noqa: ANN401  (of crowdselect)
    return Way(
        kind="student",
        method=lambda: method_named(name),
        options={"clusters": 0, **options},
        student=True,
        reward=reward,
    )


SECOND: dict[str, Way] = {
    **{name: WAYS[name] for name in (RANDOM, SPREAD, HIGHEST, PAPER)},
    EASY: Way(kind="crowd", method=lambda: method_named("easy"), options={"clusters": 0}),
    TEACHABLE: _candidate(TEACHABLE),
    PLAIN: _candidate(PLAIN),
    FAILS: Way(kind="student", method=_fails, options={"clusters": 0}, student=True, deployable=False),
    **{name + NO_LENGTH: _candidate(name, reward=CORRECTED) for name in (TEACHABLE, PLAIN)},
    **{name + FLOOR: _candidate(name, keep=("best_reward=25%..",)) for name in (TEACHABLE, PLAIN)},
}
"""The methods of the second protocol by name; the last four are remedies, tried in their own variation only."""

GOOD = 1 / 3
"""The share of a row's answers that are good enough to fit, crowdselect's default."""

THIRD: dict[str, Way] = {
    RANDOM: WAYS[RANDOM],
    "rds": Way(kind="target", target=True, options={"clusters": 0}),
    "quota by skill": Way(
        kind="baseline", method=random_choice, options={"clusters": 0, "quota": "skill=equal"}
    ),
    "irt_difficulty down": Way(kind="metric", weights={"irt_difficulty": -1.0}, options={"clusters": 0}),
    "fits": Way(kind="student", method=random_choice, options={"clusters": 0}, fits=True, deployable=False),
}
"""The methods of the third protocol by name."""
EVERY = {**WAYS, **SECOND, **THIRD}


def find_clusters(pool: Pool, crowd: Crowd, *, reward: str, seed: int) -> dict[str, str]:
    """Return id → cluster, as crowdselect computes them; once per pool, the same for all methods."""
    options = Options(budget=1, reward=reward, seed=seed, clusters=CLUSTERS)
    table = select(pool, options, crowd=crowd, method=random_choice()).table
    return {
        id_: f"c{label}"
        for id_, label in zip(table["id"].to_pylist(), table["cluster"].to_pylist(), strict=True)
    }


def is_clustered(way: str) -> bool:
    """Tell whether a method chooses over clusters."""
    return bool(EVERY[way].options.get("clusters", CLUSTERS))


def choose(
    pool: Pool,
    crowd: Crowd,
    way: str,
    *,
    budget: int,
    reward: str,
    answer: str,
    seed: int,
    numbers_file: Path,
    student: Path | None = None,
    examples: Path | None = None,
) -> list[tuple[str, str]]:
    """Select rows of a pool, and the model whose answer to each is trained on.

    Args:
        pool: Opened by crowdselect; its column `cluster` is from `find_clusters`.
        crowd: Family and size of its models.
        way: A name of `EVERY`.
        budget: Number of rows.
        reward: The reward column.
        answer: As crowdselect's `answer`: best, random, top5-random.
        seed: Seed of ties, draws and clusters.
        numbers_file: From `write_numbers`.
        student: The student's own answers, for ways that look at them.
        examples: The examples of the target, for ways that have one.

    Returns:
        (id, model) of exactly `budget` rows, best rank first.
    """
    how = EVERY[way]
    chosen_by: dict[str, Any] = {"cluster_by": "cluster"} if is_clustered(way) else {}
    if how.student:
        chosen_by["student_answers"] = str(student)
    if how.weights:
        chosen_by["weights"] = how.weights
    elif how.number:
        chosen_by["weights"] = {how.number: 1.0}
    options = Options(
        budget=budget,
        reward=how.reward or reward,
        answer=answer,
        seed=seed,
        metrics=str(numbers_file),
        **chosen_by,
        **how.options,
    )
    method = method_named(f"rds:{examples}") if how.target else how.method()
    rows = select(pool, options, crowd=crowd, method=method).rows()
    if len(rows) != budget:
        raise AssertionError(f"{way}: {len(rows)} rows for a budget of {budget}")
    return [(row["id"], row["model"]) for row in rows]


def fitting(
    pool: Pool,
    chosen: Sequence[tuple[str, str]],
    *,
    reward: str,
    seed: int,
    likelihoods: Callable[[Sequence[tuple[str, str]]], np.ndarray],
) -> list[tuple[str, str]]:
    """Take of each chosen row's good answers the one that is likeliest; of equal ones the best-rewarded.

    Args:
        pool: Where the rows are from.
        chosen: (id, model), as from `choose`.
        reward: The reward column.
        seed: Seed of ties.
        likelihoods: Computes those of some (id, model).

    Returns:
        The same rows in the same order, with other models.
    """
    place = {id_: row for row, id_ in enumerate(pool.ids)}
    ids = [id_ for id_, _ in chosen]
    scores = pool.scores(reward)[[place[id_] for id_ in ids]]
    answers = Candidates.of_matrix(
        scores,
        ~np.isnan(scores),
        rows=seeded_hash(ids, seed=seed),
        columns=seeded_hash(pool.models, seed=seed),
        prompts=None,
        texts=None,
    )
    good = answers.good_enough(GOOD)
    pairs = [
        (ids[row], pool.models[model])
        for row, model in zip(answers.row[good], answers.model[good], strict=True)
    ]
    order = np.lexsort(
        (-likelihoods(pairs), answers.row[good])
    )  # stable: equal ones stay best-rewarded first
    _, first = np.unique(answers.row[good][order], return_index=True)
    return [pairs[at] for at in order[first]]


def numbers(scores: np.ndarray, *, sizes: Sequence[str]) -> dict[str, np.ndarray]:
    """Compute our own candidates' numbers per instruction, higher = chosen earlier.

    Args:
        scores: Rewards, shape (N, M).
        sizes: Size of each of the M models: small, middle or large.

    Returns:
        `separability_x_quality`: rank of the separability x rank of the best reward, 0 to 1. `learnable`: mean reward of
        the large models less that of the small ones, the student's size class.
    """
    best = rankdata(scores.max(axis=1)) / len(scores)
    spread = rankdata(separability(scores)) / len(scores)
    large, small = (scores[:, [size == name for size in sizes]].mean(axis=1) for name in ("large", "small"))
    return {"separability_x_quality": spread * best, "learnable": large - small}


def write_numbers(
    file: Path, pool: Pool, *, reward: str, sizes: Mapping[str, str], complexity: Mapping[str, float]
) -> Path:
    """Write our own numbers for a pool.

    Args:
        file: The file to write.
        pool: The pool.
        reward: The reward column they are computed from.
        sizes: Model → small, middle or large.
        complexity: Id → a judge's grade of the instruction's complexity, for deita.
    """
    own = numbers(pool.scores(reward), sizes=[sizes[model] for model in pool.models])
    marks = [complexity[id_] for id_ in pool.ids]
    pq.write_table(pa.table({"id": list(pool.ids), "complexity": marks, **own}), file)
    return file
