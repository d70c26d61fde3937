"""Text files as other tools write them: compressed or not, whatever the name says, with or without a byte order mark.

What cannot be read is refused with one line that says what to do: pipes, UTF-16, other archives, JSON that is nested
too deeply.
"""

import io
import os
import re
import shlex
import stat
from os import PathLike
from pathlib import Path

from crowdselect.errors import InputError

MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, which carries no information."""

DEEPEST = 126
"""The most levels of lists and objects that DuckDB reads."""

NESTED = f"a value is nested more than {DEEPEST} levels deep; leave it out, or write it as text"
"""The message about JSON that is nested too deeply."""

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHERS = {b"BZh": "bzip2", b"\xfd7zX": "xz", b"PK\x03\x04": "zip"}
_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_STEP = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def check_file(file: Path) -> None:
    """Refuse a pipe, a socket or a device; opening one may block forever.

    Raises:
        InputError: It is one of these.
        OSError: It does not exist.
    """
    mode = file.stat().st_mode
    if stat.S_ISFIFO(mode):
        raise InputError(f"{file}: is a pipe, which can be read only once; write its content to a file first")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{file}: is not a regular file; write its content to one first")


def packing(file: Path) -> str | None:
    """Detect a file's compression by its first bytes: `gzip`, `zstd`, or None."""
    with file.open("rb") as stream:
        return _packing(stream.read(4))


def open_text(file: Path) -> io.BufferedReader:
    """Open a text file as bytes, decompressed."""
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(file.absolute()), compression=packing(file)))


def check_text(file: Path) -> bool:
    """Refuse a file that cannot be UTF-8 text, by its first bytes.

    Returns:
        Whether it begins with a byte order mark.

    Raises:
        InputError: It is UTF-16, UTF-32 or an archive, or cannot be unpacked.
    """
    try:
        with open_text(file) as stream:
            head = stream.read(4)
    except (OSError, EOFError) as error:
        raise broken_archive(file, error) from error
    encoding = encoding_of(head)
    if encoding is not None:
        raise InputError(f"{file}: {_other_encoding(encoding, file)}")
    archive = _beginning(_OTHERS, head)
    if archive is not None:
        raise InputError(
            f"{file}: is packed with {archive}; wanted plain text, gzip or zstd; unpack it first"
        )
    return head.startswith(MARK)


def read_text(path: str | PathLike[str], *, wanted: str) -> str:
    """Read a whole text file or pipe, decompressed and without its byte order mark.

    Args:
        path: The file.
        wanted: What it should hold, for messages.

    Raises:
        InputError: There is no such file, or it is not UTF-8.

    Example:
        >>> read_text("no-such-file.txt", wanted="one id per line")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-file.txt: no such file; wanted one id per line
    """
    where = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{where}: no such file; wanted {wanted}") from None
    except IsADirectoryError:
        raise InputError(f"{where}: is a folder; wanted {wanted}") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}; wanted {wanted}") from error
    packed = _packing(data)
    if packed is not None:
        data = _unpacked(where, data, packed)
    encoding = encoding_of(data[:4])
    if encoding is not None:
        raise InputError(f"{where}: {_other_encoding(encoding, where)}; wanted {wanted}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: {not_utf8(error)}; wanted {wanted}") from error


def not_utf8(error: UnicodeDecodeError) -> str:
    """Describe why a text cannot be decoded, naming the encoding if its first bytes tell.

    Example:
        >>> try:
        ...     "id".encode("utf-16").decode()
        ... except UnicodeDecodeError as error:
        ...     not_utf8(error)
        'is UTF-16, not UTF-8; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)'
    """
    encoding = encoding_of(error.object)
    if encoding is not None:
        return _other_encoding(encoding)
    return f"byte {error.start + 1} is not UTF-8 text"


def encoding_of(head: bytes) -> str | None:
    r"""Detect UTF-16 and UTF-32 by the byte order mark, or by the null bytes beside the first letters.

    Example:
        >>> encoding_of(b"i\x00d\x00"), encoding_of(b"id,a")
        ('UTF-16', None)
    """
    marked = _beginning(_MARKS, head)
    if marked is not None:
        return marked
    zeros = [not byte for byte in head[:4]]
    if zeros in ([False, True, False, True], [True, False, True, False]):
        return "UTF-16"
    return "UTF-32" if zeros in ([False, True, True, True], [True, True, True, False]) else None


def broken_archive(file: Path, error: Exception) -> InputError:
    """Build the error about a file that cannot be decompressed."""
    cause = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{file}: cannot be unpacked ({cause}); the file is broken; copy it again")


def too_deep(file: Path) -> InputError | None:
    """Return an error that names the first line of a JSON file nested more than `DEEPEST` levels deep, if any."""
    depth = 0
    with open_text(file) as stream:
        for number, line in enumerate(stream, start=1):
            for token in _BRACKETS.findall(line):
                depth += _STEP.get(token, 0)
                if depth > DEEPEST:
                    return InputError(f"{file}: line {number}: {NESTED}")
    return None


def is_deep(line: bytes) -> bool:
    """Tell whether lists and objects of a line of JSON are nested more than `DEEPEST` levels deep."""
    depth = 0
    for token in _BRACKETS.findall(line):
        depth += _STEP.get(token, 0)
        if depth > DEEPEST:
            return True
    return False


def without_mark(file: Path, target: Path) -> None:
    """Copy a text file, decompressed and without its byte order mark."""
    with open_text(file) as stream, target.open("wb") as copy:
        copy.write(stream.read(len(MARK)).removeprefix(MARK))
        while piece := stream.read(1 << 22):
            copy.write(piece)


def _packing(head: bytes) -> str | None:
    return _beginning(_PACKED, head)


def _beginning(known: dict[bytes, str], head: bytes) -> str | None:
    return next((name for magic, name in known.items() if head.startswith(magic)), None)


def _unpacked(where: str, data: bytes, packed: str) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(data), packed) as stream:
            unpacked: bytes = stream.read()
            return unpacked
    except OSError as error:
        raise broken_archive(Path(where), error) from error


def iconv(encoding: str, path: str | PathLike[str] | None = None) -> str:
    """Return the command that writes a file as UTF-8, as far as it can be said: a packed one is to be unpacked first.

    Example:
        >>> iconv("UTF-16", "some of/notes.csv"), iconv("UTF-16", "notes.csv.gz")
        ("iconv -f UTF-16 -t UTF-8 'some of/notes.csv' > utf8-notes.csv", 'iconv -f UTF-16 -t UTF-8')
    """
    command = f"iconv -f {encoding} -t UTF-8"
    if path is None or Path(path).suffix.lower() in {".gz", ".zst"}:
        return command
    return f"{command} {shlex.quote(os.fspath(path))} > {shlex.quote(f'utf8-{Path(path).name}')}"


def _other_encoding(encoding: str, path: str | PathLike[str] | None = None) -> str:
    return f"is {encoding}, not UTF-8; save it as UTF-8 ({iconv(encoding, path)})"
