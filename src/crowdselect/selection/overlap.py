"""Find instructions that share text with benchmark questions: a whole question, or many words of one in a row.

By default that is 13 words, as in GPT-3's and many later training reports. Scripts without spaces have no words to
count, so there 50 characters in a row take their place. Words that many questions or many instructions share, such as
the frame of a multiple-choice question, do not count by themselves. Case, punctuation, white space, Unicode form and
spellings of LaTeX are ignored.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.numeric.duplicates import normalised
from crowdselect.seeding import UInt64Array, content_hash
from crowdselect.selection.benchmarks import BenchmarkQuestion
from crowdselect.types import IntArray

WORDS = 13
"""Length of a shared run of words that cannot be chance."""
CHARACTERS = 50
"""The same for scripts without spaces: letters and digits in a row, punctuation left out."""

MANY = 10
"""A run of words that more questions of a file share, or more instructions and more than `SHARE` of them, says nothing."""
SHARE = 0.01

_ANCHOR = 8  # characters of an unspaced script by which a whole question is found
_SHORT = 4  # words: a shorter question counts where it is half of the row
_LATEX = re.compile(r"\\(?:left|right|displaystyle|limits|quad|qquad)(?![a-z])|\\[,;:! ()\[\]]|\$|~")
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
class Overlaps:
    """What texts share with questions."""

    whole: IntArray
    """The first question that each of N texts holds whole; -1 = none."""
    texts: IntArray
    """The text of each run of words that one shares with a question."""
    runs: IntArray
    """Which run it is, in `QuestionIndex.owners`."""


@dataclass(frozen=True, slots=True)
class QuestionIndex:
    """Benchmark questions, ready to be found in texts."""

    words: "_Runs"
    characters: "_Runs"
    whole_words: "_Wholes"
    whole_characters: "_Wholes"
    same: dict[str, int]
    """Normalised text → the first question that is it."""
    short: dict[tuple[str, ...], int]
    """The words of questions of less than `_SHORT` → the first of them."""
    owners: IntArray
    """The first question that has each run: of words, then of characters."""
    common: NDArray[np.bool_]
    """Whether more than `MANY` questions of one file share a run."""

    @classmethod
    def of(cls, questions: Sequence[BenchmarkQuestion], *, ngram: int = WORDS) -> "QuestionIndex":
        """Index questions.

        Args:
            questions: Of one file or of several.
            ngram: Length of a shared run of words that cannot be chance.
        """
        texts = [(row, _folded(text)) for row, question in enumerate(questions) for text in question.texts]
        texts = [(row, text) for row, text in texts if text]
        same: dict[str, int] = {}
        short: dict[tuple[str, ...], int] = {}
        rows = np.array([row for row, _ in texts], dtype=np.int64)
        split = [_words(text) for _, text in texts]
        for (row, text), words in zip(texts, split, strict=True):
            same.setdefault(text, row)
            if 0 < len(words) < _SHORT:
                short.setdefault(tuple(words), row)
        codes = _numbered(word for words in split for word in words)
        units, owners, _ = _coded_words(split, codes)
        joined = _unspaced(texts=[text for _, text in texts], split=split)
        letters = _numbered(letter for text in joined for letter in text)
        points, holders, _ = _coded_characters(joined, letters)
        unspaced = np.array([False, *(bool(_HAS_UNSPACED.match(letter)) for letter in letters)])
        by_words = _Runs.of(ngram, codes, units, rows[owners])
        by_letters = _Runs.of(CHARACTERS, letters, points, rows[holders], counts=unspaced)
        files = {name: number for number, name in enumerate(dict.fromkeys(q.file for q in questions))}
        file_of = np.array([files[question.file] for question in questions], dtype=np.int64)
        return cls(
            by_words,
            by_letters,
            _Wholes.of(codes, units, rows, least=_SHORT, unit=_SHORT),
            _Wholes.of(letters, points, rows, least=_ANCHOR, unit=_ANCHOR),
            same,
            short,
            np.concatenate([by_words.owners, by_letters.owners]),
            np.concatenate([by_words.common(file_of), by_letters.common(file_of)]),
        )

    def find(self, texts: Sequence[str | None] | NDArray[Any]) -> Overlaps:
        """Find what N texts share with the questions; None = no text."""
        whole = np.full(len(texts), _NONE, dtype=np.int64)
        found: list[tuple[IntArray, IntArray]] = []
        for begin in range(0, len(texts), _BLOCK):
            block = ["" if text is None else _folded(text) for text in texts[begin : begin + _BLOCK]]
            split = [_words(text) for text in block]
            exact = np.array([self.same.get(text, _NONE) for text in block], dtype=np.int64)
            own = _first(exact, np.array([self._held_short(words) for words in split], dtype=np.int64))
            units, owners, n = _coded_words(split, self.words.codes)
            own = _first(own, self.whole_words.find(units, owners, n))
            at, runs = self.words.find(units, owners)
            found.append((at + begin, runs))
            units, owners, n = _coded_characters(_unspaced(block, split), self.characters.codes)
            own = _first(own, self.whole_characters.find(units, owners, n))
            at, runs = self.characters.find(units, owners)
            found.append((at + begin, runs + len(self.words.runs)))
            whole[begin : begin + len(block)] = own
        hits = [np.concatenate(part) for part in zip(*found, strict=True)] or [np.zeros(0, np.int64)] * 2
        return Overlaps(whole, hits[0], hits[1])

    def _held_short(self, words: Sequence[str]) -> int:
        """The first short question that makes up half of some words or more; -1 = none."""
        if not self.short or not 0 < len(words) <= 2 * (_SHORT - 1):
            return _NONE
        lengths = range((len(words) + 1) // 2, _SHORT)
        parts = (tuple(words[at : at + n]) for n in lengths for at in range(len(words) - n + 1))
        return min((self.short[part] for part in parts if part in self.short), default=_NONE)

    def settled(self, found: Overlaps, questions: Sequence[BenchmarkQuestion]) -> tuple[IntArray, list[str]]:
        """Decide which question each text shares text with, once all texts are known.

        Args:
            found: From `find`, of all N texts.
            questions: As they were indexed.

        Returns:
            Shape (N,): the first question that is held whole, or shares a run that is not common; -1 = none. And notes
            for the user.
        """
        n = len(found.whole)
        held = np.bincount(found.runs, minlength=len(self.owners))
        common = self.common | ((held > MANY) & (held > SHARE * n))
        kept = ~common[found.runs]
        owner = np.full(n, len(questions), dtype=np.int64)
        np.minimum.at(owner, found.texts[kept], self.owners[found.runs[kept]])
        owner = _first(np.where(owner == len(questions), _NONE, owner), found.whole)
        notes = []
        passed = np.unique(found.texts[~kept])
        if passed.size:
            free = int((owner[passed] == _NONE).sum())
            notes.append(
                f"decontamination: {len(passed)} instructions share words with benchmark questions that many share, such as "
                f"a frame; {free} of them share nothing else and stay"
            )
        often = Counter(found.whole[found.whole != _NONE].tolist())
        for row, count in sorted(often.items()):
            if count > MANY and all(len(_words(_folded(text))) < WORDS for text in questions[row].texts):
                notes.append(
                    f"decontamination: the short question {questions[row].id!r} is contained whole in {count} instructions, which are "
                    "all excluded"
                )
        return owner, notes


def contaminated(
    texts: Sequence[str | None] | NDArray[Any], questions: Sequence[BenchmarkQuestion], *, ngram: int = WORDS
) -> IntArray:
    """Find the benchmark question that each text shares text with.

    Args:
        texts: N instructions; None = no text.
        questions: Benchmark questions.
        ngram: Length of a shared run of words that cannot be chance.

    Returns:
        Shape (N,): the first of `questions` that a text holds whole, or shares `ngram` words in a row with, or
        `CHARACTERS` characters in a row of which at least half are of a script without spaces; -1 for none. Case,
        punctuation, white space, Unicode form and spellings of LaTeX are ignored.

    Example:
        >>> asked = [BenchmarkQuestion("q1", ("What is the capital of France?",))]
        >>> contaminated(["what is  the capital of FRANCE?", "What is a capital?", None], asked).tolist()
        [0, -1, -1]
    """
    index = QuestionIndex.of(questions, ngram=ngram)
    return index.settled(index.find(texts), questions)[0]


def shared_words(text: str, question: BenchmarkQuestion) -> str:
    """Return the longest run of words that a text shares with a question, case-folded, in the text's order.

    Example:
        >>> shared_words("Say: what is 2 + 2?", BenchmarkQuestion("q", ("What is 2+2?",)))
        'what is 2 2'
    """
    words = _words(_folded(text))
    best: list[str] = []
    for other in (_words(_folded(asked)) for asked in question.texts):
        lengths = [0] * (len(other) + 1)
        for at, word in enumerate(words):
            row = [0] * (len(other) + 1)
            for place, theirs in enumerate(other):
                if word == theirs:
                    row[place + 1] = lengths[place] + 1
                    if row[place + 1] > len(best):
                        best = words[at - row[place + 1] + 1 : at + 1]
            lengths = row
    return " ".join(best)


@dataclass(frozen=True, slots=True)
class _Wholes:
    """Whole questions, each found by the rarest run of a few units that it has."""

    unit: int
    """The length of such a run."""
    hashes: UInt64Array  # of each number of a unit
    units: IntArray  # the questions' texts one after the other
    anchors: UInt64Array  # the hash of each text's run, sorted
    offsets: IntArray  # where it is in its text
    starts: IntArray  # where that text begins in `units`
    lengths: IntArray
    owners: IntArray

    @classmethod
    def of(
        cls, codes: dict[str, int], units: IntArray, rows: IntArray, *, least: int, unit: int
    ) -> "_Wholes":
        """Index texts of at least `least` units; `rows` are the questions that they are of."""
        hashes = np.concatenate((np.zeros(1, np.uint64), content_hash(list(codes))))
        ends = np.flatnonzero(units == 0)
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else np.zeros(0, dtype=np.int64)
        lengths = ends - starts
        places = _whole(units, unit)
        runs = _hashed(hashes[units], places, unit)
        distinct, which, counts = np.unique(runs, return_inverse=True, return_counts=True)
        del distinct
        begins = np.searchsorted(places, starts)
        found = []
        for text in np.flatnonzero(lengths >= least).tolist():
            own = slice(begins[text], begins[text] + lengths[text] - unit + 1)
            at = int(np.argmin(counts[which[own]]))
            found.append((runs[own][at], at, starts[text], lengths[text], rows[text]))
        columns = list(zip(*found, strict=True)) or [()] * 5
        anchors = np.array(columns[0], dtype=np.uint64)
        order = np.argsort(anchors, kind="stable")
        numbers = [np.array(column, dtype=np.int64)[order] for column in columns[1:]]
        return cls(unit, hashes, units, anchors[order], *numbers)

    def find(self, units: IntArray, owners: IntArray, n: int) -> IntArray:
        """Find the first question that each of n texts holds whole; -1 for none. The texts' units as for `_Runs.find`."""
        out = np.full(n, np.iinfo(np.int64).max, dtype=np.int64)
        if len(self.anchors):
            places = _whole(units, self.unit)
            runs = _hashed(self.hashes[units], places, self.unit)
            first = np.searchsorted(self.anchors, runs, side="left")
            last = np.searchsorted(self.anchors, runs, side="right")
            for hit in np.flatnonzero(last > first).tolist():
                for question in range(first[hit], last[hit]):
                    begin = places[hit] - self.offsets[question]
                    end, start = begin + self.lengths[question], self.starts[question]
                    inside = begin >= 0 and end <= len(units)
                    if inside and np.array_equal(
                        units[begin:end], self.units[start : start + self.lengths[question]]
                    ):
                        text = owners[begin]
                        out[text] = min(out[text], self.owners[question])
        return np.where(out == np.iinfo(np.int64).max, _NONE, out)


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
    holders: IntArray  # shape (., 2): each run and a question that has it

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
        """Index the questions' runs; at least half of a run must be units that `counts` marks."""
        hashes = np.concatenate((np.zeros(1, np.uint64), content_hash(list(codes))))
        starts = _whole(units, length)
        if counts is not None:
            before = np.concatenate(([0], np.cumsum(counts[units])))
            starts = starts[before[starts + length] - before[starts] >= length / 2]
        every = _hashed(hashes[units], starts, length)
        runs, first, which = np.unique(every, return_index=True, return_inverse=True)
        holders = np.stack([which.reshape(-1), owners[starts]], axis=1)
        return cls(length, codes, hashes, units, runs, starts[first], owners[starts[first]], holders)

    def common(self, file_of: IntArray) -> NDArray[np.bool_]:
        """Mark the runs that more than `MANY` questions of one file share; `file_of` is the file of each question."""
        pairs = np.unique(self.holders, axis=0)
        out = np.zeros(len(self.runs), dtype=np.bool_)
        if len(pairs):
            in_file = np.stack([pairs[:, 0], file_of[pairs[:, 1]]], axis=1)
            keys, counted = np.unique(in_file, axis=0, return_counts=True)
            out[keys[counted > MANY, 0]] = True
        return out

    def find(self, units: IntArray, owners: IntArray) -> tuple[IntArray, IntArray]:
        """Find the runs that texts share with questions: text and run of each, without repetition.

        Args:
            units: The texts' units by number, each text followed by a 0.
            owners: The text of each unit.
        """
        if len(self.runs):
            starts = _whole(units, self.length)
            hashes = _hashed(self.hashes[units], starts, self.length)
            place = np.minimum(np.searchsorted(self.runs, hashes), len(self.runs) - 1)
            hit = np.flatnonzero(self.runs[place] == hashes)
            starts, place, steps = starts[hit], place[hit], np.arange(self.length)
            equal = np.ones(len(hit), dtype=bool)
            for step in steps:  # two runs of one hash may differ, once in 2^64
                equal &= units[starts + step] == self.units[self.starts[place] + step]
            pairs = np.unique(np.stack([owners[starts[equal]], place[equal]], axis=1), axis=0)
            return pairs[:, 0], pairs[:, 1]
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)


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


def _unspaced(texts: Sequence[str], split: Sequence[list[str]]) -> list[str]:
    """Texts of scripts without spaces as letters and digits alone; others are empty."""
    return [
        "".join(parts) if _HAS_UNSPACED.search(text) else "" for text, parts in zip(texts, split, strict=True)
    ]


def _first(one: IntArray, other: IntArray) -> IntArray:
    """The smaller number of two, where both are there."""
    return np.where(one == _NONE, other, np.where(other == _NONE, one, np.minimum(one, other)))


def _folded(text: str) -> str:
    r"""Fold what does not change a question, spellings of LaTeX among it.

    Example:
        >>> _folded(r"What is \(\dfrac{1}{2}\)?") == _folded(r"what is $\frac{1}{2}$?")
        True
    """
    folded = normalised(text)
    if "\\" in folded or "$" in folded:
        folded = _LATEX.sub(" ", folded.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))
        folded = " ".join(folded.split())
    return folded
