"""The one gate to optional packages: an absent one is named with the extra that brings it."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from crowdselect.errors import MissingExtraError


def optional(module: str, *, extra: str) -> Any:  # noqa: ANN401  (a module's attributes have any type)
    """Import an optional package, or say how to get it.

    Args:
        module: Dotted name, for example `"sentence_transformers"`.
        extra: The extra of crowdselect that installs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: It is not installed. Nothing else is used in its place.

    Example:
        >>> optional("math", extra="none").sqrt(4.0)
        2.0
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # installed, but something it needs itself is broken: that message is the useful one
        raise _missing(module, extra) from error


def check_optional(module: str, *, extra: str) -> None:
    """Say how to get an optional package that is not installed; one that is there is not loaded.

    Args:
        module: Its name, without a dot.
        extra: The extra of crowdselect that installs it.

    Raises:
        MissingExtraError: It is not installed.

    Example:
        >>> check_optional("math", extra="none")
    """
    if find_spec(module) is None:
        raise _missing(module, extra)


def _missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(f"{module} is not installed; run: pip install 'crowdselect[{extra}]'")
