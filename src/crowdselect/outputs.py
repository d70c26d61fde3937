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
    try:
        os.fspath(target).encode()
    except UnicodeEncodeError:
        raise OutputError(f"{path}: its path is not UTF-8, and Parquet is written to no other") from None
    for source in inputs:
        if _is_or_contains(target, source):
            raise OutputError(f"{path}: the output is, or contains, the input {source}; choose another place")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {target.parent}; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write into {target.parent}; choose another place")
    if folder:
        _check_folder(target, path, overwrite=overwrite)
    elif target.is_dir():
        raise OutputError(f"{path}: this is a folder; name a file")
    elif os.path.lexists(target) and not overwrite:
        raise OutputError(f"{path}: there is such a file already; add --overwrite to replace it")
    return target


def check_beside(path: str | os.PathLike[str], *, pool: str, files: Iterable[Path], folder: bool) -> None:
    """Refuse an output that would be read as a part of the pool the next time.

    Args:
        path: The file or folder to write.
        pool: The pool as the user named it: a file, a folder or a glob.
        files: The files that it is made of.
        folder: Whether `path` will be a folder.

    Raises:
        OutputError: A file beside the files of a folder or glob; or a folder inside a pool's folder that is
            read with its subfolders.

    Example:
        >>> check_beside("out.parquet", pool="pool.parquet", files=[Path("pool.parquet")], folder=False)
    """
    target, place = Path(os.path.realpath(path)), Path(os.path.realpath(pool))
    real = {Path(os.path.realpath(file)) for file in files}
    homes = {file.parent for file in real}
    if place in real:
        return
    inside = place in target.parents and place not in homes
    if inside or (target.parent in homes and not folder):
        raise OutputError(
            f"{path}: there it would be read as a part of the pool {pool}; choose another place"
        )


def _is_or_contains(target: Path, source: Path) -> bool:
    """Compare the paths as they are written and where they lead: either may go through symbolic links."""
    sources = [Path(way(source)) for way in (os.path.abspath, os.path.realpath)]
    targets = [target, Path(os.path.realpath(target))]
    return any(place in (real, *real.parents) for place in targets for real in sources)


def _check_folder(target: Path, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise OutputError(f"{path}: this is not a folder; choose another place")
    here = Path.cwd()
    if Path(os.path.realpath(target)) in (here, *here.parents) or target.is_mount():
        raise OutputError(
            f"{path}: the current folder and mounted ones cannot be replaced; name a new folder inside it"
        )
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
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):  # ValueError: not JSON
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("tool") == TOOL else None


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Fill a folder beside `target` and put it in its place when the block ends without an error.

    Args:
        target: A path that `check_output` has passed.
        overwrite: As for `check_output`, which is asked once more at the end: it may have been long ago.

    Yields:
        The folder to write into. Its manifest must be written last: where the process dies in between,
        what is left has none, and `target` is as it was.

    Raises:
        OutputError: It cannot be written, or something else has come to stand there meanwhile.
    """
    with _explained(target):
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        try:
            partial.chmod(0o777 & ~_umask())
            yield partial
            _check_folder(target, target, overwrite=overwrite)
            _replace(target, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Write a file beside `target` and put it in its place when the block ends without an error.

    Args:
        target: A path that `check_output` has passed.

    Yields:
        The path to write to; it has the target's ending.

    Raises:
        OutputError: It cannot be written.
    """
    with _explained(target):
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


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Say of a full disk or a missing permission what could not be written."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error


def _replace(target: Path, complete: Path) -> None:
    """Put a folder in its place; what stood there comes back should that fail, and is removed after it worked."""
    if not target.exists():
        complete.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    try:
        target.rename(aside / target.name)
        complete.rename(target)
    except BaseException:
        if not target.exists():
            (aside / target.name).rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
