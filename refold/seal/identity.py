"""Key and event id of a sealed log, as far as what is sealed shows them; a declaration of others is refused.

A manifest has the columns of a log, and for how many snapshots it remembered ids. It does not say which columns are key
and event id, but what follows from these two is sealed: the seen index holds the hashes of the ids, and log partitions
follow from keys where landing names none. So a few events of a sealed segment show whether the declaration is still the
one by which they were sealed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.encoding import Hashes, as_one, kafka_partitions
from refold.dedup.deliveries import SeenRun, remembered_from
from refold.errors import Damaged, NotFound
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.snapshot import SnapshotChain
from refold.seal.seen_index import SeenIndex, newest_seen
from refold.storage.objects import ObjectStore
from refold.types import ColumnKind

EVENTS = 1000
"""How many events are looked at; two declarations that agree on all of them are taken for the same."""

_KINDS = (ColumnKind.TEXT, ColumnKind.INT64, ColumnKind.BINARY)


def faults_of_identity(objects: ObjectStore, chain: SnapshotChain, log: Log) -> list[str]:
    """What shows that a sealed log had another key, event id or `repeats_within`; empty where nothing does."""
    within = chain.head.cut(log.name).repeats_within if chain.head else log.repeats_within
    if within != log.repeats_within:
        return [f"it was sealed with repeats_within={within} and is declared with repeats_within={log.repeats_within}"]
    _, seen = newest_seen(chain, log.name)
    snapshot = next((each for each in reversed(list(chain)) if each.cut(log.name).events), None)
    if snapshot is None or not seen or snapshot.excluded(log.name):  # an erased key is in another log partition
        return []
    reader = LogReader(objects, chain, log)
    try:
        files = sorted(reader.files(snapshot), key=lambda file: abs(file.last - file.first - EVENTS))
        since = remembered_from(log, list(chain), snapshot.ordinal)
        index = SeenIndex.open(objects, seen, snapshot.cut(log.name).seq_end, since)
        return [*_faults_of_key(reader, files), *_faults_of_ids(reader, files[0], index)]
    except (Damaged, NotFound):
        return []  # what reads the log says so; a seen index is computed again


def _faults_of_key(reader: LogReader, files: Sequence[SegmentFile]) -> list[str]:
    log = reader.log
    if _follows(reader, files[0], log.key_columns):
        return []
    names = [name for name in _candidates(log) if all(_follows(reader, file, (name,)) for file in files)]
    return [f"it was sealed with {_named('key', names)} and is declared with key={_shown(log.key_columns)}"]


def _follows(reader: LogReader, file: SegmentFile, columns: Sequence[str]) -> bool:
    """Whether events of a segment are in the log partition that follows from a key, where landing names none."""
    log = reader.log
    events = reader.segment(file, list(dict.fromkeys(["source_object", *columns]))).slice(0, EVENTS)
    slots = {name: log.slot_of(name) for name in events["source_object"].unique().to_pylist()}
    free = pa.array([name for name, slot in slots.items() if slot is None or slot.partition is None], pa.string())
    events = events.filter(pc.is_in(events["source_object"], free))
    keys = as_one([events[name] for name in columns])
    keys = keys.cast(pa.string()) if pa.types.is_integer(keys.type) else keys
    return bool((kafka_partitions(keys, log.partitions) == file.partition).all())


def _faults_of_ids(reader: LogReader, file: SegmentFile, index: SeenIndex) -> list[str]:
    log = reader.log
    if _are_seen(reader, file, index, log.id_columns):
        return []
    names = [name for name in _candidates(log) if _are_seen(reader, file, index, (name,))]
    declared = "PLACE" if log.by_place else _shown(log.id_columns)
    return [f"it was sealed with {_named('event_id', names)} and is declared with event_id={declared}"]


def _are_seen(reader: LogReader, file: SegmentFile, index: SeenIndex, columns: Sequence[str]) -> bool:
    """Whether the seen index has the ids of events of a segment, if these columns are their ids."""
    events = reader.segment(file, list(columns)).slice(0, EVENTS)
    hashes: Hashes = event_ids.hashes_of(events, columns)
    places, _ = index.candidates(SeenRun(hashes, hashes, np.arange(len(hashes))))
    return len(np.unique(places)) == len(hashes)


def _candidates(log: Log) -> list[str]:
    """The columns that may be a key or an event id alone."""
    return [name for name, column in log.columns.items() if column.kind in _KINDS and not column.null]


def _shown(columns: Sequence[str]) -> str:
    return repr(columns[0]) if len(columns) == 1 else repr(tuple(columns))


def _named(role: str, names: Sequence[str]) -> str:
    """A key or event id that was sealed: the columns that fit what is sealed, or that it was another one."""
    return f"{role}={' or '.join(map(repr, names))}" if names else f"another {role}"
