"""The third protocol's design: the main cell with other seeds, in the order of running; as in protocol3.md."""

from collections.abc import Iterator

from proving_ground.design import MAIN, Block, Setting
from proving_ground.results import COMMITTED
from proving_ground.second import OLD_WORLDS
from proving_ground.ways import RANDOM, THIRD

FOLDER = COMMITTED.with_name("results3")
SETTINGS: dict[str, Setting] = {MAIN: Setting(first_seed=32, seeds=8)}
WAYS = tuple(THIRD)
OTHERS = tuple(way for way in WAYS if way != RANDOM)


def seeds() -> range:
    """Return the seeds."""
    how = SETTINGS[MAIN]
    return range(how.first_seed, how.first_seed + how.seeds)


def blocks() -> Iterator[tuple[Block, tuple[str, ...]]]:
    """Return all blocks and their methods in the order of running: seed by seed through the worlds."""
    for seed in seeds():
        for world in OLD_WORLDS:
            yield Block(MAIN, world, seed), WAYS
