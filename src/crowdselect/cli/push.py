"""The command `crowdselect push`: a finished selection as a data set of the Hub."""

import sys

import click

from crowdselect._optional import optional
from crowdselect.cli.flags import Command
from crowdselect.cli.options import dry_run_option, option


@click.command(cls=Command, epilog="Example:  crowdselect push chosen my-name/chosen --license mit --dry-run")
@click.argument("folder", metavar="DIR")
@click.argument("repo", metavar="OWNER/NAME")
@option(
    "--license", metavar="NAME", help="The data's licence, as the Hub writes it; needed if the card has none."
)
@option("--public", is_flag=True, help="For everybody to see; else only for you, or for your organisation.")
@dry_run_option("Show which files would go up, and which stay here; send nothing.")
@option("--overwrite", is_flag=True, help="Replace files of the same names in a data set that is there.")
def push(
    *,
    folder: str,
    repo: str,
    license: str | None,  # noqa: A002  (the option's name)
    public: bool,
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Upload a selection to the Hub (extra: hub).

    It becomes a data set, private unless told otherwise. The card, the training file, the metrics and reasons of all
    rows and the files for a trainer go up, in one commit. The manifest stays here, because it holds paths of this
    machine; so do pages and files of your own. After a broken upload the same command goes on. Nothing is ever
    deleted there.
    """
    from crowdselect.cli.following import say_next, without_dry_run
    from crowdselect.errors import MissingExtraError, OptionError
    from crowdselect.selection.push import check_token, upload_of
    from crowdselect.selection.push import push as send
    from crowdselect.terminal import counted, remark, say, show, table, visible

    upload = upload_of(folder, repo, license=license)
    kind = "public" if public else "private"
    if dry_run:
        sizes = upload.sizes()
        say(f"would go to the {kind} data set {visible(upload.repo)} of the Hub:")
        table(["file", ">bytes"], [[name, f"{size:,}"] for name, size in sizes.items()])
        say(f"{counted(len(sizes), 'file')}, {sum(sizes.values()):,} bytes")
        for name, why in upload.left.items():
            say(f"stays here: {visible(name)} ({why})")
        try:
            check_token()
        except (MissingExtraError, OptionError) as error:
            remark(f"nothing is sent now, but to send it: {error}")
        say_next(without_dry_run())
        return
    if not sys.stderr.isatty():
        optional("huggingface_hub.utils", extra="hub").disable_progress_bars()  # of large files
    done = send(upload, public=public, overwrite=overwrite)
    for line in done.notes:
        remark(line)
    if public and done.private:
        remark(f"{upload.repo} was there and stays private; its page on the Hub changes that")
    what = "written to" if done.changed else "up to date:"
    say(f"{what} {visible(done.address)} ({'private' if done.private else 'public'})")
    if any(name.startswith("train.") for name in upload.files):
        say("\nload the training rows:")
        show(f'  datasets.load_dataset("{visible(upload.repo)}", split="train")')
