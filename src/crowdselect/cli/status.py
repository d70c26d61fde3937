"""The command `crowdselect status`: what a running command is at, by its output."""

import click

from crowdselect.cli.flags import Command
from crowdselect.cli.options import json_option
from crowdselect.terminal import print_json, say


@click.command(cls=Command, epilog="Example:  crowdselect status pool.parquet")
@click.argument("output", metavar="OUTPUT")
@json_option
def status(output: str, *, as_json: bool) -> None:
    """Show how far the command that writes OUTPUT has come.

    OUTPUT is the file or the folder that the command was told to write; for `run`, the folder of its results. Any
    command that takes longer than a second can be looked at, from any terminal of this machine.
    """
    from crowdselect.watching import status as look

    found = look(output)
    if as_json:
        print_json({"output": str(found.output), "exists": found.exists, "running": list(found.running)})
        return
    for line in found.lines():
        say(line, hang=2)
