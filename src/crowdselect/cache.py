"""What was computed, as Parquet parts: found again by the content it was computed from, whoever computed it.

A part is written beside and renamed, so a part that is there is whole; its pages have checksums, so a damaged one is
noticed. Its name is a hash of its keys: a batch that is handed out a second time finds its part. No part is ever
changed, so any number of processes share a folder.

What is kept between runs lies in one folder (`folder()`): the environment variable CROWDSELECT_CACHE, else the
platform's own place for caches. It holds nothing that cannot be computed again: to empty it, delete it.
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
"""The column of every part that says what a row was computed from: 32 bytes."""

_VECTOR = "vector"
_LENGTH = 32
_NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Keys:
    """Many keys, found by their first 128 bits; 16 bytes each.

    Attributes:
        high: Shape (n,), ascending.
        low: Shape (n,), ascending where `high` is equal.
        place: Shape (n,), where each stood in what it was made of.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Sequence[bytes] | bytes, *, prefer: NDArray[np.bool_] | None = None) -> Self:
        """Sort keys.

        Args:
            keys: Of 32 bytes each, or all of them joined.
            prefer: Of equal keys the first of those that are preferred is kept, else the first.

        Example:
            >>> Keys.of([b"b" * 32, b"a" * 32, b"b" * 32]).find([b"b" * 32, b"c" * 32]).tolist()
            [0, -1]
        """
        high, low = _halves(keys)
        behind = np.zeros(len(high), dtype=np.bool_) if prefer is None else ~prefer
        order = np.lexsort((behind, low, high))  # stable: equal keys stay in their order
        high, low = high[order], low[order]
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return cls(high[first], low[first], order[first])

    def find(self, keys: Sequence[bytes] | bytes) -> NDArray[np.int64]:
        """Give the place of each key, -1 where it is none of these."""
        high, low = _halves(keys)
        at = np.searchsorted(self.high, high)
        found = np.full(len(high), _NOWHERE, dtype=np.int64)
        open_ = np.flatnonzero(at < len(self.high))
        while open_.size:
            same = self.high[at[open_]] == high[open_]
            hit = same & (self.low[at[open_]] == low[open_])
            found[open_[hit]] = self.place[at[open_[hit]]]
            open_ = open_[same & ~hit]  # another key with the same first half: look at the next
            at[open_] += 1
            open_ = open_[at[open_] < len(self.high)]
        return found


class Parts:
    """A folder of parts.

    Args:
        folder: Made with the first part.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def name(self, keys: Sequence[bytes]) -> str:
        """Name the part of some keys."""
        return f"part-{sha256(b''.join(keys)).hexdigest()[:32]}.parquet"

    def has(self, name: str) -> bool:
        """Say whether a part is there, and so whole."""
        return (self.folder / name).exists()

    def write(self, name: str, columns: dict[str, Any], *, compression: str = "zstd") -> None:
        """Write a part, whole or not at all.

        Args:
            name: From `name`.
            columns: Arrow arrays, `KEY` among them.
            compression: Any that Parquet has; "none" for what cannot be made smaller.

        Raises:
            OutputError: It cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        beside = self.folder / f".{uuid4().hex}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                pq.write_table(
                    pa.table(columns),
                    file,
                    compression=compression,
                    use_dictionary=compression != "none",
                    write_statistics=False,  # nobody looks at them, and no checksum covers them
                    write_page_checksum=True,
                )
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.folder / name)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: a part cannot be written ({error.strerror or error}); what was computed before is kept"
            ) from error
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)

    def read(self, *columns: str) -> Any:  # noqa: ANN401  (an Arrow table)
        """Read columns of all parts, in the order of their names; None where there is no part.

        Raises:
            InputError: A part is damaged, which only a disk or a stranger does.
        """
        import pyarrow as pa

        tables = [read_part(path, *columns) for path in self.paths()]
        return pa.concat_tables(tables) if tables else None

    def paths(self) -> list[Path]:
        """List the parts that are there."""
        return sorted(self.folder.glob("part-*.parquet"))

    def keys(self) -> Keys:
        """Find what is done."""
        table = self.read(KEY)
        return Keys.of(b"" if table is None else joined(table[KEY]))


def read_part(path: Path, *columns: str) -> Any:  # noqa: ANN401  (an Arrow table)
    """Read columns of one part.

    Raises:
        InputError: It is damaged.
        FileNotFoundError: It is not there (NotADirectoryError where its folder is none).
    """
    import pyarrow as pa

    try:
        return read_parquet(path, columns, checksums=True)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: this part is damaged ({said}); delete it, and it is computed again"
        ) from error


def joined(column: Any) -> bytes:  # noqa: ANN401  (a column of Arrow)
    """Join a column of keys.

    Example:
        >>> import pyarrow as pa
        >>> joined(pa.array([b"a" * 32, b"b" * 32])) == b"a" * 32 + b"b" * 32
        True
    """
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = []
    for chunk in chunks:
        keys = chunk.cast(pa.binary(_LENGTH))
        begin = keys.offset * _LENGTH
        found.append(
            keys.buffers()[1].to_pybytes()[begin : begin + len(keys) * _LENGTH] if len(keys) else b""
        )
    return b"".join(found)


def _halves(keys: Sequence[bytes] | bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    whole = keys if isinstance(keys, bytes) else b"".join(keys)
    words = np.frombuffer(whole, dtype=">u8").reshape(-1, _LENGTH // 8)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def write_vectors(parts: Parts, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> str:
    """Write vectors of single texts as a part.

    Args:
        parts: Where.
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
    """Where vectors are kept.

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
    """Digest of several values; no two different lists of values share one.

    Args:
        parts: Texts and numbers.

    Returns:
        32 bytes.

    Example:
        >>> key_of("ab", "c") == key_of("a", "bc")
        False
    """
    # A text may hold half of a surrogate pair: that must not stop us.
    data = [
        (part if isinstance(part, str) else f"{part:+d}").encode("utf-8", "surrogatepass") for part in parts
    ]
    return sha256(b"".join([b"%d:%b" % (len(each), each) for each in data])).digest()


def text_keys(texts: Sequence[str]) -> list[bytes]:
    """Give `key_of` each text, in half the time.

    Example:
        >>> text_keys(["a"]) == [key_of("a")]
        True
    """
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    return [sha256(b"%d:%b" % (len(each), each)).digest() for each in data]


def _packed(vectors: NDArray[np.float32]) -> Any:  # noqa: ANN401  (an Arrow array)
    """Put rows into an Arrow array, as bytes: lists of numbers would take Parquet many times as long to read."""
    import pyarrow as pa

    rows, dimensions = vectors.shape
    body = pa.py_buffer(np.ascontiguousarray(vectors, dtype="<f4"))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * dimensions), rows, [None, body])


def _unpacked(column: Any) -> NDArray[np.float32]:  # noqa: ANN401  (an Arrow column)
    """Give the rows of what `packed` made, shape (n, D)."""
    width = column.type.byte_width
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :][: len(chunk) * width]
        for chunk in column.chunks
        if len(chunk)
    ]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return flat.view("<f4").reshape(len(column), width // 4).astype(np.float32, copy=False)


def reason(error: Exception) -> str:
    """Say what an error about a part was made of, without the path that a note names anyway."""
    why = error.__cause__ or error
    return " ".join(str(getattr(why, "strerror", None) or why).split())[:200]


def discard(path: Path) -> None:
    """Delete a part, if that is still possible."""
    with suppress(OSError):  # another process was quicker, or it is not ours to delete: either way no harm
        path.unlink()


def keep_newest(place: Path, count: int) -> None:
    """Delete all that lies in a folder but what was written last, as far as that is possible."""
    with suppress(OSError):  # another process is tidying up
        entries = sorted(place.iterdir(), key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        for entry in entries[count:]:
            rmtree(entry, ignore_errors=True) if entry.is_dir() else discard(entry)
