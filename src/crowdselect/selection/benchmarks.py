"""Benchmark questions, from files of any usual form, and the instructions that share text with one.

They share it by the same text, 13 words in a row, or 50 characters of an unspaced script. The rule of 13 words
is that of GPT-3's and many later training reports. Scripts that write no spaces have no words to count, so
there 50 characters in a row stand for them.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.numeric.duplicates import normalised
from crowdselect.pool.columns import as_text, quote
from crowdselect.pool.files import is_remote, is_table
from crowdselect.pool.layouts import ID_COLUMNS, detect
from crowdselect.pool.pool import open_pool
from crowdselect.pool.sidecars import read_lines
from crowdselect.pool.source import Source, connect
from crowdselect.seeding import UInt64Array, content_hash
from crowdselect.types import IntArray

WORDS = 13
"""So many words in a row, the same in instruction and question, are no chance."""
CHARACTERS = 50
"""The same for scripts without spaces: letters and digits in a row, punctuation left out."""

_IDS = ("question_id", "uid", *ID_COLUMNS)
_TEXTS = ("turns", "prompt", "instruction", "question")
_WANTED = "wanted turns (FastChat), prompt (arena-hard), instruction or question, or the columns of a pool"

_NONE = -1
_BLOCK = 2_000  # texts at a time: bounds the arrays of their words
_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd: a polynomial over 64-bit hashes; every hit is compared in full
_UNSPACED = (  # first and last code point: Thai and Lao, Myanmar, Khmer, kana, Han
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_ASCII = "".join(chr(c) if chr(c).isalnum() or chr(c) == "_" else " " for c in range(128))  # what `\\w` keeps
_HAS_UNSPACED = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSPACED) + "]")


@dataclass(frozen=True, slots=True)
class BenchmarkQuestion:
    """A benchmark question: its id, and the texts of its turns."""

    id: str
    texts: tuple[str, ...]


def read_questions(path: str) -> list[BenchmarkQuestion]:
    """Read the questions of a benchmark.

    Args:
        path: JSONL as of FastChat (`question_id`, `turns`) or arena-hard (`uid` or `question_id`, `prompt` or
            `turns`), any table with a column `instruction`, `prompt` or `question`, any pool, or plain text
            with one question per line.

    Returns:
        The questions in the order of the file; those of a pool in the order of their ids. One without an id is
        called after its line, `FILE:LINE`. All turns count.

    Raises:
        InputError: There is no such file, it is broken, or holds no question.

    Example:
        >>> read_questions("no-such-file.jsonl")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.jsonl: no such file or folder; wanted a file, a folder or a glob; check the path
    """
    if not (is_table(path) or is_pool_place(path)):
        lines = read_lines(path, wanted="one question per line")
        found = [
            BenchmarkQuestion(f"{Path(path).name}:{number}", (line.strip(),))
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    else:
        found = _from_table(path)
    if not found:
        raise InputError(f"{path}: holds no question; {_WANTED}")
    return found


def is_pool_place(path: str) -> bool:
    """Say whether a path is a folder or a data set of the Hub.

    Example:
        >>> is_pool_place("hf://datasets/owner/name")
        True
    """
    return Path(path).is_dir() or is_remote(path)


def _from_table(path: str) -> list[BenchmarkQuestion]:
    connection = connect()
    try:
        source = Source(connection, path)
        columns = source.columns
        if detect(columns) is None or "turns" in columns:
            text = next((name for name in _TEXTS if name in columns), None)
            if text is None:
                raise InputError(
                    f"{path}: no benchmark question in the columns {', '.join(columns)}; {_WANTED}"
                )
            names = [name for name in (*_IDS, text) if name in columns]
            rows = source.fetch(*(as_text(quote(name), columns[name]) for name in names))
            return _questions_of(
                path, [dict(zip(names, row.values(), strict=True)) for row in rows.to_pylist()], text=text
            )
    finally:
        connection.close()
    with open_pool(path) as pool:
        return [
            BenchmarkQuestion(id_, (text,))
            for id_, text in zip(pool.ids, pool.instructions(), strict=True)
            if text is not None
        ]


def _questions_of(path: str, rows: list[Mapping[str, Any]], *, text: str) -> list[BenchmarkQuestion]:
    found = []
    for number, row in enumerate(rows, 1):
        id_ = next((row[name] for name in _IDS if row.get(name)), None) or f"{Path(path).name}:{number}"
        written = row[text]
        texts = _turns(written, where=f"{path}: {text} of {id_!r}") if text == "turns" else [written]
        kept = tuple(turn for turn in texts if turn is not None and turn.strip())
        if kept:
            found.append(BenchmarkQuestion(id_, kept))
    return found


def _turns(written: str | None, *, where: str) -> list[str | None]:
    """The texts of a JSON list of turns: strings, or objects with `content`."""
    try:
        turns = json.loads(written or "[]")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}); wanted a list of texts") from error
    listed: list[Any] = turns if isinstance(turns, list) else [turns]
    texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in listed]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise InputError(
            f"{where} is {str(written)[:80]!r}; wanted a list of texts, or of objects with content"
        )
    return texts


def contaminated(
    texts: Sequence[str | None] | NDArray[Any], questions: Sequence[BenchmarkQuestion]
) -> IntArray:
    """Find the question that each text gives away.

    Args:
        texts: N instructions; None = no text.
        questions: Benchmark questions.

    Returns:
        Shape (N,): the first of `questions` that has, in one of its texts, the same normalised text as the
        instruction, `WORDS` words in a row of it, or `CHARACTERS` characters in a row of which at least
        half are of a script without spaces; -1 for none. Case, punctuation, white space and Unicode form
        do not count.

    Example:
        >>> asked = [BenchmarkQuestion("q1", ("What is the capital of France?",))]
        >>> contaminated(["what is  the capital of FRANCE?", "What is a capital?", None], asked).tolist()
        [0, -1, -1]
    """
    found = np.full(len(texts), _NONE, dtype=np.int64)
    same, words, characters = _index(questions)
    for begin in range(0, len(texts), _BLOCK):
        block = ["" if text is None else normalised(text) for text in texts[begin : begin + _BLOCK]]
        exact = np.array([same.get(text, _NONE) for text in block], dtype=np.int64)
        split = [_words(text) for text in block]
        here = _first(exact, words.find(*_coded_words(split, words.codes)))
        unspaced = [
            "".join(parts) if _HAS_UNSPACED.search(text) else ""
            for text, parts in zip(block, split, strict=True)
        ]
        found[begin : begin + len(block)] = _first(
            here, characters.find(*_coded_characters(unspaced, characters.codes))
        )
    return found


@dataclass(frozen=True, slots=True)
class _Runs:
    """Every run of `length` units of the questions, sorted by hash."""

    length: int
    codes: dict[str, int]
    """Unit → its number, from 1; 0 = a unit of no question, or the end of a text."""
    hashes: UInt64Array  # of each number
    units: IntArray  # the questions' texts one after the other
    runs: UInt64Array  # hash of each distinct run, sorted
    starts: IntArray  # where its first occurrence begins in `units`
    owners: IntArray  # the question it is from

    @classmethod
    def of(
        cls,
        length: int,
        codes: dict[str, int],
        units: IntArray,
        owners: IntArray,
        *,
        counts: NDArray[np.bool_] | None = None,
    ) -> "_Runs":
        """Index the questions' runs; `counts` marks the units of which half of a run must be."""
        hashes = np.concatenate((np.zeros(1, np.uint64), content_hash(list(codes))))
        starts = _whole(units, length)
        if counts is not None:
            before = np.concatenate(([0], np.cumsum(counts[units])))
            starts = starts[before[starts + length] - before[starts] >= length / 2]
        runs, first = np.unique(_hashed(hashes[units], starts, length), return_index=True)
        return cls(length, codes, hashes, units, runs, starts[first], owners[starts[first]])

    def find(self, units: IntArray, owners: IntArray, n: int) -> IntArray:
        """Give the first question that shares a run with each of n texts; -1 for none.

        Args:
            units: The texts' units by number, each text followed by a 0.
            owners: The text of each unit.
            n: How many texts.
        """
        found = np.full(n, len(self.units) + 1, dtype=np.int64)
        if len(self.runs):
            starts = _whole(units, self.length)
            hashes = _hashed(self.hashes[units], starts, self.length)
            place = np.minimum(np.searchsorted(self.runs, hashes), len(self.runs) - 1)
            hit = np.flatnonzero(self.runs[place] == hashes)
            starts, place, steps = starts[hit], place[hit], np.arange(self.length)
            equal = np.ones(len(hit), dtype=bool)
            for step in steps:  # two runs of one hash may differ, once in 2^64
                equal &= units[starts + step] == self.units[self.starts[place] + step]
            np.minimum.at(found, owners[starts[equal]], self.owners[place[equal]])
        return np.where(found > len(self.units), _NONE, found)


def _index(questions: Sequence[BenchmarkQuestion]) -> tuple[dict[str, int], _Runs, _Runs]:
    texts = [(row, normalised(text)) for row, question in enumerate(questions) for text in question.texts]
    same: dict[str, int] = {}
    for row, text in texts:
        if text:
            same.setdefault(text, row)
    rows = np.array([row for row, _ in texts], dtype=np.int64)
    split = [_words(text) for _, text in texts]
    codes = _numbered(word for words in split for word in words)
    units, owners, _ = _coded_words(split, codes)
    words = _Runs.of(WORDS, codes, units, rows[owners])
    joined = [
        "".join(parts) if _HAS_UNSPACED.search(text) else ""
        for (_, text), parts in zip(texts, split, strict=True)
    ]
    letters = _numbered(letter for text in joined for letter in text)
    units, owners, _ = _coded_characters(joined, letters)
    unspaced = np.array([False, *(bool(_HAS_UNSPACED.match(letter)) for letter in letters)])
    return same, words, _Runs.of(CHARACTERS, letters, units, rows[owners], counts=unspaced)


def _numbered(units: Iterator[str]) -> dict[str, int]:
    return {unit: number for number, unit in enumerate(dict.fromkeys(units), start=1)}


def _coded_words(split: Sequence[list[str]], codes: dict[str, int]) -> tuple[IntArray, IntArray, int]:
    """The words' numbers, each text followed by a 0; the text that each belongs to; how many texts there are."""
    units: list[int] = []
    for words in split:
        units.extend(map(codes.get, words, [0] * len(words)))
        units.append(0)
    lengths = np.fromiter(map(len, split), dtype=np.int64, count=len(split)) + 1
    return np.array(units, dtype=np.int64), np.repeat(np.arange(len(split)), lengths), len(split)


def _coded_characters(texts: Sequence[str], codes: dict[str, int]) -> tuple[IntArray, IntArray, int]:
    joined = "\n".join((*texts, ""))  # a line break is no character of a word: it ends a text
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1
    table = np.zeros(sys.maxunicode + 1, dtype=np.int32)
    table[[ord(letter) for letter in codes]] = list(codes.values())
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return table[points].astype(np.int64), np.repeat(np.arange(len(texts)), lengths), len(texts)


def _whole(units: IntArray, length: int) -> IntArray:
    """Where runs of `length` units begin that hold no 0."""
    if len(units) < length:
        return np.zeros(0, dtype=np.int64)
    gaps = np.concatenate(([0], np.cumsum(units == 0)))
    return np.flatnonzero(gaps[length:] == gaps[:-length])


def _hashed(hashes: UInt64Array, starts: IntArray, length: int) -> UInt64Array:
    total = np.zeros(len(starts), dtype=np.uint64)
    for step in range(length):
        total = total * _STEP + hashes[starts + step]
    return total


def _first(one: IntArray, other: IntArray) -> IntArray:
    """The smaller number of two, where both are there."""
    return np.where(one == _NONE, other, np.where(other == _NONE, one, np.minimum(one, other)))


def _words(text: str) -> list[str]:
    if text.isascii():
        return text.translate(_ASCII).split()
    marks = _marks()
    if not marks.search(text):
        return re.findall(r"\w+", text)
    # A vowel sign (Thai, Indic scripts) is no `\w`, but belongs to its word.
    return re.findall(rf"(?:\w|{marks.pattern})+", text)


@cache
def _marks() -> "re.Pattern[str]":
    points = [
        point for point in range(0x300, sys.maxunicode + 1) if unicodedata.category(chr(point))[0] == "M"
    ]
    return re.compile("[" + re.escape("".join(map(chr, points))) + "]")
