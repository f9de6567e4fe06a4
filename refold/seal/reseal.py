"""Sealing again what a snapshot took from landing, for a segment or quarantine that was damaged.

Everything comes from the landing objects that the manifest names, as long as landing holds them with the same bytes.
The manifest says what must come out: the content of every log partition.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from refold.errors import Damaged
from refold.landing.listing import LandingObject
from refold.log.declaration import Log
from refold.log.layout import SegmentFile
from refold.log.quarantine import quarantine_bytes
from refold.log.segment import write_segment
from refold.log.snapshot import LogCut, SealedObject, Snapshot
from refold.seal.decoding import DecodedObject, Decoding, Take
from refold.seal.new_events import NewEvents
from refold.storage.content import StoredObject
from refold.storage.names import is_retry
from refold.storage.objects import ObjectInfo, ObjectStore, sha256_hex

_MEMORY_BYTES = 256 << 20
_READ_DIFFERENTLY = (
    "The landing objects of log {!r} are those that were sealed, but they give other {} now: the declaration, the "
    "decoder or a library has changed."
)


class Resealing:
    """Seals parts of one log's snapshots again; nothing is stored that is not what the manifest says.

    Args:
        landing: where the sealed objects were.
        objects: where the log is.
    """

    def __init__(self, landing: ObjectStore, objects: ObjectStore, log: Log) -> None:
        self._landing = landing
        self._objects = objects
        self._log = log

    def segment(self, placed: Sequence[tuple[Snapshot, SegmentFile]]) -> SegmentFile:
        """Store the events of a segment again, which holds a range of each of some snapshots, oldest first.

        Raises Damaged where landing no longer gives them, and NotFound where it no longer has an object.
        """
        events, sealed = [], self._log
        for snapshot, file in placed:
            cut = snapshot.cut(self._log.name)
            sealed = self._log.as_sealed(cut.schema)
            mine = pa.concat_tables(self._events(cut, sealed).tables(file.partition))
            events.append(mine.slice(file.start - cut.starts[file.partition], file.end - file.start))
        found = pa.concat_tables(events, promote_options="permissive").select(sealed.schema.names).cast(sealed.schema)
        return write_segment(self._objects, sealed, placed[0][1].partition, found)

    def quarantine(self, snapshot: Snapshot, stored: StoredObject) -> None:
        """Store the quarantined records of a snapshot again. Raises as `segment` does."""
        cut = snapshot.cut(self._log.name)
        decoded = self._decoded(cut, self._log.as_sealed(cut.schema), lambda *_: None)
        data = quarantine_bytes([(d.item.name, bad) for d in decoded for bad in d.bad])
        if sha256_hex(data) != stored.sha256:
            raise Damaged(_READ_DIFFERENTLY.format(self._log.name, "quarantined records"))
        self._objects.put(stored.name, data)

    def _events(self, cut: LogCut, sealed: Log) -> NewEvents:
        found = NewEvents(sealed, cut.starts, cut.seq_start, _MEMORY_BYTES)
        self._decoded(cut, sealed, found.add)
        if found.content != list(cut.content):
            raise Damaged(_READ_DIFFERENTLY.format(self._log.name, "events"))
        return found

    def _decoded(self, cut: LogCut, sealed: Log, take: Take) -> list[DecodedObject]:
        decoding = Decoding(self._landing, self._objects, sealed, listed=False)
        try:
            found = list(decoding.decode([item_of(self._log, each) for each in cut.objects], take))
        finally:
            decoding.close()
        changed = [s.name for s, d in zip(cut.objects, found, strict=True) if s.sha256 != d.sha256]
        if changed:
            raise Damaged(f"Landing objects have other bytes than when they were sealed: {', '.join(changed)}.")
        return found


def item_of(log: Log, sealed: SealedObject) -> LandingObject:
    """A sealed object as landing or a retry has it. Raises Damaged where the log's layout no longer takes its name."""
    info = ObjectInfo(sealed.name, sealed.size_bytes, "")
    if is_retry(sealed.name):
        return LandingObject(info, "", None)
    slot = log.slot_of(sealed.name)
    if slot is None:
        raise Damaged(f"The layout of log {log.name!r} no longer takes the sealed object {sealed.name}.")
    return LandingObject(info, *slot)
