"""Simulated texts with known topics, for the benchmarks."""

import numpy as np
from numpy.typing import NDArray


def topic_texts(rows: int, *, words: int, topics: int, seed: int) -> tuple[list[str], NDArray[np.int64]]:
    """Draw texts: two words in three from one of the topics, the rest from what all share.

    Args:
        rows: How many texts.
        words: Length of each.
        topics: How many topics; they are not of one size.
        seed: Of everything.

    Returns:
        Texts, and the topic of each, shape (rows,).
    """
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{word}" for word in range(30_000)])
    common = 1.0 / np.arange(1, len(vocabulary) + 1)
    common /= common.sum()
    topic_of = rng.choice(topics, size=rows, p=rng.dirichlet(np.full(topics, 3.0)))
    drawn = rng.choice(len(vocabulary), size=(rows, words), p=common)
    own = words * 2 // 3
    for topic in range(topics):
        members = np.flatnonzero(topic_of == topic)
        weights = rng.dirichlet(np.full(len(vocabulary), 0.02))
        drawn[members, :own] = rng.choice(len(vocabulary), size=(len(members), own), p=weights)
    return [" ".join(text) for text in vocabulary[drawn]], topic_of
