"""Why: the events behind a value, with segment, offset, outcome and the running value.

Reads only, and of segments without such an event only the columns of the key; the running value comes from the store's
fold in plain Python, one event at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.dedup.deliveries import Delivery
from refold.errors import FixInput, NotFound
from refold.log.declaration import Log
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder
from refold.stores.declaration import DELETED, Folded, Store
from refold.stores.ledger import LedgerPart, with_outcomes
from refold.types import date, matching

Row = Mapping[str, Any] | None


@dataclass(frozen=True)
class ExplainedEvent:
    """One event behind a value: its place, its outcome, and the row after it (None: no row, or deleted).

    `event` holds the columns the fold reads and the event id; `origin` is landing object and line.
    """

    store: str
    snapshot: str
    segment: str
    log_partition: int
    log_offset: int
    log_seq: int
    origin: str
    event: Mapping[str, Any]
    outcome: str
    reason: str | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class LoggedEvent:
    """One event of a log, wherever it is used.

    `event` holds the declared columns, `origin` landing object and line. `repeats` is empty for a first delivery.
    `outcomes` are by store, "not built" where a store has no state at the event's snapshot.
    """

    snapshot: str
    segment: str
    log_seq: int
    origin: str
    event: Mapping[str, Any]
    repeats: str
    outcomes: Mapping[str, str]


class Explainer:
    """Explains the values of a project's stores."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, builder: Builder) -> None:
        self._objects = objects
        self._chain = chain
        self._builder = builder

    def why(self, store: Store, key: list[str], snapshot: Snapshot) -> Iterator[ExplainedEvent]:
        """The events behind the row of a key, in log order.

        A folded store shows its events; documents those of every store they join; a relation the ledger's events
        that have the key's values, where the key's columns are columns of the ledger.

        Raises:
            FixInput: the key has another number of parts than the store, or cannot be followed through the query.
            NotFound: the log has no event with that key up to the snapshot.
        """
        followed = events_behind(store, key)
        steps = [step for source, wanted in followed for step in self._folded(source, wanted, snapshot)]
        if not steps:
            raise NotFound(
                f"Store {store.name!r} has no event for {', '.join(store.key)} = {', '.join(map(repr, key))} up to "
                f"snapshot {snapshot.key}."
            )
        yield from steps

    def event(self, log: Log, partition: int, offset: int, stores: Sequence[Folded]) -> LoggedEvent:
        """The event at an offset of a log partition, with its outcome in some stores of the log.

        Raises:
            NotFound: no snapshot has that offset, with the offsets there are.
        """
        snapshot = self._holding(log, partition, offset)
        reader = LogReader(self._objects, self._chain, log)
        found = next(f for f in reader.files(snapshot) if f.partition == partition and f.start <= offset < f.end)
        with reader.standing(snapshot):
            events = reader.segment(found).slice(offset - found.start, 1)
        (event,) = events.to_pylist()
        return LoggedEvent(
            snapshot=snapshot.key,
            segment=found.name,
            log_seq=event["log_seq"],
            origin=_origin(event),
            event={name: event[name] for name in log.columns},
            repeats=_repeats(reader.repeats(snapshot), event["log_seq"]),
            outcomes={store.name: self._outcome(store, snapshot, events) for store in stores},
        )

    def _holding(self, log: Log, partition: int, offset: int) -> Snapshot:
        ends: Sequence[int] = []
        for snapshot in self._chain:
            ends = snapshot.cut(log.name).ends
            if 0 <= partition < len(ends) and 0 <= offset < ends[partition]:
                return snapshot
        there = ", ".join(f"{place}:0 to {place}:{end - 1}" for place, end in enumerate(ends) if end)
        raise NotFound(
            f"Log {log.name!r} has no event at {partition}:{offset}; it has {there or 'no events'}.",
            remedy="Give log partition and offset, such as 0:7; messages and `refold why` show them.",
        )

    def _outcome(self, store: Folded, snapshot: Snapshot, events: pa.Table) -> str:
        record = self._builder.find(store, snapshot)
        part = None if record is None else self._builder.checkpoints.ledger(record)
        if part is None:
            return "not built"
        outcome = with_outcomes(store, events, _outcomes_at(part, snapshot.cut(store.log.name), events)).to_pylist()[0]
        return f"{outcome['outcome']} ({outcome['reason']})" if outcome["reason"] else str(outcome["outcome"])

    def _folded(self, store: Folded, wanted: Mapping[str, str], snapshot: Snapshot) -> Iterator[ExplainedEvent]:
        reader, log = LogReader(self._objects, self._chain, store.log), store.log.name
        running = RunningRows(store) if wanted.keys() == set(store.log.key_columns) else None
        for each in self._chain.through(snapshot.key):
            if each.cut(log).events == 0:
                continue
            events = self._matching(reader, store, wanted, each)
            rows = running.after(events) if running is not None else [None] * len(events)
            files = self._chain.layout(each, log).segments
            for event, row in zip(events.to_pylist(), rows, strict=True):
                yield _explained(store, each, _file_of(files, event), event, row)

    def _matching(self, reader: LogReader, store: Folded, wanted: Mapping[str, str], snapshot: Snapshot) -> pa.Table:
        """The events of a snapshot that have the wanted values, with outcome and reason."""
        record = self._builder.require(store, snapshot)
        columns = [name for name in wanted if name in store.log.columns]
        if columns:
            found = reader.matching(snapshot, columns, lambda some: _chosen(store, some, wanted))
        else:
            found = reader.events(snapshot)
        if len(found) == 0:
            return found
        part = self._builder.checkpoints.ledger(record)
        assert part is not None
        outcomes = _outcomes_at(part, snapshot.cut(store.log.name), found)
        return matching_events(store, with_outcomes(store, found, outcomes), wanted)


def _origin(event: Mapping[str, Any]) -> str:
    return f"{event['source_object']}:{event['source_line']}"


def _repeats(repeats: pa.Table | None, log_seq: int) -> str:
    """The event that an event repeats, as sealing found it."""
    for each in [] if repeats is None else repeats.filter(pc.equal(repeats["log_seq"], log_seq)).to_pylist():
        return f"{Delivery(each['delivery']).name.lower()} of the event with log_seq {each['first_seq']}"
    return ""


def _file_of(files: Sequence[SegmentFile], event: Mapping[str, Any]) -> str:
    partition, offset = event["log_partition"], event["log_offset"]
    return next(f.name for f in files if f.partition == partition and f.start <= offset < f.end)


def events_behind(store: Store, key: Sequence[str]) -> list[tuple[Folded, dict[str, str]]]:
    """The folded stores whose events are behind the row of a key, each with the event columns and values, as text.

    Raises FixInput where the key has another number of parts than the store, or cannot be followed through the query.
    """
    if len(key) != len(store.key):
        raise FixInput(f"The key of {store.name!r} is ({', '.join(store.key)}); found {len(key)} values.")
    return store.followed(key)


def _chosen(store: Folded, events: pa.Table, wanted: Mapping[str, str]) -> pa.ChunkedArray:
    """The events that have the wanted values in the given columns."""
    masks = [matching(events[n], wanted[n], store.log.columns[n]) for n in events.column_names if n in wanted]
    return pc.fill_null(reduce(pc.and_, masks), False)


def _outcomes_at(part: LedgerPart, cut: LogCut, events: pa.Table) -> LedgerPart:
    """The outcomes of some of a snapshot's events, from those of all."""
    before = np.cumsum([0, *(end - start for start, end in zip(cut.starts, cut.ends, strict=True))])
    first = before[:-1] - np.array(cut.starts)
    places = first[events["log_partition"].to_numpy()] + events["log_offset"].to_numpy()
    return LedgerPart(part.outcomes[places], part.reasons[places])


def matching_events(store: Folded, events: pa.Table, wanted: Mapping[str, str]) -> pa.Table:
    """The events whose columns have the wanted values, given as text."""
    for name, value in wanted.items():
        events = events.filter(matching(events[name], value, store.log.columns.get(name, date())))
    return events


class RunningRows:
    """The rows of a store's keys, event by event, by its fold in plain Python."""

    def __init__(self, store: Folded) -> None:
        self._key_of = store.log.key_of
        self._fold = store.plain_fold()
        self._rows: dict[object, Row] = {}

    def after(self, events: pa.Table) -> list[Row]:
        """The row of its key after each of the next events in log order; what did not count leaves it as it is."""
        rows = []
        for event in events.to_pylist():
            key = self._key_of(event)
            if event["outcome"] not in ("duplicate", "conflict", "excluded"):
                self._fold.apply(key, event)
                values = self._fold.values(key)
                self._rows[key] = {DELETED: True} if values.get(DELETED) else _without_mark(values)
            rows.append(self._rows.get(key))
        return rows


def _without_mark(values: Mapping[str, Any]) -> Row:
    return {name: value for name, value in values.items() if name != DELETED}


def _explained(store: Folded, snapshot: Snapshot, segment: str, event: Mapping[str, Any], row: Row) -> ExplainedEvent:
    log = store.log
    ids, dated = [name for name in log.id_columns if name in log.columns], [log.event_time] if log.event_time else []
    shown = dict.fromkeys([*ids, *log.key_columns, *dated, *store.columns_read])
    return ExplainedEvent(
        store=store.name,
        snapshot=snapshot.key,
        segment=segment,
        log_partition=event["log_partition"],
        log_offset=event["log_offset"],
        log_seq=event["log_seq"],
        origin=_origin(event),
        event={name: event[name] for name in shown},
        outcome=event["outcome"],
        reason=event["reason"],
        after=row,
    )
