"""How long texts are: in characters, or in tokens of a given tokenizer."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crowdselect._optional import optional
from crowdselect.errors import InputError

CHARACTERS = "characters"
"""The unit that needs no tokenizer."""

Counter = Callable[[Sequence[str]], NDArray[np.float64]]


def counter(unit: str) -> Counter:
    """Return a function that measures texts.

    Args:
        unit: `CHARACTERS`, or a tokenizer: a `tokenizer.json`, a folder that holds one, or a name on the Hub.

    Returns:
        A function from n texts to their lengths, shape (n,). Special tokens are not counted.

    Raises:
        MissingExtraError: The extra `reward` is not installed, and the unit is not characters.
        InputError: There is no such tokenizer.

    Example:
        >>> counter(CHARACTERS)(["abc", ""])
        array([3., 0.])
    """
    if unit == CHARACTERS:
        return lambda texts: np.fromiter(map(len, texts), dtype=np.float64, count=len(texts))
    tokenizers = optional("tokenizers", extra="reward")
    file = Path(unit) / "tokenizer.json" if Path(unit).is_dir() else Path(unit)
    try:
        tokenizer = (
            tokenizers.Tokenizer.from_file(str(file))
            if file.is_file()
            else tokenizers.Tokenizer.from_pretrained(unit)
        )
    except Exception as error:  # the package raises nothing narrower
        words = " ".join(str(error).split())[:200]
        raise InputError(
            f"{unit}: no tokenizer: {words}; wanted {CHARACTERS}, a tokenizer.json, a folder with one or a name on the Hub"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: np.array(
        [len(coded.ids) for coded in tokenizer.encode_batch(list(texts), add_special_tokens=False)],
        dtype=np.float64,
    )
