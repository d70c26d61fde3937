"""Which answers may be trained on, by how they ended: what was cut, withheld or broken off teaches half an answer."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from crowdselect.numeric.responses import Answers
from crowdselect.pool.cells import Targets
from crowdselect.selection.options import Options
from crowdselect.types import FloatArray

_SAID = {
    "cut": "were cut",
    "filtered": "were withheld by a filter",
    "failed": "were broken off by an error",
}


def with_targets(
    answers: Answers, targets: Targets, scores: FloatArray, *, options: Options, models: tuple[str, ...]
) -> Answers:
    """Add to a choice of answers what it had to leave out.

    Args:
        answers: From `crowdselect.numeric.responses.find_answers`, of `targets.usable`.
        targets: From `find_targets`.
        scores: Rewards, shape (N, M). NaN = no reward.
        options: `answer` counts here.
        models: The M models' names.
    """
    barred = targets.barred
    if barred is None:
        return answers
    rewarded = ~np.isnan(scores)
    unsaid = answers.unsaid - int((barred & rewarded).sum())
    wanted = barred if options.answer == "random" else barred & rewarded
    if options.answer.startswith("model:"):
        wanted = barred[:, [models.index(options.answer.removeprefix("model:"))]]
    return replace(answers, unsaid=unsaid, unfinished=np.any(wanted, axis=1), endings=targets.endings)


def ending_notes(endings: Mapping[str, int], *, allow_cut: bool) -> list[str]:
    """Say how many answers ended in another way than they should, one line for each way.

    Example:
        >>> ending_notes({"cut": 2}, allow_cut=False)
        ['2 answers were cut (finish_reason); their rewards count, but they are no training targets (--allow-cut takes them)']
    """
    found = []
    for kind, said in _SAID.items():
        count = endings.get(kind, 0)
        if not count:
            continue
        if kind == "cut" and allow_cut:
            found.append(
                f"{count} answers {said} (finish_reason); --allow-cut takes them as training targets"
            )
            continue
        hint = " (--allow-cut takes them)" if kind == "cut" else ""
        found.append(
            f"{count} answers {said} (finish_reason); their rewards count, but they are no training targets{hint}"
        )
    if endings.get("odd"):
        found.append(f"{endings['odd']} answers have a finish_reason that is not known; they were kept")
    return found
