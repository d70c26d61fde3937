"""Partial files and folders: written beside their target, locked by the writing process, removed once it is dead."""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crowdselect.errors import OutputError
from crowdselect.manifests import MANIFEST, TOOL, UNFINISHED, files_in, in_the_way, own_files
from crowdselect.stops import unbroken

_FORMER = ".former"


@contextmanager
def partial_of(target: Path, *, folder: bool, inside: bool = False) -> Iterator[Path]:
    """Create a hidden file or folder beside `target`, and remove those of dead processes.

    Args:
        target: The path it will be renamed to.
        folder: Create a folder, not a file.
        inside: Create it in `target`, an existing folder.

    Yields:
        Its path. It is removed if it has not been renamed when the block ends.
    """
    parent = target if inside else target.parent
    _clear(parent, target.name)
    path, lock = _made(parent, target, folder=folder)
    try:
        path.chmod((0o777 if folder else 0o666) & ~_umask())
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def put_in_place(folder: Path, complete: Path, name: str = MANIFEST) -> None:
    """Move the files of a complete result into a folder, replacing those that crowdselect wrote there.

    Everything else in the folder stays where it is. The old manifest is moved out first and the new one moved in
    last, so that its presence means complete; meanwhile `UNFINISHED` lists our files. If a move fails, all are
    undone. Ctrl-C is deferred.

    Args:
        folder: An existing folder.
        complete: A folder on the same file system, with the result.
        name: The manifest's file name.

    Raises:
        OutputError: A file that crowdselect did not write is in the way; nothing was changed.
    """
    new, own = files_in(complete), own_files(folder, name)
    blocked = in_the_way(folder, new, name)
    if blocked is not None:
        raise OutputError(
            f"{folder / blocked}: was not written by crowdselect and is in the way; move it, or choose another place"
        )
    with _alone(folder), unbroken():
        _say_unfinished(folder, complete, own | set(new))
        _exchange(folder, complete, own=own - {UNFINISHED}, new=new, name=name)
        _remove_empty(folder, own)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Prevent two processes from moving files into a folder at the same time."""
    try:
        lock = _held(folder)
    except BlockingIOError:
        raise OutputError(
            f"{folder}: another run is writing to this folder; wait until it ends, then run again"
        ) from None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _exchange(folder: Path, complete: Path, *, own: set[str], new: list[str], name: str) -> None:
    """Move our old files out, the manifest first, and the new ones in, the manifest last."""
    moved: list[tuple[Path, Path]] = []
    try:
        for file in sorted(own, key=lambda file: file != name):
            if (folder / file).is_symlink() or (folder / file).is_file():
                _move(folder / file, complete / _FORMER / file, moved)
        for file in sorted(new, key=lambda file: file == name):
            _move(complete / file, folder / file, moved)
    except BaseException:
        for source, goal in reversed(moved):
            goal.rename(source)
        (folder / UNFINISHED).unlink()
        raise
    (folder / UNFINISHED).unlink()


def _say_unfinished(folder: Path, complete: Path, names: set[str]) -> None:
    partial = complete / UNFINISHED
    partial.write_text(
        json.dumps({"tool": TOOL, "kind": "unfinished", "written": sorted(names)}), encoding="ascii"
    )
    partial.replace(folder / UNFINISHED)


def _move(source: Path, goal: Path, moved: list[tuple[Path, Path]]) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    source.rename(goal)
    moved.append((source, goal))


def _remove_empty(folder: Path, names: set[str]) -> None:
    """Remove the folders that held our files and are now empty."""
    above = {parent for name in names for parent in (folder / name).parents if folder in parent.parents}
    for parent in sorted(above, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # not empty, or not a folder
            parent.rmdir()


def _made(parent: Path, target: Path, *, folder: bool) -> tuple[Path, int | None]:
    """Create the file or folder to write into, and lock it; another process may have cleared it away in between."""
    prefix, suffix = f".{target.name}.partial-", target.suffix
    while True:
        if folder:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=parent)
            os.close(handle)
            path = Path(name)
        try:
            return path, _held(path)
        except (BlockingIOError, FileNotFoundError):
            continue


def _held(path: Path) -> int | None:
    """Lock a file or folder until the process ends, however it ends.

    Returns:
        The descriptor that holds the lock; None if the system, or the file system, has no such locks.

    Raises:
        BlockingIOError: Another process holds the lock.
        FileNotFoundError: The file or folder is gone.
    """
    if sys.platform == "win32":
        return None
    from filelock import lock_descriptor

    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        is_ours = lock_descriptor(handle, blocking=False)
        path.lstat()
    except FileNotFoundError:
        os.close(handle)
        raise
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    if not is_ours:
        os.close(handle)
        raise BlockingIOError(f"{path}: another process holds it")
    return handle


def _clear(parent: Path, name: str) -> None:
    """Remove what dead processes left of a result with this name; what a live process holds is left alone."""
    ours = re.compile(rf"\.{re.escape(name)}\.partial-[a-z0-9_]{{8}}(\.\w+)?")
    try:
        leftovers = [parent / entry for entry in os.listdir(parent) if ours.fullmatch(entry)]  # noqa: PTH208  (names alone)
    except OSError:
        return
    for path in leftovers:
        try:
            lock = _held(path)
        except OSError:  # in use, gone, a link, or somebody else's
            continue
        if lock is not None:
            _remove(path)
            os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
