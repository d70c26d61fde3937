"""One run of `crowdselect reward`: from scorers and a pool to a rewards file."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, TextIO

from crowdselect._optional import check_optional
from crowdselect.ask.display import note_of
from crowdselect.ask.endpoints import Endpoint, check_installed
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.renamed import find_renamed, names_in, take_over
from crowdselect.cache import Parts
from crowdselect.engine.here import EngineOptions
from crowdselect.engine.stream import cluster
from crowdselect.errors import CrowdselectError, OptionError, OutputError
from crowdselect.locks import Held, hold
from crowdselect.pool.files import resolve
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress, Stages
from crowdselect.repeats import is_current_file, made_by, made_in
from crowdselect.reward.alike import Alike
from crowdselect.reward.judge import JudgeOptions, JudgeScorer
from crowdselect.reward.loading import LocalOptions
from crowdselect.reward.local import LocalScorer
from crowdselect.reward.own import FunctionScorer, ImportScorer, score_columns
from crowdselect.reward.protocol import Item, Scorer
from crowdselect.reward.run import (
    NO_ANSWER,
    NO_INSTRUCTION,
    Column,
    Reading,
    Tally,
    outcomes_of,
    survey,
    windows,
)
from crowdselect.reward.scoring import (
    COMPUTED,
    WHOLE,
    ScorerSetup,
    Source,
    Way,
    built_in,
    check_on_ray,
    files_of,
    in_this_process,
    on_workers,
    placed,
    score,
    self_test,
    windows_of_files,
)
from crowdselect.reward.sealed import (
    COMMAND,
    is_ours,
    rewards_manifest_path,
    tallies_in,
    write_rewards,
    write_rewards_manifest,
)
from crowdselect.reward.served import ServedOptions, ServedScorer
from crowdselect.reward.specs import Spec, check_columns
from crowdselect.reward.stored import Stored
from crowdselect.reward.verify import VerifyScorer, check_column
from crowdselect.running import running
from crowdselect.writing import check_manifest, check_output, read_manifest

_COLUMNS = "score_columns"  # the names of all columns, among what a file was made by
_TERMINAL, _PIPE = 0.25, 30.0  # seconds between two lines of progress


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How to score.

    Attributes:
        local: Options of `hf:`.
        served: Options of `http:`.
        judge: Options of `judge:`.
        ledger: Where the scores of judges and servers are stored, with computed ones beside it as parts; None =
            beside the rewards file.
        references: The pool's column of correct answers, for judges; None = `reference` where there is one.
        extract: Where verifiers find the final answer, a regular expression; None = the usual places.
        self_test: Test each scorer on built-in answers first.
        retry_failed: Retry scores that failed before.
        keep_going: Go on where all first scores of a reward model are the same, or half of a judge's first replies were cut.
        overwrite: Replace the rewards file; never the ledger.
        engine: Where models run.
    """

    local: LocalOptions = field(default_factory=LocalOptions)
    served: ServedOptions = field(default_factory=ServedOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    ledger: str | None = None
    references: str | None = None
    extract: str | None = None
    self_test: bool = True
    retry_failed: bool = False
    keep_going: bool = False
    overwrite: bool = False
    engine: EngineOptions = field(default_factory=EngineOptions)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run."""

    target: Path
    tallies: Mapping[str, Tally]
    computed: int
    warnings: Sequence[str]
    was_there: bool = False
    """The file held just this, and was left as it is."""

    @property
    def is_complete(self) -> bool:
        """Whether every answer has every score."""
        return not any(tally.missing for tally in self.tallies.values())


class Job:
    """A pool, the scorers and where to write; use it in a `with`.

    Args:
        pool: From `crowdselect.open_pool`.
        specs: What to score with.
        target: The rewards file to write; None is enough for a plan. One that this command wrote is replaced where
            rows, models or samples were added.
        options: How.

    Raises:
        OutputError: The place is refused; or it holds scores of other scorers, or other settings, and `overwrite` is
            not given.
        CrowdselectError: A scorer cannot be used.
    """

    def __init__(self, pool: Pool, specs: Sequence[Spec], target: str | None, options: JobOptions) -> None:
        self._pool, self._options = pool, options
        self._target = None if target is None else _checked(target, pool, specs, overwrite=options.overwrite)
        self._stack = ExitStack()
        self._ledger: Ledger | None = None
        self._setups: dict[str, ScorerSetup] = {}
        if options.engine.on_ray:
            check_optional("ray", extra="ray")
            check_on_ray(specs, pool)
        _check_extract(specs, options.extract)
        self.references = _references(pool, specs, options.references)
        self.notes: dict[str, str] = {}
        """Judge → a line on the answers it takes over from its former name; filled by `plan`."""
        self.columns = self._columns(specs)
        self._made = _made_by(pool, self.columns, self.references)
        self.is_current = self._target is not None and self._is_current(self._target)
        """The rewards file that is there holds every score that can be had, so that there is nothing to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _is_current(self, target: Path) -> bool:
        growing = _growing(self.columns, made_in(target))
        return (
            is_current_file(target, self._made, overwrite=self._options.overwrite, growing=growing)
            and _is_whole(target, self.columns)
            and not self._options.retry_failed
        )

    @property
    def target(self) -> Path:
        """The rewards file.

        Raises:
            OptionError: None is named.
        """
        if self._target is None:
            raise OptionError("say where to write with `output`, or add `dry_run=True`")
        return self._target

    @property
    def ledger_path(self) -> Path:
        """Where the scores of judges and servers are kept."""
        own = self._options.ledger
        return Path(own) if own is not None else self.target.with_name(self.target.name + ".ledger")

    @cached_property
    def parts(self) -> Parts:
        """Where computed scores are kept."""
        beside = self.ledger_path.name.removesuffix(".ledger") + ".parts"
        return Parts(self.ledger_path.with_name(beside))

    @property
    def paid(self) -> bool:
        """Whether any score is computed or asked for, and so stored."""
        return any(column.scorer.paid for column in self.columns)

    def plan(self) -> dict[str, Tally]:
        """Count what there is to do; nothing is scored, and no ledger is made.

        Raises:
            CrowdselectError: This machine lacks something that it takes.
        """
        has_place = self._target is not None or self._options.ledger is not None
        stored = self._stored() if self.paid and has_place else None
        endpoints, present = self._judges()
        renamed = find_renamed(self._ledger, endpoints, present=present)
        self.notes = dict(renamed.notes)

        def answered(column: Column, items: Sequence[Item]) -> list[bool]:
            judge = column.scorer
            if self._ledger is None or not isinstance(judge, JudgeScorer):
                return [False] * len(items)
            return judge.answered(items, self._ledger, renamed.before(judge.endpoint))

        found = survey(
            self._pool,
            self.columns,
            stored,
            retry_failed=self._options.retry_failed,
            answered=answered,
        )
        self._check_machine([column for column in self.columns if found[column.name].todo])
        return found

    def _check_machine(self, todo: Sequence[Column]) -> None:
        """Refuse to score without the packages that it takes; what a local model needs is found as its card is read."""
        for column in todo:
            if isinstance(column.scorer, JudgeScorer):
                check_installed(column.scorer.endpoint)
            elif isinstance(column.scorer, ServedScorer) and self._options.served.tokenizer is not None:
                check_optional("transformers", extra="reward")

    def former(self) -> Result:
        """Read what the rewards file that is there holds; only where `is_current`."""
        manifest = read_manifest(self.target.parent, rewards_manifest_path(self.target).name) or {}
        return Result(self.target, tallies_in(manifest), 0, manifest["warnings"], was_there=True)

    def run(self, plan: Mapping[str, Tally]) -> Result:
        """Compute missing scores and write the rewards file.

        Args:
            plan: From `plan`; empty = not counted.

        Raises:
            OptionError: No rewards file is named.
            OutputError: Another process is writing this file.
            CrowdselectError: A scorer cannot continue; run again to resume.
        """
        with self._locked():
            return self._run(plan)

    def _run(self, plan: Mapping[str, Tally]) -> Result:
        warnings: list[str] = []
        computed, on_ray = 0, self._options.engine.on_ray
        if self.paid:
            total = sum(tally.todo for tally in plan.values()) if plan else None
            computed = self._score(total, warnings)
        rewards_manifest_path(self.target).unlink(missing_ok=True)  # what it says is no longer so
        readings = [column.reading for column in self.columns]
        found_in = windows_of_files(self._pool, readings) if on_ray else windows(self._pool, readings)
        tallies = write_rewards(
            found_in,
            self.columns,
            self._stored() if self.paid else None,
            self.target,
            students=self._pool.students,
            made=self._made,
        )
        for column in self.columns:
            column.scorer.close()
            warnings += [f"{column.name}: {note}" for note in column.scorer.notes]
            warnings += _doubts(column, tallies[column.name])
        facts = {"references": self.references, "self_test": self._options.self_test, "warnings": warnings}
        write_rewards_manifest(
            self.target, pool=self._pool, columns=self.columns, tallies=tallies, facts=facts
        )
        return Result(self.target, tallies, computed, warnings)

    def _score(self, total: int | None, warnings: list[str]) -> int:
        """Compute missing scores, column by column; return how many were computed.

        Args:
            total: How many there are; None = not counted.
            warnings: The scorers' notes are added to it.
        """
        from crowdselect.terminal import warn

        self._begin(total)
        stored = self._stored()
        stored.take_from_ledger()
        columns = [column for column in self.columns if column.scorer.paid]
        engine = self._options.engine
        with cluster(engine) if engine.on_ray else nullcontext(), Stages()("scoring") as report:
            meter = Meter(total, report=report)
            try:
                if self._options.self_test and total != 0:
                    for column in columns:
                        if not isinstance(column.scorer, VerifyScorer):
                            warnings += self._tested(column, stored)
                for column in columns:
                    notes_seen: set[str] = set()
                    for scored, notes in score(self._sources, self._way(column, stored, meter.add)):
                        if engine.on_ray:  # in this process progress is reported while scoring
                            meter.add(scored)
                        notes_seen.update(notes)
                    warnings += [f"{column.name}: {note}" for note in sorted(notes_seen)]
            except KeyboardInterrupt:
                meter.end()
                warn("scores so far are kept: run the same command again to resume")
                raise
            finally:
                meter.end()
                stored.flush()
        return meter.done

    def _begin(self, total: int | None) -> None:
        """Before scoring: move renamed judges' answers to their new names, and announce who is asked."""
        from crowdselect.terminal import note, visible

        asking = [column for column in self.columns if column.scorer.paid and not self._computes(column)]
        if asking:
            ledger = self._open()
            endpoints, present = self._judges()
            take_over(ledger, endpoints, present=present, tell=note_of)
            ledger.note("scorers", {column.digest.hex(): dict(column.scorer.settings) for column in asking})
        for column in self.columns:
            announcement = getattr(column.scorer, "announcement", None)
            if announcement is not None and total:
                note(visible(f"{column.name}: {announcement}"))

    @property
    def _sources(self) -> list[Source]:
        return files_of(self._pool) if self._options.engine.on_ray else [WHOLE]

    def _way(
        self, column: Column, stored: Stored, progress: Callable[[int], None], *, workers: int | None = None
    ) -> Way:
        """Return how a column is scored; `workers` overrides the number in the options."""
        options = self._options
        retry = options.retry_failed
        setup = self._setups[column.name]
        alike = Alike.of(column.name, setup.spec.kind, keep_going=options.keep_going)
        if not options.engine.on_ray:
            return in_this_process(
                column,
                self._pool,
                stored,
                retry_failed=retry,
                progress=progress,
                alike=alike,
            )
        engine = options.engine if workers is None else replace(options.engine, workers=workers)
        return on_workers(column, setup, stored, self.parts, retry_failed=retry, alike=alike, engine=engine)

    def _tested(self, column: Column, stored: Stored) -> list[str]:
        """Test a scorer on the built-in conversations, on a worker if workers score; its scores are stored.

        Warnings are printed at once, before a long run.

        Raises:
            CrowdselectError: A judge failed the test, so nothing more is paid for.
        """
        from crowdselect.terminal import warn

        for _ in score([built_in()], self._way(column, stored, lambda _: None, workers=1)):
            pass
        if self._options.engine.on_ray:
            stored.read_again()
        warnings = self_test(column.name, partial(outcomes_of, column, ledger=stored))
        for line in warnings:
            warn(line)
        if warnings and isinstance(column.scorer, JudgeScorer) and column.scorer.spent is None:
            raise CrowdselectError(
                f"{column.name}: the judge failed the self-test (see the warnings above), so nothing else was sent; "
                "fix that, or pass `self_test=False` to score anyway"
            )
        return warnings

    def _locked(self) -> Held:
        """Lock the rewards file: a second run that scores into it at the same time is refused."""
        lock_path = self.target.with_name(self.target.name + ".lock")
        try:
            lock = hold(lock_path)
        except OSError as error:
            raise OutputError(f"{lock_path}: cannot be written: {error.strerror or error}") from error
        if lock is None:
            raise OutputError(
                f"{self.target}: another process is scoring into this file; wait until it ends, or choose another output"
            )
        return lock

    def _judges(self) -> tuple[list[Endpoint], set[str]]:
        """Return the judges, and all names in their crowd files."""
        judges = [column.scorer for column in self.columns if isinstance(column.scorer, JudgeScorer)]
        return [judge.endpoint for judge in judges], names_in(*{judge.file for judge in judges})

    def _stored(self) -> Stored:
        """Return the scores so far: in the ledger, if there is one, and in parts."""
        if self._ledger is None and self.ledger_path.exists():
            self._open()
        others = []
        if self._target is not None:  # beside it 0.1.0 had the parts of workers
            beside = Parts(self._target.with_name(self._target.name + ".parts"))
            others = [] if beside.folder == self.parts.folder else [beside]
        computed = [column.digest for column in self.columns if self._computes(column)]
        return Stored(self._ledger, self.parts, *others, computed=computed)

    def _computes(self, column: Column) -> bool:
        """Return whether a column's scores are computed, not asked for or looked up."""
        return self._setups[column.name].spec.kind in COMPUTED

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
            Column.of(column, self._scorer(spec, name), self._reading(spec))
            for column, (spec, name) in zip(columns, named, strict=True)
        ]
        local = placed(self._options.local, self._options.engine)
        self._setups = {
            column.name: ScorerSetup(spec, local, column.digest, self._options.extract)
            for column, (spec, _) in zip(made, named, strict=True)
        }
        return made

    def _reading(self, spec: Spec) -> Reading:
        """Say what of the pool a scorer reads besides conversations."""
        if spec.kind == "verify":
            check_column(spec.part or "", self._pool.columns, path=self._pool.path)
            return Reading(spec.part, whole_only=True)
        return Reading(self.references if spec.kind == "judge" else None)

    def _scorer(self, spec: Spec, name: str) -> Scorer:
        options = self._options
        if spec.kind == "import":
            return ImportScorer(spec, name)
        if spec.kind == "python":
            return FunctionScorer(spec)
        if spec.kind == "verify":
            verifier = VerifyScorer(spec, options.extract)
            self._stack.callback(verifier.close)
            return verifier
        if spec.kind == "http":
            return ServedScorer(spec, options.served)
        if spec.kind == "judge":
            return JudgeScorer(
                spec,
                options.judge,
                ledger=self._open,
                retry_failed=options.retry_failed,
                keep_going=options.keep_going,
            )
        return LocalScorer(spec, placed(options.local, options.engine))


def _check_extract(specs: Sequence[Spec], extract: str | None) -> None:
    if extract is not None and not any(spec.kind == "verify" for spec in specs):
        raise OptionError("`extract` is for verifiers: add `with` verify:NAME#COLUMN, or leave it out")


def _checked(target: str, pool: Pool, specs: Sequence[Spec], *, overwrite: bool) -> Path:
    """Refuse a place for the rewards, before a model is looked at; whether a file of ours may be replaced is seen later."""
    if Path(target).suffix != ".parquet":
        raise OutputError(f"{target}: rewards are written as Parquet; name a file that ends in .parquet")
    may_replace = overwrite or is_ours(Path(target))
    place = check_output(target, inputs=_inputs(pool, specs), overwrite=may_replace, folder=False)
    check_manifest(rewards_manifest_path(place))
    return place


def _made_by(pool: Pool, columns: Sequence[Column], references: str | None) -> dict[str, Any]:
    """Describe what a rewards file is made by."""
    told: dict[str, Any] = {_COLUMNS: [column.name for column in columns]}
    for column in columns:
        told |= _flat(column.name, column.scorer.settings)
    told |= {"references": references, "read": pool.read.as_dict(), "limit": pool.limit}
    return made_by(COMMAND, told, {"pool": pool.files})


def _growing(columns: Sequence[Column], before: Mapping[str, Any] | None) -> set[str]:
    """Name what may have been added to since a file was made: rows, models, a judge's samples, an imported file, columns."""
    found = {f"{column.name}.{setting}" for column in columns for setting in ("samples", "file")}
    options = (before or {}).get("options")
    had = options.get(_COLUMNS) if isinstance(options, dict) else None
    if isinstance(had, list) and all(name in {column.name for column in columns} for name in had):
        new = [column for column in columns if column.name not in had]
        found |= {
            _COLUMNS,
            *(place for column in new for place in _flat(column.name, column.scorer.settings)),
        }
    return found | {"pool", "limit"}


def _flat(name: str, value: object) -> dict[str, Any]:
    """Give nested settings as `NAME.SETTING`, so that a message can name the one that differs."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {place: one for key in value for place, one in _flat(f"{name}.{key}", value[key]).items()}


def _is_whole(target: Path, columns: Sequence[Column]) -> bool:
    """Say whether nothing is missing in a rewards file that may be there another time."""
    manifest = read_manifest(target.parent, rewards_manifest_path(target).name)
    if manifest is None:  # a run was killed before it wrote this
        return False
    found = tallies_in(manifest)
    return all(
        not column.scorer.paid
        or isinstance(column.scorer, VerifyScorer)  # checking again says the same
        or found[column.name].missing.keys() <= {NO_ANSWER, NO_INSTRUCTION}
        for column in columns
    )


def _inputs(pool: Pool, specs: Sequence[Spec]) -> list[Path]:
    found = list(pool.files)
    for spec in specs:
        if spec.kind == "import":
            found += resolve(spec.target)[0]
        elif spec.kind in {"judge", "hf"} and Path(spec.target).exists():
            found.append(Path(spec.target))
    return found


def _references(pool: Pool, specs: Sequence[Spec], named: str | None) -> str | None:
    """Return the column of correct answers; only judges use it."""
    if not any(spec.kind == "judge" for spec in specs):
        return None
    return named if named is not None else "reference" if "reference" in pool.columns else None


def _doubts(column: Column, tally: Tally) -> list[str]:
    """Return warnings about a column of scores that may be useless."""
    warnings = []
    if tally.scored > 1 and tally.lowest == tally.highest:
        warnings.append(
            f"{column.name}: all {tally.scored} scores are {tally.lowest:g}, so they are not informative"
        )
    if tally.truncated:
        side: Any = column.scorer.settings.get("truncation_side")
        where = f" on the {side}" if side else ""
        warnings.append(f"{column.name}: {tally.truncated} of {tally.answers} conversations were cut{where}")
    return warnings


class Meter:
    """Shows progress: updated in place on a terminal, a line every half minute elsewhere.

    Example:
        >>> import io
        >>> out = io.StringIO()
        >>> meter = Meter(1000, stream=out, clock=iter([0.0, 60.0]).__next__)
        >>> meter.add(300)
        >>> print(out.getvalue().strip())
        scored 300 of 1,000, 5.0/s, 0:02:20 left
    """

    def __init__(
        self,
        total: int | None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] | None = None,
        report: Progress | None = None,
    ) -> None:
        """Start; `total` is the number to do, None = not counted; `report` shows it elsewhere too."""
        self.done = 0
        self._report = report
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._clock = time.monotonic if clock is None else clock
        self._terminal = self._stream.isatty()
        self._began = self._said = self._clock()
        self._at = running()
        self._shown = False

    def add(self, count: int) -> None:
        """Add `count`, and show progress from time to time."""
        self.done += count
        self._at.tell("scoring", self.done, self._total)
        if self._report is not None and self._total is not None:
            self._report(self.done, max(self._total, self.done))
        now = self._clock()
        if now - self._said < (_TERMINAL if self._terminal else _PIPE):
            return
        self._said = now
        rate = self.done / max(now - self._began, 1e-9)
        text = f"scored {self.done:,}, {rate:,.1f}/s"
        if self._total is not None:
            total = max(self._total, self.done)
            left = (total - self.done) / rate if rate else 0.0
            text = f"scored {self.done:,} of {total:,}, {rate:,.1f}/s, {_clock(left)} left"
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._shown = True

    def end(self) -> None:
        """Clear the line on a terminal."""
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
