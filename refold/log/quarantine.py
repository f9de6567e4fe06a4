"""Quarantine: the landing records that could not become events, kept whole, listed, and tried again on request.

A retry decodes the raw bytes under the declaration of today. Those that now read as events are written as one
object below `retries/<log>/`, which the next snapshot takes in like a landing object, so a record keeps its
history: quarantined once, an event later, never both at one position.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from refold.errors import UnreadableObject
from refold.landing.decoder import BadRecord
from refold.log.declaration import Log
from refold.log.segment import from_parquet, to_parquet
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.content import StoredObject, put_content
from refold.storage.names import ObjectKind, folder_of, is_retry, name_of, parts_of, places_of
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex

_SCHEMA = pa.schema(
    [
        pa.field("object", pa.string(), False),
        pa.field("line", pa.int64(), False),
        pa.field("reason", pa.string(), False),
        pa.field("detail", pa.string(), False),
        pa.field("raw", pa.binary(), False),
    ]
)


@dataclass(frozen=True)
class Quarantined:
    """One quarantined record: the snapshot it was read for, its landing object, and what was wrong."""

    snapshot: str
    log: str
    object: str
    record: BadRecord


def write_quarantine(objects: ObjectStore, log: Log, bad: Sequence[tuple[str, BadRecord]]) -> StoredObject | None:
    """Store bad records as (landing object, record), in order; None where there are none."""
    return put_content(objects, ObjectKind.QUARANTINE, quarantine_bytes(bad), log=log.name) if bad else None


def quarantine_bytes(bad: Sequence[tuple[str, BadRecord]]) -> bytes:
    """The object that holds bad records."""
    rows = [{"object": name, "line": r.number, "reason": r.reason, "detail": r.detail, "raw": r.raw} for name, r in bad]
    return to_parquet(pa.Table.from_pylist(rows, schema=_SCHEMA))


def read_quarantine(objects: ObjectStore, chain: SnapshotChain, log: Log, snapshot: Snapshot) -> list[Quarantined]:
    """The quarantined records of one log's part of a snapshot, by object and line. Raises Damaged."""
    stored = chain.layout(snapshot, log.name).quarantine
    if stored is None:
        return []
    table = from_parquet(objects.get_checked(stored.name, stored.sha256), stored.name)
    return [
        Quarantined(snapshot.key, log.name, row.pop("object"), BadRecord(row.pop("line"), **row))
        for row in table.to_pylist()
    ]


def retry_quarantine(objects: ObjectStore, chain: SnapshotChain, log: Log) -> tuple[list[Quarantined], str | None]:
    """Decode all quarantined records of a log again; those that read now enter the next snapshot.

    Returns the records that will, and the name of the object that carries them (None where there are none).
    A rerun offers no record twice. Raises Damaged where a quarantine object cannot be read.
    """
    taken = {tuple(place) for name in retry_objects(objects, log) for place in objects.get_json(places_of(name))}
    readable = []
    for snapshot in chain:
        for item in read_quarantine(objects, chain, log, snapshot):
            is_new = (item.object, item.record.number) not in taken and not is_retry(item.object)
            if is_new and _is_readable(log, item.record.raw):
                readable.append(item)
    if not readable:
        return [], None
    data = log.decoder.encode([item.record.raw for item in readable])
    places = canonical_json([[item.object, item.record.number] for item in readable])
    # Named after the places too: equal records of two days are two records, and each is retried.
    own = {"log": log.name, "sha256": sha256_hex(places + data), "suffix": _suffix(log)}
    name = name_of(ObjectKind.RETRY, **own)
    objects.put(name_of(ObjectKind.RETRY_PLACES, **own), places)
    objects.create(name, data)  # whole or not there, since landing reads it
    return readable, name


def _suffix(log: Log) -> str:
    return log.decoder.suffixes[0]


def _is_readable(log: Log, raw: bytes) -> bool:
    """Whether the bytes of a quarantined record are events now, and nothing else."""
    try:
        decoded = log.decoder.decode("retry" + _suffix(log), log.decoder.encode([raw]), log.columns, log.key_columns)
    except UnreadableObject:  # bytes that make an object unreadable if it begins with them
        return False
    one = not log.by_place or len(set(decoded.lines.tolist())) == 1  # else it is not known which has the place
    return len(decoded.rows) == decoded.read > 0 and one


def retried_records(objects: ObjectStore, chain: SnapshotChain, log: Log, places: bytes) -> bytes | None:
    """The records of a retry, made again of quarantine; None where `places`, its other object, names none there.

    Raises Damaged where a quarantine object cannot be read.
    """
    raw = {
        (item.object, item.record.number): item.record.raw
        for snapshot in chain
        for item in read_quarantine(objects, chain, log, snapshot)
    }
    try:
        return log.decoder.encode([raw[(name, number)] for name, number in json.loads(places)])
    except (ValueError, TypeError, KeyError):
        return None


def retry_objects(objects: ObjectStore, log: Log) -> list[str]:
    """The names of all objects that retries of a log have written, sorted; what is not named like one is none."""
    suffix, infos = _suffix(log), objects.list(folder_of(ObjectKind.RETRY, log=log.name))
    return [info.name for info in infos if parts_of(ObjectKind.RETRY, info.name).get("suffix") == suffix]
