"""The sealed log compared with what landing still holds, event by event.

Hashes and chain prove that the log is what was written, not that what was written is what landed: whoever can write to
the store can write all of it anew. This decodes the landing objects again and compares their records with the sealed
events and the quarantine. What landing no longer holds cannot be compared, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import Damaged, NotFound, RefusedLanding, UnreadableObject
from refold.landing.decoder import BadRecord
from refold.log.declaration import PROVENANCE, Log
from refold.log.quarantine import Quarantined, read_quarantine
from refold.log.reader import LogReader
from refold.log.snapshot import SealedObject, Snapshot, SnapshotChain
from refold.seal.decoding import DecodedObject, Decoding
from refold.seal.new_events import Partitions
from refold.seal.reseal import item_of
from refold.storage.names import is_retry
from refold.storage.objects import ObjectStore
from refold.types import arrow_schema

_SHOWN_CHARS = 60


@dataclass
class Compared:
    """One log's part of a snapshot, compared with landing.

    Attributes:
        events: how many of its events are those of landing.
        gone: the objects that landing no longer holds.
        left: how many events are theirs, were erased, or follow the first that differs, and were not compared.
        readable: how many records in quarantine are events by today's declaration; they are not compared.
        findings: what differs, as (where, expected and found).
    """

    snapshot: str
    events: int = 0
    left: int = 0
    readable: int = 0
    gone: list[str] = field(default_factory=list)
    findings: list[tuple[str, str]] = field(default_factory=list)


class _Landed:
    """An object as it is decoded now: what became of it, and its events with their log partitions."""

    decoded: DecodedObject

    def __init__(self, pieces: list[pa.Table]) -> None:
        self._pieces = pieces

    def take(self, rows: pa.Table, partitions: Partitions) -> None:
        rows = rows.append_column("log_partition", pa.array(partitions.astype(np.int64)))
        self._pieces.append(rows.cast(self._pieces[0].schema))

    @property
    def events(self) -> pa.Table:
        return pa.concat_tables(self._pieces)

    def without(self, numbers: Sequence[int]) -> pa.Table:
        """The events without those of some records."""
        events = self.events
        wanted = pa.array(numbers, events["source_line"].type)
        return events.filter(pc.invert(pc.is_in(events["source_line"], wanted))) if numbers else events


class LandingComparison:
    """Compares one log with landing; reads only.

    Args:
        landing: where the sealed objects were.
        objects: where the log and its retries are.
    """

    def __init__(self, landing: ObjectStore, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self._landing = landing
        self._objects = objects
        self._chain = chain
        self._log = log
        listed = {info.name for info in landing.list(log.folder)}
        self._present = listed - landing.outside(sorted(listed)).keys()

    def compare(self, snapshot: Snapshot) -> Compared:
        """What of a snapshot is not what landing holds: the first event that differs, and every object that does."""
        found, cut = Compared(snapshot.key), snapshot.cut(self._log.name)
        if not cut.ends:
            return found
        sealed = self._log.as_sealed(cut.schema)
        try:
            events = LogReader(self._objects, self._chain, sealed).events(snapshot).sort_by("log_seq")
            bad = read_quarantine(self._objects, self._chain, sealed, snapshot)
        except Damaged as error:
            found.findings.append((f"log {self._log.name}", str(error)))
        else:
            self._compare_objects(sealed, cut.objects, events, bad, found)
        return found

    def _compare_objects(
        self,
        sealed: Log,
        objects: Sequence[SealedObject],
        events: pa.Table,
        bad: Sequence[Quarantined],
        found: Compared,
    ) -> None:
        """All objects of a snapshot in their order, up to the first event that differs."""
        place = 0
        for item, landing in self._decoded(sealed, objects, found):
            if landing is None:
                size = _run_of(events, place, item.name)
                found.left += size
            else:
                stored = [each.record for each in bad if each.object == item.name]
                landed = landing.without(self._compare_object(sealed, item, landing, stored, found))
                size, mine = len(landed), events.slice(place, len(landed))
                erased = self._erased(mine) if len(mine) == size else np.zeros(len(mine), dtype=np.bool_)
                found.left += int(erased.sum())
                if erased.any():
                    mine, landed = mine.filter(pa.array(~erased)), landed.filter(pa.array(~erased))
                differs = self._first_difference(sealed, mine, landed)
                if differs is not None:
                    found.findings.append(differs)
                    found.left = len(events) - found.events
                    return
                found.events += len(landed)
            place += size
        if place != len(events):
            where = self._where(events.slice(place, 1).to_pylist()[0])
            found.findings.append((where, "expected no further event of this snapshot in landing, found one"))

    def _erased(self, events: pa.Table) -> np.typing.NDArray[np.bool_]:
        """Which sealed events have lost values to a redaction, and so are not those of landing any more."""
        places = zip(events["log_partition"].to_pylist(), events["log_offset"].to_pylist(), strict=True)
        erased = self._chain.erased(self._log.name)
        return np.array([place in erased for place in places], dtype=np.bool_)

    def _decoded(
        self, sealed: Log, items: Sequence[SealedObject], found: Compared
    ) -> Iterator[tuple[SealedObject, _Landed | None]]:
        """Each object as it is decoded now; None where it is gone or cannot be decoded."""
        decoding = Decoding(self._landing, self._objects, sealed, listed=False)
        try:
            for item in items:
                if not is_retry(item.name) and item.name not in self._present:
                    found.gone.append(item.name)
                    yield item, None
                    continue
                landed = _Landed([_none_landed(sealed)])
                try:
                    (landed.decoded,) = decoding.decode([item_of(self._log, item)], landed.take)
                except (Damaged, NotFound, RefusedLanding) as error:
                    found.findings.append((item.name, str(error)))
                    yield item, None
                else:
                    yield item, landed
        finally:
            decoding.close()

    def _compare_object(
        self, sealed: Log, item: SealedObject, landing: _Landed, quarantined: Sequence[BadRecord], found: Compared
    ) -> list[int]:
        """An object as a whole: its bytes, how many records it has, and which of them are quarantined.

        Returns the numbers of those that are in quarantine and events by today's declaration.
        """
        decoded = landing.decoded
        if decoded.sha256 != item.sha256:
            text = f"expected the object that was sealed, with sha256 {item.sha256}, found {decoded.sha256}"
            found.findings.append((item.name, text))
        if decoded.read != item.records:
            found.findings.append((item.name, f"expected {decoded.read} records as in landing, found {item.records}"))
        landed, stored = ({bad.number: bad.raw for bad in several} for several in (decoded.bad, quarantined))
        readable = [n for n in sorted(stored.keys() - landed.keys()) if _is_event(sealed, stored[n], landing.events, n)]
        found.readable += len(readable)
        wrong = [n for n in {**landed, **stored} if n not in readable and landed.get(n) != stored.get(n)]
        if wrong:
            text = (
                f"expected in quarantine the {len(landed)} bad records of landing, found {len(stored)}; a declaration "
                "that has become narrower since gives more of them"
            )
            found.findings.append((f"{item.name} {self._log.decoder.unit} {min(wrong)}", text))
        return readable

    def _first_difference(self, sealed: Log, found: pa.Table, expected: pa.Table) -> tuple[str, str] | None:
        """Where sealed events first differ from those of landing, with the column and both values."""
        names = [*sealed.columns, "source_object", "source_line", "log_partition"]
        wrong = {name: _first_unequal(expected[name], found[name]) for name in names}
        place, column = min((place, name) for name, place in wrong.items())
        if place >= len(expected):
            return None
        landed = expected.slice(place, 1).to_pylist()[0]
        if place >= len(found):
            origin = f"{landed['source_object']}:{landed['source_line']}"
            return origin, "expected its event in the log, found none"
        event = found.slice(place, 1).to_pylist()[0]
        return self._where(event), f"expected {_valued(column, landed)} as in landing, found {_valued(column, event)}"

    def _where(self, event: dict[str, Any]) -> str:
        return (
            f"log {self._log.name} partition {event['log_partition']} offset {event['log_offset']} (log_seq "
            f"{event['log_seq']}), landed as {event['source_object']}:{event['source_line']}"
        )


def _is_event(log: Log, raw: bytes, landed: pa.Table, number: int) -> bool:
    """Whether bytes in quarantine are the events that a record of an object is now."""
    events = landed.filter(pc.equal(landed["source_line"], number)).select(list(log.columns))
    name = f"retry{log.decoder.suffixes[0]}"
    try:
        again = log.decoder.decode(name, log.decoder.encode([raw]), log.columns, log.key_columns).rows
    except UnreadableObject:
        return False
    return len(events) > 0 and again.select(list(log.columns)).cast(events.schema).equals(events)


def _none_landed(log: Log) -> pa.Table:
    schema = arrow_schema(log.columns)
    for place in (*PROVENANCE, pa.field("log_partition", pa.int64())):
        schema = schema.append(place)
    return schema.empty_table()


def _first_unequal(expected: pa.ChunkedArray, found: pa.ChunkedArray) -> int:
    """The first place where two columns differ, or their common length; `found` is as long or shorter."""
    kind = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
    left, right = expected.slice(0, len(found)).cast(kind), found.cast(kind)
    nulls = pc.xor(pc.is_null(left), pc.is_null(right))
    unequal = pc.or_(nulls, pc.fill_null(pc.not_equal(left, right), False))
    place = pc.index(unequal, True).as_py()
    return len(found) if place < 0 else int(place)


def _run_of(events: pa.Table, place: int, name: str) -> int:
    """How many events from a place on are of an object, without a gap."""
    others = pc.not_equal(events["source_object"].slice(place).cast(pa.string()), name)
    end = pc.index(others, True).as_py()
    return len(events) - place if end < 0 else int(end)


def _valued(column: str, event: dict[str, Any]) -> str:
    text = repr(event[column])
    return f"{column} {text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + '…'}"
