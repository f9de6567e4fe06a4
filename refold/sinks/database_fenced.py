"""A database whose writes carry a fencing token: refused, in their own transaction, where a newer one was seen.

A process that was paused within a transaction holds its locks, so that nobody writes before it has ended, which
PostgreSQL sees to after `_IDLE_SECONDS`; one that was paused before it finds the newer token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from refold.errors import Fenced
from refold.sinks.connections import Fence
from refold.sinks.database import Database

_metadata = sa.MetaData()
_fences = sa.Table(
    "refold_fences",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
)
_NAME = "sinks"
_IDLE_SECONDS = 20
"""Less than others wait for a lock. Loading rows is not idle, however long it takes."""


class FencedDatabase(Database):
    """A database that keeps the highest token that wrote to it, in the table `refold_fences`."""

    def __init__(self, url: str, fence: Fence) -> None:
        super().__init__(url)
        self._fence = fence
        self._made = False

    @contextmanager
    def writing(self, *locks: str) -> Iterator[sa.Connection]:
        """As of any database; raises Fenced where a write with a newer token is committed."""
        with self._fence(f"what was meant for {self.place}") as token:
            self._make()
            with super().writing(*locks) as connection:
                self._require_newest(connection, token)
                yield connection

    def _require_newest(self, connection: sa.Connection, token: int) -> None:
        if not self.sqlite:
            idle = f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'"
            connection.exec_driver_sql(idle)
        seen = connection.scalar(sa.select(_fences.c.token).where(_fences.c.name == _NAME).with_for_update())
        assert seen is not None, "the row is made with the table"
        if seen > token:
            with self._fence(f"what was meant for {self.place}"):  # which names who has the lease
                pass
            raise Fenced(
                f"{self.place} was written with fencing token {seen}, so a write with token {token} is refused: "
                "another process took the lease of publishing.",
                remedy="Nothing was changed. `refold locks` shows who has it; run again once it has finished.",
            )
        if seen < token:
            connection.execute(sa.update(_fences).where(_fences.c.name == _NAME).values(token=token))

    def _make(self) -> None:
        if not self._made:
            with super().writing("tables") as connection:
                _metadata.create_all(connection)
                if connection.scalar(sa.select(_fences.c.token).where(_fences.c.name == _NAME)) is None:
                    connection.execute(sa.insert(_fences).values(name=_NAME, token=0))
            self._made = True


def database_of(url: str, fence: Fence | None) -> Database:
    """The database behind a URL, fenced where there is a fence."""
    return Database(url) if fence is None else FencedDatabase(url, fence)
