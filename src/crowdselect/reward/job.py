"""One run of `crowdselect reward`: from what was asked to a rewards file."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from crowdselect.collect.ledger import Ledger
from crowdselect.errors import OptionError, OutputError
from crowdselect.files import resolve
from crowdselect.outputs import check_output
from crowdselect.pool import Pool
from crowdselect.reward.function import FunctionScorer
from crowdselect.reward.imported import ImportScorer, score_columns
from crowdselect.reward.judge import JudgeOptions, JudgeScorer
from crowdselect.reward.loading import LocalOptions
from crowdselect.reward.local import LocalScorer
from crowdselect.reward.meter import Meter
from crowdselect.reward.protocol import Scorer
from crowdselect.reward.run import Column, Tally, score_pool, survey, try_scorers
from crowdselect.reward.sealed import manifest_path, write_manifest, write_rewards
from crowdselect.reward.served import ServedOptions, ServedScorer
from crowdselect.reward.specs import Spec, check_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How to score.

    Attributes:
        local: For `hf:`.
        served: For `http:`.
        judge: For `judge:`.
        ledger: Where every score is kept; None = beside the rewards file.
        references: The pool's column of correct answers, for judges; None = `reference` where there is one.
        self_test: Try each scorer on built-in answers first.
        retry_failed: Score again what has failed before.
        overwrite: Replace the rewards file; never the ledger.
    """

    local: LocalOptions = field(default_factory=LocalOptions)
    served: ServedOptions = field(default_factory=ServedOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    ledger: str | None = None
    references: str | None = None
    self_test: bool = True
    retry_failed: bool = False
    overwrite: bool = False


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
        own = self.target.with_name(self.target.name + ".ledger")
        self.ledger_path = own if options.ledger is None else Path(options.ledger)
        self._stack = ExitStack()
        self._ledger: Ledger | None = None
        self.references = _references(pool, specs, options.references)
        self.columns = self._columns(specs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def paid(self) -> bool:
        """Something is computed or asked, so there is a ledger."""
        return any(column.scorer.paid for column in self.columns)

    def plan(self) -> dict[str, Tally]:
        """Count what there is to do; nothing is scored, and no ledger is made."""
        if self.paid and self.ledger_path.exists():
            self._open()
        return survey(
            self._pool,
            self.columns,
            self._ledger,
            references=self.references,
            retry_failed=self._options.retry_failed,
        )

    def run(self, plan: Mapping[str, Tally]) -> Result:
        """Score what is missing and write the rewards file.

        Args:
            plan: From `plan`.

        Raises:
            CrowdselectError: A scorer cannot go on; run again to go on from there.
        """
        warnings: list[str] = []
        computed = 0
        if self.paid:
            computed = self._score(plan, warnings)
        manifest_path(self.target).unlink(missing_ok=True)  # what it says is no longer so
        tallies = write_rewards(
            self._pool, self.columns, self._ledger, self.target, references=self.references
        )
        for column in self.columns:
            column.scorer.close()
            warnings += [f"{column.name}: {note}" for note in column.scorer.notes]
            warnings += _doubts(column, tallies[column.name])
        facts = {"references": self.references, "self_test": self._options.self_test, "warnings": warnings}
        write_manifest(self.target, pool=self._pool, columns=self.columns, tallies=tallies, facts=facts)
        return Result(self.target, tallies, computed, warnings)

    def _score(self, plan: Mapping[str, Tally], warnings: list[str]) -> int:
        from crowdselect.show import visible, warn

        ledger = self._open()
        ledger.note("scorers", {column.digest.hex(): dict(column.scorer.settings) for column in self.columns})
        retry = self._options.retry_failed
        total = sum(tally.todo for tally in plan.values())
        for column in self.columns:
            announcement = getattr(column.scorer, "announcement", None)
            if announcement is not None and total:
                sys.stderr.write(visible(f"{column.name}: {announcement}") + "\n")
        if self._options.self_test and total:
            found = try_scorers(self.columns, ledger, retry_failed=retry)
            for line in found:
                warn(line)  # now, not in hours
            warnings += found
        meter = Meter()
        try:
            return score_pool(
                self._pool,
                self.columns,
                ledger,
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
                    f"--name {spec.column!r} for {len(found)} columns of {spec.target} ({', '.join(found)}); name one as in "
                    f"import:{spec.target}#{found[0]}"
                )
            named += [(spec, name) for name in found]
        columns = [spec.column or name for spec, name in named]
        check_columns(columns, pool_path=self._pool.path, pool_columns=self._pool.reward_columns)
        return [
            Column.of(column, self._scorer(spec, name))
            for column, (spec, name) in zip(columns, named, strict=True)
        ]

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
        return LocalScorer(spec, options.local)


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
