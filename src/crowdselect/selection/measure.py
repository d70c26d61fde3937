"""Measure one pool or one of its files: a few numbers per instruction, and digests of texts.

`known_of` depends on one opened shard alone, so the number of files, their order, and where they are read (in this
process or on a cluster) do not matter. All rows of an instruction are in one file.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import key_of
from crowdselect.crowd import Crowd
from crowdselect.numeric.duplicates import digests
from crowdselect.numeric.metrics import METRICS, Ties
from crowdselect.numeric.responses import ChosenAnswers
from crowdselect.pool.batches import Targets
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.connection import connect
from crowdselect.pool.howread import HowRead
from crowdselect.pool.idlike import like_ids
from crowdselect.pool.layouts import reward_columns
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.rendered import counts_of
from crowdselect.pool.rewards import respelt
from crowdselect.pool.shards import Ids
from crowdselect.pool.source import Source
from crowdselect.seeding import UInt64Array, content_hash, reseeded
from crowdselect.selection.benchmarks import BenchmarkQuestion
from crowdselect.selection.lists import listed_answers, listed_rows, listed_runs
from crowdselect.selection.matrix import Matrix, answers_of, checked_metrics
from crowdselect.selection.numbers import Measured, rests_on_full_marks
from crowdselect.selection.options import BEST_STUDENT, Options
from crowdselect.selection.overlap import QuestionIndex
from crowdselect.selection.rewards import (
    RewardsIn,
    candidates_among,
    candidates_of,
    empty_answers,
    rewards_in,
    texts_told,
)
from crowdselect.types import FloatArray, IntArray, Table

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
    rows, options, forms = np.arange(len(hashes)), look.options, np.zeros(0, dtype=np.int64)
    like = [0, 0]
    if look.below is not None:
        rows = np.flatnonzero(_limit_keys(hashes, look.limit_seed) <= look.below)
    if len(rows) < len(hashes):
        ids, matrix = ids.take(pa.array(rows)), matrix.rows(rows)
    answers = answers_of(
        matrix,
        hashes=hashes[rows],
        models=look.models,
        options=options,
        rewarded=look.sample_reward is not None,
    )
    columns = {
        "id": ids.cast(pa.large_string()),
        "row": rows,
        "hash": hashes[rows],
        **_metrics(look, matrix, ids=Ids(ids), path=pool.path),
        **_answer_columns(answers),
        **_numbers(pool, look, matrix, rows, answers),
        **_good_columns(matrix),
        **({SCORES: listed_rows(matrix.scores)} if look.scores else {}),
    }
    if options is not None:
        columns |= _text_columns(pool, look, options, rows)
        forms, like = pool.prompt_forms[rows], like_ids(_texts(pool, rows))
        columns["left_out"] = pa.array(pool.left_out()[rows], pa.string())
        columns["needs"] = pa.array(pool.needs()[rows], pa.string())
    elif look.digests:
        columns["digest"] = _digests(pool, rows)[0]
    columns |= _named_columns(pool, look, rows, answers)
    rewarded = ~np.isnan(matrix.scores)
    facts = {
        "forms": counts_of(forms),
        "like_ids": like,
        "rows": len(hashes),
        "per_model": rewarded.sum(axis=0).tolist(),
        "lowest": float(np.nanmin(matrix.scores)) if rewarded.any() else None,
        "marks": matrix.marks,
        "ends": matrix.ends,
        "kept": kept,
        "lost": pool.lost_rewards,
        "empty": answers.empty,
        "endings": dict(answers.endings),
    }
    return pa.table(columns).replace_schema_metadata({"facts": json.dumps(facts)}), matrix


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
    targets, empty = Targets(~np.isnan(scores)), None
    if options is None:
        highest = None if found.cells is None else widened(found.cells.highest(), np.nan)
        return Matrix(
            scores,
            targets,
            None,
            None,
            None,
            spread,
            highest,
            passes,
            marks,
            found.ends,
            found.agreement,
            *good,
        )
    if look.has_responses:
        own = pool.targets(allow_cut=options.allow_cut, models=look.models)
        barred = None if own.barred is None else widened(own.barred, False)
        targets = Targets(widened(own.usable, False), barred, own.endings)
        rewards = (look.reward,) if isinstance(look.reward, str) else look.reward
        empty = widened(empty_answers(pool, rewards), 0) if rewards else None
    if options.pairs != BEST_STUDENT:
        candidates = candidates_of(pool, look.sample_reward, options)
        candidates = None if candidates is None else candidates.among(pool.models, look.models)
    else:
        names = look.models if look.student is None else (*look.models, look.student)
        candidates = candidates_among(pool, names, look.sample_reward, options)
    codes = pool.prompt_codes() if options.pairs is not None and not pool.sampled else None
    prompts = None if codes is None or candidates is not None else widened(codes, -1)
    told, texts = texts_told(options), None
    if told is not None and look.has_responses and candidates is None:
        texts = widened(pool.text_codes(told), -1)
    return Matrix(
        scores,
        targets,
        prompts,
        texts,
        candidates,
        spread,
        None,
        passes,
        marks,
        found.ends,
        found.agreement,
        *good,
        empty,
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
    columns = {GOOD: listed_rows(matrix.good)}
    return columns | ({} if matrix.student_good is None else {STUDENT_GOOD: pa.array(matrix.student_good)})


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
        columns["shared_runs"] = listed_runs(found, len(texts))
    return columns


def _digests(pool: Pool, rows: IntArray) -> tuple[Any, Any]:
    """Digests of the texts of some rows, null where there is none, and the texts; Arrow arrays."""
    import pyarrow as pa

    texts = _texts(pool, rows)
    return pa.array(digests(texts), mask=~to_numpy(texts.is_valid())), texts


def _texts(pool: Pool, rows: IntArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """The texts of some rows, null where there is none."""
    import pyarrow as pa

    return pool.text_array if len(rows) == len(pool.text_array) else pool.text_array.take(pa.array(rows))


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
