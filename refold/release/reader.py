"""Reading what is served, by whoever has no project: one release, pinned, whatever is released meanwhile.

`open_release` resolves the pointer once; everything read afterwards is of exactly that release, over all sinks. The
record of the release tells where the sinks are and which columns they have. Readers of one SQL database may as well
use its views, which move together; one transaction must then be REPEATABLE READ on PostgreSQL to see one release in
two statements. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from refold.errors import Damaged, FixInput, NotFound, RefoldError
from refold.release.pointer import Pointer, Release, ServedSink
from refold.sinks import Connections, Hit, Target
from refold.sinks.tantivy import TantivyTarget
from refold.storage.objects import ObjectStore
from refold.stores.state import sort_by

_MASKED = "***"


def open_release(
    url: str, *, database: str | None = None, search_folder: str | Path | None = None, number: int | None = None
) -> OpenRelease:
    """The release that is served now from the store at `url`, or one of its earlier numbers that is still kept.

    Args:
        url: URL or path of the store (`REFOLD_STORE`).
        database: SQLAlchemy URL of the database; by default the one that the release tells. It must be given where
            that one has a password, because secrets are never stored.
        search_folder: folder of the search indexes; by default the one that the release tells.
        number: the release to open; by default the newest.

    Raises:
        NotFound: there is no store at `url`, nothing was released, or there is no such number.
        Damaged: the record of the release is damaged.
        FixInput: a newer Refold wrote it, or an earlier one that did not tell its sinks.

    For example `refold.open_release("/data/store").sql("stock_view").to_pandas()`.
    """
    objects = ObjectStore.open(url, must_exist=True)
    pointer = Pointer(objects)
    release = pointer.get(number) if number is not None else pointer.current()
    if release is None:
        raise NotFound(f"Nothing has been released in {objects.url} yet.", remedy="Run a rebuild first.")
    if not release.sinks:
        raise FixInput(
            f"The record of release {release.number} is of format {release.format} and does not tell its sinks.",
            remedy="Release again with this Refold.",
        )
    folder = Path(search_folder) if search_folder is not None else objects.resolve(release.search_folder)
    return OpenRelease(release, Connections(objects, database or release.database, folder))


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
        """The key of the snapshot that all stores are at."""
        return self.release.snapshot

    @property
    def snapshot_id(self) -> str:
        """The identity of that snapshot."""
        return self.release.snapshot_id

    @property
    def released_at(self) -> str:
        """When it was released, ISO 8601 in UTC."""
        return self.release.released_at

    def sql(self, name: str) -> pa.Table:
        """The rows of a SQL sink, named by its view or its store, sorted by key, with exactly the declared types.

        Raises NotFound where there is no such sink, or where a prune has dropped its version since; FixInput where
        the database needs a password; Unavailable where it does not answer.
        """
        return self._read("Sql", name)

    def delta(self, name: str) -> pa.Table:
        """The rows of a Delta table, named by the table or its store, sorted by key, with exactly the declared types.

        Raises NotFound as `sql` does, and Damaged where a file is not what was published.
        """
        return self._read("Delta", name)

    def documents(self, name: str) -> pa.Table:
        """The rows of a search sink, an index or a bulk export, named by it or its store, sorted by key.

        Raises NotFound and Damaged as `delta` does.
        """
        types = [sink.type for _, sink in self._sinks(name) if sink.type in ("Tantivy", "BulkNdjson")]
        return self._read(types[0] if types else "Tantivy", name)

    def search(self, name: str, words: str, limit: int = 10) -> list[Hit]:
        """The rows of a local search index that match best, best first; see `refold.sinks.tantivy`.

        Raises NotFound and Damaged as `delta` does.
        """
        store, described, target = self._target("Tantivy", name)
        assert isinstance(target, TantivyTarget)
        try:
            return target.search(words, limit, self.release.versions[store])
        except (NotFound, Damaged) as error:
            raise self._gone(store, described, error, target.versions()) from error

    def _read(self, kind: str, name: str) -> pa.Table:
        store, described, target = self._target(kind, name)
        try:
            return sort_by(target.read(self.release.versions[store]), described.key)
        except (NotFound, Damaged) as error:
            raise self._gone(store, described, error, target.versions()) from error

    def _target(self, kind: str, name: str) -> tuple[str, ServedSink, Target]:
        store, described = self._find(kind, name)
        if kind == "Sql" and _MASKED in self._connections.database_url:
            raise FixInput(
                f"Release {self.number} tells the database of {described.name} without its password: "
                f"{self._connections.database_url}.",
                remedy="Give it: open_release(url, database=...).",
            )
        declared = described.declared()
        assert declared is not None, f"{kind} is a sink of Refold's own"
        return store, described, declared.open(self._connections, store, described.key, described.schema)

    def _sinks(self, name: str) -> Iterator[tuple[str, ServedSink]]:
        for store, sinks in self.release.sinks.items():
            yield from ((store, sink) for sink in sinks if name in (sink.name, store))

    def _find(self, kind: str, name: str) -> tuple[str, ServedSink]:
        for store, sink in sorted(self._sinks(name), key=lambda found: found[1].name != name):
            if sink.type == kind:
                return store, sink
        there = sorted(
            f"{sink.name} (of store {store})"
            for store, sinks in self.release.sinks.items()
            for sink in sinks
            if sink.type == kind
        )
        raise NotFound(
            f"Release {self.number} has no {kind} sink {name!r}; it has {', '.join(there) or f'no {kind} sink at all'}."
        )

    def _gone(self, store: str, described: ServedSink, error: RefoldError, held: list[str]) -> RefoldError:
        """What a failed read means: a version that was dropped, or the error as it is."""
        version = self.release.versions[store]
        if version in held:
            return error
        return NotFound(
            f"Release {self.number} of snapshot {self.snapshot} cannot be read from {described.place}: its version "
            f"{version} of store {store!r} is not there.",
            remedy="Where it was pruned, open the release that is served now; where the place is another, name it.",
        )
