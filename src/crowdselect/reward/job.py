"""One run of `crowdselect reward`: from what was asked to a rewards file."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from crowdselect.ask.display import note_of
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.renamed import find_renamed, names_in, take_over
from crowdselect.cache import Parts
from crowdselect.engine.options import EngineOptions
from crowdselect.engine.session import cluster
from crowdselect.errors import CrowdselectError, OptionError, OutputError
from crowdselect.pool.files import resolve
from crowdselect.pool.pool import Pool
from crowdselect.reward.judge import JudgeOptions, JudgeScorer
from crowdselect.reward.loading import LocalOptions
from crowdselect.reward.local import LocalScorer
from crowdselect.reward.meter import Meter
from crowdselect.reward.own import FunctionScorer, ImportScorer, score_columns
from crowdselect.reward.protocol import Item, Scorer
from crowdselect.reward.run import Column, Tally, outcomes_of, score_pool, survey, try_scorer, windows
from crowdselect.reward.sealed import manifest_path, write_manifest, write_rewards
from crowdselect.reward.selftest import built_in_items, self_test
from crowdselect.reward.served import ServedOptions, ServedScorer
from crowdselect.reward.sharded import (
    COMPUTED,
    Recipe,
    all_windows,
    built_in,
    check_sharded,
    placed,
    score_shards,
    sources_of,
)
from crowdselect.reward.specs import Spec, check_columns
from crowdselect.reward.stored import Stored
from crowdselect.writing import check_manifest, check_output


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How to score.

    Attributes:
        local: For `hf:`.
        served: For `http:`.
        judge: For `judge:`.
        ledger: Where the scores of judges and servers are kept, with computed ones beside it as parts; None = beside
            the rewards file.
        references: The pool's column of correct answers, for judges; None = `reference` where there is one.
        self_test: Try each scorer on built-in answers first.
        retry_failed: Score again what has failed before.
        overwrite: Replace the rewards file; never the ledger.
        engine: Where models run.
    """

    local: LocalOptions = field(default_factory=LocalOptions)
    served: ServedOptions = field(default_factory=ServedOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    ledger: str | None = None
    references: str | None = None
    self_test: bool = True
    retry_failed: bool = False
    overwrite: bool = False
    engine: EngineOptions = field(default_factory=EngineOptions)


@dataclass(frozen=True, slots=True)
class Result:
    """What was written."""

    target: Path
    tallies: Mapping[str, Tally]
    computed: int
    warnings: Sequence[str]

    @property
    def is_complete(self) -> bool:
        """Every answer has every score."""
        return not any(tally.missing for tally in self.tallies.values())


class Job:
    """A pool, the scorers and where to write; use it in a `with`.

    Args:
        pool: From `crowdselect.open_pool`.
        specs: What to score with.
        target: The rewards file to write.
        options: How.
    """

    def __init__(self, pool: Pool, specs: Sequence[Spec], target: str, options: JobOptions) -> None:
        if Path(target).suffix != ".parquet":
            raise OutputError(f"{target}: rewards are written as Parquet; name a file that ends in .parquet")
        self._pool, self._options = pool, options
        self.target = check_output(
            target, inputs=_inputs(pool, specs), overwrite=options.overwrite, folder=False
        )
        check_manifest(manifest_path(self.target))
        own = self.target.with_name(self.target.name + ".ledger")
        self.ledger_path = own if options.ledger is None else Path(options.ledger)
        beside = self.ledger_path.name.removesuffix(".ledger") + ".parts"
        self.parts = Parts(self.ledger_path.with_name(beside))
        self._stack = ExitStack()
        self._ledger: Ledger | None = None
        self._recipes: dict[str, Recipe] = {}
        if options.engine.on_ray:
            check_sharded(specs, pool)
        self.references = _references(pool, specs, options.references)
        self.notes: dict[str, str] = {}
        """Judge → what it takes over from the name that it had before; once there is a plan."""
        self.columns = self._columns(specs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def paid(self) -> bool:
        """Something is computed or asked, and so kept."""
        return any(column.scorer.paid for column in self.columns)

    def plan(self) -> dict[str, Tally]:
        """Count what there is to do; nothing is scored, and no ledger is made."""
        stored = self._stored() if self.paid else None
        endpoints, present = self._judges()
        renamed = find_renamed(self._ledger, endpoints, present=present)
        self.notes = dict(renamed.notes)

        def answered(column: Column, items: Sequence[Item]) -> list[bool]:
            judge = column.scorer
            if self._ledger is None or not isinstance(judge, JudgeScorer):
                return [False] * len(items)
            return judge.answered(items, self._ledger, renamed.before(judge.endpoint))

        return survey(
            self._pool,
            self.columns,
            stored,
            references=self.references,
            retry_failed=self._options.retry_failed,
            answered=answered,
        )

    def run(self, plan: Mapping[str, Tally]) -> Result:
        """Score what is missing and write the rewards file.

        Args:
            plan: From `plan`.

        Raises:
            CrowdselectError: A scorer cannot go on; run again to go on from there.
        """
        warnings: list[str] = []
        computed, on_ray = 0, self._options.engine.on_ray
        if self.paid:
            computed = self._score_on_ray(warnings) if on_ray else self._score(plan, warnings)
        manifest_path(self.target).unlink(missing_ok=True)  # what it says is no longer so
        found_in = all_windows(self._pool) if on_ray else windows(self._pool, references=self.references)
        tallies = write_rewards(found_in, self.columns, self._stored() if self.paid else None, self.target)
        for column in self.columns:
            column.scorer.close()
            warnings += [f"{column.name}: {note}" for note in column.scorer.notes]
            warnings += _doubts(column, tallies[column.name])
        facts = {"references": self.references, "self_test": self._options.self_test, "warnings": warnings}
        write_manifest(self.target, pool=self._pool, columns=self.columns, tallies=tallies, facts=facts)
        return Result(self.target, tallies, computed, warnings)

    def _score(self, plan: Mapping[str, Tally], warnings: list[str]) -> int:
        from crowdselect.terminal import visible, warn

        asking = [column for column in self.columns if column.scorer.paid and not self._computes(column)]
        if asking:
            ledger = self._open()
            endpoints, present = self._judges()
            take_over(ledger, endpoints, present=present, tell=note_of)
            ledger.note("scorers", {column.digest.hex(): dict(column.scorer.settings) for column in asking})
        stored = self._stored()
        stored.take_over()
        retry = self._options.retry_failed
        total = sum(tally.todo for tally in plan.values())
        for column in self.columns:
            announcement = getattr(column.scorer, "announcement", None)
            if announcement is not None and total:
                sys.stderr.write(visible(f"{column.name}: {announcement}") + "\n")
        if self._options.self_test and total:
            for column in self.columns:
                if column.scorer.paid:
                    warnings += _tested(column, try_scorer(column, stored, retry_failed=retry))
        meter = Meter()
        try:
            return score_pool(
                self._pool,
                self.columns,
                stored,
                references=self.references,
                retry_failed=retry,
                total=total,
                progress=meter,
            )
        except KeyboardInterrupt:
            meter.end()
            warn("what was scored is kept: run the same command again to go on")
            raise
        finally:
            meter.end()
            stored.flush()

    def _score_on_ray(self, warnings: list[str]) -> int:
        """Have workers score, column by column, and keep what they say."""
        from crowdselect.terminal import warn

        engine, computed, meter = self._options.engine, 0, Meter()
        self._stored().take_over()
        with cluster(engine):
            if self._options.self_test:
                warnings += self._self_test_on_ray()
            for column in self.columns:
                if not column.scorer.paid:
                    continue
                done = self._stored().done(column.digest, retry_failed=self._options.retry_failed)
                said: set[str] = set()
                try:
                    for scored, notes in score_shards(
                        sources_of(self._pool),
                        column,
                        self._recipes[column.name],
                        done=done,
                        parts=self.parts,
                        engine=engine,
                    ):
                        computed += scored
                        meter(computed)
                        said.update(notes)
                except KeyboardInterrupt:
                    warn("what was scored is kept: run the same command again to go on")
                    raise
                finally:
                    meter.end()
                warnings += [f"{column.name}: {note}" for note in sorted(said)]
        return computed

    def _self_test_on_ray(self) -> list[str]:
        """Try each scorer on a worker of its own; the driver may have no GPU."""
        found, one = [], replace(self._options.engine, workers=1)
        items = built_in_items()
        for column in self.columns:
            if not column.scorer.paid:
                continue
            done = self._stored().done(column.digest, retry_failed=self._options.retry_failed)
            recipe = self._recipes[column.name]
            for _ in score_shards(built_in(items), column, recipe, done=done, parts=self.parts, engine=one):
                pass
            said = self_test(column.name, partial(outcomes_of, column, ledger=self._stored()))
            found += _tested(column, said)
        return found

    def _judges(self) -> tuple[list[Endpoint], set[str]]:
        """Give the judges, and all names of their crowd files."""
        judges = [column.scorer for column in self.columns if isinstance(column.scorer, JudgeScorer)]
        return [judge.endpoint for judge in judges], names_in(*{judge.file for judge in judges})

    def _stored(self) -> Stored:
        """What is scored by now: in the ledger, where there is one, and in parts."""
        if self._ledger is None and self.ledger_path.exists():
            self._open()
        beside = Parts(self.target.with_name(self.target.name + ".parts"))  # where 0.1.0 had those of workers
        others = [] if beside.folder == self.parts.folder else [beside]
        computed = [column.digest for column in self.columns if self._computes(column)]
        return Stored(self._ledger, self.parts, *others, computed=computed)

    def _computes(self, column: Column) -> bool:
        """Say whether a column's scores are computed, not asked for or looked up."""
        return self._recipes[column.name].spec.kind in COMPUTED

    def _open(self) -> Ledger:
        if self._ledger is None:
            self._ledger = self._stack.enter_context(Ledger(self.ledger_path))
        return self._ledger

    def _columns(self, specs: Sequence[Spec]) -> list[Column]:
        named: list[tuple[Spec, str]] = []
        for spec in specs:
            found = (
                [spec.column] if spec.column is not None and spec.kind != "import" else score_columns(spec)
            )
            if spec.column is not None and len(found) > 1:
                raise OptionError(
                    f"`name` {spec.column!r} for {len(found)} columns of {spec.target} ({', '.join(found)}); name one as in "
                    f"import:{spec.target}#{found[0]}"
                )
            named += [(spec, name) for name in found]
        columns = [spec.column or name for spec, name in named]
        check_columns(columns, pool_path=self._pool.path, pool_columns=self._pool.reward_columns)
        made = [
            Column.of(column, self._scorer(spec, name))
            for column, (spec, name) in zip(columns, named, strict=True)
        ]
        local = placed(self._options.local, self._options.engine)
        self._recipes = {
            column.name: Recipe(spec, local, column.digest)
            for column, (spec, _) in zip(made, named, strict=True)
        }
        return made

    def _scorer(self, spec: Spec, name: str) -> Scorer:
        options = self._options
        if spec.kind == "import":
            return ImportScorer(spec, name)
        if spec.kind == "python":
            return FunctionScorer(spec)
        if spec.kind == "http":
            return ServedScorer(spec, options.served)
        if spec.kind == "judge":
            return JudgeScorer(spec, options.judge, ledger=self._open, retry_failed=options.retry_failed)
        return LocalScorer(spec, placed(options.local, options.engine))


def _tested(column: Column, found: list[str]) -> list[str]:
    """Say at once what a self-test found, not in hours; a judge that failed it is not paid for the rest.

    Raises:
        CrowdselectError: It is a judge's.
    """
    from crowdselect.terminal import warn

    for line in found:
        warn(line)
    if found and isinstance(column.scorer, JudgeScorer) and column.scorer.spent is None:
        raise CrowdselectError(
            f"{column.name}: the judge failed the self-test (see the warnings above), so nothing else was sent; "
            "fix that, or pass `self_test=False` to score all the same"
        )
    return found


def _inputs(pool: Pool, specs: Sequence[Spec]) -> list[Path]:
    found = list(pool.files)
    for spec in specs:
        if spec.kind == "import":
            found += resolve(spec.target)[0]
        elif spec.kind in {"judge", "hf"} and Path(spec.target).exists():
            found.append(Path(spec.target))
    return found


def _references(pool: Pool, specs: Sequence[Spec], asked: str | None) -> str | None:
    """Which column holds correct answers; only judges look at it."""
    if not any(spec.kind == "judge" for spec in specs):
        return None
    return asked if asked is not None else "reference" if "reference" in pool.columns else None


def _doubts(column: Column, tally: Tally) -> list[str]:
    """Say what makes a column of scores useless or worse."""
    found = []
    if tally.scored > 1 and tally.lowest == tally.highest:
        found.append(f"{column.name}: all {tally.scored} scores are {tally.lowest:g}, so they tell nothing")
    if tally.truncated:
        side: Any = column.scorer.settings.get("truncation_side")
        where = f" on the {side}" if side else ""
        found.append(f"{column.name}: {tally.truncated} of {tally.answers} conversations were cut{where}")
    return found
