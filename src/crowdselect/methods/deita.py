"""Complexity times quality, without near-duplicates."""

import numpy as np

from crowdselect.numeric.exact import rounded
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen


def deita(*, complexity: str, quality: str) -> Method:
    """Choose complex rows of high quality, skipping near-duplicates: deita (Liu et al. 2023, arXiv 2312.15685).

    `score` is complexity x quality; going down the rows, one is taken if its largest cosine to those taken
    before is at most `near_duplicates` (0.9 in the paper, and by default in commands). Memory grows with the
    number of rows taken.

    Args:
        complexity: A column, as for `crowdselect.methods.column.by_column`.
        quality: Another such column.
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        complexities, qualities = seen.numbers(complexity), seen.numbers(quality)
        missing = {f"no {complexity}": np.isnan(complexities), f"no {quality}": np.isnan(qualities)}
        return Scored(rounded(complexities * qualities), missing)  # so that 0.1 x 0.6 ties with 0.2 x 0.3

    return Method(
        name="deita",
        arguments={"complexity": complexity, "quality": quality},
        score=score,
        columns=(complexity, quality),
    )
