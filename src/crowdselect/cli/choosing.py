"""What every command that chooses does: check where to write, choose, write, say what was done."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from crowdselect._optional import check_optional
from crowdselect.cli.config import TWO_WAYS
from crowdselect.cli.following import after_select, comparing, say_next, without_dry_run
from crowdselect.cli.methods import CROWD
from crowdselect.cli.options import made
from crowdselect.cli.summary import print_selection
from crowdselect.cli.values import Share
from crowdselect.crowd import Crowd
from crowdselect.engine.here import EngineOptions, Run
from crowdselect.engine.stream import on_cluster
from crowdselect.errors import OptionError
from crowdselect.hubaccess import first_fetched
from crowdselect.manifests import REPORT, read_manifest
from crowdselect.methods import METHODS, entry_named, method_named
from crowdselect.numeric.responses import fits_of
from crowdselect.pool.files import find_files
from crowdselect.pool.howread import READ_OPTIONS, HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.progress import Stages
from crowdselect.repeats import is_current, made_by
from crowdselect.selection.fitting import AS_USUAL, Fitting
from crowdselect.selection.folder import check_export, check_texts, export, file_names, load_selection
from crowdselect.selection.methods import CROWD as OURS
from crowdselect.selection.methods import OF_STUDENT, Method
from crowdselect.selection.options import Options
from crowdselect.selection.plan import Work, plan, runs_a_model
from crowdselect.selection.rl import CUSTOM
from crowdselect.selection.run import select as run_select
from crowdselect.selection.selection import Selection
from crowdselect.selection.texts import Chosen, chosen_of
from crowdselect.terminal import counted as number_of
from crowdselect.terminal import note, print_json, say, shown_path, stage_bar, table, visible, warn
from crowdselect.writing import check_beside, check_output, made_folder

Shown = Literal["with next steps", "alone", "briefly"]
"""How much is printed of a selection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Which pool is read, and how; see `crowdselect.open_pool`."""

    pool: str
    read: HowRead
    crowd: str | None = None
    """A crowd file: models may be filed under other names in the rewards, and columns of any name may be models."""
    rewards: str | None = None
    limit: int | None = None

    def opened(self, *, seed: int = 0) -> Pool:
        """Open the pool."""
        crowd = read_crowd(self.crowd)
        read = self.read
        if crowd is not None:
            named = (*crowd.names, *crowd.students, *crowd.aliases)
            read = replace(read, aliases=crowd.aliases, known_models=named)
        return open_pool(self.pool, read=read, rewards=self.rewards, limit=self.limit, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """Which pool `crowdselect metrics` reads, and where."""

    source: PoolOptions
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

    source: PoolOptions
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
            raise OptionError(f"`seeds` needs a method that draws at random; `method={self.method}` does not")
        if self.seeds < 1:
            raise OptionError(f"`seeds` is {self.seeds}; wanted at least 1")
        if self.writing.as_json or self.writing.output is None:
            raise OptionError("`seeds` writes folders DIR/seed-S: give -o DIR, and leave out --json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploring:
    """All that `crowdselect explore` is told of a pool."""

    source: PoolOptions
    options: Options
    method: str
    """`NAME[:ARG]` of the registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trying:
    """All that `crowdselect robustness` is told; see `crowdselect.compare.robustness.robustness`."""

    source: PoolOptions
    options: Options
    method: str
    """`NAME[:ARG]` of the registry."""
    crowd: str | None
    config: str | None
    bootstraps: int
    seeds: int
    try_clusters: str
    """Numbers of clusters, with commas."""
    crowd_sizes: bool
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
    given = with_method(given)
    given = counted(given)
    known = {setting.name for entry in METHODS.values() for setting in entry.settings} & given.keys()
    settings = {name: given.pop(name) for name in sorted(known)}
    asked = made(Selecting, given, settings={k: v for k, v in settings.items() if v is not None})
    if asked.writing.report:
        from crowdselect.report.report import check_extra

        check_extra()
    method, fitting = _models(asked)
    planned = asked.writing.dry_run and runs_a_model(asked.options, method)
    if planned and asked.engine.on_ray:
        check_optional("ray", extra="ray")
    with nullcontext() if planned else on_cluster(asked.engine) as run:
        if asked.seeds is None:
            _choose(asked, method, fitting, run)
            return
        folder = Path(str(asked.writing.output))
        first = asked.options.seed
        places = {seed: str(folder / f"seed-{seed}") for seed in range(first, first + asked.seeds)}
        with nullcontext() if asked.writing.dry_run else made_folder(folder):
            for seed, output in places.items():
                writing = replace(asked.writing, output=output)
                one = replace(asked, options=replace(asked.options, seed=seed), writing=writing)
                _choose(one, method, fitting, run, shown="briefly" if seed > first else "alone")
        say_next(without_dry_run("random") if asked.writing.dry_run else comparing([*places.values()]))


def with_method(given: dict[str, Any]) -> dict[str, Any]:
    """Give the options with the method of a student, where one is named and no method is; and the clusters that go with it.

    Raises:
        OptionError: Weights are given, and the method does not weigh.
    """
    context = click.get_current_context()
    named = any(given[name] is not None for name in ("student", "student_answers", "student_column"))
    if named and context.get_parameter_source("method") is ParameterSource.DEFAULT:
        free = context.get_parameter_source("clusters") is ParameterSource.DEFAULT
        given = {**given, "method": OF_STUDENT, **({"clusters": 0} if free else {})}
    if given["weights"] is not None and given["method"] != CROWD:
        raise OptionError(
            f"`weights` count with `method={CROWD}`; `method={given['method']}` does not weigh metrics"
        )
    return given


def counted(given: dict[str, Any]) -> dict[str, Any]:
    """Give the values of a command's options, with a budget in rows where it was a share of the pool's.

    Raises:
        OptionError: Clusters are asked for in two ways.
    """
    source = click.get_current_context().get_parameter_source("clusters")
    if given["cluster_by"] is not None and source is ParameterSource.COMMANDLINE:
        raise OptionError(TWO_WAYS)
    budget = given["budget"]
    if not isinstance(budget, Share):
        return given
    names = {*READ_OPTIONS, "pool", "rewards", "limit", "crowd"}
    with made(PoolOptions, {name: given[name] for name in names}).opened(seed=given["seed"]) as pool:
        return {**given, "budget": budget.of(len(pool.id_array))}


def _models(asked: Selecting) -> tuple[Method, Fitting]:
    """Make the method, and say how answers are scored; a model keeps what it computes where all workers of a cluster find it."""
    settings, own = dict(asked.settings), {}
    fits = fits_of(asked.options.answer) is not None
    if asked.engine.on_ray and (fits or entry_named(asked.method).runs_a_model):
        if asked.writing.output is not None:
            settings["parts"] = f"{asked.writing.output.rstrip('/')}.parts"
        if settings.get("device", "auto") == "auto":
            settings["device"] = "cuda" if asked.engine.gpus_per_worker else "cpu"
    if fits:
        own = {field.name: settings.pop(field.name) for field in fields(Fitting) if field.name in settings}
    return method_named(asked.method, **settings), Fitting(**own)


def _choose(
    asked: Selecting, method: Method, fitting: Fitting, run: Run | None, *, shown: Shown = "with next steps"
) -> None:
    with asked.source.opened(seed=asked.options.seed) as pool:
        choose_and_write(
            pool, asked.options, asked.writing, method=method, fitting=fitting, run=run, shown=shown
        )


def choose_and_write(
    pool: Pool,
    options: Options,
    writing: Writing,
    *,
    method: Method = OURS,
    fitting: Fitting = AS_USUAL,
    run: Run | None = None,
    shown: Shown = "with next steps",
) -> None:
    """Check where to write, choose, write, say what was done.

    Args:
        pool: The pool.
        options: How to choose.
        writing: Where to write and how.
        method: What gives the score.
        fitting: How answers are scored, where `answer` is fits:MODEL.
        run: Who reads the pool's files, one by one; None = this process, and large pools only.
        shown: How much is printed where it is not JSON; `briefly` is one line.
    """
    name = check_export(
        writing.format, file_type=writing.file_type, pairs=options.pairs, trainer=writing.trainer
    )
    check_texts(pool, name, format=writing.format, trainer=writing.trainer)
    output = writing.output
    made_so = _made_by(pool, options, writing, method, fitting)
    if (
        output is not None
        and not writing.dry_run
        and is_current(Path(output), made_so, overwrite=writing.overwrite)
    ):
        _show_current(Path(output), pool, writing)
        return
    if output is not None:
        _check_folder(output, pool, options, writing, method)
    stages = Stages(show=stage_bar)
    crowd = read_crowd(writing.crowd)
    if writing.dry_run and runs_a_model(options, method):
        works = plan(pool, options, method=method, fitting=fitting, crowd=crowd, stages=stages)
        _show_work(works, options, writing)
        return
    selection = run_select(pool, options, crowd=crowd, stages=stages, method=method, fitting=fitting, run=run)
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
                made=made_so,
            )
    if written is not None and writing.report:
        from crowdselect.cli.report import report_beside

        told = report_beside(str(output), pool, stages=stages)
    if writing.as_json:
        _print_json(selection, written)
        return
    _show(selection, texts, folder=None if written is None else str(output), report=told, shown=shown)
    if shown != "briefly" and not options.the_student.named:
        name = CROWD if method.name == OURS.name else method.name
        say(f"about the method {name}: {METHODS[name].evidence}")
    if shown == "with next steps" and written is None:
        say_next(without_dry_run("chosen"))
    elif shown == "with next steps":
        say_next(after_select(str(output), selection, pool=pool.path))


def _check_folder(output: str, pool: Pool, options: Options, writing: Writing, method: Method) -> None:
    """Refuse a folder that must not be written, before any work is done."""
    own = (
        writing.config,
        writing.crowd,
        options.include,
        options.exclude,
        options.metrics,
        options.student_answers,
        *options.decontaminate,
        method.examples,
        options.embedder.removeprefix("file:").removeprefix("hidden:"),
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


def _show(
    selection: Selection, texts: Chosen, *, folder: str | None, report: str | None, shown: Shown
) -> None:
    """Print a selection and where it was written; None = nowhere."""
    if shown == "briefly" and folder is not None:
        rows = number_of(selection.options["budget"], "row")
        say(f"written to {shown_path(folder)}: {rows} to train on, seed {selection.options['seed']}")
        return
    print_selection(selection, texts, folder=None if folder is None else Path(folder))
    written = {} if folder is None else (read_manifest(Path(folder)) or {}).get("export", {})
    cut = written.get("markers_cut", 0)
    if cut:
        warn(f"chat markers such as </s> were cut off the end of {number_of(cut, 'answer')}")
    if written.get("earlier_answers"):
        warn(written["earlier_answers"])
    if report is not None:
        say(report)


def _made_by(
    pool: Pool, options: Options, writing: Writing, method: Method, fitting: Fitting
) -> dict[str, Any]:
    """Describe what makes a selection what it is; where and how fast it is made plays no part."""
    own = method.settings  # first, for they say most; and last, for they count
    told = {**own, **options_of(pool, options), **own}
    fits = fits_of(options.answer)
    told |= {} if fits is None else {"max_length": fitting.max_length}
    named = {"model": told.get("model"), "examples": told.get("examples")}
    named |= {"student model": None if fits is None else fits.model}
    shown = {
        "format": writing.format,
        "file_type": writing.file_type,
        "for": writing.trainer,
        "license": writing.license,
    }
    inputs = inputs_of(pool, options, crowd=writing.crowd)
    inputs |= {name: str(path) for name, path in named.items() if path and Path(path).exists()}
    return made_by("select", {**told, **shown}, inputs)


def options_of(pool: Pool, options: Options) -> dict[str, Any]:
    """Give the options of a choice that change it, for `made_by`, and how its pool is read; no files."""
    told = {"read": pool.read.as_dict(), "limit": pool.limit, **options.as_dict()}
    for name in (*_FILES, "student_answers", "decontaminate", "cache", "trust_remote_code"):
        del told[name]
    return told


_FILES = ("include", "exclude", "metrics")


def inputs_of(
    pool: Pool, options: Options, *, crowd: str | None
) -> dict[str, str | os.PathLike[str] | Sequence[Path] | None]:
    """Give the files that a choice is made from, for `made_by`."""
    embedder = options.embedder.removeprefix("file:").removeprefix("hidden:")
    return {
        **pool_of(pool),
        "crowd": crowd,
        **{name: getattr(options, name) for name in _FILES},
        "student_answers": files_of(options.student_answers),
        "decontaminate": [Path(file) for file in options.decontaminate] or None,
        **({"embedder": embedder} if Path(embedder).exists() else {}),
    }


def files_of(pool: str | None) -> Sequence[Path] | None:
    """Give the files of a second pool, for `made_by`; None where there is none."""
    return None if pool is None else find_files(pool, HowRead()).files


def pool_of(pool: Pool) -> dict[str, str | os.PathLike[str] | Sequence[Path] | None]:
    """Give the files of a pool, for `made_by`."""
    own = [file for file in pool.files if str(file) != pool.rewards_path]
    return {"pool": own, "rewards": pool.rewards_path}


def _show_current(folder: Path, pool: Pool, writing: Writing) -> None:
    """Say that there is nothing to do, but for a page that is asked for and not there."""
    selection = load_selection(folder)
    if writing.as_json:
        _print_json(selection, folder)
        return
    rows = number_of(selection.options["budget"], "row")
    say(f"up to date: {shown_path(str(writing.output))} holds this selection of {rows}")
    if writing.report and not (folder / REPORT).exists():
        from crowdselect.cli.report import report_beside

        say(report_beside(folder, pool, stages=Stages(show=stage_bar)))
    say_next(after_select(str(writing.output), selection, pool=pool.path))


def _show_work(works: Sequence[Work], options: Options, writing: Writing) -> None:
    """Say what models would compute."""
    if writing.as_json:
        print_json({"written": None, "options": options.as_dict(), "plan": [asdict(work) for work in works]})
        return
    table(
        ["to be computed", ">rows", ">in the cache", ">left"],
        [[work.what, work.rows, work.known, work.rows - work.known] for work in works],
    )
    for work in works:
        if not work.is_here:
            note(f"{visible(work.what)}: {first_fetched(work.unasked)}")
    say("no model was run, so nothing was chosen")
    say_next(without_dry_run("chosen"))


def _print_json(selection: Selection, written: Path | None) -> None:
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
