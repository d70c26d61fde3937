"""A cache of computed results in Parquet parts, looked up by the content they were computed from.

A part is written under a temporary name and then renamed, so an existing part is complete; its pages have checksums,
so damage is detected. Its name is a hash of its keys, so a batch that is computed a second time finds its part. Parts
are never changed, so any number of processes can share a folder.

The cache between runs is one folder (`folder()`): the environment variable CROWDSELECT_CACHE, else the platform's
cache folder. Everything in it can be computed again: to empty it, delete it.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OutputError
from crowdselect.parquetfile import read_parquet

KEY = "key"
"""The column of every part that identifies what a row was computed from: 32 bytes."""

_VECTOR = "vector"
_LENGTH = 32
_NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Keys:
    """A sorted index of many keys, compared by their first 128 bits.

    Attributes:
        high: Shape (n,), ascending.
        low: Shape (n,), ascending where `high` is equal.
        place: Shape (n,), the position of each key in the sequence it was built from.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Sequence[bytes] | bytes, *, prefer: NDArray[np.bool_] | None = None) -> Self:
        """Build the index.

        Args:
            keys: 32 bytes each, or all of them joined.
            prefer: Which to keep of equal keys: the first preferred one, else the first.

        Example:
            >>> Keys.of([b"b" * 32, b"a" * 32, b"b" * 32]).find([b"b" * 32, b"c" * 32]).tolist()
            [0, -1]
        """
        high, low = _halves(keys)
        last = np.zeros(len(high), dtype=np.bool_) if prefer is None else ~prefer
        order = np.lexsort((last, low, high))  # stable: equal keys stay in their order
        high, low = high[order], low[order]
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return cls(high[first], low[first], order[first])

    def find(self, keys: Sequence[bytes] | bytes) -> NDArray[np.int64]:
        """Return the position of each key, -1 if it is not in the index."""
        high, low = _halves(keys)
        position = np.searchsorted(self.high, high)
        found = np.full(len(high), _NOWHERE, dtype=np.int64)
        open_ = np.flatnonzero(position < len(self.high))
        while open_.size:
            same = self.high[position[open_]] == high[open_]
            hit = same & (self.low[position[open_]] == low[open_])
            found[open_[hit]] = self.place[position[open_[hit]]]
            open_ = open_[same & ~hit]  # another key with the same first half: try the next
            position[open_] += 1
            open_ = open_[position[open_] < len(self.high)]
        return found


class Parts:
    """A folder of parts.

    Args:
        folder: Created with the first part.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def name(self, keys: Sequence[bytes]) -> str:
        """Return the file name of the part with these keys."""
        return f"part-{sha256(b''.join(keys)).hexdigest()[:32]}.parquet"

    def has(self, name: str) -> bool:
        """Tell whether a part exists, and is therefore complete."""
        return (self.folder / name).exists()

    def write(self, name: str, columns: dict[str, Any], *, compression: str = "zstd") -> None:
        """Write a part atomically.

        Args:
            name: From `name`.
            columns: Arrow arrays, `KEY` among them.
            compression: Any that Parquet supports; "none" for incompressible data.

        Raises:
            OutputError: It cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        temporary = self.folder / f".{uuid4().hex}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                pq.write_table(
                    pa.table(columns),
                    file,
                    compression=compression,
                    use_dictionary=compression != "none",
                    write_statistics=False,  # unused, and not covered by a checksum
                    write_page_checksum=True,
                )
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: a part cannot be written ({error.strerror or error}); earlier parts are kept"
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def read(self, *columns: str) -> Any:  # noqa: ANN401  (an Arrow table)
        """Read columns of all parts, in the order of their names; None if there is no part.

        Raises:
            InputError: A part is damaged; an interrupted run cannot cause that.
        """
        import pyarrow as pa

        tables = [read_part(path, *columns) for path in self.paths()]
        return pa.concat_tables(tables) if tables else None

    def paths(self) -> list[Path]:
        """List the existing parts, by name."""
        return sorted(self.folder.glob("part-*.parquet"))

    def keys(self) -> Keys:
        """Index the keys of all parts."""
        table = self.read(KEY)
        return Keys.of(b"" if table is None else joined(table[KEY]))


def read_part(path: Path, *columns: str) -> Any:  # noqa: ANN401  (an Arrow table)
    """Read columns of one part.

    Raises:
        InputError: It is damaged.
        FileNotFoundError: It does not exist (NotADirectoryError if its folder is not a folder).
    """
    import pyarrow as pa

    try:
        return read_parquet(path, columns, checksums=True)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (pa.ArrowException, OSError) as error:
        cause = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: this part is damaged ({cause}); delete it to have it recomputed"
        ) from error


def joined(column: Any) -> bytes:  # noqa: ANN401  (an Arrow column)
    """Join a column of keys into one byte string.

    Example:
        >>> import pyarrow as pa
        >>> joined(pa.array([b"a" * 32, b"b" * 32])) == b"a" * 32 + b"b" * 32
        True
    """
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    pieces = []
    for chunk in chunks:
        keys = chunk.cast(pa.binary(_LENGTH))
        begin = keys.offset * _LENGTH
        pieces.append(
            keys.buffers()[1].to_pybytes()[begin : begin + len(keys) * _LENGTH] if len(keys) else b""
        )
    return b"".join(pieces)


def _halves(keys: Sequence[bytes] | bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    whole = keys if isinstance(keys, bytes) else b"".join(keys)
    words = np.frombuffer(whole, dtype=">u8").reshape(-1, _LENGTH // 8)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def write_vectors(parts: Parts, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> str:
    """Write vectors of single texts as a part.

    Args:
        parts: Where to write it.
        keys: n different keys, from `key_of`.
        vectors: Shape (n, D).

    Returns:
        The part's name.

    Raises:
        OutputError: It cannot be written.
    """
    import pyarrow as pa

    name = parts.name(keys)
    columns = {KEY: pa.array(list(keys), pa.binary()), _VECTOR: _packed(vectors)}
    parts.write(name, columns, compression="none")
    return name


def read_vectors(path: Path) -> tuple[bytes, NDArray[np.float32]]:
    """Read a part of vectors of single texts.

    Returns:
        Its n keys, joined, and the vectors, shape (n, D).

    Raises:
        InputError: It is damaged.
        FileNotFoundError: It is not there.
    """
    table = read_part(path, KEY, _VECTOR)
    return joined(table[KEY]), _unpacked(table[_VECTOR])


def folder() -> Path:
    """Return the cache folder.

    Returns:
        CROWDSELECT_CACHE if set, else the platform's cache folder of crowdselect. It may not exist yet.

    Example:
        >>> folder().is_absolute()
        True
    """
    from platformdirs import user_cache_path

    chosen = os.environ.get("CROWDSELECT_CACHE")
    return Path(chosen).absolute() if chosen else user_cache_path("crowdselect")


def key_of(*parts: str | int) -> bytes:
    """Hash several values; different lists of values get different digests.

    Args:
        parts: Texts and numbers.

    Returns:
        32 bytes.

    Example:
        >>> key_of("ab", "c") == key_of("a", "bc")
        False
    """
    # surrogatepass: a text may hold half of a surrogate pair
    data = [
        (part if isinstance(part, str) else f"{part:+d}").encode("utf-8", "surrogatepass") for part in parts
    ]
    return sha256(b"".join([b"%d:%b" % (len(each), each) for each in data])).digest()


def text_keys(texts: Sequence[str]) -> list[bytes]:
    """Compute `key_of` for each text, in half the time.

    Example:
        >>> text_keys(["a"]) == [key_of("a")]
        True
    """
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    return [sha256(b"%d:%b" % (len(each), each)).digest() for each in data]


def _packed(vectors: NDArray[np.float32]) -> Any:  # noqa: ANN401  (an Arrow array)
    """Put rows into an Arrow array of bytes, which Parquet reads many times faster than lists of numbers."""
    import pyarrow as pa

    rows, dimensions = vectors.shape
    body = pa.py_buffer(np.ascontiguousarray(vectors, dtype="<f4"))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * dimensions), rows, [None, body])


def _unpacked(column: Any) -> NDArray[np.float32]:  # noqa: ANN401  (an Arrow column)
    """Read the rows back from what `_packed` returned, shape (n, D)."""
    width = column.type.byte_width
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :][: len(chunk) * width]
        for chunk in column.chunks
        if len(chunk)
    ]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return flat.view("<f4").reshape(len(column), width // 4).astype(np.float32, copy=False)


def reason(error: Exception) -> str:
    """Return the cause of an error about a part, without the path, which the note names anyway."""
    cause = error.__cause__ or error
    return " ".join(str(getattr(cause, "strerror", None) or cause).split())[:200]


def discard(path: Path) -> None:
    """Delete a part, if that is still possible."""
    with suppress(OSError):  # already deleted by another process, or not permitted: harmless either way
        path.unlink()


def keep_newest(place: Path, count: int) -> None:
    """Delete all but the `count` newest entries of a folder, as far as possible."""
    with suppress(OSError):  # another process is cleaning up too
        entries = sorted(place.iterdir(), key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        for entry in entries[count:]:
            rmtree(entry, ignore_errors=True) if entry.is_dir() else discard(entry)
