"""Reads a release without the project that made it; a later release does not change what an open one returns.

`open_release` resolves the pointer once, and every read afterwards returns exactly that release, from all sinks. The
release's record says where the sinks are and which columns they have. Readers of one SQL database may also use its
views, which move together; on PostgreSQL a transaction must be REPEATABLE READ to see one release in two statements.
Rows are compared with the digest in the record before they are returned. Nothing is written here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from refold.canonical.digest import table_digest
from refold.errors import Damaged, FixInput, NotFound, RefoldError
from refold.release.anchor import open_anchor
from refold.release.pointer import Pointer, Release, ServedSink
from refold.sinks import Connections, Hit, Sink, Target
from refold.sinks.connections import DATABASE, SEARCH
from refold.storage.objects import ObjectStore
from refold.storage.packs import open_packed
from refold.stores.state import sort_by
from refold.types import describe

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars


def open_release(
    url: str,
    *,
    database: str | None = None,
    search_folder: str | Path | None = None,
    connections: Mapping[str, str] | None = None,
    number: int | None = None,
    snapshot: str | None = None,
    at: dt.datetime | None = None,
    anchor: str | None = None,
    anchor_key: str | Path | None = None,
) -> OpenRelease:
    """The release that is served now from the store at `url`, or one of its earlier numbers that is still kept.

    Args:
        url: URL or path of the store (`REFOLD_STORE`).
        database: SQLAlchemy URL of the database; by default the one in the release's record. It must be given where
            that one has a password, because secrets are never stored.
        search_folder: folder of the search indexes; by default the one in the release's record.
        connections: URLs or paths of other named connections, instead of those in the release's record.
        number: the release to open; by default the newest.
        snapshot: instead of a number, the key of a snapshot: the newest release of it.
        at: instead of a number, a time with its zone: the release that was served then.
        anchor: URL or path where releases are anchored (`REFOLD_ANCHOR`); the store is held against it.
        anchor_key: PEM file of the key that verifies the entries there; the public key does.

    Raises:
        NotFound: there is no store at `url`, nothing was released, or there is no such release.
        Damaged: the record of the release is damaged.
        FixInput: a newer Refold wrote it, or an earlier one that did not list its sinks; or more than one of `number`,
            `snapshot` and `at` is given, or `at` has no zone.
        NotAnchored: the store is not what was anchored: it was replaced or rolled back.

    For example `refold.open_release("/data/store").pandas("stock")`.
    """
    objects = open_packed(url, must_exist=True)
    pointer = Pointer(objects)
    number = _asked_for(pointer, number, snapshot, at)
    if anchor is not None:
        open_anchor(objects, anchor, key=Path(anchor_key) if anchor_key else None).require(number)
    release = pointer.get(number) if number is not None else pointer.current()
    if release is None:
        raise NotFound(f"Nothing has been released in {objects.url} yet.", remedy="Run a rebuild first.")
    given = {DATABASE: database, SEARCH: search_folder, **(connections or {})}
    named = {name: str(place) for name, place in given.items() if place is not None}
    return OpenRelease(release, Connections(objects, {**_recorded(objects, release), **named}))


def _asked_for(pointer: Pointer, number: int | None, snapshot: str | None, at: dt.datetime | None) -> int | None:
    """The number of the release that is asked for; None for the newest. Raises FixInput and NotFound."""
    if sum(each is not None for each in (number, snapshot, at)) > 1 or (at is not None and at.tzinfo is None):
        raise FixInput(
            f"Expected at most one of number, snapshot, and a time with its zone; found number={number}, "
            f"snapshot={snapshot!r}, at={at}.",
            remedy="Leave out the others, or give the time its zone, such as tzinfo=datetime.UTC.",
        )
    if snapshot is None and at is None:
        return number
    for release in pointer.newest_first():
        made = dt.datetime.fromisoformat(release.released_at) if release.released_at else None
        if snapshot == release.snapshot or (at is not None and made is not None and made <= at):
            return release.number
    raise NotFound(
        f"No release of snapshot {snapshot} was made." if at is None else f"Nothing was released at {at} or before.",
        remedy="`refold release ls` lists the releases.",
    )


def _recorded(objects: ObjectStore, release: Release) -> dict[str, str]:
    """The places of a release's connections as it records them; relative ones are below the store. Raises FixInput."""
    if not release.sinks:
        raise FixInput(
            f"The record of release {release.number} is of format {release.format} and does not list its sinks.",
            remedy="Release again with this Refold.",
        )
    places = release.places.items()
    return {name: place if not place or "://" in place else str(objects.resolve(place)) for name, place in places}


Answer = TypeVar("Answer")
_Served = tuple[str, ServedSink, Sink]
"""A store, and one of its sinks as the release records it and as a declaration."""


class OpenRelease:
    """One release, pinned: every read gives its versions, also while others are released."""

    def __init__(self, release: Release, connections: Connections) -> None:
        self.release = release
        self._connections = connections

    def __repr__(self) -> str:
        return f"<{self.release}>"

    @property
    def number(self) -> int:
        """The number of the pointer."""
        return self.release.number

    @property
    def snapshot(self) -> str:
        """The key of the snapshot that all stores are at, except those held back (`snapshot_of`)."""
        return self.release.snapshot

    @property
    def snapshot_id(self) -> str:
        """The identity of that snapshot."""
        return self.release.snapshot_id

    def snapshot_of(self, store: str) -> str:
        """The key of the snapshot that a store is at: an earlier one where the store was held back."""
        return self.release.position_of(store).snapshot

    @property
    def released_at(self) -> str:
        """When it was released, ISO 8601 in UTC."""
        return self.release.released_at

    def sql(self, name: str) -> pa.Table:
        """The rows of a SQL sink, named by its view or its store, sorted by key, with exactly the declared types.

        Raises NotFound where there is no such sink, or where a prune has dropped its version since; FixInput where
        the database needs a password; Unavailable where it does not answer; Damaged where the rows are not those that
        were proven.
        """
        return self._read("sql", name)

    def delta(self, name: str) -> pa.Table:
        """The rows of a Delta table, named by the table or its store, sorted by key, with exactly the declared types.

        Raises NotFound and Damaged as `sql` does.
        """
        return self._read("delta", name)

    def documents(self, name: str) -> pa.Table:
        """The rows of a search sink, an index or a bulk export, named by it or its store, sorted by key.

        Raises NotFound and Damaged as `delta` does.
        """
        return self._read("search", name)

    def rows(self, name: str, kind: str | None = None) -> pa.Table:
        """The rows of a sink of any kind, named by itself or its store, sorted by key.

        `kind` is a word such as `sql` or one of a sink in another package; without it the first sink of that name is
        read. Raises NotFound and Damaged as `delta` does, FixInput where the package of the sink is not installed.
        """
        return self._read(kind, name)

    def pandas(self, name: str) -> pd.DataFrame:
        """The rows of a sink or store as `rows` gives them, in pandas with Arrow's types: nothing is rounded."""
        import pandas as pd  # noqa: PLC0415  # takes seconds, and only this reader needs it

        frame: pd.DataFrame = self.rows(name).to_pandas(types_mapper=pd.ArrowDtype)
        return frame

    def polars(self, name: str) -> polars.DataFrame:
        """The rows of a sink or store as `rows` gives them, in a Polars frame. Polars is to be installed."""
        import polars  # noqa: PLC0415  # not a requirement

        frame = polars.from_arrow(self.rows(name))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """A connection to a DuckDB in memory with a table for each store that has sinks, by its name.

        All of them are read and compared with their digests first, so that a query joins one release.
        """
        import duckdb  # noqa: PLC0415  # takes a moment, and only this reader needs it

        connection = duckdb.connect()
        for store in self.release.sinks:
            connection.register(store, self.rows(store))
        return connection

    def search(self, name: str, words: str, limit: int = 10) -> list[Hit]:
        """The rows of a local search index that match best, best first; see `refold.sinks.tantivy`.

        Raises NotFound and Damaged as `delta` does.
        """
        served = self._find("searchable", name, lambda sink: sink.searchable)
        return self._asked(served, lambda target, version: target.search(words, limit, version))

    def _read(self, kind: str | None, name: str) -> pa.Table:
        served = self._find(kind, name, lambda sink: kind in (None, sink.kind))
        return self._asked(served, lambda target, version: self._proven(served, target.read(version)))

    def _proven(self, served: _Served, rows: pa.Table) -> pa.Table:
        """Rows sorted by key, if they have the digest that was recorded at the release. Raises Damaged."""
        store, described, _ = served
        expected = self.release.digests.get(store)
        found = table_digest(describe(described.schema), rows, described.key) if expected else None
        if found != expected:
            raise Damaged(
                f"The rows in {described.place} are not those that were proven for release {self.number}, snapshot "
                f"{self.snapshot}: expected digest {expected}, found {found}.",
                remedy="`refold verify` names what differs; `refold repair` publishes it again.",
            )
        return sort_by(rows, described.key)

    def _asked(self, served: _Served, ask: Callable[[Target, str], Answer]) -> Answer:
        """The result of a read from the version that the release serves."""
        store, described, sink = served
        target = sink.open(self._connections, store, described.key, described.schema)
        try:
            return ask(target, self.release.versions[store])
        except (NotFound, Damaged) as error:
            raise self._gone(store, described, error, target.versions()) from error

    def _find(self, what: str | None, name: str, wanted: Callable[[Sink], bool]) -> _Served:
        """The sink of a name, or else the first one of the store of that name, among those that are wanted."""
        sinks = [(store, described) for store, several in self.release.sinks.items() for described in several]
        named = [each for each in sinks if name in (each[0], each[1].name)]
        unknown = []
        for store, described in sorted(named, key=lambda each: each[1].name != name):
            sink = described.declared()
            if sink is None:
                unknown.append(described.title)
            elif wanted(sink):
                return store, described, sink
        if unknown:
            raise FixInput(
                f"Release {self.number} serves {', '.join(unknown)}, but no installed package provides them.",
                remedy="Install their package, or read them by the project that declares them.",
            )
        raise NotFound(
            f"Release {self.number} has no {what + ' ' if what else ''}sink {name!r}; its sinks are "
            f"{', '.join(f'{described.title} (of store {store})' for store, described in sinks)}."
        )

    def _gone(self, store: str, described: ServedSink, error: RefoldError, held: list[str]) -> RefoldError:
        """The error to raise for a failed read: NotFound where the version was dropped, otherwise the error itself."""
        version = self.release.versions[store]
        if version in held:
            return error
        return NotFound(
            f"Release {self.number} of snapshot {self.snapshot} cannot be read from {described.place}: its version "
            f"{version} of store {store!r} is not there.",
            remedy="Where it was pruned, open the release that is served now; where the place is another, name it.",
        )
