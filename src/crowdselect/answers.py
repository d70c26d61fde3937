"""How rewards and answers are read: from a row (or list element) per answer, or from a column per model.

`TallAnswers` and `WideAnswers` have the same methods; a pool holds one of them. `RewardsFile` joins a second
file by (id, model).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, RewardError
from crowdselect.layouts import Tall, View, Wide, blank
from crowdselect.ordering import seeded_hash
from crowdselect.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Cells = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Index:
    """The instructions of a pool in code-point order of id, and where the source's rows belong."""

    ids: "pa.Array"
    """Shape (N,), the chosen instructions."""
    known: "pa.Array"
    """All ids of the pool, also those beyond `limit`."""
    chosen: IntArray
    """Place in `ids` of each known id, -1 beyond `limit`."""
    row_of: IntArray
    """Instruction of each source row, -1 beyond `limit`."""

    def find(self, ids: "pa.Array | pa.ChunkedArray") -> tuple[IntArray, BoolArray]:
        """Give the instruction of each id (-1: none), and whether the pool knows the id at all."""
        import pyarrow.compute as pc

        known = _numpy(pc.fill_null(pc.index_in(ids, self.known), -1)).astype(np.int64)
        return np.where(known >= 0, self.chosen[known], -1), known >= 0


def build_index(source: Source, view: View, *, limit: int | None, seed: int) -> Index:
    """Read the ids of a pool and put them in code-point order.

    Raises:
        InputError: There is no row, an id is missing, or one is doubled where a row is an instruction.
    """
    import pyarrow.compute as pc

    column = source.fetch(view.id).column(0)
    if len(column) == 0:
        raise InputError(f"{source.path}: the file holds no rows; wanted at least one instruction")
    if column.null_count:
        place = source.place(int(np.argmax(_numpy(column.is_null()))))
        wanted = "text to make one from" if view.id_made else "an id in every row"
        raise InputError(f"{place}: the id is missing; wanted {wanted}; fill it in or drop the row")
    if view.row_is_instruction:
        names, codes = column.combine_chunks(), np.arange(len(column), dtype=np.int64)
    else:
        encoded = column.combine_chunks().dictionary_encode()
        names, codes = encoded.dictionary, _numpy(encoded.indices).astype(np.int64)
    order = _numpy(pc.sort_indices(names))
    known = names.take(order)
    if view.row_is_instruction:
        _refuse_double_ids(source, known, order)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    chosen = _chosen(known, limit=limit, seed=seed)
    return Index(known.filter(chosen >= 0) if limit is not None else known, known, chosen, chosen[rank[codes]])


def _chosen(known: "pa.Array", *, limit: int | None, seed: int) -> IntArray:
    """Number the ids that `limit` lets in, in their order; -1 for the others."""
    if limit is None or limit >= len(known):
        return np.arange(len(known), dtype=np.int64)
    keys = seeded_hash(known.to_numpy(zero_copy_only=False), seed=seed, salt="limit")
    first = np.sort(np.argsort(keys, kind="stable")[:limit])
    chosen = np.full(len(known), -1, dtype=np.int64)
    chosen[first] = np.arange(limit)
    return chosen


def _refuse_double_ids(source: Source, known: "pa.Array", order: IntArray) -> None:
    import pyarrow.compute as pc

    same = _numpy(pc.equal(known[1:], known[:-1]))
    if same.any():
        at = int(np.argmax(same))
        first, second = sorted(int(row) for row in order[at : at + 2])
        raise InputError(
            f"{source.place(second)}: duplicate id {known[at].as_py()!r}, already in row {first + 1}; "
            "wanted one row per instruction; drop one"
        )


class WideAnswers:
    """A column per model."""

    def __init__(self, source: Source, layout: Wide, index: Index) -> None:
        self._source = source
        self._layout = layout
        self._index = index
        self.models = layout.models

    def scores(self, reward: str) -> FloatArray:
        """Read a reward, shape (N, M), NaN = none, column by column."""
        columns = self._layout.rewards[reward]
        out = np.full((len(self._index.ids), len(self.models)), np.nan, order="F")
        self._fill(out, {model: sql for model, sql in columns.items()})
        for j, model in enumerate(self.models):
            infinite = np.isinf(out[:, j])
            if infinite.any():
                i = int(np.argmax(infinite))
                raise infinite_reward(self._source.path, reward, self._index.ids[i].as_py(), model, out[i, j])
        return out

    def answered(self) -> BoolArray:
        """Say where there is a non-empty response, shape (N, M); nothing is read where Parquet's statistics say so."""
        out = np.zeros((len(self._index.ids), len(self.models)), dtype=np.bool_, order="F")
        open_questions = {}
        for j, model in enumerate(self.models):
            if self._source.never_blank(self._layout.leaves.get(model)):
                out[:, j] = True
            elif model in self._layout.responses:
                open_questions[model] = f"NOT {blank(self._layout.responses[model])}"
        self._fill(out, open_questions)
        return out

    def responses(self, cells: Cells) -> list[str | None]:
        """Read the responses of some cells (instruction, model), a column at a time."""
        row_at = np.empty(len(self._index.ids), dtype=np.int64)
        rows = np.flatnonzero(self._index.row_of >= 0)
        row_at[self._index.row_of[rows]] = rows
        out: list[str | None] = [None] * len(cells)
        for j in sorted({j for _, j in cells}):
            if self.models[j] not in self._layout.responses:
                continue
            places = [place for place, cell in enumerate(cells) if cell[1] == j]
            wanted = row_at[[cells[place][0] for place in places]]
            texts = self._source.take(self._layout.responses[self.models[j]], wanted).to_pylist()
            for place, text in zip(places, texts, strict=True):
                out[place] = said_text(text)
        return out

    def holds(self, rows: IntArray, models: IntArray, samples: "pa.Array | None") -> BoolArray:
        """Say which (instruction, model) the pool has: all of them, every column has every row."""
        return np.ones(len(rows), dtype=np.bool_)

    def not_a_number(self, reward: str) -> tuple[str, str] | None:
        """Find the first value of a field that is not a number: the id, and the value."""
        for sql in self._layout.fields[reward].values():
            found = first_text(self._source, self._index, sql)
            if found is not None:
                return found
        return None

    def _fill(self, out: NDArray[np.generic], columns: dict[str, str]) -> None:
        """Read SQL per model into the columns of `out`, rows in the order of the index."""
        if not columns:
            return
        places = [self.models.index(model) for model in columns]
        begin = 0
        for batch in self._source.batches(list(columns.values())):
            rows = self._index.row_of[begin : begin + batch.num_rows]
            begin += batch.num_rows
            keep = rows >= 0
            everything = bool(keep.all())
            for j, values in zip(places, batch.columns, strict=True):
                read = values.to_numpy(zero_copy_only=False)
                out[rows if everything else rows[keep], j] = read if everything else read[keep]


@dataclass(frozen=True, slots=True)
class _Keys:
    """Which cell each of A answers belongs to, and the order to go through them in."""

    row: IntArray
    """Instruction, -1 where it takes no part."""
    model: IntArray
    sample: FloatArray
    order: IntArray
    """The answers that take part, by (instruction, model, sample)."""
    cell: IntArray
    """`row * M + model` of `order`, ascending."""


class TallAnswers:
    """A row of the source per answer, or an element of a row's lists."""

    def __init__(self, source: Source, layout: Tall, index: Index) -> None:
        self._source = source
        self._layout = layout
        self._index = index

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in code-point order."""
        return self._models_and_codes[0]

    def scores(self, reward: str) -> FloatArray:
        """Read a reward, shape (N, M), NaN = none; the mean where an answer was sampled several times."""
        values = self._flat(self._layout.rewards[reward])
        return cell_means(values, self._keys, self._index, self.models, path=self._source.path, reward=reward)

    def answered(self) -> BoolArray:
        """Say where there is a non-empty response, shape (N, M)."""
        keys, response = self._keys, self._layout.response
        out = np.zeros((len(self._index.ids), len(self.models)), dtype=np.bool_, order="F")
        said = keys.row >= 0
        if response is not None and (self._layout.nested or not self._source.never_blank(("response",))):
            kept = f"list_transform({response}, lambda said: NOT {blank('said')})"
            said &= _numpy(self._flat(kept if self._layout.nested else f"NOT {blank(response)}")).astype(np.bool_)
        out[keys.row[said], keys.model[said]] = True
        return out

    def responses(self, cells: Cells) -> list[str | None]:
        """Read the responses of some cells (instruction, model): the first non-empty one by sample."""
        keys = self._keys
        if self._layout.response is None or not cells:
            return [None] * len(cells)
        wanted = np.array([i * len(self.models) + j for i, j in cells], dtype=np.int64)
        begins, ends = (np.searchsorted(keys.cell, wanted, side=side) for side in ("left", "right"))
        counts = ends - begins
        places = np.repeat(begins, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        texts = self._take(self._layout.response, keys.order[places])
        out: list[str | None] = [None] * len(cells)
        for place, text in zip(np.repeat(np.arange(len(cells)), counts), texts, strict=True):
            out[place] = out[place] or said_text(text)
        return out

    def holds(self, rows: IntArray, models: IntArray, samples: FloatArray | None) -> BoolArray:
        """Say which (instruction, model), or with samples (instruction, model, sample), the pool has."""
        keys = self._keys
        cells = rows * len(self.models) + models
        if samples is None or self._layout.sample is None:
            return np.isin(cells, keys.cell)
        levels, codes = np.unique(np.concatenate([keys.sample[keys.order], samples]), return_inverse=True)
        mine = keys.cell * len(levels) + codes[: len(keys.order)]
        return np.isin(cells * len(levels) + codes[len(keys.order) :], mine)

    def not_a_number(self, reward: str) -> tuple[str, str] | None:
        """Find the first value of a field that is not a number: the id, and the value."""
        sql = self._layout.fields[reward]
        number = "TRY_CAST({} AS DOUBLE) IS NULL AND {} IS NOT NULL"
        if self._layout.nested:
            sql = f"list_filter({sql}, lambda value: {number.format('value', 'value')})[1]"
        return first_text(self._source, self._index, sql)

    @cached_property
    def _models_and_codes(self) -> tuple[tuple[str, ...], IntArray]:
        import pyarrow.compute as pc

        names = self._flat(self._layout.model)
        if names.null_count:
            at = int(self._rows[np.argmax(_numpy(names.is_null()))])
            raise InputError(f"{self._source.place(at)}: the model is missing; wanted its name; fill it in")
        encoded = names.combine_chunks().dictionary_encode()
        order = _numpy(pc.sort_indices(encoded.dictionary))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        return tuple(encoded.dictionary.take(order).to_pylist()), rank[_numpy(encoded.indices)]

    @cached_property
    def _keys(self) -> _Keys:
        models, codes = self._models_and_codes
        rows = self._index.row_of[self._rows]
        samples = np.zeros(len(rows))
        if self._layout.sample is not None:
            samples = _numpy(self._flat(self._layout.sample))
        return sorted_keys(rows, codes, samples, self._index, models, path=self._source.path)

    @cached_property
    def _lengths(self) -> IntArray:
        """Answers per source row."""
        if not self._layout.nested:
            return np.ones(len(self._index.row_of), dtype=np.int64)
        column = self._source.fetch(f"coalesce(len({self._layout.model}), 0)").column(0)
        return _numpy(column).astype(np.int64)

    @cached_property
    def _rows(self) -> IntArray:
        """Source row of each answer."""
        return np.repeat(np.arange(len(self._lengths), dtype=np.int64), self._lengths)

    def _flat(self, sql: str) -> "pa.ChunkedArray":
        """Read one value per answer."""
        import pyarrow.compute as pc

        column = self._source.fetch(sql).column(0)
        if not self._layout.nested:
            return column
        lengths = _numpy(pc.fill_null(pc.list_value_length(column), 0))
        uneven = np.flatnonzero(lengths != self._lengths)
        if uneven.size:
            row = int(uneven[0])
            raise InputError(
                f"{self._source.place(row)}: a list has {lengths[row]} elements; "
                f"wanted {self._lengths[row]}, one per model"
            )
        return pc.list_flatten(column)

    def _take(self, sql: str, answers: IntArray) -> list[str | None]:
        """Read one text for each of some answers."""
        rows, back = np.unique(self._rows[answers], return_inverse=True)
        found = self._source.take(sql, rows).to_pylist()
        if not self._layout.nested:
            return [found[at] for at in back]
        first = np.cumsum(self._lengths) - self._lengths
        return [found[at][answer - first[rows[at]]] for at, answer in zip(back, answers, strict=True)]


class RewardsFile:
    """A second file of rewards, joined to a pool by (id, model), and by sample where both have it."""

    def __init__(self, source: Source, view: View) -> None:
        if not isinstance(view.answers, Tall):
            raise TypeError("a rewards file has a row per answer")
        self.source = source
        self._view = view
        self._layout = view.answers
        self.reward_columns = view.reward_columns
        self.notes: list[str] = []

    def scores(self, reward: str, index: Index, answers: WideAnswers | TallAnswers) -> FloatArray:
        """Read a reward of the file, shape (N, M) of the pool, NaN = none."""
        keys = self._keys_in(index, answers)
        values = self.source.fetch(self._layout.rewards[reward]).column(0)
        return cell_means(values, keys, index, answers.models, path=self.source.path, reward=reward)

    def not_a_number(self, reward: str) -> tuple[str, str] | None:
        """Find the first value of a column that is not a number: the id, and the value."""
        return _first_text(self.source, self._view.id, self._layout.fields[reward])

    @property
    def fields(self) -> Sequence[str]:
        """Every column that could be meant as a reward."""
        return list(self._layout.fields)

    @property
    def rewards(self) -> Sequence[str]:
        """Every numeric column."""
        return list(self._layout.rewards)

    def _keys_in(self, index: Index, answers: WideAnswers | TallAnswers) -> _Keys:
        import pyarrow as pa
        import pyarrow.compute as pc

        sample = self._layout.sample
        found = self.source.fetch(self._view.id, self._layout.model, sample or "0.0")
        for name, column in zip(("id", "model"), found.columns, strict=False):
            if column.null_count:
                place = self.source.place(int(np.argmax(_numpy(column.is_null()))))
                raise InputError(f"{place}: the {name} is missing; wanted it in every row; fill it in")
        rows, known = index.find(found.column(0))
        names = pa.array(answers.models, type=found.column(1).type)
        models = _numpy(pc.fill_null(pc.index_in(found.column(1), names), -1)).astype(np.int64)
        samples = _numpy(found.column(2))
        here = (rows >= 0) & (models >= 0)
        here[here] = answers.holds(rows[here], models[here], samples[here] if sample is not None else None)
        lost = int(np.count_nonzero(~here & ~(known & (rows < 0) & (models >= 0))))  # beyond `limit` is not lost
        if lost and not self.notes:
            self.notes.append(f"rewards: {lost} rows of {self.source.path} match no (id, model) of the pool")
        return sorted_keys(np.where(here, rows, -1), models, samples, index, answers.models, path=self.source.path)


def sorted_keys(
    rows: IntArray, models: IntArray, samples: FloatArray, index: Index, names: Sequence[str], *, path: str
) -> _Keys:
    """Put answers in the order of (instruction, model, sample), each of which may stand once.

    Raises:
        InputError: One stands twice.
    """
    part = np.flatnonzero(rows >= 0)
    cells = rows[part] * len(names) + models[part]
    order = part[np.lexsort((samples[part], cells))] if samples.any() else part[np.argsort(cells, kind="stable")]
    cell = rows[order] * len(names) + models[order]
    twice = (cell[1:] == cell[:-1]) & (samples[order[1:]] == samples[order[:-1]])
    if twice.any():
        at = order[int(np.argmax(twice))]
        raise InputError(
            f"{path}: duplicate answer: id {index.ids[int(rows[at])].as_py()!r}, model {names[models[at]]!r}, "
            f"sample {samples[at]:g}; wanted each once; drop one, or number them in a column `sample`"
        )
    return _Keys(rows, models, samples, order, cell)


def cell_means(
    values: "pa.ChunkedArray", keys: _Keys, index: Index, models: Sequence[str], *, path: str, reward: str
) -> FloatArray:
    """Put rewards into the matrix; the mean of a cell is summed in the order of its samples.

    Raises:
        InputError: A reward is infinite, or so large that their mean is.
    """
    read = values.to_numpy()[keys.order]
    there = ~np.isnan(read)
    cell, read = keys.cell[there], read[there]
    shape = (len(index.ids), len(models))
    infinite = np.isinf(read)
    if infinite.any():
        at = int(np.argmax(infinite))
        i, j = divmod(int(cell[at]), len(models))
        raise infinite_reward(path, reward, index.ids[i].as_py(), models[j], read[at])
    out = np.full(shape, np.nan, order="F")
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    counts = np.diff(starts, append=len(cell))
    if len(starts) < len(cell):
        sums = np.bincount(np.repeat(np.arange(len(starts)), counts), weights=read)  # one after the other
        read, cell = sums / counts, cell[starts]
        if np.isinf(read).any():
            i, j = divmod(int(cell[np.argmax(np.isinf(read))]), len(models))
            raise InputError(f"{path}: {reward}: the mean over samples overflows at id {index.ids[i].as_py()!r}, model {models[j]!r}")
    out[cell // len(models), cell % len(models)] = read
    return out


def infinite_reward(path: str, reward: str, id_: str, model: str, value: float) -> InputError:
    """Say where an infinite reward stands."""
    return InputError(
        f"{path}: {reward} is {value} at id {id_!r}, model {model!r}; wanted a finite number, or nothing for a missing one"
    )


def said_text(text: str | None) -> str | None:
    """Give a response, None where it is missing or only white space."""
    return text if text is not None and text.strip() else None


def first_text(source: Source, index: Index, sql: str) -> tuple[str, str] | None:
    """Find the first value that is not a number, of the chosen instructions: its id, and the value."""
    import pyarrow.compute as pc

    values = source.fetch(f"CASE WHEN TRY_CAST({sql} AS DOUBLE) IS NULL THEN {sql} END").column(0)
    bad = np.flatnonzero(_numpy(pc.is_valid(values)) & (index.row_of >= 0))
    if not bad.size:
        return None
    row = int(bad[0])
    return index.ids[int(index.row_of[row])].as_py(), values[row].as_py()


def _numpy(values: "pa.Array | pa.ChunkedArray") -> NDArray[np.generic]:
    """Give an Arrow array of numbers or booleans without nulls to NumPy."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        return values.to_numpy()
    return values.to_numpy(zero_copy_only=False)
