"""The user's own scorer: a function of Python."""

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crowdselect.errors import InputError, OptionError
from crowdselect.pool.prompts import Chat
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored, outcome_of
from crowdselect.reward.specs import Spec

_AT_ONCE = 256


class FunctionScorer(BaseScorer):
    """`python:MODULE:FUNCTION`: conversations in, numbers out; None = no score.

    The function is given a list of conversations (lists of {"role", "content"}, the last the assistant's) and
    returns as many numbers. It may be called with any of them together.
    """

    def __init__(self, spec: Spec) -> None:
        module, _, name = spec.target.rpartition(":")
        self._call, code = _find(module, name, spec.text)
        super().__init__(spec.text, {"kind": "python", "function": spec.target, "code": code})

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Score some hundred at a time; see `Scorer.score`."""
        for begin in range(0, len(items), _AT_ONCE):
            some = items[begin : begin + _AT_ONCE]
            values = self._values(some)
            if len(values) != len(some):
                raise InputError(
                    f"{self.spec}: number of scores: {len(values)}, of conversations: {len(some)}; wanted one for each"
                )
            yield [(begin + at, self._outcome(value)) for at, value in enumerate(values)]

    def _values(self, items: Sequence[Item]) -> list[Any]:
        """Call the function; what it raises is an error of its own code, and said in one line."""
        try:
            return list(self._call([item.messages for item in items]))
        except (
            Exception
        ) as error:  # the user's code may raise anything; its name and place are what the user needs
            said = traceback.format_exception_only(error)[-1].strip()
            raise InputError(f"{self.spec}: {said}{_place(error)}") from error

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
    """Say where the user's file was left; deeper frames are of what it called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    theirs = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""


def _find(module: str, name: str, spec: str) -> tuple[Callable[[list[Chat]], Sequence[Any]], str]:
    """Import the function, and hash the file it is in: changed code gives new scores."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        found = getattr(importlib.import_module(module), name)
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
