"""Redacting: sealed events are put aside or erased, by a record that everything after it honours.

Excluding leaves the events where they are; they no longer count. Erasing also writes the segments again with the values
gone: those of the whole event, which then no longer counts, or those of some columns, and then it still does. All
deliveries of one id are redacted together. The record (`refold.log.redactions`) is created last; a kill before leaves
objects that nothing names, and the old segments are removed by `refold prune` a day after.

An erased event keeps its id, by which a later delivery is recognised, unless a key column is part of it; that column
then holds `erased:` and the `log_seq` of the first delivery.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refold.dedup.deliveries import Delivery
from refold.errors import Conflict, FixInput, NotFound
from refold.log.declaration import Log
from refold.log.layout import LogLayout, SegmentFile
from refold.log.reader import LogReader
from refold.log.redactions import RedactedCut, Redaction
from refold.log.segment import content_digest, to_parquet, write_segments
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.seal.seen_index import newest_seen
from refold.storage.content import put_content
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore
from refold.types import ColumnKind, ColumnType, matching

Place = tuple[int, int]
"""A log partition and an offset in it."""

Chosen = Callable[[pa.Table], pa.ChunkedArray]
"""Which events of a table are meant."""


@dataclass(frozen=True)
class Selection:
    """The events that a redaction is about, by snapshot key, with all columns and `log_partition`; oldest first."""

    log: Log
    events: Mapping[str, pa.Table]

    @property
    def keys(self) -> set[object]:
        """The keys that they have."""
        return {self.log.key_of(row) for table in self.events.values() for row in table.to_pylist()}

    @property
    def sources(self) -> list[str]:
        """The objects of landing, and of retries, that they came from: no redaction changes what these hold."""
        return sorted({name for table in self.events.values() for name in table["source_object"].to_pylist()})

    @property
    def places(self) -> dict[str, list[Place]]:
        """Where they are, by snapshot key, ascending."""
        columns = ("log_partition", "log_offset")
        return {
            key: sorted(zip(*(t[name].to_pylist() for name in columns), strict=True)) for key, t in self.events.items()
        }


class Redactor:
    """Redacts sealed events of one log."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self._objects = objects
        self._chain = chain
        self._reader = LogReader(objects, chain, log)
        self.log = log

    def at(self, place: Place, *, erase: bool = False) -> Selection:
        """The event at a place, and the other deliveries of its id, to `erase` also what was put aside.

        Raises NotFound.
        """

        def mine(some: pa.Table) -> pa.ChunkedArray:
            return pc.and_(pc.equal(some["log_partition"], place[0]), pc.equal(some["log_offset"], place[1]))

        return self._with_deliveries(self._where(["log_offset"], mine), f"at {place[0]}:{place[1]}", erase)

    def with_values(self, names: Sequence[str], values: Sequence[str], *, erase: bool = False) -> Selection:
        """The events with these values of some columns, given as text, and the other deliveries of their ids.

        To `erase` also those that were put aside. Raises NotFound, and FixInput where a value is missing or not one of
        its column.
        """
        if len(names) != len(values):
            raise FixInput(f"Expected a value for each of {', '.join(names)}, found {len(values)}.")
        wanted = dict(zip(names, values, strict=True))

        def mine(some: pa.Table) -> pa.ChunkedArray:
            return reduce(pc.and_, [matching(some[n], wanted[n], self.log.columns[n]) for n in names])

        said = ", ".join(f"{name} {value!r}" for name, value in wanted.items())
        return self._with_deliveries(self._where(names, mine), f"with {said}", erase)

    def quarantined(self) -> list[str]:
        """The objects that hold records of landing which were no events, oldest snapshot first."""
        layouts = [self._layout(snapshot) for snapshot in self._chain]
        return [layout.quarantine.name for layout in layouts if layout.quarantine is not None]

    def _where(self, columns: Sequence[str], chosen: Chosen) -> dict[str, pa.Table]:
        snapshots = [each for each in self._chain if each.cut(self.log.name).events]
        found = {each.key: self._reader.matching(each, columns, chosen) for each in snapshots}
        return {key: table for key, table in found.items() if len(table)}

    def _with_deliveries(self, found: Mapping[str, pa.Table], said: str, erase: bool) -> Selection:
        """The events found and all deliveries of their ids, but those to which a redaction has done it before."""
        names = self.log.id_columns
        if found and not self.log.by_place:
            ids = {_values(names, row) for table in found.values() for row in table.to_pylist()}
            some = pa.array({each[0] for each in ids}, self.log.schema.field(names[0]).type)
            every = self._where(names[:1], lambda table: pc.is_in(table[names[0]], some))
            found = {key: _filtered(table, lambda row: _values(names, row) in ids) for key, table in every.items()}
        done = self._erased_whole() if erase else None
        counting = {key: self._left(key, table, done) for key, table in found.items()}
        events = {key: table for key, table in counting.items() if len(table)}
        if not events:
            why = "each that is sealed is excluded already" if found else "none is sealed"
            raise NotFound(f"Expected an event of log {self.log.name!r} {said}; {why}.")
        return Selection(self.log, events)

    def _left(self, key: str, table: pa.Table, erased: set[Place] | None) -> pa.Table:
        """The events that were not erased, or where that is None those that were not put aside."""
        done = set(self._chain.get(key).excluded(self.log.name)) if erased is None else erased
        return _filtered(table, lambda row: (row["log_partition"], row["log_offset"]) not in done)

    def _erased_whole(self) -> set[Place]:
        mine = [each for each in self._chain.redactions if each.log == self.log.name and each.erased]
        cuts = [cut for each in mine if not each.columns for cut in each.cuts.values()]
        return {(partition, offset) for cut in cuts for partition, offset in cut.places}

    def excluding(self, chosen: Selection, *, reason: str, by: str, at: dt.datetime) -> Redaction:
        """The redaction that puts events aside and leaves them where they are. Writes nothing."""
        cuts = {
            key: RedactedCut(places, self._chain.get(key).cut(self.log.name).content, self._chain.get(key).sha256, None)
            for key, places in chosen.places.items()
        }
        return self._redaction(cuts, (), reason=reason, by=by, at=at, erased=False)

    def erasing(
        self, chosen: Selection, columns: Sequence[str] = (), *, reason: str, by: str, at: dt.datetime
    ) -> Redaction:
        """The redaction that erases events, or the values of some of their columns. Writes the segments it names.

        Raises FixInput where a column is none of the log's, or part of key or id.
        """
        fixed = {*self.log.key_columns, *self.log.id_columns}
        wrong = [name for name in columns if name not in self.log.columns or name in fixed]
        if wrong:
            raise FixInput(
                f"The columns {', '.join(wrong)} of log {self.log.name!r} cannot be erased by themselves: expected "
                f"columns of the log that are not of its key or id.",
                remedy="Without columns the events are erased as a whole.",
            )
        erased = _erased(self.log, chosen, columns)
        files = {file.name for key in chosen.places for file in self._files_of(key, chosen.places[key])}
        cuts = {}
        for snapshot in self._chain:
            own = chosen.places.get(snapshot.key, [])
            shared = {file.partition for file in self._layout(snapshot).segments if file.name in files}
            if shared:
                cuts[snapshot.key] = self._rewritten(snapshot, own, shared, erased.get(snapshot.key))
        newest, _ = newest_seen(self._chain, self.log.name)
        if newest is not None:  # the index has hashes of the contents
            cuts[newest.key] = self._without_seen(newest, cuts.get(newest.key))
        return self._redaction(cuts, columns, reason=reason, by=by, at=at, erased=True)

    def _layout(self, snapshot: Snapshot) -> LogLayout:
        return self._chain.layout(snapshot, self.log.name)

    def _files_of(self, key: str, places: Sequence[Place]) -> Iterator[SegmentFile]:
        partitions = {partition for partition, _ in places}
        yield from (file for file in self._layout(self._chain.get(key)).segments if file.partition in partitions)

    def _rewritten(
        self, snapshot: Snapshot, places: Sequence[Place], partitions: set[int], erased: pa.Table | None
    ) -> RedactedCut:
        """A snapshot's part of the log, with some log partitions written again."""
        cut, layout = snapshot.cut(self.log.name), self._layout(snapshot)
        content, segments = list(cut.content), [file for file in layout.segments if file.partition not in partitions]
        sealed = self.log.as_sealed(cut.schema)
        for partition in sorted(partitions):
            files = sorted((f for f in layout.segments if f.partition == partition), key=lambda file: file.start)
            events = pa.concat_tables([self._reader.segment(file) for file in files]).drop_columns(["log_partition"])
            if erased is not None:
                mine = erased.filter(pc.equal(erased["log_partition"], partition)).select(events.column_names)
                kept = events.filter(pc.invert(pc.is_in(events["log_offset"], mine["log_offset"].combine_chunks())))
                events = pa.concat_tables([kept, mine]).sort_by("log_offset").combine_chunks()
            segments += write_segments(self._objects, self.log, partition, [events])
            content[partition] = content_digest(sealed, [events])
        repeats = self._repeats(snapshot, erased)
        segments.sort(key=lambda file: (file.partition, file.start))
        new = replace(layout, segments=segments, repeats=repeats or layout.repeats)
        return RedactedCut(places, content, snapshot.sha256, asdict(new))

    def _repeats(self, snapshot: Snapshot, erased: pa.Table | None) -> Any:
        """The stored repeats where erasing made contents equal that were in conflict; None where none did."""
        repeats = self._reader.repeats(snapshot)
        if repeats is None or erased is None:
            return None
        conflicts = pc.equal(repeats["delivery"], Delivery.CONFLICT)
        same = pc.and_(conflicts, pc.is_in(repeats["log_seq"], erased["log_seq"].combine_chunks()))
        if not pc.any(same).as_py():
            return None
        place = repeats.schema.get_field_index("delivery")
        values = pc.if_else(same, pa.scalar(Delivery.DUPLICATE, pa.uint8()), repeats["delivery"])
        changed = repeats.set_column(place, repeats.schema.field(place), values)
        return put_content(self._objects, ObjectKind.REPEATS, to_parquet(changed), log=self.log.name)

    def _without_seen(self, snapshot: Snapshot, cut: RedactedCut | None) -> RedactedCut:
        """A cut whose layout has no seen index, so that sealing makes it again from the events."""
        if cut is None:
            own = snapshot.cut(self.log.name)
            cut = RedactedCut([], own.content, snapshot.sha256, asdict(self._layout(snapshot)))
        assert cut.layout is not None
        return replace(cut, layout={**cut.layout, "seen": []})

    def _redaction(
        self, cuts: Mapping[str, RedactedCut], columns: Sequence[str], *, reason: str, by: str, at: dt.datetime,
        erased: bool,
    ) -> Redaction:  # fmt: skip
        missing = [name for name, value in (("reason", reason), ("by", by)) if not value.strip()]
        if missing:
            raise FixInput(f"Expected who redacts and why, found no {' and no '.join(missing)}.")
        before, head = self._chain.redactions, self._chain.get()
        return Redaction(
            number=len(before) + 1,
            log=self.log.name,
            erased=erased,
            columns=list(columns),
            reason=reason,
            by=by,
            at=at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            head=head.key,
            previous=before[-1].sha256 if before else None,
            cuts={snapshot.key: cuts[snapshot.key] for snapshot in self._chain if snapshot.key in cuts},
        )

    def commit(self, redaction: Redaction) -> None:
        """Record a redaction: from now on it counts. Raises Conflict where another one was recorded meanwhile."""
        try:
            self._objects.create(redaction.name, redaction.to_bytes())
        except Conflict as error:
            raise Conflict(
                f"Another process recorded redaction {redaction.number} meanwhile, which stands.",
                remedy="Run again: it goes on from there.",
            ) from error


def _values(names: Sequence[str], row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _filtered(table: pa.Table, keeps: Callable[[Mapping[str, Any]], bool]) -> pa.Table:
    return table.filter(pa.array([keeps(row) for row in table.to_pylist()], pa.bool_()))


def _erased(log: Log, chosen: Selection, columns: Sequence[str]) -> dict[str, pa.Table]:
    """The events of a selection with their values gone, by snapshot key."""
    going = columns or [name for name in log.columns if name not in log.id_columns or name in log.key_columns]
    firsts: dict[tuple[Any, ...], int] = {}
    for table in chosen.events.values():
        for row in sorted(table.to_pylist(), key=lambda row: int(row["log_seq"])):
            firsts.setdefault(_values(log.id_columns, row), row["log_seq"])
    found = {}
    for key, table in chosen.events.items():
        changed, first = table, [firsts[_values(log.id_columns, row)] for row in table.to_pylist()]
        for name in going:
            column, place = log.columns[name], table.column_names.index(name)
            values = [_gone(column, seq if name in log.id_columns else None) for seq in first]
            field = table.schema.field(name)
            changed = changed.set_column(place, field, pa.array(values, field.type))
        found[key] = changed
    return found


def _gone(column: ColumnType, first_seq: int | None) -> object:
    """The replacement of an erased value; with `first_seq` it tells ids apart."""
    if column.null and first_seq is None:
        return None
    text = "erased" if first_seq is None else f"erased:{first_seq}"
    low, high = column.minimum or 0, column.maximum or 0
    number = min(max(0, low), max(low, high)) if first_seq is None else -1 - first_seq
    instead: Mapping[ColumnKind, object] = {
        ColumnKind.TEXT: text,
        ColumnKind.BINARY: text.encode(),
        ColumnKind.VERSION_VECTOR: '{"erased":1}',
        ColumnKind.ENUM: next(iter(column.values), ""),
        ColumnKind.INT64: number,
        ColumnKind.BOOLEAN: False,
        ColumnKind.DECIMAL: Decimal(0),
        ColumnKind.DATE: dt.date(1970, 1, 1),
        ColumnKind.TIMESTAMP: dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    }
    return instead[column.kind]
