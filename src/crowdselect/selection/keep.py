"""Bands: a row is kept only where a number of it lies between two ends, as `best_reward=10%..` or `pass_rate:M=0.1..0.9`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from crowdselect.errors import OptionError
from crowdselect.types import BoolArray, FloatArray

_WANTED = "wanted NAME=LOW..HIGH, either end open, both included, % for a quantile, such as best_reward=10%.. or rewards=3..8"
_END = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?%?")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a band."""

    value: float
    quantile: bool
    """Whether it is a share of the rows, 0 to 1, instead of a value."""

    def at(self, known: FloatArray, *, low: bool) -> float:
        """Give the value that it stands for.

        Args:
            known: The numbers that there are, ascending.
            low: Whether it is the lower end: a quantile between two of them is the higher, else the lower.
        """
        if not self.quantile:
            return self.value
        if not known.size:
            return math.nan
        # A fraction: 0.07 x 100 is a little above 7 in floating point, and would bar the row at the quantile itself.
        place = Fraction(repr(self.value)) * (known.size - 1)
        return float(known[math.ceil(place) if low else math.floor(place)])


@dataclass(frozen=True, slots=True)
class Band:
    """Between what a number has to lie; both ends are inside."""

    name: str
    """Of the number."""
    low: End | None
    """None = open."""
    high: End | None

    def outside(self, values: FloatArray) -> BoolArray:
        """Say which rows lie outside.

        Args:
            values: The number, shape (N,). NaN = none; such a row is not outside.

        Returns:
            Shape (N,).
        """
        known = np.sort(values[~np.isnan(values)])
        out = np.zeros(len(values), dtype=np.bool_)
        if self.low is not None:
            out |= values < self.low.at(known, low=True)
        if self.high is not None:
            out |= values > self.high.at(known, low=False)
        return out


def band_of(text: str) -> Band:
    """Read a band; the name is what stands before the last `=`.

    Raises:
        OptionError: It is not of that form.

    Example:
        >>> band_of("reward:qwen2.5:7b=0.1..")
        Band(name='reward:qwen2.5:7b', low=End(value=0.1, quantile=False), high=None)
    """
    name, equals, ends = text.rpartition("=")
    low, dots, high = ends.strip().partition("..")
    if not (equals and name.strip() and dots and (low or high)):
        raise OptionError(f"`keep={text!r}` is not a band; {_WANTED}")
    band = Band(name.strip(), _end(low, text), _end(high, text))
    if (
        band.low
        and band.high
        and band.low.quantile == band.high.quantile
        and band.low.value > band.high.value
    ):
        raise OptionError(f"`keep={text!r}` holds nothing: its lower end is above its upper one")
    return band


def bands_of(keep: Sequence[str]) -> list[Band]:
    """Read the bands of `keep`; see `band_of`."""
    return [band_of(text) for text in keep]


def lowest_kept(keep: Sequence[str], name: str, values: FloatArray) -> float:
    """Give the highest lower end of the bands of a number; minus infinity where there is none.

    Args:
        keep: The bands.
        name: The number.
        values: It, shape (N,), for quantiles. NaN = none.
    """
    known = np.sort(values[~np.isnan(values)])
    ends = [band.low.at(known, low=True) for band in bands_of(keep) if band.name == name and band.low]
    return max(ends, default=-math.inf)


def _end(text: str, whole: str) -> End | None:
    if not text.strip():
        return None
    if not _END.fullmatch(text.strip()):
        raise OptionError(f"`keep={whole!r}`: {text.strip()!r} is no number; {_WANTED}")
    quantile = text.strip().endswith("%")
    digits = text.strip().removesuffix("%")
    value = float(Fraction(digits) / 100) if quantile else float(digits)
    if not math.isfinite(value) or (quantile and not 0 <= value <= 1):
        raise OptionError(
            f"`keep={whole!r}`: {text.strip()} is outside {'0% to 100%' if quantile else 'any range'}; {_WANTED}"
        )
    return End(value, quantile)
