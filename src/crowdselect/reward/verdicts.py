"""The one reader of judges' verdicts, for `reward --with judge:`, MT-Bench and Arena-Hard.

Reasoning is removed first; then the last line that has the asked form decides, and nothing else in the reply. What
cannot be told for certain is missing, with a reason: a range, a word, two different values, an echo of the scale.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from crowdselect.finish import after_thinking

LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
"""From `A` far better to `B` far better."""

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_DECORATION = r"[\s\"'*_`(\[]*"
_WORDS = r"(?:score|rating|grade)"
_DOUBLE = re.compile(r"\[\[([^\[\]]*)\]\]")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_KEYED = re.compile(rf"[\"'][\w ]*{_WORDS}[\"']\s*:\s*([^,}}\n]*)", re.IGNORECASE)
_NAMED = re.compile(
    rf"\b{_WORDS}\b[\"'*_`]*(?:\s*\([^()]*\))?[\s\"'*_`]*(?:[:=\uff1a\uff1d]|\s[-\u2013\u2014](?=\s)){_DECORATION}(?=\S)",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"{_DECORATION}({_NUMBER})(?:\s*/\s*(\d+))?[\s\"'*_`)\]]*(\.?)[\s\"'*_`]*")
_OF = re.compile(r"[\s\"'*_`)\]]*\(?\s*(?:/|out of|of)\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_DEFINES = re.compile(r"[\"'*_`)\]]*\s*(?:=|(?:is|are|means?|would|stands)\b)", re.IGNORECASE)
_SENTENCE = re.compile(r"[.;!?](?=\s|$)|[\u3002\uff1b\uff01\uff1f]")
_WHOLE = re.compile(rf"\s*[\"'*_`]*({_NUMBER})[\"'*_`]*\s*(?:(?:/|out of)\s*(\d+(?:\.\d+)?))?\s*")
_LETTERS = {"A": "A>B", "B": "B>A", "C": "A=B"}  # of FastChat's pairwise prompts
_SPELT = {"B=A": "A=B", "A<B": "B>A", "A<<B": "B>>A", "B<A": "A>B", "B<<A": "A>>B"}
_SHOWN = 60
_LONGEST = 4000  # characters of a line that are read


class Score(NamedTuple):
    """A number read in a reply, or the reason why there is none.

    Attributes:
        value: None if there is none.
        place: Start and end of the number in the reply; None if there is none.
        reason: None if there is a number.
    """

    value: float | None = None
    place: tuple[int, int] | None = None
    reason: str | None = None


class Label(NamedTuple):
    """Which of two answers is better by a reply, one of `LABELS`, or the reason why that cannot be told."""

    value: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """One place in a line that has the asked form: its value, or why it has none."""

    value: float | str | None
    place: tuple[int, int] = (0, 0)
    reason: str = ""


def read_number(reply: str, *, lowest: float, highest: float) -> Score:
    r"""Read the number in a judge's reply.

    The forms are `Score: 8` (also Rating, Grade; a colon of any width, `=` or ` - ` between), `[[8]]`, `8/10`, `**8**`,
    `{"score": 8}` and `\boxed{8}`.

    Args:
        reply: The judge's reply.
        lowest: The lowest number of the scale.
        highest: The highest, which a fraction such as `8/10` must be of.

    Returns:
        A number from `lowest` to `highest`, or why none can be read; never a default.

    Example:
        >>> read_number("<think>Score: 3?</think>Good.\nScore: 8", lowest=0, highest=10).value
        8.0
        >>> read_number("Score: 7-8", lowest=0, highest=10).reason
        "a range or several numbers: 'Score: 7-8'"
    """

    def forms(line: str, start: int) -> Iterator[_Found]:
        yield from _numbers(line, start, highest=highest, is_whole=line.strip() == reply[begin:].strip())

    begin = after_thinking(reply)
    found, why = _decided(reply, begin, forms, ends=(lowest, highest), what="score")
    if found is None:
        return Score(reason=why)
    value = float(found.value or 0.0)
    if not lowest <= value <= highest:
        return Score(reason=f"the judge says {value:g}, which is outside {lowest:g} to {highest:g}")
    return Score(value, found.place)


def read_label(reply: str) -> Label:
    r"""Read in a judge's reply which of two answers is better.

    Args:
        reply: The reply, with one of `[[A>>B]]`, `[[A>B]]`, `[[A=B]]`, `[[B>A]]`, `[[B>>A]]`, or FastChat's `[[A]]`,
            `[[B]]`, `[[C]]`.

    Example:
        >>> read_label("[[A>B]]? No.\nMy final verdict is: [[B>A]]").value, read_label("[[C]]").value
        ('B>A', 'A=B')
        >>> read_label("I like both.").reason
        "no verdict can be read in 'I like both.'"
    """
    found, why = _decided(reply, after_thinking(reply), _labels, ends=(LABELS[0], LABELS[-1]), what="verdict")
    return Label(reason=why) if found is None else Label(str(found.value))


def canonical(written: str) -> str | None:
    """Return a label as one of `LABELS`; None if it is not a label.

    Example:
        >>> canonical("A<<B"), canonical("A>A")
        ('B>>A', None)
    """
    label = _SPELT.get(written, _LETTERS.get(written, written))
    return label if label in LABELS else None


def _decided(
    reply: str,
    begin: int,
    forms: Callable[[str, int], Iterator[_Found]],
    *,
    ends: tuple[object, object],
    what: str,
) -> tuple[_Found | None, str | None]:
    """Find the last line that has the asked form, and its one value; or the reason why there is none."""
    lines = list(_lines(reply, begin))
    block: list[list[_Found]] = []  # the last lines that have it, without another between, from the end
    shown = ""
    for start, line in reversed(lines):
        found = list(forms(line, start))
        if not found and block:
            break
        if found:
            shown = shown or " ".join(line.split())[:_SHOWN]
            block.append(found)
    if not block:
        return None, _nothing(reply, begin, what)
    values = list(dict.fromkeys(found.value for found in block[0] if found.value is not None))
    if len(values) > 1:
        return None, f"the judge gives {len(values)} verdicts: {', '.join(map(_short, values[:5]))}"
    unread = next((found for found in block[0] if found.value is None), None)
    if unread is not None:
        return None, f"{unread.reason}: {shown!r}"
    if {found.value for some in block for found in some} >= set(ends):
        return None, f"an echo of the scale: it ends in {shown!r}"
    return block[0][-1], None


def _nothing(reply: str, begin: int, what: str) -> str:
    """Say why no line of a reply has the asked form."""
    if begin == len(reply) and "<think>" in reply[reply.rfind("</think>") + 1 :]:
        return "the judge's reply is no verdict: an unfinished <think>"
    shown = " ".join(reply[begin:][: 20 * _SHOWN].split())
    return f"no {what} can be read in {shown[:_SHOWN]!r}" if shown else "the judge's reply is empty"


def _lines(reply: str, begin: int) -> Iterator[tuple[int, str]]:
    """Yield the lines and where they begin; of a very long one its end, which bounds the time."""
    for line in reply[begin:].splitlines(keepends=True):
        begin += len(line)
        kept = line[-_LONGEST:]
        yield begin - len(kept), kept


def _labels(line: str, _start: int) -> Iterator[_Found]:
    for match in _DOUBLE.finditer(line):
        value = canonical(match[1].strip())
        yield _Found(value, reason="" if value else "what stands in the brackets is no verdict")


def _numbers(line: str, start: int, *, highest: float, is_whole: bool) -> Iterator[_Found]:
    """Yield what a line holds in the asked form; `is_whole`: there is no other line."""
    marked = [match for form in (_DOUBLE, _BOXED, _KEYED) for match in form.finditer(line)]
    for match in marked:
        yield _in_marks(match, start, highest)
    if marked:
        return
    named = [_after_name(line, match.end(), start, highest) for match in _NAMED.finditer(line)]
    if named:
        yield from named
        return
    alone = _ALONE.fullmatch(line)
    if alone is not None and (not alone[3] or is_whole):
        yield _of_scale(alone[1], alone[2], (start + alone.start(1), start + alone.end(1)), highest)


def _in_marks(match: re.Match[str], start: int, highest: float) -> _Found:
    """Read what stands in brackets, in a box, or after a key: a number and nothing else."""
    inner = match[1].strip().strip("\"'")
    number = _WHOLE.fullmatch(inner)
    if number is None:
        return _Found(None, reason=_why_none(inner))
    begin = start + match.start(1) + match[1].index(number[1])
    return _of_scale(number[1], number[2], (begin, begin + len(number[1])), highest)


def _after_name(line: str, begin: int, start: int, highest: float) -> _Found:
    """Read what stands after `Score:`, to the end of the sentence: one number, and perhaps the scale it is of."""
    number = re.compile(_NUMBER).match(line, begin)
    if number is None or re.compile(r"\w").match(line, number.end()):
        return _Found(None, reason=_why_none(line[begin:]))
    end = _SENTENCE.search(line, number.end())
    rest = line[number.end() : len(line) if end is None else end.start()]
    if _DEFINES.match(rest):
        return _Found(None, reason="an echo of the scale")
    scale = _OF.match(rest)
    rest = rest[scale.end() :] if scale is not None else rest
    named = _NAMED.search(rest)  # the next one is read for itself
    others = re.findall(r"\d+(?:\.\d+)?", rest if named is None else rest[: named.start()])
    if any(float(other) != float(number[0]) for other in others):
        return _Found(None, reason="a range or several numbers")
    place = (start + number.start(), start + number.end())
    return _of_scale(number[0], scale and scale[1], place, highest, percent=rest.startswith("%"))


def _of_scale(
    number: str, scale: str | None, place: tuple[int, int], highest: float, *, percent: bool = False
) -> _Found:
    if percent or (scale is not None and float(scale) != highest):
        return _Found(None, reason=f"a number of another scale than to {highest:g}")
    return _Found(float(number), place)


def _why_none(text: str) -> str:
    return "a range or several numbers" if re.search(r"\d", text) else "no number"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
