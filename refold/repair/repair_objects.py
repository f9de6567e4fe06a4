"""The repair of stored objects: damaged ones are made again, where the log and what is proven allow it.

Segments and quarantine follow from landing, where that still holds the sealed objects; repeated ids and seen ids from
the segments, retries from quarantine, states and ledger parts from the log, proofs and expectations from being checked
again. Manifests, layouts and releases follow from nothing: they must be restored from a copy. What is made again is the
same object, or, where another library writes other bytes, one that a new layout names. `refold.repair.object_audit`
finds the damage; sinks are repaired by `refold.repair.sink_audit`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from refold.base.memory import limit_bytes
from refold.config import Settings
from refold.dedup.rereader import Rereader
from refold.errors import Damaged, NotFound, RefoldError, Unproven, UnreadableObject
from refold.log.declaration import Log
from refold.log.layout import LogLayout, SegmentFile
from refold.log.quarantine import retried_records
from refold.log.reader import LogReader
from refold.log.segment import to_parquet
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.project import Project
from refold.proof.prover import Prover
from refold.proof.records import claim_folder
from refold.release.publisher import Publisher, expectations_name
from refold.release.releaser import Releaser
from refold.repair.damage import Damage
from refold.repair.object_audit import audit_objects
from refold.seal.reseal import Resealing
from refold.seal.seen_again import seen_index
from refold.seal.seen_index import newest_seen
from refold.storage.content import StoredObject, put_content
from refold.storage.names import ObjectKind, folder_of, parts_of, places_of
from refold.storage.objects import ObjectStore, sha256_hex
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord, record_name
from refold.stores.declaration import Store


class Opened(Protocol):
    """What repairing needs of a project at work, such as an engine that has read nothing yet."""

    project: Project
    settings: Settings
    objects: ObjectStore
    chain: SnapshotChain
    builder: Builder
    prover: Prover

    def landing(self) -> ObjectStore:
        """Landing, opened now."""

    @property
    def publisher(self) -> Publisher:
        """Publishing to sinks."""

    @property
    def releaser(self) -> Releaser:
        """The pointer to what is served."""


_log = logging.getLogger("refold")

OpenAgain = Callable[[], Opened]
"""Opens a project that has read nothing yet; one that has read a damaged record keeps it."""

Mender = Callable[[OpenAgain, set[str]], None]
"""Makes the named objects again, as far as it can."""


def repair_objects(open_again: OpenAgain, damages: Sequence[Damage]) -> list[Damage]:
    """Make again what can be made; returns what is still damaged. A rerun changes nothing."""
    if sealed := {damage.name for damage in damages if damage.kind in _FROM_LANDING}:
        _seal_again(open_again, sealed)
        damages = _audited(open_again())
    damaged = {damage.kind for damage in damages}
    for mender in dict.fromkeys(MENDERS.values()):
        names = {damage.name for damage in damages if MENDERS.get(damage.kind) is mender}
        if names and not damaged & _NEEDED.get(mender, frozenset()):
            mender(open_again, names)
    return _audited(open_again()) if damages else []


def _audited(opened: Opened) -> list[Damage]:
    return audit_objects(opened.project, opened.objects, opened.chain, opened.releaser.pointer, opened.prover.proofs)


_FROM_LANDING = (ObjectKind.SEGMENT, ObjectKind.QUARANTINE)


def _seal_again(open_again: OpenAgain, names: set[str]) -> None:
    """Store segments and quarantine again from landing; a warning says why where that is not possible."""
    opened = open_again()
    for log in opened.project.logs:
        placed: dict[str, list[tuple[Snapshot, SegmentFile]]] = {}
        for snapshot in opened.chain:
            layout = opened.chain.layout(snapshot, log.name)
            for file in layout.segments:
                placed.setdefault(file.name, []).append((snapshot, file))
            if layout.quarantine is not None and layout.quarantine.name in names:
                with _warned(layout.quarantine.name):
                    Resealing(opened.landing(), opened.objects, log).quarantine(snapshot, layout.quarantine)
        for name in sorted(names & placed.keys()):
            with _warned(name):
                found = Resealing(opened.landing(), opened.objects, log).segment(placed[name])
                _place(opened.chain, log, placed[name], found)


@contextmanager
def _warned(name: str) -> Iterator[None]:
    try:
        yield
    except (Damaged, NotFound, UnreadableObject) as error:
        _log.warning("%s cannot be sealed again from landing. %s", name, error)


def _place(chain: SnapshotChain, log: Log, placed: Sequence[tuple[Snapshot, SegmentFile]], found: SegmentFile) -> None:
    """Let the layouts name a segment in place of one of the same events."""
    for snapshot, file in placed:
        layout = chain.layout(snapshot, log.name)
        mine = replace(found, start=file.start, end=file.end)
        _replace(chain, log, snapshot, replace(layout, segments=[mine if f == file else f for f in layout.segments]))


def _remove(open_again: OpenAgain, names: set[str]) -> None:
    objects = open_again().objects
    for name in names:
        objects.delete(name)


def _mend_repeats(open_again: OpenAgain, names: set[str]) -> None:
    opened = open_again()
    for log in opened.project.logs:
        for snapshot in opened.chain:
            layout = opened.chain.layout(snapshot, log.name)
            if layout.repeats is not None and layout.repeats.name in names:
                _replace(opened.chain, log, snapshot, replace(layout, repeats=_repeats(opened, log, snapshot)))


def _repeats(opened: Opened, log: Log, snapshot: Snapshot) -> StoredObject:
    """The repeated deliveries of a snapshot, found from all ids and stored."""
    reader, before = LogReader(opened.objects, opened.chain, log), opened.chain.through(snapshot.key)
    memory = limit_bytes(opened.settings.memory_limit_mb) // 4
    again = Rereader(opened.objects, opened.chain, reader, before, [], memory)
    found = [again.repeats(each) for each in before][-1]
    return put_content(opened.objects, ObjectKind.REPEATS, to_parquet(found), log=log.name)


def _mend_seen_ids(open_again: OpenAgain, names: set[str]) -> None:
    opened = open_again()
    for log in opened.project.logs:
        newest, seen = newest_seen(opened.chain, log.name)
        if newest is not None and names & {file.name for file in seen}:
            index = seen_index(LogReader(opened.objects, opened.chain, log), opened.chain)
            layout = opened.chain.layout(newest, log.name)
            _replace(opened.chain, log, newest, replace(layout, seen=index.store(opened.objects, log.name)))


def _replace(chain: SnapshotChain, log: Log, snapshot: Snapshot, layout: LogLayout) -> None:
    before = {name: chain.layout(snapshot, name) for name in snapshot.logs}
    if before[log.name] != layout:
        chain.replace_layout(snapshot, before | {log.name: layout})


def _mend_retries(open_again: OpenAgain, names: set[str]) -> None:
    opened = open_again()
    logs = {log.name: log for log in opened.project.logs}
    for name in sorted(names):
        parts = parts_of(ObjectKind.RETRY, name)
        data = _retried(opened, logs[parts["log"]], name) if parts["log"] in logs else None
        if data is not None:
            opened.objects.put(name, data)


def _retried(opened: Opened, log: Log, name: str) -> bytes | None:
    """The records of a retry, from quarantine and their places; None where those do not give them."""
    try:
        places = opened.objects.get(places_of(name))
        data = retried_records(opened.objects, opened.chain, log, places)
    except (Damaged, NotFound):
        return None
    sha256 = parts_of(ObjectKind.RETRY, name)["sha256"]
    return data if data is not None and sha256_hex(places + data).startswith(sha256) else None


def _mend_states(open_again: OpenAgain, names: set[str]) -> None:
    for store in open_again().project.in_order:
        folder = folder_of(ObjectKind.STATE_RECORD, store=store.name)
        if any(name.startswith(f"{folder}/") for name in names):
            _mend_state(open_again, store, names)
    _remove_strange_proofs(open_again(), names)


def _mend_state(open_again: OpenAgain, store: Store, names: set[str]) -> None:
    """Remove the damaged records of a store and build it again where they were, or where an object of them was."""
    opened = open_again()
    wanted = _unsound(opened, store, names)
    for name in names:
        parts = parts_of(ObjectKind.STATE_RECORD, name)
        if (parts.get("store"), parts.get("code_version")) == (store.name, store.code_version):
            opened.objects.delete(name)
    builder = open_again().builder
    if wanted and store.ledger is not None:
        for _ in builder.fold_history([store.ledger.store], wanted[-1]):
            pass
    elif wanted:
        for snapshot in wanted:
            builder.build(store, snapshot)


def _unsound(opened: Opened, store: Store, names: set[str]) -> list[Snapshot]:
    """The snapshots at which a store's record, or an object of it, is among damaged names, oldest first."""
    found = []
    for snapshot in opened.chain:
        try:
            inputs = opened.builder.inputs(store, snapshot)
            record = opened.builder.checkpoints.find(store, inputs)
        except Unproven:
            continue
        except Damaged:
            found.append(snapshot)
            continue
        objects = {stored.name for stored in record.objects} if record is not None else set()
        if names & {record_name(store.name, store.code_version, inputs), *objects}:
            found.append(snapshot)
    return found


def _remove_strange_proofs(opened: Opened, names: set[str]) -> None:
    """Remove proofs of records that are not there and cannot be built, unless a release names them."""
    try:
        releases = list(opened.releaser.pointer.newest_first())
    except RefoldError:
        return  # which proofs a damaged release names is not known
    named = {proof for release in releases for proof in release.proofs.values()}
    for store in opened.project.in_order:
        for info in opened.objects.list(folder_of(ObjectKind.PROOF, store=store.name)):
            proof = opened.prover.proofs.standing(info.name)
            if proof is None or proof.code_version != store.code_version or info.name in named:
                continue
            record = record_name(proof.store, proof.code_version, proof.inputs)
            if record in names and not opened.objects.exists(record):
                opened.objects.delete(info.name)


def _mend_proofs(open_again: OpenAgain, names: set[str]) -> None:
    opened = open_again()
    folders = {name.rpartition("/")[0] for name in names}
    for store, snapshot, record in _records(opened, {parts_of(ObjectKind.PROOF, name).get("store") for name in names}):
        folder = claim_folder(record.claim)
        if folder in folders:
            folders.remove(folder)
            for name in names:
                if name.startswith(f"{folder}/"):
                    opened.objects.delete(name)
            opened.prover.prove(store, snapshot)


def _mend_expectations(open_again: OpenAgain, names: set[str]) -> None:
    opened, left = open_again(), set(names)
    stores = {parts_of(ObjectKind.EXPECTATIONS, name).get("store") for name in names}
    for store, snapshot, record in _records(opened, stores):
        name = expectations_name(store, opened.publisher.version(snapshot, record))
        if name in left:
            left.remove(name)
            opened.objects.delete(name)
            try:
                opened.publisher.check_expectations(store, snapshot)
            except NotFound:
                continue  # no sink holds that version any more, so nothing rests on the record


def _records(opened: Opened, stores: Collection[str | None]) -> Iterator[tuple[Store, Snapshot, StateRecord]]:
    """What is built of stores, in the order of what reads what."""
    for store in opened.project.in_order:
        for snapshot in opened.chain if store.name in stores else ():
            try:
                record = opened.builder.find(store, snapshot)
            except (Damaged, Unproven):
                continue
            if record is not None:
                yield store, snapshot, record


MENDERS: Mapping[ObjectKind, Mender] = {
    ObjectKind.CONTENT_CHECK: _remove,
    ObjectKind.PARTIALS: _remove,
    ObjectKind.REPEATS: _mend_repeats,
    ObjectKind.SEEN_IDS: _mend_seen_ids,
    ObjectKind.RETRY: _mend_retries,
    ObjectKind.STATE_RECORD: _mend_states,
    ObjectKind.ROWS: _mend_states,
    ObjectKind.CHANGES: _mend_states,
    ObjectKind.LEDGER_PART: _mend_states,
    ObjectKind.PROOF: _mend_proofs,
    ObjectKind.EXPECTATIONS: _mend_expectations,
}
"""What repairs each kind, in the order of dependence; other kinds must be restored from a copy."""

_NEEDED: Mapping[Mender, Set[ObjectKind]] = {
    _mend_repeats: {ObjectKind.SEGMENT, ObjectKind.LAYOUT},
    _mend_seen_ids: {ObjectKind.SEGMENT, ObjectKind.LAYOUT},
}
"""The kinds that a mender makes its own of, and that must be sound for it."""
