"""The pointer: a numbered series of write-once records below `releases/`; the newest one is served.

A record holds all that a reader needs: versions, proofs, and for every sink its place and columns. A release can
therefore be read, and rolled back to, without the project or its former declarations. Creating the next number is the
compare-and-swap. History is never rewritten: a rollback is a new number with the content of an
old one, and forgetting old versions is a new number that says which. Who may move the pointer, and what follows from
it, is `refold.release.releaser`; forgetting is `refold.release.retention`; reading is `refold.release.reader`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from refold.errors import Conflict, Damaged, FixInput, NotFound, Retry
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.release.anchor import Anchor
from refold.sinks import Connections, Sink, sink_class
from refold.sinks.connections import DATABASE, OBJECTS, SEARCH
from refold.storage.names import ObjectKind, folder_of, name_of, parts_of
from refold.storage.objects import ObjectStore, canonical_json
from refold.storage.records import read_record, record_bytes
from refold.storage.shapes import typed
from refold.types import Schema, parse_column

_log = logging.getLogger("refold")

FORMAT = 2
"""The format of records written now. Format 1 had no sinks, times and rollbacks, and is still read."""


@dataclass(frozen=True)
class ServedSink:
    """One sink of a release, described so that it can be opened without the project.

    Attributes:
        type: the class of its declaration: Sql, Delta, BulkNdjson, Tantivy, one of another package, or the project's.
        name: the table's or index's name.
        place: where a person finds it, secrets masked.
        key: the key columns.
        columns: pairs of column name and type, in order.
        options: what else its declaration says; empty for a class that no package registers.
    """

    type: str
    name: str
    place: str
    key: Sequence[str]
    columns: Sequence[Sequence[str]]
    options: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Its type and name, by which it is one of a project's: `Sql/stock_view`."""
        return f"{self.type}/{self.name}"

    @property
    def schema(self) -> Schema:
        """Its columns as types. Raises FixInput where a type is not one of this Refold's."""
        return {name: parse_column(text) for name, text in self.columns}

    def declared(self) -> Sink | None:
        """Its declaration; None where no installed package registers its class. Raises FixInput."""
        found = sink_class(self.type)
        return found.from_options(self.options) if found is not None else None


def title_of(sink: Sink) -> str:
    """The title of a declared sink, as `ServedSink.title`."""
    return f"{type(sink).__name__}/{sink.name}"


def describe_sink(sink: Sink, place: str, key: Sequence[str], columns: Schema) -> ServedSink:
    """What a release records of a sink. Options of a class that is not registered may be secrets and are left out."""
    registered = sink_class(type(sink).__name__) is type(sink)
    pairs = [[name, str(column)] for name, column in columns.items()]
    options = sink.options() if registered else {}
    return ServedSink(type(sink).__name__, sink.name, place, list(key), pairs, options)


@dataclass(frozen=True)
class FormerSink:
    """A sink that an earlier release served and that a release no longer has.

    Attributes:
        store: the name of the store that it served.
        sink: the sink, as the last release that had it describes it.
        version: the version that it served then.
        at: where its connection is, secrets masked, a folder inside the store relative to it.
        keep: whether the project has it go on serving that version; otherwise it is withdrawn.
    """

    store: str
    sink: ServedSink
    version: str
    at: str
    keep: bool = False

    @property
    def title(self) -> str:
        """As `ServedSink.title`."""
        return self.sink.title


@dataclass(frozen=True)
class Position:
    """A snapshot that a store is served at: its key, its place in history, and its identity."""

    snapshot: str
    ordinal: int
    snapshot_id: str


@dataclass(frozen=True)
class Release:
    """What is served from one number of the pointer on.

    Attributes:
        number: the pointer's number.
        snapshot, ordinal, snapshot_id: the snapshot, its place in history, and its identity.
        versions: the version of every store that has sinks.
        proofs: the name of the proof that each version rests on.
        sinks: every store's sinks.
        database, search_folder: where SQL tables and search indexes are; secrets masked, a folder inside the store
            relative to it.
        connections: where the other connections of its sinks are, by name, in the same form.
        digests: the digest of every store's published rows, which a read is compared with; none in earlier records.
        released_at: when readers were moved to this content, UTC; for people and for retention, never part of a digest.
        released_by: who moved them.
        rolled_back_to: the release whose content this is, where it is a rollback.
        rolled_back_from: the highest ordinal that a rollback left; snapshots up to it are not released by themselves.
        retired: by title of sink, the versions that were given up; no release takes one before all are dropped.
        retired_by: the number of the record that gave them up.
        unserved: the number before this one, where some sink did not serve it when this one was made.
        former: the sinks that this release no longer has and that served when it was made.
        held: by store the position it is served at, where it was held back because it could not follow.
    """

    number: int
    snapshot: str
    ordinal: int
    snapshot_id: str
    versions: Mapping[str, str]
    proofs: Mapping[str, str]
    sinks: Mapping[str, Sequence[ServedSink]] = field(default_factory=dict)
    database: str = ""
    search_folder: str = ""
    released_at: str = ""
    released_by: str = ""
    rolled_back_to: int | None = None
    rolled_back_from: int | None = None
    retired: Mapping[str, Sequence[str]] = field(default_factory=dict)
    retired_by: int | None = None
    connections: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    unserved: int | None = None
    former: Sequence[FormerSink] = ()
    held: Mapping[str, Position] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def content(self) -> bytes:
        """What readers get, as bytes to compare; the place of the store itself does not count."""
        sinks = {s: [{**asdict(sink), "place": ""} for sink in found] for s, found in self.sinks.items()}
        # By claim: a proof that was lost and passed again has another name, and readers see no change.
        claims = {store: name.rpartition("/")[0] for store, name in self.proofs.items()}
        names = ("snapshot", "ordinal", "snapshot_id", "versions", "database", "search_folder", "connections")
        held = {"held": sorted(self.held)} if self.held else {}
        return canonical_json(
            {"sinks": sinks, "proofs": claims, **{name: getattr(self, name) for name in names}, **held}
        )

    def position_of(self, store: str) -> Position:
        """The snapshot that a store is served at: an earlier one than the release's where the store was held back."""
        return self.held.get(store) or Position(self.snapshot, self.ordinal, self.snapshot_id)

    def changes(self, current: Release) -> bool:
        """Whether this is another release than the current one: by content, or by what becomes of former sinks."""
        if self.content != current.content:
            return True
        return not {(each.title, each.keep) for each in self.former} <= {(e.title, e.keep) for e in current.former}

    @property
    def places(self) -> dict[str, str]:
        """Where all connections of its sinks are, by name."""
        return {**self.connections, DATABASE: self.database, SEARCH: self.search_folder}

    @property
    def titles(self) -> set[str]:
        """The titles of its sinks."""
        return {sink.title for sinks in self.sinks.values() for sink in sinks}

    @property
    def moves_readers(self) -> bool:
        """Whether this number changed what is served; else it only gave up old versions."""
        return self.retired_by != self.number

    def require_known(self, chain: SnapshotChain) -> None:
        """Raise Damaged where its snapshot never had the identity that it names, by what is stored."""
        if self.snapshot not in chain:
            return
        known = [each.id for each in chain.get(self.snapshot).versions]
        if self.snapshot_id not in known:
            raise Damaged(
                f"{self} is of other logs than those in the store: expected snapshot {self.snapshot} with the id "
                f"{self.snapshot_id}, found {' and before '.join(reversed(known))}.",
                remedy=f"A redaction or manifest was removed or replaced: restore {folder_of(ObjectKind.MANIFEST)}/ "
                "from a copy. What is served stays as it is.",
            )

    def require_newer(self, snapshot: Snapshot) -> None:
        """Raise FixInput where releasing a snapshot after this would undo a rollback."""
        left = self.rolled_back_from
        if left is not None and snapshot.ordinal <= left:
            raise FixInput(
                f"Snapshot {snapshot.key} is not released, because it would undo a rollback: {self} is served, and the "
                f"rollback left all snapshots up to place {left} in history, of which this one has place "
                f"{snapshot.ordinal}.",
                remedy="A newer snapshot is released as usual; `refold release again` releases this one all the same.",
            )

    def __str__(self) -> str:
        if not self.moves_readers:
            return f"number {self.number}, a prune that left snapshot {self.snapshot} served,"
        back = f", rolled back to {self.rolled_back_to}" if self.rolled_back_to is not None else ""
        when = "".join(f" {word} {text}" for word, text in (("at", self.released_at), ("by", self.released_by)) if text)
        held = "".join(f", {store!r} held back at {each.snapshot}" for store, each in sorted(self.held.items()))
        return f"release {self.number} of snapshot {self.snapshot}{back}{held}{',' if when else ''}{when}"


class Pointer:
    """The pointer of one store; each number is written to its anchor too, where it has one."""

    def __init__(self, objects: ObjectStore, anchor: Anchor | None = None) -> None:
        self._objects = objects
        self.anchor = anchor

    def current(self) -> Release | None:
        """What is served; None before the first release. Raises Damaged."""
        number = self.number()
        return self.get(number) if number else None

    def number(self) -> int:
        """The newest number; 0 before the first release."""
        return max(self.numbers(), default=0)

    def numbers(self) -> list[int]:
        """All numbers that have a record, ascending. Some are missing only where records were lost or added."""
        found = [parts_of(ObjectKind.RELEASE, info.name) for info in self._objects.list(folder_of(ObjectKind.RELEASE))]
        return [int(parts["number"]) for parts in found if parts]

    def get(self, number: int) -> Release:
        """One number of the series. Raises NotFound, naming what there is, and Damaged."""
        body = read_record(self._objects, _name(number))
        if body is None:
            numbers = self.numbers()
            known = f"there are {numbers[0]} to {numbers[-1]}" if numbers else "nothing was released yet"
            raise NotFound(f"There is no release {number}: {known}.")
        release = _parse(body, _name(number))
        if release.number != number:
            raise Damaged(
                f"The record {_name(number)} is that of another number: expected {number}, found {release.number}.",
                remedy="Restore it from a copy, or remove it if there was no such release.",
            )
        return release

    def newest_first(self) -> Iterator[Release]:
        """All numbers, the newest first."""
        return (self.get(number) for number in reversed(self.numbers()))

    def move(self, wanted: Release) -> Release:
        """Create the next number; of two that want it, one gets it. Returns the record that has it.

        Raises Conflict where another process moved the pointer elsewhere first; the message says who and where to.
        Raises Damaged where the newest number does not follow the one before it, and NotAnchored where the store is not
        what was anchored.
        """
        self._require_next(wanted.number)
        data = record_bytes(_body(wanted))
        if self.anchor:
            self.anchor.announce(wanted.number, data)
        moved = self._created(wanted, data)
        self.confirm()
        return moved

    def confirm(self) -> None:
        """Write to the anchor that the newest number is there. Where that cannot be written now, the next run does."""
        try:
            if self.anchor:
                self.anchor.confirm()
        except Retry as error:
            _log.warning(f"What is released could not be confirmed in its anchor. {error} The next run confirms it.")

    def _created(self, wanted: Release, data: bytes) -> Release:
        try:
            self._objects.create(_name(wanted.number), data)
        except Conflict as error:
            winner = self.get(wanted.number)
            # Another process that wants the same was faster; only the time and the name in its record differ.
            if _intent(winner) == _intent(wanted):
                return winner
            raise Conflict(
                f"Another process moved the pointer first: {winner} has the number meant for snapshot "
                f"{wanted.snapshot}.",
                remedy="Nothing else was changed. Run it again if it is still wanted.",
            ) from error
        return wanted

    def retiring(self, release: Release | None) -> Mapping[str, Sequence[str]]:
        """The versions that a prune has given up and that are not all dropped yet, by title of sink."""
        if release is None or release.retired_by is None or self._objects.exists(_retired_name(release.retired_by)):
            return {}
        return release.retired

    def retired(self, number: int) -> None:
        """Record that all versions that a number gave up are dropped."""
        self._objects.create(_retired_name(number), record_bytes({"number": number}))

    def _require_next(self, number: int) -> None:
        """Refuse a number after one that does not follow the others, since one of them is not of this series."""
        *_, before, newest = [0, 0, *(each for each in self.numbers() if each < number)]
        if newest > before + 1 or not parts_of(ObjectKind.RELEASE, _name(number)):
            raise Damaged(
                f"The newest release, {_name(newest)}, does not continue the series: expected {_name(before + 1)}.",
                remedy=f"If Refold did not write {_name(newest)}, or what is missing cannot be restored from a copy, "
                f"remove it: release {before} is served then. Nothing was changed.",
            )


def holding(release: Release, current: Release | None, held: Collection[str]) -> Release:
    """A release in which some stores stay as they are served now; one that is not served is left out."""
    if current is None or not held:
        return release
    staying = [name for name in current.versions if name in held]
    return replace(
        release,
        versions={**release.versions, **{name: current.versions[name] for name in staying}},
        proofs={**release.proofs, **{name: current.proofs[name] for name in staying}},
        sinks={**release.sinks, **{name: current.sinks[name] for name in staying if name in current.sinks}},
        digests={**release.digests, **{name: current.digests[name] for name in staying if name in current.digests}},
        held={name: current.position_of(name) for name in staying},
    )


def places(connections: Connections, sinks: Iterable[Sink]) -> dict[str, Any]:
    """The fields of a release that say where its connections are: database, search folder, and others of its sinks."""
    others = {sink.connection for sink in sinks} - {OBJECTS, DATABASE, SEARCH}
    return {
        "database": connections.recorded(DATABASE),
        "search_folder": connections.recorded(SEARCH),
        "connections": {name: connections.recorded(name) for name in sorted(others)},
    }


def _body(release: Release) -> dict[str, Any]:
    """A release as it is written: without fields that were added later, where it has none of them."""
    added = [name for name in ("connections", "digests", "unserved", "former", "held") if not getattr(release, name)]
    return {name: value for name, value in asdict(release).items() if name not in added}


def _intent(release: Release) -> bytes:
    return canonical_json({**_body(release), "released_at": "", "released_by": "", "unserved": None})


def _name(number: int) -> str:
    return name_of(ObjectKind.RELEASE, number=number)


def _retired_name(number: int) -> str:
    return name_of(ObjectKind.RETIRED, number=number)


def _parse(body: Mapping[str, Any], name: str) -> Release:
    """A record of any format up to this one; unknown fields, which a later Refold added, are ignored."""
    found = body.get("format", 1)
    if not isinstance(found, int) or found > FORMAT:
        raise FixInput(f"The record {name} has format {found!r}, expected at most {FORMAT}.", remedy="Update Refold.")
    try:
        sinks = {store: [_sink(each) for each in described] for store, described in body.get("sinks", {}).items()}
        known = {f.name: body[f.name] for f in fields(Release) if f.name in body}
        former = [typed(FormerSink(**{**each, "sink": _sink(each["sink"])})) for each in body.get("former", ())]
        held = {store: typed(Position(**position)) for store, position in body.get("held", {}).items()}
        release = typed(Release(**{**known, "sinks": sinks, "former": former, "held": held, "format": found}))
        if release.versions.keys() != release.proofs.keys() or not sinks.keys() <= release.versions.keys():
            raise TypeError("expected a version and a proof of each store that has sinks")
        return release
    except (TypeError, AttributeError, KeyError) as error:
        raise Damaged(f"The record {name} is not a release of format {found}: {error!r}.") from error


def _sink(body: Mapping[str, Any]) -> ServedSink:
    return typed(ServedSink(**{f.name: body[f.name] for f in fields(ServedSink)}))
