"""Vectors kept between runs, keyed by what they were made from.

Everything lies in one folder (`folder()`): the environment variable CROWDSELECT_CACHE, else the platform's
own place for caches. It holds nothing that cannot be computed again: to empty it, delete it. Files are
never changed: each is written beside, then renamed, and carries the SHA-256 of its contents, so that any
number of processes can share the folder and a damaged file is noticed. Vectors of whole pools (`lsa`) are
kept for the last few pools only; vectors of single texts stay until the folder is deleted.
"""

import os
import struct
import tempfile
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"CSVEC\x00\x00\x01"
_DIGEST = 32
_HEAD = struct.Struct("<QQQ")  # number of keys, rows, dimensions
_POOLS_KEPT = 8  # at 100,000 instructions such a file is 100 MB


class DamagedError(Exception):
    """A cache file is not what was written; it never leaves this module and `embed`."""


@dataclass(slots=True)
class VectorCache:
    """One embedder's shelf in the cache folder.

    Attributes:
        shelf: Folder of this embedder; made at the first write.
        notes: One line for each file that could not be used or written.

    Example:
        >>> with tempfile.TemporaryDirectory() as place:
        ...     shelf = VectorCache(Path(place) / "example")
        ...     shelf.put([key_of("a")], np.ones((1, 2), dtype=np.float32))
        ...     shelf.get([key_of("b"), key_of("a")])[1]
        array([False,  True])
    """

    shelf: Path
    notes: list[str] = field(default_factory=list)

    def put(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Keep vectors of single texts.

        Args:
            keys: n different keys, from `key_of`.
            vectors: Shape (n, D).
        """
        self._write(sha256(b"".join(keys)).hexdigest(), b"".join(keys), vectors)

    def get(self, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Find vectors of single texts.

        Args:
            keys: n different keys.

        Returns:
            Vectors, shape (n, D), and which of them were found, shape (n,); D = 0 if none was. A row
            that was not found is zero.
        """
        vectors, found = np.zeros((len(keys), 0), dtype=np.float32), np.zeros(len(keys), dtype=np.bool_)
        place = {key: row for row, key in enumerate(keys)}
        for path in sorted(self.shelf.glob("*.vec")):
            if not place:
                break
            try:
                hits, stored = _matching(path, place, dimensions=vectors.shape[1])
            except FileNotFoundError:
                continue  # deleted since it was listed
            except (DamagedError, OSError) as error:
                self._refuse(path, error)
                continue
            if hits:
                vectors = (
                    vectors if vectors.shape[1] else np.zeros((len(keys), stored.shape[1]), dtype=np.float32)
                )
                rows = [place.pop(key) for key in hits]
                vectors[rows], found[rows] = stored[list(hits.values())], True
        return vectors, found

    def put_pool(self, key: bytes, vectors: NDArray[np.float32]) -> None:
        """Keep the vectors of a whole pool, and of the last few pools only.

        Args:
            key: Digest of everything the vectors were made from.
            vectors: Shape (N, D).
        """
        self._write(key.hex(), b"", vectors)
        try:
            files = sorted(self.shelf.glob("*.vec"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        except FileNotFoundError:
            return  # another process is tidying up
        for path in files[_POOLS_KEPT:]:
            self._discard(path)

    def get_pool(self, key: bytes) -> NDArray[np.float32] | None:
        """Find the vectors of a whole pool.

        Args:
            key: As for `put_pool`.

        Returns:
            Shape (N, D), or None if they are not there or damaged (then a note says so).
        """
        path = self.shelf / f"{key.hex()}.vec"
        try:
            return _read(path)[1]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (DamagedError, OSError) as error:
            self._refuse(path, error)
            return None

    def _write(self, name: str, keys: bytes, vectors: NDArray[np.float32]) -> None:
        """Write beside, then rename. A full disk or a read-only home costs the cache, not the run."""
        rows, dimensions = vectors.shape
        body = np.ascontiguousarray(vectors, dtype="<f4").reshape(-1).view(np.uint8).data
        head = _HEAD.pack(len(keys) // _DIGEST, rows, dimensions) + keys
        digest = sha256(head)
        digest.update(body)
        try:
            self.shelf.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=self.shelf, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    for part in (_MAGIC, digest.digest(), head, body):
                        file.write(part)
                Path(beside).replace(self.shelf / f"{name}.vec")
            except BaseException:
                self._discard(Path(beside))
                raise
        except OSError as error:
            self.notes.append(f"cache: nothing kept in {self.shelf} ({error.strerror or error})")

    def _refuse(self, path: Path, error: Exception) -> None:
        self.notes.append(f"cache: {path} is not usable ({error}); its vectors are computed again")
        self._discard(path)

    @staticmethod
    def _discard(path: Path) -> None:
        with suppress(
            OSError
        ):  # another process was quicker, or it is not ours to delete: either way no harm
            path.unlink()


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


def _read_keys(path: Path) -> list[bytes]:
    """Keys of a file, without its vectors and unchecked: `_read` follows before anything is used."""
    with path.open("rb") as file:
        start = file.read(len(_MAGIC) + _DIGEST + _HEAD.size)
        if len(start) < len(_MAGIC) + _DIGEST + _HEAD.size or not start.startswith(_MAGIC):
            raise DamagedError("not a vector file of this version")
        count = _HEAD.unpack(start[-_HEAD.size :])[0]
        if count > (path.stat().st_size - len(start)) // _DIGEST:
            raise DamagedError("shorter than it says")
        return _split(file.read(count * _DIGEST))


def _matching(
    path: Path, wanted: Container[bytes], *, dimensions: int
) -> tuple[dict[bytes, int], NDArray[np.float32]]:
    """Wanted keys of a file with their rows, and its vectors (read only if there are any)."""
    if not any(key in wanted for key in _read_keys(path)):
        return {}, np.zeros((0, dimensions), dtype=np.float32)
    keys, vectors = _read(path)
    if dimensions not in {0, vectors.shape[1]}:
        raise DamagedError(f"{vectors.shape[1]} dimensions, not {dimensions}")
    return {key: row for row, key in enumerate(keys) if key in wanted}, vectors


def _read(path: Path) -> tuple[list[bytes], NDArray[np.float32]]:
    data = path.read_bytes()
    body = memoryview(data)[len(_MAGIC) + _DIGEST :]
    if not data.startswith(_MAGIC) or len(body) < _HEAD.size:
        raise DamagedError("not a vector file of this version")
    if sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + _DIGEST]:
        raise DamagedError("its contents do not match their checksum")
    count, rows, dimensions = _HEAD.unpack_from(body)
    vectors = np.frombuffer(body[_HEAD.size + count * _DIGEST :], dtype="<f4").reshape(rows, dimensions)
    return _split(bytes(body[_HEAD.size : _HEAD.size + count * _DIGEST])), vectors.astype(np.float32)


def _split(keys: bytes) -> list[bytes]:
    return [keys[start : start + _DIGEST] for start in range(0, len(keys), _DIGEST)]
