"""Choosing from a pool file by file: what `run.select` chooses otherwise, with no more of the pool in memory than a file.

What a row costs on the way is some hundred bytes: its id, hashes and numbers. Texts, answers, the score matrix and
vectors stay where they are. `run` says who reads: this process, or a cluster (`crowdselect.engine`).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.embed.given import is_parquet
from crowdselect.engine.here import Run, as_it_is, run_here
from crowdselect.errors import InputError, OptionError, RewardError, SplitError
from crowdselect.finish import ENDINGS
from crowdselect.numeric.metrics import METRICS, Ties
from crowdselect.numeric.quotas import choose, ranked
from crowdselect.numeric.responses import Answers, check_answer
from crowdselect.pool.answers import Numbers
from crowdselect.pool.chat import Chat
from crowdselect.pool.files import file_type
from crowdselect.pool.index import to_numpy
from crowdselect.pool.layouts import Wide
from crowdselect.pool.numberfile import read_numbers
from crowdselect.pool.pool import Pool
from crowdselect.pool.rewardsfile import lost_note, missing_in
from crowdselect.pool.shards import Fetcher, Ids, Models, Places, sources_of
from crowdselect.progress import Stages
from crowdselect.seeding import reseeded
from crowdselect.selection.clusters import LARGE
from crowdselect.selection.eligibility import ELIGIBLE
from crowdselect.selection.eligible import asked_questions, bars, not_scored, row_reasons
from crowdselect.selection.facts import run_facts, run_warnings, selection_table
from crowdselect.selection.look import Ask, Looker, unpacked
from crowdselect.selection.merged import Merged, merge, same_texts
from crowdselect.selection.methods import CROWD, Method, Seen, check_rows, score_rows
from crowdselect.selection.options import Options
from crowdselect.selection.rows import COLUMNS, Measured, Sums, check_usable, measure, why_unmeasured
from crowdselect.selection.selection import Selection, samples_of
from crowdselect.selection.shardgroups import Lookahead, group_shards, wants_model, wants_vectors
from crowdselect.selection.tables import metrics_table

if TYPE_CHECKING:
    from crowdselect.types import FloatArray


class ShardedPool(Pool):
    """A pool whose files are looked at one by one; of its texts only those of chosen rows are read.

    Args:
        pool: The same pool, opened as usual.
        run: Has the files read.

    Raises:
        OptionError: A limit, or files that are no Parquet.
    """

    def __init__(self, pool: Pool, run: Run = run_here) -> None:
        why_not = _not_by_file(pool)
        if why_not is not None:
            raise OptionError(f"{pool.path}: cannot be read file by file: {why_not}")
        super().__init__(pool.path, layout=pool.layout, rewards=pool.rewards_path, limit=None, seed=0)
        self.run = run
        self.shards = self._source.filled
        self.places: Places | None = None
        """Where the rows of its files stand; known once these were looked at."""
        self._ids: Any = None
        self._models: tuple[str, ...] | None = None
        self._said = False
        self._home: dict[str, int] | None = None
        self._chosen: list[tuple[str, str]] = []
        self._samples: list[float | None] = []
        self._fetched: dict[tuple[str, str], dict[str, str | None]] = {}

    @property
    def ids(self) -> Any:  # noqa: ANN401  (in Arrow's buffers instead of objects)
        """The N ids in code-point order; see `Ids`."""
        return super().ids if self._ids is None else self._ids

    @property
    def models(self) -> tuple[str, ...]:
        """The models of all shards, in code-point order."""
        if isinstance(self._view.answers, Wide):
            return self._view.answers.models
        if self._models is None:
            found = self.run(sources_of(self.shards), as_it_is, Models, {"layout": self.layout}, batch=1)
            names = {name for table in found for some in table["models"].to_pylist() for name in some}
            self._models = tuple(sorted(names))
        return self._models

    @property
    def has_text(self) -> bool:
        """Some instruction has text; known once the shards were looked at, or rows were chosen (which then have some)."""
        return self._said or any(self._of(pair)["instruction"] is not None for pair in self._chosen[:1])

    def look(self, ask: Ask) -> Merged:
        """Look at every shard."""
        found: list[tuple[int, Any]] = []
        for packed in self.run(sources_of(self.shards), as_it_is, Looker, {"ask": ask}, batch=1):
            found += unpacked(packed)
        merged = merge(found, self.shards)
        self._ids = Ids(merged.table["id"].chunk(0))
        self.places = Places.of(merged.shard, merged.row, shards=len(merged.facts))
        if "digest" in merged.table.column_names:
            self._said = merged.table["digest"].null_count < len(merged.table)
        if self._second is not None and ask.joined:
            lost = self._second.row_count - merged.total("kept") + merged.total("lost")
            note = lost_note(self._second.path, lost)
            self._join_notes = [] if note is None else [note]
        return merged

    def in_second_file(self, reward: str) -> bool:
        """Say whether a reward is joined from the second file; if so, see that every row of it names an answer.

        Raises:
            InputError: A row has no id, or no model.
        """
        if self._second is None or self._second_columns is None or reward in self._view.answers.rewards:
            return False
        columns, at = self._second_columns, 0
        for batch in self._second.batches(f"{columns.id} IS NULL", f"{columns.model} IS NULL", rows=1 << 20):
            for what, missing in zip(("id", "model"), batch.columns, strict=True):
                if missing.true_count:
                    raise missing_in(self._second, what, at + int(np.argmax(to_numpy(missing))))
            at += len(batch)
        return True

    def expect(self, table: Any, shard: NDArray[np.int32] | None = None) -> None:  # noqa: ANN401  (an Arrow table)
        """Say which rows were chosen: all of them are fetched together when the first is asked for.

        Args:
            table: As of `selection_table`.
            shard: Of each row of it, where that is known.
        """
        rows = np.flatnonzero(np.asarray(table["selected"]))
        chosen = table.take(rows)
        ids = chosen["id"].to_pylist()
        self._home = None if shard is None else dict(zip(ids, shard[rows].tolist(), strict=True))
        self._chosen, self._samples = [], []
        for kind in ("", "rejected_"):
            if f"{kind}model" in chosen.column_names:
                self._chosen += zip(ids, chosen[f"{kind}model"].to_pylist(), strict=True)
                self._samples += samples_of(chosen, kind)

    def holds(self, table: Any) -> bool:  # noqa: ANN401  (an Arrow table)
        """Fetch chosen rows from whichever files they are in; say whether each has all its rows in one of them."""
        self.expect(table)
        try:
            self._fetch()
        except SplitError:
            return False
        return len(self._fetched) == len(set(self._chosen))

    def prompts(self, pairs: Sequence[tuple[str, str]], samples: Numbers | None = None) -> list[Chat]:  # noqa: ARG002  (those of `expect`)
        """See `Pool.prompts`; of chosen rows."""
        return [json.loads(self._of(pair)["messages"] or "[]") for pair in pairs]

    def responses(
        self,
        pairs: Sequence[tuple[str, str]],
        samples: Numbers | None = None,  # noqa: ARG002  (those of `expect`)
    ) -> list[str | None]:
        """See `Pool.responses`; of chosen rows."""
        return [self._of(pair)["response"] for pair in pairs]

    def texts_of(self, ids: Sequence[str]) -> list[str | None]:
        """See `Pool.texts_of`; of chosen rows."""
        known = {}
        for pair in self._chosen:
            if pair[0] not in known:
                known[pair[0]] = self._of(pair)["instruction"]
        return [known[id_] for id_ in ids]

    def _of(self, pair: tuple[str, str]) -> dict[str, str | None]:
        if not self._fetched:
            self._fetch()
        if pair not in self._fetched:
            raise InputError(f"{self.path}: no id {pair[0]!r} in the pool")
        return self._fetched[pair]

    def _fetch(self) -> None:
        """Fetch all chosen rows; where their files are not known, every file is asked.

        Raises:
            SplitError: An instruction is in two files.
        """
        every = ([id_ for id_, _ in self._chosen], [model for _, model in self._chosen], self._samples)
        told = dict.fromkeys(range(len(self.shards)), every)
        if self._home is not None:
            told = {}
            for (id_, model), sample in zip(self._chosen, self._samples, strict=True):
                ids, models, samples = told.setdefault(self._home[id_], ([], [], []))
                ids.append(id_)
                models.append(model)
                samples.append(sample)
        sources = [
            {"path": str(self.shards[shard]), "ids": ids, "models": models, "samples": samples}
            for shard, (ids, models, samples) in told.items()
        ]
        home: dict[str, str] = {}
        for table in self.run(sources, as_it_is, Fetcher, {"layout": self.layout}, batch=1):
            for row in table.to_pylist():
                if home.setdefault(row["id"], row["path"]) != row["path"]:
                    raise SplitError(f"{row['path']}: id {row['id']!r} is in {home[row['id']]} too")
                self._fetched[row["id"], row["model"]] = row


def refusal(pool: Pool, options: Options, method: Method = CROWD) -> str | None:
    """Say why a pool cannot be chosen from file by file; None where it can.

    Args:
        pool: The pool.
        options: How to choose.
        method: What gives the score.
    """
    why_not = _not_by_file(pool)
    if why_not is not None:
        return why_not
    if not method.by_file:
        return f"{method.settings['method']} looks at the pool as a whole"
    if (
        wants_vectors(options)
        and options.embedder.startswith("file:")
        and not is_parquet(options.embedder[5:])
    ):
        return f"--embedder {options.embedder} is no Parquet file (id, vector)"
    if options.ensemble is not None:
        return "an ensemble ranks the answers of the whole pool; make one reward of them first"
    return None


def _not_by_file(pool: Pool) -> str | None:
    if any(file_type(file) != "parquet" for file in pool.files):
        return "only Parquet files are; write the pool, and its second file of rewards, as Parquet"
    odd = pool.odd_file
    if odd is not None:
        return f"{odd}; write its files with the same columns"
    if pool.limit is not None:
        return "--limit takes from the whole pool; leave it out, or choose with --engine local"
    return None


def large_pool(pool: Pool) -> ShardedPool | None:
    """Open a pool to be read file by file in this process, if it is large and of several Parquet files; else None.

    Args:
        pool: The same, opened as usual.
    """
    if len(pool.files) == 1 or pool.row_count <= LARGE or _not_by_file(pool) is not None:
        return None
    opened = ShardedPool(pool)
    return opened if len(opened.shards) > 1 else None


def by_file(pool: Pool, options: Options, method: Method = CROWD) -> ShardedPool | None:
    """Open a large pool file by file if it can be chosen from so; else None.

    Args:
        pool: The pool; one that is read file by file is given back as it is.
        options: How to choose.
        method: What gives the score.
    """
    if isinstance(pool, ShardedPool):
        return pool
    return large_pool(pool) if refusal(pool, options, method) is None else None


@contextmanager
def for_chosen(pool: Pool, table: Any) -> Iterator[Pool]:  # noqa: ANN401  (an Arrow table)
    """Open what gives the texts of chosen rows: the pool itself, or a large one file by file.

    Args:
        pool: The pool.
        table: As of `selection_table`.

    Yields:
        A pool, to be asked about chosen rows only.
    """
    opened = None if isinstance(pool, ShardedPool) else large_pool(pool)
    with opened or nullcontext():
        yield opened if opened is not None and opened.holds(table) else pool


def ask_of(
    pool: ShardedPool,
    *,
    reward: str | None,
    crowd: Crowd | None,
    ties: Ties,
    options: Options | None = None,
    needed: bool = True,
) -> tuple[Ask, list[str]]:
    """Settle what is to be known of each shard; and the notes about the crowd. `needed` is that of `measure`.

    Raises:
        InputError: Fewer than two models.
        RewardError: There is no such reward.
    """
    models, why = pool.models, None if needed else why_unmeasured(pool, reward)
    name = pool.reward_name(reward) if why is None else None
    sample_reward = name
    if pool.sampled and name is None and (reward is not None or len(pool.reward_columns) == 1):
        sample_reward = pool.reward_name(reward)
    if len(models) < 2 and why is None:
        found = f"only {models[0]!r}" if models else "none"
        raise InputError(f"{pool.path}: a crowd needs at least two models; found {found}")
    aligned, notes = (crowd or Crowd.from_names(models)).aligned(models)
    notes += [why] if why is not None else []
    asked = asked_questions(options) if options is not None else []
    return (
        Ask(
            layout=pool.layout,
            rewards=pool.rewards_path,
            reward=name,
            sample_reward=sample_reward,
            joined=any(each is not None and pool.in_second_file(each) for each in {name, sample_reward}),
            models=models,
            crowd=aligned,
            ties=ties,
            options=options,
            questions=tuple(question for _, found in asked for question in found),
            has_responses=pool.has_responses,
            text_keys=options is not None and wants_model(options),
        ),
        notes,
    )


def metrics_of(
    pool: Pool, run: Run | None, *, reward: str | None, crowd: Crowd | None, ties: Ties
) -> tuple[Any, list[str], int]:
    """Make the table of `crowdselect metrics`.

    Args:
        pool: The pool; a large one is read file by file.
        run: Has its files read; None = this process.
        reward: As for `crowdselect.selection.rows.measure`, and `crowd` and `ties`.
        crowd: See there.
        ties: See there.

    Returns:
        The table, one-line facts to tell the user, and the number of models.

    Raises:
        CrowdselectError: As there; SplitError only with `run`.
    """
    files = ShardedPool(pool, run) if run else large_pool(pool)
    if files is not None:
        try:
            table, notes = sharded_metrics(files, reward=reward, crowd=crowd, ties=ties)
        except SplitError:
            if run is not None:
                raise
        else:
            return table, [*files.notes, *notes], len(files.models)
    measured = measure(pool, reward=reward, crowd=crowd, ties=ties)
    return metrics_table(pool, measured), [*pool.notes, *measured.notes], len(pool.models)


def sharded_metrics(
    pool: ShardedPool, *, reward: str | None, crowd: Crowd | None, ties: Ties
) -> tuple[Any, list[str]]:
    """Make the table of `crowdselect metrics` file by file; and the notes about the crowd.

    Raises:
        CrowdselectError: As for `crowdselect.selection.rows.measure`.
    """
    ask, notes = ask_of(pool, reward=reward, crowd=crowd, ties=ties)
    merged = pool.look(ask)
    _check_rewards(pool, ask, merged)
    return merged.table.set_column(0, "id", merged.table["id"].cast("string")), notes


def select_sharded(
    pool: ShardedPool,
    options: Options,
    *,
    crowd: Crowd | None = None,
    stages: Stages | None = None,
    method: Method = CROWD,
) -> Selection:
    """Choose as `crowdselect.select` does, with the same result, file by file.

    Args:
        pool: The pool; afterwards it gives the texts of what was chosen.
        options: How to choose.
        crowd: As for `crowdselect.select`.
        stages: As there.
        method: One that can (`Method.by_file`).

    Raises:
        CrowdselectError: As there; or the options need the pool as a whole, see `refusal`.
    """
    stage, why_not = stages or Stages(), refusal(pool, options, method)
    if why_not is not None:
        raise OptionError(f"{pool.path}: cannot be chosen from file by file: {why_not}")
    with stage("rewards and metrics"):
        reward = options.reward if isinstance(options.reward, str) else None
        ask, notes = ask_of(
            pool, reward=reward, crowd=crowd, ties=options.ties, options=options, needed=method.weighted
        )
        check_answer(options.answer, models=pool.models)
        merged = pool.look(ask)
        _check_rewards(pool, ask, merged)
        measured = _measured(pool, ask, merged, notes, options)
        if method.weighted:
            check_usable(measured, options.weights)
    with stage("eligibility"):
        answers = _answers(merged)
        fixed = bars(
            pool,
            options,
            blank=~np.asarray(merged.table["digest"].is_valid()),
            asked=asked_questions(options),
            owner=merged.numbers("owner").astype(np.int64) if options.decontaminate else None,
        )
        reasons = row_reasons(len(pool.ids), fixed, measured, answers, options, weighted=method.weighted)
        groups = same_texts(merged.table["digest"])
        check_rows(options, reasons, groups)
    with stage("score") as progress:
        hashes = merged.numbers("hash")
        keys = reseeded(hashes, seed=options.seed, salt="tie")
        seen = Seen(
            pool=pool,
            options=options,
            measured=measured,
            answers=answers,
            texts=np.empty(0, dtype=object),
            eligible=reasons == ELIGIBLE,
            hashes=hashes,
            keys=keys,
            groups=groups,
        )
        scored, seen, reasons = score_rows(method, seen, reasons, progress)
        score = np.where(seen.eligible, scored.score, np.nan)
    with stage("clusters") as progress:
        grouping, vectors = group_shards(
            pool.path,
            pool.shards,
            pool.layout,
            merged,
            eligible=seen.eligible,
            hashes=hashes,
            options=options,
            run=pool.run,
            progress=progress,
        )
    with stage("choice"):
        ahead = None
        if options.near_duplicates is not None and vectors is not None:
            ahead = Lookahead(vectors, ranked(score, keys), grouping.labels, first=options.budget)
        choice = choose(
            score,
            labels=grouping.labels,
            keys=keys,
            groups=groups,
            budget=options.budget,
            vectors=ahead,
            near_duplicates=options.near_duplicates,
        )
        table = selection_table(
            pool, measured, answers, choice, reasons, score=score, ranks=seen.ranks, grouping=grouping
        )
        pool.expect(table, merged.shard)
    return Selection(
        table=table,
        options={**options.as_dict(), **method.settings},
        facts=run_facts(
            pool,
            measured,
            grouping,
            choice,
            notes=[*fixed.notes, *not_scored(reasons), *scored.notes],
            benchmarks=fixed.benchmarks,
        ),
        warnings=tuple(
            run_warnings(
                pool,
                measured,
                answers,
                choice,
                grouping,
                eligible=seen.eligible,
                weights=options.weights if method.weighted else {},
                allow_cut=options.allow_cut,
            )
        ),
        seconds=stage.seconds,
    )


def _check_rewards(pool: Pool, ask: Ask, merged: Merged) -> None:
    if ask.reward is not None and not any(facts["lowest"] is not None for facts in merged.facts):
        raise RewardError(f"{pool.path}: no reward: {ask.reward} is missing for every instruction and model")


def _measured(pool: Pool, ask: Ask, merged: Merged, notes: list[str], options: Options) -> Measured:
    metrics: dict[str, FloatArray] = {name: merged.numbers(name) for name in METRICS}
    if options.metrics is not None and ask.reward is not None:
        ids = np.array(list(pool.ids), dtype=object)
        more, note = read_numbers(options.metrics, ids=ids, taken=(*METRICS, *COLUMNS))
        metrics |= more
        notes = [*notes, *([note] if note else [])]
    sums = Sums(
        np.sum([facts["per_model"] for facts in merged.facts], axis=0, dtype=np.int64),
        min((facts["lowest"] for facts in merged.facts if facts["lowest"] is not None), default=float("nan")),
    )
    n_rewards = merged.numbers("n_rewards")
    return Measured(np.empty((0, 0)), n_rewards, metrics, ask.crowd, tuple(notes), ask.reward, sums=sums)


def _endings(merged: Merged) -> dict[str, int]:
    kinds = [kind for kind in ENDINGS if any(kind in facts["endings"] for facts in merged.facts)]
    return {kind: sum(facts["endings"].get(kind, 0) for facts in merged.facts) for kind in kinds}


def _answers(merged: Merged) -> Answers:
    paired = "rejected" in merged.table.column_names
    return Answers(
        np.empty((0, 0), dtype=np.bool_),
        merged.numbers("chosen").astype(np.int64),
        merged.numbers("rejected").astype(np.int64) if paired else None,
        merged.numbers("best_reward"),
        reward=merged.numbers("reward"),
        rejected_reward=merged.numbers("rejected_reward") if paired else None,
        unsaid=merged.total("unsaid"),
        sample=merged.numbers("sample") if "sample" in merged.table.column_names else None,
        rejected_sample=merged.numbers("rejected_sample")
        if "rejected_sample" in merged.table.column_names
        else None,
        unfinished=merged.numbers("unfinished"),
        endings=_endings(merged),
    )
