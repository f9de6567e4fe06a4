"""A register of leases in a SQL database: PostgreSQL, or SQLite on one machine.

One row a name in `refold_leases`; a swap is one conditional statement that commits by itself, so that a process that is
paused at any moment holds no lock that others wait for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from refold.errors import CommitUnknown, FixInput, RefoldError, Unavailable
from refold.leases.register import Entry, Register
from refold.sinks.database import Database
from refold.storage.objects import canonical_json

_metadata = sa.MetaData()
_leases = sa.Table(
    "refold_leases",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


class DatabaseRegister(Register):
    """The table `refold_leases` of a database, made where it is missing."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._made = False

    @property
    def place(self) -> str:
        """The table and its database."""
        return f"table {_leases.name} in {self._database.place}"

    def read(self, name: str) -> Entry:
        """The row of a name."""
        self._make()
        with self._database.reading() as connection:
            row = connection.execute(sa.select(_leases).where(_leases.c.name == name)).one_or_none()
        if row is None:
            return Entry(0, None)
        try:
            body = json.loads(row.body)
        except ValueError as error:
            return Entry(row.version, None, f"The row of lease {name} in {self.place} is not JSON: {error}.")
        return Entry(row.version, body)

    def swap(self, name: str, version: int, body: Mapping[str, Any]) -> bool:
        """Insert the first row of a name, or update it where it has the version."""
        self._make()
        text = canonical_json(dict(body)).decode()
        try:
            return self._swapped(name, version, text)
        except Unavailable as error:
            return self._settled(name, version, text, error)

    def _swapped(self, name: str, version: int, text: str) -> bool:
        if version == 0:
            new = _leases.insert().from_select(
                ["name", "version", "body"],
                sa.select(sa.literal(name), sa.literal(1), sa.literal(text)).where(
                    ~sa.exists().where(_leases.c.name == name)
                ),
            )
            try:
                return self._database.at_once(new).rowcount == 1
            except FixInput:  # the row was made at the same moment, and its name is unique
                return False
        here = sa.and_(_leases.c.name == name, _leases.c.version == version)
        return (
            self._database.at_once(sa.update(_leases).where(here).values(version=version + 1, body=text)).rowcount == 1
        )

    def _settled(self, name: str, version: int, text: str, failure: RefoldError) -> bool:
        """Whether a swap whose answer was lost is in the table. Another one may have followed, so an older one is not
        known."""
        try:
            found = self.read(name)
        except RefoldError as error:
            raise CommitUnknown(
                f"It is unknown whether lease {name} was changed in {self.place}. {failure} Reading it back failed: "
                f"{error}",
                remedy="Run again.",
            ) from error
        if found.version == version + 1 and canonical_json(dict(found.body or {})).decode() == text:
            return True
        raise failure

    def names(self) -> Sequence[str]:
        """The names of all rows."""
        self._make()
        with self._database.reading() as connection:
            return sorted(connection.scalars(sa.select(_leases.c.name)))

    def _make(self) -> None:
        if not self._made:
            with self._database.writing("tables") as connection:
                _metadata.create_all(connection)
            self._made = True
