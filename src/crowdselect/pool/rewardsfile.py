"""A second file of rewards, joined to a pool by (id, model), and by sample where both have it."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from crowdselect.errors import InputError
from crowdselect.pool.answers import TallAnswers, WideAnswers, first_not_number
from crowdselect.pool.cells import Keys, cell_means, sorted_keys
from crowdselect.pool.index import Index, first_null, to_numpy
from crowdselect.pool.layouts import RewardColumns
from crowdselect.pool.source import Source
from crowdselect.types import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa


class RewardsFile:
    """The rewards of a file, as far as they belong to answers of the pool."""

    def __init__(
        self, source: Source, columns: RewardColumns, index: Index, answers: WideAnswers | TallAnswers
    ) -> None:
        self._source = source
        self._columns = columns
        self._index = index
        self._answers = answers
        self.lost = 0
        """How many rows belong to no answer; known once the file was read."""

    def scores(self, reward: str) -> FloatArray:
        """Read a reward, shape (N, M) of the pool, NaN = none; the mean over samples."""
        values = to_numpy(self._source.fetch(self._columns.rewards[reward]).column(0))
        names, path = self._answers.models, self._source.path
        return cell_means(values, self._keys, index=self._index, names=names, path=path, reward=reward)

    def rewards(self, reward: str, answers: TallAnswers) -> FloatArray:
        """Read the reward of every answer of the pool, shape (A,), NaN = none; one of all samples where they are not told apart."""
        if self._columns.sample is None or not answers.sampled:
            return self.scores(reward)[answers.keys.row, answers.keys.model]
        values, keys = to_numpy(self._source.fetch(self._columns.rewards[reward]).column(0)), self._keys
        at = answers.places(keys.row[keys.order], keys.model[keys.order], keys.sample[keys.order])
        out = np.full(len(answers.keys.row), np.nan)
        out[at] = values[keys.order]
        return out

    @property
    def note(self) -> str | None:
        """What to tell the user once the file was read."""
        return lost_note(self._source.path, self.lost)

    def not_a_number(self, field: str) -> tuple[str, str] | None:
        """Find the first value of a column that is not a number: its row, and itself."""
        return first_not_number(self._source, None, self._columns.fields[field])

    @cached_property
    def _keys(self) -> Keys:
        import pyarrow as pa
        import pyarrow.compute as pc

        ids, names, sample = self._source.fetch(
            self._columns.id, self._columns.model, self._columns.sample or "0.0::DOUBLE"
        ).columns
        self._refuse_missing("id", ids)
        self._refuse_missing("model", names)
        known_models = pa.array(self._answers.models, type=names.type)
        models = to_numpy(pc.fill_null(pc.index_in(names, known_models), -1)).astype(np.int64)
        rows, known = self._index.find(ids)
        samples = to_numpy(sample)
        here = (rows >= 0) & (models >= 0)
        beyond_limit = known & (rows < 0) & (models >= 0)
        asked = None if self._columns.sample is None else samples[here]
        here[here] = self._answers.holds(rows[here], models[here], asked)
        self.lost = int(np.count_nonzero(~here & ~beyond_limit))
        part = np.where(here, rows, -1)
        path = self._source.path
        return sorted_keys(part, models, samples, index=self._index, names=self._answers.models, path=path)

    def _refuse_missing(self, what: str, values: "pa.ChunkedArray") -> None:
        missing = first_null(values)
        if missing is not None:
            raise missing_in(self._source, what, missing)


def missing_in(source: Source, what: str, row: int) -> InputError:
    """Say that a row of a rewards file has no id, or no model."""
    return InputError(
        f"{source.place(row)}: the {what} is missing; wanted one in every row; fill it in or drop the row"
    )


def lost_note(path: str, lost: int) -> str | None:
    """Say how many rows of a rewards file belong to no answer; None where all do.

    Example:
        >>> lost_note("r.parquet", 2)
        'rewards: 2 rows of r.parquet match no (id, model) of the pool'
    """
    return f"rewards: {lost} rows of {path} match no (id, model) of the pool" if lost else None


def refuse_unnamed(source: Source, columns: RewardColumns) -> None:
    """Refuse a row that names no answer, a batch at a time.

    Raises:
        InputError: A row has no id, or no model.
    """
    at = 0
    for batch in source.batches(f"{columns.id} IS NULL", f"{columns.model} IS NULL", rows=1 << 20):
        for what, missing in zip(("id", "model"), batch.columns, strict=True):
            if missing.true_count:
                raise missing_in(source, what, at + int(np.argmax(to_numpy(missing))))
        at += len(batch)
