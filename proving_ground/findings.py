"""Findings of the first protocol: per world and setting every method compared with the references, and the conclusion for the default."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from proving_ground.analysis import (
    Agreement,
    Compared,
    Difference,
    FloatArray,
    agreement,
    compare,
    paired,
    pooled,
)
from proving_ground.design import MAIN, SEEDS
from proving_ground.items import Item
from proving_ground.pools import TESTED
from proving_ground.results import BASE_WAY, Results, unpacked
from proving_ground.ways import EVERY, PAPER, RANDOM, WAYS
from proving_ground.worlds import CHOOSING, KEPT

ALL_WORLDS = (*CHOOSING, *KEPT)


@dataclass(frozen=True, slots=True)
class Seen:
    """The runs of one setting in one world."""

    right: Mapping[str, Mapping[int, FloatArray]]
    """Method → seed → whether right, per test item; without the base."""
    base: Mapping[int, FloatArray]
    loss: Mapping[str, float]
    right_chosen: Mapping[str, float]
    failed: Mapping[str, Mapping[str, str]]

    @property
    def means(self) -> dict[str, float]:
        """Method → mean exact match over its seeds."""
        return {way: float(np.mean(list(seeds.values()))) for way, seeds in self.right.items()}

    @property
    def seeds(self) -> list[int]:
        """The seeds that any method has."""
        return sorted({seed for seeds in self.right.values() for seed in seeds})


def seen(results: Results, setting: str, world: str) -> Seen:
    """Read the runs of one setting in one world."""
    found = results.of(setting, world)
    right = {
        way: {int(seed): unpacked(record, tests=TESTED).astype(np.float64) for seed, record in seeds.items()}
        for way, seeds in found["runs"].items()
    }

    def mean(what: str) -> dict[str, float]:
        return {
            way: float(np.mean([record[what] for record in seeds.values()]))
            for way, seeds in found["runs"].items()
            if all(what in record for record in seeds.values())
        }

    base = right.pop(BASE_WAY, {})
    order = {way: right[way] for way in EVERY if way in right}
    return Seen(order, base, mean("loss"), mean("right_chosen"), found["failed"])


def beside(given: Seen, reference: str) -> Compared | None:
    """Compare every method with a reference; None if the reference has not been run."""
    return compare(given.right, reference) if reference in given.right else None


def ranks(means: Mapping[str, float]) -> dict[str, int]:
    """Return every method's place, 1 = best; ties in alphabetical order."""
    return {way: place for place, way in enumerate(sorted(means, key=lambda way: (-means[way], way)), 1)}


def agreements(by_world: Mapping[str, Seen]) -> dict[tuple[str, str], Agreement]:
    """Return the rank agreement of each pair of worlds."""
    names = list(by_world)
    return {
        (one, other): agreement(by_world[one].means, by_world[other].means)
        for i, one in enumerate(names)
        for other in names[i + 1 :]
    }


def by_part(
    given: Seen, items: list[Item], *, what: str, reference: str = RANDOM
) -> dict[str, dict[str, float]]:
    """Return method → skill or band → mean difference to the reference; descriptive, not tested."""
    labels = np.array([str(getattr(item, what)) for item in items])
    out: dict[str, dict[str, float]] = {}
    for way, seeds in given.right.items():
        both = sorted(seeds.keys() & given.right[reference].keys())
        gap = np.mean([seeds[seed] - given.right[reference][seed] for seed in both], axis=0)
        out[way] = {label: float(gap[labels == label].mean()) for label in sorted(set(labels))}
    return out


@dataclass(frozen=True, slots=True)
class Decision:
    """The conclusions by the protocol's rules."""

    complete: bool
    """Whether all methods have all seeds in all worlds, or a listed failure."""
    better_than_random: Mapping[str, tuple[str, ...]]
    """Method → the worlds in which it is better than random."""
    beats_random: tuple[str, ...]
    """Methods better than random in all four worlds: the answer to the first question."""
    beats_paper: tuple[str, ...]
    """Candidates better than the default in both choosing worlds."""
    candidate: str | None
    confirmed: bool
    """Whether the candidate's interval is above 0 in both kept worlds."""


def decide(by_world: Mapping[str, Seen]) -> Decision:
    """Apply the protocol's rules to the main design.

    Args:
        by_world: World → its runs of the main design; all four.
    """
    better: dict[str, tuple[str, ...]] = {}
    to_random = {world: compare(found.right, RANDOM) for world, found in by_world.items()}
    for way in WAYS:
        worlds = [
            w for w, found in to_random.items() if way in found.differences and found.verdict(way) == "better"
        ]
        better[way] = tuple(worlds)
    to_paper = beside_paper(by_world)
    ahead = [
        way
        for way in candidates()
        if all(way in to_paper[w].differences and to_paper[w].verdict(way) == "better" for w in CHOOSING)
    ]
    lead = max(ahead, key=lambda way: sum(to_paper[w].differences[way].mean for w in CHOOSING), default=None)
    confirmed = lead is not None and all(
        lead in to_paper[w].differences and to_paper[w].differences[lead].low > 0 for w in KEPT
    )
    return Decision(
        complete=all(is_complete(found) for found in by_world.values()),
        better_than_random=better,
        beats_random=tuple(way for way, worlds in better.items() if set(worlds) == set(ALL_WORLDS)),
        beats_paper=tuple(ahead),
        candidate=lead,
        confirmed=confirmed,
    )


def candidates() -> list[str]:
    """Return the methods that may become the default: those that crowdselect's options alone can express."""
    return [way for way, how in WAYS.items() if how.deployable and how.kind != "control" and way != PAPER]


def beside_paper(by_world: Mapping[str, Seen]) -> dict[str, Compared]:
    """Return world → every candidate compared with the default; Holm's correction is over the candidates."""
    return {
        world: compare(found.right, PAPER, among=[way for way in candidates() if way in found.right])
        for world, found in by_world.items()
    }


def over_worlds(by_world: Mapping[str, Seen], reference: str) -> dict[str, Difference]:
    """Return method → its difference to a reference, averaged over worlds; exploratory, not in the protocol."""
    return {
        way: pooled([paired(found.right[way], found.right[reference]) for found in by_world.values()])
        for way in WAYS
        if way != reference and all(way in found.right for found in by_world.values())
    }


def is_complete(found: Seen) -> bool:
    """Return whether every method has every seed of the main design, or a listed failure."""
    done = {way: len(found.right.get(way, {})) + len(found.failed.get(way, {})) for way in WAYS}
    return all(count == SEEDS for count in done.values())


def main_design(results: Results) -> dict[str, Seen]:
    """Return world → its runs of the main design."""
    return {world: seen(results, MAIN, world) for world in ALL_WORLDS}
