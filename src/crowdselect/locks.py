"""Locks between processes: one holder per file, released when its process ends, however it ends."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PATIENCE = 0.1  # seconds: a holder that ends may remove the file at the very moment it is tried
_AGAIN = 0.01  # seconds between two tries


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that this process holds until it is closed; use it in a `with`, or call `close`.

    Attributes:
        path: The lock's file.
    """

    path: Path
    _lock: "BaseFileLock"
    _is_new: bool

    def close(self) -> None:
        """Release the lock; a file that was created for it is removed while it is still held."""
        if self._is_new and self._lock.is_locked:
            with suppress(OSError):  # Windows cannot remove an open file: it stays, and locks nothing
                self.path.unlink()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hold(path: Path) -> Held | None:
    """Lock a file.

    Args:
        path: Created if missing; its folder must exist.

    Returns:
        The lock; None if another process, or another caller in this one, holds it.

    Raises:
        OSError: The file cannot be created or locked.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "lock"
        >>> with hold(path):
        ...     print(hold(path), path.exists())
        None True
        >>> path.exists()
        False
    """
    from filelock import FileLock, Timeout

    is_new = not path.exists()
    lock = FileLock(path, timeout=_PATIENCE, poll_interval=_AGAIN, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return Held(path, lock, is_new)
