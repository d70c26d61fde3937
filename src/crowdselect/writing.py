"""Write results safely: never over an input or other people's files, never half finished."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path
from typing import Any

from crowdselect.errors import OutputError
from crowdselect.manifests import (
    MANIFEST,
    TOOL,
    UNFINISHED,
    in_the_way,
    is_ours,
    own_files,
    read_manifest,
    write_manifest,
)
from crowdselect.partials import partial_of, put_in_place

__all__ = [
    "MANIFEST",
    "TOOL",
    "check_beside",
    "check_ending",
    "check_manifest",
    "check_output",
    "claim",
    "made_folder",
    "new_file",
    "new_files",
    "new_folder",
    "read_manifest",
    "write_manifest",
    "write_table",
]

_TABLES = (".parquet", ".csv", ".jsonl")  # table formats


def check_output(
    path: str | os.PathLike[str],
    *,
    inputs: Iterable[Path],
    overwrite: bool,
    folder: bool,
    writes: Iterable[str] = (),
) -> Path:
    """Check an output path before any work is done.

    Args:
        path: The file or folder to write.
        inputs: Every file that the command reads.
        overwrite: Replace an existing result. In a folder, only the files that our manifest lists are replaced.
        folder: Whether `path` will be a folder.
        writes: The files that will be written into it, as far as they are known.

    Returns:
        The absolute path.

    Raises:
        OutputError: The path is an input or contains one, exists already, is not ours to replace, or its
            parent folder is missing.

    Example:
        >>> check_output("no-such-folder-yet", inputs=[], overwrite=False, folder=True).name
        'no-such-folder-yet'
    """
    target = Path(os.path.abspath(path))  # noqa: PTH100  (symbolic links stay: the link's own path is written)
    try:
        os.fspath(target).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"{path}: the path is not UTF-8, which Parquet needs; choose another path"
        ) from None
    for source in inputs:
        if _is_or_contains(target, source):
            raise OutputError(f"{path}: the output is, or contains, the input {source}; choose another place")
    parent = _led_to(target).parent if folder else target.parent
    if not parent.is_dir():
        raise OutputError(f"{path}: there is no folder {parent}; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write into {parent}; choose another place")
    if folder:
        _check_folder(target, path, overwrite=overwrite, writes=writes)
    elif target.is_dir():
        raise OutputError(f"{path}: this is a folder; name a file")
    elif os.path.lexists(target) and not overwrite:
        raise OutputError(f"{path}: there is such a file already; add `overwrite=True` to replace it")
    return target


def check_beside(path: str | os.PathLike[str], *, pool: str, files: Iterable[Path], folder: bool) -> None:
    """Refuse an output path where the next run would read the output as a part of the pool.

    Args:
        path: The file or folder to write.
        pool: The pool as the user named it: a file, a folder or a glob.
        files: The pool's files.
        folder: Whether `path` will be a folder.

    Raises:
        OutputError: A file beside the files of a folder or glob, or a folder inside a pool's folder that is
            read with its subfolders.

    Example:
        >>> check_beside("out.parquet", pool="pool.parquet", files=[Path("pool.parquet")], folder=False)
    """
    target, place = Path(os.path.realpath(path)), Path(os.path.realpath(pool))
    real = {Path(os.path.realpath(file)) for file in files}
    homes = {file.parent for file in real}
    named = Path(pool).name  # a glob reads what it matches alone
    if place in real or (has_magic(named) and not folder and not fnmatch(target.name, named)):
        return
    inside = place in target.parents and place not in homes
    if inside or (target.parent in homes and not folder):
        raise OutputError(
            f"{path}: the output would be read as a part of the pool {pool}; choose another place"
        )


def _is_or_contains(target: Path, source: Path) -> bool:
    """Compare the paths as written and as resolved: either may go through symbolic links."""
    sources = [Path(way(source)) for way in (os.path.abspath, os.path.realpath)]
    targets = [target, Path(os.path.realpath(target))]
    return any(place in (real, *real.parents) for place in targets for real in sources)


def _led_to(target: Path) -> Path:
    """Return the folder to write: `target`, or the folder that it links to, so that the link stays."""
    return Path(os.path.realpath(target)) if target.is_symlink() and target.is_dir() else target


def _check_folder(
    target: Path, path: str | os.PathLike[str], *, overwrite: bool, writes: Iterable[str] = ()
) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise OutputError(f"{path}: this is not a folder; choose another place")
    here, place = Path.cwd(), _led_to(target)
    if Path(os.path.realpath(target)) in (here, *here.parents) or place.is_mount():
        raise OutputError(
            f"{path}: the current folder and mounted ones cannot be replaced; name a new folder inside it"
        )
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise OutputError(
            f"{path}: the folder is not empty; add `overwrite=True` to replace an earlier result"
        )
    if not is_ours(place):
        raise OutputError(
            f"{path}: not a crowdselect output folder (no {MANIFEST}), so it is not replaced; choose another place"
        )
    blocked = in_the_way(place, writes)
    if blocked is not None:
        raise OutputError(
            f"{place / blocked}: was not written by crowdselect and is in the way; move it, or choose another place"
        )


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Create a folder beside `target` and move it into place when the block ends without an error.

    Files in `target` that are not ours stay: see `partials.put_in_place`.

    Args:
        target: A path that `check_output` has passed; a symbolic link to a folder stays one.
        overwrite: As for `check_output`, which may have run long ago, so the check is repeated at the end.

    Yields:
        The folder to write into. Its manifest must be written last, by `write_manifest`: if the process dies
        before that, what is left has none, and `target` is unchanged.

    Raises:
        OutputError: It cannot be written, or something else has appeared there in the meantime.
    """
    with _explained(target):
        resolved = _led_to(target)
        with partial_of(resolved, folder=True) as partial:
            yield partial
            _check_folder(target, target, overwrite=overwrite)
            if resolved.exists():
                put_in_place(resolved, partial)
            else:
                partial.rename(resolved)


@contextmanager
def new_files(folder: Path, *, manifest: str = MANIFEST) -> Iterator[Path]:
    """Create a hidden folder inside `folder`, and move its files into `folder` when the block ends without an error.

    Args:
        folder: An existing folder, whatever it holds; only files that its manifest lists are replaced or removed.
        manifest: The manifest's file name.

    Yields:
        The folder to write into, the manifest last, by `write_manifest`.

    Raises:
        OutputError: They cannot be written, or a file that is not ours is in the way.
    """
    with _explained(folder), partial_of(folder, folder=True, inside=True) as partial:
        yield partial
        put_in_place(folder, partial, manifest)


def check_manifest(path: Path) -> None:
    """Refuse to write a file's manifest over a file that crowdselect did not write.

    Raises:
        OutputError: There is such a file.
    """
    if os.path.lexists(path) and read_manifest(path.parent, path.name) is None:
        raise OutputError(
            f"{path}: was not written by crowdselect and is in the way; move it, or choose another place"
        )


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Create a folder for other results; if it is new and stays empty, remove it again.

    Args:
        folder: Its path; it may exist.

    Raises:
        OutputError: It cannot be created.
    """
    existed = folder.is_dir()
    with _explained(folder):
        folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if not existed:
            with suppress(OSError):  # not empty
                folder.rmdir()


def claim(folder: Path, name: str, *, overwrite: bool) -> Path:
    """List one more file in the manifest of a finished result, before it is written.

    Args:
        folder: The result's folder.
        name: The file's name.
        overwrite: Take the name even if a file of that name exists that is not ours.

    Returns:
        Its path.

    Raises:
        OutputError: There is such a file, and it is not ours; or the manifest cannot be written.
    """
    target, own = folder / name, own_files(folder)
    if os.path.lexists(target) and name not in own and not overwrite:
        raise OutputError(
            f"{target}: was not written by crowdselect; add `overwrite=True` to replace it, or name another file as `output`"
        )
    manifest = read_manifest(folder)
    if manifest is not None and name not in own:
        with new_file(folder / MANIFEST) as partial:
            facts = {**manifest, "written": sorted({*own, name} - {UNFINISHED})}
            partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="ascii")
    return target


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Write a file beside `target` and move it into place when the block ends without an error.

    Args:
        target: A path that `check_output` has passed.

    Yields:
        The path to write to, with the target's file name extension.

    Raises:
        OutputError: It cannot be written.
    """
    with _explained(target), partial_of(target, folder=False) as partial:
        yield partial
        partial.replace(target)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Turn system errors, such as a full disk, into an `OutputError` that names what could not be written."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error


def check_ending(path: str | os.PathLike[str]) -> None:
    """Check that a path ends in a known table format, before any work is done.

    Args:
        path: Ends in `.parquet`, `.csv` or `.jsonl`.

    Raises:
        OutputError: Another ending.

    Example:
        >>> check_ending("metrics.parquet")
    """
    ending = Path(path).suffix
    if ending not in _TABLES:
        raise OutputError(
            f"{path}: cannot write {ending or 'a file without an ending'}; use {', '.join(_TABLES)}"
        )


def write_table(table: Any, path: Path) -> None:  # noqa: ANN401  (a pyarrow table)
    """Write a table atomically, in the format of the file's ending.

    Args:
        table: A pyarrow table.
        path: Ends in `.parquet`, `.csv` or `.jsonl`.

    Raises:
        OutputError: Another ending.
    """
    check_ending(path)
    with new_file(path) as partial:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, partial, compression="zstd")
        elif path.suffix == ".csv":
            from pyarrow import csv

            csv.write_csv(table, partial)
        else:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                for batch in table.to_batches(max_chunksize=10_000):
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
