"""The results as tables in Markdown, and the figures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from proving_ground.analysis import LEVEL, Compared, Difference, holm
from proving_ground.design import AGAIN, MAIN, SEEDS, SETTINGS, ways_of
from proving_ground.findings import (
    ALL_WORLDS,
    Seen,
    agreements,
    beside,
    beside_paper,
    by_part,
    candidates,
    decide,
    main_design,
    over_worlds,
    ranks,
    seen,
)
from proving_ground.items import BANDS
from proving_ground.pools import test_items
from proving_ground.results import Results
from proving_ground.ways import PAPER, RANDOM, SPREAD
from proving_ground.worlds import CHOOSING, WORLDS

DOCS = Path(__file__).parents[1] / "docs"
EVIDENCE, IMAGES = DOCS / "evidence.md", DOCS / "images"


def write_all(results: Results) -> None:
    """Write `tables.md` beside the results, and the figures into the docs."""
    from proving_ground.figures import draw_all

    parts = [
        "# Tables\n\nMade by `python -m proving_ground tables`; what the words mean is in ../protocol.md. Differences are in points of exact match (0 to 100).",
        _progress(results),
        crowds_table(results),
        _decision(results),
        *(f"## Main design: {world}\n\n{summary(results, MAIN, world)}" for world in ALL_WORLDS),
        _agreement(results),
        _pooled(results, MAIN),
        _pooled(results, AGAIN),
        *(_parts(results, world) for world in ALL_WORLDS),
        *(_variation(results, setting) for setting in SETTINGS if setting != MAIN),
        _failures(results),
    ]
    (results.folder / "tables.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draw_all(results, IMAGES)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(of: str, text: str, page: Path = EVIDENCE) -> None:
    """Put a text into a page of the docs, between the two marks that name what it is of."""
    begin, end = (f"<!-- of the {of}: {mark} -->" for mark in ("begin", "end"))
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def summary(results: Results, setting: str, world: str) -> str:
    """Tabulate every method of one setting in one world, best first."""
    found = seen(results, setting, world)
    if RANDOM not in found.right:
        return "Not run yet."
    to_random, to_spread = beside(found, RANDOM), beside(found, SPREAD)
    rows = []
    for way, place in sorted(ranks(found.means).items(), key=lambda pair: pair[1]):
        cells = [str(place), way, f"{100 * found.means[way]:.1f}"]
        for one in (to_random, to_spread):
            cells += compared_cells(one, way)
        rows.append(
            [
                *cells,
                f"{found.loss[way]:.3f}",
                f"{100 * found.right_chosen[way]:.0f} %",
                str(len(found.right[way])),
            ]
        )
    base = f"The base, not fine-tuned: {100 * _mean(found):.1f}. " if found.base else ""
    head = [
        "",
        "way",
        "exact match",
        "to random",
        "Holm",
        "to cluster + random",
        "Holm",
        "loss",
        "right chosen",
        "seeds",
    ]
    return f"{base}**Bold**: told apart by Holm's p < 0.05.\n\n{table(head, rows)}"


def _mean(found: Seen) -> float:
    return sum(float(right.mean()) for right in found.base.values()) / len(found.base)


def compared_cells(one: Compared | None, way: str) -> list[str]:
    """Format a method's difference and its adjusted p; empty where it was not compared."""
    if one is None or way not in one.differences:
        return ["", ""]
    text = points(one.differences[way])
    return [f"**{text}**" if one.adjusted[way] < LEVEL else text, f"{one.adjusted[way]:.3f}"]


def points(found: Difference) -> str:
    """Format a difference and its interval, in points."""
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _progress(results: Results) -> str:
    rows = []
    for setting in SETTINGS:
        wanted = len(ways_of(setting)) * SEEDS
        cells = [setting]
        for world in ALL_WORLDS:
            found = seen(results, setting, world)
            done = sum(len(seeds) for seeds in found.right.values())
            lost = sum(len(seeds) for seeds in found.failed.values())
            cells.append(f"{done} of {wanted}" + (f", {lost} failed" if lost else ""))
        rows.append(cells)
    return f"## What has been run\n\n{table(['setting', *ALL_WORLDS], rows)}"


def crowds_table(results: Results) -> str:
    """Tabulate what the members of the crowds can do."""
    rows = []
    for world, members in results.read("crowd.json").items():
        for name, facts in members.items():
            bands = " / ".join(f"{100 * share:.0f}" for share in facts["right_by_band"])
            rows.append([world, name, f"{facts['parameters']:,}", f"{100 * facts['right']:.1f}", bands])
    head = ["world", "member", "parameters", "exact match on the test set", "easy / middle / hard"]
    return f"## Crowds\n\n{table(head, rows)}"


def _decision(results: Results) -> str:
    by_world = main_design(results)
    if not all({RANDOM, PAPER} <= found.right.keys() for found in by_world.values()):
        return "## What follows by the protocol\n\nNot all worlds have been run."
    found = decide(by_world)
    rows = [
        [way, str(len(worlds)), ", ".join(worlds)]
        for way, worlds in sorted(found.better_than_random.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        if worlds
    ]
    lines = [
        f"The main design is {'complete' if found.complete else 'NOT complete: what follows is provisional'}.",
        f"Better than random in all four worlds: {_names(found.beats_random)}.",
        f"Better than {PAPER} in both choosing worlds: {_names(found.beats_paper)}.",
        f"Candidate for the default: {found.candidate or 'none'}; confirmed in both kept worlds: {'yes' if found.confirmed else 'no'}.",
        table(["way", "worlds", "better than random in"], rows),
        f"Candidates for the default beside {PAPER}, those ahead on average over the choosing worlds; **bold**: told apart by Holm's p < 0.05.",
        _to_paper(by_world),
    ]
    return "## What follows by the protocol\n\n" + "\n\n".join(lines)


def _to_paper(by_world: Mapping[str, Seen]) -> str:
    compared = beside_paper(by_world)
    ahead = {way: sum(compared[world].differences[way].mean for world in CHOOSING) for way in candidates()}
    rows = [
        [way, *(compared_cells(compared[world], way)[0] for world in ALL_WORLDS)]
        for way in sorted(ahead, key=lambda way: -ahead[way])
        if ahead[way] > 0
    ]
    return table(["way", *ALL_WORLDS], rows)


def _names(ways: Sequence[str]) -> str:
    return "; ".join(ways) or "none"


def _agreement(results: Results) -> str:
    by_world = {world: found for world, found in main_design(results).items() if found.right}
    rows = [
        [f"{one} and {other}", f"{found.kendall:+.2f}", f"{found.spearman:+.2f}", str(found.ways)]
        for (one, other), found in agreements(by_world).items()
    ]
    return f"## Do worlds rank the ways alike?\n\n{table(['worlds', 'Kendall', 'Spearman', 'ways'], rows)}"


def _pooled(results: Results, setting: str) -> str:
    title = f"## Averaged over the worlds (exploratory): {setting}"
    by_world = {world: seen(results, setting, world) for world in ALL_WORLDS}
    references = [way for way in (RANDOM, SPREAD, PAPER) if way in ways_of(setting)]
    if not all(set(references) <= found.right.keys() for found in by_world.values()):
        return f"{title}\n\nNot run yet."
    columns = {reference: over_worlds(by_world, reference) for reference in references}
    adjusted = holm({way: one.p for way, one in columns[RANDOM].items()})
    ways = sorted(columns[RANDOM], key=lambda way: -columns[RANDOM][way].mean)
    rows = [
        [
            way,
            *(points(column[way]) if way in column else "" for column in columns.values()),
            f"{adjusted[way]:.3f}",
        ]
        for way in ways
    ]
    head = ["way", *(f"to {reference}" for reference in references), "Holm, to random"]
    note = "Not in the protocol's first part. Intervals as in single worlds, the worlds taken as given."
    return f"{title}\n\n{note}\n\n{table(head, rows)}"


def _parts(results: Results, world: str) -> str:
    found, items = seen(results, MAIN, world), test_items(WORLDS[world])
    if RANDOM not in found.right:
        return f"## Where it comes from: {world}\n\nNot run yet."
    out = []
    for what in ("band", "skill"):
        gaps = by_part(found, items, what=what)
        labels = sorted({label for cells in gaps.values() for label in cells})
        shown = [BANDS[int(label)] if what == "band" else label for label in labels]
        rows = [
            [way, *(f"{100 * cells[label]:+.1f}" for label in labels)]
            for way, cells in gaps.items()
            if way != RANDOM
        ]
        out.append(table(["way", *shown], rows))
    body = "\n\n".join(out)
    return f"## Where it comes from: {world}\n\nDifference to random per band and per skill; described, not tested.\n\n{body}"


def _variation(results: Results, setting: str) -> str:
    rows = []
    for world in ALL_WORLDS:
        found = seen(results, setting, world)
        to_random = beside(found, RANDOM)
        if to_random is None:
            continue
        rows.append(
            [world, RANDOM, f"{100 * found.means[RANDOM]:.1f}", "", "", str(len(found.right[RANDOM]))]
        )
        for way in found.right:
            if way != RANDOM and way in to_random.differences:
                mean = f"{100 * found.means[way]:.1f}"
                rows.append([world, way, mean, *compared_cells(to_random, way), str(len(found.right[way]))])
    body = (
        table(["world", "way", "exact match", "to random", "Holm", "seeds"], rows) if rows else "Not run yet."
    )
    return f"## Variation: {setting}\n\n{body}"


def _failures(results: Results) -> str:
    rows = [
        [setting, world, way, seed, why]
        for setting in SETTINGS
        for world in ALL_WORLDS
        for way, seeds in seen(results, setting, world).failed.items()
        for seed, why in seeds.items()
    ]
    return "## Failed runs\n\n" + (
        table(["setting", "world", "way", "seed", "why"], rows) if rows else "None."
    )
