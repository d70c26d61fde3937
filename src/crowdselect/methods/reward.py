"""The highest or lowest rewards."""

import numpy as np

from crowdselect.methods import Direction, sign
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen


def by_reward(*, direction: Direction = "up") -> Method:
    """Choose the rows whose best answer has the highest (or lowest) reward.

    The paper's Reward-Score (table 19), which it leaves out of its main table. `score` is the highest reward of
    an answer with text, whatever `answer` takes; negative with "down".

    Args:
        direction: "up" takes the highest, "down" the lowest.

    Raises:
        OptionError: The direction is unknown.
    """
    factor = sign(direction)

    def score(seen: Seen, _progress: Progress) -> Scored:
        best = seen.known.answers.best_reward
        return Scored(factor * best, {"no reward": np.isnan(best)})

    return Method(name="reward", arguments={"direction": direction}, score=score, rewards=True)
