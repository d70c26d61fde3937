"""The rewards of a pool or of one of its files, of one column or of several; and the samples that may be taken by them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crowdselect.numeric.candidates import Candidates
from crowdselect.numeric.ensembles import Agreement, combine_rewards, reward_agreement
from crowdselect.numeric.good import is_good, tallied
from crowdselect.numeric.responses import fits_of
from crowdselect.pool.batches import Texts
from crowdselect.pool.cells import CellRewards
from crowdselect.pool.pool import Pool
from crowdselect.seeding import seeded_hash
from crowdselect.selection.options import Options
from crowdselect.types import BoolArray, FloatArray, IntArray

Ends = Sequence[tuple[float, int]]
"""The lowest four and the highest four values of a reward, ascending, each once and with how often it occurs."""

_MARKERS = frozenset({-1.0, -9.0})  # what people write for "no reward"
_FAR_MARKERS = frozenset({99.0, 999.0, 9999.0})  # with either sign
_FAR = 9  # times as large as every reward: 99 beside 10
_VERDICTS = frozenset({-1.0, 0.0, 1.0})
_AT_AN_END = 4  # values: one more than there are verdicts


def ends_of(values: FloatArray) -> Ends:
    """Count the lowest and the highest values.

    Args:
        values: Rewards, of any shape. NaN = none.

    Example:
        >>> ends_of(np.array([3.0, -1.0, np.nan, -1.0]))
        ((-1.0, 2), (3.0, 1))
    """
    found = values[~np.isnan(values)]
    high = {-value: count for value, count in _lowest(-found)}
    return tuple(sorted((dict(_lowest(found)) | high).items()))


def _lowest(values: FloatArray) -> Iterator[tuple[float, int]]:
    for _ in range(_AT_AN_END):
        if not values.size:
            return
        lowest = values.min()
        above = values[values > lowest]
        yield float(lowest), values.size - above.size
        values = above


def ends_among(parts: Iterable[Ends]) -> Ends:
    """Count the lowest and the highest values of all of some parts of a pool.

    Example:
        >>> ends_among([((-1.0, 2), (3.0, 1)), ((3.0, 4),)])
        ((-1.0, 2), (3.0, 5))
    """
    counts: Counter[float] = Counter()
    for ends in parts:
        counts.update(dict(ends))
    every = sorted(counts.items())
    return tuple(every if len(every) <= 2 * _AT_AN_END else every[:_AT_AN_END] + every[-_AT_AN_END:])


def marker_lines(name: str, ends: Ends) -> list[str]:
    """Ask whether the lowest or the highest value of a reward means no reward.

    It may where it is a usual marker and repeated: -1, -9, -99, -999 or -9999 where no other value is below 0; and 99, 999 or 9999,
    with either sign, where it is at least nine times as large as two other values or more, all there are. Verdicts of -1, 0 and 1,
    or of two of them, have none.

    Example:
        >>> marker_lines("score", [(-1.0, 2), (1.0, 3), (2.0, 1)])
        ['score: the lowest value -1 occurs 2 times, and the next is 1: it may mean no reward; if so, pass `missing=-1`']
        >>> marker_lines("score", [(-1.0, 2), (0.0, 3), (1.0, 1)]), marker_lines("score", [(80.0, 1), (98.0, 3), (99.0, 2)])
        ([], [])
    """
    if len(ends) < 2 or {value for value, _ in ends} <= _VERDICTS:
        return []
    (lowest, count), (second, _) = ends[:2]
    usual = lowest in _MARKERS or -lowest in _FAR_MARKERS
    low = count > 1 and ((usual and second >= 0) or _is_far(lowest, ends[1:]))
    high = ends[-1][1] > 1 and _is_far(ends[-1][0], ends[:-1])
    return [marker_line(name, ends)] * low + [marker_line(name, ends[::-1])] * high


def _is_far(value: float, others: Ends) -> bool:
    reach = max(abs(others[0][0]), abs(others[-1][0]))
    return abs(value) in _FAR_MARKERS and len(others) > 1 and abs(value) >= _FAR * reach


def marker_line(name: str, ends: Ends) -> str:
    """Ask whether a value at an end of a reward means no reward.

    Args:
        name: The reward.
        ends: That value first, and the next to it.

    Example:
        >>> marker_line("score", [(999.0, 2), (10.0, 3)])
        'score: the highest value 999 occurs 2 times, and the next is 10: it may mean no reward; if so, pass `missing=999`'
    """
    (value, count), (following, _) = ends[:2]
    end = "lowest" if value < following else "highest"
    return (
        f"{name}: the {end} value {value:g} occurs {count} times, and the next is {following:g}: it may mean no "
        f"reward; if so, pass `missing={value:g}`"
    )


def empty_answers(pool: Pool, names: Sequence[str]) -> IntArray:
    """Count, in each cell of a pool or of one shard, the answers that have one of some rewards but no text; see `Pool.empty`.

    Args:
        pool: One with responses.
        names: From `Pool.reward_name`, one at least.
    """
    samples = pool.samples
    read = pool.scores_of_part if samples is None else samples.rewards
    return pool.empty(np.any([~np.isnan(read(name)) for name in names], axis=0))


def empty_line(count: int) -> str:
    """Say that answers without a text have rewards, and how those are left out.

    Example:
        >>> empty_line(1)
        "1 answer has a reward but no text: it is not trained on, but its reward counts, as in difficulty; if it stands for a call that failed, leave it out with `missing='empty'`"
    """
    one = count == 1
    said = "1 answer has a reward" if one else f"{count:,} answers have a reward"
    rest = (
        "it is not trained on, but its reward counts"
        if one
        else "they are not trained on, but their rewards count"
    )
    doubt = (
        "it stands for a call that failed, leave it out"
        if one
        else "they stand for calls that failed, leave them out"
    )
    return f"{said} but no text: {rest}, as in difficulty; if {doubt} with `missing='empty'`"


def texts_told(options: Options) -> Texts | None:
    """How the texts of answers have to be told apart."""
    if options.pairs is not None:
        return "folded"
    return "spaced" if options.answers_per_row > 1 or fits_of(options.answer) is not None else None


def candidates_of(pool: Pool, reward: str | Sequence[str] | None, options: Options) -> Candidates | None:
    """Give the samples that may be taken.

    Args:
        pool: From `crowdselect.open_pool`.
        reward: A reward column, or several; None in a pool without rewards, or with several and none named.
        options: `ensemble` (here of the samples' own rewards), `seed` (of ties and draws), `allow_cut`, `pairs` (which must
            be of answers to the same messages) and `answers_per_row` count here.

    Returns:
        The samples; None where the pool has none.
    """
    answers = pool.samples
    if answers is None:
        return None
    names = (reward,) if isinstance(reward, str) else tuple(reward or ())
    return answers.candidates(
        _sample_rewards(pool, names, options.ensemble) if names else None,
        seed=options.seed,
        allow_cut=options.allow_cut,
        prompts=options.pairs is not None,
        texts=texts_told(options),
    )


def candidates_among(
    pool: Pool, models: Sequence[str], reward: str | Sequence[str] | None, options: Options
) -> Candidates:
    """Give the answers of some models that may be taken, whether the pool has samples or not.

    Args:
        pool: From `crowdselect.open_pool`.
        models: In the order in which the candidates are to count them.
        reward: As for `candidates_of`.
        options: Likewise.
    """
    found = candidates_of(pool, reward, options)
    if found is None:
        scores, told = rewards_in(pool, reward, options.ensemble).scores, texts_told(options)
        answered = pool.has_responses
        found = Candidates.of_matrix(
            scores,
            pool.targets(allow_cut=options.allow_cut).usable if answered else ~np.isnan(scores),
            rows=seeded_hash(pool.id_array, seed=options.seed, salt="answer"),
            columns=seeded_hash(pool.models, seed=options.seed, salt="model"),
            prompts=pool.prompt_codes() if options.pairs is not None else None,
            texts=pool.text_codes(told) if told is not None and answered else None,
        )
    return found.among(pool.models, models)


def _sample_rewards(pool: Pool, names: Sequence[str], ensemble: str | None) -> FloatArray | None:
    """The reward of every sample, as `Samples.rewards` orders them; of one column, or of an ensemble."""
    answers = pool.samples
    if answers is None:
        return None
    values = {name: answers.rewards(pool.reward_name(name)) for name in names}
    if len(values) == 1:
        return next(iter(values.values()))
    columns = {name: own[:, None] for name, own in values.items()}
    return combine_rewards(columns, how=ensemble or "")[:, 0]


@dataclass(frozen=True, slots=True)
class RewardsIn:
    """The rewards of a pool, or of one shard with its own models."""

    scores: FloatArray
    """Shape (N, M). NaN = no reward; the mean over samples."""
    cells: CellRewards | None
    """Those of every sample; None where each model has one answer."""
    agreement: Agreement | None = None
    """How far the rewards of an ensemble agree."""

    @property
    def marks(self) -> tuple[float, float] | None:
        """The lowest and the highest reward of any answer; None where there is none."""
        values = self.scores[~np.isnan(self.scores)] if self.cells is None else self.cells.values
        return (float(values.min()), float(values.max())) if values.size else None

    @property
    def ends(self) -> Ends:
        """The lowest and the highest rewards of any answer."""
        return ends_of(self.scores if self.cells is None else self.cells.values)

    def passes(self) -> FloatArray:
        """The share of each model's answers whose reward is 1, shape (N, M). NaN = no reward."""
        if self.cells is not None:
            return self.cells.share(self.cells.values == 1)
        return np.where(np.isnan(self.scores), np.nan, self.scores == 1)

    def of_model(self, model: int) -> "RewardsIn":
        """Those of one model alone."""
        return RewardsIn(self.scores[:, [model]], None if self.cells is None else self.cells.of_model(model))

    def good(self, cut: float) -> FloatArray:
        """The share of each model's answers whose reward is above a cut, shape (N, M). NaN = no reward."""
        if self.cells is not None:
            return self.cells.share(self.cells.values > cut)
        return is_good(self.scores, cut)

    def tally(self, rows: BoolArray, models: BoolArray) -> tuple[FloatArray, IntArray]:
        """The rewards of all answers, each with how often it occurs.

        Args:
            rows: Which rows count, shape (N,).
            models: Which models count, shape (M,).
        """
        if self.cells is None:
            scores = self.scores[np.ix_(rows, models)]
            return tallied(scores[~np.isnan(scores)])
        row, model = np.divmod(self.cells.cells, self.cells.shape[1])
        return tallied(self.cells.values[np.repeat(rows[row] & models[model], self.cells.counts)])


def rewards_in(pool: Pool, reward: str | Sequence[str] | None, ensemble: str | None) -> RewardsIn:
    """Read the rewards of a pool, or of one shard.

    Args:
        pool: The shard, or a whole pool.
        reward: A reward column, or several for an ensemble; None = there is none.
        ensemble: How several become one.
    """
    if reward is None:
        return RewardsIn(np.full((len(pool.id_array), len(pool.models)), np.nan, order="F"), None)
    if isinstance(reward, str):
        cells = pool.cells_of_part(reward)
        return RewardsIn(pool.scores_of_part(reward) if cells is None else cells.means(), cells)
    scores, agreement = ensemble_of(pool, reward, ensemble or "")
    own = _sample_rewards(pool, reward, ensemble)
    samples = pool.samples
    return RewardsIn(scores, None if own is None or samples is None else samples.cells_of(own), agreement)


def ensemble_of(pool: Pool, rewards: Sequence[str], how: str) -> tuple[FloatArray, Agreement]:
    """Combine several rewards of a whole pool into one score matrix; also return how far they agree."""
    matrices = {name: pool.scores(name) for name in rewards}
    agreement = reward_agreement(matrices)
    return combine_rewards(matrices, how=how), agreement
