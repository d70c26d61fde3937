"""The ledger's file: its tables, its lock, and the places where it cannot be."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from crowdselect.errors import LedgerError
from crowdselect.locks import Held, hold

VERSION = 1
_APPLICATION = 0x43524C47  # "CRLG": tells our files from other SQLite databases
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
# `spent` is kept by the writer in the transaction of the answers themselves, so that the budget of a resumed
# run is known without reading every row.


def open_database(path: Path, *, force: bool) -> tuple[sqlite3.Connection, Held]:
    """Open the ledger for writing, and hold its lock.

    Args:
        path: The file; made where there is none.
        force: Open it on a network file system too.

    Returns:
        The connection, to be used by one thread at a time; and the lock, held until it is closed or the
        process ends, however it ends.

    Raises:
        LedgerError: It is in use, on a network file system, of a newer version or no ledger.
    """
    if not path.parent.is_dir():
        raise LedgerError(f"{path}: there is no folder {path.parent}; make it first")
    kind = network_file_system(path)
    if kind is not None and not force:
        raise LedgerError(
            f"{path}: lies on a network file system ({kind}), where the ledger's locks and WAL break; put it on "
            "a local disk with `ledger`, or pass `force_ledger=True` if this machine alone uses it"
        )
    lock, there = _lock(path), path.exists()
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        if not there:
            remove_database(path)
        lock.close()
        if isinstance(error, sqlite3.Error):
            raise LedgerError(f"{path}: cannot be used as a ledger: {error}") from error
        raise
    return connection, lock


def remove_database(path: Path) -> None:
    """Remove a ledger that holds nothing, and SQLite's files beside it."""
    for end in ("-wal", "-shm", ""):
        path.with_name(path.name + end).unlink(missing_ok=True)


def holds_nothing(connection: sqlite3.Connection) -> bool:
    """Whether nothing was asked yet, so that there is nothing to keep."""
    counted = "(SELECT count(*) FROM answers) + (SELECT count(*) FROM spent)"
    held = "(SELECT count(*) FROM notes WHERE name = 'hold' AND value NOT LIKE '[0,%')"
    (found,) = connection.execute(f"SELECT {counted} + {held}").fetchone()
    return int(found) == 0


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a second connection that only reads."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(
        "PRAGMA cache_size = -32768"
    )  # KiB: room for the keys of some hundred thousand answers
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check whose file it is before anything is changed; make the tables of a new one."""
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
    """Lock a file beside the ledger; SQLite's own locks on the ledger itself are left alone."""
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
    """Name the network file system that a path lies on.

    Args:
        path: It need not exist.
        mounts: The kernel's list of mounts.

    Returns:
        Its type; None where the file system is local, or the platform has no such list.
    """
    try:
        text = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    real = os.path.realpath(path)
    best, found = "", None
    for line in text.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        place = parts[1]
        with suppress(UnicodeError):
            place = (
                place.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1").decode()
            )
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, found = place, parts[2]
    return found if found in _NETWORK else None
