"""The highest numbers of a column, such as a judge's scores."""

import numpy as np

from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen


def by_column(*, column: str) -> Method:
    """Choose the rows with the highest numbers; with a judge's scores, AlpaGasus (Chen et al. 2023, arXiv 2307.08701).

    `score` is the number: that of the answer to train on if the column is a reward of the pool, else that of the row.

    Args:
        column: A reward column, such as the judge scorer of `crowdselect reward` makes, or one number per row.
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        numbers = seen.numbers(column)
        return Scored(numbers, {f"no {column}": np.isnan(numbers)})

    return Method(name="column", arguments={"column": column}, score=score, columns=(column,))
