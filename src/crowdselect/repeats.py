"""The same command again: is the result that is there what it would make, and if not, what differs first?

A result says what it was made by: the command's options and a digest of the content of every input. Where files lie,
and when they were written, plays no part. What does not change a result (limits, prices, retries, devices, progress)
is not among the options that a command gives here. A folder says it in its manifest, a page in its head, a Parquet file
in its metadata; CSV and JSONL have no place for it.
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
_MARK = b"crowdselect"  # in a Parquet file's metadata
_META = re.compile(r'<meta name="crowdselect" content="([^"]*)">')
_HEAD = 1 << 16  # bytes of a page in which it stands


def made_by(
    command: str,
    options: Mapping[str, Any],
    inputs: Mapping[str, str | os.PathLike[str] | Sequence[Path] | None],
) -> dict[str, Any]:
    """Describe what a result is made by, for its manifest and for `is_current`.

    Args:
        command: The command's name.
        options: Every option that changes the result, by its Python name; plain values.
        inputs: Every input by its Python name: a path, or the paths of one input; None = not given. One that is not
            there counts as not given: whoever reads it will say so. A folder that holds a finished result of ours is
            what its manifest says and lists, without its page and the time that it took.

    Returns:
        Plain values; equal ones make equal results.

    Example:
        >>> made_by("select", {"budget": 5}, {"crowd": None})
        {'command': 'select', 'options': {'budget': 5}, 'inputs': {'crowd': None}}
    """
    return {
        "command": command,
        "options": json.loads(
            json.dumps(dict(options))
        ),  # as the manifest will give it back: tuples are lists
        "inputs": {name: _content(given) for name, given in inputs.items()},
    }


def is_current(folder: Path, made: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Say whether a finished result is there already and the command has nothing to do.

    Args:
        folder: Where the command writes.
        made: From `made_by`.
        overwrite: Begin anew, whatever is there.

    Returns:
        True: it was made by the same command from the same inputs. False: there is no finished result of ours, or
        it is to be replaced.

    Raises:
        OutputError: Another finished result is there, or one that has lost a file, and `overwrite` is not given; the
            message names the first difference.
    """
    manifest = None if overwrite else read_manifest(folder)
    if manifest is None:
        return False
    before = manifest.get("made")
    found = difference(before if isinstance(before, dict) else {}, made)
    if found is None:
        lost = next((name for name in sorted(own_files(folder)) if not (folder / name).exists()), None)
        if lost is None:
            return True
        found = f"{lost} is missing"
    raise _other(folder, found)


def is_current_file(
    path: Path, made: Mapping[str, Any], *, overwrite: bool, growing: Container[str] = ()
) -> bool:
    """Say the same of a single file; see `is_current`.

    Args:
        path: A page, or a Parquet file.
        made: From `made_by`.
        overwrite: Begin anew, whatever is there.
        growing: Options and inputs to which more may have been added, so that the file only lacks something.

    Returns:
        True: it was made by the same command from the same inputs. False: it is not there, does not say what it was
        made by, lacks what was added, or is to be replaced.

    Raises:
        OutputError: It was made otherwise, and `overwrite` is not given; the message names the first difference.
    """
    before = None if overwrite else made_in(path)
    if before is None:
        return False
    found = difference(before, made, growing=growing)
    if found is None:
        return difference(before, made) is None
    raise _other(path, found)


def made_in(path: Path) -> dict[str, Any] | None:
    """Read what a page or a Parquet file was made by; None where it does not say, or is not there."""
    try:
        found = json.loads(_parquet_mark(path) if path.suffix == ".parquet" else _page_mark(path))
    except (OSError, ValueError):  # not there, no such file, nothing in it
        return None
    return found if isinstance(found, dict) else None


def as_text(made: Mapping[str, Any]) -> str:
    """Write what a result is made by as ASCII, as `made_in` reads it."""
    return json.dumps(made, separators=(",", ":")).replace("\x7f", "\\u007f")


def as_metadata(made: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Write the same for the schema of a Parquet file."""
    return {_MARK: as_text(made).encode("ascii")}


def _page_mark(path: Path) -> str:
    with path.open("rb") as stream:
        found = _META.search(stream.read(_HEAD).decode("utf-8", "replace"))
    return html.unescape(found[1]) if found else ""


def _parquet_mark(path: Path) -> bytes:
    import pyarrow.parquet as pq

    found: dict[bytes, bytes] = pq.read_schema(path).metadata or {}  # what pyarrow raises is a ValueError
    return found.get(_MARK, b"")


def _other(place: Path, found: str) -> OutputError:
    return OutputError(
        f"{place}: holds another result: {found}; pass `overwrite=True` to replace it, or write elsewhere"
    )


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], *, growing: Container[str] = ()
) -> str | None:
    """Name the first thing in which two results of `made_by` differ, but for what is `growing`; None where they are equal.

    Example:
        >>> now = made_by("select", {"budget": 5, "seed": 0}, {})
        >>> difference({**now, "options": {"budget": 4, "seed": 0}}, now)
        '`budget` was 4 and is now 5'
        >>> difference({}, now)
        'it does not say what it was made by'
    """
    if not all(isinstance(before.get(part), kind) for part, kind in _PARTS.items()):
        return "it does not say what it was made by"
    if before["command"] != now["command"]:
        return f"it was made by `crowdselect {before['command']}`"
    for name in {**now["options"], **before["options"]}:
        old, new = before["options"].get(name), now["options"].get(name)
        if old != new and name not in growing:
            return f"`{name}` was {_shown(old)} and is now {_shown(new)}"
    for name in {**now["inputs"], **before["inputs"]}:
        old, new = before["inputs"].get(name), now["inputs"].get(name)
        if old != new and name not in growing:
            how = "was not given" if old is None else "was given" if new is None else "had other content"
            return f"`{name}` {how} then"
    return None


_PARTS: dict[str, type] = {"command": str, "options": dict, "inputs": dict}


def digest_of(files: Iterable[Path]) -> str:
    """Hash the content of files, in their order.

    Files of up to 64 MiB are read whole; of a larger one, its size and 64 pieces of 1 MiB, evenly spaced from its
    first byte to its last, so that a pool of gigabytes takes a moment. A change between the pieces that keeps the
    size of such a file is not seen; in a Parquet file it would change the footer, which is.

    Returns:
        64 hexadecimal digits.
    """
    whole = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        one = hashlib.sha256(f"{size};".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE:
                while piece := stream.read(_PIECE):
                    one.update(piece)
            else:
                for number in range(_PIECES):
                    stream.seek(number * (size - _PIECE) // (_PIECES - 1))
                    one.update(stream.read(_PIECE))
        whole.update(one.digest())
    return whole.hexdigest()


def _content(given: str | os.PathLike[str] | Sequence[Path] | None) -> str | None:
    """Hash one input; None where it is not given or not there."""
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
"""What in a manifest says nothing of what was made."""


def _shown(value: Any) -> str:  # noqa: ANN401  (any plain value)
    if value is None:
        return _ABSENT
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
