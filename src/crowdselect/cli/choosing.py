"""What every command that chooses does: check where to write, choose, write, say what was done."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdselect.errors import OptionError
from crowdselect.manifests import REPORT

if TYPE_CHECKING:
    from crowdselect.crowd import Crowd
    from crowdselect.engine.here import Run
    from crowdselect.pool.pool import Pool
    from crowdselect.selection.methods import Method
    from crowdselect.selection.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Where and how a selection is written and shown."""

    output: str | None
    overwrite: bool = False
    as_json: bool = False
    dry_run: bool = False
    config: str | None = None
    crowd_path: str | None = None
    format_name: str | None = None
    file_type: str = "jsonl"
    trainer: str | None = None
    license_name: str | None = None
    report: bool = False


def choose_from(
    given: Mapping[str, Any],
    *,
    method: "Method | None" = None,
    run: "Run | None" = None,
    brief: bool = False,
) -> None:
    """Run a command that has `cli.options.pool_options` and `choice_options`.

    Args:
        given: All its values, by click's names; those of `Options` besides.
        method: What gives the score; None = CrowdSelect.
        run: As for `choose_and_write`.
        brief: See there.

    Raises:
        CrowdselectError: As for `crowdselect.select`; or there is no place to write to.
    """
    from crowdselect.pool.pool import open_pool
    from crowdselect.selection.options import Options

    rest = dict(given)
    if rest["output"] is None and not rest["dry_run"]:
        raise OptionError("say where to write with -o DIR, or add --dry-run")
    writing = Writing(**{part.name: rest.pop(part.name) for part in fields(Writing)})
    path, place = rest.pop("pool_path"), {name: rest.pop(name) for name in ("layout", "rewards", "limit")}
    if rest.get("weights", 0) is None:
        del rest["weights"]
    options = Options(cache=not rest.pop("no_cache"), **rest)
    with open_pool(path, seed=options.seed, **place) as pool:
        choose_and_write(pool, options, writing, method=method, run=run, brief=brief)


def choose_and_write(
    pool: "Pool",
    options: "Options",
    writing: Writing,
    *,
    method: "Method | None" = None,
    run: "Run | None" = None,
    brief: bool = False,
) -> None:
    """Check where to write, choose, write, say what was done.

    Args:
        pool: The pool.
        options: How to choose.
        writing: Where to write and how.
        method: What gives the score; None = CrowdSelect.
        run: Who reads the pool's files, one by one; None = this process, and large pools only.
        brief: Say in one line what was written.
    """
    from crowdselect.cli.summary import print_selection
    from crowdselect.progress import Stages
    from crowdselect.selection.folder import check_export, export, file_names
    from crowdselect.selection.methods import CROWD
    from crowdselect.selection.run import select as run_select
    from crowdselect.selection.texts import chosen_of
    from crowdselect.terminal import print_json, say, stage_bar, visible

    check_export(
        writing.format_name, file_type=writing.file_type, pairs=options.pairs, trainer=writing.trainer
    )
    output = writing.output
    if output is not None:
        own = (
            writing.config,
            writing.crowd_path,
            options.include,
            options.exclude,
            options.metrics,
            *options.decontaminate,
            options.embedder.removeprefix("file:"),
        )
        writes = file_names(pool, file_type=writing.file_type, trainer=writing.trainer)
        writes += [REPORT] if writing.report else []
        checked(output, pool, *own, overwrite=writing.overwrite, folder=True, writes=writes)
    stages = Stages(show=stage_bar)
    crowd = read_crowd(writing.crowd_path)
    selection = run_select(pool, options, crowd=crowd, stages=stages, method=method or CROWD, run=run)
    texts = chosen_of(pool, selection, run=run)
    written, told = None, None
    if output is not None and not writing.dry_run:
        with stages("writing"):
            written = export(
                selection,
                texts,
                output,
                format=writing.format_name,
                file_type=writing.file_type,
                trainer=writing.trainer,
                license=writing.license_name,
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
    pool: "Pool",
    *inputs: str | None,
    overwrite: bool,
    folder: bool,
    writes: Iterable[str] = (),
) -> Path:
    """Refuse a place to write to that is, contains or would join an input; gives the absolute path."""
    from crowdselect.writing import check_beside, check_output

    files = [*pool.files, *(Path(file) for file in inputs if file and Path(file).exists())]
    check_beside(output, pool=pool.path, files=pool.files, folder=folder)
    return check_output(output, inputs=files, overwrite=overwrite, folder=folder, writes=writes)


def read_crowd(path: str | None) -> "Crowd | None":
    """Read the file of `--crowd`; None where there is none."""
    from crowdselect.crowd import Crowd

    return None if path is None else Crowd.from_file(path)
