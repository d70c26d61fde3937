"""How a judge's reply is read: one verdict, or none and a reason; never a default."""

import re
from typing import NamedTuple

from crowdselect.finish import spoken

LOWEST, HIGHEST = 1, 10
STRONG = 3
"""Verdicts that a strong one counts as."""
LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
"""From `A` far better to `B` far better."""

_RATING = re.compile(r"\[\[\s*(-?\d+(?:\.\d+)?)\s*\]\]")
_SAID = re.compile(r"\brating\b[\s\"'*_`]*[:=][\s\"'*_`]*\[?\s*(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_LABEL = re.compile(r"\[\[\s*([AB][<>=]{1,2}[AB]|[ABC])\s*\]\]")
_SPELT = {"B=A": "A=B", "A<B": "B>A", "A<<B": "B>>A", "B<A": "A>B", "B<<A": "A>>B"}
_LETTERS = {"A": "A>B", "B": "B>A", "C": "A=B"}  # of FastChat's prompts for pairs
_SHOWN = 60


class Reading(NamedTuple):
    """What a reply says: a rating or a label, or why there is none."""

    rating: float | None = None
    label: str | None = None
    reason: str | None = None

    @property
    def is_missing(self) -> bool:
        """No verdict can be read."""
        return self.rating is None and self.label is None


def read_rating(text: str) -> Reading:
    """Read a rating from 1 to 10 off a reply.

    Args:
        text: What the judge wrote: `[[N]]` somewhere in it, or else `Rating: N`. Several that agree are one.

    Example:
        >>> read_rating("Good, but short. Rating: [[7]]").rating
        7.0
        >>> read_rating("[[2]] or rather [[9]]").reason
        'the judge gives 2 verdicts: 2, 9'
        >>> read_rating("[[11]]").reason
        'the judge says 11, which is outside 1 to 10'
    """
    said = spoken(text)
    found = sorted({float(value) for value in _RATING.findall(said) or _SAID.findall(said)})
    if len(found) != 1:
        return Reading(reason=_unclear([f"{value:g}" for value in found], text))
    if not LOWEST <= found[0] <= HIGHEST:
        return Reading(reason=f"the judge says {found[0]:g}, which is outside {LOWEST} to {HIGHEST}")
    return Reading(rating=found[0])


def read_label(text: str) -> Reading:
    """Read which of two answers is better off a reply.

    Args:
        text: What the judge wrote: one of `[[A>>B]]`, `[[A>B]]`, `[[A=B]]`, `[[B>A]]`, `[[B>>A]]`, or FastChat's
            `[[A]]`, `[[B]]`, `[[C]]`. Several that agree are one.

    Example:
        >>> read_label("My final verdict is: [[A>>B]]").label, read_label("[[C]]").label
        ('A>>B', 'A=B')
        >>> read_label("I like both.").reason
        "no verdict can be read in 'I like both.'"
    """
    known = {label for written in _LABEL.findall(spoken(text)) if (label := canonical(written)) is not None}
    found = [label for label in LABELS if label in known]
    return Reading(label=found[0]) if len(found) == 1 else Reading(reason=_unclear(found, text))


def canonical(written: str) -> str | None:
    """Give a label as one of `LABELS`; None where it is none.

    Example:
        >>> canonical("A<<B"), canonical("A>A")
        ('B>>A', None)
    """
    label = _SPELT.get(written, _LETTERS.get(written, written))
    return label if label in LABELS else None


def weighed(label: str) -> tuple[float, int]:
    """Give what a label means for A: its share of the win (0, 0.5 or 1), and how much the verdict counts.

    Example:
        >>> weighed("A>>B"), weighed("A=B"), weighed("B>A")
        ((1.0, 3), (0.5, 1), (0.0, 1))
    """
    place = LABELS.index(label)
    return (1.0, 1.0, 0.5, 0.0, 0.0)[place], STRONG if place in {0, 4} else 1


def _unclear(found: list[str], text: str) -> str:
    if found:
        return f"the judge gives {len(found)} verdicts: {', '.join(found[:5])}"
    shown = " ".join((spoken(text) or text)[: 20 * _SHOWN].split())
    return f"no verdict can be read in {shown[:_SHOWN]!r}" if shown else "the judge's reply is empty"
