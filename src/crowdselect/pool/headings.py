"""The headings of a CSV file: where they are if titles stand above them, several lines of them, and columns that have none."""

import re
from collections.abc import Sequence
from pathlib import Path

from crowdselect.errors import InputError
from crowdselect.pool.modelcolumns import ANSWERS, SCORES

_UNNAMED = re.compile(r"\s*(Unnamed: \d+)?\s*")
_VALUES = re.compile(rf"({'|'.join((*ANSWERS, *SCORES))})s?", re.IGNORECASE)
_LONGEST = 100  # characters of a heading
_NUMBER = re.compile(r"\s*[+-]?\d+([.,]\d+)?\s*%?\s*")


def is_nameless(at: int, name: str) -> bool:
    """Say whether a column has no name; the first then is the index that pandas writes.

    Example:
        >>> is_nameless(0, ""), is_nameless(1, ""), is_nameless(2, "id")
        (False, True, False)
    """
    return at > 0 and not name


def is_title(cells: Sequence[str]) -> bool:
    """Say whether a line is rather a title than headings: half of its cells or more are empty, and not the first alone.

    Example:
        >>> is_title(["Evaluation", "", ""]), is_title(["", "score"]), is_title(["id", "score", ""])
        (True, False, False)
    """
    empty = [at for at, cell in enumerate(cells) if _UNNAMED.fullmatch(cell)]
    return empty not in ([], [0]) and 2 * len(empty) >= len(cells)


def nameless(file: Path, at: int, row: int, value: str) -> InputError:
    """Say that a column without a name holds something.

    Args:
        file: The file.
        at: The column, from 0.
        row: Where it does, from 1.
        value: What.
    """
    return InputError(
        f"{file}: row {row}: column {at + 1} has no name, and holds {value[:60]!r}; name it in the header, or delete it"
    )


def _bare(cell: str) -> str:
    return "" if _UNNAMED.fullmatch(cell) else cell.strip()


def refuse_titles(file: Path, lines: Sequence[tuple[int, Sequence[str]]], sign: str) -> None:
    """Stop where titles stand above the headings, as spreadsheets have them.

    Args:
        file: The file.
        lines: The first lines that are not blank: the number of each, from 1, and its cells.
        sign: What stands between cells.

    Raises:
        InputError: Half of the first line or more is empty, and a later one looks like headings: no number is in it, and
            every column that holds anything has a cell there; or two lines do together, where cells were merged.
    """
    used = sorted({at for _, cells in lines for at, cell in enumerate(cells) if cell.strip()})
    named = [[_bare(cells[at]) if at < len(cells) else "" for at in used] for _, cells in lines]
    if not named or not is_title(named[0]):
        return
    wordy = [not any(map(_NUMBER.fullmatch, cells)) for cells in named]
    full = [at for at, cells in enumerate(named) if wordy[at] and at and all(cells)]
    # Names that recur belong to what stands above them; a line of data has numbers.
    single = next((at for at in full[:1] if len(set(named[at])) == len(used)), None)
    pairs = (at for at in range(1, len(named)) if wordy[at - 1] and wordy[at])
    double = next((at for at in pairs if all(map("".join, zip(named[at - 1], named[at], strict=True)))), None)
    told = f"{file}: line 1 has {named[0].count('')} empty headings"
    apart = "" if sign == "," else f", sep={sign!r}"
    wide = single if single is not None else double
    if wide is None or 2 * sum(len(cells) == len(lines[wide][1]) for _, cells in lines) < len(lines):
        return
    if single is not None:
        raise InputError(
            f"{told}; the header seems to be line {lines[single][0]}, the first with all cells filled "
            f"({', '.join(named[single])[:80]}); delete the lines above it, or let pandas: "
            f"pd.read_csv({str(file)!r}, header={single}{apart}).to_csv('pool.csv', index=False)"
        )
    if double is not None:
        first, last = lines[double - 1][0], lines[double][0]
        raise InputError(
            f"{told}; the header seems to be lines {first} and {last}, with merged cells; write each heading into one cell, as "
            f"'MODEL answer', and delete the other lines, or let pandas: h = pd.read_csv({str(file)!r}, header=None, "
            f"skiprows={first - 1}, nrows={last - first + 1}{apart}).T; pd.read_csv({str(file)!r}, header=None, skiprows={last}"
            f"{apart}, names=(h[0].ffill().fillna('') + ' ' + h[1].fillna('')).str.strip()).to_csv('pool.csv', index=False)"
        )


def refuse_levels(file: Path, lines: Sequence[tuple[int, Sequence[str]]], sign: str) -> None:
    """Stop where two lines together are the headings, as of a pandas pivot: what a column holds, and the model whose it is.

    Args:
        file: The file.
        lines: The first lines that are not blank: the number of each, from 1, and its cells.
        sign: What stands between cells.

    Raises:
        InputError: From some column on, names of the first line recur, the second tells these columns apart, and either the
            third, with the names of the columns before, is empty there, or the second has the same names under each.
    """
    (_, above), (_, below) = (*lines, (0, []), (0, []))[:2]
    third = lines[2][1] if len(lines) > 2 else []
    first = next((at for at, cell in enumerate(above) if _bare(cell) and above.count(cell) > 1), 0)
    pairs = list(zip(above[first:], below[first:], strict=False))
    told = all(_bare(one) and _bare(two) and len(two) <= _LONGEST for one, two in pairs)
    if not first or len(above) != len(below) or not told or len(set(pairs)) < len(pairs):
        return
    named = bool(third) and all(map(_bare, third[:first])) and not any(map(_bare, third[first:]))
    under = [{two for own, two in pairs if own == one} for one in above[first:]]
    alike = len(set(above[first:])) > 1 and all(own == under[0] for own in under)
    if not named and (not alike or any(_NUMBER.fullmatch(two) for _, two in pairs)):
        return
    names = (
        third[:first]
        if named
        else [_bare(one) or _bare(two) for one, two in zip(above[:first], below[:first], strict=True)]
    )
    names = ["index" if name in {"", "model"} else name for name in names]
    level = 0 if any(_VALUES.fullmatch(two.strip()) for _, two in pairs) else 1
    apart = "" if sign == "," else f", sep={sign!r}"
    raise InputError(
        f"{file}: the file seems to have several lines of headings, as a pandas pivot has: line 1 ({_few(above[first:])}) and "
        f"line 2 ({_few(below[first:])}); one answer per row is wanted; let pandas: "
        f"pd.read_csv({str(file)!r}, header=[0, 1], index_col={list(range(first))}{apart}, keep_default_na=False, "
        f"na_values=['']).rename_axis(index={names!r})"
        f".stack(level={level}, future_stack=True).dropna(how='all').rename_axis({[*names, 'model']!r}).reset_index()"
        ".to_csv('pool.csv', index=False)"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))[:80]
