"""Read given vectors: from a Parquet file (`id`, `vector`) or an .npz (`ids`, `vectors`)."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.pool.connection import connect
from crowdselect.pool.source import Source
from crowdselect.textfile import check_file


def read_given_vectors(
    path: str | PathLike[str], *, ids: Sequence[str], named: str | None = None
) -> tuple[NDArray[np.float32], int]:
    """Read one vector per instruction.

    Args:
        path: A Parquet file with the columns `id` (text or whole numbers) and `vector` (lists of numbers, all
            of one length), or an .npz with the arrays `ids` (n,) and `vectors` (n, D). The first bytes
            tell which of the two it is. Pickled objects are refused.
        ids: The N ids wanted.
        named: The file's name in messages, if not `path`.

    Returns:
        Shape (N, D), as given (not normalised), in the order of `ids`; and how many vectors of the file
        belong to none of them.

    Raises:
        InputError: The file is missing, neither of the two, or damaged; a column or array is missing or of another
            type; an id is missing (the message names the first, and how many) or appears twice; a vector is null, of
            another length, or holds NaN or infinity (the message names its id).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     file = Path(place) / "vectors.npz"
        ...     np.savez(file, ids=np.array(["b", "a"]), vectors=np.array([[2.0], [1.0]]))
        ...     read_given_vectors(file, ids=["a"])
        (array([[1.]], dtype=float32), 1)
    """
    path, where = Path(path), named or str(path)
    try:
        check_file(path)
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    if start == b"PAR1":
        file_ids, vectors = _read_parquet(path, where)
    elif start == b"PK\x03\x04":
        file_ids, vectors = _read_npz(path)
    else:
        raise InputError(f"{where}: neither Parquet (id, vector) nor .npz (ids, vectors)")
    rows = _rows(file_ids, ids, where)
    chosen = vectors[rows]
    check_finite(chosen, ids=ids, where=where)
    return chosen, len(file_ids) - len(rows)


def is_parquet(path: str) -> bool:
    """Tell whether a file begins like Parquet; False if it cannot be read."""
    try:
        check_file(Path(path))
        with Path(path).open("rb") as file:
            return file.read(4) == b"PAR1"
    except (OSError, InputError):
        return False


def check_vector_ids(path: str, ids: Any) -> int:  # noqa: ANN401  (an Arrow array)
    """Check that a large Parquet file has one vector for each instruction, by its column of ids.

    Args:
        path: As for `read_given_vectors`, Parquet.
        ids: The N ids wanted, as an Arrow array of text.

    Returns:
        How many vectors of the file belong to none of them.

    Raises:
        InputError: As for `read_given_vectors`, as far as the ids tell.
    """
    import pyarrow.compute as pc

    file_ids = _names(_columns(Path(path), path, ["id"])["id"], path)
    wanted = ids.cast(file_ids.type)
    if (
        pc.count_distinct(file_ids).as_py() < len(file_ids)
        or not pc.all(pc.is_in(wanted, file_ids), min_count=0).as_py()
    ):
        _rows(file_ids.to_pylist(), wanted.to_pylist(), path)  # names the id
    return len(file_ids) - len(wanted)


def read_some_vectors(path: str, *, ids: Sequence[str]) -> NDArray[np.float32]:
    """Read the vectors of some instructions of a large Parquet file, without holding the others in memory.

    Args:
        path: As for `read_given_vectors`, Parquet; its ids have passed `check_vector_ids`.
        ids: The N ids wanted, all different.

    Returns:
        Shape (N, D), in the order of `ids`.

    Raises:
        InputError: As for `read_given_vectors`.
    """
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="crowdselect-") as folder, closing(connect()) as connection:
        wanted = Path(folder) / "vectors.parquet"
        Source(connection, path).keep('CAST("id" AS VARCHAR)', pa.array(ids, pa.large_string()), wanted)
        return read_given_vectors(wanted, ids=ids, named=path)[0]


def check_finite(vectors: NDArray[Any], *, ids: Sequence[str], where: str) -> None:
    """Refuse NaN and infinity.

    Args:
        vectors: Shape (N, D).
        ids: The N ids, to name the first bad row.
        where: File or column, for the message.

    Raises:
        InputError: A vector is not finite.

    Example:
        >>> check_finite(np.ones((1, 2)), ids=["a"], where="column v")
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise InputError(
            f"{where}: the vector of id {ids[bad[0]]!r} holds NaN, infinity or a number beyond float32 "
            f"({bad.size} such vectors); every number must be finite"
        )


def _rows(file_ids: list[str], ids: Sequence[str], path: str) -> NDArray[np.int64]:
    row_of = {name: row for row, name in enumerate(file_ids)}
    if len(row_of) < len(file_ids):
        twice = next(name for row, name in enumerate(file_ids) if row_of[name] != row)
        raise InputError(f"{path}: id {twice!r} appears more than once; wanted one vector per id")
    missing = [name for name in ids if name not in row_of]
    if missing:
        raise InputError(
            f"{path}: no vector for id {missing[0]!r} ({len(missing)} of {len(ids)} ids of the pool are missing)"
        )
    return np.array([row_of[name] for name in ids], dtype=np.int64)


def _read_npz(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            absent = [name for name in ("ids", "vectors") if name not in arrays]
            if absent:
                raise InputError(
                    f"{path}: no array {absent[0]!r} (found: {', '.join(arrays.files)}); wanted ids, vectors"
                )
            ids, vectors = arrays["ids"], arrays["vectors"]
    except (BadZipFile, EOFError, KeyError, OSError) as error:
        raise InputError(f"{path}: damaged .npz ({_line(error)})") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be read without pickle ({_line(error)}); save ids as an array of text"
        ) from error
    if ids.ndim != 1 or ids.dtype.kind not in "Uiu":
        raise InputError(
            f"{path}: ids has shape {ids.shape} and type {ids.dtype}; wanted (n,) text or whole numbers"
        )
    if (
        vectors.ndim != 2
        or vectors.dtype.kind not in "fiu"
        or len(vectors) != len(ids)
        or vectors.shape[1] == 0
    ):
        raise InputError(
            f"{path}: vectors has shape {vectors.shape} and type {vectors.dtype}; wanted ({len(ids)}, D) numbers"
        )
    return [str(name) for name in ids.tolist()], to_float32(vectors)


def to_float32(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Convert to float32; numbers beyond its range become infinite, for `check_finite` to report.

    Args:
        vectors: Numbers of any type.

    Returns:
        The same shape.

    Example:
        >>> to_float32(np.array([1e300]))
        array([inf], dtype=float32)
    """
    with np.errstate(over="ignore"):
        return vectors.astype(np.float32)


def _read_parquet(path: Path, where: str) -> tuple[list[str], NDArray[np.float32]]:
    table = _columns(path, where, ["id", "vector"])
    names = _names(table["id"], where).to_pylist()
    return names, _stack(table["vector"].combine_chunks(), names, where)


def _columns(path: Path, where: str, wanted: list[str]) -> Any:  # noqa: ANN401  (PyArrow ships no types)
    """Read columns of a file that must have both `id` and `vector`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path.absolute()) as file:
            columns = file.schema_arrow.names
            for name in ("id", "vector"):
                if columns.count(name) != 1:
                    raise InputError(
                        f"{where}: no column {name!r} (found: {', '.join(columns)}); wanted id, vector"
                    )
            return file.read(columns=wanted)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where}: damaged Parquet ({_line(error)})") from error


def _names(ids: Any, where: str) -> Any:  # noqa: ANN401  (Arrow arrays)
    """Convert ids to text."""
    import pyarrow as pa

    ids = ids.combine_chunks()
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if not (
        pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type) or pa.types.is_integer(ids.type)
    ):
        raise InputError(f"{where}: column id is of type {ids.type}; wanted text or whole numbers")
    if ids.null_count:
        raise InputError(f"{where}: {ids.null_count} ids are null; every vector needs one")
    return ids.cast(pa.large_string())


def _stack(lists: Any, names: list[str], where: str) -> NDArray[np.float32]:  # noqa: ANN401  (PyArrow ships no types)
    """Stack lists of numbers into one (n, D) array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = lists.type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ) or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise InputError(f"{where}: column vector is of type {kind}; wanted lists of numbers")
    if lists.null_count:
        row = pc.index(lists.is_null(), True).as_py()
        raise InputError(
            f"{where}: the vector of id {names[row]!r} is null ({lists.null_count} such vectors)"
        )
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if not lengths.size or lengths[0] == 0:
        raise InputError(
            f"{where}: no vectors" if not lengths.size else f"{where}: the vector of id {names[0]!r} is empty"
        )
    odd = np.flatnonzero(lengths != lengths[0])
    if odd.size:
        raise InputError(
            f"{where}: the vector of id {names[odd[0]]!r} has {lengths[odd[0]]} numbers, "
            f"that of id {names[0]!r} has {lengths[0]}; all must have the same length"
        )
    # A null inside a list becomes NaN here, which `check_finite` reports.
    flat = pc.cast(lists.flatten(), pa.float64()).to_numpy(zero_copy_only=False)
    return to_float32(flat.reshape(len(names), int(lengths[0])))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
