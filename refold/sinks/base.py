"""Sinks: the declaration in a store's file, and the target it opens at work.

A sink holds several versions of a store's content side by side. `publish` writes a version unseen, `release` moves
readers to one, `read` gives the content back so that its digest can be compared. Nothing here knows how content
came to be; whether it is proven was decided before. Tombstones were filtered out before, too.
The promises below are tested for every sink by `refold.testing.sink_conformance`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa

from refold.errors import Damaged, DeclarationError, FixInput, NotFound
from refold.sinks.connections import OBJECTS, Connections
from refold.storage.objects import ObjectStore
from refold.types import Schema, arrow_schema

_VERSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


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
class SinkFault:
    """One way in which what a sink keeps beside its rows is not what it should be.

    `where` names the object, file, row or cell. What mends it is what mends every sink: `Target.mend`, `publish` and
    `release`, in this order, unless `found` says otherwise.
    """

    where: str
    expected: str
    found: str


@dataclass(frozen=True)
class Hit:
    """One row found: its score (higher is better), its key values and the whole row, as declared types."""

    score: float
    key: tuple[object, ...]
    document: Mapping[str, object]


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

    def release_if(self, version: str, lineage: Mapping[str, str], confirm: Callable[[], None]) -> None:
        """Release as `release` does, unless `confirm` raises or another release was done since it was called.

        It is called between reading what readers see and moving them, or under the sink's own lock, and again where
        readers were moved meanwhile. A version that is served already counts as moved only with the same lineage.
        So a process that is paused after `confirm` never takes readers back. A sink that cannot compare what it
        replaces needs a lock here. Raises what `confirm` and `release` raise.
        """
        confirm()
        self.release(version, lineage)

    @abstractmethod
    def released(self) -> str | None:
        """The version that readers see; None before the first release."""

    @abstractmethod
    def versions(self) -> list[str]:
        """The versions that are held whole, sorted."""

    @abstractmethod
    def drop(self, version: str) -> None:
        """Forget a version that readers do not see; an unknown one is accepted. Raises Conflict if it is released."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Its place, for people: table name, folder or URL, secrets masked."""

    def withdraw(self, confirm: Callable[[], None] = lambda: None) -> str:
        """Stop serving: readers find nothing under its name. Versions are kept, and `release` serves one again.

        `confirm` is called once it is known that this can be done, right before anything is changed, under the sink's
        own lock where it has one; it raises where the release was overtaken. A sink that serves nothing is left alone.
        Returns what is left for a person to do elsewhere, "" for nothing. Raises FixInput where it cannot be done,
        naming what is in the way, and Unavailable.
        """
        raise FixInput(f"{self.place} cannot be withdrawn by its sink.")

    def begun(self) -> list[str]:
        """The versions of which anything is kept, sorted: those held whole, and those that a killed publish began.

        A prune drops them once they are old. A sink that removes leftovers otherwise need not name them.
        """
        return self.versions()

    def search(self, words: str, limit: int = 10, version: str | None = None) -> list[Hit]:
        """The rows that match best, best first; only where the sink is `searchable`.

        Raises NotFound as `read` does, FixInput where the sink cannot be searched.
        """
        raise FixInput(f"{self.place} cannot be searched.", remedy="Name a sink that has a search index.")

    def faults(self, content: Content, lineage: Mapping[str, str] | None = None) -> list[SinkFault]:
        """Faults of a version that should be held, except in its rows; with `lineage`, also of serving it.

        Writes nothing. Rows are compared by the caller, with what `salvage` gives. Raises Unavailable.
        """
        if content.version not in self.versions():
            return [SinkFault(self.place, f"version {content.version}", "none that is whole")]
        found = self._unreadable(content.version)
        try:
            served = self.released() if lineage is not None else content.version
        except Damaged as error:
            served = str(error)
        if served != content.version:
            found.append(SinkFault(self.place, f"to serve version {content.version}", f"it serves {served or 'none'}"))
        return found

    def _unreadable(self, version: str) -> list[SinkFault]:
        try:
            self.read(version)
        except (NotFound, FixInput, Damaged) as error:
            return [SinkFault(f"{self.place}, version {version}", "rows that can be read", str(error))]
        return []

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

        Called before both where `faults` found some. Raises FixInput where objects of others are in the way.
        """
        return


class Sink(ABC):
    """The declaration of where a store is published: a frozen dataclass that connects only in `open`.

    A class in another package is found by the entry points of `refold.sinks.registry`.
    """

    kind: ClassVar[str]
    """What it is to its readers, which begins its asset key in Dagster and selects it in `open_release`: `sql`,
    `delta`, `search`, or a word of its own in lower-case ASCII letters, digits and `_`."""

    label: ClassVar[str] = "sink"
    """Its name for people: `SQL view`, `Delta table`."""

    searchable: ClassVar[bool] = False
    """Whether its targets can be searched."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The table's or index's name, one per class in a project."""

    @property
    def connection(self) -> str:
        """The name of the connection that `open` uses. Objects in the store are kept below `sinks/<kind>/<name>/`."""
        return OBJECTS

    def options(self) -> dict[str, Any]:
        """The options that a release records, as JSON values; secrets belong in connections."""
        assert is_dataclass(self), f"{type(self).__name__} is not a dataclass, so it has to define options()"
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """The declaration that recorded these options. Raises FixInput where this version does not take them."""
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        try:
            return cls(**given)
        except (TypeError, DeclarationError) as error:
            raise FixInput(
                f"The sink {cls.__name__} cannot be made from the options that a release recorded: {error}.",
                remedy="Install the version of its package that published it.",
            ) from error

    @abstractmethod
    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> Target:
        """Connect. Nothing is written before `publish`. Raises DeclarationError where the columns cannot be held."""

    def unfit(self, connections: Connections, columns: Schema) -> list[str]:
        """Why this sink should not be given columns that it can open, by default nothing; each says what to declare.

        Asked before anything is sealed or published; what was published earlier is still read and released.
        """
        return []

    def by_hand(self, place: str) -> str:
        """What a person does where a target at a place cannot be withdrawn: a command or statement, as a sentence."""
        return f"Remove {place} once nobody reads it."

    def prepare(self, moves: Sequence[tuple[Target, str, Mapping[str, str]]]) -> None:
        """Find out whether `release_together` can do these moves, before the release is committed; by default nothing.

        Readers notice nothing, and a release that is killed afterwards leaves nothing behind.
        Raises FixInput (NotFound included) where it cannot, naming what is in the way, and Unavailable.
        """
        return

    def release_together(
        self, moves: Sequence[tuple[Target, str, Mapping[str, str]]], confirm: Callable[[], None] = lambda: None
    ) -> None:
        """Release several targets of this class, in one transaction where it has them. A rerun changes nothing.

        `confirm` is called right before readers are moved, under the sink's own lock where it has one; it raises
        where the release was overtaken by a newer one, and then nothing more is moved.
        """
        for target, version, lineage in moves:
            target.release_if(version, lineage, confirm)


Move = tuple[Target, str, Mapping[str, str]]
"""A target, the version to serve, and the lineage that goes with it."""


def refusing(sink: Sink, moves: Sequence[tuple[str, Move]]) -> list[str]:
    """The stores whose move a sink refuses by itself; all of them where it refuses none alone."""
    found = []
    for store, move in moves:
        try:
            sink.prepare([move])
        except FixInput:
            found.append(store)
    return found or [store for store, _ in moves]


def unlike(where: str, expected: Mapping[str, object], found: Mapping[str, object] | None) -> list[SinkFault]:
    """The cells of one row that differ, each as a fault; a row that is not there is one.

    >>> [fault.where for fault in unlike("row 7", {"a": 1, "b": 2}, {"a": 1, "b": 3})]
    ['row 7, column b']
    """
    if found is None:
        return [SinkFault(where, "1 row", "0 rows")]
    names = [name for name in expected if expected[name] != found.get(name)]
    return [SinkFault(f"{where}, column {name}", repr(expected[name]), repr(found.get(name))) for name in names]


def versions_below(objects: ObjectStore, folder: str) -> set[str]:
    """The folders directly below a folder of the object store that are named as a version may be."""
    parts = (info.name.removeprefix(f"{folder}/").split("/") for info in objects.list(folder))
    return {part[0] for part in parts if len(part) > 1 and _VERSION.fullmatch(part[0])}


def repeated_but_for_case(names: Iterable[str]) -> list[str]:
    """A fault for every name that occurs more than once when case is ignored, sorted.

    >>> repeated_but_for_case(["a", "A", "b"])
    ["the column name 'a' occurs twice, but for case"]
    """
    lowered = [name.lower() for name in names]
    return [f"the column name {n!r} occurs twice, but for case" for n in sorted(set(lowered)) if lowered.count(n) > 1]


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
