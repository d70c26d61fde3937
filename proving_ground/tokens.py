"""Tokenizer: a known word is one token, everything else is spelt by character.

A row is a prompt, padded on the left, and an answer, ended and padded with END: every answer begins at the same
position, so no mask is needed.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from proving_ground.items import Shape
from proving_ground.wording import WORDS

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789,?_"
VOCABULARY = ("<pad>", "<end>", *CHARACTERS, *(word for word in WORDS if len(word) > 1))
PAD, END = 0, 1
ANSWERING = 2 + len(CHARACTERS)
"""Number of tokens that answers, which are spelt, are made of: the first ones of the vocabulary."""
_NUMBER = {token: number for number, token in enumerate(VOCABULARY)}


@cache
def _spelt(word: str) -> tuple[int, ...]:
    return (_NUMBER[word],) if word in _NUMBER else tuple(_NUMBER[letter] for letter in word)


def prompt_tokens(text: str) -> list[int]:
    """Return the tokens of an instruction."""
    return [number for word in text.split() for number in _spelt(word)]


def prompts(texts: Sequence[str], shape: Shape) -> Tensor:
    """Tokenize instructions as rows (N, prompt).

    Raises:
        ValueError: One is too long for the shape.
    """
    return torch.tensor([_padded(text, shape) for text in texts])


def rows(pairs: Sequence[tuple[str, str]], shape: Shape) -> Tensor:
    """Tokenize instructions and answers as rows (N, total); an answer without room for END is cut, like the models' own.

    Raises:
        ValueError: An instruction is too long for the shape.
    """
    return torch.tensor([_padded(text, shape) + _closed(answer, shape) for text, answer in pairs])


def texts(answers: Tensor) -> list[str]:
    """Decode answers (N, answer) to text; a word inside an answer is written out, END and tokens after it are dropped."""
    return ["".join(VOCABULARY[n] for n in row if n > END) for row in answers.tolist()]


def _padded(text: str, shape: Shape) -> list[int]:
    numbers = prompt_tokens(text)
    if len(numbers) > shape.prompt:
        raise ValueError(f"{text!r} has {len(numbers)} tokens; the world's prompts have {shape.prompt}")
    return [PAD] * (shape.prompt - len(numbers)) + numbers


def _closed(answer: str, shape: Shape) -> list[int]:
    numbers = [_NUMBER[letter] for letter in answer][: shape.answer]
    return numbers + [END] * (shape.answer - len(numbers))
