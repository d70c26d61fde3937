"""How a command begins and ends: streams that can take any text, errors as one line, exit codes."""

import os
import stat
import sys
from contextlib import suppress
from io import BufferedWriter, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from crowdselect.errors import CrowdselectError
from crowdselect.show import visible

if TYPE_CHECKING:
    from typing_extensions import Buffer


def run_command(command: click.Command) -> NoReturn:
    """Run a command of the command line and end the process.

    Exit codes: 0 done; 2 bad input, refused output, full disk and the like, with one line `error: ...` on
    standard error; 130 stopped by Ctrl-C. A reader of our pipe that has gone (`| head -1`) changes nothing: the
    work is done to its end, what it says is lost.

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
            if _is_pipe(stream):
                setattr(sys, name, _patient(stream))


class _Pipe(RawIOBase):
    """Writes to a pipe; once its reader has gone, to nowhere."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: "Buffer", /) -> int:
        try:
            return os.write(self._number, data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _is_pipe(stream: TextIOWrapper) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _patient(stream: TextIOWrapper) -> TextIOWrapper:
    """Open a stream anew, so that a reader who leaves does not end the work."""
    stream.flush()
    raw = BufferedWriter(_Pipe(stream.fileno()))
    at_once = stream.line_buffering or stream.write_through  # standard error: a line is seen when it is said
    return TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=at_once)


def _drop_output() -> None:
    """Let go of what could not be written: the interpreter would try once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
