"""Repeated commands: whether the existing result is what the command would make, and if not, the first difference.

A result records how it was made: the command's options and a digest of the content of every input; paths and
modification times do not count. Options that do not change a result (limits, prices, retries, devices, progress) are
left out by the commands. The record of a folder is in its manifest, that of a page in its head, that of a Parquet file
in its metadata; CSV and JSONL have no place for one.
"""

import hashlib
import html
import json
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crowdselect.errors import OutputError
from crowdselect.manifests import MANIFEST, REPORT, own_files, read_manifest

_WHOLE = 64 << 20  # bytes: a file up to this size is read whole
_PIECES = 64  # of a larger one, so many pieces, evenly spaced from its first byte to its last
_PIECE = 1 << 20
_ABSENT = "unset"
_READ = "read"  # the options that say how a pool is read, together
_MARK = b"crowdselect"  # in a Parquet file's metadata
_META = re.compile(r'<meta name="crowdselect" content="([^"]*)">')
_HEAD = 1 << 16  # bytes of a page that are searched for it


def made_by(
    command: str,
    options: Mapping[str, Any],
    inputs: Mapping[str, str | os.PathLike[str] | Sequence[Path] | None],
) -> dict[str, Any]:
    """Describe how a result is made, for its manifest and for `is_current`.

    Args:
        command: The command's name.
        options: Every option that changes the result, by its Python name; plain values.
        inputs: Every input by its Python name: a path, or the paths of one input; None = not given. A missing file
            counts as not given: reading it raises the error. Of a folder with a finished result of crowdselect,
            the manifest and the files that it lists count, without page and timings.

    Returns:
        Plain values; if two are equal, so are the results.

    Example:
        >>> made_by("select", {"budget": 5}, {"crowd": None})
        {'command': 'select', 'options': {'budget': 5}, 'inputs': {'crowd': None}}
    """
    return {
        "command": command,
        "options": json.loads(
            json.dumps(dict(options))
        ),  # as it will be read from the manifest: tuples become lists
        "inputs": {name: _content(source) for name, source in inputs.items()},
    }


def is_current(folder: Path, made: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Tell whether the result exists already, so that the command has nothing to do.

    Args:
        folder: Where the command writes.
        made: From `made_by`.
        overwrite: Start over, whatever exists.

    Returns:
        True: it was made by the same command from the same inputs. False: there is no finished result of
        crowdselect, or it is to be replaced.

    Raises:
        OutputError: There is another finished result, or one that has lost a file, and `overwrite` is not given; the
            message names the first difference.
    """
    manifest = None if overwrite else read_manifest(folder)
    if manifest is None:
        return False
    before = manifest.get("made")
    differing = difference(before if isinstance(before, dict) else {}, made)
    if differing is None:
        missing = next((name for name in sorted(own_files(folder)) if not (folder / name).exists()), None)
        if missing is None:
            return True
        differing = f"{missing} is missing"
    raise _other(folder, differing)


def is_current_file(
    path: Path, made: Mapping[str, Any], *, overwrite: bool, growing: Container[str] = ()
) -> bool:
    """Tell whether a single file exists already, so that the command has nothing to do; see `is_current`.

    Args:
        path: A page, or a Parquet file.
        made: From `made_by`.
        overwrite: Start over, whatever exists.
        growing: Options and inputs to which more may have been added, so that the file only lacks something.

    Returns:
        True: it was made by the same command from the same inputs. False: it does not exist, does not say how it
        was made, lacks what was added, or is to be replaced.

    Raises:
        OutputError: It was made otherwise, and `overwrite` is not given; the message names the first difference.
    """
    before = None if overwrite else made_in(path)
    if before is None:
        return False
    differing = difference(before, made, growing=growing)
    if differing is None:
        return difference(before, made) is None
    raise _other(path, differing)


def made_in(path: Path) -> dict[str, Any] | None:
    """Read how a page or a Parquet file was made; None if it does not say, or does not exist."""
    try:
        found = json.loads(_parquet_mark(path) if path.suffix == ".parquet" else _page_mark(path))
    except (OSError, ValueError):  # no file, another kind of file, or no record in it
        return None
    return found if isinstance(found, dict) else None


def as_text(made: Mapping[str, Any]) -> str:
    """Write how a result is made as ASCII, as `made_in` reads it."""
    return json.dumps(made, separators=(",", ":")).replace("\x7f", "\\u007f")


def as_metadata(made: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Write how a result is made as metadata for the schema of a Parquet file."""
    return {_MARK: as_text(made).encode("ascii")}


def _page_mark(path: Path) -> str:
    with path.open("rb") as stream:
        found = _META.search(stream.read(_HEAD).decode("utf-8", "replace"))
    return html.unescape(found[1]) if found else ""


def _parquet_mark(path: Path) -> bytes:
    import pyarrow.parquet as pq

    found: dict[bytes, bytes] = pq.read_schema(path).metadata or {}  # pyarrow's errors are ValueErrors
    return found.get(_MARK, b"")


def _other(place: Path, found: str) -> OutputError:
    return OutputError(
        f"{place}: holds another result: {found}; pass `overwrite=True` to replace it, or write elsewhere"
    )


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], *, growing: Container[str] = ()
) -> str | None:
    """Describe the first difference between two results of `made_by`, except in `growing`; None if there is none.

    Example:
        >>> now = made_by("select", {"budget": 5, "seed": 0}, {})
        >>> difference({**now, "options": {"budget": 4, "seed": 0}}, now)
        '`budget` was 4 and is now 5'
        >>> difference({}, now)
        'its manifest does not say how it was made'
    """
    if not all(isinstance(before.get(part), kind) for part, kind in _PARTS.items()):
        return "its manifest does not say how it was made"
    if before["command"] != now["command"]:
        return f"it was made by `crowdselect {before['command']}`"
    found = _changed(before["options"], now["options"], growing)
    if found is not None:
        return found
    for name in {**now["inputs"], **before["inputs"]}:
        old, new = before["inputs"].get(name), now["inputs"].get(name)
        if old != new and name not in growing:
            how = "was not given" if old is None else "was given" if new is None else "had other content"
            return f"`{name}` {how} when it was made"
    return None


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], growing: Container[str]) -> str | None:
    for name in {**now, **before}:
        old, new = before.get(name), now.get(name)
        if old == new or name in growing:
            continue
        if name == _READ and isinstance(old, dict) and isinstance(new, dict):
            return _changed(old, new, growing)
        return f"`{name}` was {_shown(old)} and is now {_shown(new)}"
    return None


_PARTS: dict[str, type] = {"command": str, "options": dict, "inputs": dict}


def digest_of(files: Iterable[Path]) -> str:
    """Hash the content of files, in the given order.

    Files of up to 64 MiB are read whole; of a larger one, its size and 64 pieces of 1 MiB, evenly spaced from its
    first byte to its last, so that a pool of gigabytes takes a moment. A change between the pieces that keeps the
    size of such a file is not detected; in a Parquet file it would also change the footer, which is.

    Returns:
        64 hexadecimal digits.
    """
    overall = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest = hashlib.sha256(f"{size};".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE:
                while piece := stream.read(_PIECE):
                    digest.update(piece)
            else:
                for number in range(_PIECES):
                    stream.seek(number * (size - _PIECE) // (_PIECES - 1))
                    digest.update(stream.read(_PIECE))
        overall.update(digest.digest())
    return overall.hexdigest()


def _content(given: str | os.PathLike[str] | Sequence[Path] | None) -> str | None:
    """Hash one input; None if it is not given or does not exist."""
    if given is None:
        return None
    places = [Path(given)] if isinstance(given, str | os.PathLike) else given
    if not all(place.exists() for place in places):
        return None
    found = [_digest(place) for place in places]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode("ascii")).hexdigest()


def _digest(place: Path) -> str:
    if not place.is_dir():
        return digest_of([place])
    manifest = read_manifest(place)
    if manifest is None:
        return digest_of(sorted(file for file in place.rglob("*") if file.is_file()))
    own = sorted(own_files(place) - {MANIFEST, REPORT})
    facts = {name: fact for name, fact in manifest.items() if name not in _PASSING}
    content = digest_of(place / name for name in own if (place / name).is_file())
    return hashlib.sha256(f"{content}{json.dumps(facts, sort_keys=True)}".encode()).hexdigest()


_PASSING = frozenset({"written", "seconds"})
"""Entries of a manifest that do not describe what was made."""


def _shown(value: Any) -> str:  # noqa: ANN401  (any plain value)
    if value is None:
        return _ABSENT
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
