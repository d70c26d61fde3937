"""The variants of a selection that are tried: axis, name, and how to choose."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from crowdselect.compare.reselecting import Reselecting
from crowdselect.crowd import Crowd
from crowdselect.seeding import reseeded
from crowdselect.types import BoolArray

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

Run = Callable[[], BoolArray]
Todo = tuple[str, str, Run]  # axis, name, how to choose


def of_crowd(base: Reselecting, *, bootstraps: int) -> Iterator[Todo]:
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


def of_sizes(base: Reselecting) -> Iterator[tuple[Todo, dict[str, Any]]]:
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


def costs_of(base: Reselecting) -> dict[str, float]:
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


def _drawn_cells(base: Reselecting, size: int, salt: str) -> BoolArray:
    """Select with answers of `size` models, which are drawn for each instruction by a seeded hash of its id."""
    models = range(len(base.rows.crowd.members))
    keys = [reseeded(base.rows.hashes, seed=model, salt=f"cells {size} {salt}") for model in models]
    places = np.argsort(np.argsort(np.stack(keys, axis=1), axis=1, kind="stable"), axis=1, kind="stable")
    return base.cells_of(places < size)


def of_options(base: Reselecting, *, seeds: int, clusters: Sequence[int]) -> Iterator[Todo]:
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
