"""How well answers fit a student: what `answer='fits:MODEL'` takes the answer to train on by.

Zhang et al. 2025, "The Best Instruction-Tuning Data are Those That Fit" (arXiv 2502.04194; GRAPE).
"""

from collections.abc import Sequence

import numpy as np

from crowdselect.methods.kept import Kept, Score
from crowdselect.methods.likelihood import LanguageModel
from crowdselect.selection.reading import Answered
from crowdselect.types import FloatArray


class KeptFits(Kept):
    """Callable that returns how well answers fit a model, cached: see `Kept`.

    The fit of an answer is the mean log-likelihood of its tokens, given the messages before it: those tokens that training
    trains on, as the model's chat template writes them. At most 0; higher = the model would sooner say it itself. Of an
    answer that is too long for `max_length` only the beginning counts. NaN where the messages leave no room for it, or the chat
    template refuses them.
    """

    column = "fit"

    def _load(self) -> Score:
        model = LanguageModel(self._name, **self._limits)

        def fits(rows: Sequence[Answered]) -> FloatArray:
            found = model.likelihoods([(list(row.prompt), row.answer) for row in rows])
            return np.array([np.nan if each.loss is None else -each.loss for each in found])

        return fits
