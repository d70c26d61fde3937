"""Examples of what a student should do, from files of any form: instructions, training files, pools, questions."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crowdselect.errors import InputError, LayoutError
from crowdselect.manifests import read_manifest
from crowdselect.pool.files import is_table
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.selection.benchmarks import BenchmarkQuestion, is_pool_place, read_questions

_NOBODY = "example"  # whose answers those of a training file are
_WAYS = (
    HowRead(),
    HowRead(model=_NOBODY),
    HowRead(model=_NOBODY, columns={"response": "chosen"}),  # preference pairs
    HowRead(model=_NOBODY, columns={"messages": "chosen"}),  # pairs of conversations
)
"""How a file may be read as a pool; the first that finds text counts."""
_DIGEST = re.compile(r"[0-9a-f]{32}")  # the id of a row without one
_WORDS = 60  # characters of an example's text in the name of one without an id


@dataclass(frozen=True, slots=True)
class Example:
    """One example."""

    name: str
    """Its id; of one without, the beginning of its text."""
    text: str
    answer: str | None = None
    """None = it has none."""


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of a file, in the order of their texts."""

    file: str
    examples: tuple[Example, ...]
    left_out: int = 0
    """How many more hold no text, or something other than text."""

    @property
    def questions(self) -> list[BenchmarkQuestion]:
        """The same as questions that no chosen instruction may share text with."""
        return [BenchmarkQuestion(example.name, (example.text,), self.file) for example in self.examples]

    @property
    def notes(self) -> list[str]:
        """Lines for the user."""
        if not self.left_out:
            return []
        total = self.left_out + len(self.examples)
        return [
            f"{self.file}: {self.left_out} of {total} examples hold no text, or something other than text, and do not count"
        ]


def read_examples(path: str) -> Examples:
    """Read examples of what a student should do.

    Args:
        path: A training file of any format, or a folder that `select` wrote; a pool; or instructions without answers:
            whatever `crowdselect.selection.benchmarks.read_questions` reads, plain text with one per line among it.

    Returns:
        The examples, the same in any order of the rows; equal ones count once. In a pool of several models each has the
        best-rewarded answer, of equal ones that of the first model by name; of preference pairs the preferred one.

    Raises:
        InputError: There is no such file, it is broken, or no row holds text.
        RewardError: It holds answers of several models and no reward, or several.
    """
    file = _training_file(path)
    found, total = _of_table(file) if is_table(file) or is_pool_place(file) else ([], 0)
    if not total:
        asked = read_questions(file, what="example")
        found, total = [Example(one.id, "\n".join(one.texts)) for one in asked], len(asked)
    if not found:
        raise InputError(f"{path}: none of its {total} rows holds text, so there is no example")
    distinct = {(example.text, example.answer or ""): example for example in sorted(found, key=_content)}
    return Examples(path, tuple(distinct.values()), left_out=total - len(found))


def _content(example: Example) -> tuple[str, str, str]:
    return example.text, example.answer or "", example.name


def _training_file(path: str) -> str:
    """The training file of a folder that `select` wrote; any other path is returned unchanged."""
    manifest = read_manifest(Path(path)) if Path(path).is_dir() else None
    named = None if manifest is None else manifest.get("export", {}).get("file")
    return path if named is None else str(Path(path) / named)


def _of_table(file: str) -> tuple[list[Example], int]:
    """Read a pool, or a file of answers that says nothing of a model: its examples with text, and of how many; 0 = it is neither."""
    total = 0
    for how in _WAYS:
        with suppress(LayoutError), open_pool(file, read=how) as pool:
            found, total = _of_pool(pool), len(pool.ids)
            if found:
                return found, total
    return [], total


def _of_pool(pool: Pool) -> list[Example]:
    texts = {str(id_): text for id_, text in zip(pool.ids, pool.instructions(), strict=True) if text}
    answers: list[str | None] = [None] * len(texts)
    if texts and pool.has_responses:
        models = _models(pool)
        answers = pool.responses([(id_, models[id_]) for id_ in texts])
    return [
        Example(_name(id_, text), text, answer)
        for (id_, text), answer in zip(texts.items(), answers, strict=True)
    ]


def _models(pool: Pool) -> dict[str, str]:
    """Whose answer each instruction has; of preference pairs in columns the one that is chosen."""
    ids = [str(id_) for id_ in pool.ids]
    if len(pool.models) == 1 or pool.models == ("chosen", "rejected"):
        return dict.fromkeys(ids, pool.models[0])
    scores = pool.scores(pool.reward_name(None))
    best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    return {id_: pool.models[column] for id_, column in zip(ids, best.tolist(), strict=True)}


def _name(id_: str, text: str) -> str:
    """Name an example; one without an id by the beginning of its text.

    Example:
        >>> _name("q7", "Add 2 and 3."), _name("0" * 32, "Add 2 and 3.")
        ('q7', 'Add 2 and 3.')
    """
    if not _DIGEST.fullmatch(id_):
        return id_
    words = " ".join(text.split())
    return words if len(words) <= _WORDS else f"{words[:_WORDS].rstrip()}..."
