"""The user's own scores: from a Python function, or from a file."""

import hashlib
import importlib
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from crowdselect.errors import InputError, OptionError
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.connection import connect
from crowdselect.pool.files import fingerprint
from crowdselect.pool.layouts import candidates, reward_columns
from crowdselect.pool.prompts import Chat
from crowdselect.pool.source import Source
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored, outcome_of
from crowdselect.reward.specs import Spec

_AT_ONCE = 256  # conversations per call of the function
_Place = tuple[str, str, int]


class FunctionScorer(BaseScorer):
    """`python:MODULE:FUNCTION` or `python:FILE.py:FUNCTION`: conversations in, numbers out; None = no score.

    The function takes a list of conversations (lists of {"role", "content"}, the last the assistant's) and
    returns as many numbers. Conversations may be grouped in any way.
    """

    def __init__(self, spec: Spec) -> None:
        module, _, name = spec.target.rpartition(":")
        self._call, code = _find(module, name, spec.text)
        super().__init__(spec.text, {"kind": "python", "function": spec.target, "code": code})

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Score in groups of some hundred; see `Scorer.score`."""
        for begin in range(0, len(items), _AT_ONCE):
            some = items[begin : begin + _AT_ONCE]
            values = self._values(some)
            if len(values) != len(some):
                raise InputError(
                    f"{self.spec}: number of scores: {len(values)}, of conversations: {len(some)}; wanted one for each"
                )
            yield [(begin + at, self._outcome(value)) for at, value in enumerate(values)]

    def _values(self, items: Sequence[Item]) -> list[Any]:
        """Call the function; an exception it raises is reported in one line."""
        try:
            return list(self._call([item.messages for item in items]))
        except (
            Exception
        ) as error:  # the user's code may raise anything; its name and place are what the user needs
            message = traceback.format_exception_only(error)[-1].strip()
            raise InputError(f"{self.spec}: {message}{_place(error)}") from error

    def _outcome(self, value: Any) -> Outcome:  # noqa: ANN401  (whatever the user's function gave)
        if value is None:
            return Outcome(reason="the function gave no score")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{self.spec}: gave {value!r} as a score; wanted a number, or None for none"
            ) from None
        return outcome_of(number)


def _place(error: Exception) -> str:
    """Return the last line in the user's file; deeper frames belong to code that it called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    theirs = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""


def _find(module: str, name: str, spec: str) -> tuple[Callable[[list[Chat]], Sequence[Any]], str]:
    """Import the function, and hash its file, so that changed code is scored again."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        home = _loaded(module, spec) if module.endswith(".py") else importlib.import_module(module)
        found = getattr(home, name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, but something it needs is not
        raise OptionError(
            f"{spec}: there is no module {error.name!r} here or among the installed ones"
        ) from error
    except AttributeError:
        raise OptionError(f"{spec}: the module {module!r} has no {name!r}") from None
    if not callable(found):
        raise OptionError(f"{spec}: {name!r} of {module!r} is not a function")
    file = inspect.getsourcefile(inspect.unwrap(found)) if inspect.isroutine(found) else None
    return found, hashlib.sha256(Path(file).read_bytes()).hexdigest() if file is not None else "unknown"


def _loaded(file: str, spec: str) -> ModuleType:
    """Run a file as a module of its own; a relative path is looked for where modules are, too."""
    paths = (Path(folder, file) for folder in ("", *sys.path))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise OptionError(f"{spec}: there is no file {file!r}")
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    SourceFileLoader(path.stem, str(path)).exec_module(module)
    return module


class ImportScorer(BaseScorer):
    """`import:FILE`: looks each answer's score up by id, model and, where the file has it, sample."""

    paid = False

    def __init__(self, spec: Spec, column: str) -> None:
        self._path, self._column = spec.target, column
        self._used = 0
        with closing(connect()) as connection:
            source = Source(connection, self._path)
            settings = {"kind": "import", "file": fingerprint(source.files), "column": column}
        super().__init__(spec.text, settings)

    def identity(self, item: Item) -> str:
        """Return id, model and sample; see `Scorer.identity`."""
        return "\x1f".join(map(str, item.place))

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Look scores up; see `Scorer.score`."""
        found: Scored = []
        for at, item in enumerate(items):
            id_, model, sample = item.place
            value = self._scores.get((id_, model, sample if self._numbered else 0))
            self._used += value is not None and not math.isnan(value)
            missing = Outcome(reason=f"the file has no {self._column} for it")
            found.append((at, missing if value is None or math.isnan(value) else outcome_of(value)))
        yield found

    def close(self) -> None:
        """Add a note on scores in the file that match no answer."""
        unused = sum(not math.isnan(value) for value in self._scores.values()) - self._used
        if self._used and unused > 0:
            self.notes.append(f"{self._path}: {unused} scores are of no answer with text in the pool")

    @cached_property
    def _scores(self) -> dict[_Place, float]:
        with closing(connect()) as connection:
            source = Source(connection, self._path)
            columns = reward_columns(source.columns, path=self._path)
            self._numbered = columns.sample is not None
            table = source.fetch(
                columns.id, columns.model, columns.sample or "0.0::DOUBLE", columns.rewards[self._column]
            )
        ids, models, samples, values = table.columns
        places = list(zip(ids.to_pylist(), models.to_pylist(), map(int, to_numpy(samples)), strict=True))
        found = dict(zip(places, to_numpy(values).tolist(), strict=True))
        if len(found) < len(places):
            seen: set[_Place] = set()
            at = next(at for at, place in enumerate(places) if place in seen or seen.add(place))  # type: ignore[func-returns-value]
            raise InputError(
                f"{self._path}: row {at + 1}: a second score for {places[at]}; wanted one per answer"
            )
        return found


def score_columns(spec: Spec) -> list[str]:
    """Return the columns of a file to import.

    Args:
        spec: An `import:`.

    Returns:
        The named column, or all numeric columns except counts and costs.

    Raises:
        InputError: The file has no id, no model, no numeric column, or not the named one.
    """
    with closing(connect()) as connection:
        source = Source(connection, spec.target)
        found = candidates(reward_columns(source.columns, path=spec.target).rewards)
    if not found:
        raise InputError(
            f"{spec.target}: no scores: no numeric column for one among {', '.join(source.columns)}; wanted id, model, score"
        )
    if spec.part is not None and spec.part not in found:
        raise InputError(f"{spec.target}: no numeric column {spec.part!r}; found {', '.join(found)}")
    return [spec.part] if spec.part is not None else list(found)
