"""What is stored and served, read without the engine, objects as files and the database by SQL; and damage done to it.

`tests.machine.checks` holds it against the models.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

from tests.machine.model import LogModel
from tests.machine.served import Held, Served, Shown
from tests.machine.shop import SINKS, VIEWS, Shop


class Stored:
    """The store and the database of a shop.

    Attributes:
        planted: the damage done by name of the object: the bytes that were put there, or None where it was removed.
    """

    def __init__(self, shop: Shop, log: LogModel) -> None:
        self._shop = shop
        self._log = log
        self._sound_bytes: dict[str, bytes] = {}
        self.planted: dict[str, bytes | None] = {}

    def bytes_of(self, name: str) -> bytes | None:
        """The bytes of an object, None where there is none."""
        try:
            return (self._shop.store / name).read_bytes()
        except FileNotFoundError:
            return None

    def outstanding(self) -> list[str]:
        """The damage to states that nothing has mended, and to proofs whose claim has no sound one beside them."""
        dirty = [name for name in self.planted if self.is_dirty(name)]
        proofs = self.names("proofs")
        whole = {name.rpartition("/")[0] for name in proofs if not self.is_dirty(name)}
        lost = [name for name in dirty if name.startswith("proofs/") and name.rpartition("/")[0] not in whole]
        return [name for name in dirty if name.startswith("states/")] + lost

    def is_dirty(self, name: str) -> bool:
        """Whether an object still is as it was damaged."""
        return name in self.planted and self.bytes_of(name) == self.planted[name]

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """The stored objects below a folder."""
        found = sorted((self._shop.store / folder).rglob(f"*{suffix}"))
        return [path.relative_to(self._shop.store).as_posix() for path in found if path.is_file()]

    def series(self) -> list[Served]:
        """The pointer's series."""
        found = []
        for name in self.names("releases", ".json"):
            body = json.loads(self.bytes_of(name) or b"")["body"]
            number, day = body["number"], body["ordinal"]
            assert body["snapshot"] == self._log.days[day].key
            assert {store: place_of(version) for store, version in body["versions"].items()} == dict.fromkeys(
                SINKS.values(), day
            )
            moved = body["retired_by"] != number
            found.append(Served(number, day, body["rolled_back_to"], body["rolled_back_from"], moved))
        return found

    def retiring(self) -> Held:
        """What a prune has given up and not noted as dropped."""
        names = self.names("releases", ".json")
        body = json.loads(self.bytes_of(names[-1]) or b"")["body"] if names else {"retired_by": None}
        number = body["retired_by"]
        if number is None or self.bytes_of(f"retired/{number:020d}.json") is not None:
            return frozenset()
        return frozenset((title, place_of(v)) for title, versions in body["retired"].items() for v in versions)

    def held(self) -> Held:
        """What the sinks hold whole."""
        metas = self.names("search/bulk/tally_docs", "meta.json")
        found = {("BulkNdjson/tally_docs", place_of(name.split("/")[-2])) for name in metas}
        for table, version in self.query("SELECT table_name, version FROM refold_versions"):
            found.add((f"Sql/{table}", place_of(version)))
        return frozenset(found)

    def begun(self) -> Held:
        """What the sinks hold, and what a publish that was killed has left in the store."""
        parts = {name.split("/")[3] for name in self.names("search/bulk/tally_docs") if name.count("/") > 3}
        return self.held() | {("BulkNdjson/tally_docs", place_of(part)) for part in parts}

    def sealed_keys(self) -> list[str]:
        """The keys of the manifests."""
        return [name.removeprefix("snapshots/").removesuffix(".json") for name in self.names("snapshots")]

    def shown(self) -> Shown:
        """The places that the views show, which is one for both, and that the export names; None before a release."""
        told = self.bytes_of("search/bulk/tally_docs/released.json")
        return self._shown_by_views(), None if told is None else place_of(json.loads(told)["version"])

    def _shown_by_views(self) -> int | None:
        with closing(sqlite3.connect(self._shop.database_file)) as connection:
            connection.execute("BEGIN")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'refold_release'").fetchall():
                return None
            versions = dict(connection.execute("SELECT table_name, version FROM refold_release").fetchall())
            places = {None if version is None else place_of(version) for version in versions.values()}
            assert len(places) <= 1, f"the views show a mix: {versions}"
            place = places.pop() if places else None
            for store, view in VIEWS.items():
                if view in versions:
                    expected = self._log.days[place].published(store) if place is not None else []
                    found = records_of(connection.execute(f'SELECT * FROM "{view}" ORDER BY product'))
                    assert found == expected, f"view {view} at place {place}: expected {expected}, found {found}"
        return place

    def query(self, query: str) -> list[tuple[Any, ...]]:
        if not self._shop.database_file.exists():
            return []
        with closing(sqlite3.connect(self._shop.database_file)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'refold_versions'").fetchone() is None:
                return []
            return connection.execute(query).fetchall()

    def damage(self, name: str, data: bytes | None) -> None:
        """Give an object other bytes, or none at all, and note it; to do it twice may bring back what was there."""
        if not self.is_dirty(name):
            self._sound_bytes[name] = self.bytes_of(name) or b""
        path = self._shop.store / name
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        self.planted[name] = data
        if data == self._sound_bytes[name]:
            del self.planted[name]


def records_of(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    """The rows of a query by column."""
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def place_of(version: str) -> int:
    """The place of a day, which the name of each of its versions begins with."""
    return int(version.partition("-")[0])
