"""Quotas by the values of a column: what `quota` says, and the strata of the rows that may be chosen."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from crowdselect.errors import OptionError, near_miss
from crowdselect.numeric.clusters import MISSING
from crowdselect.numeric.strata import Strata
from crowdselect.types import BoolArray, ObjectArray

REST = "rest"
"""The name of all values that have no share of their own."""

EQUAL, PROPORTIONAL = "equal", "proportional"
_FORM = "wanted COLUMN=equal, COLUMN=proportional or shares such as COLUMN=a:0.5,b:0.3,rest:0.2"
_SHARE = re.compile(r"[0-9]*\.?[0-9]+|[0-9]+/0*[1-9][0-9]*")
_SHOWN = 5  # values named in a message


@dataclass(frozen=True, slots=True)
class Quota:
    """How many of the rows each value of a column gets."""

    column: str
    rule: str
    """`equal`, `proportional`, or how the shares were written."""
    shares: Mapping[str, Fraction] = field(default_factory=dict)
    """Share per value, above 0; they add up to 1. Without any, every value is a stratum."""

    @property
    def takes_all(self) -> bool:
        """Whether every value gets places."""
        return not self.shares or REST in self.shares

    def stratum(self, value: str | None) -> str:
        """Name the stratum of a value: itself, or `rest` where others have shares; None is `(missing)`."""
        named = MISSING if value is None else value
        return named if not self.shares or named in self.shares else REST


def read_quota(text: str | None) -> Quota | None:
    """Read `COLUMN=RULE`; None where none is given.

    Args:
        text: The rule is `equal`, `proportional`, or `VALUE:SHARE,...`. Shares are decimals or fractions such as 1/3;
            `rest` names all values without a share, `(missing)` rows without a value. A value may hold colons and commas.

    Raises:
        OptionError: It is of another form, names a value twice, or the shares do not add up to 1.

    Example:
        >>> read_quota("source=a:0.5,b, c:0.3,rest:0.2").shares
        {'a': Fraction(1, 2), 'b, c': Fraction(3, 10), 'rest': Fraction(1, 5)}
        >>> read_quota("source=a:0.5,b:0.3")
        Traceback (most recent call last):
        ...
        crowdselect.errors.OptionError: `quota='source=a:0.5,b:0.3'`: the shares add up to 0.8; wanted 1, as with rest:0.2
    """
    if text is None:
        return None
    column, _, rule = text.partition("=")
    if not column.strip() or not rule.strip():
        raise OptionError(f"`quota={text!r}` is of another form; {_FORM}")
    if rule.strip() in {EQUAL, PROPORTIONAL}:
        return Quota(column.strip(), rule.strip())
    return Quota(column.strip(), rule.strip(), _shares(rule, text))


def _shares(rule: str, text: str) -> dict[str, Fraction]:
    shares: dict[str, Fraction] = {}
    pending = ""
    for part in rule.split(","):
        pending += part
        value, _, share = (side.strip() for side in pending.rpartition(":"))
        if not value or _SHARE.fullmatch(share) is None:
            pending += ","  # a comma of a value
            continue
        if value in shares:
            raise OptionError(f"`quota={text!r}` names {value!r} twice; name each value once")
        shares[value] = Fraction(share)
        if not shares[value]:
            raise OptionError(
                f"`quota={text!r}`: the share of {value!r} is 0; wanted more (without `rest`, a value that is not named gets no place)"
            )
        pending = ""
    if pending:
        raise OptionError(f"`quota={text!r}` is of another form; {_FORM}")
    whole = sum(shares.values())
    if whole != 1:
        hint = f", as with {REST}:{float(1 - whole):.6g}" if whole < 1 and REST not in shares else ""
        raise OptionError(f"`quota={text!r}`: the shares add up to {float(whole):.6g}; wanted 1{hint}")
    return shares


def without_quota(quota: Quota, values: ObjectArray) -> BoolArray:
    """Mark the rows whose value gets no place.

    Args:
        quota: The rule.
        values: The column's values, shape (N,), of str; None = missing.

    Returns:
        Shape (N,).

    Raises:
        OptionError: A value that has a share is in no row: most likely it is misspelt.
    """
    found = {MISSING if value is None else value for value in values}
    for name in quota.shares:
        if name != REST and name not in found:
            shown = sorted(found)[:_SHOWN]
            more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
            hint = near_miss(name, sorted(found)) or f"; there are: {', '.join(shown)}{more}"
            raise OptionError(f"`quota`: no row has the {quota.column} {name!r}{hint}")
    if quota.takes_all:
        return np.zeros(len(values), dtype=np.bool_)
    return np.array([quota.stratum(value) == REST for value in values], dtype=np.bool_)


def strata_of(quota: Quota, values: ObjectArray, eligible: BoolArray) -> Strata:
    """Find the stratum of every row that may be chosen.

    Args:
        quota: The rule.
        values: The column's values, shape (N,), of str; None = missing.
        eligible: Which rows may be chosen, shape (N,).

    Returns:
        The strata in code-point order of their names, `(missing)` and `rest` last. Every value of an eligible row is
        one, or with shares every value that has one and `rest`, whether rows of it are eligible or not.

    Example:
        >>> values = np.array(["b", None, "a", "b"], dtype=object)
        >>> found = strata_of(Quota("source", "equal"), values, np.array([True, True, False, True]))
        >>> found.names, found.of.tolist()
        (('b', '(missing)'), [0, 1, 0, 0])
    """
    own = [quota.stratum(value) for value in values[eligible]]
    names = sorted(
        set(quota.shares or own),
        key=lambda name: (name == REST and bool(quota.shares), name == MISSING, name),
    )
    number = {name: at for at, name in enumerate(names)}
    of = np.zeros(len(values), dtype=np.int64)
    of[eligible] = [number[name] for name in own]
    return Strata(of, tuple(names), _weights(quota, names))


def _weights(quota: Quota, names: Sequence[str]) -> tuple[int, ...] | None:
    if quota.shares:
        whole = math.lcm(*(share.denominator for share in quota.shares.values()))
        return tuple(int(quota.shares[name] * whole) for name in names)
    return None if quota.rule == PROPORTIONAL else (1,) * len(names)


def stratum_words(options: Mapping[str, Any], stratum: str) -> str:
    """Name a stratum for people.

    Args:
        options: Those of a selection with a quota.
        stratum: As in its table.

    Example:
        >>> stratum_words({"quota": "source=equal"}, "web")
        'source web'
    """
    quota = read_quota(options["quota"])
    return stratum if quota is None else f"{quota.column} {stratum}"
