"""Rows that are not what they should be: counted in one error that names the way out, or left out and counted."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from crowdselect.errors import InputError

Raw = TypeVar("Raw")
Parsed = TypeVar("Parsed")


@dataclass(slots=True)
class Malformed:
    """Parses the rows of files; what is malformed is an error, unless it is to be left out.

    Example:
        >>> def number(text: str) -> int:
        ...     if not text.isdigit():
        ...         raise InputError(f"{text!r} is no number")
        ...     return int(text)
        >>> Malformed().parsed(number, ["1", "a", "b"])
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: 'a' is no number; 2 of 3 rows are malformed: correct them, or leave malformed rows out with `skip_invalid=True`
        >>> lenient = Malformed(skip=True)
        >>> lenient.parsed(number, ["1", "a", "b"]), lenient.count
        ([1], 2)
    """

    skip: bool = False
    """Leave them out."""
    count: int = 0
    """How many were left out so far."""
    notes: list[str] = field(default_factory=list)
    """A line for the user on each file with some."""

    def parsed(self, parse: Callable[[Raw], Parsed], rows: Iterable[Raw]) -> list[Parsed]:
        """Parse the rows of a file.

        Args:
            parse: Raises an `InputError` that names file and row where one is malformed.
            rows: In file order; an error of their own ends the reading.

        Returns:
            Those that are sound, in the same order.

        Raises:
            InputError: Some are malformed, and none are to be left out; the message counts them all.
        """
        found: list[Parsed] = []
        wrong: list[str] = []
        for row in rows:
            try:
                found.append(parse(row))
            except InputError as error:
                wrong.append(str(error))
        every = len(found) + len(wrong)
        if wrong and not self.skip:
            raise malformed_rows(wrong, every)
        if wrong:
            self.count += len(wrong)
            self.notes.append(left_out_rows(wrong, every))
        return found


def malformed_rows(wrong: Sequence[str], rows: int) -> InputError:
    """Make the error about malformed rows.

    Args:
        wrong: What is wrong with each, with its place.
        rows: How many rows there are in all.
    """
    one = len(wrong) == 1
    return InputError(
        f"{wrong[0]}; {len(wrong):,} of {rows:,} rows {'is' if one else 'are'} malformed: correct "
        f"{'it' if one else 'them'}, or leave malformed rows out with `skip_invalid=True`"
    )


def left_out_rows(wrong: Sequence[str], rows: int) -> str:
    """Say that malformed rows were left out; the arguments are those of `malformed_rows`.

    Example:
        >>> left_out_rows(["f.jsonl: line 3 has no id"], 12)
        '1 of 12 rows is malformed and left out; the first: f.jsonl: line 3 has no id'
    """
    is_are = "is" if len(wrong) == 1 else "are"
    return f"{len(wrong):,} of {rows:,} rows {is_are} malformed and left out; the first: {wrong[0]}"
