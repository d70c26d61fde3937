"""Files of an object store (s3://, gs://), brought to this machine's cache folder by PyArrow.

Keys come from where the store's own tools look for them (environment, profile, the machine's role), never from the
address, which is written into manifests.
"""

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from crowdselect.cache import folder
from crowdselect.errors import InputError

SCHEMES = ("s3://", "gs://")
"""Beginnings of addresses in stores."""

_HARMLESS = {"region", "scheme", "endpoint_override"}  # what may follow the `?`; keys may not


def is_stored(path: str) -> bool:
    """Say whether a path is an address in a store.

    Example:
        >>> is_stored("s3://bucket/pool"), is_stored("pool.parquet")
        (True, False)
    """
    return path.startswith(SCHEMES)


def fetched(path: str, *, wanted: Callable[[str], bool]) -> Path:
    """Bring a file, or the files below a folder, to the cache folder.

    What is there already in the same size and from the same time is not fetched again.

    Args:
        path: An address in a store.
        wanted: Given a file's name, says whether it is data.

    Returns:
        The file or the folder in the cache.

    Raises:
        InputError: Nothing is there, it cannot be read, or the address holds a key.
    """
    import pyarrow as pa
    from pyarrow import fs

    _refuse_keys(path)
    try:
        store, inside = fs.FileSystem.from_uri(path)
        inside = inside.rstrip("/")
        there = store.get_file_info(inside)
        alone = there.type == fs.FileType.File
        found = [there] if alone else store.get_file_info(fs.FileSelector(inside, recursive=True))
        home = folder() / "stores" / sha256(path.encode()).hexdigest()[:16]
        files = [
            _copied(store, info, inside, home)
            for info in found
            if info.type == fs.FileType.File and wanted(PurePosixPath(info.path).name)
        ]
    except (OSError, pa.ArrowException) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path.partition('?')[0]}: cannot be read ({said}); check the address, and the keys in the environment"
        ) from error
    if not files:
        raise InputError(
            f"{path.partition('?')[0]}: no data there; wanted .parquet, .jsonl or .csv files; check the address"
        )
    for old in home.rglob("*"):  # files that the store no longer has are no part of it
        if old.is_file() and old not in files:
            old.unlink()
    return files[0] if alone else home


def _copied(store: Any, info: Any, inside: str, home: Path) -> Path:  # noqa: ANN401  (of PyArrow)
    below = PurePosixPath(info.path).relative_to(
        PurePosixPath(inside).parent if info.path == inside else inside
    )
    target = home / below
    when = info.mtime_ns
    if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (info.size, when):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{uuid4().hex}.tmp")
    try:
        with store.open_input_stream(info.path) as source, beside.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 22)
        os.utime(beside, ns=(when, when))
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return target


def _refuse_keys(path: str) -> None:
    parts = urlsplit(path)
    if parts.username or parts.password or set(parse_qs(parts.query)) - _HARMLESS:
        raise InputError(
            f"{parts.scheme}://{parts.hostname or ''}{parts.path}: the address holds more than a place; give keys through "
            "the environment, as the store's own tools want them"
        )
