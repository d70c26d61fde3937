"""`crowdselect evaluate compare`: read, compare, print, write the page."""

from dataclasses import asdict
from pathlib import Path

from crowdselect.errors import OptionError
from crowdselect.evaluate.comparison import ROUNDS, Comparison, Difference, compare
from crowdselect.evaluate.display import figure
from crowdselect.evaluate.loaded import load_groups
from crowdselect.evaluate.protocols import PROTOCOLS
from crowdselect.evaluate.scores import LEVEL
from crowdselect.terminal import print_json, say, table, visible, warn
from crowdselect.writing import check_output, new_file

_WIDE = 41  # characters of a row of the forest


def compare_and_show(
    *,
    groups: tuple[str, ...],
    against: str | None,
    output: str | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare folders; see the command's help."""
    if seed < 0:
        raise OptionError(f"--seed is {seed}; wanted at least 0")
    target = None
    if output is not None:
        if Path(output).suffix not in {".html", ".htm"}:
            raise OptionError(f"{output}: the page is HTML; name a file that ends in .html")
        target = check_output(output, inputs=[], overwrite=overwrite, folder=False)
    found = compare(load_groups(groups), against=against, seed=seed)
    if target is not None:
        from crowdselect.evaluate.comparison_page import comparison_page

        page = comparison_page(found)
        with new_file(target) as partial:
            partial.write_text(page, encoding="utf-8")
    if as_json:
        print_json({**asdict(found), "level": LEVEL, "rounds": ROUNDS, "correction": "Holm"})
        return
    print_comparison(found)
    if target is not None:
        say(f"written to {visible(target)}")


def print_comparison(found: Comparison) -> None:
    """Print scores, differences and a forest of intervals as text."""
    beside = "" if found.baseline is None else f" against {found.baseline}"
    say(visible(f"{PROTOCOLS[found.benchmark].title}{beside}, judged by {found.judge}"))
    table(
        ["method", ">runs", ">questions", f">score ({found.unit})", ">95 % interval", ">runs from", ">to"],
        [
            [
                one.name,
                one.runs,
                one.questions,
                figure(one.score),
                _ends(one.interval),
                figure(one.lowest) if one.runs > 1 else None,
                figure(one.highest) if one.runs > 1 else None,
            ]
            for one in found.standings
        ],
    )
    many = len(found.differences)
    table(
        [
            "difference",
            ">",
            ">95 % interval",
            ">questions",
            ">that differ",
            ">p",
            ">p, Holm",
            "the first is",
        ],
        [
            [
                f"{one.one} - {one.other}",
                _signed(one.difference),
                _ends(one.interval),
                one.questions,
                one.differing,
                _chance(one.p),
                _chance(one.p_holm),
                one.verdict,
            ]
            for one in found.differences
        ],
        title="Differences, paired over questions"
        + (f"; Holm: corrected for {many} comparisons" if many > 1 else ""),
    )
    for line in forest_lines(found.differences):
        say(line)
    for note in found.notes:
        warn(note)


def forest_lines(differences: list[Difference]) -> list[str]:
    """Draw intervals as text: `|` is 0, `o` the difference.

    Example:
        >>> one = Difference("a", "b", 9, 5, 0, 1.0, (-1.0, 3.0), 0.3)
        >>> print(forest_lines([one])[0])
        a - b  ----------|---------o--------------------
    """
    known = [(one, one.difference, one.interval) for one in differences]
    drawn = [(one, value, ends) for one, value, ends in known if value is not None and ends is not None]
    if not drawn:
        return []
    low = min(0.0, *(ends[0] for _, _, ends in drawn))
    high = max(0.0, *(ends[1] for _, _, ends in drawn))
    span = (high - low) or 1.0
    width = max(len(visible(f"{one.one} - {one.other}")) for one, _, _ in drawn)

    def at(value: float) -> int:
        return round((value - low) / span * (_WIDE - 1))

    lines = []
    for one, value, ends in drawn:
        cells = [" "] * _WIDE
        cells[at(ends[0]) : at(ends[1]) + 1] = "-" * (at(ends[1]) - at(ends[0]) + 1)
        cells[at(0.0)] = "|"
        cells[at(value)] = "o"
        lines.append(f"{visible(f'{one.one} - {one.other}'):<{width}}  {''.join(cells)}")
    scale = f"{'':<{width}}  {figure(low):<{_WIDE // 2}}{figure(high):>{_WIDE - _WIDE // 2}}"
    return [*lines, scale, ""]


def _signed(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{'+' if value > 0 else ''}{figure(value)}"


def _ends(ends: tuple[float, float] | None) -> str | None:
    return None if ends is None else f"{figure(ends[0])} to {figure(ends[1])}"


def _chance(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
