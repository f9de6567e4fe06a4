"""Whether the events of a snapshot are those that were sealed, and its repeats what was recorded of them.

To encode and hash all of a snapshot's events takes longer than to fold them. So once their canonical bytes were found
to have the manifest's digests, and every repeat was compared with its first delivery, that is remembered together with
exactly what was looked at: the segments of the layout, with the hash of each column, and the recorded repeats. Reading
checks those hashes every time, so the same segments hold the same events. Other segments or repeats, or a damaged
memory, and all is looked at again. What a log's manifests and segments say of each other without any memory is
`refold.log.verify`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict

import pyarrow as pa

from refold.dedup.deliveries import REPEATS
from refold.errors import Damaged
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex
from refold.storage.records import read_record, write_record

_log = logging.getLogger("refold")
_NOTHING = sha256_hex(b"")


class ContentCheck:
    """Holds the events of one log's snapshots against their manifests, and remembers what was found equal."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, reader: LogReader) -> None:
        self._objects = objects
        self._chain = chain
        self._reader = reader
        self._log = reader.log

    def remembers(self, snapshot: Snapshot) -> bool:
        """Whether all events of a snapshot, and its recorded repeats, were compared before."""
        body = self._body(snapshot)
        try:
            return read_record(self._objects, checked_name(body)) == body
        except Damaged as error:
            _log.warning("%s Comparing the events again.", error)
            return False

    def recorded(self, snapshot: Snapshot) -> pa.Table | None:
        """The repeats that sealing recorded of a snapshot; None where they are damaged."""
        try:
            repeats = self._reader.repeats(snapshot)
        except Damaged as error:
            _log.warning("%s Comparing the events again.", error)
            return None
        return REPEATS.empty_table() if repeats is None else repeats

    def require(self, snapshot: Snapshot, digests: Mapping[int, str]) -> None:
        """Raise Damaged where a snapshot's events are not those that were sealed.

        `digests` are the `content_digest` of its events by log partition; one without events may be missing.
        """
        for partition, expected in enumerate(snapshot.cut(self._log.name).content):
            digest = digests.get(partition, _NOTHING)
            if digest != expected:
                raise Damaged(
                    f"The events of log {self._log.name!r}, snapshot {snapshot.key}, log partition {partition} are not "
                    f"those that were sealed: expected content {expected}, found {digest}.",
                    remedy="Run `refold log verify`, and restore the segments or the layout from a copy.",
                )

    def remember(self, snapshot: Snapshot, repeats: pa.Table) -> None:
        """Remember that the events were compared, if the recorded repeats are those that were found."""
        if repeats.equals(self.recorded(snapshot)):
            body = self._body(snapshot)
            write_record(self._objects, checked_name(body), body)

    def _body(self, snapshot: Snapshot) -> dict[str, str]:
        layout, cut = self._chain.layout(snapshot, self._log.name), snapshot.cut(self._log.name)
        segments = sha256_hex(canonical_json([asdict(segment) for segment in layout.segments]))
        repeats = layout.repeats.sha256 if layout.repeats is not None else ""
        return {"log": self._log.name, "cut": cut.id, "segments": segments, "repeats": repeats}


def checked_name(body: Mapping[str, str]) -> str:
    """The name of what is remembered, which follows from all of it."""
    return name_of(ObjectKind.CONTENT_CHECK, log=body["log"], sha256=sha256_hex(canonical_json(body)))
