"""Everything that crowdselect raises on purpose.

    CrowdselectError
    ├── InputError (ValueError)        a file, row or column is not what it should be
    │   ├── LayoutError                 the columns fit no known layout
    │   ├── RewardError                 no usable reward, or several and none was named
    │   └── SplitError                  rows of one instruction are in several files that are read one by one
    ├── OptionError (ValueError)       an option's value makes no sense, or not with this pool
    │   └── BudgetError                 the budget cannot be filled
    ├── OutputError (OSError)          the output path is refused
    ├── ShapeError (ValueError)        arrays do not fit together
    ├── LedgerError (OSError)          the ledger of answers cannot be used or written
    ├── CallError (RuntimeError)       a model gave no answer
    └── MissingExtraError (ImportError) an optional package is not installed

Each also inherits the built-in that it stands for, so `except ValueError` keeps working. The
command line prints any of them as one line, `error: ...`, and ends with exit code 2. Messages name an option
by its Python name in backticks (`max_cost`, `overwrite=True`); the command line writes it as it is typed there.
"""

import difflib
from collections.abc import Callable, Iterable


def near_miss(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, as the end of a message about an unknown one.

    Args:
        word: The unknown word.
        known: The words that are valid.

    Returns:
        `; did you mean 'X'?`, X being the nearest known word; empty if none is close.

    Example:
        >>> near_miss("lenght", ["random", "length"]), near_miss("x", ["random", "length"])
        ("; did you mean 'length'?", '')
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class CrowdselectError(Exception):
    """The base class: catch it to catch every error of this library."""

    def reword(self, change: Callable[[str], str]) -> None:
        """Change the message."""
        self.args = (change(str(self)), *self.args[1:])


class InputError(CrowdselectError, ValueError):
    """A file, row or column is not what it should be; the message names which."""


class LayoutError(InputError):
    """The columns fit no layout; the message lists the columns found and the layouts known."""


class RewardError(InputError):
    """There is no usable reward, or there are several candidates and none was named."""


class SplitError(InputError):
    """Rows of one instruction are in several files, and the pool is to be read file by file."""


class OptionError(CrowdselectError, ValueError):
    """An option's value makes no sense, or not together with this pool."""


class BudgetError(OptionError):
    """The budget is not positive, or more than can be chosen; the message says how many can."""


class OutputError(CrowdselectError, OSError):
    """The output would overwrite an input or something that crowdselect did not write."""


class ShapeError(CrowdselectError, ValueError):
    """Arrays do not fit together; the message gives their shapes."""


class LedgerError(CrowdselectError, OSError):
    """The file is no ledger, is in use, comes from a newer version or cannot be written; the message says which."""


class CallError(CrowdselectError, RuntimeError):
    """A model gave no answer; raised by a client, caught and recorded by the runner.

    Attributes:
        verdict: What to do: `"retry"`; `"refused"`: retry, and ask less often; `"filtered"` and `"failed"`:
            asking again would not help; `"stop"`: this endpoint answers nothing until somebody fixes it.
        retry_after: Seconds to wait, as the server requested; None = it named none.
        billed: The answer may have been paid for although it did not arrive.
        parameter: The field of the request that the server does not support; None = it named none.
    """

    def __init__(
        self,
        message: str,
        *,
        verdict: str = "retry",
        retry_after: float | None = None,
        billed: bool = False,
        parameter: str | None = None,
    ) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.retry_after = retry_after
        self.billed = billed
        self.parameter = parameter

    def __reduce__(self) -> tuple[object, ...]:
        """Stay picklable: the keyword arguments are attributes."""
        return (_rebuilt, (str(self), self.verdict, self.retry_after, self.billed, self.parameter))


def _rebuilt(
    message: str,
    verdict: str,
    retry_after: float | None,
    billed: bool,  # noqa: FBT001  (called by pickle)
    parameter: str | None,
) -> CallError:
    return CallError(message, verdict=verdict, retry_after=retry_after, billed=billed, parameter=parameter)


class MissingExtraError(CrowdselectError, ImportError):
    """An optional package is missing; the message names the extra that installs it."""

    def reword(self, change: Callable[[str], str]) -> None:
        """Change the message, which an ImportError stores twice."""
        super().reword(change)
        self.msg = str(self.args[0])
