"""Scores that are written as texts, such as `3,5`, `8/10`, `85 %` and `B+`: how to find them, and what makes numbers of them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crowdselect.pool.columns import FAILED, MISSING_TEXTS
from crowdselect.pool.documents import pandas_of
from crowdselect.pool.modelcolumns import is_score
from crowdselect.pool.rowfiles import NUMBER, Broken, dialect_of, list_in, rows_of

REWARD = re.compile(r"reward|score|rating|grade|correct", re.IGNORECASE)
"""Names of columns in which a text among numbers makes a malformed row."""
_SCORE = r"[+＋－-]?[0-9０-９]+([.,．，][0-9０-９]+)?"  # noqa: RUF001
_PART = r"([+＋－-]?[0-9０-９]{1,3}([.,．，][0-9０-９]+)?|1000)"  # noqa: RUF001  (four digits are a year)
_FRACTION = rf"{_PART}\s*/\s*{_PART}"
WRITTEN = rf"\s*({_SCORE}\s*%?|{_FRACTION})\s*"
"""A pattern of scores that are numbers but for how they are written, and of numbers; for Python and for DuckDB."""

_PATTERNS = {
    "comma": re.compile(r"\s*[+-]?\d+,\d+\s*"),
    "whole": re.compile(r"\s*[+-]?\d+\s*"),
    "number": re.compile(r"\s*[+-]?\d+(\.\d+)?\s*"),
    "written": re.compile(WRITTEN),
    "grade": re.compile(r"\s*[A-F][+-]?\s*"),
    "signed": re.compile(r"\s*[A-F][+-]\s*"),
}
_GRADES = "{'A+': 4.3, 'A': 4, 'A-': 3.7, 'B+': 3.3, 'B': 3, 'B-': 2.7, 'C+': 2.3, 'C': 2, 'C-': 1.7, 'D+': 1.3, 'D': 1, 'F': 0}"
_FORMS = {
    "comma": (re.compile(rf"\s*{_SCORE}\s*"), ".str.replace(',', '.').astype(float)"),
    "/": (
        re.compile(rf"\s*{_FRACTION}\s*"),
        ".str.replace(',', '.').str.split('/', expand=True).astype(float).pipe(lambda x: x[0] / x[1])",
    ),
    "%": (re.compile(rf"\s*{_SCORE}\s*%\s*"), ".str.replace(',', '.').str.rstrip(' %').astype(float)"),
    "number": (NUMBER, ".astype(float)"),
    "grade": (_PATTERNS["grade"], f".str.strip().replace({_GRADES}).astype(float)"),
}
"""What scores are written like, and what makes numbers of a column of them."""
_LONGEST = 20  # characters of such a text
_LISTED = 10  # files that a line names one by one
_MOST = 10  # texts of a column that stand for no number


@dataclass(slots=True)
class _Column:
    """What the texts of a column were seen to be."""

    counts: Counter[str] = field(default_factory=Counter)
    first: tuple[int, str] | None = None
    """The first that is a score and no number: its row, from 1, and itself; as long as there is none, the first text."""

    def add(self, row: int, value: str) -> None:
        fits = {name for name, pattern in _PATTERNS.items() if pattern.fullmatch(value)}
        score = bool(fits) and "number" not in fits
        if (score and not self.counts["score"]) or (not fits and self.first is None):
            self.first = row, value
        self.counts.update(fits, filled=1, score=int(score))

    @property
    def commas(self) -> bool:
        """Whether most are whole numbers or have a decimal comma, as spreadsheets write them."""
        written = self.counts["comma"] + self.counts["whole"]
        return self.counts["comma"] > 0 and 2 * written > self.counts["filled"]

    def are_scores(self, *, named: bool) -> bool:
        """Whether they are scores, and not mostly numbers already; `named` where the name of the column says so."""
        n = self.counts
        if 2 * n["number"] > n["filled"] or self.first is None:
            return False
        graded = n["grade"] == n["filled"] and (named or n["signed"] > 0)  # A to D alone are choices, too
        return graded or 2 * n["written"] > n["filled"] or (named and n["written"] > 0)


def written_scores(
    file: Path, kind: str, names: Iterable[str], *, every: bool
) -> tuple[list[str], int, str] | None:
    """Find the columns of texts that are scores.

    Args:
        file: The file.
        kind: As of `rows_of`.
        names: The columns to look at.
        every: Whether columns count, too, that only their names make scores, or only their texts, where there are
            several. Decimal commas of a CSV file with semicolons always do.

    Returns:
        The columns; and the first text of the first of them, with its row, from 1. None = there is none.
    """
    semicolons = kind == "csv" and dialect_of(file).delimiter == ";"
    left = {name: _Column() for name in names if every or semicolons or is_score(name)}
    for at, row in rows_of(file, kind, list(left)) if left else ():
        values = {} if isinstance(row, Broken) else {name: row.get(name) for name in left}
        for name, value in values.items():
            if isinstance(value, str) and len(value) <= _LONGEST:
                if value.strip().casefold() not in MISSING_TEXTS:
                    left[name].add(at, value)
            elif value is not None and not isinstance(value, int | float):
                del left[name]
        if not left:
            return None
    found = [name for name, column in left.items() if semicolons and column.commas]
    found = found or [name for name, column in left.items() if column.are_scores(named=is_score(name))]
    named = [name for name, column in left.items() if is_score(name) and column.first is not None]
    if not found and every and len(named) > 1:
        found = named
    if (every and len(found) == 1) or not every:
        found = [name for name in found if is_score(name) or (semicolons and left[name].commas)]
    first = left[found[0]].first if found else None
    return None if first is None else (found, *first)


def are_written_scores(texts: Iterable[str]) -> bool:
    """Say whether most texts are scores that are written otherwise than numbers, or all are grades.

    Example:
        >>> are_written_scores(["8/10", "9/10"]), are_written_scores(["travel", "A"])
        (True, False)
    """
    column = _Column()
    for row, text in enumerate(texts, 1):
        column.add(row, text)
    return column.are_scores(named=False)


def wants_number(value: str, columns: Sequence[str], path: str) -> str | None:
    """Say how a score is to be written, and the line of pandas that changes that; None = nobody knows what it stands for.

    Args:
        value: The text.
        columns: Those that hold such texts; none = any, for a decimal comma.
        path: The file; its other texts in these columns are read too: those that stand for no number become empty.

    Example:
        >>> wants_number("3,5", [], "f.csv").partition(";")[0]
        "wanted a decimal point, '3.5'"
        >>> print(wants_number("85 %", ["score"], "f.jsonl"))
        the scores are texts, wanted numbers; pandas makes them: df = pd.read_json('f.jsonl', lines=True, dtype=False); c = ['score']; df[c] = df[c].apply(lambda s: s.str.replace(',', '.').str.rstrip(' %').astype(float)); df.to_parquet('pool.parquet')
    """
    form = _form(value)
    if form is None and len(columns) == 1:
        column = _column(columns[0], path)
        counts = column.counts
        if counts["score"] and 2 * counts["written"] > counts["filled"] and column.first is not None:
            value = column.first[1]
            form = _form(value)
        elif 2 * counts["number"] > counts["filled"]:
            form = "number"
    if form is None or (form == "comma" and "," not in value) or not (columns or form == "comma"):
        return None
    beside = _Beside(columns, path, form)
    wanted = f"wanted a decimal point, {value.replace(',', '.')!r}" if form == "comma" else None
    first = wanted or (
        "wanted a number, or an empty cell" if form == "number" else "the scores are texts, wanted numbers"
    )
    if beside.unlike is not None:
        name, other = beside.unlike
        return (
            f"{first}; {name} holds {other!r}, too: write all scores as numbers, and leave the others empty"
        )
    told = [repr(text) for text in beside.texts if text.strip()]
    empty = f" (emptying {', '.join(told)})" if told else ""
    read = reading(path)
    if wanted and (not columns or (", sep=';'" in read and not beside.points)):
        file = repr(path) if columns else "FILE"
        marked = f", na_values={beside.odd!r}" if beside.odd else ""
        return (
            f"{wanted}; pandas changes that{empty}: "
            f"pd.read_csv({file}, sep=';', decimal=','{marked}).to_parquet('pool.parquet')"
        )
    more = " (with the numbers that your grades stand for)" if form == "grade" else ""
    how = f"{beside.as_texts}{_FORMS[form][1]}"
    return (
        f"{first}; pandas makes them{more}{empty}: df = {read}; c = {list(columns)!r}; "
        f"df[c] = df[c].apply(lambda s: {how}); df.to_parquet('pool.parquet')"
    )


def _form(value: str) -> str | None:
    return next((name for name, (pattern, _) in _FORMS.items() if pattern.fullmatch(value)), None)


def _column(name: str, path: str) -> _Column:
    """What the texts and numbers of a column are."""
    column, kind = _Column(), kind_by_name(path)
    for at, row in rows_of(Path(path), kind, [name]) if kind is not None else ():
        value = None if isinstance(row, Broken) else row.get(name)
        if value is not None:
            column.add(at, str(value))
    return column


class _Beside:
    """What columns hold beside scores of one form."""

    def __init__(self, columns: Sequence[str], path: str, form: str) -> None:
        self.odd: dict[str, list[str]] = {}
        """Column → its distinct texts that stand for no number."""
        self.unlike: tuple[str, object] | None = None
        """A column, and what may be a score in another form, or is one text too many."""
        self.points = False
        """Whether a number has a decimal point."""
        self._numbers = self._wide = False
        kind = kind_by_name(path)
        rows = rows_of(Path(path), kind, columns) if kind is not None and columns else ()
        for _, row in rows:
            values = {} if isinstance(row, Broken) else {name: row.get(name) for name in columns}
            for name, value in values.items():
                self._add(name, value, _FORMS[form][0])

    @property
    def texts(self) -> list[str]:
        """The distinct texts of all columns."""
        return list(dict.fromkeys(text for texts in self.odd.values() for text in texts))

    @property
    def as_texts(self) -> str:
        """Python that makes texts of a column `s`, and nothing of those that stand for no number."""
        emptied = f"s.mask(s.isin({self.texts!r}))" if self.texts else "s"
        narrow = ".str.normalize('NFKC')" if self._wide else ""
        return emptied + (".map(str, na_action='ignore')" if self._numbers else "") + narrow

    def _add(self, name: str, value: object, pattern: re.Pattern[str]) -> None:
        if value is None or value != value:  # noqa: PLR0124  (NaN)
            return
        text = str(value)
        self._numbers |= not isinstance(value, str)
        if pattern.fullmatch(text) and not isinstance(value, bool):
            self._wide |= not text.isascii()
            self.points |= "." in text
            return
        odd = self.odd.setdefault(name, [])
        if text in odd:
            return
        if (
            isinstance(value, bool)
            or (any(map(str.isdigit, text)) and text not in FAILED)  # as #DIV/0!
            or len(odd) == _MOST
            or len(text) > _LONGEST
        ):
            self.unlike = self.unlike or (name, value)
        else:
            odd.append(text)


def kind_by_name(path: str) -> str | None:
    """The kind of a file, as of `rows_of`; None where it is no file that is known by its name."""
    named = re.search(r"\.(?:(parquet)|(json|jsonl|ndjson)|([ct]sv))(\.gz|\.zst)?$", path.casefold())
    if named is None or not Path(path).is_file():
        return None
    return "parquet" if named[1] else "json" if named[2] else "csv"


def reading_all(paths: Sequence[str]) -> str:
    """How pandas reads some files as one table; many, by a pattern where that names these and no others.

    Example:
        >>> reading_all(["a.parquet", "b.parquet"])
        "pd.concat([pd.read_parquet(f) for f in ['a.parquet', 'b.parquet']], ignore_index=True)"
    """
    if len(paths) == 1:
        return reading(paths[0])
    pattern = Path(paths[0]).with_name(f"*{Path(paths[0]).suffix}")
    alike = len(paths) > _LISTED and set(map(Path, paths)) == set(pattern.parent.glob(pattern.name))
    files = f"sorted(glob.glob({str(pattern)!r}))" if alike else repr(list(paths))
    return (
        f"pd.concat([{reading(paths[0]).replace(repr(paths[0]), 'f')} for f in {files}], ignore_index=True)"
    )


def for_each_file(wanted: str | None, count: int) -> str | None:
    """Say of a line of pandas for one file that it is to be run for each, where there are several."""
    return (
        f"{wanted} (for this file; the same for each of {count})"
        if wanted and "pandas" in wanted and count > 1
        else wanted
    )


def reading(path: str) -> str:
    """How pandas reads a file."""
    ending = path.casefold()
    if re.search(r"\.parquet$", ending):
        return f"pd.read_parquet({path!r})"
    if re.search(r"\.(json|jsonl|ndjson)(\.gz|\.zst)?$", ending):
        at = list_in(Path(path)) if Path(path).is_file() else None
        if at is not None:
            return pandas_of(path, at)
        lines = "" if ".json" in Path(ending).suffixes else ", lines=True"
        return f"pd.read_json({path!r}{lines}, dtype=False)"
    if not Path(path).is_file() or not re.search(r"\.[ct]sv(\.gz|\.zst)?$", ending):
        return "pd.read_csv(FILE)"
    sign = dialect_of(Path(path), usual="\t" if ".tsv" in ending else ",").delimiter
    return f"pd.read_csv({path!r}{'' if sign == ',' else f', sep={sign!r}'})"
