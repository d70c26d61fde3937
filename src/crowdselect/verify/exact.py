r"""Compare an answer with a reference as numbers or as text.

Numbers: with separators of thousands, a currency or a unit beside them, as percentages and fractions. Whole numbers have
to be equal, others to a millionth of a unit, and of themselves. Texts: equal but for white space, kind of quotes, markup and a full stop at the end;
case counts.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

_LONGEST = 1000  # characters of a number; a longer one is compared as text
_TOLERANCE = Fraction(1, 10**6)
_PLAIN = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_NUMBER = re.compile(
    rf"""(?:(?P<sign>[-+])\s*)?(?:[$€£¥]\s*)?(?P<minus>-?)
    (?:\\[dt]?frac\{{(?P<above>-?\d+)\}}\{{(?P<below>\d+)\}} | (?P<number>{_PLAIN})(?:[eE](?P<power>[-+]?\d{{1,3}}))?
    (?:\s*/\s*(?P<over>\d+(?:\.\d+)?))?)(?:\s*(?P<percent>%|percent\b))?""",
    re.VERBOSE,
)
_COUNTED = re.compile(r"\s*(?:$|[.\u00b0]|(?!(?:and|or|to|of|plus|minus|times|over)\b)[^\W\d_]{2})")
_BEFORE = re.compile(r"(?:^|[\s(\[:~\u2248])$")
_AFTER = re.compile(r"(?=$|[\s.,;:!?)\]\u00b0'])(?!\s*[-+*/^\\=(])|[^\W\d_]{2}")
_MARKUP = re.compile(
    r"\\[()\[\]]|\\(?:text|mathrm|textbf|mathbf)\s*(?=\{)|\$(?!\s*\d)|\*\*|`|\\(?=[%$])|\\[,!;]"
)
_ESCAPED_SPACE = re.compile(r"\\([nt])(?![a-z]*\{)")
_SPACED = re.compile(r"\s*([,:\[\](){}=])\s*")
_SIGNS = str.maketrans(dict.fromkeys('"\u201c\u201d\u2018\u2019', "'") | dict.fromkeys("\u2212\u2013", "-"))


@dataclass(frozen=True, slots=True)
class Amount:
    """A number as it was written."""

    value: Fraction
    is_percent: bool = False

    def equals(self, other: "Amount") -> bool:
        """Compare; a percentage equals its number, and its share unless both are percentages.

        Example:
            >>> Amount(Fraction(50), True).equals(Amount(Fraction(1, 2))), Amount(Fraction(7)).equals(Amount(Fraction(8)))
            (True, False)
        """
        if _equal(self.value, other.value):
            return True
        if self.is_percent == other.is_percent:
            return False
        mine, theirs = (one.value / 100 if one.is_percent else one.value for one in (self, other))
        return _equal(mine, theirs)


def _equal(a: Fraction, b: Fraction) -> bool:
    if a.denominator == b.denominator == 1:
        return a == b
    return abs(a - b) <= _TOLERANCE * min(Fraction(1), max(abs(a), abs(b)))


def plain_number(text: str) -> Amount | None:
    r"""Read a text that is one number.

    Args:
        text: As written; a currency, separators of thousands, a percent sign and LaTeX around it are taken off.

    Example:
        >>> plain_number("$1,600.50").value, plain_number(r"\frac{1}{2}").value, plain_number("7 apples"), plain_number("50%").is_percent
        (Fraction(3201, 2), Fraction(1, 2), None, True)
    """
    found = _NUMBER.fullmatch(_undressed(text))
    return None if found is None else _amount(found)


def number_in(text: str) -> Amount | None:
    """Read the number that an answer gives, with words around it: the one it begins with, the one after `=`, or its only one.

    Example:
        >>> number_in("18 eggs in 2 days").value, number_in("6 * 3 = 18 eggs").value, number_in("It is 18.").value
        (Fraction(18, 1), Fraction(18, 1), Fraction(18, 1))
        >>> number_in("between 3 and 4")
    """
    bare = _undressed(text)
    side = bare.rpartition("=")[2].strip()
    first = _NUMBER.match(side)
    if first is not None and _COUNTED.match(side, first.end()):
        return _amount(first)
    numbers = list(_NUMBER.finditer(bare))
    if len(numbers) != 1 or not _BEFORE.search(bare[: numbers[0].start()]):
        return None
    return _amount(numbers[0]) if _AFTER.match(bare, numbers[0].end()) else None


def _amount(found: re.Match[str]) -> Amount | None:
    above, below, over = found["above"], found["below"], found["over"]
    if (
        len(found[0]) > _LONGEST
        or (below is not None and not int(below))
        or (over is not None and not Fraction(over))
    ):
        return None
    if above is not None:
        value = Fraction(int(above), int(below))
    else:
        value = Fraction(found["number"].replace(",", "").removesuffix(".")) * Fraction(10) ** int(
            found["power"] or 0
        )
        value /= Fraction(over or 1)
    negative = "-" in {found["sign"], found["minus"]}
    return Amount(-value if negative else value, found["percent"] is not None)


def is_same_text(answer: str, reference: str) -> bool:
    """Compare two texts; white space inside quotes counts.

    Example:
        >>> is_same_text('["a","b"]', "['a', 'b']"), is_same_text("**Paris**.", "'Paris'"), is_same_text("paris", "Paris")
        (True, True, False)
        >>> is_same_text("'a  b'", "'a b'"), is_same_text("a  b", "a b")
        (False, True)
    """
    mine, theirs = _typed(answer), _typed(reference)
    given, wanted = _unquoted(mine), _unquoted(theirs)
    if given == wanted:
        return True
    if (given == mine) != (wanted == theirs):  # one is quoted, so the other lost what was outside its words
        return _stopped(given.strip()) == _stopped(wanted.strip())
    return given == mine and _folded(mine) == _folded(theirs)


def _unquoted(text: str) -> str:
    """Give what is inside quotes around the whole; white space there is left."""
    while len(text) > 1 and text[0] == text[-1] == "'":
        inside = text[1:-1]
        if "'" in inside and inside[0] + inside[-1] not in {"[]", "{}", "()"}:
            break
        text = inside
    return text


def _folded(text: str) -> str:
    return _stopped(_SPACED.sub(r"\1", " ".join(text.split())))


def _typed(text: str) -> str:
    """Write quotes, dashes and escaped white space in one way, and take off markup, but not inside quotes."""
    bare = unicodedata.normalize("NFKC", text).translate(_SIGNS).strip()
    bare = _ESCAPED_SPACE.sub(lambda found: {"n": "\n", "t": "\t"}[found[1]], bare)
    if len(bare) > 1 and bare[0] == bare[-1] == "'":
        return bare
    return _MARKUP.sub("", bare).replace("{,}", ",").strip()


def _undressed(text: str) -> str:
    """Take off everything around a number."""
    bare = " ".join(_typed(text).split()).strip("'")
    while len(bare) > 1 and bare[0] == "{" and bare[-1] == "}" and "}" not in bare[1:-1]:
        bare = bare[1:-1].strip()
    return _stopped(bare.lstrip("# "))


def _stopped(text: str) -> str:
    """Take off the full stop at the end."""
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def is_right(answer: str, reference: str) -> bool:
    """Compare an answer with a reference: as numbers where the reference is one and not in quotes, else as texts.

    Args:
        answer: A final answer.
        reference: The right one.

    Example:
        >>> is_right("$1,600 a month", "1600"), is_right("about 3", "pi"), is_right("0.3333333", "1/3")
        (True, False, True)
    """
    typed = _typed(reference)
    wanted = plain_number(reference) if _unquoted(typed) == typed else None
    if wanted is None:
        return is_same_text(answer, reference)
    given = number_in(answer)
    return given is not None and given.equals(wanted)
