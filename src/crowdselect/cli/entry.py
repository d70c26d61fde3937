"""How a command begins and ends: streams that can take any text, errors as one line, exit codes, what is said or written."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedWriter, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.stops import handle_sigterm
from crowdselect.terminal import print_json, say, shown_path, visible

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from crowdselect.cli.following import Steps

REFUSED = 2
MISSING = 3
INTERRUPTED = 130
"""Exit codes: bad input and the like; done, but something is missing (answers, scores, verdicts); stopped."""


def run_command(command: click.Command) -> NoReturn:
    """Run a command of the command line and end the process.

    Exit codes: 0 done; 2 bad input, refused output, full disk and the like, with one line `error: ...` on
    standard error; 3 done, but something is missing; 130 stopped by Ctrl-C or SIGTERM. A reader of our pipe that has gone (`| head -1`) changes nothing: the
    work is done to its end, what it says is lost. So it is where standard output cannot be written (a full disk),
    but then that is said at the end, with exit code 2.

    Args:
        command: The command, which takes its arguments from `sys.argv`.

    Raises:
        SystemExit: Always.
    """
    _prepare_streams()
    try:
        with stopped_by_sigterm():
            code = command.main(standalone_mode=False)
            sys.stdout.flush()
        _check_output()
    except CrowdselectError as error:
        _fail(str(error))
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _fail(error.format_message() + (f" (see {context.command_path} --help)" if context else ""))
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("stopped\n")
        sys.exit(INTERRUPTED)
    except OSError as error:
        _drop_output()
        what = error.strerror or str(error)
        _fail(f"{error.filename}: {what}" if error.filename else f"cannot read or write: {what}")
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C is: what is half written is removed, what is whole is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_IGN:
        handle_sigterm()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def check_page(output: str | None) -> None:
    """Refuse a page whose name says that it is something else; None = no page is asked for.

    Raises:
        OptionError: The name ends neither in .html nor in .htm.
    """
    if output is not None and Path(output).suffix not in {".html", ".htm"}:
        raise OptionError(f"{output}: the page is HTML; name a file that ends in .html")


def show_or_write(
    target: Path | None,
    *,
    page: Callable[[], str],
    facts: Callable[[], Mapping[str, Any]],
    show: Callable[[], None],
    following: "Steps | None" = None,
    as_json: bool,
) -> None:
    """End a command that makes a page if one is asked for, and prints what it found.

    Args:
        target: The page's file, checked; None = no page.
        page: Makes the page.
        facts: What is printed as JSON.
        show: Prints the same for a person.
        following: What to type next.
        as_json: Print JSON.
    """
    if target is not None:
        from crowdselect.writing import new_file

        text = page()
        with new_file(target) as partial:
            partial.write_text(text, encoding="utf-8")
    if as_json:
        print_json(facts())
        return
    from crowdselect.cli.following import say_next

    show()
    if target is not None:
        say(f"written to {shown_path(target)}")
    say_next(following or {})


def say_current(output: str) -> None:
    """Say that a page is there as it would be written, so that there is nothing to do."""
    say(f"up to date: {shown_path(output)} was made with these options from the same inputs")


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"error: {visible(message)}\n")
    sys.exit(REFUSED)


def _prepare_streams() -> None:
    """Show as an escape what a terminal's encoding lacks; a stream that is closed swallows what it gets."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (until the end)
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if _is_ours(stream):
                setattr(sys, name, _patient(stream))


class _Patient(RawIOBase):
    """Writes to a pipe, a file or a device; once that fails, to nowhere."""

    def __init__(self, stream: TextIOWrapper) -> None:
        self._stream = stream  # whose end would close the number
        self._number = stream.fileno()
        self.failed: OSError | None = None
        """Why something was lost, unless it was a reader who left."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: "Buffer", /) -> int:
        if self.failed is None:
            try:
                return os.write(self._number, data)
            except BrokenPipeError:
                pass
            except OSError as error:
                self.failed = error
        return memoryview(data).nbytes


def _is_ours(stream: TextIOWrapper) -> bool:
    """Say whether a stream leads out of this process, to no terminal."""
    try:
        return not os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


def _check_output() -> None:
    """Say that standard output is not whole, if it is not."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Patient) and raw.failed is not None:
        _fail(
            f"standard output cannot be written: {raw.failed.strerror}; what was printed is not complete, "
            "but the files and folders that the command wrote are"
        )


def _patient(stream: TextIOWrapper) -> TextIOWrapper:
    """Open a stream anew, so that a reader who leaves does not end the work."""
    stream.flush()
    raw = BufferedWriter(_Patient(stream))
    at_once = stream.line_buffering or stream.write_through  # standard error: a line is seen when it is said
    return TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=at_once)


def _drop_output() -> None:
    """Let go of what could not be written: the interpreter would try once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
