"""Checks that the events of a snapshot are those that were sealed, and that its recorded repeats are right.

Encoding and hashing all events of a snapshot takes longer than folding them. So a passed check is recorded, with
exactly what it covered: the segments of the layout, with the hash of each column, and the recorded repeats. Every read
checks those hashes, so the same segments hold the same events. The check runs again if segments or repeats differ from
those, or if its record is damaged. `refold.log.verify` checks a log without any such record.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

import pyarrow as pa

from refold.dedup.deliveries import REPEATS
from refold.errors import AccessDenied, Damaged
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex
from refold.storage.records import read_record, record_bytes
from refold.storage.shapes import plain_value

_log = logging.getLogger("refold")
_NOTHING = sha256_hex(b"")


class ContentCheck:
    """Compares the events of one log's snapshots with their manifests, and records the snapshots that passed."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, reader: LogReader) -> None:
        self._objects = objects
        self._chain = chain
        self._reader = reader
        self._log = reader.log

    def remembers(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot passed before, with the same segments and recorded repeats."""
        body = self._body(snapshot)
        try:
            return read_record(self._objects, checked_name(body)) == body
        except Damaged as error:
            _log.warning("%s Comparing the events again.", error)
            return False

    def recorded(self, snapshot: Snapshot) -> pa.Table | None:
        """The repeats that sealing recorded for a snapshot; None where they are damaged."""
        try:
            repeats = self._reader.repeats(snapshot)
        except Damaged as error:
            _log.warning("%s Comparing the events again.", error)
            return None
        return REPEATS.empty_table() if repeats is None else repeats

    def require(self, snapshot: Snapshot, digests: Mapping[int, str]) -> None:
        """Raise Damaged where a snapshot's events are not those that were sealed.

        `digests` gives the `content_digest` of its events by log partition; one without events may be missing.
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
        """Record that the events passed, if the recorded repeats equal those that were found.

        Whoever may only read compares them all the same, and again the next time.
        """
        if repeats.equals(self.recorded(snapshot)):
            body = self._body(snapshot)
            with suppress(AccessDenied):
                self._objects.put_soon(checked_name(body), record_bytes(body))

    def _body(self, snapshot: Snapshot) -> dict[str, str]:
        layout, cut = self._chain.layout(snapshot, self._log.name), snapshot.cut(self._log.name)
        segments = sha256_hex(canonical_json(plain_value(layout.segments)))
        repeats = layout.repeats.sha256 if layout.repeats is not None else ""
        return {"log": self._log.name, "cut": cut.id, "segments": segments, "repeats": repeats}


def checked_name(body: Mapping[str, str]) -> str:
    """The name of the record of a passed check, which follows from its whole content."""
    return name_of(ObjectKind.CONTENT_CHECK, log=body["log"], sha256=sha256_hex(canonical_json(body)))
