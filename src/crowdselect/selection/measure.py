"""Measure one pool or one of its files: a few numbers per instruction, and digests of texts.

`known_of` depends on one opened shard alone, so the number of files, their order, and where they are read (in this
process or on a cluster) do not matter. All rows of an instruction are in one file.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import key_of
from crowdselect.crowd import Crowd
from crowdselect.errors import InputError
from crowdselect.numeric.candidates import Candidates
from crowdselect.numeric.duplicates import digests
from crowdselect.numeric.ensembles import Agreement, combine_rewards, reward_agreement
from crowdselect.numeric.good import is_good, tallied
from crowdselect.numeric.metrics import METRICS, Ties, compute_metrics
from crowdselect.numeric.responses import ChosenAnswers, Several, answers_among, find_answers, fits_of, unsaid
from crowdselect.pool.batches import Targets, Texts
from crowdselect.pool.cells import CellRewards
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.howread import HowRead
from crowdselect.pool.layouts import reward_columns
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.rewards import respelt
from crowdselect.pool.shards import Ids
from crowdselect.pool.source import Source, connect
from crowdselect.seeding import UInt64Array, content_hash, reseeded, seeded_hash
from crowdselect.selection.benchmarks import BenchmarkQuestion
from crowdselect.selection.numbers import Measured, rests_on_full_marks
from crowdselect.selection.options import BEST_STUDENT, Options
from crowdselect.selection.overlap import Overlaps, QuestionIndex
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray, Table

GOOD, STUDENT_GOOD = "good", "good of the student"
"""The columns with the shares of answers that are good: of each model of the crowd, and of the student."""
SCORES = "scores"
"""The column with the rewards of each model of the crowd."""
TEXT_KEY = "text_key"
"""The column with the cache key of a text's vectors, see `crowdselect.cache.key_of`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What to read of each shard."""

    read: HowRead
    rewards: str | None
    """The second file, with rewards, of the whole pool."""
    reward: str | tuple[str, ...] | None
    """The reward column, or several for an ensemble; None = there are no metrics."""
    sample_reward: str | tuple[str, ...] | None = None
    """The reward by which samples are picked; None = there is none."""
    joined: bool
    """Whether one of these two is in the second file."""
    respelt: bool = False
    """The second file spells whole numbers among its ids otherwise than the pool."""
    models: tuple[str, ...]
    """The crowd: the models of the whole pool, but for the student."""
    student: str | None = None
    """The student, where it is a model of the pool."""
    cut: float | None = None
    """A reward above this is good; None = what is good does not count."""
    crowd: Crowd
    """In the order of `models`."""
    ties: Ties
    has_responses: bool = True
    options: Options | None = None
    """None = only the table of metrics is wanted: the best answer by reward alone, and no texts."""
    questions: tuple[BenchmarkQuestion, ...] = ()
    digests: bool = False
    """Whether the texts' digests are wanted without options, too."""
    columns: tuple[str, ...] = ()
    """Further columns of the pool to read, with one value per instruction."""
    plain: tuple[str, ...] = ()
    """Those of them that are no rewards, though they are numbers: the student's success, and what bands and bins name."""
    numbers: tuple[str, ...] = ()
    """Numbers per instruction to find; see `crowdselect.selection.numbers`."""
    scores: bool = False
    """Whether the rewards themselves are wanted: a list of M per row, see `SCORES`."""
    text_keys: bool = False
    """Whether a model embeds the texts."""
    below: int | None = None
    """With `limit`: only rows whose hash is at most this are read."""
    limit_seed: int = 0
    """The seed of that hash."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrices of a shard, which are returned only on request."""

    scores: FloatArray
    """Rewards, shape (N, M). NaN = no reward."""
    targets: Targets
    """Which answers may be trained on: with text and finished (or, in a pool without answers, with a reward)."""
    prompts: IntArray | None = None
    """From `Pool.prompt_codes`, if pairs are made."""
    texts: IntArray | None = None
    """From `Pool.text_codes`, if pairs are made, or several answers of a row."""
    candidates: Candidates | None = None
    """Every sample that may be taken, in a pool with samples."""
    spread: FloatArray | None = None
    """Variance of each model's samples, shape (N, M), NaN = fewer than two; None = the pool has no samples."""
    highest: FloatArray | None = None
    """The highest reward of each model's samples, shape (N, M), NaN = none, where only metrics are wanted; None likewise."""
    passes: FloatArray | None = None
    """Share of each model's answers with full marks, shape (N, M), NaN = no reward; None = not wanted."""
    marks: tuple[float, float] | None = None
    """The lowest and the highest reward of any answer, where pass rates are wanted and there is a reward."""
    agreement: Agreement | None = None
    """How far the rewards of an ensemble agree."""
    good: FloatArray | None = None
    """Share of each model's answers that are good, shape (N, M), NaN = no reward; None = not wanted."""
    student_good: FloatArray | None = None
    """The same of the student, shape (N,), where it is a model of the pool."""

    def rows(self, rows: IntArray) -> "Matrix":
        """Take some rows, ascending."""
        found = self.candidates
        student = None if self.student_good is None else self.student_good[rows]
        taken = self._changed(lambda values: values[rows], None if found is None else found.rows_of(rows))
        return replace(taken, student_good=student)

    def columns(self, columns: Sequence[int], scores: FloatArray) -> "Matrix":
        """Take some models, possibly some of them twice, with their own `scores`."""
        found = self.candidates
        student = self.scores.shape[1]  # where pairs are made with it, it comes after the crowd
        own = None if found is None else found.columns_of([*columns, student])
        return replace(self._changed(lambda values: values[:, columns], own), scores=scores)

    def cells(self, kept: BoolArray) -> "Matrix":
        """Leave out the answers of all cells but some, shape (N, M)."""
        crowd = kept.shape[1]

        def changed(values: NDArray[Any]) -> NDArray[Any]:
            if values.dtype.kind in "iu":  # codes, which only tell answers apart
                return values
            whole = np.ones(values.shape, dtype=np.bool_)  # a student comes after the crowd
            whole[:, :crowd] = kept
            return values & whole if values.dtype == np.bool_ else np.where(whole, values, np.nan)

        return self._changed(changed, None if self.candidates is None else self.candidates.of_cells(kept))

    def _changed(
        self, change: Callable[[NDArray[Any]], NDArray[Any]], candidates: Candidates | None
    ) -> "Matrix":
        def changed(values: NDArray[Any] | None) -> Any:  # noqa: ANN401  (as it is given)
            return None if values is None else change(values)

        return Matrix(
            change(self.scores),
            replace(self.targets, usable=change(self.targets.usable), barred=changed(self.targets.barred)),
            changed(self.prompts),
            changed(self.texts),
            candidates,
            changed(self.spread),
            changed(self.highest),
            changed(self.passes),
            self.marks,
            self.agreement,
            changed(self.good),
            self.student_good,
        )


def looked(sources: Table, *, look: Look) -> Table:
    """Measure some shards, each in a file: a table of `shard` and `table`, packed for `tables_of`."""
    import pyarrow as pa

    packed = []
    for path in sources["path"].to_pylist():
        with _opened(path, look) as (pool, kept):
            table, _ = known_of(pool, look, kept=kept)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        packed.append(sink.getvalue().to_pybytes())
    return pa.table({"shard": sources["shard"], "table": pa.array(packed, pa.large_binary())})


def tables_of(found: Table) -> Iterator[tuple[int, Table]]:
    """Unpack shards and their tables from what `looked` returned."""
    import pyarrow as pa

    for shard, packed in zip(found["shard"].to_pylist(), found["table"], strict=True):
        with pa.ipc.open_stream(packed.as_buffer()) as reader:
            yield shard, reader.read_all()


def lowest_hashes(sources: Table, *, read: HowRead, limit: int, seed: int) -> Table:
    """Compute each shard's `limit` lowest hashes of ids: `hash`; those of the whole pool are among them."""
    import pyarrow as pa

    found = []
    for path in sources["path"].to_pylist():
        with open_pool(path, read=read) as pool:
            found.append(np.sort(_limit_keys(content_hash(pool.id_array), seed))[:limit])
    return pa.table({"hash": np.concatenate(found)})


def rewards_in_shards(sources: Table, *, look: Look) -> Table:
    """Tally the rewards of some shards: lists of `value` and `count`, and the `id`s that count, a row per shard."""
    import pyarrow as pa

    rows = []
    for path in sources["path"].to_pylist():
        with _opened(path, look) as (pool, _):
            value, count, ids = rewards_of(pool, look)
            rows.append((value, count, ids.cast(pa.large_string())))
    kinds = {"value": pa.float64(), "count": pa.int64(), "id": pa.large_string()}
    return pa.table(
        {
            name: pa.array([row[at] for row in rows], pa.large_list(kind))
            for at, (name, kind) in enumerate(kinds.items())
        }
    )


def rewards_of(pool: Pool, look: Look) -> tuple[FloatArray, IntArray, Any]:
    """Tally the rewards of a shard, crowd and student together: the different ones, how often each occurs, and of which ids."""
    import pyarrow as pa

    ensemble = None if look.options is None else look.options.ensemble
    rows = np.ones(len(pool.id_array), dtype=np.bool_)
    if look.below is not None:
        rows = _limit_keys(content_hash(pool.id_array), look.limit_seed) <= look.below
    models = np.array([name in {*look.models, look.student} for name in pool.models], dtype=np.bool_)
    values, counts = rewards_in(pool, look.reward, ensemble).tally(rows, models)
    return values, counts, pool.id_array.filter(pa.array(rows))


def _limit_keys(hashes: UInt64Array, seed: int) -> UInt64Array:
    return reseeded(hashes, seed=seed, salt="limit")


def known_of(pool: Pool, look: Look, *, kept: int = 0) -> tuple[Table, Matrix]:
    """Measure one opened shard.

    Args:
        pool: The shard, or a whole pool.
        look: What to read.
        kept: How many rows of the second file of rewards belong to the shard.

    Returns:
        A row per instruction in id order, with sums over the shard in its metadata (`facts`); and the matrices.

    Raises:
        InputError: A metric overflows; the id is named.
    """
    import pyarrow as pa

    ids, matrix = pool.id_array, matrix_of(pool, look)
    hashes = content_hash(ids)
    rows, options = np.arange(len(hashes)), look.options
    if look.below is not None:
        rows = np.flatnonzero(_limit_keys(hashes, look.limit_seed) <= look.below)
    if len(rows) < len(hashes):
        ids, matrix = ids.take(pa.array(rows)), matrix.rows(rows)
    answers = answers_of(matrix, hashes=hashes[rows], models=look.models, options=options)
    columns = {
        "id": ids.cast(pa.large_string()),
        "row": rows,
        "hash": hashes[rows],
        **_metrics(look, matrix, ids=Ids(ids), path=pool.path),
        **_answer_columns(answers),
        **_numbers(pool, look, matrix, rows, answers),
        **_good_columns(matrix),
        **({SCORES: _listed_rows(matrix.scores)} if look.scores else {}),
    }
    if options is not None:
        columns |= _text_columns(pool, look, options, rows)
        columns["left_out"] = pa.array(pool.left_out()[rows], pa.string())
        columns["needs"] = pa.array(pool.needs()[rows], pa.string())
    elif look.digests:
        columns["digest"] = _digests(pool, rows)[0]
    columns |= _named_columns(pool, look, rows, answers)
    rewarded = ~np.isnan(matrix.scores)
    facts = {
        "rows": len(hashes),
        "per_model": rewarded.sum(axis=0).tolist(),
        "lowest": float(np.nanmin(matrix.scores)) if rewarded.any() else None,
        "marks": matrix.marks,
        "kept": kept,
        "lost": pool.lost_rewards,
        "without_text": answers.unsaid,
        "endings": dict(answers.endings),
    }
    return pa.table(columns).replace_schema_metadata({"facts": json.dumps(facts)}), matrix


def answers_of(
    matrix: Matrix, *, hashes: UInt64Array, models: Sequence[str], options: Options | None
) -> ChosenAnswers:
    """Choose each instruction's answer by the options; without options, the best-rewarded one, with or without text."""
    names, usable = tuple(models), matrix.targets.usable
    if options is None:
        best_of = matrix.scores if matrix.highest is None else matrix.highest
        return find_answers(
            best_of, usable=usable, hashes=hashes, models=names, answer="best", pairs=False, seed=0
        )
    fits = fits_of(options.answer)  # which takes an answer later, of chosen rows alone
    answer = options.answer if fits is None else "best"
    if answer == "best" and len(names) == 1 and np.isnan(matrix.scores).all():
        answer = f"model:{names[0]}"  # the only answer is the best one, whether it has a reward or not
    of_cells = options.answers_per_row == 1 and options.pairs != "within-model" and fits is None
    if matrix.candidates is None and of_cells:
        answers = find_answers(
            matrix.scores,
            usable=usable,
            hashes=hashes,
            models=names,
            answer=answer,
            pairs=options.pairs is not None,
            seed=options.seed,
            prompts=matrix.prompts,
            texts=matrix.texts,
        )
    else:
        answers = answers_among(
            matrix.candidates or _candidates(matrix, hashes=hashes, models=names, seed=options.seed),
            models=names,
            answer=answer,
            pairs=options.pairs,
            per_row=options.answers_per_row,
            unsaid=unsaid(matrix.scores, usable),
            good=None if fits is None else fits.share,
        )
    return with_targets(answers, matrix.targets, matrix.scores, options=options, models=names)


def _candidates(matrix: Matrix, *, hashes: UInt64Array, models: tuple[str, ...], seed: int) -> Candidates:
    """The answers of a pool without samples."""
    return Candidates.of_matrix(
        matrix.scores,
        matrix.targets.usable,
        rows=reseeded(hashes, seed=seed, salt="answer"),
        columns=seeded_hash(models, seed=seed, salt="model"),
        prompts=matrix.prompts,
        texts=matrix.texts,
    )


def with_targets(
    answers: ChosenAnswers, targets: Targets, scores: FloatArray, *, options: Options, models: tuple[str, ...]
) -> ChosenAnswers:
    """Add the answers that had to be left out to a choice of answers.

    Args:
        answers: From `crowdselect.numeric.responses.find_answers`, given `targets.usable`.
        targets: From `Pool.targets`.
        scores: Rewards, shape (N, M). NaN = no reward.
        options: `answer` counts here.
        models: The M models' names.
    """
    barred = targets.barred
    if barred is None:
        return answers
    rewarded = ~np.isnan(scores)
    unsaid = answers.unsaid - int((barred & rewarded).sum())
    wanted = barred if options.answer == "random" else barred & rewarded
    if options.answer.startswith("model:"):
        wanted = barred[:, [models.index(options.answer.removeprefix("model:"))]]
    return replace(answers, unsaid=unsaid, unfinished=np.any(wanted, axis=1), endings=targets.endings)


def checked_metrics(
    scores: FloatArray,
    crowd: Crowd,
    *,
    ties: Ties,
    ids: Ids | ObjectArray,
    path: str,
    spread: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Compute the metrics of a score matrix.

    Args:
        scores: Rewards, shape (N, M). NaN = no reward.
        crowd: M members, in column order.
        ties: As for `crowdselect.stability`.
        spread: As for `crowdselect.numeric.metrics.compute_metrics`.
        ids: The N ids, for messages.
        path: The pool's path, for messages.

    Raises:
        InputError: A metric overflows; the id is named.
    """
    n_rewards = np.asarray((~np.isnan(scores)).sum(axis=1), dtype=np.int64)
    metrics = compute_metrics(scores, sizes=crowd.sizes, families=crowd.families, ties=ties, spread=spread)
    for name, values in metrics.items():
        metric = METRICS[name]
        # Where it may be undefined, a missing value is no overflow.
        wrong = np.isinf(values) if metric.undefined is not None else ~np.isfinite(values)
        overflowing = np.flatnonzero((n_rewards >= metric.fewest) & wrong)
        if overflowing.size:
            raise InputError(
                f"{path}: {name} of id {ids[overflowing[0]]!r} is too large for a number; its rewards are out of any "
                "sensible range, rescale them"
            )
    return metrics


@contextmanager
def _opened(path: str, look: Look) -> Iterator[tuple[Pool, int]]:
    """Open a shard with its own rows of the second file of rewards; also yield how many those are."""
    if look.rewards is None or not look.joined:
        with open_pool(path, read=look.read) as pool:
            yield pool, 0
        return
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="crowdselect-") as place:
        part = Path(place) / "rewards.parquet"
        with open_pool(path, read=look.read) as pool, closing(connect()) as connection:
            source = Source(connection, look.rewards)
            key = reward_columns(source.columns, path=look.rewards).id
            ids = pa.array(pool.ids, pa.large_string())
            count = source.keep(key, respelt(ids) if look.respelt else ids, part)
        with open_pool(path, read=look.read, rewards=part) as pool:
            pool.rewards.call(look.rewards)
            yield pool, count


def matrix_of(pool: Pool, look: Look) -> Matrix:
    """Read a shard's matrices, with a column for every model of the whole pool."""

    def widened(values: NDArray[Any], fill: float) -> NDArray[Any]:
        return _widened(values, pool.models, look.models, fill=fill)

    options, found = (
        look.options,
        rewards_in(pool, look.reward, None if look.options is None else look.options.ensemble),
    )
    scores = widened(found.scores, np.nan)
    spread = None if found.cells is None else widened(found.cells.variances(), np.nan)
    passes = marks = None
    if any(map(rests_on_full_marks, look.numbers)):
        passes, marks = widened(found.passes(), np.nan), found.marks
    good = _good(found, look, pool.models)
    targets = Targets(~np.isnan(scores))
    if options is None:
        highest = None if found.cells is None else widened(found.cells.highest(), np.nan)
        return Matrix(
            scores, targets, None, None, None, spread, highest, passes, marks, found.agreement, *good
        )
    if look.has_responses:
        own = pool.targets(allow_cut=options.allow_cut, models=look.models)
        barred = None if own.barred is None else widened(own.barred, False)
        targets = Targets(widened(own.usable, False), barred, own.endings)
    if options.pairs == BEST_STUDENT:
        names = look.models if look.student is None else (*look.models, look.student)
        candidates: Candidates | None = candidates_among(pool, names, look.sample_reward, options)
    else:
        candidates = candidates_of(pool, look.sample_reward, options)
        candidates = None if candidates is None else candidates.among(pool.models, look.models)
    codes = pool.prompt_codes() if options.pairs is not None and not pool.sampled else None
    prompts = None if codes is None or candidates is not None else widened(codes, -1)
    told, texts = _texts_told(options), None
    if told is not None and look.has_responses and candidates is None:
        texts = widened(pool.text_codes(told), -1)
    return Matrix(
        scores, targets, prompts, texts, candidates, spread, None, passes, marks, found.agreement, *good
    )


def _good(
    found: "RewardsIn", look: Look, models: tuple[str, ...]
) -> tuple[FloatArray | None, FloatArray | None]:
    """What is good of the crowd's answers, shape (N, M), and of the student's, (N,); None = not wanted, or not here."""
    if look.cut is None:
        return None, None
    good = found.good(look.cut)
    own = None if look.student is None else _widened(good, models, (look.student,), fill=np.nan)[:, 0]
    return _widened(good, models, look.models, fill=np.nan), own


def _texts_told(options: Options) -> Texts | None:
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
    if not names and len(pool.reward_columns) == 1:
        names = pool.reward_columns
    return answers.candidates(
        _sample_rewards(pool, names, options.ensemble) if names else None,
        seed=options.seed,
        allow_cut=options.allow_cut,
        prompts=options.pairs is not None,
        texts=_texts_told(options),
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
        scores, told = rewards_in(pool, reward, options.ensemble).scores, _texts_told(options)
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


def _metrics(look: Look, matrix: Matrix, *, ids: Ids, path: str) -> dict[str, NDArray[Any]]:
    scores = matrix.scores
    n_rewards = np.asarray((~np.isnan(scores)).sum(axis=1), dtype=np.int64)
    if look.reward is None or len(look.models) < 2:
        own = [name for name, metric in METRICS.items() if not metric.of_samples]
        return {"n_rewards": n_rewards, **{name: np.full(len(scores), np.nan) for name in own}}
    metrics = checked_metrics(scores, look.crowd, ties=look.ties, ids=ids, path=path, spread=matrix.spread)
    return {"n_rewards": n_rewards, **metrics}


def _numbers(
    pool: Pool, look: Look, matrix: Matrix, rows: IntArray, answers: ChosenAnswers
) -> dict[str, FloatArray]:
    """The numbers that were asked for by name."""
    measured = Measured(
        answers=answers,
        scores=matrix.scores,
        passes=matrix.passes,
        lengths=lambda: Lengths(pool).of(answers, rows, models=look.models),
        models=look.models,
        agreement=None if matrix.agreement is None else matrix.agreement.rows[rows],
    )
    return {f"number {name}": measured.number(name) for name in look.numbers}


def _good_columns(matrix: Matrix) -> dict[str, Any]:
    """Lay out what is good: a list of M shares per row, and the student's."""
    import pyarrow as pa

    if matrix.good is None:
        return {}
    columns = {GOOD: _listed_rows(matrix.good)}
    return columns | ({} if matrix.student_good is None else {STUDENT_GOOD: pa.array(matrix.student_good)})


def _listed_rows(matrix: FloatArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """Lay out a matrix, shape (N, M): a list of M numbers per row; see `matrix_in`."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def matrix_in(lists: Any) -> FloatArray:  # noqa: ANN401  (an Arrow array)
    """Read back what `_listed_rows` laid out, shape (N, M)."""
    return to_numpy(lists.flatten()).reshape(len(lists), lists.type.list_size)


class Lengths:
    """How long answers to train on are, in a pool or one of its shards; what is read is read once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def of(self, answers: ChosenAnswers, rows: IntArray, *, models: Sequence[str]) -> FloatArray:
        """Measure the answers to train on of some instructions.

        Args:
            answers: Of these instructions.
            rows: Which they are in the pool, shape (n,).
            models: The names of the columns that `answers` speaks of; the pool may lack some.

        Returns:
            Characters, shape (n,). NaN = no answer.
        """
        pool, samples = self._pool, self._pool.samples
        own = np.array([pool.models.index(model) if model in pool.models else 0 for model in models])
        taken = own[np.maximum(answers.chosen, 0)]
        if answers.sample is None or samples is None:
            found = self._matrix[rows, taken]
        else:
            found = samples.lengths_of(rows=rows, models=taken, samples=answers.sample)
        return np.where(answers.chosen >= 0, found, np.nan)

    @cached_property
    def _matrix(self) -> FloatArray:
        return self._pool.response_lengths()


def _answer_columns(answers: ChosenAnswers) -> dict[str, NDArray[Any]]:
    none = np.zeros(len(answers.chosen), dtype=np.bool_)
    columns: dict[str, NDArray[Any]] = {
        "chosen": answers.chosen.astype(np.int32),
        "best_reward": answers.best_reward,
        "reward": answers.reward,
        "unfinished": none if answers.unfinished is None else answers.unfinished,
    }
    samples = {"sample": answers.sample, "rejected_sample": answers.rejected_sample}
    columns |= {name: numbers for name, numbers in samples.items() if numbers is not None}
    columns |= {} if answers.text is None else {"text": answers.text}
    if answers.rejected is not None and answers.rejected_reward is not None:
        columns |= {"rejected": answers.rejected.astype(np.int32), "rejected_reward": answers.rejected_reward}
    if answers.several is not None:
        columns["several"] = listed_answers(answers.several, len(answers.chosen))
    if answers.good is not None:
        columns["good answers"] = listed_answers(answers.good, len(answers.chosen))
    return columns


def listed_answers(found: Several, n: int) -> Any:  # noqa: ANN401  (an Arrow array)
    """Lay out the answers of n rows: a list per row of `model` (its number), `sample` and `reward`; see `several_in`."""
    import pyarrow as pa

    offsets = np.searchsorted(found.row, np.arange(n + 1)).astype(np.int32)
    samples = np.full(len(found.row), np.nan) if found.sample is None else found.sample
    parts = [pa.array(each) for each in (found.model, samples, found.reward)]
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays(parts, ["model", "sample", "reward"])
    )


def several_in(lists: Any, *, sampled: bool) -> Several:  # noqa: ANN401  (an Arrow array)
    """Read back what `listed_answers` laid out."""
    import pyarrow.compute as pc

    counts = to_numpy(pc.list_value_length(lists)).astype(np.int64)
    flat = pc.list_flatten(lists)
    model, sample, reward = (to_numpy(pc.struct_field(flat, name)) for name in ("model", "sample", "reward"))
    return Several(
        np.repeat(np.arange(len(counts)), counts), model.astype(np.int64), sample if sampled else None, reward
    )


def _text_columns(pool: Pool, look: Look, options: Options, rows: IntArray) -> dict[str, Any]:
    """Compute digests of the texts; and their cache keys and shared benchmark questions, if the options need them."""
    import pyarrow as pa

    digest, texts = _digests(pool, rows)
    columns = {"digest": digest}
    if not look.text_keys and not look.questions:
        return columns
    texts = to_numpy(texts)
    if look.text_keys:
        columns[TEXT_KEY] = pa.array([None if t is None else key_of(t) for t in texts], pa.binary(32))
    if look.questions:
        index = QuestionIndex.of(look.questions, ngram=options.decontaminate_ngram)
        found = index.find(texts)
        columns["whole_question"] = pa.array(found.whole.astype(np.int32))
        columns["shared_runs"] = _listed(found, len(texts))
    return columns


def _digests(pool: Pool, rows: IntArray) -> tuple[Any, Any]:
    """Digests of the texts of some rows, null where there is none, and the texts; Arrow arrays."""
    import pyarrow as pa

    texts = pool.text_array if len(rows) == len(pool.text_array) else pool.text_array.take(pa.array(rows))
    return pa.array(digests(texts), mask=~to_numpy(texts.is_valid())), texts


def _listed(found: Overlaps, n: int) -> Any:  # noqa: ANN401  (an Arrow array)
    """The runs that each of n texts shares, a list per text; see `from_lists`."""
    import pyarrow as pa

    order = np.argsort(found.texts, kind="stable")
    offsets = np.searchsorted(found.texts[order], np.arange(n + 1))
    return pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32)), pa.array(found.runs[order].astype(np.int32))
    )


def from_lists(whole: IntArray, lists: Any) -> Overlaps:  # noqa: ANN401  (an Arrow array)
    """Put together what shards found: see `crowdselect.selection.overlap`."""
    import pyarrow.compute as pc

    counts = to_numpy(pc.list_value_length(lists)).astype(np.int64)
    runs = to_numpy(pc.list_flatten(lists)).astype(np.int64)
    return Overlaps(whole.astype(np.int64), np.repeat(np.arange(len(counts)), counts), runs)


def _named_columns(pool: Pool, look: Look, rows: IntArray, answers: ChosenAnswers) -> dict[str, Any]:
    """Read the columns requested by name, where the pool has them: rewards of the answers to train on, and columns."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in look.columns:
        if name in pool.reward_columns and name not in look.plain:
            columns[f"reward {name}"] = _reward_of(pool, look, name, rows, answers)
        elif name in pool.columns:
            columns[f"column {name}"] = pa.array(pool.column(name)[rows], pa.large_string())
    return columns


def _reward_of(pool: Pool, look: Look, name: str, rows: IntArray, answers: ChosenAnswers) -> FloatArray:
    """Read a reward of the answers to train on, shape (n,); of several samples, that of the picked one."""
    taken, numbered = np.maximum(answers.chosen, 0), pool.samples
    if answers.sample is None or numbered is None:
        scores = _widened(pool.scores_of_part(name), pool.models, look.models, fill=np.nan)
        found = scores[rows, taken]
    else:
        own = np.array([pool.models.index(model) if model in pool.models else 0 for model in look.models])
        found = numbered.rewards_of(name, rows=rows, models=own[taken], samples=answers.sample)
    return np.where(answers.chosen >= 0, found, np.nan)


def _widened(
    values: NDArray[Any], own: Sequence[str], models: Sequence[str], *, fill: float | bool
) -> NDArray[Any]:
    """Give a matrix of a shard's models the columns of the crowd, or of other models."""
    if tuple(own) == tuple(models):
        return values
    out = np.full((len(values), len(models)), fill, dtype=values.dtype, order="F")
    there = [name for name in own if name in models]  # the student is not
    out[:, [models.index(name) for name in there]] = values[:, [own.index(name) for name in there]]
    return out
