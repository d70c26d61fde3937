"""Arguments that several methods have, checked."""

from typing import Any, Literal, get_args

from crowdselect.errors import OptionError

Direction = Literal["up", "down"]
"""The highest first, or the lowest."""


def check_known(name: str, value: str, kind: Any) -> None:  # noqa: ANN401  (a Literal)
    """Refuse a value that is none of a `Literal`'s.

    Raises:
        OptionError: It is not.
    """
    if value not in get_args(kind):
        raise OptionError(f"`{name}={value!r}` is unknown; choose one of: {', '.join(get_args(kind))}")


def sign(direction: str) -> float:
    """Give what a number is multiplied by so that the first to be chosen has the highest.

    Raises:
        OptionError: The direction is unknown.

    Example:
        >>> sign("down")
        -1.0
    """
    check_known("direction", direction, Direction)
    return 1.0 if direction == "up" else -1.0


def check_one_place(what: str, *places: object) -> None:
    """Refuse a column and a judge at once, and neither.

    Raises:
        OptionError: Not exactly one of `places` is given.
    """
    if sum(place is not None for place in places) != 1:
        raise OptionError(
            f"{what} come from a column of the pool (`column`) or from a judge (`judge`); give one of them"
        )
