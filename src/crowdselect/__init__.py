"""Choose fine-tuning data with a crowd of models: difficulty, separability and stability of their rewards.

    >>> from crowdselect import Options, export, open_pool, select

The names below load when first used, so that `import crowdselect` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from crowdselect.crowd import Crowd
    from crowdselect.errors import CrowdselectError
    from crowdselect.explorer.explore import explore
    from crowdselect.numeric.metrics import METRICS, difficulty, separability, stability
    from crowdselect.pool.pool import Pool, open_pool
    from crowdselect.selection.folder import export, load_selection
    from crowdselect.selection.options import Options
    from crowdselect.selection.run import select
    from crowdselect.selection.selection import Selection, random_control
    from crowdselect.watching import status

_HOMES = {
    "METRICS": "numeric.metrics",
    "Crowd": "crowd",
    "CrowdselectError": "errors",
    "Options": "selection.options",
    "Pool": "pool.pool",
    "Selection": "selection.selection",
    "difficulty": "numeric.metrics",
    "explore": "explorer.explore",
    "export": "selection.folder",
    "load_selection": "selection.folder",
    "open_pool": "pool.pool",
    "random_control": "selection.selection",
    "select": "selection.run",
    "separability": "numeric.metrics",
    "stability": "numeric.metrics",
    "status": "watching",
}

__all__ = [
    "METRICS",
    "Crowd",
    "CrowdselectError",
    "Options",
    "Pool",
    "Selection",
    "difficulty",
    "explore",
    "export",
    "load_selection",
    "open_pool",
    "random_control",
    "select",
    "separability",
    "stability",
    "status",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (the public names have many types)
    if name not in _HOMES:
        raise AttributeError(f"module 'crowdselect' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"crowdselect.{_HOMES[name]}"), name)
