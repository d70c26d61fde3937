"""Random rows: the baseline for every other method."""

import numpy as np

from crowdselect.progress import Progress
from crowdselect.seeding import reseeded
from crowdselect.selection.methods import Method, Scored, Seen


def random_choice() -> Method:
    """Choose rows at random, by a seeded hash of their ids; with clusters, as many from each: cluster + random.

    The first control of the paper (section 3). `score` is the draw, in [0, 1), higher = chosen earlier.

    Example:
        >>> random_choice().settings["method"]
        'random'
    """
    return Method(name="random", score=_draws)


def _draws(seen: Seen, _progress: Progress) -> Scored:
    draws = reseeded(seen.known.hashes, seed=seen.options.seed, salt="random")
    return Scored((draws >> np.uint64(11)).astype(np.float64) / 2.0**53)
