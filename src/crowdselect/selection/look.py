"""One look at a pool, as a whole or file by file: the tables of its shards become `Rows` in id order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.engine.here import Run
from crowdselect.errors import InputError, RewardError, SplitError
from crowdselect.finish import ENDINGS
from crowdselect.numeric.duplicates import alike, grouped, text_key
from crowdselect.numeric.ensembles import Agreement
from crowdselect.numeric.metrics import METRICS, Ties
from crowdselect.numeric.responses import ChosenAnswers, check_answer
from crowdselect.pool.index import sorted_once, to_numpy
from crowdselect.pool.pool import Pool
from crowdselect.pool.shards import Ids, Places
from crowdselect.pool.sidecars import read_numbers
from crowdselect.selection.benchmarks import BenchmarkQuestion, read_questions
from crowdselect.selection.measure import (
    Look,
    Matrix,
    ensemble_of,
    from_lists,
    known_of,
    looked,
    lowest_hashes,
    tables_of,
)
from crowdselect.selection.methods import CROWD, Method
from crowdselect.selection.options import Options, wants_model
from crowdselect.selection.overlap import QuestionIndex
from crowdselect.selection.reading import Shards, shards_of
from crowdselect.selection.rows import COLUMNS, Rows
from crowdselect.types import BoolArray, FloatArray, IntArray, Table


def look_at(
    pool: Pool,
    *,
    options: Options | None,
    reward: str | None = None,
    ties: Ties = "average",
    crowd: Crowd | None = None,
    method: Method = CROWD,
    run: Run | None = None,
    keep: bool = False,
) -> tuple[Shards, Rows]:
    """Look at a pool once.

    Args:
        pool: From `crowdselect.open_pool`. With more than a million rows in several Parquet files, one of these is in memory at a time.
        options: The options of the selection; None = only the metrics are wanted.
        reward: The reward column, if there are no options.
        ties: As for `crowdselect.stability`, if there are no options.
        crowd: Family and size of the models; None reads them off the names.
        method: If it is not `weighted`, a pool without rewards, or of one model, is allowed and has no metrics.
        run: What reads the pool's files one by one; None = this process, and only for large pools.
        keep: Return the score matrix too; the pool is then read as a whole.

    Returns:
        How the pool is read, and its rows.

    Raises:
        RewardError: There is no reward, or there are several and none was named.
        InputError: A metric overflows, or the crowd matches no model of the pool.
        SplitError: With `run`, an instruction is in two files; otherwise the pool is then read as a whole.
    """
    shards = (
        Shards(pool)
        if keep
        else shards_of(pool, run=run, options=options, method_needs=method.needs_the_whole)
    )
    request = _Request(options, reward if options is None else options.reward, ties, crowd, method, keep=keep)
    try:
        return shards, _rows(shards, request)
    except SplitError:
        if run is not None:
            raise
        whole = Shards(pool)
        return whole, _rows(whole, request)


@dataclass(frozen=True, slots=True)
class _Request:
    """What the rows are needed for: the arguments of `look_at`."""

    options: Options | None
    reward: str | tuple[str, ...] | None
    ties: Ties
    crowd: Crowd | None
    method: Method
    keep: bool


def _rows(shards: Shards, request: _Request) -> Rows:
    pool, options = shards.pool, request.options
    questions = tuple(
        (path, read_questions(path)) for path in (() if options is None else options.decontaminate)
    )
    look, notes = _look(shards, request, [question for _, found in questions for question in found])
    if options is not None:
        check_answer(options.answer, models=shards.models)
    merged, matrix = _merged(shards, look)
    if look.reward is not None and all(facts["lowest"] is None for facts in merged.facts):
        name = look.reward if isinstance(look.reward, str) else ", ".join(look.reward)
        raise RewardError(f"{pool.path}: no reward: {name} is missing for every instruction and model")
    ids, pool_notes = Ids(merged.table["id"].chunk(0)), list(pool.notes)
    if look.joined:
        lost = pool.rewards.lost_from(merged.total("kept") - merged.total("lost"))
        pool_notes += [] if lost is None or lost in pool_notes else [lost]  # a whole pool has it already
    metrics = {name: merged.numbers(name) for name in METRICS}
    if options is not None and options.metrics is not None and look.reward is not None:
        extra, note = read_numbers(options.metrics, ids=ids.as_objects(), taken=(*METRICS, *COLUMNS))
        metrics |= extra
        notes += [] if note is None else [note]
    owner, owner_notes = _owners(merged, look, options)
    notes += owner_notes
    places = Places.of(merged.shard, merged.numbers("row"), counts=[facts["rows"] for facts in merged.facts])
    blank, groups = np.zeros(len(ids), dtype=np.bool_), np.arange(len(ids))
    if options is not None:
        blank = ~to_numpy(merged.table["digest"].is_valid())
        groups = _groups(shards, merged.table["digest"], blank, places)
    return Rows(
        ids=ids,
        hashes=merged.numbers("hash"),
        blank=blank,
        groups=groups,
        n_rewards=merged.numbers("n_rewards"),
        metrics=metrics,
        answers=_answers(merged),
        crowd=look.crowd,
        per_model=np.sum([facts["per_model"] for facts in merged.facts], axis=0, dtype=np.int64),
        lowest=min((f["lowest"] for f in merged.facts if f["lowest"] is not None), default=float("nan")),
        reward=_reward_words(look, options),
        notes=tuple(notes),
        pool_notes=tuple(pool_notes),
        agreement=None if matrix is None else matrix.agreement,
        questions=questions,
        owner=owner,
        columns=merged.named("column"),
        rewards=merged.named("reward"),
        text_keys=merged.table["text_key"] if look.text_keys else None,
        left_out=merged.numbers("left_out") if options is not None else None,
        needs=merged.numbers("needs") if options is not None else None,
        places=places,
        shard=merged.shard,
        matrix=matrix if request.keep else None,
    )


def _look(shards: Shards, request: _Request, questions: list[BenchmarkQuestion]) -> tuple[Look, list[str]]:
    """Decide what to read of each shard; also return the notes about the crowd."""
    pool, options, models = shards.pool, request.options, shards.models
    unmeasured = None if request.method.weighted else why_unmeasured(pool, models, request.reward)
    name: str | tuple[str, ...] | None = None
    if unmeasured is None:
        name = request.reward if isinstance(request.reward, tuple) else pool.reward_name(request.reward)
        if len(models) < 2:
            only = f"only {models[0]!r}" if models else "none"
            raise InputError(f"{pool.path}: a crowd needs at least two models; found {only}")
    elif len(models) == 1 and (request.reward is not None or pool.usual_reward is not None):
        name = request.reward if isinstance(request.reward, tuple) else pool.reward_name(request.reward)
    sample_reward = name
    if name is None and (request.reward is not None or pool.usual_reward is not None):
        sample_reward = (
            request.reward if isinstance(request.reward, tuple) else pool.reward_name(request.reward)
        )
    aligned, notes = (request.crowd or Crowd.from_names(models)).aligned(models)
    cluster_columns = () if options is None or options.cluster_by is None else (options.cluster_by,)
    look = Look(
        read=pool.part,
        rewards=pool.rewards_path,
        reward=name,
        sample_reward=sample_reward,
        joined=not shards.whole
        and any(isinstance(each, str) and pool.rewards.joined(each) for each in {name, sample_reward}),
        models=models,
        crowd=aligned,
        ties=request.ties if options is None else options.ties,
        has_responses=pool.has_responses,
        options=options,
        questions=tuple(questions),
        columns=(*cluster_columns, *request.method.columns),
        text_keys=options is not None and not shards.whole and wants_model(options),
        below=_threshold(shards),
        limit_seed=pool.seed,
    )
    return look, [*notes, *([] if unmeasured is None else [unmeasured])]


def _threshold(shards: Shards) -> int | None:
    """Find the highest hash within `limit`, if the files are read one by one; None without such a limit."""
    pool = shards.pool
    if shards.whole or pool.limit is None:
        return None
    arguments = {"read": pool.part, "limit": pool.limit, "seed": pool.seed}
    found = np.concatenate([to_numpy(table["hash"]) for table in shards.over(lowest_hashes, **arguments)])
    return int(np.sort(found)[: pool.limit][-1])


@dataclass(frozen=True, slots=True)
class _Merged:
    """The tables of all shards, in id order."""

    table: Table
    facts: list[dict[str, Any]]
    """One per shard: sums over its rows."""
    shard: NDArray[np.int32]
    """Shape (N,): the shard of each row."""

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column as a NumPy array."""
        return to_numpy(self.table[name])

    def named(self, kind: str) -> dict[str, NDArray[Any]]:
        """Return the columns of one kind, "column" or "reward", that were requested by name."""
        prefix = f"{kind} "
        return {
            name.removeprefix(prefix): self.numbers(name)
            for name in self.table.column_names
            if name.startswith(prefix)
        }

    def total(self, name: str) -> int:
        """Add up a fact over the shards."""
        return sum(int(facts[name]) for facts in self.facts)


def _merged(shards: Shards, look: Look) -> tuple[_Merged, Matrix | None]:
    if shards.whole:
        table, matrix = known_of(shards.pool, look)
        return merge([(0, table)], [shards.pool.path]), matrix
    found = [each for packed in shards.over(looked, look=look) for each in tables_of(packed)]
    return merge(found, shards.files), None


def merge(found: Sequence[tuple[int, Table]], files: Sequence[object]) -> _Merged:
    """Merge the tables of all shards into one in id order.

    Args:
        found: Shard and table, in any order; each table has a column `id`, ascending.
        files: The shards' names, for messages.

    Raises:
        SplitError: An id is in two shards.
    """
    import pyarrow as pa

    tables = [table for _, table in sorted(found, key=lambda each: each[0])]
    facts = [json.loads(table.schema.metadata[b"facts"]) for table in tables]
    shard = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
    whole = pa.concat_tables(
        [table.replace_schema_metadata(None) for table in tables], promote_options="default"
    )

    def twice(id_: str, first: int, second: int) -> SplitError:
        return SplitError(
            f"{files[shard[second]]}: id {id_!r} is in {files[shard[first]]} too; a pool that is read file by file must have "
            "all rows of an instruction in one file; split it by a hash of the id, see docs/scale.md"
        )

    _, order = sorted_once(whole["id"].combine_chunks(), twice)
    if order is not None:
        whole, shard = whole.take(order), shard[order]
    return _Merged(whole.combine_chunks(), facts, shard)


def _owners(merged: _Merged, look: Look, options: Options | None) -> tuple[IntArray | None, list[str]]:
    """The benchmark question that each row gives away, shape (N,), -1 = none; None where none were asked for."""
    if options is None or "whole_question" not in merged.table.column_names:
        return None, []
    index = QuestionIndex.of(look.questions, ngram=options.decontaminate_ngram)
    found = from_lists(merged.numbers("whole_question"), merged.table["shared_runs"].combine_chunks())
    return index.settled(found, look.questions)


def _groups(shards: Shards, digests: Table, blank: BoolArray, places: Places) -> IntArray:
    """Group rows by their text: rows that share a digest are compared by the text itself."""
    rows = alike(to_numpy(digests.drop_null()), np.flatnonzero(~blank))
    if not rows.size:
        return np.arange(len(blank))
    keys: dict[int, bytes] = {}  # 256-bit digests, as many large texts may have to be compared
    for read, texts in shards.texts_of(rows, places):
        keys.update(zip(read.tolist(), map(text_key, texts), strict=True))
    return grouped([keys[row] for row in rows.tolist()], rows, n=len(blank))


def _answers(merged: _Merged) -> ChosenAnswers:
    paired = "rejected" in merged.table.column_names
    return ChosenAnswers(
        merged.numbers("chosen").astype(np.int64),
        merged.numbers("rejected").astype(np.int64) if paired else None,
        merged.numbers("best_reward"),
        reward=merged.numbers("reward"),
        rejected_reward=merged.numbers("rejected_reward") if paired else None,
        unsaid=merged.total("without_text"),
        sample=merged.numbers("sample") if "sample" in merged.table.column_names else None,
        rejected_sample=merged.numbers("rejected_sample")
        if "rejected_sample" in merged.table.column_names
        else None,
        unfinished=merged.numbers("unfinished"),
        endings=_endings(merged),
    )


def _endings(merged: _Merged) -> dict[str, int]:
    """Count the answers with text by how they ended, for the endings that occur."""
    kinds = [kind for kind in ENDINGS if any(kind in facts["endings"] for facts in merged.facts)]
    return {kind: sum(facts["endings"].get(kind, 0) for facts in merged.facts) for kind in kinds}


def _reward_words(look: Look, options: Options | None) -> str | None:
    if isinstance(look.reward, tuple) and options is not None:
        return f"{options.ensemble} of {', '.join(look.reward)}"
    return look.reward if isinstance(look.reward, str) else None


def score_matrix(
    pool: Pool, reward: str | Sequence[str] | None, ensemble: str | None = None
) -> tuple[FloatArray, str, Agreement | None]:
    """Read a pool's score matrix, of one reward or of an ensemble.

    Args:
        pool: From `crowdselect.open_pool`.
        reward: A reward column, or several; None = the pool's only one.
        ensemble: How several are combined; see `crowdselect.numeric.ensembles.combine_rewards`.

    Returns:
        Shape (N, M); the reward's name in words; and how far the rewards of an ensemble agree.

    Raises:
        RewardError: There is no such reward, or there are several and none was named.
        OptionError: Several rewards and no `ensemble`.
    """
    if reward is None or isinstance(reward, str):
        return pool.scores(reward), pool.reward_name(reward), None
    scores, agreement = ensemble_of(pool, reward, ensemble or "")
    return scores, f"{ensemble} of {', '.join(reward)}", agreement


def why_unmeasured(pool: Pool, models: Sequence[str], reward: str | Sequence[str] | None) -> str | None:
    """Explain in one line why a pool has no metrics; None if it may have some."""
    if len(models) < 2:
        return "only one model answered, so the metrics are empty"
    return (
        "the pool has no rewards, so the metrics are empty"
        if reward is None and not pool.reward_columns
        else None
    )
