"""The third protocol's results as one table in Markdown."""

from collections.abc import Mapping

from proving_ground.analysis import compare
from proving_ground.design import MAIN
from proving_ground.findings import Seen, seen
from proving_ground.results import Results
from proving_ground.rule import in_step, over_worlds
from proving_ground.second import OLD_WORLDS
from proving_ground.tables import compared_cells, crowds_table, points, table
from proving_ground.third import OTHERS, WAYS, seeds
from proving_ground.ways import RANDOM


def write_all(results: Results) -> None:
    """Write `tables.md` beside the results, if there are any."""
    by_world = {world: seen(results, MAIN, world) for world in OLD_WORLDS}
    if not any(found.right for found in by_world.values()):
        return
    head = (
        "# Tables of the third protocol\n\nMade by `python -m proving_ground tables`; what the words mean is in ../protocol3.md. "
        "Differences are in points of exact match (0 to 100), with 95 % intervals."
    )
    parts = [head, _progress(by_world), crowds_table(results), compared(by_world)]
    (results.folder / "tables.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def compared(by_world: Mapping[str, Seen]) -> str:
    """Tabulate the difference of every way to random, by world and over the worlds, on the seeds that all worlds have."""
    step = in_step(by_world)
    ways = [way for way in OTHERS if all(way in found.right for found in step.values())]
    if not all(RANDOM in found.right for found in step.values()):
        return "## Main cell\n\nNot run in all worlds yet."
    by = {world: compare(found.right, RANDOM, among=ways) for world, found in step.items()}
    rows = [[f"{RANDOM}, exact match", "", *(f"{100 * found.means[RANDOM]:.1f}" for found in step.values())]]
    for way in ways:
        mean = over_worlds(step, way)
        cells = [compared_cells(one, way)[0] for one in by.values()]
        rows.append([way, points(mean) if mean else "", *cells])
    note = (
        f"Difference to random; **bold**: told apart by Holm's p < 0.05 over these {len(ways)} ways; "
        f"{len(next(iter(step.values())).right[RANDOM])} seeds."
    )
    return f"## Main cell\n\n{note}\n\n{table(['way', 'mean over worlds', *step], rows)}"


def _progress(by_world: Mapping[str, Seen]) -> str:
    wanted = len(WAYS) * len(seeds())
    cells = []
    for found in by_world.values():
        done = sum(len(by_seed) for by_seed in found.right.values())
        lost = sum(len(by_seed) for by_seed in found.failed.values())
        cells.append(f"{done} of {wanted}" + (f", {lost} failed" if lost else ""))
    failures = [
        [world, way, seed, why]
        for world, found in by_world.items()
        for way, by_seed in found.failed.items()
        for seed, why in by_seed.items()
    ]
    told = table(["world", "way", "seed", "why"], failures) if failures else "None."
    return f"## What has been run\n\n{table(list(by_world), [cells])}\n\n## Failures\n\n{told}"
