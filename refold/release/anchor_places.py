"""Where an anchor is kept: entries that are added and never changed, in another object store or in a database.

It must be a place that whoever can write to the project's store cannot write to: another bucket, at best with object
lock, a folder of another account, or a table on which the database gives SELECT and INSERT alone. What entries mean is
`refold.release.anchor`.
"""

from __future__ import annotations

from typing import Protocol

import sqlalchemy as sa

from refold.errors import Conflict, NotAnchored, NotFound
from refold.sinks.database import Database
from refold.storage.objects import ObjectStore
from refold.storage.urls import local_path


class AnchorPlace(Protocol):
    """An append-only list of entries, numbered from 1. Every method may raise Unavailable and FixInput.

    Attributes:
        place: where it is, secrets masked.
    """

    place: str

    def count(self) -> int:
        """The number of the newest entry; 0 where there is none."""

    def get(self, number: int) -> bytes:
        """One entry. Raises NotAnchored where it is missing."""

    def add(self, number: int, entry: bytes) -> None:
        """Add an entry; that it is there already is success. Raises Conflict where the number has another one."""


def open_place(url: str) -> AnchorPlace:
    """The place at a path or the URL of an object store, or of a database with SQLAlchemy's `sqlite://` and others.

    Raises FixInput.
    """
    if local_path(url) is None and url.partition(":")[0].partition("+")[0] in ("sqlite", "postgres", "postgresql"):
        return DatabasePlace(url)
    return ObjectPlace(ObjectStore.open(url))


class ObjectPlace:
    """Entries as objects of a store, each created once."""

    def __init__(self, objects: ObjectStore) -> None:
        self.place = objects.url
        self._objects = objects

    def count(self) -> int:
        """As the protocol says; an object with another name is none of the entries."""
        names = (info.name.removesuffix(".json") for info in self._objects.list())
        return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)

    def get(self, number: int) -> bytes:
        """As the protocol says."""
        try:
            return self._objects.get(_name(number))
        except NotFound as error:
            raise _missing(number, self.place) from error

    def add(self, number: int, entry: bytes) -> None:
        """As the protocol says."""
        self._objects.create(_name(number), entry)


_entries = sa.Table(
    "refold_anchor",
    sa.MetaData(),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Text, nullable=False),
)


class DatabasePlace:
    """Entries as rows of the table `refold_anchor`, one table for each project."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.place = self._database.place

    def count(self) -> int:
        """As the protocol says."""
        if self._database.empty():
            return 0
        with self._database.reading() as connection:
            if not sa.inspect(connection).has_table(_entries.name):
                return 0
            return connection.execute(sa.select(sa.func.max(_entries.c.number))).scalar_one() or 0

    def get(self, number: int) -> bytes:
        """As the protocol says."""
        with self._database.reading() as connection:
            found = self._entry(connection, number)
        if found is None:
            raise _missing(number, self.place)
        return found

    def add(self, number: int, entry: bytes) -> None:
        """As the protocol says."""
        with self._database.writing(_entries.name) as connection:
            if not sa.inspect(connection).has_table(_entries.name):
                _entries.create(connection)
            found = self._entry(connection, number)
            if found is None:
                connection.execute(_entries.insert().values(number=number, entry=entry.decode()))
        if found not in (None, entry):
            raise Conflict(f"Another process added entry {number} to the anchor {self.place} first.")

    def _entry(self, connection: sa.Connection, number: int) -> bytes | None:
        query = sa.select(_entries.c.entry).where(_entries.c.number == number)
        text: str | None = connection.execute(query).scalar_one_or_none()
        return None if text is None else text.encode()


def _name(number: int) -> str:
    return f"{number:010d}.json"


def _missing(number: int, place: str) -> NotAnchored:
    return NotAnchored(f"Entry {number} of the anchor {place} is missing.", remedy="Find out who could remove it.")
