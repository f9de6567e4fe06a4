"""Mending: making damaged objects again, where the log and what is proven allow it.

Repeated ids and seen ids follow from the segments, retries from quarantine, states and ledger parts from the log,
proofs and expectations from being checked again. Manifests, layouts, segments, quarantine and releases follow from
nothing: they must come back from a copy. What is made again is the same object, or, where another library writes other
bytes, one that a new layout names. `refold.repair.object_audit` finds the damage; sinks are mended by
`refold.repair.sink_audit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from refold.base.memory import limit_bytes
from refold.dedup.rereader import Rereader
from refold.engine import Engine
from refold.errors import Damaged, NotFound, RefoldError, Unproven
from refold.log.declaration import Log
from refold.log.layout import LogLayout
from refold.log.quarantine import retried_records
from refold.log.reader import LogReader
from refold.log.segment import to_parquet
from refold.log.snapshot import Snapshot
from refold.proof.records import claim_folder
from refold.release.publisher import expectations_name
from refold.repair.object_audit import Damage, damage_at_rest
from refold.seal.seen_index import newest_seen, seen_index
from refold.storage.content import StoredObject
from refold.storage.objects import sha256_hex
from refold.stores.checkpoint import StateRecord, record_name
from refold.stores.declaration import Store

_STATES = ("state record", "rows", "changes", "ledger part")


def mend_at_rest(engine: Engine, damages: Sequence[Damage]) -> list[Damage]:
    """Make again what can be made; returns what is still damaged. A rerun changes nothing.

    Works with an engine of its own, since one that has read a damaged record keeps it; open another one afterwards.
    """
    for step in (_mend_log, _mend_retries, _mend_states, _mend_proofs, _mend_expectations):
        step(Engine(engine.project, engine.settings), damages)
    return damage_at_rest(Engine(engine.project, engine.settings)) if damages else []


def _names(damages: Sequence[Damage], *kinds: str) -> set[str]:
    return {damage.name for damage in damages if damage.kind in kinds}


def _mend_log(engine: Engine, damages: Sequence[Damage]) -> None:
    for name in _names(damages, "content check"):
        engine.objects.delete(name)  # the next replay compares again
    names = _names(damages, "repeats", "seen ids")
    if not names or _names(damages, "segment", "layout"):
        return  # both are made of the segments
    for log in engine.project.logs:
        for snapshot in engine.chain:
            layout = engine.chain.layout(snapshot, log.name)
            if layout.repeats is not None and layout.repeats.name in names:
                repeats = _put(engine, layout.repeats, _repeats(engine, log, snapshot))
                _replace(engine, log, snapshot, replace(layout, repeats=repeats))
        newest, seen = newest_seen(engine.chain, log.name)
        if newest is not None and names & {file.name for file in seen}:
            index = seen_index(LogReader(engine.objects, engine.chain, log), engine.chain)
            layout = engine.chain.layout(newest, log.name)
            _replace(engine, log, newest, replace(layout, seen=index.store(engine.objects, log.name)))


def _replace(engine: Engine, log: Log, snapshot: Snapshot, layout: LogLayout) -> None:
    before = {name: engine.chain.layout(snapshot, name) for name in snapshot.logs}
    if before[log.name] != layout:
        engine.chain.replace_layout(snapshot, before | {log.name: layout})


def _put(engine: Engine, stored: StoredObject, table: pa.Table) -> StoredObject:
    data = to_parquet(table)
    sha256 = sha256_hex(data)
    made = StoredObject(f"{stored.name.rpartition('/')[0]}/{sha256[:32]}.parquet", sha256)
    engine.objects.put(made.name, data)
    return made


def _repeats(engine: Engine, log: Log, snapshot: Snapshot) -> pa.Table:
    """The deliveries of a snapshot that are no first ones, found from all ids."""
    reader, before = LogReader(engine.objects, engine.chain, log), engine.chain.through(snapshot.key)
    memory = limit_bytes(engine.settings.memory_limit_mb) // 4
    again = Rereader(engine.objects, engine.chain, reader, before, [], memory)
    return [again.repeats(each) for each in before][-1]


def _mend_retries(engine: Engine, damages: Sequence[Damage]) -> None:
    for log in engine.project.logs:
        for name in sorted(_names(damages, "retry")):
            if name.startswith(f"retries/{log.name}/"):
                data = _retried(engine, log, name)
                if data is not None:
                    engine.objects.put(name, data)


def _retried(engine: Engine, log: Log, name: str) -> bytes | None:
    """The records of a retry, from quarantine and their places; None where those do not give them."""
    try:
        places = engine.objects.get(f"{name}.places")
        data = retried_records(engine.objects, engine.chain, log, places)
    except (Damaged, NotFound):
        return None
    stem = name.rpartition("/")[2].partition(".")[0]
    return data if data is not None and sha256_hex(places + data).startswith(stem) else None


def _mend_states(engine: Engine, damages: Sequence[Damage]) -> None:
    names = _names(damages, *_STATES)
    stores = [store for store in engine.project.in_order if any(n.startswith(f"states/{store.name}/") for n in names)]
    for store in stores:
        wanted = _unsound(engine, store, names)
        for name in names:
            if name.startswith(f"states/{store.name}/{store.code_version}/"):
                engine.objects.delete(name)
        engine = Engine(engine.project, engine.settings)
        if not wanted:
            continue
        if store.ledger is not None:
            for _ in engine.builder.fold_history([store.ledger.store], wanted[-1]):
                pass
        else:
            for snapshot in wanted:
                engine.build(store, snapshot)
    _remove_strange_proofs(engine, names)


def _unsound(engine: Engine, store: Store, names: set[str]) -> list[Snapshot]:
    """The snapshots at which a store's record, or an object of it, is among damaged names, oldest first."""
    found = []
    for snapshot in engine.chain:
        try:
            inputs = engine.builder.inputs(store, snapshot)
            record = engine.builder.checkpoints.find(store, inputs)
        except Unproven:
            continue
        except Damaged:
            found.append(snapshot)
            continue
        objects = {stored.name for stored in record.objects} if record is not None else set()
        if names & {record_name(store.name, store.code_version, inputs), *objects}:
            found.append(snapshot)
    return found


def _remove_strange_proofs(engine: Engine, names: set[str]) -> None:
    """Remove proofs of records that are not there and cannot be built, unless a release names them."""
    try:
        releases = list(engine.releaser.pointer.newest_first()) if names else []
    except RefoldError:
        return  # which proofs a damaged release names is not known
    named = {proof for release in releases for proof in release.proofs.values()}
    for store in engine.project.in_order:
        for info in engine.objects.list(f"proofs/{store.name}"):
            proof = engine.prover.proofs.standing(info.name)
            if proof is None or proof.code_version != store.code_version or info.name in named:
                continue
            record = record_name(proof.store, proof.code_version, proof.inputs)
            if record in names and not engine.objects.exists(record):
                engine.objects.delete(info.name)


def _mend_proofs(engine: Engine, damages: Sequence[Damage]) -> None:
    names = _names(damages, "proof")
    folders = {name.rpartition("/")[0] for name in names}
    for store, snapshot, record in _records(engine, {name.split("/")[1] for name in names}):
        folder = claim_folder(record.claim)
        if folder in folders:
            folders.remove(folder)
            for name in names:
                if name.startswith(f"{folder}/"):
                    engine.objects.delete(name)
            engine.prover.prove(store, snapshot)


def _mend_expectations(engine: Engine, damages: Sequence[Damage]) -> None:
    names = _names(damages, "expectations")
    for store, snapshot, record in _records(engine, {name.split("/")[1] for name in names}):
        name = expectations_name(store, engine.publisher.version(snapshot, record))
        if name in names:
            names.remove(name)
            engine.objects.delete(name)
            try:
                engine.publisher.check_expectations(store, snapshot)
            except NotFound:
                continue  # no sink holds that version any more, so nothing rests on the record


def _records(engine: Engine, stores: set[str]) -> Iterator[tuple[Store, Snapshot, StateRecord]]:
    """What is built of stores, in the order of what reads what."""
    for store in engine.project.in_order:
        for snapshot in engine.chain if store.name in stores else ():
            try:
                record = engine.builder.find(store, snapshot)
            except (Damaged, Unproven):
                continue
            if record is not None:
                yield store, snapshot, record
