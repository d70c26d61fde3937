"""The one gate to optional packages: an absent one is named with the extra that brings it."""

from importlib import import_module
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
        raise MissingExtraError(
            f"{module} is not installed; run: pip install 'crowdselect[{extra}]'"
        ) from error
