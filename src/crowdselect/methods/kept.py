"""Numbers that a language model computes of answers, cached by content: what `ifd` and `fits` share."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crowdselect.cache import KEY, Keys, Parts, joined, read_part
from crowdselect.methods.causal import check_tokens, identity_of, placed
from crowdselect.selection.reading import Answered
from crowdselect.types import FloatArray

Score = Callable[[Sequence[Answered]], FloatArray]
"""n instructions with answers → a number for each, NaN = none."""


class Kept(ABC):
    """Callable that computes a number of each answer and caches each batch as a part; runs here or in an actor.

    The model is loaded for the first batch that is not entirely cached.

    Args:
        folder_of_parts: The folder of the parts; None = no cache.
        model: A causal language model: a folder, or a name on the Hub.
        max_length: Most tokens of what stands before and the answer together.
        batch_tokens: Most tokens of a batch.
        device: "cpu", "cuda", ...; "auto" = the GPU of the computing process, or its CPU.

    Raises:
        InputError: There is no such model.
        OptionError: `max_length` or `batch_tokens` is below 8.
    """

    column: ClassVar[str]
    """What the number is called in the parts."""

    def __init__(
        self, folder_of_parts: Path | None, *, model: str, max_length: int, batch_tokens: int, device: str
    ) -> None:
        check_tokens(max_length=max_length, batch_tokens=batch_tokens)
        self._parts = None if folder_of_parts is None else Parts(folder_of_parts)
        self._name, self._device = model, device
        self._limits: dict[str, Any] = {
            "max_length": max_length,
            "batch_tokens": batch_tokens,
            "device": device,
        }
        self._identity = f"{identity_of(model)} {max_length}"
        self._score: Score | None = None
        self._found: tuple[Keys, FloatArray] | None = None

    @abstractmethod
    def _load(self) -> Score:
        """Load the model."""

    def __call__(self, rows: Sequence[Answered]) -> FloatArray:
        """Compute one number per answer, NaN where it is undefined."""
        keys = [self._key(row) for row in rows]
        known, numbers = self._known()
        positions = known.find(keys)
        found = dict(zip(keys, numbers[positions].tolist(), strict=True)) if len(numbers) else {}
        missing = {
            key: row for key, row, place in zip(keys, rows, positions.tolist(), strict=True) if place < 0
        }
        if missing:
            found |= zip(missing, self._computed(missing).tolist(), strict=True)
        return np.array([found[key] for key in keys])

    def are_known(self, rows: Sequence[Answered]) -> FloatArray:
        """Tell for each answer whether its number is in the cache: 1 or 0. The model is not loaded."""
        return np.asarray(self._known()[0].find([self._key(row) for row in rows]) >= 0, dtype=np.float64)

    def _computed(self, missing: dict[bytes, Answered]) -> FloatArray:
        """Compute some numbers, unless their part exists: the batch may have been started before."""
        import pyarrow as pa

        keys = list(missing)
        name = "" if self._parts is None else self._parts.name(keys)
        if self._parts is not None and self._parts.has(name):
            return np.asarray(read_part(self._parts.folder / name, self.column)[self.column])
        if self._score is None:
            self._score = self._load()
        numbers = self._score(list(missing.values()))
        if self._parts is not None:
            self._parts.write(name, {KEY: pa.array(keys, pa.binary()), self.column: pa.array(numbers)})
        return numbers

    def _known(self) -> tuple[Keys, FloatArray]:
        if self._found is None:
            table = None if self._parts is None else self._parts.read(KEY, self.column)
            keys = b"" if table is None else joined(table[KEY])
            self._found = Keys.of(keys), np.empty(0) if table is None else np.asarray(table[self.column])
        return self._found

    def _key(self, row: Answered) -> bytes:
        text = json.dumps([self._settings, list(row.prompt), row.answer])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    @cached_property
    def _settings(self) -> str:
        return f"{self._identity} {placed(self._device).partition(':')[0]}"
