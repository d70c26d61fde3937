"""How a command begins and ends: streams that can take any text, errors as one line, exit codes."""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

import click

from crowdselect.errors import CrowdselectError
from crowdselect.show import visible


def run_command(command: click.Command) -> NoReturn:
    """Run a command of the command line and end the process.

    Exit codes: 0 done; 2 bad input, refused output, full disk and the like, with one line `error: ...` on
    standard error; 130 stopped by Ctrl-C; 1 the reader of our pipe has gone, which needs no word.

    Args:
        command: The command, which takes its arguments from `sys.argv`.

    Raises:
        SystemExit: Always.
    """
    _prepare_streams()
    try:
        code = command.main(standalone_mode=False)
        sys.stdout.flush()
    except CrowdselectError as error:
        _fail(str(error))
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _fail(error.format_message() + (f" (see {context.command_path} --help)" if context else ""))
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        what = error.strerror or str(error)
        _fail(f"{error.filename}: {what}" if error.filename else f"cannot read or write: {what}")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"error: {visible(message)}\n")
    sys.exit(2)


def _prepare_streams() -> None:
    """Show as an escape what a terminal's encoding lacks; a stream that is closed swallows what it gets."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (until the end)
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let go of what could not be written: the interpreter would try once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
