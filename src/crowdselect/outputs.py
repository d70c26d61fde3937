"""Where results are written: never over an input or a stranger's files, never half finished."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crowdselect.errors import OutputError

MANIFEST = "manifest.json"
TOOL = "crowdselect"


def check_output(
    path: str | os.PathLike[str], *, inputs: Iterable[Path], overwrite: bool, folder: bool
) -> Path:
    """Refuse a place to write to before any work is done.

    Args:
        path: The file or folder to write.
        inputs: Every file that is read.
        overwrite: Replace what is there. A folder is replaced only if it holds our own manifest.
        folder: Whether `path` will be a folder.

    Returns:
        The absolute path.

    Raises:
        OutputError: The path is an input or contains one, is there already, is not ours to replace, or its
            parent folder is missing.

    Example:
        >>> check_output("no-such-folder-yet", inputs=[], overwrite=False, folder=True).name
        'no-such-folder-yet'
    """
    target = Path(os.path.abspath(path))  # noqa: PTH100  (symbolic links stay: the link's own place is written)
    for source in inputs:
        real = source.resolve()
        if target.resolve() in (real, *real.parents):
            raise OutputError(f"{path}: the output is, or contains, the input {source}; choose another place")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {target.parent}; make it first")
    if folder:
        _check_folder(target, path, overwrite=overwrite)
    elif target.is_dir():
        raise OutputError(f"{path}: this is a folder; name a file")
    elif target.exists() and not overwrite:
        raise OutputError(f"{path}: there is such a file already; add --overwrite to replace it")
    return target


def _check_folder(target: Path, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise OutputError(f"{path}: this is not a folder; choose another place")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{path}: the folder is not empty; add --overwrite to replace a former result")
    if read_manifest(target) is None:
        raise OutputError(
            f"{path}: the folder holds no {MANIFEST} of ours, so it is not replaced; choose another place"
        )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A finished result's manifest.

    Args:
        folder: A folder.

    Returns:
        The manifest, or None where there is none of ours.

    Example:
        >>> read_manifest(Path("no-such-folder")) is None
        True
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("tool") == TOOL else None


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill a folder beside `target` and put it in its place when the block ends without an error.

    Args:
        target: A path that `check_output` has passed.

    Yields:
        The folder to write into. Its manifest must be written last: where the process dies in between,
        what is left has none, and `target` is as it was.
    """
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        partial.chmod(0o777 & ~_umask())
        yield partial
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
            target.rename(old / target.name)
            partial.rename(target)
            shutil.rmtree(old)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Write a file beside `target` and put it in its place when the block ends without an error.

    Args:
        target: A path that `check_output` has passed.

    Yields:
        The path to write to; it has the target's ending.
    """
    handle, name = tempfile.mkstemp(
        prefix=f".{target.name}.partial-", suffix=target.suffix, dir=target.parent
    )
    os.close(handle)
    partial = Path(name)
    try:
        partial.chmod(0o666 & ~_umask())
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
