"""Every write of a process, watched: where in the code it was asked for, and SIGKILL after a chosen one. Not a test.

Production code has no failpoints. Watched are the libraries' own functions, in a process that was made for it, at the
lowest place where Python still sees a write: the object store's `put` and `delete`, statements and commits of database
drivers, commits of Delta tables, tantivy's writer, and local files. A watched call that is made by another one is part
of it. Between two writes nothing outside changes (`Watch.unseen` says where that is not so), so dying after one write
is dying before the next one, and n writes make n + 1 moments to die at.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from itertools import islice
from types import FrameType
from typing import Any

import deltalake
import deltalake.transaction
import obstore
import psycopg2
import psycopg2.extensions
import tantivy

from refold.storage import durable
from tests.failpoints.sites import PACKAGE, ROOT, calls_at, is_beside

_CHANGING = re.compile(r"(?i)\s*(insert|update|delete|create|drop|alter|copy|replace|truncate|vacuum|pragma \w+ *=)")
_PATHS = ("mkdir", "rename", "replace", "rmdir", "touch", "unlink", "write_bytes", "write_text")
_FILES = ("rename", "replace", "remove", "unlink", "mkdir", "makedirs", "rmdir", "link", "symlink")
_TABLES = ("create_write_transaction", "vacuum", "restore", "delete", "update", "merge", "create_checkpoint")


@dataclass(frozen=True)
class Write:
    """One watched call: what was called, with what in short, and the calls of our code it came through, innermost last.

    Attributes:
        changes: whether it changes something; a query does not.
        calls: pairs of file and end of call, as `Site` names them.
    """

    primitive: str
    what: str
    changes: bool
    calls: tuple[tuple[str, int, int], ...]

    @property
    def place(self) -> str:
        """The innermost call."""
        return "{}:{}".format(*self.calls[-1]) if self.calls else "outside"


@dataclass
class Watch:
    """What a process writes; it dies after as many writes as `die_after` says, and tells where on a pipe.

    Attributes:
        fingerprint: gives what is outside, to compare; None where that is not looked at.
        unseen: changes that happened outside watched calls, each with the write after it.
    """

    die_after: int = -1
    tell: int | None = None
    fingerprint: Callable[[], Any] | None = None
    seen: list[Write] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self._inside = threading.local()
        self._known = self.fingerprint() if self.fingerprint else None

    def around(self, primitive: str, what: str, changes: bool, call: Callable[[], Any], *, own: bool = False) -> Any:
        """Do a call of a library, watched; with `own` only where our own code makes it, and not a library for us."""
        if getattr(self._inside, "busy", False):
            return call()
        calls = _our_calls(own)
        if not calls:
            return call()  # a library at work for itself, or the test
        write = Write(primitive, what, changes, calls)
        self.seen.append(write)
        if not changes:
            return self._do(call)
        if self.fingerprint and self.fingerprint() != self._known:
            self.unseen.append(f"something changed before {write.primitive} {write.what} at {write.place}")
        self._perhaps_die(write)
        result = self._do(call)
        self.count += 1
        self._perhaps_die(write)
        self._known = self.fingerprint() if self.fingerprint else None
        return result

    def _do(self, call: Callable[[], Any]) -> Any:
        self._inside.busy = True
        try:
            return call()
        finally:
            self._inside.busy = False

    def _perhaps_die(self, write: Write) -> None:
        if self.count == self.die_after:
            if self.tell is not None:
                os.write(self.tell, json.dumps({"died at": f"{write.primitive} at {list(write.calls[-1])}"}).encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def settle(self) -> None:
        """After the last write: note what changed since."""
        if self.fingerprint and self.fingerprint() != self._known:
            self.unseen.append("something changed after the last write")


def _our_calls(own: bool) -> tuple[tuple[str, int, int], ...]:
    """The calls of our code that are being made, outermost first."""
    found: list[tuple[str, int, int]] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if own and not found and "site-packages" in path:
            return ()
        if path.startswith(str(PACKAGE)) and not is_beside(pathlib.Path(path).relative_to(PACKAGE)):
            file = pathlib.PurePath(path).relative_to(ROOT).as_posix()
            place = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
            found += [(file, line or 0, column or 0) for line, column in calls_at(file, place)]
        frame = frame.f_back
    return tuple(reversed(found))


def fingerprint(root: pathlib.Path) -> list[tuple[str, int, int]]:
    """What can be seen of a folder from outside, but for what libraries do by themselves, whenever they like.

    tantivy's threads write to a folder that is being built, numba keeps what it compiled, and SQLite tidies up where
    a connection is closed; its statements are watched.
    """
    found = []
    for folder, _, names in os.walk(root):
        if not re.search(r"/\.building-|/cache/|/data$", folder):
            found.append((folder, 0, 0))
            for path in (pathlib.Path(folder, name) for name in names):
                status = path.stat()
                found.append((str(path), status.st_size, status.st_mtime_ns))
    return sorted(found)


def install(watch: Watch) -> Watch:
    """Watch all writes of this process from now on."""
    replaced = _watch_objects(watch) | _watch_files(watch) | _watch_tables(watch)
    for module in [module for name, module in sys.modules.items() if name.startswith("refold.")]:
        for name, value in [*vars(module).items()]:
            if id(value) in replaced:
                setattr(module, name, replaced[id(value)])
    _watch_databases(watch)
    _watch_indexes(watch)
    return watch


def _watched(watch: Watch, primitive: str, call: Callable[..., Any], own: bool = False) -> Callable[..., Any]:
    @wraps(call)
    def around(*given: Any, **named: Any) -> Any:
        what = " ".join(str(each)[:80] for each in given if isinstance(each, str | pathlib.Path))
        made_already = primitive.endswith("mkdir") and named.get("exist_ok") and pathlib.Path(given[0]).is_dir()
        return watch.around(primitive, what, not made_already, lambda: call(*given, **named), own=own)

    return around


Replaced = dict[int, Callable[..., Any]]
"""What is watched instead of a function, by the identity of that: our modules may have imported it by name."""


def _replace(owner: Any, names: tuple[str, ...], watch: Watch, own: bool = False) -> Replaced:
    """Watch functions of a module or methods of a class."""
    originals = {name: getattr(owner, name) for name in names}
    watched = {name: _watched(watch, f"{owner.__name__}.{name}", call, own) for name, call in originals.items()}
    for name, call in watched.items():
        setattr(owner, name, call)
    return {} if isinstance(owner, type) else {id(call): watched[name] for name, call in originals.items()}


def _watch_objects(watch: Watch) -> Replaced:
    names = ("put", "put_async", "delete", "delete_async", "copy", "copy_async", "rename", "rename_async")
    return _replace(obstore, names, watch) | _replace(durable, ("create_whole", "replace_whole"), watch)


class _File:
    """An open file whose writes are watched, and its closing, which is when what was written arrives."""

    def __init__(self, file: Any, watch: Watch) -> None:
        self._file, self._watch = file, watch

    def write(self, data: Any) -> int:
        return self._watch.around("file.write", f"{len(data)} bytes", True, lambda: self._file.write(data))

    def close(self) -> None:
        self._watch.around("file.close", "", True, self._file.close)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _watch_files(watch: Watch) -> Replaced:
    _replace(pathlib.Path, _PATHS, watch, own=True)
    replaced = {
        **_replace(os, _FILES, watch, own=True),
        **_replace(shutil, ("rmtree", "move", "copy", "copy2", "copyfile", "copytree"), watch, own=True),
        **_replace(tempfile, ("mkdtemp", "mkstemp"), watch, own=True),
    }
    opened, descriptor = pathlib.Path.open, os.fdopen

    def open_path(path: pathlib.Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+"):
            return opened(path, mode, *given, **named)
        what = f"{path.name} {mode}"
        file = watch.around("Path.open", what, True, lambda: opened(path, mode, *given, **named), own=True)
        # What only appends nothing is a lock, and needs its number.
        return file if mode == "a" else _File(file, watch)

    def open_descriptor(number: int, mode: str = "r", *given: Any, **named: Any) -> Any:
        file = descriptor(number, mode, *given, **named)
        if not set(mode) & set("wax+"):
            return file
        watch.around("os.fdopen", mode, False, lambda: None)
        return _File(file, watch)

    pathlib.Path.open = open_path  # type: ignore[method-assign, assignment]
    os.fdopen = open_descriptor  # type: ignore[assignment]
    return replaced


def _watch_databases(watch: Watch) -> None:
    def statement(self: Any, text: Any, call: Callable[[], Any]) -> Any:
        changes = bool(_CHANGING.match(str(text)))
        connection = getattr(self, "connection", self)
        connection.changed = getattr(connection, "changed", False) or changes
        return watch.around("statement", " ".join(str(text).split())[:100], changes, call)

    def commit(self: Any, call: Callable[[], Any]) -> Any:
        changed, self.changed = getattr(self, "changed", False), False
        return watch.around("commit", "", changed, call)

    class Cursor(sqlite3.Cursor):
        def execute(self, text: str, *given: Any) -> Any:
            return statement(self, text, lambda: super(Cursor, self).execute(text, *given))

        def executemany(self, text: str, *given: Any) -> Any:
            return statement(self, text, lambda: super(Cursor, self).executemany(text, *given))

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, text: str, *given: Any) -> Any:
            return statement(self, text, lambda: super(Connection, self).execute(text, *given))

        def commit(self) -> None:
            commit(self, lambda: super(Connection, self).commit())

    class PostgresCursor(psycopg2.extensions.cursor):
        def execute(self, text: Any, *given: Any) -> Any:
            return statement(self, text, lambda: super(PostgresCursor, self).execute(text, *given))

        def executemany(self, text: Any, *given: Any) -> Any:
            return statement(self, text, lambda: super(PostgresCursor, self).executemany(text, *given))

        def copy_expert(self, text: Any, *given: Any, **named: Any) -> Any:
            return statement(self, text, lambda: super(PostgresCursor, self).copy_expert(text, *given, **named))

    class PostgresConnection(psycopg2.extensions.connection):
        def cursor(self, *given: Any, **named: Any) -> Any:
            return super().cursor(*given, **{"cursor_factory": PostgresCursor, **named})

        def commit(self) -> None:
            commit(self, lambda: super(PostgresConnection, self).commit())

    sqlite, postgres = sqlite3.dbapi2.connect, psycopg2.connect
    sqlite3.dbapi2.connect = lambda *a, **n: sqlite(*a, **{"factory": Connection, **n})
    psycopg2.connect = lambda *a, **n: postgres(*a, **{"connection_factory": PostgresConnection, **n})


def _watch_tables(watch: Watch) -> Replaced:
    _replace(deltalake.DeltaTable, _TABLES, watch)
    transactions = _replace(deltalake.transaction, ("create_table_with_add_actions",), watch)
    return transactions | _replace(deltalake, ("write_deltalake",), watch)


class _Tantivy:
    """An index or a writer of tantivy, some of whose methods are watched."""

    def __init__(self, watch: Watch, real: Any) -> None:
        self._watch, self._real = watch, real

    def writer(self, *given: Any, **named: Any) -> _Tantivy:
        return _Tantivy(self._watch, _watched(self._watch, "Index.writer", self._real.writer)(*given, **named))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        writes = ("add_document", "commit", "wait_merging_threads", "delete_documents", "rollback")
        return _watched(self._watch, f"IndexWriter.{name}", found) if name in writes else found


def _watch_indexes(watch: Watch) -> None:
    made = tantivy.Index

    class Index(_Tantivy):
        open = made.open

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(watch, _watched(watch, "tantivy.Index", made)(*given, **named))

    tantivy.Index = Index  # type: ignore[misc, assignment]
