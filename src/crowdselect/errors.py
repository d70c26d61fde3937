"""Everything that crowdselect raises on purpose.

    CrowdselectError
    ├── InputError (ValueError)        a file, row or column is not what it should be
    │   ├── LayoutError                 the columns fit no layout we know
    │   └── RewardError                 no usable reward, or a choice between several is needed
    ├── OptionError (ValueError)       an option's value makes no sense, or not with this pool
    │   └── BudgetError                 the budget cannot be filled
    ├── OutputError (OSError)          the place to write to is refused
    ├── ShapeError (ValueError)        arrays do not fit together
    └── MissingExtraError (ImportError) an optional package is not installed

Each also inherits the built-in that it stands for, so `except ValueError` keeps working. The
command line prints any of them as one line, `error: ...`, and ends with exit code 2.
"""


class CrowdselectError(Exception):
    """The root: catch this to catch all of them."""


class InputError(CrowdselectError, ValueError):
    """A file, row or column is not what it should be; the message names which."""


class LayoutError(InputError):
    """The columns fit no layout; the message lists the columns found and the layouts known."""


class RewardError(InputError):
    """There is no usable reward, or several candidates and no choice."""


class OptionError(CrowdselectError, ValueError):
    """An option's value makes no sense, or not together with this pool."""


class BudgetError(OptionError):
    """The budget is not positive or above what can be chosen; the message says how many can."""


class OutputError(CrowdselectError, OSError):
    """The output would overwrite something that is not ours, or an input."""


class ShapeError(CrowdselectError, ValueError):
    """Arrays do not fit together; the message gives their shapes."""


class MissingExtraError(CrowdselectError, ImportError):
    """An optional package is absent; the message names the extra that brings it."""
