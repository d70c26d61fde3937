"""Rewards and answers of a pool with a column per model; `crowdselect.pool.tall` has the same methods."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.finish import ENDINGS, ending_sql
from crowdselect.pool.batches import AnswerBatch, Cells, Numbers, Targets, Texts, said_text
from crowdselect.pool.cells import not_numeric, refuse_infinite
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.columns import answer_alone, blank, folded, length, repaired, unwrapped, without_failed
from crowdselect.pool.index import Index
from crowdselect.pool.keys import first_not_number
from crowdselect.pool.looking import Looked, look_into, notes_of, together
from crowdselect.pool.source import Source
from crowdselect.pool.views import Wide, direction_of
from crowdselect.types import BoolArray, FloatArray, IntArray

_ROOM = 1 << 25  # values read from a source at a time: 256 MB of float64


class WideAnswers:
    """A column per model."""

    def __init__(self, source: Source, layout: Wide, index: Index, *, reasoned: bool = True) -> None:
        self._source = source
        self._layout = layout
        self._index = index
        self.models = layout.models
        self._reasoned = reasoned
        self.notes: list[str] = []
        """What was found in the answers, one line each."""

    def scores(self, reward: str) -> FloatArray:
        """Read a reward, shape (N, M), NaN = none, column by column."""
        column, change = (reward, None) if reward in self._layout.rewards else direction_of(reward)
        numbers = self._layout.rewards[column]
        if change is not None:
            numbers = {model: change(sql) for model, sql in numbers.items()}
        for model, sql in self._layout.fields[column].items():
            found = None if model in numbers else first_not_number(self._source, self._index, sql)
            if found is not None:
                raise not_numeric(self._source.path, f"{model}: {reward}", found)
        out = np.empty(self._shape, order="F")
        out[:, [model not in numbers for model in self.models]] = np.nan
        self._fill(out, numbers)
        for j in range(len(self.models)):
            rows = np.flatnonzero(np.isinf(out[:, j]))
            cells = rows * len(self.models) + j
            where = f"{self._source.path}: {reward}"
            refuse_infinite(out[rows, j], cells, index=self._index, names=self.models, where=where)
        return out

    def answered(self) -> BoolArray:
        """Say where there is a non-empty response, shape (N, M); statistics that prove it save the reading."""
        out = np.zeros(self._shape, dtype=np.bool_, order="F")
        unproven = {}
        for j, model in enumerate(self.models):
            if model not in self._responses:
                continue
            looked = self._looked[model]
            proven = not (looked.thinks or looked.failed or looked.opened)
            if proven and self._source.never_blank(self._layout.leaves.get(model)):
                out[:, j] = True
            else:
                unproven[model] = f"NOT {blank(self._responses[model])}"
        self._fill(out, unproven)
        return out

    def empty(self, rewarded: BoolArray) -> IntArray:
        """Count the answers with a reward but without text, shape (N, M); see `Pool.empty`."""
        return np.asarray(rewarded & ~self.answered(), dtype=np.int64)

    def with_text(self, rows: IntArray, models: IntArray, samples: FloatArray | None) -> BoolArray:  # noqa: ARG002  (as TallAnswers)
        """Say which (instruction, model) have a response that is not empty."""
        return self.answered()[rows, models]

    @cached_property
    def _thinking(self) -> frozenset[str]:
        """The models some of whose responses hold reasoning."""
        return frozenset(model for model, seen in self._looked.items() if seen.thinks)

    @cached_property
    def _looked(self) -> Mapping[str, Looked]:
        texts = self._layout.responses
        found = dict(zip(texts, look_into(self._source, *texts.values()), strict=True))
        if found:
            some = together(found.values())
            self.notes += notes_of(
                self._source, some, lambda holds: f"({' OR '.join(map(holds, texts.values()))})"
            )
        return found

    @cached_property
    def _raw(self) -> Mapping[str, str]:
        """SQL of the responses, repaired where that is needed, without a template's markers, and null where a call failed."""
        found = {
            model: unwrapped(sql) if self._looked[model].opened else sql
            for model, sql in self._layout.responses.items()
        }
        found = {
            model: without_failed(sql) if self._looked[model].failed else sql for model, sql in found.items()
        }
        return {model: repaired(sql) if self._looked[model].broken else sql for model, sql in found.items()}

    @cached_property
    def _responses(self) -> Mapping[str, str]:
        """SQL of the answers alone, without reasoning."""
        return {m: answer_alone(sql) if m in self._thinking else sql for m, sql in self._raw.items()}

    def responses(
        self,
        cells: Cells,
        samples: Numbers | None = None,  # noqa: ARG002  (as TallAnswers)
        *,
        whole: bool = False,
    ) -> list[str | None]:
        """Read the responses of some cells, a column at a time; `whole` with the reasoning before them."""
        sources = self._index.sources()
        out: list[str | None] = [None] * len(cells)
        for j in sorted({j for _, j in cells}):
            model = self.models[j]
            if model not in self._responses:
                continue
            places = [place for place, (_, own) in enumerate(cells) if own == j]
            wanted = sources[[cells[place][0] for place in places]]
            sql = (self._raw if whole else self._responses)[model]
            texts = self._source.take(sql, wanted).to_pylist()
            for place, text in zip(places, texts, strict=True):
                out[place] = said_text(text)
        return out

    def targets(self, *, allow_cut: bool, counted: IntArray) -> Targets:
        """Say which answers may be trained on: all that have text, but for what is an unfinished `<think>`; see `Pool.targets`."""
        said = self.answered()
        if not self._thinking:
            return Targets(said)
        cut = np.zeros(self._shape, dtype=np.bool_, order="F")
        found = {m: self._raw[m] for m in self.models if m in self._thinking}
        self._fill(
            cut,
            {
                m: f"coalesce({ending_sql('NULL', sql)} = {ENDINGS.index('cut')}, false)"
                for m, sql in found.items()
            },
        )
        cut &= said
        return Targets(
            said if allow_cut else said & ~cut,
            np.zeros_like(cut) if allow_cut else cut,
            {"cut": int(cut[:, counted].sum())},
        )

    def endings_of_models(self) -> list[dict[str, int]]:
        """Count, per model, how its answers ended: not known here."""
        return [{} for _ in self.models]

    def text_codes(self, texts: Texts) -> IntArray:
        """Tell apart the texts, shape (N, M); see `Pool.text_codes`."""
        out = np.full(self._shape, -1, dtype=np.int64, order="F")
        case = texts == "spaced"
        found = self._raw if case and self._reasoned else self._responses
        self._fill(out, {model: folded(sql, case=case) for model, sql in found.items()})
        return out

    def lengths(self) -> FloatArray:
        """Measure the responses in characters, shape (N, M), NaN = none; the texts stay where they are."""
        out = np.full(self._shape, np.nan, order="F")
        self._fill(out, {model: length(sql) for model, sql in self._responses.items()})
        return out

    def stream(
        self,
        size: int,
        beside: str | None = None,  # noqa: ARG002  (as TallAnswers)
        *,
        endings: bool = False,  # noqa: ARG002  (likewise: not known here)
    ) -> Iterator[AnswerBatch]:
        """Read all responses, about `size` at a time, instruction by instruction."""
        models = np.flatnonzero([model in self._responses for model in self.models])
        names = [self.models[j] for j in models]
        begin = 0
        sql = [self._responses[name] for name in names]
        for batch in self._source.batches(*sql, rows=max(1, size // max(len(names), 1))):
            row_of = self._index.row_of[begin : begin + len(batch)]
            begin += len(batch)
            inside = np.flatnonzero(row_of >= 0)
            columns = [column.to_pylist() for column in batch.columns]
            yield AnswerBatch(
                rows=np.repeat(row_of[inside], len(names)),
                models=np.tile(models, len(inside)),
                samples=np.zeros(len(inside) * len(names)),
                texts=[said_text(column[at]) for at in inside for column in columns],
            )

    def holds(self, rows: IntArray, models: IntArray, samples: FloatArray | None) -> BoolArray:  # noqa: ARG002  (as TallAnswers)
        """Say which (instruction, model) the pool has: every row has every column."""
        return np.ones(len(rows), dtype=np.bool_)

    def not_a_number(self, field: str) -> tuple[str, str] | None:
        """Find the first value of a field that is not a number: its id, and itself."""
        found = (
            first_not_number(self._source, self._index, sql) for sql in self._layout.fields[field].values()
        )
        return next((at for at in found if at is not None), None)

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self._index.ids), len(self.models)

    def _fill(self, out: NDArray[Any], columns: Mapping[str, str]) -> None:
        """Read SQL per model into the columns of `out`: as many at a time as there is room for."""
        sources = self._index.sources()
        at_once = max(1, _ROOM // len(self._index.row_of))
        names, place = list(columns), {model: j for j, model in enumerate(self.models)}
        for begin in range(0, len(names), at_once):
            some = names[begin : begin + at_once]
            table = self._source.fetch(*(columns[name] for name in some))
            for name, values in zip(some, table.columns, strict=True):
                np.take(to_numpy(values), sources, out=out[:, place[name]], mode="clip")  # no copy
