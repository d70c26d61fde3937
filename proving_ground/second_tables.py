"""The second protocol's results as tables in Markdown, and its figures."""

from collections.abc import Mapping

from proving_ground.analysis import Difference, FloatArray, compare
from proving_ground.design import MAIN
from proving_ground.figures import draw_second
from proving_ground.findings import Seen
from proving_ground.results import Results
from proving_ground.rule import (
    HARD,
    Ruling,
    default_of,
    hard_band,
    in_step,
    is_worse,
    over_worlds,
    rule,
    runs_of,
)
from proving_ground.second import (
    ALL_WORLDS,
    ASKED,
    CANDIDATES,
    REMEDIES,
    SETTINGS,
    SHARED,
    WAYS_OF_ALL,
    WITHOUT_STUDENT,
    base_of,
    seeds_of,
    ways_of,
    worlds_of,
)
from proving_ground.tables import IMAGES, compared_cells, crowds_table, points, table
from proving_ground.ways import RANDOM

BySetting = Mapping[str, Mapping[str, Seen]]


def write_all(results: Results) -> None:
    """Write `tables.md` beside the results, and the figures into the docs."""
    by_setting = {setting: runs_of(results, setting) for setting in SETTINGS}
    head = (
        "# Tables of the second protocol\n\nMade by `python -m proving_ground tables`; what the words mean is in ../protocol2.md. "
        "Differences are in points of exact match (0 to 100), with 95 % intervals. Means over worlds use the seeds that all worlds have."
    )
    parts = [
        head,
        _progress(results),
        crowds_table(results),
        _students(by_setting),
        _ruling(by_setting),
        _without_student(by_setting),
        _setting(by_setting[MAIN], MAIN),
        _means(by_setting),
        *(_setting(by_world, name) for name, by_world in by_setting.items() if name != MAIN),
        _setting(hard_band(by_setting[MAIN]), HARD),
        _remedies(by_setting),
        _right_chosen(by_setting),
        _failures(by_setting),
    ]
    (results.folder / "tables.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draw_second({**by_setting, HARD: hard_band(by_setting[MAIN])}, IMAGES)


def _progress(results: Results) -> str:
    rows = []
    for setting in SETTINGS:
        wanted = len(ways_of(setting)) * len(seeds_of(setting))
        cells = [setting]
        for world in ALL_WORLDS:
            found = results.of(setting, world)
            done = sum(len(found["runs"].get(way, {})) for way in ways_of(setting))
            lost = sum(len(seeds) for seeds in found["failed"].values())
            state = f"{done} of {wanted}" if done else "not run"
            cells.append(
                "" if world not in worlds_of(setting) else state + (f", {lost} failed" if lost else "")
            )
        rows.append(cells)
    return f"## What has been run\n\n{table(['setting', *ALL_WORLDS], rows)}"


def _students(by_setting: BySetting) -> str:
    rows = []
    for setting in SETTINGS:
        if base_of(setting):
            shares = [
                f"{100 * _mean(found.base):.1f} / {100 * _mean(found.right[RANDOM]):.1f}"
                if found.base and RANDOM in found.right
                else ""
                for found in by_setting[setting].values()
            ]
            rows.append([SETTINGS[setting].student, *shares])
    note = "Exact match on the test set: the base, not fine-tuned / after a random choice of 400 rows."
    return f"## Students\n\n{note}\n\n{table(['student', *ALL_WORLDS], rows)}"


def _mean(by_seed: Mapping[int, FloatArray]) -> float:
    return sum(float(right.mean()) for right in by_seed.values()) / len(by_seed)


def _ruling(by_setting: BySetting) -> str:
    found = rule(by_setting, CANDIDATES)
    default = default_of(found, by_setting[MAIN])
    last = (
        f"**Default of `--student`: {default or 'none; the method has to be named'}.**"
        if found.applied
        else "**The rule is not applied**, and the method has to be named."
    )
    return "\n\n".join(["## The rule for the default where a student is named", *_judged(found), last])


def _without_student(by_setting: BySetting) -> str:
    found = rule(by_setting, WITHOUT_STUDENT)
    last = (
        f"**Recommended by name: {', '.join(found.qualified) or 'none'}.**"
        if found.applied
        else "**The rule is not applied.**"
    )
    return "\n\n".join(["## The same rule for ways that need no student", *_judged(found), last])


def _judged(found: Ruling) -> list[str]:
    rows = [
        [
            way,
            f"{len(one.better)}: {', '.join(one.better)}" if one.better else "0",
            ", ".join(one.worse) or "none",
            ", ".join(one.harmed) or "none",
            ("yes" if one.qualifies else "no") if found.applied else "",
        ]
        for way, one in found.judged.items()
    ]
    head = ["way", "better than random in", "worse in", "variations worse than random", "qualifies"]
    state = (
        f"Needed and not complete: {', '.join(found.missing) or 'nothing'}. Other variations not complete, which say nothing: "
        f"{', '.join(found.unread) or 'none'}."
    )
    return [state, table(head, rows)]


def _setting(by_world: Mapping[str, Seen], name: str) -> str:
    title = "## " + {MAIN: "Main cell", HARD: "The main cell's hard band"}.get(name, f"Variation: {name}")
    step = in_step(by_world)
    if not all(RANDOM in found.right for found in step.values()):
        return f"{title}\n\nNot run."
    ways = [
        way
        for way in (*WAYS_OF_ALL, *REMEDIES.get(name, ()))
        if way != RANDOM and all(way in found.right for found in step.values())
    ]
    compared = {world: compare(found.right, RANDOM, among=ways) for world, found in step.items()}
    levels = [f"{100 * _mean(found.right[RANDOM]):.1f}" for found in step.values()]
    rows = [[f"{RANDOM}, exact match", "", *levels]]
    for way in ways:
        mean = over_worlds(step, way)
        cells = [compared_cells(one, way)[0] for one in compared.values()]
        rows.append([way, points(mean) if mean else "", *cells])
    shared = " Ways that do not look at the student are those of the main cell." if name in SHARED else ""
    note = (
        f"Difference to random; **bold**: told apart by Holm's p < 0.05 over these {len(ways)} ways; "
        f"{len(next(iter(step.values())).right[RANDOM])} seeds.{shared}"
    )
    return f"{title}\n\n{note}\n\n{table(['way', 'mean over worlds', *step], rows)}"


def _means(by_setting: BySetting) -> str:
    rows = []
    for name, by_world in {**by_setting, HARD: hard_band(by_setting[MAIN])}.items():
        step = in_step(by_world)
        found = {way: over_worlds(step, way) for way in WAYS_OF_ALL if way != RANDOM}
        if any(found.values()):
            wanted = len(seeds_of(MAIN if name == HARD else name))
            rows.append([name, *(_marked(one, wanted) for one in found.values())])
    head = ["setting", *(way for way in WAYS_OF_ALL if way != RANDOM)]
    note = (
        "Difference to random, mean over worlds, each resampled by itself and taken as given; **bold**: the interval excludes 0. "
        f"{len(seeds_of(MAIN))} seeds in the main cell, {len(seeds_of(ASKED))} in the variations, unless it says how many."
    )
    return f"## Averaged over the worlds\n\n{note}\n\n{table(head, rows) if rows else 'Not run.'}"


def _marked(found: Difference | None, wanted: int) -> str:
    if found is None:
        return "not run"
    text = f"**{points(found)}**" if found.low > 0 or is_worse(found) else points(found)
    return text if found.seeds == wanted else f"{text} ({found.seeds} of {wanted} seeds)"


def _remedies(by_setting: BySetting) -> str:
    rows = []
    for setting, remedies in REMEDIES.items():
        step = in_step(by_setting[setting])
        for way in remedies:
            own = next(name for name in CANDIDATES if way.startswith(f"{name},"))
            mean = over_worlds(step, way, own)
            if mean is None:
                continue
            single = {world: over_worlds({world: found}, way, own) for world, found in step.items()}
            hurt = [world for world, one in single.items() if is_worse(one)]
            helps = "yes" if mean.low > 0 and not hurt else "no"
            rows.append([setting, way, points(mean), ", ".join(hurt) or "none", helps, str(mean.seeds)])
    head = ["variation", "remedy", "to the same without it", "hurts in", "helps and hurts nowhere", "seeds"]
    return f"## Remedies\n\n{table(head, rows) if rows else 'Not run.'}"


def _right_chosen(by_setting: BySetting) -> str:
    rows = []
    for name, by_world in by_setting.items():
        for world, found in by_world.items():
            if found.right_chosen:
                shares = (found.right_chosen.get(way) for way in WAYS_OF_ALL)
                rows.append(
                    [name, world, *("" if share is None else f"{100 * share:.0f}" for share in shares)]
                )
    note = "Right answers among the chosen, %."
    return f"## What is chosen\n\n{note}\n\n{table(['setting', 'world', *WAYS_OF_ALL], rows) if rows else 'Not run.'}"


def _failures(by_setting: BySetting) -> str:
    rows = [
        [setting, world, way, seed, why]
        for setting, by_world in by_setting.items()
        for world, found in by_world.items()
        for way, seeds in found.failed.items()
        for seed, why in seeds.items()
    ]
    return "## Failed runs\n\n" + (
        table(["setting", "world", "way", "seed", "why"], rows) if rows else "None."
    )
