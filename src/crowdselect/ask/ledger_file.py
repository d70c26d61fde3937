"""The ledger's file: its tables, its lock, and the file systems it cannot be on."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from crowdselect.errors import LedgerError
from crowdselect.locks import Held, hold

VERSION = 1
_APPLICATION = 0x43524C47  # "CRLG": marks our files among SQLite databases
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre"}
    | {
        "beegfs",
        "gpfs",
        "davfs",
        "acfs",
        "orangefs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
    }
    | {"fuse.glusterfs", "fuse.ceph", "fuse.davfs2", "fuse.cephfs", "fuse.smbnetfs", "fuse.curlftpfs"}
)
_TABLES = """
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    model TEXT NOT NULL,
    settings BLOB NOT NULL,
    prompt BLOB NOT NULL,
    sample INTEGER NOT NULL,
    status TEXT NOT NULL,
    text TEXT,
    reasoning TEXT,
    finish_reason TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost REAL,
    lost REAL NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT,
    latency REAL,
    at REAL NOT NULL
);
CREATE UNIQUE INDEX answers_key ON answers (key);
CREATE INDEX answers_missing ON answers (status, key) WHERE status NOT IN ('ok', 'length', 'empty');
CREATE TABLE settings (digest BLOB PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE spent (
    model TEXT PRIMARY KEY,
    attempts INTEGER NOT NULL,
    cost REAL NOT NULL,
    lost REAL NOT NULL,
    unknown INTEGER NOT NULL
) WITHOUT ROWID;
"""
# `spent` is updated in the same transaction as the answers, so that the budget of a resumed run is known
# without reading every row.


def open_database(path: Path, *, force: bool) -> tuple[sqlite3.Connection, Held]:
    """Open the ledger for writing, and take its lock.

    Args:
        path: The file; created if missing.
        force: Open it even on a network file system.

    Returns:
        The connection, for one thread at a time; and the lock, held until it is closed or the process ends,
        even by a crash.

    Raises:
        LedgerError: It is in use, on a network file system, of a newer version or not a ledger.
    """
    if not path.parent.is_dir():
        raise LedgerError(f"{path}: there is no folder {path.parent}; make it first")
    kind = network_file_system(path)
    if kind is not None and not force:
        raise LedgerError(
            f"{path}: lies on a network file system ({kind}), where the ledger's locks and WAL break; put it on "
            "a local disk with `ledger`, or pass `force_ledger=True` if this machine alone uses it"
        )
    lock, existed = _lock(path), path.exists()
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        if not existed:
            remove_database(path)
        lock.close()
        if isinstance(error, sqlite3.Error):
            raise LedgerError(f"{path}: cannot be used as a ledger: {error}") from error
        raise
    return connection, lock


def remove_database(path: Path) -> None:
    """Delete an empty ledger, and SQLite's files beside it."""
    for end in ("-wal", "-shm", ""):
        path.with_name(path.name + end).unlink(missing_ok=True)


def holds_nothing(connection: sqlite3.Connection) -> bool:
    """Return whether nothing was ever sent, so that the file can be deleted."""
    counted = "(SELECT count(*) FROM answers) + (SELECT count(*) FROM spent)"
    held = "(SELECT count(*) FROM notes WHERE name = 'hold' AND value NOT LIKE '[0,%')"
    (entries,) = connection.execute(f"SELECT {counted} + {held}").fetchone()
    return int(entries) == 0


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a second, read-only connection."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(
        "PRAGMA cache_size = -32768"
    )  # KiB: room for the keys of some hundred thousand answers
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is a ledger before changing anything; create the tables of a new one."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != _APPLICATION and (tables or version or application):
        raise LedgerError(
            f"{path}: is a database, but no ledger of crowdselect; choose another place with `ledger`"
        )
    if version > VERSION:
        raise LedgerError(
            f"{path}: was written by a newer version of crowdselect (ledger version {version}, this one knows "
            f"{VERSION}); upgrade crowdselect; nothing was changed"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if not tables:
        connection.executescript(
            f"BEGIN; {_TABLES} INSERT INTO notes VALUES ('id', '\"{uuid4().hex}\"'); "
            f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        )


def _lock(path: Path) -> Held:
    """Lock a file beside the ledger; SQLite's own locks on the ledger are not touched."""
    beside = path.with_name(path.name + ".lock")
    try:
        lock = hold(beside)
    except OSError as error:
        raise LedgerError(
            f"{beside}: cannot be written: {error.strerror or error}; choose another place with `ledger`"
        ) from error
    if lock is None:
        raise LedgerError(
            f"{path}: another process is using this ledger; wait until it ends, or choose another output"
        )
    return lock


def network_file_system(path: Path, *, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of the network file system that a path is on.

    Args:
        path: Any path; it need not exist.
        mounts: The kernel's list of mounts.

    Returns:
        The type; None if the file system is local, or the platform has no such list.
    """
    try:
        text = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    real = os.path.realpath(path)
    best, kind = "", None
    for line in text.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        mount = parts[1]
        with suppress(UnicodeError):
            mount = (
                mount.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1").decode()
            )
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, parts[2]
    return kind if kind in _NETWORK else None
