"""The highest numbers of a column, such as marks that a judge gave."""

import numpy as np

from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen


def by_column(*, column: str) -> Method:
    """The rows with the highest numbers; with the marks of a judge, AlpaGasus (Chen et al. 2023, arXiv 2307.08701).

    `score` is the number: of the answer to train on where the column is a reward of the pool, else of the row.

    Args:
        column: A reward column, such as the judge scorer of `crowdselect reward` makes, or one number per row.
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        numbers = seen.numbers(column)
        return Scored(numbers, {f"no {column}": np.isnan(numbers)})

    return Method(name="column", arguments={"column": column}, score=score, columns=(column,))
