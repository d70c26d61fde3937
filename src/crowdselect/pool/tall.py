"""Rewards and answers of a pool with a row, or an element of a row's lists, per answer; `crowdselect.pool.wide` has the same methods."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crowdselect.errors import InputError
from crowdselect.finish import ENDINGS, ending_sql
from crowdselect.numeric.candidates import Candidates
from crowdselect.pool.batches import AnswerBatch, Cells, Numbers, Targets, Texts, said_text
from crowdselect.pool.cells import CellRewards, cell_means, cell_rewards
from crowdselect.pool.codes import coded, codes_of, first_missing, to_numpy
from crowdselect.pool.columns import (
    answer_alone,
    blank,
    folded,
    length,
    repaired,
    unwrapped,
    with_reasoning,
    without_failed,
)
from crowdselect.pool.index import Index
from crowdselect.pool.keys import (
    AnswerKeys,
    draws,
    first_not_number,
    levels_of,
    ordered_keys,
    sample_numbers,
    sorted_keys,
)
from crowdselect.pool.looking import Looked, look_into, notes_of
from crowdselect.pool.source import NUMBER, Source
from crowdselect.pool.views import Directed, Tall
from crowdselect.terminal import counted
from crowdselect.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa

_NAMED = 3  # models from which on a note names none


class TallAnswers:
    """A row of the source per answer, or an element of a row's lists."""

    def __init__(
        self,
        source: Source,
        layout: Tall,
        index: Index,
        *,
        everything: str | None = None,
        row_number: str | None = None,
        reasoned: bool = True,
    ) -> None:
        """See `Pool`.

        Args:
            source: The rows.
            layout: Where the parts of an answer are.
            index: The instructions.
            everything: SQL of what a row holds besides, by which equal rows are known.
            row_number: SQL of the number of the user's row that a row was made of.
            reasoned: Whether answers are trained on with their reasoning, so that another makes another answer.
        """
        self._source = source
        self._layout = replace(layout, rewards=Directed(layout.rewards, nested=layout.nested))
        self._index = index
        self._everything = everything
        self._row_number = row_number
        self._reasoned = reasoned

        self.notes: list[str] = []
        """What was found while answers were put in order, one line each."""

    @property
    def _thinks(self) -> bool:
        """Whether some response holds reasoning."""
        return self._looked.thinks

    @cached_property
    def _looked(self) -> Looked:
        raw = self._layout.response
        if raw is None:
            return Looked(thinks=False, broken=False, failed=(), opened=False)
        (found,) = look_into(self._source, raw)
        nested = self._layout.nested

        def of_row(holds: Callable[[str], str]) -> str:
            return f"len(list_filter({raw}, lambda said: {holds('said')})) > 0" if nested else holds(raw)

        self.notes += notes_of(self._source, found, of_row)
        return found

    @cached_property
    def _raw(self) -> str | None:
        """SQL of the responses, repaired where that is needed, without a template's markers, and null where a call failed."""
        raw = self._layout.response
        if raw is not None and self._looked.opened:
            raw = self._each(unwrapped, raw)
        if raw is not None and self._looked.failed:
            raw = self._each(without_failed, raw)
        return raw if raw is None or not self._looked.broken else self._each(repaired, raw)

    def _each(self, sql: Callable[[str], str], text: str) -> str:
        """SQL of a function of a text, or of every text of a list."""
        return f"list_transform({text}, lambda said: {sql('said')})" if self._layout.nested else sql(text)

    @cached_property
    def _response(self) -> str | None:
        """SQL of the answers alone, without reasoning."""
        raw = self._raw
        return raw if raw is None or not self._thinks else self._each(answer_alone, raw)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The models, in code-point order."""
        return tuple(self._models_and_codes[0].to_pylist())

    def scores(self, reward: str) -> FloatArray:
        """Read a reward, shape (N, M), NaN = none; the mean where an answer was sampled several times."""
        return self.cells(self.rewards(reward), reward).means()

    def cells(self, rewards: FloatArray, name: str) -> CellRewards:
        """Put rewards of every answer, shape (A,), into the cells of the matrix."""
        keys, path = self.keys, self._source.path
        return cell_rewards(rewards, keys, index=self._index, names=self.models, path=path, reward=name)

    def answered(self) -> BoolArray:
        """Say where there is a non-empty response, shape (N, M); statistics that prove it save the reading."""
        keys, said = self.keys, self._said
        out = np.zeros((len(self._index.ids), len(self.models)), dtype=np.bool_, order="F")
        out[keys.row[said], keys.model[said]] = True
        return out

    def empty(self, rewarded: BoolArray) -> IntArray:
        """Count the answers with a reward but without text, nor anything else, shape (N, M); see `Pool.empty`."""
        keys, shape = self.keys, (len(self._index.ids), len(self.models))
        if not self.sampled:
            return np.asarray(rewarded & ~self._filled(), dtype=np.int64)
        own = rewarded & ~self._something & (keys.row >= 0)
        cells = keys.row[own] * shape[1] + keys.model[own]
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

    def with_text(self, rows: IntArray, models: IntArray, samples: FloatArray | None) -> BoolArray:
        """Say which (instruction, model), or with samples (instruction, model, sample), have text or anything else; none is unknown."""
        if samples is None or not self.sampled:
            return self._filled()[rows, models]
        return self._something[self.places(rows, models, samples)]

    def _filled(self) -> BoolArray:
        """Where some answer holds something, shape (N, M)."""
        out = np.zeros((len(self._index.ids), len(self.models)), dtype=np.bool_)
        out[self.keys.row[self._something], self.keys.model[self._something]] = True
        return out

    @cached_property
    def _something(self) -> BoolArray:
        """Which answers take part and have text, or are something other than text, shape (A,)."""
        odd = self._layout.not_text
        if odd is None:
            return self._said
        other = to_numpy(self._flat(f"coalesce({odd}, false)")).astype(np.bool_)
        return self._said | (other & (self.keys.row >= 0))

    def rewards(self, reward: str) -> FloatArray:
        """Read a reward of every answer, shape (A,), NaN = none."""
        return to_numpy(self._flat(self._layout.rewards[reward]))

    def candidates(
        self,
        rewards: FloatArray,
        *,
        may: BoolArray,
        seed: int,
        history: str | None,
        told_apart: Callable[[IntArray, IntArray], IntArray],
        texts: Texts | None,
    ) -> Candidates:
        """Give the answers with text that may be taken, shape (A,) each of `rewards` and `may`.

        `history` is SQL of what prompts are told apart by, where they are; `texts` says how texts are told apart.
        """
        keys = self.keys
        said = may & (self._said if self._layout.response is not None else keys.row >= 0)
        taken = said[keys.order]
        answers = keys.order[taken]
        draw = draws(keys, ids=to_numpy(self._index.ids), models=self.models, seed=seed)[taken]
        row = keys.row[answers]
        prompts = None if history is None else told_apart(self._codes(history)[answers], row)
        codes = None
        if texts is not None and self._response is not None:
            codes = (self._folded if texts == "folded" else self._spaced)[answers]
        return Candidates(
            len(self._index.ids),
            row,
            keys.model[answers],
            keys.sample[answers],
            rewards[answers],
            draw,
            prompts,
            codes,
        )

    def lengths_of(self, rows: IntArray, models: IntArray, samples: FloatArray) -> FloatArray:
        """Measure some samples in characters, one each; NaN = there is no such sample, or no text."""
        at = self.places(rows, models, samples)
        return np.where(at >= 0, self._characters[at], np.nan)

    def places_of(self, rows: IntArray) -> IntArray:
        """Find all answers of some instructions: by instruction as given, then model, then sample."""
        keys, width = self.keys, len(self.models)
        ends = np.append(keys.starts, len(keys.order))
        begin, end = (ends[np.searchsorted(keys.cells, at * width)] for at in (rows, rows + 1))
        return np.concatenate([keys.order[:0], *(keys.order[a:b] for a, b in zip(begin, end, strict=True))])

    def places(self, rows: IntArray, models: IntArray, samples: FloatArray) -> IntArray:
        """Find answers by instruction, model and sample; -1 = there is no such answer."""
        levels, mine = self._numbered
        if not len(mine):
            return np.full(len(rows), -1, dtype=np.int64)
        level = np.minimum(np.searchsorted(levels, samples), len(levels) - 1)
        wanted = (rows * len(self.models) + models) * len(levels) + level
        at = np.minimum(np.searchsorted(mine, wanted), len(mine) - 1)
        return np.where((mine[at] == wanted) & (levels[level] == samples), self.keys.order[at], -1)

    @cached_property
    def _numbered(self) -> tuple[FloatArray, IntArray]:
        """The numbers that samples have; and cell and number of each answer that takes part as one, ascending."""
        own = self.keys.sample[self.keys.order]
        levels, codes = levels_of(own)
        return levels, self.keys.cell * len(levels) + codes

    def _named(self, cells: Cells, samples: Numbers | None) -> tuple[list[int], IntArray]:
        """The cells whose sample is named, and the answer of each."""
        if samples is None or not self.sampled:
            return [], np.empty(0, dtype=np.int64)
        named = [place for place, sample in enumerate(samples) if sample is not None]
        rows, models = np.array([cells[place] for place in named], dtype=np.int64).reshape(-1, 2).T
        numbers = np.array([samples[place] for place in named], dtype=np.float64)
        return named, self.places(rows, models, numbers)

    @cached_property
    def _said(self) -> BoolArray:
        """Which answers take part and have text, shape (A,)."""
        keys, response, nested = self.keys, self._response, self._layout.nested
        if response is None:
            return np.zeros(len(keys.row), dtype=np.bool_)
        said = keys.row >= 0
        changed = self._thinks or self._looked.failed or self._looked.opened
        if nested or changed or not self._source.never_blank(("response",)):
            sql = (
                f"list_transform({response}, lambda said: NOT {blank('said')})"
                if nested
                else f"NOT {blank(response)}"
            )
            said &= to_numpy(self._flat(sql)).astype(np.bool_)
        return said

    def responses(
        self, cells: Cells, samples: Numbers | None = None, *, whole: bool = False
    ) -> list[str | None]:
        """Read the responses of some cells: of the sample that is named, else the first non-empty one; `whole` with the reasoning before them."""
        keys = self.keys
        out: list[str | None] = [None] * len(cells)
        if self._response is None or not cells:
            return out
        named, answers = self._named(cells, samples)
        wanted = np.array([i * len(self.models) + j for i, j in cells], dtype=np.int64)
        begins, ends = (np.searchsorted(keys.cell, wanted, side=side) for side in ("left", "right"))
        spans = [keys.order[begin:end] for begin, end in zip(begins, ends, strict=True)]
        for place, answer in zip(named, answers, strict=True):
            spans[place] = answer[None][answer[None] >= 0]
        flat = np.concatenate(spans)
        texts = self._take(self._response, flat)
        wholes = self._take(self._whole, flat) if whole and self._whole is not None else texts
        owners = np.repeat(np.arange(len(cells)), list(map(len, spans))).tolist()
        for place, text, all_of_it in zip(owners, texts, wholes, strict=True):
            if out[place] is None and said_text(text) is not None:
                out[place] = all_of_it
        return out

    @cached_property
    def _whole(self) -> str | None:
        """SQL of answers with the reasoning before them."""
        raw, beside = self._raw, self._layout.reasoning
        return raw if raw is None or beside is None else with_reasoning(raw, beside)

    def beside(self, sql: str, cells: Cells, samples: Numbers | None = None) -> list[str | None]:
        """Read a text of the rows that `responses` reads for some cells; None where a cell has no row."""
        named, own = self._named(cells, samples)
        answers = np.full(len(cells), -1, dtype=np.int64)
        if len(named) < len(cells):
            known, standing = self._standing
            wanted = np.array([i * len(self.models) + j for i, j in cells], dtype=np.int64)
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            answers = np.where(known[at] == wanted, standing[at], -1)
        answers[named] = own
        there = np.flatnonzero(answers >= 0)
        out: list[str | None] = [None] * len(cells)
        for place, text in zip(there, self._take(sql, answers[there]), strict=True):
            out[place] = text
        return out

    def codes(self, sql: str) -> IntArray:
        """Number the distinct texts of the rows that `responses` reads, shape (N, M); -1 = no row."""
        cell, answers = self._standing
        out = np.full((len(self._index.ids), len(self.models)), -1, dtype=np.int64)
        out[cell // len(self.models), cell % len(self.models)] = self._codes(sql)[answers]
        return out

    def text_codes(self, texts: Texts) -> IntArray:
        """Tell apart the texts of the answers that `responses` reads, shape (N, M); see `Pool.text_codes`."""
        cell, answers = self._standing
        out = np.full((len(self._index.ids), len(self.models)), -1, dtype=np.int64)
        codes = self._folded if texts == "folded" else self._spaced
        out[cell // len(self.models), cell % len(self.models)] = codes[answers]
        return out

    @cached_property
    def _folded(self) -> IntArray:
        """A number of each answer's text, but for case and white space, shape (A,)."""
        return to_numpy(self._flat(self._each(folded, self._response or "NULL::VARCHAR"))).astype(np.int64)

    @cached_property
    def _spaced(self) -> IntArray:
        """The same, but for white space alone, and of what is trained on."""
        spaced, trained = partial(folded, case=True), self._whole if self._reasoned else self._response
        return to_numpy(self._flat(self._each(spaced, trained or "NULL::VARCHAR"))).astype(np.int64)

    def _codes(self, sql: str) -> IntArray:
        """Number the distinct texts of the answers' rows, shape (A,)."""
        return np.unique(to_numpy(self._flat(f"hash({sql})")), return_inverse=True)[1]

    @cached_property
    def _standing(self) -> tuple[IntArray, IntArray]:
        """The cells that have answers, ascending, and the answer that stands for each: see `responses`."""
        keys = self.keys
        by_text = np.lexsort((~self._said[keys.order], keys.cell))  # stable: samples stay in their order
        return keys.cells, keys.order[by_text[keys.starts]]

    def targets(self, *, allow_cut: bool, counted: IntArray) -> Targets:
        """Say which answers may be trained on: those with text that came to their end, as far as the pool says so."""
        if self._endings is None:
            return Targets(self.answered())
        keys, said = self.keys, self._said
        whole = said & self.finished(allow_cut=allow_cut)
        usable, left = (np.zeros((len(self._index.ids), len(self.models)), dtype=np.bool_) for _ in range(2))
        usable[keys.row[whole], keys.model[whole]] = True
        left[keys.row[said], keys.model[said]] = True
        ours = said & np.isin(keys.model, counted)
        counts = np.bincount(self._endings[ours], minlength=len(ENDINGS))
        endings = {
            str(kind): int(count) for kind, count in zip(ENDINGS[1:], counts[1:], strict=True) if count
        }
        return Targets(usable, left & ~usable, endings)

    def endings_of_models(self) -> list[dict[str, int]]:
        """Count, per model, how its answers with text ended; nothing where the pool does not say."""
        if self._endings is None:
            return [{} for _ in self.models]
        counts = np.zeros((len(self.models), len(ENDINGS)), dtype=np.int64)
        np.add.at(counts, (self.keys.model[self._said], self._endings[self._said]), 1)
        return [
            {kind: int(count) for kind, count in zip(ENDINGS, row, strict=True) if count} for row in counts
        ]

    def finished(self, *, allow_cut: bool) -> BoolArray:
        """Say of each answer whether it may be trained on by how it ended, shape (A,)."""
        if self._endings is None:
            return np.ones(len(self.keys.row), dtype=np.bool_)
        taken = ("finished", "odd", *(("cut",) if allow_cut else ()))
        return np.isin(self._endings, [ENDINGS.index(kind) for kind in taken])

    @cached_property
    def _endings(self) -> IntArray | None:
        """How each answer ended, as its place in `ENDINGS`, shape (A,); None where the pool does not say."""
        sql, raw = self._layout.ending, self._raw
        if sql is None and raw is not None and self._thinks:
            sql = self._each(lambda said: ending_sql("NULL", said), raw)
        return None if sql is None else to_numpy(self._flat(sql)).astype(np.int64)

    def lengths(self) -> FloatArray:
        """Measure the responses in characters, shape (N, M), NaN = none; the mean over samples."""
        keys, path = self.keys, self._source.path
        return cell_means(
            self._characters, keys, index=self._index, names=self.models, path=path, reward="length"
        )

    @cached_property
    def _characters(self) -> FloatArray:
        """How long each answer is, shape (A,), NaN = no text."""
        return to_numpy(self._flat(self._each(length, self._response or "NULL::VARCHAR")))

    def stream(self, size: int, beside: str | None = None, *, endings: bool = False) -> Iterator[AnswerBatch]:
        """Read all responses, about `size` at a time; where a row is an answer, another text of each with it; and how each ended."""
        keys, response = self.keys, self._response or "NULL::VARCHAR"
        ended = self._endings if endings else None
        more = [] if beside is None else [beside]
        codes = self._models_and_codes[1]
        answers_per_row = max(1, len(self._rows) // max(len(self._lengths), 1))
        source_row = answer = 0
        for batch in self._source.batches(response, *more, rows=max(1, size // answers_per_row)):
            lengths = self._lengths[source_row : source_row + len(batch)]
            source_row += len(batch)
            texts = self._texts_of(batch.column(0), lengths, source_row - len(batch))
            here = slice(answer, answer + len(texts))
            answer += len(texts)
            inside = np.flatnonzero(keys.row[here] >= 0)
            others = batch.column(1).take(inside).to_pylist() if more else None
            yield AnswerBatch(
                rows=keys.row[here][inside],
                models=codes[here][inside],
                samples=keys.sample[here][inside],
                texts=[said_text(texts[at]) for at in inside],
                beside=others,
                endings=None if ended is None else ended[here][inside],
            )

    def _texts_of(self, column: "pa.Array", lengths: IntArray, first: int) -> list[str | None]:
        """Give the texts of some rows, their lists one after the other."""
        if not self._layout.nested:
            return list(column.to_pylist())
        lists = [texts or [] for texts in column.to_pylist()]
        for at, (texts, wanted) in enumerate(zip(lists, lengths, strict=True)):
            if len(texts) != wanted:
                place = self._source.place(first + at)
                raise InputError(f"{place}: a list has {len(texts)} elements; wanted {wanted}, one per model")
        return [text for texts in lists for text in texts]

    def holds(self, rows: IntArray, models: IntArray, samples: FloatArray | None) -> BoolArray:
        """Say which (instruction, model), or with samples (instruction, model, sample), the pool has."""
        if samples is None or not self.sampled:
            return np.isin(rows * len(self.models) + models, self.keys.cells)
        return self.places(rows, models, samples) >= 0

    def not_a_number(self, field: str) -> tuple[str, str] | None:
        """Find the first value of a field that is not a number: its id, and itself."""
        sql = self._layout.fields[field]
        if self._layout.nested:
            bad = f"NOT regexp_full_match(value, {NUMBER})"
            sql = f"list_filter({sql}, lambda value: {bad})[1]"
        return first_not_number(self._source, self._index, sql)

    @cached_property
    def _models_and_codes(self) -> tuple["pa.Array", IntArray]:
        """The models' names, and which of them gave each answer; -1 where a row is no answer."""
        sql = self._layout.model
        names, codes = (
            codes_of(self._flat(sql)) if self._layout.nested else coded(self._source, sql, kind=np.int32)
        )
        missing = None if self._layout.may_lack_model else first_missing(codes)
        if missing is not None:
            place = self._source.place(int(self._rows[missing]))
            raise InputError(f"{place}: the model is missing; wanted its name; fill it in or drop the answer")
        return names, codes

    @property
    def sampled(self) -> bool:
        """Samples are numbered, by the pool or here, so a model may have several."""
        return self._layout.sample is not None or self._numbered_here

    @property
    def _numbered_here(self) -> bool:
        return bool(self._keys_and_numbered[1])

    @property
    def keys(self) -> AnswerKeys:
        """Which cell each answer belongs to."""
        return self._keys_and_numbered[0]

    @cached_property
    def _keys_and_numbered(self) -> tuple[AnswerKeys, bool]:
        """Put the answers in order; what stands several times without a number is numbered, or dropped where a row is the same."""
        codes, width = self._models_and_codes[1], len(self.models)
        rows = self._index.row_of if len(codes) == len(self._index.row_of) else self._index.row_of[self._rows]
        if codes.min(initial=0) < 0:
            rows = np.where(codes < 0, -1, rows)
        sample = self._layout.sample
        samples = np.full(len(rows), np.nan) if sample is None else sample_numbers(self._source, sample)
        missing = np.isnan(samples)
        if missing.any():
            samples = np.where(missing, 0.0, samples)
        keys, again = ordered_keys(rows, codes, samples, width=width)
        if not again.size:
            return keys, False
        if self._layout.side_by_side > 1:
            rows = self._without_repeats(rows, codes, np.sort(again))
            keys, again = ordered_keys(rows, codes, samples, width=width)
            if not again.size:
                return keys, False
        unnumbered = np.sort(again[missing[again]]) if not self._layout.whole else again[:0]
        if unnumbered.size:
            samples = self._with_numbers(samples, rows, codes, unnumbered)
            again = ordered_keys(rows, codes, samples, width=width)[1]
        if again.size:
            rows = self._without_twins(rows, codes, samples, np.sort(again))
        keys = sorted_keys(
            rows,
            codes,
            samples,
            index=self._index,
            names=self.models,
            path=self._source.path,
            places=self._places,
        )
        return keys, bool(unnumbered.size)

    def _places(self, answers: IntArray) -> list[tuple[Path, str]]:
        """The file of each of some answers, and its place."""
        return [(self._source.file_of(row), self._source.place(row)) for row in self._rows[answers].tolist()]

    def _with_numbers(
        self, samples: FloatArray, rows: IntArray, codes: IntArray, again: IntArray
    ) -> FloatArray:
        """Number the answers of a model to an instruction: by their content, in lists by their place."""
        out = samples.copy()
        if self._layout.nested:
            order = again
        else:
            content = np.array(self._contents(self._rows[again], whole=False), dtype=object)
            order = again[np.argsort(content, kind="stable")]
        counts: dict[tuple[int, int], int] = {}
        for answer in order.tolist():
            cell = (int(rows[answer]), int(codes[answer]))
            out[answer] = counts.get(cell, 0)
            counts[cell] = counts.get(cell, 0) + 1
        how = "their place" if self._layout.nested else "their content"
        copies = 0 if self._layout.nested else self._copies(rows, codes, again)
        if copies == len(again) - len(counts):
            self.notes.append(
                f"{counted(len(again) - len(counts), 'row')} equal to another in all columns and without a sample number: taken "
                "for samples that agree; if they are copies, drop them"
            )
            return out
        found = sorted({int(code) for code in codes[again]})
        by = (
            f" ({', '.join(str(self.models[code]) for code in found)})"
            if len(found) < min(_NAMED, len(self.models))
            else ""
        )
        equal = f"; {copies} of them repeat another in all columns" if copies else ""
        self.notes.append(
            f"{len(again)} answers share instruction and model{by} and have no sample number: they are samples, numbered by {how}{equal}"
        )
        return out

    def _without_repeats(self, rows: IntArray, codes: IntArray, again: IntArray) -> IntArray:
        """Let an answer that stands beside several others take part once, unless its rewards differ."""
        layout, out = self._layout, rows.copy()
        rewards = [f"coalesce(CAST({sql} AS VARCHAR), '')" for _, sql in sorted(layout.rewards.items())]
        text = f"md5(coalesce({layout.response or 'NULL'}, ''))"
        both = f"{text} || md5(concat_ws({', '.join(['chr(31)', text, *rewards])}))"
        known: dict[tuple[int, int, str], dict[int, str]] = {}
        for answer, content in zip(again.tolist(), self._take(both, again), strict=True):
            cell = (int(rows[answer]), int(codes[answer]))
            known.setdefault((*cell, str(content)[:32]), {})[answer] = str(content)
        alike = [list(found) for found in known.values() if len(set(found.values())) == 1]
        gone = [answer for _, *others in alike for answer in others]
        out[gone] = -1
        if gone:
            self.notes.append(f"counted once: {counted(len(gone), 'answer')} that other rows hold, too")
        return out

    def _copies(self, rows: IntArray, codes: IntArray, again: IntArray) -> int:
        """How many of the answers that a model gave to an instruction several times are equal to one before in all columns."""
        content = self._contents(self._rows[again], whole=True)
        return len(again) - len(set(zip(rows[again].tolist(), codes[again].tolist(), content, strict=True)))

    def _without_twins(
        self, rows: IntArray, codes: IntArray, samples: FloatArray, again: IntArray
    ) -> IntArray:
        """Let a row that is equal to another in everything take no part."""
        out = rows.copy()
        known: set[tuple[int, int, float, str]] = set()
        gone = []
        for answer, content in zip(
            again.tolist(), self._contents(self._rows[again], whole=True), strict=True
        ):
            key = (int(rows[answer]), int(codes[answer]), float(samples[answer]), content)
            if key in known:
                out[answer] = -1
                gone.append(self._rows[answer])
            known.add(key)
        if gone:
            count = len(gone)
            if self._row_number is not None:
                count = len(set(self._source.take(self._row_number, np.array(gone)).to_pylist()))
            self.notes.append(f"counted once: {counted(count, 'row')} equal to another in all columns")
        return out

    def _contents(self, rows: IntArray, *, whole: bool) -> list[str]:
        """A digest of what some rows of the source hold, the same whatever their file type: text and rewards first."""
        layout = self._layout
        rewards = [f"coalesce(CAST({sql} AS VARCHAR), '')" for _, sql in sorted(layout.rewards.items())]
        first = [f"coalesce({layout.response or 'NULL'}, '')", *rewards]
        others = [f"coalesce({sql}, '')" for _, sql in sorted(layout.fields.items())]
        if whole and self._everything is not None:
            others = [*others, self._everything]
        head, tail = (f"md5(concat_ws(chr(31), {', '.join(parts)}))" for parts in (first, others or ["''"]))
        return [str(text) for text in self._source.take(f"{head} || {tail}", rows).to_pylist()]

    @cached_property
    def _lengths(self) -> IntArray:
        """Answers per source row."""
        if not self._layout.nested:
            return np.ones(len(self._index.row_of), dtype=np.int64)
        column = self._source.fetch(f"coalesce(len({self._layout.model}), 0)").column(0)
        return to_numpy(column).astype(np.int64)

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
        lengths = to_numpy(pc.fill_null(pc.list_value_length(column), 0))
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
