"""What is written beside its place until it is whole: held by the process that writes it, cleared away once that is dead."""

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
    """Make a hidden file or folder beside `target`, and clear away those of dead processes.

    Args:
        target: What it is to become.
        folder: A folder, not a file.
        inside: Make it in `target`, a folder that is there.

    Yields:
        Its path. If it has not been renamed when the block ends, it is removed.
    """
    place = target if inside else target.parent
    _clear(place, target.name)
    path, lock = _made(place, target, folder=folder)
    try:
        path.chmod((0o777 if folder else 0o666) & ~_umask())
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def put_in_place(folder: Path, complete: Path, name: str = MANIFEST) -> None:
    """Move the files of a complete result into a folder: in the place of those that are ours there.

    Everything else in the folder stays where it is. The manifest goes first and comes last, so that its presence
    means complete; meanwhile `UNFINISHED` says what is ours. If a move fails, all are undone. Ctrl-C waits.

    Args:
        folder: A folder that is there.
        complete: A folder on the same file system, with the result.
        name: The manifest's file name.

    Raises:
        OutputError: A file that is not ours is in the way; nothing was changed.
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
    """Let no two processes move files into a folder at once."""
    try:
        lock = _held(folder)
    except BlockingIOError:
        raise OutputError(
            f"{folder}: another run is writing there; wait until it ends, and run again"
        ) from None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _exchange(folder: Path, complete: Path, *, own: set[str], new: list[str], name: str) -> None:
    """Move our former files out, the manifest first, and the new ones in, the manifest last."""
    moved: list[tuple[Path, Path]] = []
    try:
        for one in sorted(own, key=lambda one: one != name):
            if (folder / one).is_symlink() or (folder / one).is_file():
                _move(folder / one, complete / _FORMER / one, moved)
        for one in sorted(new, key=lambda one: one == name):
            _move(complete / one, folder / one, moved)
    except BaseException:
        for source, goal in reversed(moved):
            goal.rename(source)
        (folder / UNFINISHED).unlink()
        raise
    (folder / UNFINISHED).unlink()


def _say_unfinished(folder: Path, complete: Path, names: set[str]) -> None:
    said = complete / UNFINISHED
    said.write_text(
        json.dumps({"tool": TOOL, "kind": "unfinished", "written": sorted(names)}), encoding="ascii"
    )
    said.replace(folder / UNFINISHED)


def _move(source: Path, goal: Path, moved: list[tuple[Path, Path]]) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    source.rename(goal)
    moved.append((source, goal))


def _remove_empty(folder: Path, names: set[str]) -> None:
    """Remove the folders that files of ours were in, where nothing is left in them."""
    above = {parent for one in names for parent in (folder / one).parents if folder in parent.parents}
    for place in sorted(above, key=lambda one: len(one.parts), reverse=True):
        with suppress(OSError):  # something is left in it, or it was no folder
            place.rmdir()


def _made(place: Path, target: Path, *, folder: bool) -> tuple[Path, int | None]:
    """Make what is to be written into, and hold it; one who clears away may have been faster."""
    prefix, suffix = f".{target.name}.partial-", target.suffix
    while True:
        if folder:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=place)
            os.close(handle)
            path = Path(name)
        try:
            return path, _held(path)
        except (BlockingIOError, FileNotFoundError):
            continue


def _held(path: Path) -> int | None:
    """Hold a file or folder until the process ends, however it ends.

    Returns:
        What holds it; None where the system has no such locks, or not here.

    Raises:
        BlockingIOError: Another process holds it.
        FileNotFoundError: It has gone.
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


def _clear(place: Path, name: str) -> None:
    """Remove what dead processes have left of a result of this name; what a living one holds is left alone."""
    ours = re.compile(rf"\.{re.escape(name)}\.partial-[a-z0-9_]{{8}}(\.\w+)?")
    try:
        found = [place / one for one in os.listdir(place) if ours.fullmatch(one)]  # noqa: PTH208  (names alone)
    except OSError:
        return
    for path in found:
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
