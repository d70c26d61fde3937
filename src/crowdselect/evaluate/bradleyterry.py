"""The Bradley-Terry model: strengths that explain who won against whom, by maximum likelihood."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from crowdselect.errors import ShapeError
from crowdselect.types import FloatArray, IntArray

_STEPS = 100
_CLOSE = 1e-12


def bradley_terry(
    first: IntArray, second: IntArray, share: FloatArray, weight: FloatArray, *, players: int
) -> FloatArray:
    """Fit strengths to games.

    Args:
        first: Shape (G,): a player's number, from 0.
        second: Shape (G,): its opponent's.
        share: Shape (G,): the first's share of the win, 0 to 1; 0.5 is a tie.
        weight: Shape (G,): how often the game counts, from 0.
        players: P.

    Returns:
        Shape (P,): log-odds against player 0, whose strength is 0; higher is stronger. NaN where the games allow
        no finite one: a player that won all, lost all, or is not linked to player 0.

    Raises:
        ShapeError: The arrays do not fit together.

    Source:
        Bradley and Terry 1952; Zermelo 1929 for when a finite solution exists. Solved by Newton's method.

    Example:
        >>> wins = bradley_terry(np.array([1]), np.array([0]), np.array([0.75]), np.array([8.0]), players=2)
        >>> float(np.round(1 / (1 + np.exp(-wins[1])), 6))
        0.75
    """
    if not first.shape == second.shape == share.shape == weight.shape:
        raise ShapeError(f"games of shapes {first.shape}, {second.shape}, {share.shape} and {weight.shape}")
    wins = np.zeros((players, players))
    np.add.at(wins, (first, second), share * weight)
    np.add.at(wins, (second, first), (1 - share) * weight)
    np.fill_diagonal(wins, 0.0)
    # Finite strengths exist among players who are linked by wins in both directions.
    _, groups = connected_components(coo_matrix(wins > 0), directed=True, connection="strong")
    inside = np.flatnonzero(groups == groups[0])
    strengths = np.full(players, np.nan)
    strengths[0] = 0.0
    if len(inside) > 1:
        strengths[inside] = _fit(wins[np.ix_(inside, inside)])
    return strengths


def _fit(wins: FloatArray) -> FloatArray:
    """Maximise the likelihood; `wins` has shape (P, P), row over column, and links all."""
    games = wins + wins.T
    strengths = np.zeros(len(wins))
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
        slope = (wins - games * chance).sum(axis=1)
        curve = games * chance * (1 - chance)
        hessian = np.diag(curve.sum(axis=1)) - curve
        step = np.linalg.solve(hessian[1:, 1:], slope[1:])
        strengths[1:] += np.clip(step, -2.0, 2.0)  # a full step may overshoot far from the solution
        if float(np.abs(step).max()) < _CLOSE:
            break
    return strengths
