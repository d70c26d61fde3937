"""A pool of many files, looked at file by file: what is known of each instruction, as a few numbers per row.

Every function here is given one file (a shard) and depends on nothing else, so it does not matter how many files there
are, in which order they are looked at, and by whom: this process (`run_here`) or a cluster. All rows of an
instruction stand in one file.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.cache import key_of
from crowdselect.crowd import Crowd
from crowdselect.numeric.metrics import METRICS, Ties
from crowdselect.numeric.responses import Answers, find_answers
from crowdselect.pool.cells import Targets
from crowdselect.pool.layouts import reward_columns
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.source import Source, connect
from crowdselect.seeding import content_hash
from crowdselect.selection.benchmarks import contaminated
from crowdselect.selection.eligibility import normalised
from crowdselect.selection.options import Options
from crowdselect.selection.questions import Question
from crowdselect.selection.rows import Measured, checked_metrics, pick_samples
from crowdselect.selection.tables import metrics_table
from crowdselect.selection.targets import with_targets
from crowdselect.types import FloatArray, Table

TEXT_KEY = "text_key"
"""The column of what a text's vectors are kept by, see `crowdselect.cache.key_of`."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be known of each shard."""

    layout: str
    rewards: str | None
    """The second file, of the whole pool."""
    reward: str | None
    """The reward column; None = there are no metrics."""
    sample_reward: str | None
    """The reward column that samples are taken by; None = they are drawn."""
    joined: bool
    """Whether it is in the second file."""
    models: tuple[str, ...]
    """Of the whole pool."""
    crowd: Crowd
    """In the order of `models`."""
    ties: Ties
    options: Options | None = None
    """None = only the table of metrics is wanted."""
    questions: tuple[Question, ...] = ()
    has_responses: bool = True
    text_keys: bool = False
    """Whether a model embeds the texts."""


class Looker:
    """A worker that gives what is known of each instruction of a shard, as a table in id order."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def __call__(self, sources: Table) -> Table:
        """Give the tables of some shards, packed; see `unpacked`."""
        import pyarrow as pa

        packed = []
        for path in sources["path"].to_pylist():
            with _opened(path, self._ask) as (pool, kept):
                table = _measured_table(pool, self._ask, kept)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            packed.append(sink.getvalue().to_pybytes())
        return pa.table({"shard": sources["shard"], "table": pa.array(packed, pa.large_binary())})


def unpacked(found: Table) -> Iterator[tuple[int, Table]]:
    """Give shards and their tables from what a `Looker` returned."""
    import pyarrow as pa

    for shard, packed in zip(found["shard"].to_pylist(), found["table"], strict=True):
        with pa.ipc.open_stream(packed.as_buffer()) as reader:
            yield shard, reader.read_all()


@contextmanager
def _opened(path: str, ask: Ask) -> Iterator[tuple[Pool, int]]:
    """Open a shard, with its own rows of the second file of rewards; and say how many those are."""
    if ask.rewards is None or not ask.joined:
        with open_pool(path, layout=ask.layout) as pool:
            yield pool, 0
        return
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="crowdselect-") as place:
        own = Path(place) / "rewards.parquet"
        with open_pool(path, layout=ask.layout) as pool, closing(connect()) as connection:
            source = Source(connection, ask.rewards)
            key = reward_columns(source.columns, path=ask.rewards).id
            kept = source.keep(key, pa.array(pool.ids, pa.large_string()), own)
        with open_pool(path, layout=ask.layout, rewards=own) as pool:
            pool.call_rewards(ask.rewards)
            yield pool, kept


def _measured_table(pool: Pool, ask: Ask, kept: int) -> Table:
    if ask.reward is None:
        scores = np.full((len(pool.ids), len(ask.models)), np.nan, order="F")
        metrics = {name: np.full(len(scores), np.nan) for name in METRICS}
    else:
        scores = _widened(pool.scores_of_part(ask.reward), pool.models, ask.models, fill=np.nan)
        metrics = checked_metrics(pool, scores, ask.crowd, ties=ask.ties)
    n_rewards = np.asarray((~np.isnan(scores)).sum(axis=1), dtype=np.int64)
    facts = {
        "per_model": (~np.isnan(scores)).sum(axis=0).tolist(),
        "lowest": float(np.nanmin(scores)) if n_rewards.any() else None,
        "kept": kept,
        "lost": pool.lost_rewards,
    }
    if ask.options is None:
        measured = Measured(scores, n_rewards, metrics, ask.crowd, ())
        return _marked(metrics_table(pool, measured, models=ask.models), facts)
    numbers = {"n_rewards": n_rewards, **metrics}
    table, answers = _row_table(pool, ask, scores, numbers, options=ask.options)
    return _marked(table, {**facts, "unsaid": answers.unsaid, "endings": dict(answers.endings)})


def _row_table(
    pool: Pool, ask: Ask, scores: FloatArray, numbers: dict[str, Any], *, options: Options
) -> tuple[Table, Answers]:
    """What the choice needs of each row: numbers, who may answer, and digests of the text instead of the text."""
    import pyarrow as pa

    answers = _answers(pool, ask, scores, options)
    texts = pool.instructions()
    digests = [
        None if text is None else blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16)
        for text in texts
    ]
    columns = {
        "id": pa.array(pool.ids, pa.large_string()),
        "hash": content_hash(pool.ids),
        **numbers,
        "chosen": answers.chosen.astype(np.int32),
        "best_reward": answers.best_reward,
        "reward": answers.reward,
        "unfinished": np.zeros(len(scores), dtype=np.bool_)
        if answers.unfinished is None
        else answers.unfinished,
        "digest": pa.array(
            [None if digest is None else digest.digest() for digest in digests], pa.binary(16)
        ),
    }
    if answers.rejected is not None:
        columns |= {
            "rejected": answers.rejected.astype(np.int32),
            "rejected_reward": answers.rejected_reward,
        }
    for name, samples in (("sample", answers.sample), ("rejected_sample", answers.rejected_sample)):
        if samples is not None:
            columns[name] = samples
    if ask.text_keys:
        keys = [None if text is None else key_of(text) for text in texts]
        columns[TEXT_KEY] = pa.array(keys, pa.binary(32))
    if options.decontaminate:
        columns["owner"] = contaminated(texts, list(ask.questions)).astype(np.int32)
    if options.cluster_by is not None:
        columns["group"] = pa.array(pool.column(options.cluster_by), pa.large_string())
    return pa.table(columns), answers


def _targets(pool: Pool, ask: Ask, *, allow_cut: bool) -> Targets:
    """A shard's, with a column for every model of the pool."""
    found = pool.targets(allow_cut=allow_cut)
    widened = partial(_widened, own=pool.models, models=ask.models, fill=False)
    barred = None if found.barred is None else widened(found.barred)
    return Targets(widened(found.usable), barred, found.endings)


def _answers(pool: Pool, ask: Ask, scores: FloatArray, options: Options) -> Answers:
    """Who may answer each row of a shard, among the models of the whole pool."""
    pairs = options.pairs is not None
    codes = pool.prompt_codes() if pairs and not pool.sampled else None
    picks = pick_samples(pool, ask.sample_reward, options)
    if picks is not None:
        picks = picks.changed(lambda values, fill: _widened(values, pool.models, ask.models, fill=fill))
    targets = Targets(~np.isnan(scores))
    if ask.has_responses:
        targets = _targets(pool, ask, allow_cut=options.allow_cut)
    answers = find_answers(
        scores,
        usable=targets.usable,
        hashes=content_hash(pool.ids),
        models=ask.models,
        answer=options.answer,
        pairs=pairs,
        seed=options.seed,
        prompts=None if codes is None else _widened(codes, pool.models, ask.models, fill=-1),
        picks=picks,
    )
    return with_targets(answers, targets, scores, options=options, models=ask.models)


def _marked(table: Table, facts: dict[str, Any]) -> Table:
    import json

    return table.replace_schema_metadata({"facts": json.dumps(facts)})


def _widened(
    values: NDArray[Any], own: Sequence[str], models: Sequence[str], *, fill: float | bool
) -> NDArray[Any]:
    """Give a matrix of a shard's models a column for every model of the pool."""
    if tuple(own) == tuple(models):
        return values
    out = np.full((len(values), len(models)), fill, dtype=values.dtype, order="F")
    out[:, [models.index(name) for name in own]] = values
    return out
