"""Decoding landing objects for sealing: each becomes rows by log partition, several at once and ahead of their turn.

What an object decodes to depends on its bytes alone, so it may be done before its snapshot's turn comes; a fault in it
is raised when its turn comes, not before. Order, offsets and deduplication are `refold.seal.sealer`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from refold.base.parallel import cores
from refold.canonical.encoding import as_one, kafka_partitions
from refold.dedup.deliveries import Seqs
from refold.errors import UnreadableObject
from refold.landing.decoder import BadRecord
from refold.landing.listing import LandingObject, read_listed
from refold.log.declaration import Log
from refold.storage.names import places_of
from refold.storage.objects import ObjectStore, sha256_hex

AHEAD_BYTES = 32 << 20
"""Objects of so many bytes, as they are stored, may be decoded before their turn."""


@dataclass(frozen=True)
class DecodedObject:
    """A landing object as `rows`, and the `places` of the rows of each log partition that has some.

    Rows have the declared columns, `source_object` and `source_line`; `read` counts them, bad and control records.
    `plain_bytes` is the size before compression, or 0 where the decoder does not say.
    """

    item: LandingObject
    size_bytes: int
    sha256: str
    plain_bytes: int
    read: int
    control: int
    bad: Sequence[BadRecord]
    rows: pa.Table
    places: Mapping[int, Seqs]

    def rows_of(self, partition: int) -> pa.Table:
        """The rows of a log partition that has some, in their order."""
        mine = self.places[partition]
        return self.rows.take(pa.array(mine)) if len(mine) < len(self.rows) else self.rows


class Decoding:
    """Decodes the landing objects of one log in the order in which they are requested.

    Args:
        landing, objects: the stores of objects and of retried objects (those of folder '').
        listed: whether landing listed the objects just now, so that they must be as listed.
    """

    def __init__(self, landing: ObjectStore, objects: ObjectStore, log: Log, *, listed: bool = True) -> None:
        self._listed = listed
        self._landing = landing
        self._objects = objects
        self._log = log
        self._begun: dict[str, Future[DecodedObject]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def start(self, items: Sequence[LandingObject]) -> None:
        """Start with some objects, as far as they are not too large to be held beside what is sealed now."""
        room = AHEAD_BYTES
        for item in items:
            room -= item.info.size_bytes
            if room < 0:
                break
            self._begin(item)

    def _begin(self, item: LandingObject) -> Future[DecodedObject]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="refold-decode")
        if item.name not in self._begun:
            self._begun[item.name] = self._pool.submit(self._decode, item)
        return self._begun[item.name]

    def decode(self, items: Sequence[LandingObject]) -> Iterator[DecodedObject]:
        """The objects, in their order. Raises whatever is wrong with the first that cannot be decoded."""
        self.start(items)
        for item in items:
            decoded = self._begin(item).result()
            del self._begun[item.name]
            yield decoded

    def close(self) -> None:
        """Drop what was begun and nobody asked for."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._begun = None, {}

    def _get(self, item: LandingObject) -> bytes:
        """The bytes of an object. Raises UnsettledObject where landing listed it otherwise."""
        if item.folder == "":
            return self._objects.get(item.name)
        return read_listed(self._landing, item.info) if self._listed else self._landing.get(item.name)

    def _decode(self, item: LandingObject) -> DecodedObject:
        data = self._get(item)
        decoded = self._log.decoder.decode(item.name, data, self._log.columns, self._log.key_columns)
        events = decoded.rows.combine_chunks()  # else it is done once for each log partition
        table = self._with_places(item, events, decoded.lines)
        partitions = self._partitions(item, events, decoded.lines)
        places = {p: np.flatnonzero(partitions == p) for p in np.flatnonzero(np.bincount(partitions)).tolist()}
        return DecodedObject(item, len(data), sha256_hex(data), decoded.plain_bytes, decoded.read, decoded.control,
                             decoded.bad, table, places)  # fmt: skip

    def _with_places(self, item: LandingObject, events: pa.Table, lines: Seqs) -> pa.Table:
        """The events with object and line; those of a retry keep their place in landing, where it identifies them."""
        source = pa.DictionaryArray.from_arrays(np.zeros(len(events), dtype=np.int32), pa.array([item.name]))
        if item.folder == "" and self._log.by_place:
            names, numbers = zip(*self._objects.get_json(places_of(item.name)), strict=True)
            source, lines = pa.array(names).take(pa.array(lines - 1)).dictionary_encode(), np.array(numbers)[lines - 1]
        return events.append_column("source_object", source).append_column("source_line", pa.array(lines))

    def _partitions(self, item: LandingObject, rows: pa.Table, lines: Seqs) -> Seqs:
        if item.partition is None:
            keys = as_one([rows[name] for name in self._log.key_columns])
            return kafka_partitions(_key_bytes(keys), self._log.partitions).astype(np.int64)
        if item.partition >= self._log.partitions:
            raise UnreadableObject(
                f"The object {item.name} names log partition {item.partition}; log {self._log.name!r} has "
                f"{self._log.partitions}.",
                remedy="Declare as many partitions as the landing has.",
            )
        moves = np.flatnonzero(lines[1:] == lines[:-1])
        if len(moves) and self._log.partitions > 1:
            raise UnreadableObject(
                f"{item.name} {self._log.decoder.unit} {lines[moves[0]]} moves a row of log {self._log.name!r} to "
                "another key, and landing has log partitions: the events of the old key may be in another one, and "
                "their order against this one is not known.",
                remedy="Land such a table in one log partition, or let its source write a delete and a create.",
            )
        return np.full(len(rows), item.partition, dtype=np.int64)


def _key_bytes(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    return keys.cast(pa.string()) if pa.types.is_integer(keys.type) else keys
