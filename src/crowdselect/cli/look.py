"""Commands that only show or rewrite what is there: `view`, `export`, `completion`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crowdselect.cli.flags import Command
from crowdselect.cli.options import FOR_HELP, crowd_option, option, pool_place_option, reward_option, section
from crowdselect.manifests import MANIFEST
from crowdselect.terminal import counted, folded, say, show, shown_path, visible

if TYPE_CHECKING:
    from crowdselect.selection.browse import Page
    from crowdselect.selection.selection import Selection

_SHORT = 280  # characters of a text where several rows are shown
_SHELLS = ("bash", "zsh", "fish")

_output = section("Output")


@click.command(
    cls=Command, epilog="Example:  crowdselect view pool.parquet --where 'difficulty > 0.5 and topic = maths'"
)
@click.argument("place", metavar="POOL|DIR")
@option("--id", "ids", metavar="ID", multiple=True, help="This row, its texts whole; may be repeated.")
@option(
    "--where",
    metavar="CONDITIONS",
    help="NAME, a comparison (= != < <= > >=) and a value, joined by `and`; names as `inspect` shows them.",
)
@option("--rows", type=int, metavar="N", default=20, show_default=True, help="At most so many.")
@pool_place_option
@crowd_option
@reward_option
def view(
    *,
    place: str,
    ids: tuple[str, ...],
    where: str | None,
    rows: int,
    pool: str | None,
    crowd: str | None,
    reward: str | None,
) -> None:
    """Show rows with every model's answer and reward.

    Of several samples of a model the rewards are shown, and the text of the one that is trained on, or else of the best; with
    `--id` all texts. Of a selection (DIR) the chosen rows are shown; with `--where`, all that meet it, the chosen first. A missing value
    meets no condition.
    """
    from crowdselect.cli.choosing import read_crowd
    from crowdselect.errors import InputError, OptionError
    from crowdselect.pool.pool import open_pool
    from crowdselect.selection.browse import Browser
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import reopen_pool
    from crowdselect.terminal import warn

    selection = load_selection(place) if (Path(place) / MANIFEST).is_file() else None
    if rows < 1:
        raise OptionError(f"`rows` is {rows}; wanted at least 1")
    opened, problem = (open_pool(place), None) if selection is None else reopen_pool(selection, pool)
    if problem is not None:
        warn(problem)
    if opened is None:
        raise InputError(
            f"{place}: its rows cannot be shown without the pool; pass its current path as `pool`"
        )
    with opened:
        browser = Browser(opened, selection=selection, reward=reward, crowd=read_crowd(crowd))
        found = browser.find(where=where, ids=ids)
        shown = found[:rows]
        _paged("\n".join(_page(one, whole=bool(ids))) + "\n\n" for one in browser.pages(shown))
        more = "" if len(shown) == len(found) else f"{len(shown):,} of the "
        say(
            f"{more}{len(found):,} found, of {counted(len(opened.ids), 'row')}{'; `rows` shows more' if more else ''}"
        )


@click.command(cls=Command, epilog="Example:  crowdselect export chosen --format alpaca -o chosen-alpaca")
@click.argument("folder", metavar="DIR")
@option("-o", "--output", metavar="OUT", required=True, help="The folder to write.")
@option("--format", metavar="NAME", help="The form of the training file.  [default: messages, for pairs dpo]")
@option("--for", "trainer", metavar="TRAINER", help=FOR_HELP)
@option(
    "--file-type",
    metavar="jsonl|parquet",
    default="jsonl",
    show_default=True,
    help="Type of the training file.",
)
@option("--license", metavar="NAME", help="The data's licence, for the card.  [default: unknown]")
@pool_place_option
@_output("--overwrite", is_flag=True, help="Replace an earlier result once the new one is complete.")
def export(
    *,
    folder: str,
    output: str,
    format: str | None,  # noqa: A002  (the option's name)
    trainer: str | None,
    file_type: str,
    license: str | None,  # noqa: A002  (the option's name)
    pool: str | None,
    overwrite: bool,
) -> None:
    """Write a finished selection in another form.

    Preference pairs are made as rows are chosen: `--format dpo` needs a selection by `select ... --pairs best-worst`, which
    writes this format by itself.
    """
    from crowdselect.cli.entry import say_current
    from crowdselect.cli.following import say_next, training
    from crowdselect.errors import InputError, OptionError
    from crowdselect.manifests import own_files, read_manifest
    from crowdselect.repeats import is_current, made_by
    from crowdselect.selection.folder import export as write
    from crowdselect.selection.folder import load_selection
    from crowdselect.selection.texts import reopen_pool
    from crowdselect.terminal import warn

    selection = load_selection(folder)
    if format == "dpo" and selection.options["pairs"] is None:
        raise OptionError(
            f"{folder}: this selection has no preference pairs; they are made as rows are chosen, so {_paired(folder, selection)}"
        )
    opened, problem = reopen_pool(selection, pool)
    if opened is None or problem is not None:
        if opened is not None:
            opened.close()
        raise InputError(f"{folder}: {problem}")
    told = {"format": format, "file_type": file_type, "for": trainer, "license": license}
    with opened:
        made = made_by("export", told, {"folder": folder, "pool": opened.files})
        if is_current(Path(output), made, overwrite=overwrite):
            say_current(output)
            return
        written = write(
            selection,
            opened,
            output,
            format=format,
            file_type=file_type,
            trainer=trainer,
            license=license,
            overwrite=overwrite,
            made=made,
        )
    say(f"written to {shown_path(output)}: {', '.join(sorted(own_files(written)))}")
    earlier = (read_manifest(written) or {}).get("export", {}).get("earlier_answers")
    if earlier:
        warn(earlier)
    say_next(training(output))


def _paired(folder: str, selection: "Selection") -> str:
    """Say how to choose the same with pairs."""
    from crowdselect.cli.again import pairing, used_crowd_file
    from crowdselect.cli.main import select
    from crowdselect.manifests import read_manifest

    line = pairing(select, folder, selection)
    if line is None:
        return "choose again with `pairs='best-worst'` among its `crowdselect.Options`"
    crowd = used_crowd_file(selection, read_manifest(Path(folder)) or {})
    too = "; add the crowd file that it was chosen by, --crowd FILE" if crowd else ""
    return f"add --pairs best-worst (or within-model) to the command that chose it, as in `{line}`{too}"


@click.command(cls=Command, epilog="Example:  crowdselect completion bash >> ~/.bashrc")
@click.argument("shell", metavar="|".join(_SHELLS), type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a completion script for a shell.

    Put it into the shell's start file: it completes commands and options.
    """
    from click.shell_completion import get_completion_class

    from crowdselect.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    show(found(cli, {}, "crowdselect", "_CROWDSELECT_COMPLETE").source())


def _paged(texts: Iterable[str]) -> None:
    """Show texts through the terminal's pager; in a pipe as they come."""
    if sys.stdout.isatty():
        click.echo_via_pager(texts)
        return
    for text in texts:
        show(text.removesuffix("\n"))


def _page(row: "Page", *, whole: bool) -> Iterator[str]:
    """Lay one row out: its numbers, its instruction, then an answer after the other, the best-rewarded first."""
    yield f"── {visible(row.id)}"
    numbers = ", ".join(f"{visible(name)} {_plain(value)}" for name, value in row.numbers.items())
    if numbers:
        yield from folded(numbers, indent=3)
    if row.instruction is not None:
        yield ""
        yield from _text(row.instruction, whole=whole, indent=3)
    for answer in row.answers:
        yield ""
        model = visible(answer.model) + (" (the student)" if answer.is_student else "")
        if not answer.samples:
            yield f"   {model}  {_reward(answer.reward)}"
            yield from _text(answer.text or "(no text)", whole=whole, indent=5)
            continue
        samples = counted(len(answer.samples), "sample")
        if answer.reward is not None and len(answer.samples) > 1:
            own = ("-" if each.reward is None else f"{each.reward:.4g}" for each in answer.samples)
            samples = f"mean of {samples}: {', '.join(own)}"
        yield from folded(f"{model}  {_reward(answer.reward)}, {samples}", indent=3)
        for sample in answer.samples if whole else answer.shown:
            use = f", {sample.use}" if sample.use else ""
            yield f"     sample {sample.number:g}  {_reward(sample.reward)}{use}"
            yield from _text(sample.text or "(no text)", whole=whole, indent=7)


def _reward(reward: float | None) -> str:
    return "no reward" if reward is None else f"{reward:.4g}"


def _text(text: str, *, whole: bool, indent: int) -> Iterator[str]:
    """Fold a text to the terminal; whole it keeps its lines."""
    for line in text.splitlines() if whole else [visible(text, width=_SHORT)]:
        yield from folded(visible(line), indent=indent)


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else visible(value)
