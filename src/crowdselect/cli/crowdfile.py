"""A crowd file on disk: what is missing is put at its end, every line that is there stays."""

import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path

from crowdselect.crowd import Crowd, check_document
from crowdselect.errors import InputError, OptionError
from crowdselect.writing import check_output, new_file


def complete_file(path: str, crowd: Crowd, *, inputs: Iterable[Path]) -> list[str]:
    """Write the models that a crowd file lacks; it is made where there is none.

    Args:
        path: The file, `.toml`. A link is followed.
        crowd: Whom it shall hold.
        inputs: Files that must not be written to.

    Returns:
        The names of the models that were put in. Where there are none, nothing was written.

    Raises:
        InputError: The file is not a crowd file to which models can be added; it is as it was.
        OptionError: The name does not end in `.toml`.
        OutputError: It cannot be written.
    """
    if Path(path).suffix.lower() != ".toml":
        raise OptionError(f"-o {path}: a crowd file is written as TOML; give it a name that ends in .toml")
    target = check_output(os.path.realpath(path), inputs=inputs, overwrite=True, folder=False)
    before = _read(target)
    after, added = completed(before.decode("utf-8"), crowd, where=repr(path))
    if not added:
        return []
    with new_file(target) as partial:
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.write_bytes(after.encode("utf-8"))
    return added


def completed(text: str, crowd: Crowd, *, where: str) -> tuple[str, list[str]]:
    r"""Put the models that a crowd file lacks at its end.

    Args:
        text: What the file holds.
        crowd: Whom it shall hold.
        where: The file, for messages.

    Returns:
        The text, which begins with `text`; and the names of the models that were put in.

    Raises:
        InputError: It is not a crowd file, or its models stand in a list that cannot be added to.

    Example:
        >>> text, added = completed('[[model]]\nname = "a"\n', Crowd.from_names(["a", "b-7b"]), where="crowd.toml")
        >>> added
        ['b-7b']
    """
    known = _names(text.removeprefix("\ufeff"), where)
    missing = tuple(member for member in crowd.members if member.name not in known)
    if not missing:
        return text, []
    more = Crowd(missing).to_toml()
    if text.strip("\ufeff \t\r\n"):
        more = more[more.index("[[model]]") :]  # without the comment at the head of a new file
        begun = "" if text.endswith("\n") else "\n"
        more = f"{begun}\n{more}"
        if "\r\n" in text:
            more = more.replace("\n", "\r\n")
    found = text + more
    added = [member.name for member in missing]
    try:
        names = _names(found.removeprefix("\ufeff"), where)
    except InputError:
        names = set()
    if not names >= {*known, *added}:
        raise InputError(
            f"{where}: its models are one list, model = [...], which cannot be extended; "
            "write each under its own [[model]]"
        )
    return found, added


def _read(target: Path) -> bytes:
    try:
        found = target.read_bytes()
        found.decode("utf-8")
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"{str(target)!r}: the crowd file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(target)!r}: byte {error.start + 1} is not UTF-8 text") from error
    return found


def _names(text: str, where: str) -> set[str]:
    """Give the names of the models and students in a crowd file, which may have none yet."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: broken TOML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise InputError(f"{where}: values are nested too deeply for a crowd file") from None
    check_document(document, where=where)
    names: set[str] = set()
    for kind in ("model", "student"):
        tables = document.get(kind, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise InputError(
                f"{where}: {kind!r} is not a list of tables; write each {kind} under its own [[{kind}]]"
            )
        names |= {str(table.get("name")) for table in tables}
    return names
