"""Vectors kept between runs, keyed by what they were made from.

Everything lies in one folder (`folder()`): the environment variable CROWDSELECT_CACHE, else the platform's
own place for caches. It holds nothing that cannot be computed again: to empty it, delete it. Files are Parquet
parts (`parts`) with checksums, each written beside, then renamed, and never changed, so that any number of
processes can share the folder and a damaged file is noticed. Vectors of whole pools (`lsa`) are kept for the
last few pools only; vectors of single texts stay until the folder is deleted.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OutputError
from crowdselect.parts import KEY, Keys, Parts, joined, read_part

_VECTOR = "vector"
_POOLS_KEPT = 8  # at 100,000 instructions such a file is 100 MB


@dataclass(slots=True)
class VectorCache:
    """One embedder's shelf in the cache folder.

    Attributes:
        shelf: Folder of this embedder; made at the first write.
        notes: One line for each file that could not be used or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     shelf = VectorCache(Path(place) / "example")
        ...     shelf.put([key_of("a")], np.ones((1, 2), dtype=np.float32))
        ...     shelf.get([key_of("b"), key_of("a")])[1]
        array([False,  True])
    """

    shelf: Path
    notes: list[str] = field(default_factory=list)

    def put(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Keep vectors of single texts. A full disk or a read-only home costs the cache, not the run.

        Args:
            keys: n different keys, from `key_of`.
            vectors: Shape (n, D).
        """
        try:
            write_vectors(Parts(self.shelf), keys, vectors)
        except OutputError as error:
            self._unkept(error)

    def get(self, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Find vectors of single texts.

        Args:
            keys: n different keys.

        Returns:
            Vectors, shape (n, D), and which of them were found, shape (n,); D = 0 if none was. A row
            that was not found is zero. Where two files have a key, the one whose name is first counts.
        """
        vectors, found = np.zeros((len(keys), 0), dtype=np.float32), np.zeros(len(keys), dtype=np.bool_)
        wanted = Keys.of(keys)
        for path in Parts(self.shelf).paths():
            if found.all():
                break
            try:
                at = wanted.find(joined(read_part(path, KEY)[KEY]))
                hits = np.flatnonzero((at >= 0) & ~found[at])
                stored = read_vectors(path)[1] if hits.size else vectors
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted since it was listed
            except InputError as error:
                self._refuse(path, error)
                continue
            if found.any() and stored.shape[1] != vectors.shape[1]:
                self._refuse(path, InputError(f"{stored.shape[1]} dimensions, not {vectors.shape[1]}"))
                continue
            if hits.size and not found.any():
                vectors = np.zeros((len(keys), stored.shape[1]), dtype=np.float32)
            vectors[at[hits]], found[at[hits]] = stored[hits], True
        return vectors, found

    def put_pool(self, key: bytes, vectors: NDArray[np.float32]) -> None:
        """Keep the vectors of a whole pool, and of the last few pools only.

        Args:
            key: Digest of everything the vectors were made from.
            vectors: Shape (N, D).
        """
        parts = Parts(self.shelf)
        try:
            parts.write(parts.name([key]), {_VECTOR: _packed(vectors)}, compression="none")
            files = sorted(parts.paths(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        except OutputError as error:
            self._unkept(error)
            return
        except FileNotFoundError:
            return  # another process is tidying up
        for path in files[_POOLS_KEPT:]:
            discard(path)

    def get_pool(self, key: bytes) -> NDArray[np.float32] | None:
        """Find the vectors of a whole pool.

        Args:
            key: As for `put_pool`.

        Returns:
            Shape (N, D), or None if they are not there or damaged (then a note says so).
        """
        path = self.shelf / Parts(self.shelf).name([key])
        try:
            return _unpacked(read_part(path, _VECTOR)[_VECTOR])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except InputError as error:
            self._refuse(path, error)
            return None

    def _unkept(self, error: OutputError) -> None:
        self.notes.append(f"cache: nothing kept in {self.shelf} ({_reason(error)})")

    def _refuse(self, path: Path, error: Exception) -> None:
        self.notes.append(f"cache: {path} is not usable ({_reason(error)}); its vectors are computed again")
        discard(path)


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
    digest = sha256()
    for part in parts:
        # A text may hold half of a surrogate pair: that must not stop us.
        data = (part if isinstance(part, str) else f"{part:+d}").encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


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
    return np.concatenate(chunks).view("<f4").reshape(len(column), width // 4).astype(np.float32, copy=False)


def _reason(error: Exception) -> str:
    """What a file's error was made of, without the path that the note names anyway."""
    why = error.__cause__ or error
    return " ".join(str(getattr(why, "strerror", None) or why).split())[:200]


def discard(path: Path) -> None:
    """Delete a part, if that is still possible."""
    with suppress(OSError):  # another process was quicker, or it is not ours to delete: either way no harm
        path.unlink()
