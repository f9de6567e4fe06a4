"""Locating: folds one snapshot again to find the event after which stored and replayed content part.

The marks of a comparison give the snapshot. Its stored rows and outcomes are compared with those of replay. The events
of the log partitions that differ are read and folded again, twice, from the last checkpoint on which both agree;
`refold.proof.refolded` finds the events that may be to blame, and `refold.proof.causes` gives the cause. So segments of
one snapshot and two checkpoints are read, however long the log is. Nothing is written. Before this comes
`refold.proof.divergence`, whose types it fills in; `refold.proof.prover` calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.digest import bucket_of
from refold.dedup.deliveries import Delivery
from refold.errors import Damaged, NotDeterministic, RuleError
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain
from refold.proof.causes import Blamed, afterwards, cause_of, repeats_fault
from refold.proof.divergence import Cause, Divergence, Mark, Replayed, Row, first_parting
from refold.proof.refolded import Refolded, suspects
from refold.rules.outcome import Outcome
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder, deliveries_of
from refold.stores.declaration import Folded
from refold.stores.folding import NOT_ALLOWED, columns_to_read, fold_events
from refold.stores.ledger import NO_EVENTS, NO_OUTCOME, LedgerPart
from refold.stores.state import State, keys_of, sort_by

_REPEATED = (Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.EXCLUDED)


def rows_in(buckets: Sequence[int], store: Folded, table: pa.Table) -> dict[object, dict[str, object]]:
    """The rows of a state table that lie in buckets of the digest tree, by key."""
    own = bucket_of([table[name] for name in store.log.key_columns])
    inside = pc.is_in(pa.array(own, pa.int64()), pa.array(buckets, pa.int64()))
    return {store.log.key_of(row): row for row in table.filter(inside).to_pylist()}


class Locator:
    """Finds divergences of the folded stores of a project."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, builder: Builder) -> None:
        self._objects = objects
        self._chain = chain
        self._builder = builder

    def locate(self, store: Folded, marks: Sequence[Mark], replayed: Replayed) -> Divergence | None:
        """Where a store and its replay part; `replayed` is what replay found there. None where they agree.

        Where damage prevents another fold of the snapshot, the divergence reports that and names no event.
        """
        place = first_parting(marks)
        if place is None:
            return None
        found = Divergence(marks[place].snapshot.key, marks[place - 1].snapshot.key if place else None)
        try:
            return self._located(store, marks, place, replayed, found)
        except NotDeterministic as error:
            return replace(found, cause=Cause.NOT_DETERMINISTIC, because=str(error))
        except (Damaged, RuleError) as error:
            return replace(found, cause=Cause.ROW, because=f"The snapshot cannot be folded again: {error}")

    def _located(
        self, store: Folded, marks: Sequence[Mark], place: int, replayed: Replayed, found: Divergence
    ) -> Divergence:
        reader, snapshot = LogReader(self._objects, self._chain, store.log), marks[place].snapshot
        folded_from, before = self._agreeing(store, marks[:place], reader)
        stored, stored_part = self._stored(store, marks[place])
        right = State(store, replayed.rows)
        rows = None if stored is None else _differing_rows(stored, right)
        partitions = _partitions(snapshot.cut(store.log.name), replayed.part, stored_part, rows)
        files = [f for f in self._chain.layout(snapshot, store.log.name).segments if f.partition in partitions]
        events = _events(reader, files, store)
        chosen = np.flatnonzero(np.isin(_partition_of(snapshot.cut(store.log.name)), partitions))
        part = LedgerPart(replayed.part.outcomes[chosen], replayed.part.reasons[chosen])
        if stored_part is not None and len(stored_part.outcomes) == len(replayed.part.outcomes):
            stored_part = LedgerPart(stored_part.outcomes[chosen], stored_part.reasons[chosen])
        deliveries = np.where(np.isin(part.outcomes, _REPEATED), part.outcomes, Delivery.FIRST).astype(np.uint8)
        keys = [] if rows is None else sorted(rows, key=repr)
        refolded = Refolded(store, events, deliveries, before, right, part, stored, stored_part, keys)
        _require_replayed(refolded, snapshot)
        buckets = stored.tree.differing(right.tree) if stored is not None else []
        found = replace(found, folded_from=folded_from, keys=len(keys), buckets=buckets)
        found, blamed = _concluded(found, refolded, files)
        repeats = repeats_fault(reader, snapshot, events, deliveries)
        cause, because = cause_of(refolded, marks[place], repeats, found, blamed)
        return replace(found, cause=cause, because=f"{because} {afterwards(marks, place)}".strip())

    def _agreeing(self, store: Folded, marks: Sequence[Mark], reader: LogReader) -> tuple[str | None, State]:
        """The state after marks that all agree, from the newest checkpoint with rows, and the key of that."""
        state, done = State(store), 0
        for place in range(len(marks) - 1, -1, -1):
            record = marks[place].record
            if record is not None and not record.thinned:
                try:
                    state, done = self._builder.checkpoints.state(store, record), place + 1
                    break
                except Damaged:
                    continue
        for mark in marks[done:]:
            events = reader.events(mark.snapshot, columns_to_read(store))
            fold_events(state, events, deliveries_of(reader, mark.snapshot))
        if marks and state.digest() != marks[-1].state_digest:
            raise Damaged(
                f"A fold up to snapshot {marks[-1].snapshot.key}, where stored and replayed agree, gives other rows; "
                "the stored deduplication is damaged, or the rule is not deterministic."
            )
        return (marks[done - 1].snapshot.key if done else None), state

    def _stored(self, store: Folded, mark: Mark) -> tuple[State | None, LedgerPart | None]:
        """What is stored at a mark, each None where it cannot be read."""
        record, checkpoints = mark.record, self._builder.checkpoints
        assert record is not None, "only what is stored can part from replay"
        state, part = None, None
        with suppress(Damaged):  # the comparison names the damage
            part = checkpoints.ledger(record) or NO_EVENTS
        with suppress(Damaged):
            state = None if record.thinned else checkpoints.state(store, record)
        return state, part


def _differing_rows(stored: State, right: State) -> dict[object, Row]:
    """The keys whose rows differ, each with its stored row, or the right one where there is none."""
    buckets = stored.tree.differing(right.tree)
    mine, theirs = (rows_in(buckets, right.store, state.table) for state in (stored, right))
    return {key: row for key, row in {**theirs, **mine}.items() if mine.get(key) != theirs.get(key)}


def _partition_of(cut: LogCut) -> npt.NDArray[np.int64]:
    """The log partition of every event of a snapshot, in the order of the ledger."""
    return np.repeat(np.arange(len(cut.ends)), np.array(cut.ends) - np.array(cut.starts))


def _partitions(
    cut: LogCut, right: LedgerPart, stored: LedgerPart | None, rows: Mapping[object, Row] | None
) -> list[int]:
    """The log partitions in which something differs; all where that is unknown without their events."""
    if rows is None or stored is None or len(stored.outcomes) != len(right.outcomes):
        return list(range(len(cut.ends)))
    differ = (stored.outcomes != right.outcomes) | (stored.reasons != right.reasons)
    mine = [int(str(row["log_partition"])) for row in rows.values()]
    return sorted({*mine, *(int(partition) for partition in np.unique(_partition_of(cut)[differ]))})


def _events(reader: LogReader, files: Sequence[SegmentFile], store: Folded) -> pa.Table:
    """The events of segments in the order of the ledger. Raises Damaged."""
    columns = list(dict.fromkeys([*columns_to_read(store), *store.log.id_columns]))
    tables = [reader.segment(file, columns) for file in sorted(files, key=lambda file: (file.partition, file.start))]
    if tables:
        return pa.concat_tables(tables)
    schema = pa.schema([store.log.schema.field(name) for name in columns])
    return schema.append(pa.field("log_partition", pa.int64())).empty_table()


def _require_replayed(refolded: Refolded, snapshot: Snapshot) -> None:
    """Raise NotDeterministic where folding again, twice, gives other outcomes or rows than replay had."""
    store, events = refolded.store, refolded.events
    again = State(store, refolded.before.table)
    part = fold_events(again, events, refolded.deliveries, twice=True)
    names = store.log.key_columns
    keys = keys_of(events, names).combine_chunks()
    mine, right = (
        sort_by(state.table.filter(pc.is_in(keys_of(state.table, names), keys)), names)
        for state in (again, refolded.right)
    )
    if part.first_difference(refolded.part) is not None or not mine.equals(right):
        raise NotDeterministic(
            f"The rule of store {store.name!r} is not deterministic: the events of snapshot {snapshot.key}, folded "
            "again from where stored and replayed agree, give another result than full replay.",
            remedy=NOT_ALLOWED,
        )


def _concluded(found: Divergence, refolded: Refolded, segments: Sequence[SegmentFile]) -> tuple[Divergence, Blamed]:
    """The divergence with event, outcomes, key and rows, and what is to blame.

    Where a key without events differs, no event is named.
    """
    untouched = [key for key, places in refolded.places(refolded.keys).items() if not places]
    if untouched:
        return _with_rows(found, refolded, untouched[0]), Blamed(None, untouched=True)
    blamed = suspects(refolded)
    if not blamed:
        return found, Blamed(None, untouched=False)
    first = min(blamed, key=lambda suspect: refolded.seq(suspect.end))
    start = min((suspect.start for suspect in blamed), key=refolded.seq)
    event = refolded.event(first.end)
    found = replace(
        found,
        event=event,
        not_before=refolded.event(start) if refolded.seq(start) < refolded.seq(first.end) else None,
        segment=_segment(event, segments),
        stored_outcome=refolded.stored_part.outcome_text(first.end) if refolded.stored_part is not None else NO_OUTCOME,
        right_outcome=refolded.part.outcome_text(first.end),
    )
    return _with_rows(found, refolded, first.key), Blamed(first.slip, untouched=False)


def _with_rows(found: Divergence, refolded: Refolded, key: object) -> Divergence:
    stored = refolded.stored.row(key) if refolded.stored is not None else None
    return replace(found, key=key, before=refolded.before.row(key), stored=stored, right=refolded.right.row(key))


def _segment(event: Row, segments: Sequence[SegmentFile]) -> str | None:
    partition, offset = int(str(event["log_partition"])), int(str(event["log_offset"]))
    return next((f.name for f in segments if f.partition == partition and f.start <= offset < f.end), None)
