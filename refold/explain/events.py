"""Why: the events behind a value, with segment, offset, outcome and the running value.

Reads only, and of segments without such an event only the columns of the key; the running value comes from the rule
itself, one event at a time.
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
from refold.log.reader import LogReader
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder, with_outcomes
from refold.stores.declaration import DELETED, Folded, LatestStore, LedgerOf, Relation, RuleStore, Store
from refold.stores.ledger import LedgerPart
from refold.types import date, matching

Row = Mapping[str, Any] | None


@dataclass(frozen=True)
class Step:
    """One event behind a value: where it lies, what became of it, and the row after it (None: no row, or deleted).

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

    def why(self, store: Store, key: list[str], snapshot: Snapshot) -> Iterator[Step]:
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

    def _folded(self, store: Folded, wanted: Mapping[str, str], snapshot: Snapshot) -> Iterator[Step]:
        reader = LogReader(self._objects, self._chain, store.log)
        running = set(wanted) == {store.log.key}
        columns = [name for name in wanted if name in store.log.columns]
        row: Row = None
        for each in self._chain.through(snapshot.key):
            if each.cut(store.log.name).events == 0:
                continue
            record = self._builder.require(store, each)
            found = (
                reader.matching(each, columns, lambda some: _chosen(store, some, wanted))
                if columns
                else (reader.events(each))
            )
            if len(found) == 0:
                continue
            part = self._builder.checkpoints.ledger(record)
            assert part is not None
            outcomes = with_outcomes(store, found, _outcomes_at(part, each.cut(store.log.name), found))
            events = matching_events(store, outcomes, wanted)
            rows = running_rows(store, row, events) if running else [None] * len(events)
            files = self._chain.layout(each, store.log.name).segments
            for event, row in zip(events.to_pylist(), rows, strict=True):
                place = (event["log_partition"], event["log_offset"])
                file = next(f.name for f in files if f.partition == place[0] and f.start <= place[1] < f.end)
                yield _step(store, each, file, event, row)


def events_behind(store: Store, key: Sequence[str]) -> list[tuple[Folded, dict[str, str]]]:
    """The folded stores whose events are behind the row of a key, each with the event columns and values, as text.

    Raises FixInput where the key has another number of parts than the store, or cannot be followed through the query.
    """
    if len(key) != len(store.key):
        raise FixInput(f"The key of {store.name!r} is ({', '.join(store.key)}); found {len(key)} values.")
    if isinstance(store, Folded):
        return [(store, {store.log.key: key[0]})]
    assert isinstance(store, Relation)
    sources = [source.store if isinstance(source, LedgerOf) else source for source in store.reads]
    folded = [source for source in dict.fromkeys(sources) if isinstance(source, Folded)]
    if store.documents:
        return [(source, {source.log.key: key[0]}) for source in folded]
    wanted = dict(zip(store.key, key, strict=True))
    found = [(source, wanted) for source in folded if wanted.keys() <= {*source.log.columns, *_dated(source)}]
    if not found:
        raise FixInput(
            f"The key ({', '.join(store.key)}) of {store.name!r} cannot be followed to events: no input "
            "has all of its columns.",
            remedy=f"Ask for the keys of its inputs: {', '.join(s.name for s in store.reads)}.",
        )
    return found


def _dated(store: Folded) -> set[str]:
    return {"event_date"} if store.log.event_time else set()


def _chosen(store: Folded, events: pa.Table, wanted: Mapping[str, str]) -> pa.ChunkedArray:
    """Which events have the wanted values, as far as the columns tell."""
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


def running_rows(store: Folded, row: Row, events: pa.Table) -> list[Row]:
    """The row after each event of one key, given in log order; duplicates and conflicts leave it as it is."""
    repeated = pc.is_in(events["outcome"], pa.array(["duplicate", "conflict"]))
    live = events.filter(pc.invert(repeated))
    after = _after_rule(store, row, live) if isinstance(store, RuleStore) else _after_latest(store, live)
    rows = []
    for again in repeated.to_pylist():
        row = row if again else next(after)
        rows.append(row)
    return rows


def _after_rule(store: RuleStore, row: Row, events: pa.Table) -> Iterator[Row]:
    before = store.rule.row(**row) if row is not None else store.rule.row()
    names = list(store.values)
    return (dict(zip(names, after, strict=True)) for after, _, _ in store.rule.steps(before, events))


def _after_latest(store: Folded, events: pa.Table) -> Iterator[Row]:
    delete = store.delete_when if isinstance(store, LatestStore) else None
    for event in events.to_pylist():
        deleted = delete is not None and event[delete[0]] == delete[1]
        yield {DELETED: True} if deleted else {name: event[name] for name in store.values}


def _step(store: Folded, snapshot: Snapshot, segment: str, event: Mapping[str, Any], row: Row) -> Step:
    log = store.log
    shown = dict.fromkeys([log.event_id, log.key, *([log.event_time] if log.event_time else []), *store.columns_read])
    return Step(
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
