"""What a sink is: the declaration in a store's file, and the target it opens at work.

A sink holds several versions of a store's content side by side. `publish` writes a version unseen, `release` moves
readers to one, `read` gives the content back so that its digest can be compared. Nothing here knows how content
came to be; whether it is proven was decided before. Tombstones were filtered out before, too.
The promises below are tested for every sink by `refold.testing.sink_conformance`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from refold.errors import Damaged, DeclarationError, FixInput, NotFound
from refold.storage.objects import ObjectStore
from refold.types import Schema, arrow_schema

_VERSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Connections:
    """The places that sinks write to. `objects.location` and `database_url` are unmasked and never shown.

    Attributes:
        objects: the object store; Delta tables and `_bulk` files are objects in it.
        database_url: SQLAlchemy URL of the database for SQL sinks.
        search_folder: local folder of the search indexes.
    """

    objects: ObjectStore
    database_url: str
    search_folder: Path


@dataclass(frozen=True)
class Content:
    """One version of one store's content.

    Attributes:
        store: the store's name.
        key: its key columns.
        columns: its columns, declared types, in order.
        rows: the rows, sorted by key, with exactly the Arrow types of `columns`.
        version: the name of this version, from snapshot and digest: equal versions have equal content. It becomes
            part of file, folder and index names, so it is lower-case ASCII letters, digits, `.`, `_` and `-`.
        ordinal: the snapshot's place in history, rising; the external version in search documents.
        lineage: what goes into commits and release rows as text: snapshot, digest, code_version, proof.

    Raises:
        DeclarationError: the parts contradict each other; all faults are listed.
    """

    store: str
    key: Sequence[str]
    columns: Schema
    rows: pa.Table
    version: str
    ordinal: int
    lineage: Mapping[str, str]

    def __post_init__(self) -> None:
        faults = [f"the key column {name!r} is not among its columns" for name in self.key if name not in self.columns]
        if not self.key:
            faults.append("it has no key column")
        if not _VERSION.fullmatch(self.version):
            faults.append(f"the version {self.version!r} does not match {_VERSION.pattern}")
        if self.ordinal < 0:
            faults.append(f"the ordinal {self.ordinal} is negative")
        expected, found = _types(arrow_schema(self.columns)), _types(self.rows.schema)
        if expected != found:
            faults.append(f"its rows have the columns {found}, expected {expected}")
        if faults:
            raise DeclarationError(f"The content of store {self.store}", faults)


@dataclass(frozen=True)
class Fault:
    """One way in which what a sink keeps beside its rows is not what it should be.

    `where` names the object, file, row or cell. What mends it is what mends every sink: `Target.mend`, `publish` and
    `release`, in this order, unless `found` says otherwise.
    """

    where: str
    expected: str
    found: str


class Target(ABC):
    """A sink with its connection: where versions of one store are kept."""

    @abstractmethod
    def publish(self, content: Content) -> None:
        """Write a version unseen by readers. A rerun, also after a kill midway, ends with the same content.

        Two publishers of the same version at once both end well. Publishing a version that is held, even the
        released one, changes nothing for readers, except that damage done to it is repaired.
        Raises FixInput where a value cannot be stored, before anything is written.
        """

    @abstractmethod
    def read(self, version: str | None = None) -> pa.Table:
        """The rows of a version (None: the one that readers see), any order, exactly the declared Arrow types.

        Raises NotFound where there is no such version, FixInput where it was published with other columns.
        """

    @abstractmethod
    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        """Move readers to a published version. A rerun changes nothing. Raises NotFound for an unknown version."""

    @abstractmethod
    def released(self) -> str | None:
        """The version that readers see; None before the first release."""

    @abstractmethod
    def versions(self) -> list[str]:
        """The versions that are held whole, sorted."""

    @abstractmethod
    def drop(self, version: str) -> None:
        """Forget a version that readers do not see; one that is not there is no error. Raises Conflict if released."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where a person finds it: table name, folder or URL, secrets masked."""

    def faults(self, content: Content, lineage: Mapping[str, str] | None = None) -> list[Fault]:
        """What is wrong with a version that should be held, beside its rows; with `lineage`, also with serving it.

        Writes nothing. Rows are compared by whoever asks, with what `salvage` gives. Raises Unavailable.
        """
        found = []
        if content.version not in self.versions():
            found.append(Fault(self.place, f"version {content.version}", "none that is whole"))
        served = self.released() if lineage is not None else None
        if lineage is not None and served != content.version:
            found.append(Fault(self.place, f"to serve version {content.version}", f"it serves {served or 'none'}"))
        return found

    def salvage(self, version: str, *, served: bool) -> pa.Table | None:
        """The rows of a version as they are found, damage and all; None where they cannot be read.

        With `served` those that readers see, unless the sink serves another version: that is a fault of its own.
        """
        try:
            return self.read(None if served and self.released() == version else version)
        except (NotFound, FixInput, Damaged):
            return None

    def mend(self, content: Content) -> None:
        """Put back what neither publishing a version nor releasing it does; nothing, for most sinks.

        Called before both where `faults` found some. Raises FixInput where somebody else's things are in the way.
        """
        return


class Sink(ABC):
    """The declaration of where a store is published. Frozen data; connects only in `open`."""

    kind: ClassVar[str]
    """Its room in Dagster's asset keys: sql, delta, search."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The table's or index's name, one per kind in a project."""

    @abstractmethod
    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> Target:
        """Connect. Nothing is written before `publish`. Raises DeclarationError where the columns cannot be held."""

    def release_together(
        self, moves: Sequence[tuple[Target, str, Mapping[str, str]]], confirm: Callable[[], None] = lambda: None
    ) -> None:
        """Release several targets of this kind; a kind with transactions does it in one. A rerun changes nothing.

        `confirm` is called right before readers are moved, under the sink's own lock where it has one; it raises
        where the release was overtaken by a newer one, and then nothing more is moved.
        """
        for target, version, lineage in moves:
            confirm()
            target.release(version, lineage)


def unlike(where: str, expected: Mapping[str, object], found: Mapping[str, object] | None) -> list[Fault]:
    """The cells of one row that differ, each as a fault; a row that is not there is one.

    >>> [fault.where for fault in unlike("row 7", {"a": 1, "b": 2}, {"a": 1, "b": 3})]
    ['row 7, column b']
    """
    if found is None:
        return [Fault(where, "1 row", "0 rows")]
    names = [name for name in expected if expected[name] != found.get(name)]
    return [Fault(f"{where}, column {name}", repr(expected[name]), repr(found.get(name))) for name in names]


def no_version(place: str, version: str | None) -> str:
    """The message of NotFound for a version, or for a read before the first release."""
    if version is None:
        return f"Nothing is released in {place} yet."
    return f"Expected the version {version} in {place}, found none that is whole."


def require_columns(place: str, version: str, found: str, expected: str) -> None:
    """Refuse a version that was published with other columns than are declared now (texts of `types.describe`).

    Raises:
        FixInput: they differ.
    """
    if found != expected:
        raise FixInput(
            f"The version {version} in {place} was published with other columns: found {_flat(found)}; "
            f"declared now: {_flat(expected)}.",
            remedy="Publish the snapshot again under the present declaration, or read it with the former one.",
        )


def _flat(description: str) -> str:
    return ", ".join(description.splitlines())


def _types(schema: pa.Schema) -> list[str]:
    return [f"{field.name} {field.type}" for field in schema]
