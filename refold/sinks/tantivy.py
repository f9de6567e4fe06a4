"""Local full-text indexes by tantivy: search a store without a server.

For a sink `Tantivy("product_search")` the search folder holds

- `tantivy/product_search/<version>/`: one index a version, with `refold.json` beside tantivy's own files, which it
  names with their sha256. It is built in a sibling folder and renamed whole, so that a folder that is there is whole;
- `tantivy/product_search/released.json`: the version that `search` asks, replaced atomically, removed by `withdraw`;
- `tantivy/product_search/.lock`: held while publishing, releasing and dropping; readers need no lock.

Text columns are indexed in lower-cased words (of less than 40 bytes), the key also whole. Index files differ
from build to build although they hold the same; what is compared is the content that `read` gives back.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import tantivy

from refold.canonical.digest import table_digest
from refold.errors import Conflict, Damaged, DeclarationError, FixInput, NotFound
from refold.sinks.base import Content, Hit, Sink, SinkFault, Target, no_version, require_columns, unlike
from refold.sinks.connections import SEARCH, Connections
from refold.sinks.tantivy_faults import readable, reading_explained, rights_explained, writing_explained
from refold.sinks.values import documents, from_documents, readable_documents, require_storable, to_json
from refold.storage.durable import sync, sync_tree
from refold.storage.file_lock import WAIT_SECONDS, locked
from refold.storage.objects import canonical_json, sha256_hex
from refold.storage.records import body_of, record_bytes
from refold.types import ColumnKind, Schema, describe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY, _PLACE, _DOCUMENT = "refold_key", "refold_place", "refold_document"
_MANIFEST = "refold.json"
_BUILDING, _DROPPED = ".building-", ".dropped-"
_HEAP_SIZE_BYTES = 64_000_000
_KEY_BOOST = 100.0
_TERM_SIZE_BYTES_MAX = 65_000
_SHA256 = "sha256 "
_OF_EVERY_COMMIT = ("meta.json", ".managed.json")
"""The files of an index that every commit rewrites; all others are written once."""


@dataclass(frozen=True)
class Tantivy(Sink):
    """A local search index; `fields` are the text columns to search in, all of them where it is None.

    >>> Tantivy("product_search").name
    'product_search'
    """

    index: str
    fields: tuple[str, ...] | None = None
    kind: ClassVar[str] = "search"
    label: ClassVar[str] = "tantivy index"
    searchable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.index):
            raise DeclarationError(f"Tantivy({self.index!r})", [f"an index's name matches {_NAME.pattern}"])
        if self.fields is not None:
            object.__setattr__(self, "fields", tuple(self.fields))

    @property
    def name(self) -> str:
        """The name of the index's folder."""
        return self.index

    @property
    def connection(self) -> str:
        """The folder of the search indexes."""
        return SEARCH

    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> TantivyTarget:
        """The index below the search folder. Raises DeclarationError where it cannot hold the columns."""
        texts = [name for name, column in columns.items() if column.kind in (ColumnKind.TEXT, ColumnKind.ENUM)]
        fields = list(self.fields) if self.fields is not None else texts
        faults = [f"the field {name!r} is not one of its text columns" for name in fields if name not in texts]
        for name in fields:
            if name in (_KEY, _PLACE, _DOCUMENT) or not tantivy.SchemaBuilder.is_valid_field_name(name):
                faults.append(f"the column name {name!r} cannot be a field's name")
        if faults:
            raise DeclarationError(f"{self} of store {store}", faults)
        return TantivyTarget(connections.path(self.connection) / "tantivy" / self.index, key, columns, fields)


class TantivyTarget(Target):
    """One index's versions in a local folder."""

    def __init__(
        self, folder: Path, key: Sequence[str], columns: Schema, fields: Sequence[str], *,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._wait_seconds = wait_seconds
        self._linked: list[tempfile.TemporaryDirectory[str]] = []
        self._key = tuple(key)
        self._columns = dict(columns)
        self._fields = tuple(fields)

    @property
    def place(self) -> str:
        """The folder of the versions."""
        return str(self._folder)

    def publish(self, content: Content) -> None:
        """Build the index aside and rename it whole; one that is there and holds the same content is kept."""
        require_storable(content, self.place)
        with self._locked():
            if self._holds(content):
                return
            building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self._folder))
            self._build(building, content)
            self._remove(content.version)
            sync_tree(building)
            building.rename(self._folder / content.version)
            sync(self._folder)

    def read(self, version: str | None = None) -> pa.Table:
        """The stored rows of a version. Raises NotFound, FixInput, Damaged."""
        sought = self._sought(version)
        faults = self._file_faults(sought)
        if faults:
            differences = "; ".join(f"{each.where}: expected {each.expected}, found {each.found}" for each in faults)
            raise Damaged(f"The index {self._folder / sought} is damaged: {differences}.", remedy="Publish it again.")
        return from_documents(self._documents(sought), self._columns)

    def _documents(self, version: str) -> list[bytes]:
        with reading_explained(self._folder / version):
            searcher = self._index(version).searcher()
            count = searcher.num_docs
            hits = searcher.search(tantivy.Query.all_query(), limit=count).hits if count else []
            return [bytes(searcher.doc(address)[_DOCUMENT][0]) for _, address in hits]

    def search(self, words: str, limit: int = 10, version: str | None = None) -> list[Hit]:
        """The rows that match best, at most `limit`, best first and rows of equal score by key.

        `words` may use tantivy's query syntax (`name:lamp`, `"red lamp"`, `-blue`); what is not valid syntax is
        taken as plain words. A row whose key equals `words` (several columns: with spaces between) comes first.
        Raises NotFound, Damaged.
        """
        sought = self._sought(version)
        index = self._index(sought)
        with reading_explained(self._folder / sought):
            searcher = index.searcher()
            wanted = min(limit, searcher.num_docs)
            if wanted < 1:
                return []
            hits = _best(searcher, self._query(index, words), wanted)
            documents_found = [searcher.doc(address)[_DOCUMENT][0] for _, address in hits]
        rows = from_documents(documents_found, self._columns).to_pylist()
        return [
            Hit(score, tuple(row[name] for name in self._key), row) for (score, _), row in zip(hits, rows, strict=True)
        ]

    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        """Name the version that is searched. Raises NotFound."""
        self.release_if(version, lineage, lambda: None)

    def release_if(self, version: str, lineage: Mapping[str, str], confirm: Callable[[], None]) -> None:
        """Name the version that is searched, once `confirm` was called under the lock."""
        if not self._whole(version):
            raise NotFound(no_version(self.place, version))
        with self._locked():
            if not self._whole(version):
                raise NotFound(no_version(self.place, version))
            confirm()
            self._write("released.json", _served(version, lineage))

    def released(self) -> str | None:
        """The version that is searched."""
        file = self._folder / "released.json"
        try:
            with rights_explained(file):
                return str(json.loads(file.read_bytes())["version"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{file} names no version.", remedy="Release again; `refold repair` does.") from error

    def withdraw(self, confirm: Callable[[], None] = lambda: None) -> str:
        """Delete the record of the version that is searched."""
        if (self._folder / "released.json").exists():
            with self._locked():
                confirm()
                (self._folder / "released.json").unlink(missing_ok=True)
        return ""

    def versions(self) -> list[str]:
        """The versions whose folder is in place."""
        return sorted(path.parent.name for path in self._folder.glob(f"[!.]*/{_MANIFEST}"))

    def drop(self, version: str) -> None:
        """Remove a version's folder. Raises Conflict if it is the one that is searched."""
        if self._folder.exists():
            with self._locked():
                if self.released() == version:
                    raise Conflict(f"{self.place} serves the version {version}.", remedy="Release another one first.")
                self._remove(version)

    def _build(self, folder: Path, content: Content) -> None:
        builder = tantivy.SchemaBuilder().add_bytes_field(_DOCUMENT, stored=True)
        builder = builder.add_unsigned_field(_PLACE, fast=True).add_text_field(
            _KEY, tokenizer_name="raw", index_option="basic"
        )
        for name in self._fields:
            builder = builder.add_text_field(name)
        index = tantivy.Index(builder.build(), str(folder))
        writer = index.writer(heap_size=_HEAP_SIZE_BYTES, num_threads=1)
        content = _by_key(content)
        texts = {name: content.rows[name].to_pylist() for name in self._fields}
        keys = _key_texts(content)
        for place, (_, document) in enumerate(documents(content)):
            entry = tantivy.Document()
            entry.add_unsigned(_PLACE, place)
            entry.add_text(_KEY, _term(keys[place]))
            entry.add_bytes(_DOCUMENT, document)
            for name, values in texts.items():
                if values[place] is not None:
                    entry.add_text(name, values[place])
            writer.add_document(entry)
        writer.commit()
        writer.wait_merging_threads()
        files = {name: sha256_hex((folder / name).read_bytes()) for name in _names(folder)}
        (folder / _MANIFEST).write_bytes(record_bytes({**_described(content), "files": files}))

    def _query(self, index: tantivy.Index, words: str) -> tantivy.Query:
        words = words.encode(errors="replace").decode()
        fields = list(self._fields) or [_KEY]
        query, faults = index.parse_query_lenient(words, fields)
        if faults:
            plain = " ".join(f'"{word}"' for word in re.findall(r"[^\W_]+", words))
            query, _ = index.parse_query_lenient(plain, fields)
        exact = tantivy.Query.term_query(index.schema, _KEY, _term(words), index_option="basic")
        boosted = tantivy.Query.const_score_query(exact, _KEY_BOOST)
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, query), (tantivy.Occur.Should, boosted)])

    def _sought(self, version: str | None) -> str:
        sought = version if version is not None else self.released()
        if sought is None or not self._whole(sought):
            raise NotFound(no_version(self.place, version))
        require_columns(self.place, sought, str(self._manifest(sought)["columns"]), describe(self._columns))
        return sought

    def _manifest(self, version: str) -> dict[str, Any]:
        file = self._folder / version / _MANIFEST
        with rights_explained(file):
            found = body_of(file.read_bytes(), str(file))
        if found.get("version") != version or not found.keys() >= {"columns", "files"}:
            raise Damaged(f"{file} is not that of version {version}.", remedy="Publish it again.")
        return found

    def _index(self, version: str) -> tantivy.Index:
        folder = self._folder / version
        with reading_explained(folder):
            return tantivy.Index.open(str(readable(folder, self._linked)))

    def _whole(self, version: str) -> bool:
        with rights_explained(self._folder):
            return (self._folder / version / _MANIFEST).is_file()

    def faults(self, content: Content, lineage: Mapping[str, str] | None = None) -> list[SinkFault]:
        """Every file of a version's index that is not the one that was built, and what is wrong with serving it."""
        file = self._folder / content.version / _MANIFEST
        try:
            found = self._file_faults(content.version)
            manifest = self._manifest(content.version)
            found += unlike(str(file), _described(content), {n: manifest.get(n) for n in _described(content)})
        except FileNotFoundError:
            found = [SinkFault(str(file), f"the record of version {content.version}", "none")]
        except Damaged as error:
            found = [SinkFault(str(file), f"the record of version {content.version}", str(error))]
        if lineage is not None:
            file, expected = self._folder / "released.json", _served(content.version, lineage)
            data = file.read_bytes() if file.is_file() else b"none"
            if data != expected:
                found.append(SinkFault(str(file), expected.decode(), data.decode(errors="backslashreplace")))
        return found

    def salvage(self, version: str, *, served: bool) -> pa.Table | None:
        """The rows of an index as it is, where strangers changed it; None where a file of it has other bytes.

        What tantivy reads from a file that was changed under it may be anything.
        """
        try:
            for fault in self._file_faults(version):
                changed = fault.expected.startswith(_SHA256) and fault.found.startswith(_SHA256)
                if changed and Path(fault.where).name not in _OF_EVERY_COMMIT:
                    return None
            return readable_documents(self._documents(version), self._columns)
        except (Damaged, OSError):
            return None

    def _file_faults(self, version: str) -> list[SinkFault]:
        """The files of an index that are not those it was built of; tantivy's locks are left out."""
        folder, expected = self._folder / version, self._manifest(version)["files"]
        found = []
        for name in sorted({*expected, *_names(folder)}):
            want = f"{_SHA256}{expected[name]}" if name in expected else "no such file"
            with rights_explained(folder / name):
                there = (folder / name).is_file()
                got = f"{_SHA256}{sha256_hex((folder / name).read_bytes())}" if there else "none"
            if want != got:
                found.append(SinkFault(str(folder / name), want, got))
        return found

    def _holds(self, content: Content) -> bool:
        if not self._whole(content.version):
            return False
        try:
            found = self.read(content.version)
        except (Damaged, FixInput):  # whatever is wrong with the files, building them again mends it
            return False
        columns = describe(self._columns)
        return table_digest(columns, found, self._key) == table_digest(columns, content.rows, self._key)

    def _remove(self, version: str) -> None:
        if not (self._folder / version).exists():
            return
        aside = Path(tempfile.mkdtemp(prefix=_DROPPED, dir=self._folder))
        (self._folder / version).rename(aside / "index")
        sync(self._folder)
        shutil.rmtree(aside)

    def _write(self, name: str, value: bytes) -> None:
        number, path = tempfile.mkstemp(prefix=_BUILDING, dir=self._folder)
        with os.fdopen(number, "wb") as file:
            file.write(value)
        sync(Path(path))
        Path(path).replace(self._folder / name)
        sync(self._folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock, and clear away what killed processes left."""
        with writing_explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder / ".lock", self._wait_seconds):
                _clear([*self._folder.glob(f"{_BUILDING}*"), *self._folder.glob(f"{_DROPPED}*")])
                yield


def _described(content: Content) -> dict[str, Any]:
    return {"columns": describe(content.columns), "rows": content.rows.num_rows, "version": content.version}


def _served(version: str, lineage: Mapping[str, str]) -> bytes:
    return canonical_json({"lineage": dict(lineage), "version": version})


def _names(folder: Path) -> list[str]:
    """The files of an index, but for locks and Refold's record."""
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix != ".lock" and p.name != _MANIFEST)


def _best(searcher: tantivy.Searcher, query: tantivy.Query, wanted: int) -> list[tuple[float, tantivy.DocAddress]]:
    """The best `wanted` hits, equal scores in the order of their keys.

    tantivy cuts equal scores off in an order of its own, so all rows as good as the last one are fetched first.
    """
    asked = 4 * wanted
    hits = searcher.search(query, limit=asked).hits
    if len(hits) == asked and hits[-1][0] == hits[wanted - 1][0]:
        hits = searcher.search(query, limit=searcher.num_docs).hits
    places = searcher.fast_field_values(_PLACE, [address for _, address in hits])
    ranked = sorted(zip(hits, places, strict=True), key=lambda pair: (-pair[0][0], pair[1]))
    return [hit for hit, _ in ranked[:wanted]]


def _key_texts(content: Content) -> list[str]:
    """What a person would type to name each row: its key values as text, with spaces between several."""
    columns = [to_json(content.rows[name], content.columns[name]) for name in content.key]
    return [" ".join("" if value is None else str(value) for value in key) for key in zip(*columns, strict=True)]


def _term(text: str) -> str:
    """A key as one term, or its hash where tantivy would leave it out without an error, above 65,530 bytes."""
    data = text.encode()
    return text if len(data) <= _TERM_SIZE_BYTES_MAX else f"{_SHA256}{sha256_hex(data)}"


def _by_key(content: Content) -> Content:
    order = pc.sort_indices(content.rows, sort_keys=[(name, "ascending") for name in content.key])
    return replace(content, rows=content.rows.take(order))


def _clear(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
