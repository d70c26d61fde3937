"""The answers that may be taken, each sample for itself: which is trained on, which rejected, which taken beside it.

Where models have several samples, no model stands for its samples: the best answer is the best sample of all. Every
tie and draw is a seeded hash of (id, model, sample), so other rows, other samples and their order change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.numeric.exact import rounded
from crowdselect.seeding import UInt64Array, mixed_hash
from crowdselect.types import BoolArray, FloatArray, IntArray

_NONE = -1
_NOISE = 1e-9  # relative: what rounding may add to a mean or a share


@dataclass(frozen=True, slots=True)
class Candidates:
    """Answers that may be taken, by (instruction, model, sample); entry a of every array is answer a."""

    n: int
    """N, how many instructions there are."""
    row: IntArray
    """Shape (A,): instruction, ascending."""
    model: IntArray
    """Shape (A,)."""
    number: FloatArray | None
    """Of the sample, shape (A,); None where each model has one answer."""
    reward: FloatArray
    """The answer's own, shape (A,). NaN = none."""
    draw: UInt64Array
    """Orders equal rewards, shape (A,)."""
    prompt: IntArray | None = None
    """Shape (A,): answers of one instruction with the same number are to the same messages; None = all are."""
    text: IntArray | None = None
    """Shape (A,): answers with the same number have the same text; None = texts are not told apart."""

    @classmethod
    def of_matrix(
        cls,
        scores: FloatArray,
        usable: BoolArray,
        *,
        rows: UInt64Array,
        columns: UInt64Array,
        prompts: IntArray | None,
        texts: IntArray | None,
    ) -> "Candidates":
        """Make them of a pool without samples.

        Args:
            scores: Rewards, shape (N, M). NaN = no reward.
            usable: Which answers may be taken, shape (N, M).
            rows: Seeded hash of each id, shape (N,).
            columns: Seeded hash of each model, shape (M,).
            prompts: Shape (N, M), or None, as `prompt`.
            texts: Likewise, as `text`.
        """
        row, model = np.nonzero(usable)
        return cls(
            len(scores),
            row,
            model,
            None,
            scores[row, model],
            mixed_hash(rows, columns)[row, model],
            None if prompts is None else prompts[row, model],
            None if texts is None else texts[row, model],
        )

    def taken(self, answer: str, *, models: Sequence[str], but: int | None = None) -> IntArray:
        """Choose one answer per instruction.

        Args:
            answer: "best" takes the highest reward; "random" any answer, each sample as likely; "topN-random" one of the N
                highest rewards; "model:NAME" that model's highest reward, or any where it has none. Equal rewards are
                ordered by `draw`.
            models: The models' names.
            but: Take no answer of this model; for "best" alone.

        Returns:
            Shape (N,), an answer; -1 where there is none to take.

        Example:
            >>> two = Candidates(1, np.array([0, 0]), np.array([0, 0]), np.array([0.0, 1.0]), np.array([1.0, 2.0]),
            ...                  np.array([5, 4], dtype=np.uint64))
            >>> two.taken("best", models=["m"]).tolist()
            [1]
        """
        rewarded = ~np.isnan(self.reward)
        if answer == "random":
            return self._first(np.ones(len(self.row), dtype=np.bool_), np.zeros(len(self.row)))
        if answer.startswith("model:"):
            own = self.model == list(models).index(answer.removeprefix("model:"))
            return self._first(own, self._worth)
        if answer != "best":
            top = int(answer.removeprefix("top").removesuffix("-random"))
            order = self._best_first(rewarded)
            among = np.zeros(len(self.row), dtype=np.bool_)
            among[order[_places(self.row[order]) < top]] = True
            # Mixed once more: the order among equal rewards must not be the draw itself.
            again = mixed_hash(self.draw, np.zeros(1, dtype=np.uint64))[:, 0]
            return self._first(among, np.zeros(len(self.row)), draw=again)
        return self._first(rewarded & (self.model != but), self.reward)

    def best_reward(self, *, but: int | None = None) -> FloatArray:
        """The highest reward of each instruction, but for those of a model, shape (N,). NaN = none."""
        at = np.flatnonzero(~np.isnan(self.reward) & (self.model != but))
        starts = np.flatnonzero(_begins(self.row[at]))
        out = np.full(self.n, np.nan)
        if at.size:
            out[self.row[at[starts]]] = np.maximum.reduceat(self.reward[at], starts) + 0.0  # no minus zero
        return out

    def rejected(self, chosen: IntArray, *, of: int | None = None) -> IntArray:
        """Choose the answer to reject: the lowest reward, below the chosen one's, of another text, to the same messages.

        Args:
            chosen: Shape (N,), from `taken`.
            of: Only an answer of this model; None = of any.

        Returns:
            Shape (N,), an answer; -1 where there is none.
        """
        own = chosen[self.row]
        may = (own != _NONE) & (self.reward < self.reward[own]) & (True if of is None else self.model == of)
        if self.prompt is not None:
            may &= self.prompt == self.prompt[own]
        if self.text is not None:
            may &= self.text != self.text[own]
        return self.lowest(may)

    def lowest(self, may: BoolArray) -> IntArray:
        """Choose of each instruction the lowest-rewarded of some answers, shape (N,); -1 = there is none.

        Args:
            may: Which, shape (A,).
        """
        return self._first(may, -self._worth)

    def widest_pairs(self, *, model: int | None = None) -> tuple[IntArray, IntArray]:
        """Choose of each instruction the two samples of one model that are furthest apart in reward.

        Args:
            model: Only this model's; None = of whichever model they are furthest apart in.

        Returns:
            The better and the worse, shape (N,) each, of different texts and to the same messages; -1 where all samples of
            every model have the same reward or text. Of models with the same distance `draw` of the better decides.
        """
        may = ~np.isnan(self.reward) & (True if model is None else self.model == model)
        prompt = np.zeros(len(self.row), dtype=np.int64) if self.prompt is None else self.prompt
        order = np.flatnonzero(may)
        order = order[np.lexsort((prompt[order], self.model[order], self.row[order]))]
        keys = np.stack([each[order] for each in (self.row, self.model, prompt)])
        new = np.ones(len(order), dtype=np.bool_)
        new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
        groups = np.cumsum(new) - 1
        cells = Candidates(
            int(new.sum()),
            groups,
            self.model[order],
            None,
            self.reward[order],
            self.draw[order],
            None,
            np.arange(len(order)) if self.text is None else self.text[order],
        )
        better, worse, margin = cells._furthest()
        rows = self.row[order[new]]
        pairs = Candidates(self.n, rows, rows, None, margin, cells.draw[better])
        won = pairs._first(margin > 0, margin)
        found = won != _NONE
        out = np.full((2, self.n), _NONE, dtype=np.int64)
        out[0, found], out[1, found] = order[better[won[found]]], order[worse[won[found]]]
        return out[0], out[1]

    def several(self, most: int, *, model: int | None = None) -> IntArray:
        """Order each instruction's answers, best first, each text once.

        Args:
            most: K, how many at most.
            model: Only this model's; one without a reward is then the last. None = of all models that have one.

        Returns:
            Answers by instruction, the best first; the first of each is the one that `taken` chooses.
        """
        may = ~np.isnan(self.reward) if model is None else self.model == model
        order = self._each_text_once(self._best_first(may))
        return np.asarray(order[_places(self.row[order]) < most])

    def good_enough(self, share: float) -> IntArray:
        """Order each instruction's good answers, best first, each text once.

        An answer is good enough if it is among the best `share` of the instruction's answers that have a reward (fewer than
        `share` times their number are better; equal ones stand or fall together), and its reward at least their mean.

        Args:
            share: Above 0, at most 1.

        Returns:
            Answers by instruction, the best first; the first of each is the one that "best" takes, which is always among them.

        Example:
            >>> four = Candidates(1, np.zeros(4, int), np.arange(4), None, np.array([0.1, 0.9, 0.8, 0.2]), np.arange(4, dtype=np.uint64))
            >>> four.good_enough(1 / 3).tolist(), four.good_enough(0.25).tolist()
            ([1, 2], [1])
        """
        order = self._best_first(~np.isnan(self.reward))
        if not order.size:
            return order
        row, reward = self.row[order], self.reward[order]
        starts = np.flatnonzero(_begins(row))
        counts = np.diff(starts, append=len(row))
        worse = _begins(row)
        worse[1:] |= reward[1:] != reward[:-1]
        better = _places(row)[np.maximum.accumulate(np.where(worse, np.arange(len(row)), 0))]
        mean = np.add.reduceat(reward, starts) / counts
        noise = _NOISE * np.maximum.reduceat(np.abs(reward), starts)
        among = better < np.repeat(share * counts, counts) - _NOISE
        return self._each_text_once(order[among & (reward >= np.repeat(mean - noise, counts))])

    def rewards_of(self, answers: IntArray) -> FloatArray:
        """The rewards of some answers; NaN for -1."""
        return _of(self.reward, answers, np.nan)

    def models_of(self, answers: IntArray) -> IntArray:
        """The models of some answers; -1 for -1."""
        return _of(self.model, answers, _NONE)

    def numbers_of(self, answers: IntArray) -> FloatArray | None:
        """The numbers of some answers' samples, NaN for -1; None where each model has one answer."""
        return None if self.number is None else _of(self.number, answers, np.nan)

    def of_cells(self, kept: BoolArray) -> "Candidates":
        """Take the answers of some cells.

        Args:
            kept: Which, shape (N, M); a model beyond these columns keeps all of its answers.
        """
        beyond = self.model >= kept.shape[1]
        at = np.flatnonzero(beyond | kept[self.row, np.where(beyond, 0, self.model)])

        def taken(values: NDArray[Any] | None) -> Any:  # noqa: ANN401  (as it is given)
            return None if values is None else values[at]

        return Candidates(
            self.n,
            self.row[at],
            self.model[at],
            taken(self.number),
            self.reward[at],
            self.draw[at],
            taken(self.prompt),
            taken(self.text),
        )

    def rows_of(self, rows: IntArray) -> "Candidates":
        """Only those of some instructions (ascending), which are counted anew."""
        place = np.full(self.n, _NONE, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        at = place[self.row]
        return replace(self._part(at != _NONE), n=len(rows), row=at[at != _NONE])

    def columns_of(self, columns: Sequence[int]) -> "Candidates":
        """Only those of some models, each called by its first place in `columns`; one that is there twice counts once."""
        place = np.full(1 + max([*columns, int(self.model.max(initial=0))]), _NONE, dtype=np.int64)
        place[columns[::-1]] = np.arange(len(columns))[::-1]  # of two places the last that is written counts
        at = place[self.model]
        return replace(self._part(at != _NONE), model=at[at != _NONE])

    def among(self, own: Sequence[str], models: Sequence[str]) -> "Candidates":
        """Only those of some models, named `own` so far, in their places among `models`."""
        if tuple(own) == tuple(models):
            return self
        places = {name: place for place, name in enumerate(models)}
        place = np.array([places.get(name, _NONE) for name in own], dtype=np.int64)
        there = place[self.model] != _NONE
        return replace(self._part(there), model=place[self.model[there]])

    def _part(self, there: BoolArray) -> "Candidates":
        return Candidates(
            self.n,
            self.row[there],
            self.model[there],
            None if self.number is None else self.number[there],
            self.reward[there],
            self.draw[there],
            None if self.prompt is None else self.prompt[there],
            None if self.text is None else self.text[there],
        )

    def _each_text_once(self, order: IntArray) -> IntArray:
        """Leave out of some answers, by instruction, those whose text an earlier one has."""
        if self.text is None:
            return order
        place = np.empty(len(self.row), dtype=np.int64)
        place[order] = np.arange(len(order))
        alike = order[np.lexsort((place[order], self.text[order], self.row[order]))]
        first = _begins(self.row[alike])
        first[1:] |= self.text[alike][1:] != self.text[alike][:-1]
        return np.asarray(order[np.sort(place[alike[first]])])

    @property
    def _worth(self) -> FloatArray:
        """The reward, and less than any where there is none."""
        return np.where(np.isnan(self.reward), -np.inf, self.reward)

    def _best_first(self, may: BoolArray) -> IntArray:
        """Some of the answers by instruction, the highest reward first, equals by `draw`."""
        at = np.flatnonzero(may)
        return at[np.lexsort((self.draw[at], -self._worth[at], self.row[at]))]

    def _first(self, may: BoolArray, value: FloatArray, *, draw: UInt64Array | None = None) -> IntArray:
        """Of each instruction's answers that may be taken the one of the highest value, equals by `draw`; -1 = none."""
        draw = self.draw if draw is None else draw
        out = np.full(self.n, _NONE, dtype=np.int64)
        at = np.flatnonzero(may)
        if not at.size:
            return out
        at = at[value[at] == _spread(np.maximum, value[at], self.row[at])]
        at = at[draw[at] == _spread(np.minimum, draw[at], self.row[at])]
        at = at[_begins(self.row[at])]
        out[self.row[at]] = at
        return out

    def _furthest(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Of each group the two answers of different texts that are furthest apart in reward, and how far; 0 = there are none."""
        every = np.ones(len(self.row), dtype=np.bool_)
        text = np.arange(len(self.row)) if self.text is None else self.text
        best, worst = self._first(every, self.reward), self._first(every, -self.reward)
        below = self._first(text != text[best[self.row]], -self.reward)
        above = self._first(text != text[worst[self.row]], self.reward)
        low = np.where(text[best] != text[worst], worst, below)
        margin, other = (
            np.where(pair[1] != _NONE, rounded(self.rewards_of(pair[0]) - self.rewards_of(pair[1])), 0.0)
            for pair in ((best, low), (worst, above))
        )
        second = -other > margin
        return np.where(second, above, best), np.where(second, worst, low), np.where(second, -other, margin)


def _of(values: NDArray[Any], answers: IntArray, none: float) -> NDArray[Any]:
    """One value per answer, `none` for -1."""
    out = np.full(len(answers), none, dtype=values.dtype)
    there = answers != _NONE
    out[there] = values[answers[there]]
    return out


def _begins(rows: IntArray) -> BoolArray:
    """Where a new row begins among ascending ones."""
    new = np.ones(len(rows), dtype=np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=new[1:])
    return new


def _places(rows: IntArray) -> IntArray:
    """The place of each among those of its row, 0 = the first; rows ascend."""
    starts = np.flatnonzero(_begins(rows))
    return np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))


def _spread(reduce: np.ufunc, values: NDArray[Any], rows: IntArray) -> NDArray[Any]:
    """The highest or lowest value of each row, for every one of its entries; rows ascend."""
    starts = np.flatnonzero(_begins(rows))
    return np.repeat(reduce.reduceat(values, starts), np.diff(starts, append=len(rows)))
