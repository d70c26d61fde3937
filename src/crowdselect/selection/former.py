"""Options of a choice before 0.2 that bands took the place of, and the band to write instead; it loads nothing heavy."""

from collections.abc import Mapping
from typing import Any

from crowdselect.errors import OptionError

FORMER: dict[str, str] = {
    "min_best_reward": "best_reward={:g}..",
    "min_best_quantile": "best_reward={}%..",
    "min_rewards": "rewards={:g}..",
}
"""Options that bands took the place of, and the band that says the same."""


def refuse_former(given: Mapping[str, Any]) -> None:
    """Say which band to write for an option that is no more.

    Args:
        given: Options by name.

    Raises:
        OptionError: One of them is.

    Example:
        >>> refuse_former({"min_best_quantile": 0.2})
        Traceback (most recent call last):
        ...
        crowdselect.errors.OptionError: `min_best_quantile` is now a band; write `keep='best_reward=20%..'`
    """
    for name, form in FORMER.items():
        value = given.get(name)
        if value is not None:
            shown = f"{value * 100:g}" if "%" in form else value
            raise OptionError(f"`{name}` is now a band; write `keep={form.format(shown)!r}`")
