"""Verification by the reference: what is stored of folded stores, compared with a fold that shares no code with it.

`refold.proof.reference` folds; this module compares its outcomes, digests and rows with the stored records. Nothing
is written: `refold.proof.prover` keeps the proofs, and this is an independent check of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from refold.base.progress import track
from refold.errors import Damaged
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.reference import OutcomeOf, ReferenceBoundary, reference
from refold.proof.verdict import Difference, Differs, Verdict
from refold.rules.outcome import Outcome
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded
from refold.stores.ledger import LedgerPart, outcome_text

METHOD = "reference, one event at a time"
_ROWS_MAX = 5


def reference_verdicts(
    objects: ObjectStore, chain: SnapshotChain, builder: Builder, stores: Sequence[Folded], snapshot: Snapshot
) -> list[Verdict]:
    """Compare folded stores with the reference up to a snapshot; one verdict per store, in the order given.

    Records of earlier snapshots are compared where there are any; the snapshot itself must have one, and its rows are
    compared value by value, not by digest alone. Digests need no trust in each other: both sides make their own.

    Raises Damaged where a segment is, and RuleError where a rule raises or answers something impossible.
    """
    found: dict[str, Verdict] = {}
    for log in dict.fromkeys(store.log for store in stores):
        mine = [store for store in stores if store.log is log]
        found |= {store.name: Verdict(store, snapshot, None, [], METHOD, 0) for store in mine}
        boundaries = reference(objects, chain, log, mine, snapshot)
        watched = track(boundaries, f"reference {log.name}", snapshot.ordinal + 1, _events_of(log.name))
        for each, by_store in watched:
            for store in mine:
                found[store.name] = _compare(builder, store, each, by_store[store.name], found[store.name])
    return [found[store.name] for store in stores]


def _events_of(log: str) -> Any:
    return lambda item: item[0].cut(log).events


def _compare(
    builder: Builder, store: Folded, snapshot: Snapshot, boundary: ReferenceBoundary, before: Verdict
) -> Verdict:
    """The verdict so far, with what differs at one more snapshot."""
    where, asked = f"snapshot {snapshot.key}", snapshot.key == before.snapshot.key
    differences, record = list(before.differences), None
    try:
        record = builder.find(store, snapshot)
        if record is not None:
            differences += _differences(builder, store, snapshot, record, boundary, asked)
        elif asked:
            expected = f"a state by code version {store.code_version}"
            differences.append(Difference(Differs.NOT_BUILT, where, expected, "none"))
    except Damaged as error:
        differences.append(Difference(Differs.CHECKPOINT, where, "a sound record, state and ledger part", str(error)))
    return replace(before, record=record, differences=differences, events=before.events + len(boundary.outcomes))


def _differences(
    builder: Builder, store: Folded, snapshot: Snapshot, record: StateRecord, boundary: ReferenceBoundary, asked: bool
) -> Iterator[Difference]:
    """Differences at one snapshot: the first outcome, both digests, the first few rows. Raises Damaged."""
    where = f"snapshot {snapshot.key}"
    if boundary.outcomes:
        yield from _ledger_differences(where, builder.checkpoints.ledger(record), boundary.outcomes)
    if record.ledger_digest != boundary.ledger_digest:
        yield Difference(Differs.LEDGER, where, boundary.ledger_digest, record.ledger_digest)
    if record.state_digest != boundary.state_digest:
        yield Difference(Differs.STATE, where, boundary.state_digest, record.state_digest)
    if asked or record.state_digest != boundary.state_digest:
        table = builder.checkpoints.state(store, record).table
        if len(table) != len(boundary.rows):
            yield Difference(Differs.STATE, where, f"{len(boundary.rows)} rows", f"{len(table)} rows")
        stored = {store.log.key_of(row): row for row in table.select(list(store.state_columns)).to_pylist()}
        yield from _row_differences(where, stored, boundary.rows)


def _ledger_differences(where: str, part: LedgerPart | None, expected: Sequence[OutcomeOf]) -> Iterator[Difference]:
    found = [] if part is None else list(zip(part.outcomes.tolist(), part.reasons.tolist(), strict=True))
    if len(found) != len(expected):
        yield Difference(Differs.LEDGER, where, f"{len(expected)} outcomes", f"{len(found)} outcomes")
    for (partition, offset, seq, name, reason), (code, stored) in zip(expected, found, strict=False):
        if (Outcome[name.upper()], reason) != (code, stored):
            at = f"{where}, log partition {partition}, offset {offset}, log_seq {seq}"
            yield Difference(
                Differs.LEDGER, at, outcome_text(Outcome[name.upper()], reason), outcome_text(code, stored)
            )
            return


def _row_differences(
    where: str, stored: Mapping[object, Mapping[str, Any]], expected: Mapping[object, Mapping[str, Any]]
) -> Iterator[Difference]:
    keys = [key for key in dict.fromkeys([*expected, *stored]) if expected.get(key) != stored.get(key)]
    for key in sorted(keys, key=repr)[:_ROWS_MAX]:
        yield Difference(Differs.STATE, f"{where}, key {key!r}", _shown(expected.get(key)), _shown(stored.get(key)))
    if len(keys) > _ROWS_MAX:
        yield Difference(Differs.STATE, where, "no other differing row", f"{len(keys) - _ROWS_MAX} more")


def _shown(row: Mapping[str, Any] | None) -> str:
    return "no row" if row is None else ", ".join(f"{name}={value!r}" for name, value in row.items())
