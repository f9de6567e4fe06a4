"""Thinning: decides which checkpoints keep their rows as history grows, and drops the rows of the others.

The checkpoint of the snapshot with ordinal `o` keeps its rows until it is 16 × 2^z snapshots older than the newest,
where 2^z is the largest power of two that divides `o`; the first and the newest always keep theirs. So the recent past
is whole, the distance between checkpoints doubles with age, n snapshots keep about 16 + 8 log2(n / 16) of them, and
what was dropped once would never be kept again. The checkpoints of other code versions keep their rows for an age.

A thinned checkpoint keeps its digests and its ledger part, so proofs, expectations and explanations stay valid, and a
fold from an earlier one restores its rows. Thinning writes the record again without the rows. `refold.repair.garbage`
then removes the objects that no record names.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from refold.errors import Damaged
from refold.log.snapshot import SnapshotChain
from refold.storage.names import ObjectKind, folder_of, parts_of
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord, record_name
from refold.stores.declaration import Store

RECENT = 16


def keeps_rows(ordinal: int, newest: int) -> bool:
    """Whether the checkpoint of the snapshot with an ordinal keeps its rows when another is the newest.

    >>> [ordinal for ordinal in range(101) if not keeps_rows(ordinal, 50)][:12]
    [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15]
    >>> [sum(keeps_rows(ordinal, newest) for ordinal in range(newest)) for newest in (100, 365, 3650)]
    [36, 51, 78]
    """
    return ordinal == 0 or newest - ordinal < RECENT * (ordinal & -ordinal)


@dataclass(frozen=True)
class Thinning:
    """A checkpoint whose rows are to be dropped, and why, for people."""

    record: StateRecord
    why: str


class Thinner:
    """Plans and does the thinning of a project's checkpoints."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, builder: Builder, stores: Sequence[Store]) -> None:
        self._objects = objects
        self._chain = chain
        self._builder = builder
        self._stores = stores

    def plan(self, before: dt.datetime) -> list[Thinning]:
        """The checkpoints to thin, by store and snapshot; those of other code versions if written `before` (aware).

        Reads only. Records that cannot be read are left alone.
        """
        found = [each for store in self._stores for each in (*self._too_dense(store), *self._superseded(store, before))]
        known = {_name(each.record) for each in found}
        return [*found, *(each for each in self._before_erasure() if _name(each.record) not in known)]

    def _before_erasure(self) -> Iterator[Thinning]:
        """Unthinned checkpoints of former declarations and snapshots, which may hold what was erased."""
        erased = next((each for each in reversed(self._chain.redactions) if each.erased), None)
        if erased is None:
            return
        current = {_name(record) for store in self._stores for record in self._records(store)}
        for info in self._objects.list(folder_of(ObjectKind.STATE_RECORD)):
            if parts_of(ObjectKind.STATE_RECORD, info.name) and info.name not in current:
                with suppress(Damaged):
                    record = self._builder.checkpoints.read(info.name)
                    if record is not None and not record.thinned:
                        yield Thinning(record, f"may hold what redaction {erased.number} erased")

    def _records(self, store: Store) -> Iterator[StateRecord]:
        for snapshot in self._chain:
            with suppress(Damaged):
                record = self._builder.find(store, snapshot)
                if record is not None:
                    yield record

    def _too_dense(self, store: Store) -> list[Thinning]:
        """The thinnable checkpoints of today's code version; one of several snapshots stays if one of them does."""
        found: dict[str, StateRecord] = {}
        kept, last = set(), ""
        newest = len(self._chain) - 1
        for snapshot in self._chain:
            try:
                record = self._builder.find(store, snapshot)
            except Damaged:
                continue
            if record is not None:
                found[record.inputs] = record
                last = record.inputs
                if keeps_rows(snapshot.ordinal, newest):
                    kept.add(record.inputs)
        why = f"the distance between checkpoints grows beyond the newest {RECENT} snapshots"
        return [Thinning(r, why) for r in found.values() if not r.thinned and r.inputs not in {*kept, last}]

    def _superseded(self, store: Store, before: dt.datetime) -> list[Thinning]:
        """The thinnable checkpoints of other code versions."""
        found = []
        for info in self._objects.list(folder_of(ObjectKind.STATE_RECORD, store=store.name)):
            version = parts_of(ObjectKind.STATE_RECORD, info.name).get("code_version", store.code_version)
            if version == store.code_version:
                continue
            if info.modified_at is not None and info.modified_at < before:
                try:
                    record = self._builder.checkpoints.read(info.name)
                except Damaged:
                    continue
                if record is not None and not record.thinned:
                    found.append(Thinning(record, f"of code version {record.code_version}, before the kept age"))
        return found

    def apply(self, plan: Sequence[Thinning]) -> int:
        """Write the planned records again without rows; returns how many. A rerun changes nothing."""
        for each in plan:
            self._builder.checkpoints.thin(each.record)
        return len(plan)


def _name(record: StateRecord) -> str:
    return record_name(record.store, record.code_version, record.inputs)
