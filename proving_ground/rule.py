"""What follows from the second protocol: differences to random by setting and world, and its rule. Nothing is drawn here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proving_ground.analysis import Compared, Difference, compare, paired, pooled
from proving_ground.design import MAIN
from proving_ground.findings import Seen, seen
from proving_ground.items import BANDS
from proving_ground.pools import test_items
from proving_ground.results import Results
from proving_ground.second import CANDIDATES, NEEDED, SETTINGS, SHARED, seeds_of, worlds_of
from proving_ground.ways import EVERY, PLAIN, RANDOM, TEACHABLE
from proving_ground.worlds import WORLDS

HARD = "hard band"
"""The main cell again, tested with the hard band of the test set alone: reported, and no variation by the rule."""
_ENOUGH = 4  # worlds in which a candidate has to be better


def runs_of(results: Results, setting: str) -> dict[str, Seen]:
    """Return world → its runs of a setting, with those that the setting shares with the main cell."""
    out = {}
    for world in worlds_of(setting):
        found = seen(results, setting, world)
        if setting in SHARED and found.right:
            main = seen(results, MAIN, world)
            seeds = seeds_of(setting)
            shared = {
                way: {seed: right for seed, right in by_seed.items() if seed in seeds}
                for way, by_seed in main.right.items()
                if not EVERY[way].student
            }
            found = replace(found, right={**shared, **found.right})
        out[world] = found
    return out


def in_step(by_world: Mapping[str, Seen]) -> dict[str, Seen]:
    """Keep the seeds that a method has in all worlds, and the methods that have as many of them as any.

    So the worlds of an unfinished setting weigh alike, and methods that have just begun are left out.
    """
    seeds = {
        way: set.intersection(*(set(found.right.get(way, {})) for found in by_world.values()))
        for way in {way for found in by_world.values() for way in found.right}
    }
    most = max(map(len, seeds.values()), default=0)
    return {
        world: replace(
            found,
            right={
                way: {seed: right for seed, right in by_seed.items() if seed in seeds[way]}
                for way, by_seed in found.right.items()
                if most and len(seeds[way]) == most
            },
        )
        for world, found in by_world.items()
    }


def hard_band(by_world: Mapping[str, Seen]) -> dict[str, Seen]:
    """Keep the test items of the hard band."""
    out = {}
    for world, found in by_world.items():
        hard = np.array([BANDS[item.band] == "hard" for item in test_items(WORLDS[world])])
        right = {
            way: {seed: right[hard] for seed, right in by_seed.items()}
            for way, by_seed in found.right.items()
        }
        out[world] = replace(found, right=right)
    return out


def over_worlds(by_world: Mapping[str, Seen], way: str, reference: str = RANDOM) -> Difference | None:
    """Return a method's difference to another, averaged over worlds; None if one of the two is missing somewhere."""
    pairs = []
    for found in by_world.values():
        if way not in found.right or reference not in found.right:
            return None
        pairs.append(paired(found.right[way], found.right[reference]))
    return pooled(pairs) if all(len(one) for one, _ in pairs) else None


def is_complete(by_world: Mapping[str, Seen], setting: str, ways: Sequence[str]) -> bool:
    """Tell whether random and these methods have every seed of a setting in all its worlds."""
    wanted = set(seeds_of(setting))
    return all(
        wanted <= found.right.get(way, {}).keys() for found in by_world.values() for way in (RANDOM, *ways)
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """One method under the rule."""

    better: tuple[str, ...]
    """Worlds of the main cell in which it is better than random, Holm over the two."""
    worse: tuple[str, ...]
    """Worlds in which it is worse."""
    harmed: tuple[str, ...]
    """Variations whose mean over worlds is worse than random: the interval is wholly below 0."""

    @property
    def qualifies(self) -> bool:
        """Better in four worlds or more, worse in none, and no variation harmed."""
        return len(self.better) >= _ENOUGH and not self.worse and not self.harmed


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rule says."""

    missing: tuple[str, ...]
    """Settings that it needs and that are not complete: until then it is not applied."""
    unread: tuple[str, ...]
    """Further variations that are not complete; they say nothing."""
    judged: Mapping[str, Judged]
    """Per method; while `missing` is not empty, as far as it is known."""

    @property
    def applied(self) -> bool:
        """Whether everything that the rule needs is in."""
        return not self.missing

    @property
    def qualified(self) -> tuple[str, ...]:
        """The methods that qualify; none before the rule is applied."""
        return tuple(way for way, one in self.judged.items() if self.applied and one.qualifies)


def rule(by_setting: Mapping[str, Mapping[str, Seen]], ways: Sequence[str]) -> Ruling:
    """Apply the protocol's rule to two methods.

    Args:
        by_setting: Setting → world → its runs, from `runs_of`, for all settings.
        ways: `CANDIDATES`, or `WITHOUT_STUDENT`.
    """
    complete = {name: is_complete(by_world, name, ways) for name, by_world in by_setting.items()}
    main = {
        world: compare(found.right, RANDOM, among=[way for way in ways if way in found.right])
        for world, found in by_setting[MAIN].items()
        if RANDOM in found.right
    }
    return Ruling(
        missing=tuple(name for name in NEEDED if not complete[name]),
        unread=tuple(name for name in SETTINGS if name not in NEEDED and not complete[name]),
        judged={
            way: Judged(
                better=_worlds(main, way, "better"),
                worse=_worlds(main, way, "worse"),
                harmed=tuple(
                    name
                    for name, by_world in by_setting.items()
                    if name != MAIN and complete[name] and is_worse(over_worlds(by_world, way))
                ),
            )
            for way in ways
        },
    )


def _worlds(compared: Mapping[str, Compared], way: str, wanted: str) -> tuple[str, ...]:
    return tuple(
        world for world, one in compared.items() if way in one.differences and one.verdict(way) == wanted
    )


def is_worse(found: Difference | None) -> bool:
    """Tell whether a difference lies wholly below 0."""
    return found is not None and found.high < 0


def default_of(ruling: Ruling, main: Mapping[str, Seen]) -> str | None:
    """Return the default where a student is named; None if none qualifies, or the rule is not applied yet.

    Where both qualify, it is the better one if the two are told apart in the main cell's mean over worlds, else the plain
    one.
    """
    if set(ruling.qualified) != set(CANDIDATES):
        return next(iter(ruling.qualified), None)
    gap = over_worlds(main, TEACHABLE, PLAIN)
    return TEACHABLE if gap is not None and gap.low > 0 else PLAIN
