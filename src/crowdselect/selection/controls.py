"""The first control: what a random choice with the same quotas would have looked like."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crowdselect.numeric.metrics import METRICS
from crowdselect.selection.selection import Selection

_ROUNDING = 1e-12  # relative; below this, draws are equal


@dataclass(frozen=True, slots=True)
class Control:
    """One column's mean over the chosen rows, and over random choices with the same quotas."""

    chosen: float
    random: float
    """Mean over the draws."""
    spread: float
    """Standard deviation over the draws: what is within two of these is what chance does. Infinite on overflow."""


def random_control(selection: Selection, *, draws: int = 200, seed: int = 0) -> Mapping[str, Control]:
    """Compare the chosen rows with random ones that could have been chosen, as many from each cluster.

    Args:
        selection: What was chosen.
        draws: How many random choices.
        seed: Of the draws.

    Returns:
        One `Control` for `reward`, that of the answer to train on, and for each metric, where it has values in every
        chosen row. Random rows without a value are left out of their mean.

    Example:
        >>> random_control.__name__
        'random_control'
    """
    import pyarrow as pa

    columns = [name for name in ("reward", *METRICS) if name in selection.table.column_names]
    wanted = selection.table.select(["selected", "cluster", *columns])  # no texts are copied
    eligible = wanted.filter(pa.array(selection.eligible))
    chosen = eligible["selected"].to_numpy()
    cluster = eligible["cluster"].fill_null(0).to_numpy()
    values = {name: eligible[name].to_numpy() for name in columns}
    rng = np.random.default_rng(seed)
    means: dict[str, list[float]] = {name: [] for name in columns}
    members = [np.flatnonzero(cluster == label) for label in np.unique(cluster[chosen])]
    for _ in range(draws):
        drawn = np.concatenate(
            [rng.choice(rows, size=int(chosen[rows].sum()), replace=False) for rows in members]
        )
        for name in columns:
            known = values[name][drawn]
            means[name].append(float(np.nanmean(known)) if not np.isnan(known).all() else np.nan)
    with np.errstate(over="ignore"):  # the spread of giant variances is infinite
        return {
            name: Control(float(values[name][chosen].mean()), float(np.nanmean(drawn)), _spread(drawn))
            for name, drawn in means.items()
            if not np.isnan(values[name][chosen]).any() and not np.isnan(drawn).all()
        }


def _spread(means: list[float]) -> float:
    """Standard deviation of the draws; 0 where they differ by rounding only, as when every row is drawn."""
    spread = float(np.nanstd(means))
    return spread if spread > _ROUNDING * float(np.nanmax(np.abs(means))) else 0.0
