"""From what the user typed to the files that hold the data: a file, a folder, a glob, a Hub data set or a store.

Files of an object store (s3://, gs://) are brought to this machine's cache folder by PyArrow. Keys come from where
the store's own tools look for them (environment, profile, the machine's role), never from the address, which is
written into manifests.
"""

import glob
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from crowdselect._optional import optional
from crowdselect.cache import folder
from crowdselect.errors import InputError, OptionError
from crowdselect.hubaccess import hub_failure
from crowdselect.pool.batchservice import is_of_service
from crowdselect.pool.databases import MAGIC, told
from crowdselect.pool.folders import DESCRIPTIONS, data_files, model_of, models_in
from crowdselect.pool.howread import HowRead
from crowdselect.pool.hub import HUB, hub_address
from crowdselect.pool.inspectlogs import CONVERT, Run, counting, runs_in
from crowdselect.pool.inspectlogs import told as told_of_runs
from crowdselect.pool.lmeval import Log, is_log, logs_in
from crowdselect.textfile import MARK, broken_archive, check_file, check_text, open_text, too_deep

FileType = Literal["parquet", "arrow", "json", "csv"]

SCHEMES = ("s3://", "gs://")
"""Beginnings of addresses in stores."""

_HARMLESS = {"region", "scheme", "endpoint_override"}  # what may follow the `?` in those; keys may not
_TYPES: dict[str, FileType] = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
_PACKED = (".gz", ".zst")
_OTHERS = {
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), "unpack it first"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as CSV first, with the headings in line 1"),
    **dict.fromkeys((".pkl", ".pickle"), "write it as Parquet first (`to_parquet` of pandas)"),
    ".eval": f"write it as JSON first, with the other logs of inspect_ai: {CONVERT}",
}
"""Endings of files that people have → what to do with them."""
_MAGIC = b"PAR1"  # a Parquet file begins and ends with it
_EDGE = 1 << 20  # the fingerprint reads this much of either end of a file
_GLOB = str.maketrans({"*": "[*]", "?": "[?]", "[": "[[]"})


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The files of a pool, as they were found."""

    path: str
    files: tuple[Path, ...]
    kind: FileType | Literal["lm-eval"]
    models: tuple[str | None, ...] = ()
    """The model of each file, where its path says so; empty = no path does."""
    notes: tuple[str, ...] = ()
    models_from: str = ""
    """What to say where `models` are taken."""
    logs: tuple[Log, ...] = ()
    """What lm-evaluation-harness logged in each file, where it wrote them."""
    runs: tuple[Run, ...] = ()
    """The run of inspect_ai that each file is the log of, where they are."""


def resolve(path: str) -> tuple[tuple[Path, ...], FileType]:
    """Find the data files of a path, and their common type; see `find_files`."""
    found = find_files(path, HowRead())
    if found.kind == "lm-eval":
        raise InputError(f"{path}: is a results folder of lm-evaluation-harness; wanted one file")
    return found.files, found.kind


def find_files(path: str, how: HowRead) -> FoundFiles:
    """Find the data files of a path.

    Args:
        path: A file, a folder (its Parquet, else JSONL, else CSV files), a glob, or
            `hf://datasets/OWNER/NAME[@REVISION][/PATH]`, or a file or folder of a store, `s3://BUCKET/PATH` or
            `gs://BUCKET/PATH`. Hidden files are ignored. A folder may be a data set of the Hub (its train split is
            read), of `save_to_disk`, or the results of lm-evaluation-harness.
        how: `subset`, `split` and `model_from` count here.

    Returns:
        The files in the order of their names, and what they are.

    Raises:
        InputError: Nothing is there, the types are mixed or unknown, or a file is empty or broken.
        MissingExtraError: A Hub data set is asked for and huggingface_hub is not installed.
    """
    if path.startswith(HUB):
        place: Path | None = _hub_folder(path)
    elif is_stored(path):
        place = fetched(path, wanted=_is_wanted)
    else:
        place = Path(path) if os.path.isdir(path) else None  # noqa: PTH112  (unlike Path's, False for a name too long)
    notes: tuple[str, ...] = ()
    if place is not None and place.is_dir():
        logs = logs_in(place)
        if logs:
            return FoundFiles(path, tuple(log.file for log in logs), "lm-eval", logs=tuple(logs))
        files, notes = _in_folder(place, path, how)
    elif is_log(file := place or Path(path)):
        return FoundFiles(path, (file,), "lm-eval", logs=tuple(logs_in(file)))
    else:
        files = (place,) if place is not None else _local(path)
        if how.subset is not None or how.split is not None:
            raise OptionError(
                f"{path}: `subset` and `split` name parts of a folder or a data set, and this is a file"
            )
    kind = _common_type(path, files)
    runs = runs_in(files) if kind == "json" else []
    if runs:
        taken, others = (
            counting(runs),
            [file.name for file in files if file not in {run.file for run in runs}],
        )
        notes = (
            *notes,
            *([f"left out, no logs: {', '.join(others)}"] if others else []),
            *told_of_runs(runs, taken),
        )
        return FoundFiles(path, tuple(run.file for run in taken), kind, notes=notes, runs=tuple(taken))
    models = tuple(model_of(file, place or Path(), how) for file in files)
    if how.model_from == "file" and len(set(models)) == 1 and models_in(files) == "folder":
        raise InputError(
            f"{path}: all {len(files)} files have one name, {models[0]!r}, and would be answers of one model; take the model from "
            f"their folders with `model_from='folder'`, or name the one model with `model={models[0]!r}`"
        )
    told = f"the model is the name of the {how.model_from or 'folder model=NAME'}"
    return FoundFiles(path, files, kind, models if any(models) else (), notes, told)


def _common_type(path: str, files: Sequence[Path]) -> FileType:
    """Say what some files are, all of one type."""
    for file in files:
        try:
            os.fspath(file).encode()
        except UnicodeEncodeError:
            raise InputError(f"{file}: its name is not UTF-8, and DuckDB opens no other; rename it") from None
    kinds = sorted({file_type(file) for file in files})
    if len(kinds) > 1:
        known = next(
            (f"'{f.parent / '*.jsonl'}'" for f in files if f.suffix == ".jsonl" and is_of_service(f)), None
        )
        told = (
            f"; those of the batch service are opened as {known}, scores beside them with `rewards`"
            if known
            else ""
        )
        raise InputError(
            f"{path}: holds {' and '.join(kinds)} files; wanted one type; name the files, or use a glob{told}"
        )
    return kinds[0]


def file_type(file: Path) -> FileType:
    """Say what a file is from its name, and check what can be checked in a few bytes.

    Raises:
        InputError: It is empty, a pipe, of no known type, named `.parquet` without being a whole Parquet file, or
            named as text without being UTF-8 text, plain or packed.
    """
    try:
        check_file(file)
        head, tail, size = _ends(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); wanted a file that can be") from error
    if size == 0:
        raise InputError(f"{file}: the file is empty (0 bytes); wanted data; write it again")
    known = _TYPES.get(_suffix(file))
    if known == "arrow":
        return "arrow"
    if known == "parquet" or (known is None and head == _MAGIC):
        if head != _MAGIC:
            raise InputError(
                f"{file}: not a Parquet file (it begins with {head!r}); wanted Parquet; check its name"
            )
        if tail != _MAGIC or size < 12:
            raise InputError(
                f"{file}: the Parquet file is truncated (its last bytes are missing); copy it again"
            )
        return "parquet"
    if known is None:
        first = told(file) if head == MAGIC else _OTHERS.get(_suffix(file))
        raise InputError(
            f"{file}: {first or 'unknown file type'}; wanted .parquet, .jsonl, .json, .csv or .tsv (plain, .gz or .zst), or .arrow"
        )
    if head == _MAGIC:
        raise InputError(f"{file}: is a Parquet file by its content; rename it to end in .parquet")
    check_text(file)
    return known


def is_table(path: str) -> bool:
    """Say whether a path is named like Parquet, JSON or CSV, rather than like plain text.

    Example:
        >>> is_table("ids.jsonl.gz"), is_table("ids.txt")
        (True, False)
    """
    return _unpacked(path).endswith(tuple(_TYPES))


def literal(file: Path) -> str:
    """Write the path of one file as DuckDB takes it: nothing in it is a pattern, and no `~` the home folder."""
    return str(file.absolute()).translate(_GLOB)


def delimiter(file: Path) -> str:
    """Give the character between the fields of a CSV (`,`) or TSV (tab) file."""
    return "\t" if _suffix(file) == ".tsv" else ","


def json_format(files: Sequence[Path]) -> str:
    """Name DuckDB's reader: a `.json` may be one array, any other file is an object per line."""
    return "auto" if any(_suffix(file) == ".json" for file in files) else "newline_delimited"


def broken_line(files: Sequence[Path]) -> InputError | None:
    """Find the first line of some JSON files that is not a JSON object, or is nested too deeply.

    Args:
        files: JSON files of one object per line, or each a single array of objects.

    Returns:
        The error that names file and line, or None where every line is an object.
    """
    for file in files:
        try:
            with open_text(file) as stream:
                found = _broken_in(file, stream)
        except RecursionError:
            found = too_deep(file)
        except OSError as error:
            return broken_archive(file, error)
        if found is not None:
            return found
    return None


def fingerprint(files: Sequence[Path]) -> str:
    """Hash the size and both ends of each file: cheap, and blind to where the files lie.

    Returns:
        64 hexadecimal digits. Files of the same content in the order of their names give the same.
    """
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{size};".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_EDGE))
            stream.seek(max(size - _EDGE, 0))
            digest.update(stream.read(_EDGE))
    return digest.hexdigest()


def _ends(file: Path) -> tuple[bytes, bytes, int]:
    """Give the first and the last four bytes of a file, and its size."""
    with file.open("rb") as stream:
        head = stream.read(4)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 4, 0))
        return head, stream.read(4), size


def _suffix(file: Path) -> str:
    """Give the type's ending in lower case: `.jsonl` for `pool.JSONL.gz`."""
    return Path(_unpacked(file.name)).suffix


def _unpacked(name: str) -> str:
    """Give a name in lower case, without the ending of a packed file."""
    name = name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name


def _local(path: str) -> tuple[Path, ...]:
    names = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))  # noqa: PTH110, PTH207  (the same; absolute globs)
    found = tuple(Path(name) for name in names if not os.path.isdir(name))  # noqa: PTH112
    if not found:
        address = hub_address(path)
        raise InputError(
            f"{path}: no such file or folder; "
            + (
                "wanted a file, a folder or a glob; check the path"
                if address is None
                else f"if you mean the data set of the Hub, write {address}"
            )
        )
    return found


def _in_folder(folder: Path, path: str, how: HowRead) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Take a folder's data files, looking into its subfolders only where it has none itself; and say what was left."""
    below = sorted(file for file in folder.rglob("*") if _is_data(file, folder))
    # A plain .json beside data is a description of it (a crowd, a card), not more data.
    for found in ([file for file in below if file.suffix.lower() != ".json"], below):
        files = [file for file in found if file.parent == folder] or found
        if files:
            return data_files(folder, files, found, how)
    logs = next((file.name for file in folder.rglob("*.eval")), None)
    if logs is not None:
        raise InputError(f"{path}: {logs}: {_OTHERS['.eval']}")
    raise InputError(f"{path}: the folder holds no data; wanted .parquet, .jsonl or .csv files in it")


def _is_wanted(name: str) -> bool:
    """Say whether a file of a store belongs to a data set: data, or what says how it is laid out."""
    return _suffix(Path(name)) in _TYPES or name in DESCRIPTIONS


def _is_data(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and _suffix(file) in _TYPES and file.is_file()


def _hub_folder(path: str) -> Path:
    """Bring a Hub data set into huggingface_hub's own cache and give the folder (or file) asked for."""
    hub = optional("huggingface_hub", extra="hub")
    owner, _, rest = path.removeprefix(HUB).partition("/")
    name, _, inside = rest.partition("/")
    name, _, revision = name.partition("@")
    if not owner or not name:
        raise InputError(f"{path}: not a Hub data set; wanted {HUB}OWNER/NAME[@REVISION][/PATH]")
    wanted = [f"*{ending}{packed}" for ending in _TYPES for packed in ("", *_PACKED)]
    wanted += list(DESCRIPTIONS)
    try:
        folder = Path(
            hub.snapshot_download(
                f"{owner}/{name}", repo_type="dataset", revision=revision or None, allow_patterns=wanted
            )
        )
    except (
        OSError,
        ValueError,
    ) as error:  # the Hub's errors are one or the other: absent, private, offline, misspelt
        raise InputError(
            f"{path}: the Hub did not give the data set {owner}/{name}, revision {revision or 'main'}: "
            f"{hub_failure(error) or _one_line(error.__cause__ or error)}"
        ) from error
    place = (folder / inside) if inside else folder
    if not place.exists():
        raise InputError(
            f"{path}: the data set has no file or folder {inside!r}; check the path after its name"
        )
    return place


def _broken_in(file: Path, stream: io.BufferedReader) -> InputError | None:
    if stream.peek(64).removeprefix(MARK).lstrip(b" \t\r\n").startswith(b"["):
        return _broken_array(file, stream)
    for number, line in _numbered(stream):
        try:
            value = json.loads(line)
        except ValueError as error:
            return InputError(
                f"{file}: line {number} is not JSON ({_one_line(error)}); wanted one object per line"
            )
        if not isinstance(value, dict):
            return InputError(
                f"{file}: line {number} is a JSON {type(value).__name__}, not an object; wanted one object per line"
            )
    return None


def _broken_array(file: Path, stream: io.BufferedReader) -> InputError | None:
    try:
        rows = json.load(stream)
    except ValueError as error:
        return InputError(
            f"{file}: not JSON ({_one_line(error)}); wanted an array of objects, or one object per line"
        )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            return InputError(f"{file}: element {number} of the array is not an object; wanted objects")
    return None


def _numbered(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """Number a file's lines from 1, leaving out the blank ones but counting them."""
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(MARK) if number == 1 else line
        if text.strip():
            yield number, text


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Say whether a path names a Hub data set or a place in a store, which is no place of this machine.

    Example:
        >>> is_remote("hf://datasets/owner/name"), is_remote("pool.parquet")
        (True, False)
    """
    return os.fspath(path).startswith(HUB) or is_stored(os.fspath(path))


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
        home = folder() / "stores" / hashlib.sha256(path.encode()).hexdigest()[:16]
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
