"""What `WideAnswers` and `TallAnswers` take and give alike: answers in batches, and which of them may be trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crowdselect.types import FloatArray, IntArray

Cells = Sequence[tuple[int, int]]
"""(instruction, model) of each."""
Numbers = Sequence[float | None]
"""The sample of each that is meant; None = the first that has text."""
Texts = Literal["folded", "spaced"]
"""How texts of answers are told apart: but for case and white space, or but for white space."""


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Some answers, in the order of the file."""

    rows: IntArray
    """Instruction of each."""
    models: IntArray
    samples: FloatArray
    """Number of each among those of one model, 0 where the pool does not number them."""
    texts: list[str | None]
    """None where there is none, or only white space."""
    beside: list[str | None] | None = None
    """What else was asked for of each row."""
    endings: IntArray | None = None
    """How each ended, as its place in `crowdselect.finish.ENDINGS`; None = the pool does not say, or was not asked."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Which answers may be trained on."""

    usable: NDArray[np.bool_]
    """Shape (N, M)."""
    barred: NDArray[np.bool_] | None = None
    """Where there is text, but of no answer that came to its end, shape (N, M); None where the pool does not say how answers ended."""
    endings: Mapping[str, int] = field(default_factory=dict)
    """How many answers with text ended in another way than they should; see `crowdselect.finish`."""


def said_text(text: str | None) -> str | None:
    """Give a response, None where it is missing or only white space.

    Example:
        >>> said_text(" yes "), said_text(" "), said_text(None)
        (' yes ', None, None)
    """
    return text if text is not None and text.strip() else None
