"""`_bulk` files for OpenSearch and Elasticsearch: every version as NDJSON objects, ready to be sent.

For a sink `BulkNdjson("product_search")` the object store holds

- `search/bulk/product_search/<version>/bulk-00000.ndjson`, …: parts for `POST _bulk`, at most 50 MB each. Every
  document is two lines, `{"index": {"_index", "_id", "version", "version_type": "external"}}` and the document;
- `search/bulk/product_search/<version>/aliases.json`: the body for `POST _aliases` that moves the alias
  `product_search` to this version's index in one step, once its parts are loaded;
- `search/bulk/product_search/<version>/meta.json`: the parts with their sha256, written last, so that a version
  without it is not whole;
- `search/bulk/product_search/released.json`: the version that is to be served, and its lineage; withdrawing removes it.

Each version has an index of its own, `product_search-<version>`. The external version is the snapshot's ordinal, so
a part that is sent again changes nothing: its items answer 409, meaning "already there". Decimals are text, because
JSON readers take numbers for doubles; map them as `scaled_float` or `keyword`. Nulls are written as null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import ClassVar, TypedDict

import pyarrow as pa

from refold.errors import Conflict, Damaged, DeclarationError, NotFound
from refold.sinks.base import Content, Sink, SinkFault, Target, no_version, require_columns, versions_below
from refold.sinks.connections import Connections
from refold.sinks.values import documents, from_documents, readable_documents, require_storable
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex
from refold.storage.sink_names import bulk_folder
from refold.types import Schema, describe

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_META = "meta.json"
_ACTION = b'{"index":{'
_SHOWN_MAX = 500
_ATTEMPTS_MAX = 5


class _Part(TypedDict):
    documents: int
    name: str
    sha256: str
    size_bytes: int


class _Meta(TypedDict):
    columns: str
    index: str
    ordinal: int
    parts: list[_Part]
    version: str


@dataclass(frozen=True)
class BulkNdjson(Sink):
    """An export for the search index (by then an alias) `index`, in parts of at most `part_size_bytes_max`.

    >>> BulkNdjson("product_search").name
    'product_search'
    """

    index: str
    part_size_bytes_max: int = 50_000_000
    kind: ClassVar[str] = "search"
    label: ClassVar[str] = "bulk files"

    def __post_init__(self) -> None:
        faults = []
        if not _NAME.fullmatch(self.index):
            faults.append(f"an index's name matches {_NAME.pattern}")
        if self.part_size_bytes_max < 1:
            faults.append(f"part_size_bytes_max is {self.part_size_bytes_max}, expected at least 1")
        if faults:
            raise DeclarationError(f"BulkNdjson({self.index!r})", faults)

    @property
    def name(self) -> str:
        """The name of the alias."""
        return self.index

    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> BulkNdjsonTarget:
        """The folder in the object store. Raises DeclarationError where a column cannot be a document's field."""
        # A document with a field of one of these names is refused; other names with `_` in front are not.
        reserved = {"_field_names", "_id", "_ignored", "_index", "_routing", "_source", "_type", "_version"}
        faults = [
            f"the column name {name!r} is a field of the search engine's own" for name in columns if name in reserved
        ]
        faults += ["a column has no name"] if "" in columns else []
        if faults:
            raise DeclarationError(f"{self} of store {store}", faults)
        return BulkNdjsonTarget(self, connections.objects, columns)

    def by_hand(self, place: str) -> str:
        """The object to delete, and the request to the search engine."""
        return f"Delete {place}/released.json, and send: {_remove_indexes(self.index)}"


class BulkNdjsonTarget(Target):
    """One index's exported versions."""

    def __init__(self, sink: BulkNdjson, objects: ObjectStore, columns: Schema) -> None:
        self._sink = sink
        self._objects = objects
        self._folder = bulk_folder(sink.index)
        self._columns = dict(columns)

    @property
    def place(self) -> str:
        """The folder of the versions, secrets masked."""
        return f"{self._objects.url.rstrip('/')}/{self._folder}"

    def publish(self, content: Content) -> None:
        """Write the parts, then the record that makes them whole, then remove parts that a killed run left."""
        require_storable(content, self.place)
        kept = set()
        for name, data in self._objects_of(content):
            if name.endswith(_META):
                self._objects.sync(self._folder)
            self._objects.put(name, data)
            kept.add(name)
        for info in self._objects.list(f"{self._folder}/{content.version}"):
            if info.name.endswith(".ndjson") and info.name not in kept:
                self._objects.delete(info.name)

    def _objects_of(self, content: Content) -> Iterator[tuple[str, bytes]]:
        """Every object of a version, the record that makes it whole last; the same content gives the same bytes."""
        folder = f"{self._folder}/{content.version}"
        index = f"{self._sink.index}-{content.version}"
        parts: list[_Part] = []
        for count, data in _parts(_lines(content, index), self._sink.part_size_bytes_max):
            name = f"{folder}/bulk-{len(parts):05d}.ndjson"
            parts.append({"documents": count, "name": name, "sha256": sha256_hex(data), "size_bytes": len(data)})
            yield name, data
        yield f"{folder}/aliases.json", canonical_json(_move_alias(self._sink.index, index))
        meta: _Meta = {
            "columns": describe(content.columns),
            "index": index,
            "ordinal": content.ordinal,
            "parts": parts,
            "version": content.version,
        }
        yield f"{folder}/{_META}", canonical_json(meta)

    def read(self, version: str | None = None) -> pa.Table:
        """The documents of a version as rows. Raises NotFound, FixInput, Damaged."""
        sought = version if version is not None else self.released()
        if sought is None:
            raise NotFound(no_version(self.place, None))
        meta = self._meta(sought)
        require_columns(self.place, sought, meta["columns"], describe(self._columns))
        return from_documents(self._documents(meta), self._columns)

    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        """Name the version that is to be served. Raises NotFound, Conflict."""
        self.release_if(version, lineage, lambda: None)

    def release_if(self, version: str, lineage: Mapping[str, str], confirm: Callable[[], None]) -> None:
        """Replace the record of what is to be served, if it is still what it was before `confirm`."""
        name = f"{self._folder}/released.json"
        for _ in range(_ATTEMPTS_MAX):
            former = self._objects.get(name) if self._objects.exists(name) else None
            served = self._served(version, self._meta(version)["index"], lineage)
            confirm()
            if former == served:
                return
            self._objects.sync()
            with suppress(Conflict):
                self._objects.put_if(name, served, former)
                return
        raise Conflict(f"{name} was changed by others {_ATTEMPTS_MAX} times.", remedy="Release again.")

    def _served(self, version: str, index: str, lineage: Mapping[str, str]) -> bytes:
        served = {"alias": self._sink.index, "index": index, "lineage": dict(lineage), "version": version}
        return canonical_json(served)

    def released(self) -> str | None:
        """The version that is to be served."""
        name = f"{self._folder}/released.json"
        try:
            return str(self._objects.get_json(name)["version"])
        except NotFound:
            return None
        except (KeyError, TypeError) as error:
            raise Damaged(f"{name} names no version.", remedy="Release again; `refold repair` does.") from error

    def versions(self) -> list[str]:
        """The versions that have a record."""
        names = [info.name.split("/") for info in self._objects.list(self._folder)]
        return sorted(name[-2] for name in names if name[-1] == _META)

    def begun(self) -> list[str]:
        """The versions of which there is a record or a file."""
        return sorted({*self.versions(), *versions_below(self._objects, self._folder)})

    def drop(self, version: str) -> None:
        """Delete a version's record and then its parts. Raises Conflict if it is to be served."""
        if self.released() == version:
            raise Conflict(f"{self.place} serves the version {version}.", remedy="Release another one first.")
        self._objects.delete(f"{self._folder}/{version}/{_META}")
        self._objects.sync()
        for info in self._objects.list(f"{self._folder}/{version}"):
            self._objects.delete(info.name)

    def withdraw(self, confirm: Callable[[], None] = lambda: None) -> str:
        """Delete the record of what is to be served. Returns the request that removes alias and indexes elsewhere."""
        name = f"{self._folder}/released.json"
        if not self._objects.exists(name):
            return ""
        confirm()
        self._objects.delete(name)
        return f"Where its parts were loaded, send: {_remove_indexes(self._sink.index)}"

    def faults(self, content: Content, lineage: Mapping[str, str] | None = None) -> list[SinkFault]:
        """Every object that is not, byte for byte, what publishing writes, and the first line that differs."""
        found, names = [], set()
        for name, expected in self._objects_of(content):
            names.add(name)
            found += self._object_faults(name, expected)
        for info in self._objects.list(f"{self._folder}/{content.version}"):
            if info.name.endswith(".ndjson") and info.name not in names:
                found.append(SinkFault(info.name, "no such part", f"a part of {info.size_bytes} bytes"))
        if lineage is not None:
            index = f"{self._sink.index}-{content.version}"
            name = f"{self._folder}/released.json"
            found += self._object_faults(name, self._served(content.version, index, lineage))
        return found

    def _object_faults(self, name: str, expected: bytes) -> list[SinkFault]:
        try:
            data = self._objects.get(name)
        except NotFound:
            return [SinkFault(name, f"an object of {len(expected)} bytes", "none")]
        if data == expected:
            return []
        lines = list(zip_longest(expected.split(b"\n"), data.split(b"\n")))
        number = next(number for number, (want, got) in enumerate(lines) if want != got)
        want, got = lines[number]
        return [SinkFault(f"{name} line {number + 1}", _shown(want), _shown(got))]

    def salvage(self, version: str, *, served: bool) -> pa.Table | None:
        """The documents of a version's parts, as many as can still be read."""
        rows = []
        for info in self._objects.list(f"{self._folder}/{version}"):
            if info.name.endswith(".ndjson"):
                lines = self._objects.get(info.name).split(b"\n")
                rows += [line for line in lines if line and not line.startswith(_ACTION)]
        return readable_documents(rows, self._columns)

    def _meta(self, version: str) -> _Meta:
        name = f"{self._folder}/{version}/{_META}"
        try:
            meta: _Meta = self._objects.get_json(name)
        except NotFound as error:
            raise NotFound(no_version(self.place, version)) from error
        if not isinstance(meta, dict) or not meta.keys() >= _Meta.__annotations__.keys() or meta["version"] != version:
            raise Damaged(f"The record {name} is not that of version {version}.", remedy="Publish it again.")
        return meta

    def _documents(self, meta: _Meta) -> Iterator[bytes]:
        for part in meta["parts"]:
            # Not splitlines(), which also splits at characters inside JSON texts.
            lines = self._objects.get_checked(part["name"], part["sha256"]).split(b"\n")[:-1]
            if len(lines) != 2 * part["documents"]:
                raise Damaged(f"{part['name']} has {len(lines)} lines, expected {2 * part['documents']}.")
            yield from lines[1::2]


def _lines(content: Content, index: str) -> Iterator[bytes]:
    """The action line and the document line of every row, each ended by a newline, as one piece."""
    for identity, document in documents(content):
        action = {"_id": identity, "_index": index, "version": content.ordinal, "version_type": "external"}
        yield canonical_json({"index": action}) + b"\n" + document + b"\n"


def _shown(line: bytes | None) -> str:
    if line is None:
        return "no line"
    text = line.decode(errors="backslashreplace")
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _parts(pieces: Iterable[bytes], size_bytes_max: int) -> Iterator[tuple[int, bytes]]:
    """Pieces joined to parts of at most `size_bytes_max`, each with its count; a larger piece is a part alone."""
    part: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        if part and size_bytes + len(piece) > size_bytes_max:
            yield len(part), b"".join(part)
            part, size_bytes = [], 0
        part.append(piece)
        size_bytes += len(piece)
    if part:
        yield len(part), b"".join(part)


def _remove_indexes(alias: str) -> str:
    """The request that removes all indexes of an alias, and the alias with them."""
    body = canonical_json({"actions": [{"remove_index": {"index": f"{alias}-*"}}]}).decode()
    return f"POST _aliases {body}"


def _move_alias(alias: str, index: str) -> Mapping[str, object]:
    remove = {"alias": alias, "index": f"{alias}-*", "must_exist": False}
    return {"actions": [{"remove": remove}, {"add": {"alias": alias, "index": index}}]}
