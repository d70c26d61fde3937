"""The same command again: is the result that is there what it would make, and if not, what differs first?

A manifest's `made` holds the command's options and a digest of the content of every input; where files lie, and when
they were written, plays no part. What does not change a result (limits, prices, retries, devices, progress) is not
among the options that a command gives here.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crowdselect.errors import OutputError
from crowdselect.manifests import own_files, read_manifest

_WHOLE = 64 << 20  # bytes: a file up to this size is read whole
_PIECES = 64  # of a larger one, so many pieces, evenly spaced from its first byte to its last
_PIECE = 1 << 20
_ABSENT = "unset"


def made_by(
    command: str,
    options: Mapping[str, Any],
    inputs: Mapping[str, str | os.PathLike[str] | Sequence[Path] | None],
) -> dict[str, Any]:
    """Describe what a result is made by, for its manifest and for `is_current`.

    Args:
        command: The command's name.
        options: Every option that changes the result, by its Python name; plain values.
        inputs: Every input by its Python name: a path, or the files of one input; None = not given. One that is not
            there counts as not given: whoever reads it will say so.

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
        "inputs": {
            name: None if given is None or not _there(given) else digest_of(_files(given))
            for name, given in inputs.items()
        },
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
    raise OutputError(
        f"{folder}: holds another result: {found}; pass `overwrite=True` to replace it, or write elsewhere"
    )


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Name the first thing in which two results of `made_by` differ; None where they are equal.

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
        if old != new:
            return f"`{name}` was {_shown(old)} and is now {_shown(new)}"
    for name in {**now["inputs"], **before["inputs"]}:
        old, new = before["inputs"].get(name), now["inputs"].get(name)
        if old != new:
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


def _there(given: str | os.PathLike[str] | Sequence[Path]) -> bool:
    return all(Path(file).exists() for file in ([given] if isinstance(given, str | os.PathLike) else given))


def _files(given: str | os.PathLike[str] | Sequence[Path]) -> Iterable[Path]:
    if not isinstance(given, str | os.PathLike):
        return given
    path = Path(given)
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,)


def _shown(value: Any) -> str:  # noqa: ANN401  (any plain value)
    if value is None:
        return _ABSENT
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
