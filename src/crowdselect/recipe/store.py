"""The folder of a recipe's results: a folder per step, named by its key, and one run at a time."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdselect.errors import OutputError
from crowdselect.recipe.commands import options_of
from crowdselect.recipe.content import Digests, key_of
from crowdselect.recipe.graph import Input, Step

STEP = "step.json"
LOG = "log.txt"
SAID = "said.json"
MISSING = 3
"""The exit code of a command that ended with something missing."""

_MARK = ".crowdselect-run"
_BY_KEY = frozenset({"train", "compare"})  # what a second run may write otherwise is known by its key
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step.

    Attributes:
        folder: Its folder.
        output: The name of its output in there.
        digest: What stands for the output in the keys of the steps after it.
        code: 0, or `MISSING`.
        seconds: How long it took.
    """

    folder: Path
    output: str
    digest: str
    code: int
    seconds: float

    @property
    def path(self) -> Path:
        """The output."""
        return self.folder / self.output


class Store:
    """The steps in a folder.

    Args:
        folder: Of the results.
        digests: Reads files.
    """

    def __init__(self, folder: Path, digests: Digests) -> None:
        self.folder = folder
        self._digests = digests
        self._keys: dict[Step, str] = {}
        self._done: dict[str, Done] = {}

    def key(self, step: Step) -> str | None:
        """Give a step's key; None while a step that it needs is not done."""
        if step in self._keys:
            return self._keys[step]
        inputs = []
        for one in step.inputs:
            found = self._meaning(step, one)
            if found is None:
                return None
            inputs.append([one.role, one.label if one.role == "folder" else "", found])
        self._keys[step] = key_of(step, inputs, self._digests)
        return self._keys[step]

    def _meaning(self, step: Step, given: Input) -> Any:  # noqa: ANN401  (plain values)
        """Say what an input is; None = it is not there yet."""
        source = given.source
        if isinstance(source, Step):
            done = self.done(source)
            if done is None:
                return None
            return [self._keys[source], done.digest] if step.section.endswith("compare") else done.digest
        if given.role == "model":
            return self._digests.value(options_of(step.section)["model"], "model", source)
        return self._digests.data(source)

    def done(self, step: Step) -> Done | None:
        """Find a step's result; None where it is not finished."""
        key = self.key(step)
        if key is None:
            return None
        if key not in self._done:
            found = _read(self.place(step), key)
            if found is None:
                return None
            self._done[key] = found
        return self._done[key]

    def todo(self, steps: Iterable[Step]) -> list[Step]:
        """Give the steps that are run: those without a result, and those with something missing."""
        return [step for step in steps if not self.is_whole(step)]

    def is_whole(self, step: Step) -> bool:
        """Whether a step has a result in which nothing is missing."""
        done = self.done(step)
        return done is not None and done.code != MISSING

    def place(self, step: Step) -> Path:
        """Give the folder of a step whose key is known; whatever it was called when it was made."""
        key = self.key(step)
        assert key is not None  # noqa: S101  (the caller has asked)
        steps = self.folder / "steps"
        found = sorted(steps.glob(f"*-{key[:_SHORT]}")) if steps.is_dir() else []
        return found[0] if found else steps / f"{slug(step.title)}-{key[:_SHORT]}"

    def begin(self, step: Step) -> Path:
        """Make a step's folder, and clear away what a killed process left half written."""
        folder = self.place(step)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STEP).unlink(missing_ok=True)
        self._done.pop(self._keys[step], None)
        for partial in folder.glob(".*.partial-*"):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        return folder

    def finish(self, step: Step, *, code: int, seconds: float) -> Done:
        """Record that a step is done; this file is written last, so that its presence means complete."""
        folder, key = self.place(step), self._keys[step]
        told = {
            "key": key,
            "title": step.title,
            "section": step.section,
            "output": step.output,
            "digest": self._digest(step, folder / step.output),
            "code": code,
            "seconds": round(seconds, 1),
        }
        partial = folder / f".{STEP}.partial-{os.getpid()}"
        partial.write_text(json.dumps(told, indent=2) + "\n", encoding="ascii")
        partial.replace(folder / STEP)
        found = _read(folder, key)
        if found is None:
            raise OutputError(
                f"{folder / step.output}: is not there, although the command ended well; see {folder / LOG}"
            )
        self._done[key] = found
        return found

    def _digest(self, step: Step, output: Path) -> str:
        if not output.exists() or step.section in _BY_KEY or step.section.startswith("evaluate."):
            return self._keys[step]
        return self._digests.training(output) if output.is_dir() else self._digests.together([output])


def _read(folder: Path, key: str) -> Done | None:
    try:
        told = json.loads((folder / STEP).read_text(encoding="ascii"))
        found = Done(folder, told["output"], told["digest"], told["code"], told["seconds"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None  # never finished, or not whole: the step is made again
    return found if told["key"] == key and found.path.exists() else None


def slug(title: str) -> str:
    """Make a name for a folder of a title.

    Example:
        >>> slug("select budget 250, weights a -1")
        'select-budget-250-weights-a--1'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else " " for c in title)
    return "-".join(kept.split())[:60].strip(".") or "step"


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Take a folder of results for one run; it is made where there is none.

    Args:
        folder: The folder.

    Yields:
        The file descriptor of its lock. A process that inherits it holds the lock too, so that no second run begins
        while a step of a killed one is still at work.

    Raises:
        OutputError: It is in use, is no such folder, or cannot be made.
    """
    import fcntl

    check_place(folder)
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be used: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 100).decode("ascii", "replace") or "another run"
            raise OutputError(f"{folder}: in use by {holder}; wait until it ends, or end it") from None
        if not (folder / _MARK).exists():
            raise OutputError(f"{folder}: another run has just ended there; run the recipe again")
        say_who(handle, os.getpid(), "crowdselect run")
        try:
            yield handle
        finally:
            _leave(folder)
    finally:
        os.close(handle)


def _leave(folder: Path) -> None:
    """Remove a folder in which no step was begun."""
    if [one.name for one in folder.iterdir()] == [_MARK]:
        (folder / _MARK).unlink()
        folder.rmdir()


def say_who(handle: int, number: int, what: str) -> None:
    """Write into the lock's file which process to wait for."""
    text = f"process {number} ({what})".encode("ascii", "replace")[:100]
    os.ftruncate(handle, 0)
    os.pwrite(handle, text, 0)


def check_place(folder: Path) -> None:
    """Refuse a folder that is somebody else's.

    Raises:
        OutputError: It is a file, or holds other things than a recipe's results; or its parent is missing.
    """
    if not folder.parent.is_dir():
        raise OutputError(f"{folder}: there is no folder {folder.parent}; make it first")
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"{folder}: this is not a folder; name another with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        raise OutputError(
            f"{folder}: the folder holds other things than a recipe's results; name another with -o"
        )
