"""Readers who read all the while, in every way there is, and say what they find that may not be. Not a test."""

from __future__ import annotations

import json
import os
import re
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from refold import open_release
from refold.errors import NotFound, RefoldError
from tests.failpoints.shop import DATABASE_FILE, DAYS, SQLITE, Contents, plain

STORES = ("on_hand", "offers", "turnover")
TABLES = {"levels": "on_hand", "turnover": "turnover"}
PAUSE_SECONDS = 0.25
"""Between two readings, so that the killed and their readers share the machine."""

Allowed = dict[str, Contents]


class Reader:
    """One who reads the shop in the working folder.

    `nothing` allows that nothing is released yet, and `fewer` that sinks of every kind are withdrawn.
    """

    def __init__(self, allowed: Allowed, nothing: bool, fewer: bool, database: str) -> None:
        self.allowed, self.nothing, self.fewer, self.database = allowed, nothing, fewer, database
        self.newest = -1

    def read(self) -> list[str]:
        """Read everything once; returns what is wrong."""
        return [*self.pinned(), *self.views(), *self.tables(), *self.aliases()]

    def wrong(self) -> Iterator[str]:
        """What is wrong with what is read, where a reader may also be refused because something is damaged."""
        for look in (self.pinned, self.views, self.tables, self.aliases):
            try:
                yield from (each for each in look() if not each.startswith("open_release"))
            except (RefoldError, DeltaError, OSError, ValueError):
                continue

    def pinned(self) -> Iterator[str]:
        """Through the pointer: all sinks are of its snapshot."""
        try:
            served = open_release("store", database=self.database)
        except NotFound as error:
            if not self.nothing or not re.search("Nothing has been released|found none", str(error)):
                yield f"open_release: {error}"
            return
        if served.snapshot not in self.allowed:
            yield f"the pointer serves {served.snapshot}, expected one of {sorted(self.allowed)}"
            return
        if served.number < self.newest:
            yield f"the pointer went back from {self.newest} to {served.number}"
        self.newest = served.number
        expected = self.allowed[served.snapshot]
        ways: dict[str, tuple[Callable[[], list[dict[str, Any]]], str]] = {
            "Sql/on_hand": (lambda: served.sql("on_hand").to_pylist(), "on_hand"),
            "Sql/offers": (lambda: served.sql("offers").to_pylist(), "offers"),
            "Sql/turnover": (lambda: served.sql("turnover").to_pylist(), "turnover"),
            "Delta/levels": (lambda: served.delta("levels").to_pylist(), "on_hand"),
            "Delta/turnover": (lambda: served.delta("turnover").to_pylist(), "turnover"),
            "BulkNdjson/offers": (lambda: served.documents("offers").to_pylist(), "offers"),
            "Tantivy/offers_index": (lambda: [dict(h.document) for r in expected["offers"]
                                              for h in served.search("offers_index", r["product"], 1)], "offers"),
        }  # fmt: skip
        left = {"Sql/on_hand", "Delta/turnover"}
        if served.release.titles not in ([{*ways}, left] if self.fewer else [{*ways}]):
            yield f"release {served.number} of {served.snapshot} has the sinks {sorted(served.release.titles)}"
        for title in served.release.titles & ways.keys():
            read, store = ways[title]
            if plain(rows := read()) != expected[store]:
                yield f"release {served.number} of {served.snapshot}: {title} holds {plain(rows)}"

    def views(self) -> Iterator[str]:
        """In one transaction over all views of the database: all of one release."""
        if self.database == SQLITE and not Path(DATABASE_FILE).exists():
            return
        try:
            yield from self._views()
        except sa.exc.DataError as error:
            if "have changed since this transaction began" not in str(error):
                raise  # else an honest refusal: other columns were released in the middle of the transaction
        except sa.exc.ProgrammingError as error:
            if not self.fewer or "does not exist" not in str(error):
                raise  # else a view was withdrawn in the middle of the transaction

    def _views(self) -> Iterator[str]:
        options = {} if self.database == SQLITE else {"isolation_level": "REPEATABLE READ"}
        engine = sa.create_engine(self.database, poolclass=sa.NullPool, **options)
        with engine.connect() as connection:
            if self.database == SQLITE:
                connection.exec_driver_sql("BEGIN")
            # SQLAlchemy would ask which of the views of this transaction are visible now, and find one missing.
            views = "sqlite_master WHERE type = 'view'" if self.database == SQLITE else "pg_class WHERE relkind = 'v'"
            name = "name" if self.database == SQLITE else "relname"
            there = set(connection.scalars(sa.text(f"SELECT {name} FROM {views}")))
            found: dict[str, list[dict[str, Any]]] = {}
            withdrawn = {"offers", "turnover"} - there if self.fewer else set()
            for name in STORES:
                if name in withdrawn:
                    continue
                rows = connection.execute(sa.text(f"SELECT * FROM {name}")) if name in there else ()
                found[name] = plain([dict(row._mapping) for row in rows])
            told = {"none"}
            if "refold_release" in sa.inspect(connection).get_table_names():
                told = set(connection.scalars(sa.text("SELECT snapshot FROM refold_release")))
            connection.rollback()
        empty = not any(found.values()) and told in ({"none"}, {None}, set())
        if withdrawn:
            told -= {None}
        days = [d for d, rows in self.allowed.items() if {n: r for n, r in rows.items() if n in found} == found]
        if not (self.nothing and empty) and told != set(days):
            yield f"the views hold {found}, told to be of {sorted(map(str, told))}"

    def tables(self) -> Iterator[str]:
        """Delta tables as anybody reads them: each whole, of one of the two."""
        for name, store in TABLES.items():
            if Path("store/delta", name, "_delta_log").exists():
                try:
                    rows = plain(DeltaTable(f"store/delta/{name}").to_pyarrow_table().to_pylist())
                except DeltaError:
                    if self.fewer and name == "levels":
                        continue  # it is withdrawn, or about to be
                    raise
                if rows not in [expected[store] for expected in self.allowed.values()]:
                    yield f"the Delta table {name} holds {rows}"

    def aliases(self) -> Iterator[str]:
        """What search sinks say is served is of one of the two."""
        for folder in ("bulk/offers", "tantivy/offers_index"):
            path = Path("store/search", folder, "released.json")
            if path.exists():
                told = json.loads(path.read_bytes())
                version = (told.get("body") or told)["version"]
                if DAYS[int(version.partition("-")[0])] not in self.allowed:
                    yield f"{path} says {version}"


def serve(commands: int, answers: int) -> None:
    """Read as commands on a pipe say: `begin` with a shop, `look` for one whole reading from now on, `end`.

    `allow` is a `look` that from now on also allows more. Between commands it reads on and on.
    """
    reader, readings = None, 0
    faults: list[str] = []
    waiting = b""
    while True:
        order: dict[str, Any] = {}
        if reader is None or b"\n" in waiting or select.select([commands], [], [], PAUSE_SECONDS)[0]:
            while b"\n" not in waiting:
                more = os.read(commands, 65536)
                if not more:
                    os._exit(0)
                waiting += more
            text, _, waiting = waiting.partition(b"\n")
            order = json.loads(text)
        if order.get("what") == "begin":
            os.chdir(order["root"])
            os.environ["PGDATABASE"] = order["name"]
            reader, readings, faults = (
                Reader(order["allowed"], order["nothing"], order["fewer"], order["database"]),
                0,
                [],
            )
            continue
        assert reader is not None
        reader.allowed |= order.get("allowed", {})
        try:
            faults += reader.read()
        except Exception as error:  # whatever a reader meets is a finding
            faults.append(f"{type(error).__name__}: {error}")
        readings += 1
        if order:
            os.write(answers, (json.dumps({"readings": readings, "faults": faults[:5]}) + "\n").encode())
        if order.get("what") == "end":
            os.chdir("/")
            reader = None
