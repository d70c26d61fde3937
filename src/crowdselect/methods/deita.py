"""Complexity times quality, without near-duplicates."""

import numpy as np

from crowdselect.numeric.exact import rounded
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen


def deita(*, complexity: str, quality: str) -> Method:
    """Complex and good first, passing over what is too like a kept row: deita (Liu et al. 2023, arXiv 2312.15685).

    `score` is complexity x quality; the rows are walked down and one is kept if its largest cosine to those
    kept before is at most `near_duplicates` (0.9 in the paper, and where a command is not told). Memory grows with what is kept.

    Args:
        complexity: A column as for `crowdselect.methods.column.by_column`.
        quality: Another.
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        evolved, good = seen.numbers(complexity), seen.numbers(quality)
        missing = {f"no {complexity}": np.isnan(evolved), f"no {quality}": np.isnan(good)}
        return Scored(rounded(evolved * good), missing)  # 0.1 x 0.6 is 0.2 x 0.3

    return Method(
        name="deita",
        arguments={"complexity": complexity, "quality": quality},
        score=score,
        columns=(complexity, quality),
    )
