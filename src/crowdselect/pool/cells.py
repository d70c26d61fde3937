"""The rewards in each cell (instruction, model) of the matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from crowdselect.errors import InputError, RewardError
from crowdselect.numeric.exact import moments, over_blocks
from crowdselect.pool.codes import starts_of
from crowdselect.pool.index import Index
from crowdselect.pool.keys import AnswerKeys
from crowdselect.pool.textscores import REWARD, wants_number
from crowdselect.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class CellRewards:
    """The rewards in each cell of the matrix: one, or those of several samples."""

    values: FloatArray
    """Shape (A,), those that there are, cell by cell."""
    starts: IntArray
    """Where each cell that has some begins in `values`."""
    cells: IntArray
    """`row * M + model` of each of these cells, ascending."""
    shape: tuple[int, int]
    """(N, M)."""

    @property
    def counts(self) -> IntArray:
        """Rewards of each cell that has some."""
        return np.diff(self.starts, append=len(self.values))

    @property
    def of_cells(self) -> FloatArray:
        """The mean of each cell that has some."""
        return self._summed[0]

    def means(self) -> FloatArray:
        """The mean of each cell, shape (N, M), column-major, NaN = none."""
        return self._matrix(self.of_cells)

    def variances(self) -> FloatArray:
        """The population variance of each cell, shape (N, M), column-major, NaN = fewer than two rewards."""
        return self._matrix(np.where(self.counts > 1, self._summed[1], np.nan))

    def highest(self) -> FloatArray:
        """The highest of each cell, shape (N, M), column-major, NaN = none."""
        own = np.maximum.reduceat(self.values, self.starts) if len(self.values) else self.values
        return self._matrix(own)

    def of_model(self, model: int) -> "CellRewards":
        """Those of one model alone, shape (N, 1)."""
        own = self.cells % self.shape[1] == model
        counts = self.counts[own]
        return CellRewards(
            self.values[np.repeat(own, self.counts)],
            np.cumsum(counts) - counts,
            self.cells[own] // self.shape[1],
            (self.shape[0], 1),
        )

    def share(self, marked: BoolArray) -> FloatArray:
        """The share of each cell's rewards that are marked, shape (A,); shape (N, M), column-major, NaN = none."""
        own = marked.astype(np.float64)
        return self._matrix(np.add.reduceat(own, self.starts) / self.counts if len(own) else own)

    @cached_property
    def _summed(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of each cell that has some; equal ones are the same number, whatever the order of samples."""
        mean, variance = self.values[self.starts], np.zeros(len(self.starts))  # one reward is its own mean
        counts = self.counts
        for count in np.flatnonzero(np.bincount(counts[counts > 1])):
            runs = np.flatnonzero(counts == count)
            mean[runs], variance[runs] = over_blocks(partial(self._moments, runs, int(count)), len(runs))
        return mean, variance

    def _moments(self, runs: IntArray, count: int, here: slice) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of some of the cells with the same number of rewards."""
        columns = self.values[self.starts[runs[here]] + np.arange(count)[:, None]]
        with np.errstate(over="ignore", invalid="ignore"):  # callers say it, with the place
            return moments(columns, None, np.full(columns.shape[1], float(count)))

    def _matrix(self, own: FloatArray) -> FloatArray:
        n, m = self.shape
        if len(own) == n * m:
            return np.asfortranarray(own.reshape(n, m))
        out = np.full(self.shape, np.nan, order="F")
        out[self.cells // m, self.cells % m] = own
        return out


def cell_rewards(
    values: FloatArray, keys: AnswerKeys, *, index: Index, names: Sequence[str], path: str, reward: str
) -> CellRewards:
    """Put rewards into the cells of the matrix.

    Args:
        values: Shape (A,), NaN = none.
        keys: Where each belongs. Equal means are the same number, whatever the order of the samples.
        index: The instructions.
        names: The models.
        path: The file, for messages.
        reward: The column, for messages.

    Returns:
        The rewards that there are, cell by cell.

    Raises:
        InputError: A reward is infinite, or so large that a mean is.
    """
    cells, starts, read = keys.cells, keys.starts, values[keys.order]
    with np.errstate(over="ignore", invalid="ignore"):
        plain = np.isfinite(read.sum())
    if not plain:  # something is missing, infinite, or large
        there = ~np.isnan(read)
        cell, read = keys.cell[there], read[there]
        starts = starts_of(cell)
        cells = cell[starts]
        refuse_infinite(read, cell, index=index, names=names, where=f"{path}: {reward}")
    found = CellRewards(read, starts, cells, (len(index.ids), len(names)))
    if len(starts) < len(read):
        where = f"{path}: the mean of {reward} over samples"
        refuse_infinite(found.of_cells, found.cells, index=index, names=names, where=where)
    return found


def cell_means(
    values: FloatArray, keys: AnswerKeys, *, index: Index, names: Sequence[str], path: str, reward: str
) -> FloatArray:
    """Put numbers into the matrix, shape (N, M), column-major, NaN = none; of several samples their mean. See `cell_rewards`."""
    return cell_rewards(values, keys, index=index, names=names, path=path, reward=reward).means()


def refuse_infinite(
    values: FloatArray, cells: IntArray, *, index: Index, names: Sequence[str], where: str
) -> None:
    """Stop at the first infinite value.

    Raises:
        InputError: There is one; its id, its model and itself are named.
    """
    infinite = np.isinf(values)
    if infinite.any():
        at = int(np.argmax(infinite))
        row, model = divmod(int(cells[at]), len(names))
        raise InputError(
            f"{where} is {values[at]} at id {index.id(row)!r}, model {names[model]!r}; "
            "wanted a finite number, or nothing where there is no reward"
        )


def not_numeric(
    path: str,
    reward: str,
    found: tuple[str, str] | None,
    *,
    column: bool = False,
    beside: Sequence[str] = (),
) -> RewardError:
    """Say what stands where a reward should.

    Args:
        path: The file.
        reward: The reward.
        found: A place and the value there; None = it is empty.
        column: The reward is a column of the file, all of which may be so.
        beside: Columns with lists of texts that are as long as the lists of the reward.
    """
    if found is None:
        return RewardError(
            f"{path}: {reward} holds no number (it is empty, or numbers written as text); wanted numbers"
        )
    place, value = found
    told = f"{path}: {reward} is {value[:60]!r} at {place}"
    if beside:
        return RewardError(
            f"{told}; a list, as long as that in {' and in '.join(beside)}: if the answers are there, "
            f"`columns='response={beside[0]}'` reads both"
        )
    wanted = wants_number(value, [reward] if column else [], path)
    wanted = wanted or "wanted a number"
    if wanted.startswith("wanted a number") and REWARD.search(reward) and not value.startswith("["):
        skip = " (`skip_invalid=True` leaves such rows out where most are numbers)"
        wanted = wanted.replace("wanted a number", f"wanted a number{skip}", 1)
    return RewardError(f"{told}; {wanted}")
