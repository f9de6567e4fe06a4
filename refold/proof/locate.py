"""Locating: folding one snapshot again to find the event after which what is stored and replay part.

The marks of a comparison say at which snapshot that is. Of that snapshot, stored rows and outcomes are set against
those of replay. The events of the log partitions that differ are read and folded again, twice, from the last checkpoint
on which both agree, and `refold.proof.slips` looks for the event that explains a wrong row. So segments of one snapshot
and two checkpoints are read, however long the log is. Nothing is written. Before this comes `refold.proof.divergence`,
whose words it fills; `refold.proof.prover` asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.digest import bucket_of
from refold.dedup.deliveries import Deliveries, Delivery
from refold.errors import Damaged, NotDeterministic, RuleError
from refold.log.declaration import POSITION
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain
from refold.proof.divergence import Divergence, Mark, Replayed, Row, first_parting, place_of
from refold.proof.slips import Found, KeyFold, Slip, find_slip
from refold.rules.outcome import Outcome
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder, deliveries_of
from refold.stores.declaration import Folded
from refold.stores.folding import NOT_ALLOWED, columns_to_read, fold_events
from refold.stores.ledger import NO_EVENTS, LedgerPart
from refold.stores.state import State

_KEYS_SEARCHED = 20
_REPEATED = (Outcome.DUPLICATE, Outcome.CONFLICT)


def rows_in(buckets: Sequence[int], store: Folded, table: pa.Table) -> dict[object, dict[str, object]]:
    """The rows of a state table that lie in buckets of the digest tree, by key."""
    inside = pc.is_in(pa.array(bucket_of([table[store.log.key]]), pa.int64()), pa.array(buckets, pa.int64()))
    return {row[store.log.key]: row for row in table.filter(inside).to_pylist()}


def outcome_text(part: LedgerPart | None, place: int) -> str:
    """The outcome at a place of a ledger part in words, with its reason code."""
    if part is None or place >= len(part.outcomes):
        return "no outcome"
    code, reason = int(part.outcomes[place]), int(part.reasons[place])
    name = Outcome(code).name.lower() if code in list(Outcome) else f"outcome {code}"
    return f"{name} (reason {reason})" if reason else name


class Locator:
    """Finds divergences of the folded stores of a project."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, builder: Builder) -> None:
        self._objects = objects
        self._chain = chain
        self._builder = builder

    def locate(self, store: Folded, marks: Sequence[Mark], replayed: Replayed) -> Divergence | None:
        """Where a store and its replay part; `replayed` is what replay found there. None where they agree.

        Where the snapshot cannot be folded again, for damage, the divergence says so and names no event.
        """
        place = first_parting(marks)
        if place is None:
            return None
        found = Divergence(marks[place].snapshot.key, marks[place - 1].snapshot.key if place else None, None, "", "")
        try:
            return self._located(store, marks, place, replayed, found)
        except NotDeterministic as error:
            return replace(found, cause="not-deterministic", because=str(error))
        except (Damaged, RuleError) as error:
            return replace(found, cause="row", because=f"The snapshot cannot be folded again: {error}")

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
        refolded = _Refolded(store, events, deliveries, before, right, part, stored, stored_part, keys)
        _require_replayed(refolded, snapshot)
        buckets = stored.tree.differing(right.tree) if stored is not None else []
        found = replace(found, folded_from=folded_from, keys=len(keys), buckets=buckets)
        found, slip, untouched = _concluded(found, refolded, files)
        cause = _decided_elsewhere(refolded, marks[place], _repeats_fault(reader, snapshot, events, deliveries))
        kind, because = cause or (_UNTOUCHED if untouched else _cause(found, slip))
        return replace(found, cause=kind, because=f"{because} {_afterwards(marks, place)}".strip())

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
    """The log partitions in which something differs; all where that cannot be told without their events."""
    if rows is None or stored is None or len(stored.outcomes) != len(right.outcomes):
        return list(range(len(cut.ends)))
    differ = (stored.outcomes != right.outcomes) | (stored.reasons != right.reasons)
    mine = [int(str(row["log_partition"])) for row in rows.values()]
    return sorted({*mine, *(int(partition) for partition in np.unique(_partition_of(cut)[differ]))})


def _events(reader: LogReader, files: Sequence[SegmentFile], store: Folded) -> pa.Table:
    """The events of segments in the order of the ledger. Raises Damaged."""
    columns = list(dict.fromkeys([*columns_to_read(store), store.log.event_id]))
    tables = [reader.segment(file, columns) for file in sorted(files, key=lambda file: (file.partition, file.start))]
    if tables:
        return pa.concat_tables(tables)
    schema = pa.schema([store.log.schema.field(name) for name in columns])
    return schema.append(pa.field("log_partition", pa.int64())).empty_table()


def _require_replayed(refolded: _Refolded, snapshot: Snapshot) -> None:
    """Raise NotDeterministic where folding again, twice, gives other outcomes or rows than replay had."""
    store, events = refolded.store, refolded.events
    again = State(store, refolded.before.table)
    part = fold_events(again, events, refolded.deliveries, twice=True)
    keys = events[store.log.key].combine_chunks()
    mine, right = (
        state.table.filter(pc.is_in(state.table[store.log.key], keys)).sort_by(store.log.key)
        for state in (again, refolded.right)
    )
    if part.first_difference(refolded.part) is not None or not mine.equals(right):
        raise NotDeterministic(
            f"The rule of store {store.name!r} is not deterministic: the events of snapshot {snapshot.key}, folded "
            "again from where stored and replayed agree, give another result than full replay.",
            remedy=NOT_ALLOWED,
        )


@dataclass(frozen=True)
class _Refolded:
    """What is known of one snapshot: its events in the order of the ledger, what is right, and what is stored."""

    store: Folded
    events: pa.Table
    deliveries: Deliveries
    before: State
    right: State
    part: LedgerPart
    stored: State | None
    stored_part: LedgerPart | None
    keys: Sequence[object]

    @property
    def aligned(self) -> LedgerPart | None:
        """The stored outcomes, where there is one for every event."""
        part = self.stored_part
        return part if part is not None and len(part.outcomes) == len(self.events) else None

    def seq(self, place: int) -> int:
        """The `log_seq` of the event at a place."""
        return int(self.events["log_seq"][place].as_py())

    def event(self, place: int) -> Row:
        """The event at a place, position, id and key first."""
        row: dict[str, object] = self.events.slice(place, 1).to_pylist()[0]
        names = [*POSITION, self.store.log.event_id, self.store.log.key]
        return {name: row[name] for name in names} | row

    def places(self, keys: Sequence[object]) -> Mapping[object, list[int]]:
        """The places of the events of keys, in the order of the log."""
        column = self.events[self.store.log.key]
        mine = np.flatnonzero(pc.is_in(column, pa.array(keys, column.type)).to_numpy())
        found: dict[object, list[int]] = {key: [] for key in keys}
        for place, key in zip(mine.tolist(), column.take(pa.array(mine)).to_pylist(), strict=True):
            found[key].append(place)
        return found

    def wrong_outcome(self) -> int | None:
        """The place of the first event in the log with another outcome than is right; None where all are right."""
        part = self.stored_part
        if part is None:
            return None
        n = min(len(part.outcomes), len(self.events))
        differ = (part.outcomes[:n] != self.part.outcomes[:n]) | (part.reasons[:n] != self.part.reasons[:n])
        wrong = np.flatnonzero(differ)
        if len(wrong):
            return int(wrong[np.argmin(self.events["log_seq"].to_numpy()[wrong])])
        return min(n, len(self.events) - 1) if len(part.outcomes) != len(self.events) else None

    def slip(self, key: object, places: Sequence[int]) -> Found | None:
        """The slip that explains the wrong row of a key."""
        stored = self.stored.row(key) if self.stored is not None else None
        if stored is None or not places:
            return None
        own = pc.equal(self.before.table[self.store.log.key], key)
        part = self.aligned
        mine = LedgerPart(part.outcomes[places], part.reasons[places]) if part is not None else None
        events = self.events.take(pa.array(places))
        return find_slip(
            KeyFold(self.store, self.before.table.filter(own), events, self.deliveries[list(places)], stored, mine)
        )


@dataclass(frozen=True)
class _Suspect:
    """An event at which the rows of a key may have parted: certainly not before `start`, certainly by `end`."""

    key: object
    start: int
    end: int
    slip: Slip | None


def _suspects(refolded: _Refolded, wrong: int | None) -> list[_Suspect]:
    """One for every differing key that has events here, and one for the first wrong outcome.

    Slips count only where they explain every key that is searched: a fold by another rule leaves some rows that a lost
    event would leave too.
    """
    places = refolded.places(refolded.keys)
    touched = sorted((key for key in refolded.keys if places[key]), key=lambda key: refolded.seq(places[key][0]))
    slips = {key: refolded.slip(key, places[key]) for key in touched[:_KEYS_SEARCHED]}
    if any(slip is None for slip in slips.values()):
        slips = {}
    found = []
    for key in touched:
        own, slip = places[key], slips.get(key)
        start, end = (own[slip.first], own[slip.last]) if slip is not None else (own[0], own[-1])
        found.append(_Suspect(key, start, end, slip.slip if slip is not None else None))
    if wrong is not None:
        key = refolded.event(wrong)[refolded.store.log.key]
        if slips.get(key) is None:
            found = [each for each in found if each.key != key] + [_Suspect(key, wrong, wrong, None)]
    return found


def _concluded(
    found: Divergence, refolded: _Refolded, segments: Sequence[SegmentFile]
) -> tuple[Divergence, Slip | None, bool]:
    """The divergence with event, outcomes, key and rows; the slip that explains it; whether the fold began wrong.

    That is so where a key without events differs; then no event is named.
    """
    untouched = [key for key, places in refolded.places(refolded.keys).items() if not places]
    suspects = _suspects(refolded, refolded.wrong_outcome())
    if untouched:
        return _with_rows(found, refolded, untouched[0]), None, True
    if not suspects:
        return found, None, False
    first = min(suspects, key=lambda suspect: refolded.seq(suspect.end))
    start = min((suspect.start for suspect in suspects), key=refolded.seq)
    event = refolded.event(first.end)
    found = replace(
        found,
        event=event,
        not_before=refolded.event(start) if refolded.seq(start) < refolded.seq(first.end) else None,
        segment=_segment(event, segments),
        stored_outcome=outcome_text(refolded.stored_part, first.end),
        right_outcome=outcome_text(refolded.part, first.end),
    )
    return _with_rows(found, refolded, first.key), first.slip, False


def _with_rows(found: Divergence, refolded: _Refolded, key: object) -> Divergence:
    stored = refolded.stored.row(key) if refolded.stored is not None else None
    return replace(found, key=key, before=refolded.before.row(key), stored=stored, right=refolded.right.row(key))


def _segment(event: Row, segments: Sequence[SegmentFile]) -> str | None:
    partition, offset = int(str(event["log_partition"])), int(str(event["log_offset"]))
    return next((f.name for f in segments if f.partition == partition and f.start <= offset < f.end), None)


def _repeats_fault(reader: LogReader, snapshot: Snapshot, events: pa.Table, deliveries: Deliveries) -> str:
    """What is wrong with the deduplication stored at sealing; "" where it says what the ids say."""
    stored = np.zeros(len(events), dtype=np.uint8)
    try:
        repeats = reader.repeats(snapshot)
    except Damaged as error:
        return f"The deduplication that sealing stored cannot be used: {error}"
    if repeats is not None:
        places = pc.index_in(repeats["log_seq"].combine_chunks(), value_set=events["log_seq"].combine_chunks())
        here = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))  # others are in other log partitions
        stored[places.take(pa.array(here)).to_numpy()] = repeats["delivery"].to_numpy()[here]
    differ = np.flatnonzero(stored != deliveries)
    if len(differ) == 0:
        return ""
    place = int(differ[np.argmin(events["log_seq"].to_numpy()[differ])])
    says, ids = (Delivery(int(found[place])).name.lower() for found in (stored, deliveries))
    at = place_of(events.slice(place, 1).to_pylist()[0])
    return f"Of the event at {at} the deduplication that sealing stored says {says}, and the ids say {ids}."


_UNTOUCHED = (
    "checkpoint",
    (
        "The row of a key that has no event in this snapshot differs, so no event of it is to blame: the fold began "
        "from other rows than stored and replayed agree on (a bad checkpoint was resumed), or the checkpoint was "
        "changed later."
    ),
)


def _decided_elsewhere(refolded: _Refolded, mark: Mark, repeats: str) -> tuple[str, str] | None:
    """The cause and the evidence for it, where that does not lie in a row or an outcome."""
    record, part = mark.record, refolded.stored_part
    if record is not None and record.code_version != refolded.store.code_version:
        today = refolded.store.code_version
        return "rule", f"The stored record is by code version {record.code_version}, and today's is {today}."
    if repeats:
        return "deduplication", repeats
    if part is not None and len(part.outcomes) != len(refolded.events):
        return "events", (
            f"The snapshot has {len(refolded.events)} events and the stored fold took {len(part.outcomes)}: events or "
            "a segment were lost or repeated."
        )
    return None


def _cause(found: Divergence, slip: Slip | None) -> tuple[str, str]:
    """The cause and the evidence for it, from the first wrong event."""
    same_outcome = found.stored_outcome == found.right_outcome
    named = {found.stored_outcome, found.right_outcome}
    if slip is Slip.REPEAT_TAKEN or (not same_outcome and named & {"duplicate", "conflict"}):
        return "deduplication", "The stored fold and the ids of the log disagree on whether this event came before."
    if slip is Slip.NO_ROW_BEFORE:
        return "checkpoint", f"The stored row follows if {slip.value}: a bad checkpoint was resumed."
    if slip is not None and same_outcome:
        return "events", f"The stored row follows if {slip.value}: an event or a segment was lost or repeated."
    if not same_outcome or found.keys > 1:
        return "rule", (
            "Today's rule, run twice over the same events, gave replay's result both times, and what is stored was "
            "decided otherwise: the rule was changed without a version, in something that its fingerprint does not "
            f"cover, or it answered differently in another process. {NOT_ALLOWED}"
        )
    return "row", (
        "All outcomes agree, and no lost or repeated event explains the row: a bad checkpoint was resumed, the "
        "checkpoint was changed later, or the rule answered differently in another process."
    )


def _afterwards(marks: Sequence[Mark], place: int) -> str:
    """What became of it in later snapshots."""
    later = [mark for mark in marks[place + 1 :] if mark.record is not None]
    again = next((mark for mark in later if not (mark.state_parted or mark.ledger_parted)), None)
    if again is not None:
        return f"Snapshot {again.snapshot.key} agrees again."
    return "Every later snapshot went on from it." if later else ""
