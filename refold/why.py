"""Why: the events behind a value, with segment, offset, outcome and the running value.

Reads only; the running value comes from the rule itself, one event at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import FixInput, NotFound
from refold.log.segment import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage import ObjectStore
from refold.stores.building import Builder, with_outcomes
from refold.stores.declaration import DELETED, Folded, LedgerOf, Relation, RuleStore, Store


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
        if len(key) != len(store.key):
            raise FixInput(f"The key of {store.name!r} is ({', '.join(store.key)}); found {len(key)} values.")
        steps = list(self._steps(store, key, snapshot))
        if not steps:
            raise NotFound(
                f"Store {store.name!r} has no event for {', '.join(store.key)} = {', '.join(map(repr, key))} up to "
                f"snapshot {snapshot.key}."
            )
        yield from steps

    def _steps(self, store: Store, key: list[str], snapshot: Snapshot) -> Iterator[Step]:
        if isinstance(store, Folded):
            yield from self._folded(store, {store.log.key: key[0]}, snapshot)
        elif isinstance(store, Relation) and store.documents:
            for source in store.reads:
                if isinstance(source, Folded):
                    yield from self._folded(source, {source.log.key: key[0]}, snapshot)
        elif isinstance(store, Relation):
            yield from self._relation(store, key, snapshot)

    def _relation(self, relation: Relation, key: list[str], snapshot: Snapshot) -> Iterator[Step]:
        followed = False
        for source in relation.reads:
            store = source.store if isinstance(source, LedgerOf) else source
            if not isinstance(store, Folded):
                continue
            dated = {"event_date"} if store.log.event_time else set()
            if set(relation.key) <= {*store.log.columns, *dated}:
                followed = True
                yield from self._folded(store, dict(zip(relation.key, key, strict=True)), snapshot)
        if not followed:
            raise FixInput(
                f"The key ({', '.join(relation.key)}) of {relation.name!r} cannot be followed to events, because no input "
                "has all of its columns.",
                remedy=f"Ask for the keys of its inputs: {', '.join(s.name for s in relation.reads)}.",
            )

    def _folded(self, store: Folded, wanted: Mapping[str, str], snapshot: Snapshot) -> Iterator[Step]:
        reader = LogReader(self._objects, self._chain, store.log)
        row: Any = None
        for each in self._chain.through(snapshot.key):
            if each.logs[store.log.name].events == 0:
                continue
            part = self._builder.checkpoints.ledger(self._builder.require(store, each))
            assert part is not None
            events = with_outcomes(store, reader.events(each), part)
            for event in _matching(events, wanted).to_pylist():
                if set(wanted) == {store.log.key}:
                    row = _next_row(store, row, event)
                file = next(
                    f.name
                    for f in self._chain.layout(each, store.log.name).segments
                    if f.partition == event["log_partition"] and f.start <= event["log_offset"] < f.end
                )
                yield _step(store, each, file, event, row)


def _matching(events: pa.Table, wanted: Mapping[str, str]) -> pa.Table:
    """The events whose columns have the wanted values, given as text; an empty text also means null."""
    for name, value in wanted.items():
        texts = pc.cast(events[name], pa.string())
        mask = pc.fill_null(pc.equal(texts, value), value == "")
        events = events.filter(mask)
    return events


def _next_row(store: Folded, row: Any, event: Mapping[str, Any]) -> Any:
    if event["outcome"] in ("duplicate", "conflict"):
        return row
    if isinstance(store, RuleStore):
        before = row if row is not None else store.rule.row()
        after, _, _ = next(iter(store.rule.steps(before, [event])))
        return after
    values = {name: event[name] for name in store.values}
    delete = getattr(store, "delete_when", None)
    return {DELETED: True} if delete and event[delete[0]] == delete[1] else values


def _step(store: Folded, snapshot: Snapshot, segment: str, event: Mapping[str, Any], row: Any) -> Step:
    shown = [store.log.event_id, *(name for name in store.columns_read if name != store.log.event_id)]
    after = row._asdict() if hasattr(row, "_asdict") else row
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
        after=after,
    )


