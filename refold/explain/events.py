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

from refold.errors import FixInput, NotFound
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder, with_outcomes
from refold.stores.declaration import DELETED, Folded, Store
from refold.stores.ledger import LedgerPart
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

    def _folded(self, store: Folded, wanted: Mapping[str, str], snapshot: Snapshot) -> Iterator[ExplainedEvent]:
        reader, log = LogReader(self._objects, self._chain, store.log), store.log.name
        running = RunningRows(store) if set(wanted) == {store.log.key} else None
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
    """Which events have the wanted values in the columns given."""
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
        self._key = store.log.key
        self._fold = store.plain_fold()
        self._rows: dict[object, Row] = {}

    def after(self, events: pa.Table) -> list[Row]:
        """The row of its key after each of the next events in log order; duplicates and conflicts leave it as it is."""
        rows = []
        for event in events.to_pylist():
            key = event[self._key]
            if event["outcome"] not in ("duplicate", "conflict"):
                self._fold.apply(key, event)
                values = self._fold.values(key)
                self._rows[key] = {DELETED: True} if values.get(DELETED) else _without_mark(values)
            rows.append(self._rows.get(key))
        return rows


def _without_mark(values: Mapping[str, Any]) -> Row:
    return {name: value for name, value in values.items() if name != DELETED}


def _explained(store: Folded, snapshot: Snapshot, segment: str, event: Mapping[str, Any], row: Row) -> ExplainedEvent:
    log = store.log
    shown = dict.fromkeys([log.event_id, log.key, *([log.event_time] if log.event_time else []), *store.columns_read])
    return ExplainedEvent(
        store=store.name,
        snapshot=snapshot.key,
        segment=segment,
        log_partition=event["log_partition"],
        log_offset=event["log_offset"],
        log_seq=event["log_seq"],
        origin=f"{event['source_object']}:{event['source_line']}",
        event={name: event[name] for name in shown},
        outcome=event["outcome"],
        reason=event["reason"],
        after=row,
    )
