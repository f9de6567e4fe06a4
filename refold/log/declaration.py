"""What a log is, as its user declares it: columns, key, event id, decoder, limits. Nothing is read or written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from refold.errors import DeclarationError
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds
from refold.landing.change_rows import ChangeRows, OldRow
from refold.landing.change_sources import ChangeSource
from refold.landing.decoder import Decoder
from refold.landing.jsonl import JsonLines, LineDecoder
from refold.landing.layout import DATED, Layout, Slot
from refold.landing.listing import below
from refold.landing.typed_rows import changes_of
from refold.log.limits import NO_CONFLICTS, USUAL_QUARANTINE, ConflictLimits, QuarantineLimits
from refold.types import ColumnKind, ColumnType, Schema, arrow_schema, describe, enum, holds_all_of, parse_schema

POSITION: Mapping[str, ColumnType] = {
    "log_partition": ColumnType(ColumnKind.INT64),
    "log_offset": ColumnType(ColumnKind.INT64),
    "log_seq": ColumnType(ColumnKind.INT64),
}
"""The columns of an event's position in the log; every state row carries those of its last event."""

PROVENANCE = pa.schema([pa.field("source_object", pa.string()), pa.field("source_line", pa.int64())])
"""The columns of a segment that say which landing record an event was; `source_line` is the decoder's number for it."""

_RESERVED = {*POSITION, *PROVENANCE.names, "outcome", "reason", "event_date", "deleted"}


class Identity(Enum):
    """How events are identified where no declared columns do."""

    PLACE = "place"


PLACE: Final = Identity.PLACE
"""As `event_id`: an event is identified by its place, the landing object and the number of the record in it."""

BY_PLACE = "events are identified by place: a record landed again in another object counts as another event"
"""What identity by place means, for people."""

KEYS_FIXED = "keys are declared never to change: an update that moves a row would leave it under its old key as well"
"""What a log of changes takes for granted whose tool does not write which key a row had, for people."""


class Late(StrEnum):
    """What becomes of the landing of a log that has events later than `late_max` allows."""

    REFUSE = "refuse"
    """The log is not sealed until they are gone, or `late_max` is raised; their places are named."""

    REPORT = "report"
    """They are sealed; `refold log order` and the check `order` name them."""


@dataclass(frozen=True)
class Numbered:
    """That producers number their events, one after the other without gaps.

    Attributes:
        producer: the column that names the producer of an event.
        number: the column of its number: an int64 that counts all events of the producer, or a version vector, whose
            counter of the producer counts its events of a key.
        first: the first number.
    """

    producer: str
    number: str
    first: int = 1

    def faults(self, columns: Schema) -> list[str]:
        """Its faults for a log with these columns."""
        kinds = [
            (self.producer, [ColumnKind.TEXT, ColumnKind.INT64, ColumnKind.ENUM]),
            (self.number, [ColumnKind.INT64, ColumnKind.VERSION_VECTOR]),
        ]
        return [
            f"numbered names {name!r}, {columns.get(name, 'not declared')}; expected {' or '.join(some)}, not null"
            for name, some in kinds
            if name not in columns or columns[name].kind not in some or columns[name].null
        ]


@dataclass(frozen=True, eq=False)
class Log:
    """A named stream of events, whose landing objects are below one folder.

    Attributes:
        name: its name everywhere.
        columns: the declared columns in order; fields of a record that are not declared are ignored. Once sealed, a log
            may grow (`faults_of_growth`).
        key: the column, or the columns in order, of the entity an event belongs to. Never null; compared byte for byte,
            several as tuples.
        event_id: the column, or the columns, whose values make two deliveries the same event. One column is never null.
            Of several some may be null: null is a value, and equals null. `PLACE` for a log without ids: no event
            repeats another unless the same record is delivered twice, so what is landed again under another name counts
            again. Where landing has log partition and source offset as columns, name these two instead.
        repeats_within: how many snapshots back an id is remembered; None for all of the log. An event that repeats an
            id of an older snapshot counts again, and proofs say so. It bounds the seen index. Once a snapshot
            is sealed, another number is refused.
        event_time: the timestamp column whose UTC day is offered to relations as `event_date`, if any.
        partitions: the number of log partitions; fixed for a log once its first snapshot is sealed. Where landing names
            none, that of an event is Kafka's murmur2 of its key: the bytes of a text or binary, the digits of an
            integer, the canonical bytes (`refold.canonical.encoding`) of several columns.
        decoder: the format of its landing objects.
        landing: its folder in landing, such as `topics/shop.orders`; by default its name. "" for all of landing.
        layout: the names of its landing objects: of which day and log partition they are. Not part of identities.
        expires_after: landing objects that are gone this long after the day of their snapshot are expected to be, and
            not reported; what is sealed stays. By default each one that is gone is reported.
        suffixes: the endings of names of its landing objects; by default those of the decoder. `("",)` for any.
        bounds: how large its landing objects, and what a snapshot takes in of them, may be.
        quarantine: when sealing stops because too much cannot be read.
        conflicts: when sealing stops because ids are repeated with other content.
        numbered: that producers number their events; what is then out of order, repeated or missing is reported.
        late_max: how long before the beginning of the snapshot that takes an event in its `event_time` may be.
        late: what becomes of older ones.
        owner: who answers for it, as Dagster shows owners: a mail address or `team:name`.
        description: one sentence for people.

    Raises DeclarationError with every fault at once.
    """

    name: str
    columns: Schema
    key: str | Sequence[str]
    event_id: str | Sequence[str] | Identity
    event_time: str | None = None
    partitions: int = 4
    decoder: Decoder = field(default_factory=JsonLines)
    layout: Layout = DATED
    landing: str | None = None
    bounds: LandingBounds = DEFAULT_BOUNDS
    quarantine: QuarantineLimits = USUAL_QUARANTINE
    conflicts: ConflictLimits = NO_CONFLICTS
    numbered: Numbered | None = None
    late_max: dt.timedelta | None = None
    late: Late = Late.REFUSE
    owner: str | None = None
    description: str = ""
    repeats_within: int | None = None
    suffixes: tuple[str, ...] = ()
    expires_after: dt.timedelta | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.repeats_within is not None and self.repeats_within < 1:
            faults.append(f"repeats_within is {self.repeats_within}; expected at least 1 snapshot, or None for all")
        if not self.name.isidentifier():
            faults.append(f"its name {self.name!r} is not an identifier")
        if self.landing is not None and (self.landing != self.landing.strip("/") or "//" in self.landing):
            faults.append(f"landing is {self.landing!r}; expected a folder without slashes around it")
        if self.expires_after is not None and self.expires_after <= dt.timedelta(0):
            faults.append(f"expires_after is {self.expires_after}; expected more than nothing")
        if isinstance(self.suffixes, str):
            faults.append(f"suffixes is {self.suffixes!r}; expected a tuple of endings such as ('.gz',)")
        if not 1 <= self.partitions <= 1024:
            faults.append(f"partitions is {self.partitions}; expected 1 to 1024")
        faults += _identifying("key", self.key_columns, self.columns)
        faults += [] if self.by_place else _identifying("event_id", self.id_columns, self.columns)
        changes = changes_of(self.decoder)
        if self.by_place and isinstance(changes, LineDecoder) and changes.arrays:
            faults.append(
                "event_id is PLACE, which the rows of one array share; expected an id that has their number (#)"
            )
        if self.event_time is not None and getattr(self.columns.get(self.event_time), "kind", None) != "timestamp":
            faults.append(f"event_time names {self.event_time!r}, which is not a declared timestamp column")
        faults += self.numbered.faults(self.columns) if self.numbered else []
        if self.late_max is not None and self.event_time is None:
            faults.append("late_max is about event_time, which is not declared")
        faults += [f"the column name {name!r} is reserved" for name in self.columns if name in _RESERVED]
        faults += [
            f"column {name!r} is a ratio; a log holds no floats"
            for name, c in self.columns.items()
            if c.kind is ColumnKind.RATIO
        ]
        if faults:
            raise DeclarationError(f"Log {self.name!r}", faults)

    @classmethod
    def of_changes(
        cls,
        name: str,
        source: ChangeSource,
        *,
        key: str | Sequence[str],
        columns: Schema,
        paths: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Log:
        """A log of the changes of a table, whose operation, position and identity `source` knows.

        Args:
            key: the column or columns of the primary key.
            columns: the columns of the row. Declare those that a delete may lack with `null=True`.
            paths: dotted places of columns that are not in the row under their own names.
            options: what else `Log` takes.

        The log has the columns of the row, `op`, and those of the position. Raises DeclarationError as `Log` does.

        >>> from refold.landing.change_sources import DEBEZIUM_POSTGRESQL
        >>> from refold.types import int64, text
        >>> columns = {"id": int64(), "name": text(null=True)}
        >>> people = Log.of_changes("people", DEBEZIUM_POSTGRESQL, key="id", columns=columns)
        >>> people.id_columns
        ('source_db', 'source_schema', 'source_table', 'source_tx', 'source_lsn', 'op', 'id')
        """
        own = {"op": enum(source.operations), **source.columns}
        taken = [f"column {column!r} is one of the source's position" for column in columns if column in own]
        if taken:
            raise DeclarationError(f"Log {name!r}", taken)
        ids = (*source.columns, "op", *_names(key))
        return cls(name, {**columns, **own}, key, ids, decoder=source.decoder_of(paths), **options)

    @property
    def folder(self) -> str:
        """Its folder in landing."""
        return self.name if self.landing is None else self.landing

    @property
    def has_offsets(self) -> bool:
        """Whether the names of its landing objects have source offsets."""
        return "<offset>" in self.layout.expected

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of names of its landing objects."""
        return self.suffixes or self.decoder.suffixes

    def slot_of(self, name: str) -> Slot | None:
        """Where a landing object belongs by its name alone; None where the layout does not take it."""
        return self.layout.slot(below(self.folder, name))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key, in declared order."""
        return _names(self.key)

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns of the event id, in declared order; by place object, number and key: one may change two."""
        if isinstance(self.event_id, Identity):
            return (*PROVENANCE.names, *self.key_columns)
        return _names(self.event_id)

    @property
    def has_order(self) -> bool:
        """Whether there is something to compare its deliveries with: numbers of producers, or a bound on lateness."""
        return self.numbered is not None or self.late_max is not None

    @property
    def by_place(self) -> bool:
        """Whether events are identified by place."""
        return self.event_id is PLACE

    @property
    def assumed(self) -> list[str]:
        """What is taken on the word of the declaration, and proofs say; a sentence each."""
        changes = changes_of(self.decoder)
        fixed = isinstance(changes, ChangeRows) and changes.old_row is OldRow.NOTHING
        bounded = [_within(self.repeats_within)] if self.repeats_within is not None else []
        return [BY_PLACE] * self.by_place + [KEYS_FIXED] * fixed + bounded

    def key_of(self, event: Mapping[str, Any]) -> Any:
        """The key of an event, or of a row: the value of one column, or a tuple of those of several."""
        return _value(self.key_columns, event)

    def id_of(self, event: Mapping[str, Any]) -> Any:
        """The id of an event: the value of one column, or a tuple of those of several."""
        return _value(self.id_columns, event)

    @property
    def content(self) -> str:
        """The text of the declared columns, which enters identities: a changed declaration is another log."""
        return describe(self.columns)

    def as_sealed(self, content: str) -> Log:
        """This log as it was declared when its content was that of a snapshot's cut ("" if it was not declared yet).

        Raises DeclarationError where it cannot have grown from that.
        """
        if content in ("", self.content):
            return self
        if faults := self.faults_of_growth(content):
            raise not_as_sealed(self, faults)
        former = {
            name: replace(self.columns[name], null=column.null, precision=column.precision)
            for name, column in parse_schema(content).items()
        }
        event_time = self.event_time if self.event_time in former else None
        return replace(self, columns=former, event_time=event_time, numbered=None, late_max=None)

    def faults_of_growth(self, content: str) -> list[str]:
        """What keeps a log that was sealed with some `content` from growing into this one; empty if nothing does.

        A log may grow by columns that may be null, a column that may be null now, and more digits of a decimal before
        the point. Members of enums and bounds of integers are not part of its content.
        """
        dropped = [f"column {name!r} was dropped" for name in parse_schema(content) if name not in self.columns]
        return dropped + self.faults_of_reading(content)

    def faults_of_reading(self, content: str) -> list[str]:
        """What keeps events that were sealed with some `content` from being read as this log; empty if nothing does."""
        former, faults = parse_schema(content), []
        for name, column in self.columns.items():
            before = former.get(name)
            if before is None:
                if not column.null:
                    faults.append(f"column {name!r} was added and may not be null")
            elif not holds_all_of(column, before):
                faults.append(f"column {name!r} was {before} and is declared {column}")
        return faults

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a segment: position, provenance, declared columns."""
        positions = [pa.field("log_offset", pa.int64(), False), pa.field("log_seq", pa.int64(), False)]
        return pa.schema([*positions, *PROVENANCE, *arrow_schema(self.columns)])


def _within(snapshots: int) -> str:
    since = "the snapshot before" if snapshots == 1 else f"the {snapshots} snapshots before"
    return f"an id is remembered for {since}: an event that comes again later than that counts as another event"


def _names(declared: str | Sequence[str]) -> tuple[str, ...]:
    return (declared,) if isinstance(declared, str) else tuple(declared)


def _value(names: Sequence[str], event: Mapping[str, Any]) -> Any:
    values = tuple(event[name] for name in names)
    return values[0] if len(values) == 1 else values


def _identifying(role: str, names: Sequence[str], columns: Schema) -> list[str]:
    """Faults of the columns of a key or of an event id."""
    unknown = [name for name in names if name not in columns]
    if unknown or not names:
        return [f"{role} names {name!r}, which is not a declared column" for name in unknown] or [f"{role} is empty"]
    found = {name: columns[name] for name in names}
    if len(names) == 1:
        ((name, column),) = found.items()
        usual = column.kind in (ColumnKind.TEXT, ColumnKind.INT64, ColumnKind.BINARY) and not column.null
        return [] if usual else [f"{role} {name!r} is {column}; expected text, int64 or binary, not null"]
    faults = [f"{role} names {name!r} more than once" for name in found if names.count(name) > 1]
    if role == "key":
        faults += [f"key column {n!r} is {c}; expected one that is not null" for n, c in found.items() if c.null]
    elif all(column.null for column in found.values()):
        faults.append(f"all columns of event_id ({', '.join(names)}) may be null; expected at least one that is not")
    return faults


def not_as_sealed(log: Log, faults: Sequence[str]) -> DeclarationError:
    """The error for a log whose declaration is not that of its sealed events."""
    may = (
        "a sealed log may gain columns that may be null, allow null, and allow more digits of a decimal; for anything "
        "else declare it as sealed, or give REFOLD_STORE a new place"
    )
    return DeclarationError(f"Log {log.name!r}", [*faults, may])
