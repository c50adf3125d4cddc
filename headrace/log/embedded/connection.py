"""One connection to the file of an embedded log: how it is opened, its schema, and its errors by name.

The file is in WAL mode with `synchronous=NORMAL`: a commit is handed to the operating system and is
not flushed to the disk. Processes may be killed at any moment and nothing that was acknowledged is
lost. When the machine itself goes down, the commits since the last checkpoint may be missing, always
as a whole suffix: the file is never torn and no unit is ever half there.
"""

import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headrace.errors import CommitUnknown, LogError, Unavailable

BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for the write lock of another process."""
_APPLICATION_ID = 0x68647263
_SCHEMA_VERSION = 1
_WAL_PAGES = 4_000
_RETRY_S = 0.01

_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE topics (
        topic INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        topic_id TEXT NOT NULL,
        partitions INTEGER NOT NULL,
        is_compacted INTEGER NOT NULL,
        retention_ms INTEGER NOT NULL,
        compaction_lag_ms INTEGER NOT NULL,
        record_bytes_max INTEGER NOT NULL)""",
    # AUTOINCREMENT: the place of a deleted topic is never given to another one, so whoever still
    # holds it finds nothing instead of somebody else's records.
    """CREATE TABLE partitions (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        topic INTEGER NOT NULL REFERENCES topics,
        partition INTEGER NOT NULL,
        start_offset INTEGER NOT NULL DEFAULT 0,
        end_offset INTEGER NOT NULL DEFAULT 0,
        clean_until INTEGER NOT NULL DEFAULT 0,
        clean_records INTEGER NOT NULL DEFAULT 0,
        UNIQUE (topic, partition))""",
    # The blob is the last column: what precedes it is read without touching its pages.
    """CREATE TABLE batches (
        batch INTEGER PRIMARY KEY,
        place INTEGER NOT NULL,
        base_offset INTEGER NOT NULL,
        offset_next INTEGER NOT NULL,
        appended_ms INTEGER NOT NULL,
        records INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        columns BLOB NOT NULL,
        UNIQUE (place, base_offset))""",
    "CREATE TABLE epochs (transactional_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE lag (
        app TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        offset_next INTEGER NOT NULL,
        recorded_ms INTEGER NOT NULL,
        PRIMARY KEY (app, topic, partition)) WITHOUT ROWID""",
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that `create` has prepared; it stays in the thread that opened it."""
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1_000, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def create(path: Path) -> str:
    """Make the file with its folder unless it is there, and tell its cluster id. Raises: LogError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            with closing(connect(path)) as db:
                return _prepared(db, path)
        except sqlite3.OperationalError as error:
            # The switch to WAL needs the file alone and does not wait by itself.
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_S)


def _prepared(db: sqlite3.Connection, path: Path) -> str:
    db.execute("PRAGMA journal_mode = WAL")
    with transaction(db):
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application_id,) = db.execute("PRAGMA application_id").fetchone()
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('cluster_id', ?)", (str(uuid.uuid4()),))
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        elif application_id != _APPLICATION_ID:
            raise LogError(
                f"{path} is a database of something else",
                hint="Name another file in HEADRACE_LOG=embedded://path/to/log.db.",
            )
        elif version != _SCHEMA_VERSION:
            raise LogError(
                f"{path} has schema {version}, this headrace knows schema {_SCHEMA_VERSION}",
                hint="Use the version of headrace that wrote the file, or name another file.",
            )
        (cluster_id,) = db.execute("SELECT value FROM meta WHERE name = 'cluster_id'").fetchone()
    return str(cluster_id)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: all of the block or nothing. Raises: CommitUnknown when COMMIT itself breaks."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        _roll_back(db)
        raise
    try:
        db.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(db)
        if _primary_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            raise
        raise CommitUnknown(f"the commit to the embedded log broke off: {error}") from error


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """A read transaction: every statement in the block sees the same state of the file."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        _roll_back(db)


def _roll_back(db: sqlite3.Connection) -> None:
    # SQLite has ended the transaction by itself after some errors (disk full is one).
    if db.in_transaction:
        db.execute("ROLLBACK")


def translated(error: sqlite3.Error, path: Path) -> LogError:
    """The error of ours that says what has happened to the file."""
    match _primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            seconds = BUSY_TIMEOUT_MS / 1_000
            return Unavailable(f"another process held the write lock of {path} for more than {seconds:g} s")
        case sqlite3.SQLITE_FULL:
            return Unavailable(
                f"the disk that holds {path} is full; nothing of the unit was written",
                hint="Make room on the disk; the task is taken over again by itself.",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return LogError(
                f"{path} is damaged or not a headrace log: {error}",
                hint="Restore the file and its -wal file from a copy, or name another file in HEADRACE_LOG.",
            )
        case _:
            return Unavailable(
                f"the file {path} cannot be used: {error}",
                hint="Check that its folder exists and that this user may write there.",
            )


def _primary_code(error: sqlite3.Error) -> int:
    """The error's class; SQLite keeps details of it in the higher bytes."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
