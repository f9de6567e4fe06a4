"""SQLite's part of `refold.sinks.database`: opening a file, also a read-only one, and the errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from refold.errors import AccessDenied, Damaged, FixInput, RefoldError, Unavailable

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DENIED = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}
_PASSING = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY = 0xFF
"""The part of an extended result code that is the primary one."""
_LOG_SIZE_BYTES, _INDEX_SIZE_BYTES = 1 << 16, 1 << 15
"""The minimal sizes of the two files of a write-ahead log together, and of its index alone."""
_WAL_VERSIONS = b"\x02\x02"


def engine_of(url: URL, wait_seconds: float) -> sa.Engine:
    """Opens the file for reading and writing; its folder and the file are made where they are missing."""
    engine = sa.create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": wait_seconds, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def _make_folder(*_: object) -> None:
        file = Path(str(url.database))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FixInput(
                f"Expected a folder for the database sqlite:///{file}, found that {file.parent} cannot be made: "
                f"{error.strerror}.",
                remedy="Check REFOLD_DATABASE and what is at that path.",
            ) from error

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        # Left to itself, sqlite3 begins late and commits around DDL, which would let half a publish be seen.
        connection.isolation_level = None
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            # The switch does not wait its turn where others have the file open; a later connection does it then.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")

    return engine


def needs_no_log(file: Path) -> bool:
    """Whether a file can only be read as immutable.

    Readers of a file with a write-ahead log make two files beside it, for which a read-only folder or a full disk has
    no place. Without them there is no log to be read, and nobody has the file open to write.
    """
    if not file.exists() or (os.access(file.parent, os.W_OK) and not _is_full(file.parent)):
        return False
    with file.open("rb") as opened:
        is_logged = opened.read(20)[18:] == _WAL_VERSIONS
    log, index = (_size(Path(f"{file}{suffix}")) for suffix in ("-wal", "-shm"))
    return is_logged and not log and index < _INDEX_SIZE_BYTES


def immutable_engine(file: Path) -> sa.Engine:
    """Opens a file that `needs_no_log`, without locks."""

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(str(file.resolve()))}?immutable=1"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    return sa.create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


@contextmanager
def unchanged(file: Path, place: str) -> Iterator[None]:
    """Raises Unavailable where a file that was read without locks was written meanwhile."""
    before = file.stat()
    yield
    after = file.stat()
    if (before.st_mtime_ns, before.st_size, before.st_ino) != (after.st_mtime_ns, after.st_size, after.st_ino):
        raise Unavailable(f"{place} was written while it was read.", remedy="Try again.")


def explained(error: BaseException, place: str, wait_seconds: float) -> RefoldError:
    """The Refold error for an error of SQLite: locks, rights, damage and failing disks told apart."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, sqlite3.IntegrityError):
        remedy = "A store has one row per key, and nulls only in columns declared nullable."
        return FixInput(f"{place} refused rows: {text}.", remedy=remedy)
    if code in _BUSY:
        waited = f"{text}; waited {wait_seconds:g} seconds for another process that writes to it"
        return Unavailable(f"{place} is unavailable: {waited}.", remedy="Let it finish or end it, then try again.")
    if code in _DENIED:
        remedy = "Check the permissions of the file, its folder and the files with -wal and -shm beside it."
        return AccessDenied(f"Access denied to {place}: {text}.", remedy=remedy)
    if code in _DAMAGED:
        remedy = (
            "Check that REFOLD_DATABASE names it. If so, move the file away and run `refold repair`, which publishes "
            "what was served again."
        )
        return Damaged(f"{place} is damaged: {text}.", remedy=remedy)
    if code in _PASSING or not code:
        return Unavailable(f"{place} is unavailable: {text}.", remedy="Check the disk it is on, then try again.")
    return FixInput(f"{place} refused a statement: {text}.", remedy="Run `refold repair`.")


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except (AttributeError, OSError):  # not on Windows
        return False
    return disk.f_bavail * disk.f_frsize < _LOG_SIZE_BYTES


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
