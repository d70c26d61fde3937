"""What every command that chooses does: check where to write, choose, write, say what was done."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdselect.cli.options import CROWD, made
from crowdselect.cli.summary import print_selection
from crowdselect.crowd import Crowd
from crowdselect.engine.here import Run
from crowdselect.engine.options import EngineOptions
from crowdselect.engine.stream import on_cluster
from crowdselect.errors import OptionError
from crowdselect.manifests import REPORT
from crowdselect.methods import METHODS, entry_named, method_named
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.progress import Stages
from crowdselect.selection.folder import check_export, export, file_names
from crowdselect.selection.methods import CROWD as OURS
from crowdselect.selection.methods import Method
from crowdselect.selection.options import Options
from crowdselect.selection.rl import CUSTOM
from crowdselect.selection.run import select as run_select
from crowdselect.selection.texts import chosen_of
from crowdselect.terminal import print_json, say, stage_bar, visible
from crowdselect.writing import check_beside, check_output, made_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which pool is read, and how; see `crowdselect.open_pool`."""

    pool: str
    read: HowRead
    crowd: str | None = None
    """A crowd file: models may be filed under other names in the rewards."""
    rewards: str | None = None
    limit: int | None = None

    def opened(self, *, seed: int = 0) -> Pool:
        """Open the pool."""
        crowd = read_crowd(self.crowd)
        read = self.read if crowd is None else replace(self.read, aliases=crowd.aliases)
        return open_pool(self.pool, read=read, rewards=self.rewards, limit=self.limit, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """Which pool `crowdselect metrics` reads, and where."""

    source: Source
    engine: EngineOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Where and how a selection is written and shown; and the files that it is made by, which are not to be hit."""

    output: str | None
    overwrite: bool = False
    as_json: bool = False
    dry_run: bool = False
    config: str | None = None
    crowd: str | None = None
    format: str | None = None
    file_type: str = "jsonl"
    trainer: str | None = None
    license: str | None = None
    report: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Selecting:
    """All that `crowdselect select` is told."""

    source: Source
    options: Options
    writing: Writing
    engine: EngineOptions
    method: str
    """`NAME[:ARG]` of the registry."""
    settings: Mapping[str, Any]
    """Those of the method that are given, as `method_named` takes them."""
    seeds: int | None = None
    """Draws to make, each in a folder of its own; None = the one of `options.seed`, in the folder itself."""

    def __post_init__(self) -> None:
        if self.writing.output is None and not self.writing.dry_run:
            raise OptionError("say where to write with -o DIR, or add --dry-run")
        if self.seeds is None:
            return
        if not entry_named(self.method).drawn:
            raise OptionError(f"`seeds` is for a method that draws; `method={self.method}` gives one choice")
        if self.seeds < 1:
            raise OptionError(f"`seeds={self.seeds}` is not positive; wanted at least 1")
        if self.writing.as_json or self.writing.output is None:
            raise OptionError("`seeds` writes folders DIR/seed-S: give -o DIR, and leave out --json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trying:
    """All that `crowdselect robustness` is told; see `crowdselect.compare.robustness.robustness`."""

    source: Source
    options: Options
    crowd: str | None
    config: str | None
    bootstraps: int
    seeds: int
    try_clusters: str
    """Numbers of clusters, with commas."""
    output: str | None
    overwrite: bool
    as_json: bool


def choose(given: dict[str, Any]) -> None:
    """Run `crowdselect select`.

    Args:
        given: The values of its options, by click's names.

    Raises:
        CrowdselectError: As for `crowdselect.select`; or there is no place to write to.
    """
    if given["weights"] is not None and given["method"] != CROWD:
        raise OptionError(
            f"`weights` count with `method={CROWD}`; `method={given['method']}` does not weigh metrics"
        )
    known = {setting.name for entry in METHODS.values() for setting in entry.settings} & given.keys()
    settings = {name: given.pop(name) for name in sorted(known)}
    asked = made(Selecting, given, settings={k: v for k, v in settings.items() if v is not None})
    method = _method(asked)
    with on_cluster(asked.engine) as run:
        if asked.seeds is None:
            _choose(asked, method, run)
            return
        folder = Path(str(asked.writing.output))
        first = asked.options.seed
        with nullcontext() if asked.writing.dry_run else made_folder(folder):
            for seed in range(first, first + asked.seeds):
                writing = replace(asked.writing, output=str(folder / f"seed-{seed}"))
                one = replace(asked, options=replace(asked.options, seed=seed), writing=writing)
                _choose(one, method, run, brief=seed > first)


def _method(asked: Selecting) -> Method:
    """Make the method; one that runs a model keeps what it computes where all workers of a cluster find it."""
    settings = dict(asked.settings)
    if asked.engine.on_ray and entry_named(asked.method).runs_a_model:
        if asked.writing.output is not None:
            settings["parts"] = f"{asked.writing.output.rstrip('/')}.parts"
        if settings.get("device", "auto") == "auto":
            settings["device"] = "cuda" if asked.engine.gpus_per_worker else "cpu"
    return method_named(asked.method, **settings)


def _choose(asked: Selecting, method: Method, run: Run | None, *, brief: bool = False) -> None:
    with asked.source.opened(seed=asked.options.seed) as pool:
        choose_and_write(pool, asked.options, asked.writing, method=method, run=run, brief=brief)


def choose_and_write(
    pool: Pool,
    options: Options,
    writing: Writing,
    *,
    method: Method = OURS,
    run: Run | None = None,
    brief: bool = False,
) -> None:
    """Check where to write, choose, write, say what was done.

    Args:
        pool: The pool.
        options: How to choose.
        writing: Where to write and how.
        method: What gives the score.
        run: Who reads the pool's files, one by one; None = this process, and large pools only.
        brief: Say in one line what was written.
    """
    check_export(writing.format, file_type=writing.file_type, pairs=options.pairs, trainer=writing.trainer)
    output = writing.output
    if output is not None:
        own = (
            writing.config,
            writing.crowd,
            options.include,
            options.exclude,
            options.metrics,
            *options.decontaminate,
            options.embedder.removeprefix("file:"),
        )
        writes = file_names(
            pool,
            file_type=writing.file_type,
            trainer=writing.trainer,
            name=writing.format,
            custom=options.source == CUSTOM,
        )
        writes += [REPORT] if writing.report else []
        checked(output, pool, *own, overwrite=writing.overwrite, folder=True, writes=writes)
    stages = Stages(show=stage_bar)
    crowd = read_crowd(writing.crowd)
    selection = run_select(pool, options, crowd=crowd, stages=stages, method=method, run=run)
    texts = chosen_of(pool, selection, run=run)
    written, told = None, None
    if output is not None and not writing.dry_run:
        with stages("writing"):
            written = export(
                selection,
                texts,
                output,
                format=writing.format,
                file_type=writing.file_type,
                trainer=writing.trainer,
                license=writing.license,
                overwrite=writing.overwrite,
            )
    if written is not None and writing.report:
        from crowdselect.cli.report import report_beside

        told = report_beside(str(output), pool, stages=stages)
    if writing.as_json:
        print_json(
            {
                "written": None if written is None else str(written),
                "options": selection.options,
                "facts": selection.facts,
                "counts": selection.counts(),
                "warnings": selection.warnings,
                "seconds": selection.seconds,
                "chosen": selection.rows(),
            }
        )
        return
    if brief and written is not None:
        say(f"written to {visible(str(output))}: {options.budget} rows to train on, seed {options.seed}")
        return
    print_selection(selection, texts, folder=None if written is None else Path(str(output)))
    if told is not None:
        say(told)


def checked(
    output: str,
    pool: Pool,
    *inputs: str | None,
    overwrite: bool,
    folder: bool,
    writes: Iterable[str] = (),
) -> Path:
    """Refuse a place to write to that is, contains or would join an input; gives the absolute path."""
    files = [*pool.files, *(Path(file) for file in inputs if file and Path(file).exists())]
    check_beside(output, pool=pool.path, files=pool.files, folder=folder)
    return check_output(output, inputs=files, overwrite=overwrite, folder=folder, writes=writes)


def read_crowd(path: str | None) -> Crowd | None:
    """Read the file of `--crowd`; None where there is none."""
    return None if path is None else Crowd.from_file(path)
