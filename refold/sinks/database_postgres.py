"""PostgreSQL's part of `refold.sinks.database`: one schema for all names, limits on every wait, and its errors.

Every transaction searches names in one schema only: the first one of the session's search path that has Refold's
tables, or where none has, the one in which new tables are made. A table or function of the same name in another schema
is never used.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from refold.base.outside import printable
from refold.errors import AccessDenied, Damaged, FixInput, RefoldError, Unavailable

_log = logging.getLogger(__name__)
_STATEMENT_SECONDS = 2 * 3600
_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 0.2, 5.0
_QUICK_SECONDS = 1.0
"""A failure to connect that takes longer is a server that did not answer."""
_TOO_LARGE, _NO_LOCK, _DENIED, _READ_ONLY = "54000", "55P03", "42501", "25006"
_PASSING = ("08", "40", "53", "55", "57", "58")
"""Classes of PostgreSQL's error codes that pass: connection, rollback, resources, locks, operator, system."""
_DAMAGED = "XX001", "XX002"
_KEPT_ALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "connect_timeout": 10,
    "fallback_application_name": "refold",
}
"""A server that cannot be reached any more is noticed within a minute."""

# With another zone a timestamp of the year 9999 comes back as one of the year 10000, which Python refuses. Temporary
# tables would be searched first unless they are named; limits that role, database or URL set are kept.
_SESSION = """
    SELECT set_config('timezone', 'UTC', true),
        set_config('search_path', coalesce((
            SELECT quote_ident(name) || ', pg_temp'
            FROM unnest(current_schemas(false)) WITH ORDINALITY AS path(name, place)
            LEFT JOIN pg_namespace ON nspname = name
            LEFT JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = 'refold_release' AND relkind = 'r'
            WHERE name !~ '^pg_temp' ORDER BY pg_class.oid IS NULL, place LIMIT 1), ''), true),
        (SELECT count(set_config(name, CASE name WHEN 'lock_timeout' THEN '{lock}' ELSE '{statement}' END, true))
            FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout') AND setting = '0')"""
_BLOCKING = sa.text("""
    SELECT pid, usename, application_name, client_addr::text, state,
        round(extract(epoch FROM clock_timestamp() - xact_start)) AS seconds
    FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(:pid)) ORDER BY xact_start, pid""")


def engine_of(url: URL, place: str) -> sa.Engine:
    """Connects when asked to. Raises FixInput where the driver is not installed."""
    arguments = {name: value for name, value in _KEPT_ALIVE.items() if name not in url.query}
    try:
        return sa.create_engine(
            url, poolclass=NullPool, hide_parameters=True, client_encoding="utf8", connect_args=arguments
        )
    except ImportError as error:
        raise FixInput(f"{place} needs the PostgreSQL driver.", remedy="pip install 'refold[postgres]'.") from error


def set_session(connection: sa.Connection, wait_seconds: float) -> None:
    """Zone, schema and limits, until the end of this transaction."""
    limits = {"lock": f"{round(wait_seconds * 1000)}ms", "statement": f"{_STATEMENT_SECONDS}s"}
    connection.exec_driver_sql(_SESSION.format(**limits))


@dataclass
class Holders:
    """The sessions that block a transaction, as last seen; empty where none does.

    `silent_seconds` is how long the server did not answer before the transaction was given up; None where it was not.
    """

    sessions: list[str] = field(default_factory=list)
    silent_seconds: int | None = None


@contextmanager
def watched(engine: sa.Engine, connection: sa.Connection, silent_seconds: float) -> Iterator[Holders]:
    """Note which sessions block a transaction while it runs, since PostgreSQL does not say so once a wait has ended.

    A server that lets nobody connect for `silent_seconds` meanwhile, such as one that is stopped, ends the transaction.
    """
    holders, ended = Holders(), threading.Event()
    driver = connection.connection.driver_connection
    assert driver is not None
    arguments = engine, driver, silent_seconds, holders, ended
    watcher = threading.Thread(target=_watch, args=arguments, name="refold-locks", daemon=True)
    watcher.start()
    try:
        yield holders
    finally:
        ended.set()
        watcher.join(_LOOK_SECONDS)


def _watch(engine: sa.Engine, driver: Any, silent_seconds: float, holders: Holders, ended: threading.Event) -> None:
    pid, pause, answered = driver.info.backend_pid, _FIRST_LOOK_SECONDS, time.monotonic()
    while not ended.wait(pause):
        pause, asked = min(2 * pause, _LOOK_SECONDS), time.monotonic()
        try:
            with engine.connect() as connection:
                holders.sessions = [_named(row) for row in connection.execute(_BLOCKING, {"pid": pid})]
            answered = time.monotonic()
        except SQLAlchemyError as error:
            _log.debug("Who holds a lock cannot be found out: %s", error)
            now = time.monotonic()
            answered = now if now - asked < _QUICK_SECONDS else answered  # a refusal is an answer
            silent = now - answered
            if silent > silent_seconds and not ended.is_set():
                holders.silent_seconds = round(silent)
                with suppress(OSError), socket.socket(fileno=os.dup(driver.fileno())) as own:
                    own.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for an answer
                return


def _named(row: sa.Row[tuple[object, ...]]) -> str:
    """One session in words; PostgreSQL hides parts of those of other users."""
    parts = [f"session {row.pid}"]
    parts += [f"{what} {value}" for what, value in (("of user", row.usename), ("from", row.client_addr)) if value]
    parts += [f"({row.application_name})"] if row.application_name else []
    parts += [f"{row.state}"] if row.state else []
    parts += [f"for {row.seconds} seconds"] if row.seconds is not None else []
    return printable(" ".join(parts))


def silence(holders: Holders | None, place: str) -> Unavailable | None:
    """The error for a transaction that was given up because its server did not answer; None for others."""
    if holders is None or holders.silent_seconds is None:
        return None
    text = f"its server has answered nobody for {holders.silent_seconds} seconds"
    return Unavailable(f"{place} is unavailable: {text}.", remedy="Check whether it is stopped, then try again.")


def explained(error: BaseException, place: str, holders: Holders | None) -> RefoldError:
    """The Refold error for the driver's error: locks, rights, damage and a server that does not answer told apart."""
    code = getattr(error, "pgcode", None) or ""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if code == _TOO_LARGE or code[:2] == "23":
        large = "A row of PostgreSQL fits a page: about 8,000 bytes beside its long texts."
        unfit = "A store has one row per key, and nulls only in columns declared nullable."
        return FixInput(f"{place} refused rows: {text}.", remedy=large if code == _TOO_LARGE else unfit)
    if code in (_DENIED, _READ_ONLY):
        return AccessDenied(f"Access denied to {place}: {text}.", remedy="Check the rights of the database user.")
    if code in _DAMAGED:
        return Damaged(f"{place} is damaged: {text}.", remedy="Restore it, or drop the table and run `refold repair`.")
    if code == _NO_LOCK:
        held = "; ".join(holders.sessions) if holders and holders.sessions else "a session that could not be found"
        remedy = "Let it finish or end it (pg_terminate_backend), then try again."
        return Unavailable(f"{place} is unavailable: {text}. The lock is held by {held}.", remedy=remedy)
    if code[:2] in _PASSING or (not code and type(error).__name__ in ("InterfaceError", "OperationalError")):
        return Unavailable(f"{place} is unavailable: {text}.", remedy="Check that it runs, then try again.")
    return FixInput(f"{place} refused a statement: {text}.", remedy="Run `refold repair`.")
