"""Decoding landing objects for sealing: each becomes rows by log partition, several at once and ahead of their turn.

What an object decodes to depends on its bytes alone, so it may be done before its snapshot's turn comes; whatever is
wrong with it is reported when its turn comes, not before. Order, offsets and deduplication are `refold.seal.sealer`'s.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from refold.base.parallel import cores
from refold.canonical.encoding import as_one, kafka_partitions
from refold.dedup.deliveries import Seqs
from refold.errors import UnreadableObject
from refold.landing.decoder import BadRecord, Decoded, PieceDecoder
from refold.landing.listing import LandingObject, read_pieces
from refold.log.declaration import Log
from refold.seal.new_events import Partitions
from refold.storage.names import places_of
from refold.storage.objects import ObjectStore

AHEAD_BYTES = 32 << 20
"""Objects of so many bytes, as they are stored, may be decoded before their turn."""


@dataclass(frozen=True)
class DecodedObject:
    """What became of a landing object: how many `events`, which were handed on, and its bad and control records.

    `read` counts all of them. Where more records are bad than the log allows of a day, what follows them is not read.
    `plain_bytes` is the size before compression, or 0 where the decoder does not say.
    """

    item: LandingObject
    size_bytes: int
    sha256: str
    plain_bytes: int
    read: int
    control: int
    events: int
    bad: Sequence[BadRecord]


Take = Callable[[pa.Table, Partitions], object]
"""Receives the next rows, with declared columns, `source_object` and `source_line`, and their log partitions."""


def acceptable_pieces(
    log: Log, name: str, data: Iterable[bytes], seconds: Callable[[], float] = time.monotonic
) -> Iterator[Decoded]:
    """The content of an object, given its bytes in pieces, until the log's quarantine limits are passed.

    Raises UnreadableObject where the object cannot be read or passes the log's bounds, that of `seconds` as well.
    """
    decoder, bad, bad_bytes, began = log.decoder, 0, 0, seconds()
    if isinstance(decoder, PieceDecoder):
        pieces = decoder.pieces(name, data, log.columns, log.key_columns, log.bounds)
    else:
        pieces = iter([decoder.decode(name, b"".join(data), log.columns, log.key_columns)])
    for piece in pieces:
        if (taken := seconds() - began) > log.bounds.object_seconds_max:
            raise log.bounds.too_slow(name, taken)
        yield piece
        bad += len(piece.bad)
        bad_bytes += sum(len(record.raw) for record in piece.bad)
        if log.quarantine.passed_anyhow(bad, bad_bytes):
            return


class _Summed:
    """Bytes in pieces, and the size and sha256 of those that were taken."""

    def __init__(self, data: Iterable[bytes]) -> None:
        self._data = data
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._data:
            self.size_bytes += len(piece)
            self.sha256.update(piece)
            yield piece


class Decoding:
    """Decodes the landing objects of one log in the order in which they are requested.

    Args:
        landing, objects: the stores of objects and of retried objects (those of folder '').
        listed: whether landing listed the objects just now, so that they must be as listed.
        ahead_bytes: objects of so many bytes, as they are stored, may be decoded before their turn, and are then held
            in memory; `AHEAD_BYTES` at most.
    """

    def __init__(
        self,
        landing: ObjectStore,
        objects: ObjectStore,
        log: Log,
        *,
        listed: bool = True,
        ahead_bytes: int | None = None,
    ) -> None:
        self._listed = listed
        self._landing = landing
        self._objects = objects
        self._log = log
        self._ahead_bytes = AHEAD_BYTES if ahead_bytes is None else min(ahead_bytes, AHEAD_BYTES)
        self._begun: dict[str, Future[tuple[DecodedObject, list[tuple[pa.Table, Partitions]]]]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def start(self, items: Sequence[LandingObject]) -> None:
        """Start with some objects, as far as they are not too large to be held beside what is sealed now."""
        room = self._ahead_bytes
        for item in items:
            room -= item.info.size_bytes
            if room < 0:
                break
            if self._pool is None:
                self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="refold-decode")
            if item.name not in self._begun:
                self._begun[item.name] = self._pool.submit(self._decode_ahead, item)

    def _decode_ahead(self, item: LandingObject) -> tuple[DecodedObject, list[tuple[pa.Table, Partitions]]]:
        pieces: list[tuple[pa.Table, Partitions]] = []
        return self._decode(item, lambda rows, partitions: pieces.append((rows, partitions))), pieces

    def decode(self, items: Sequence[LandingObject], take: Take) -> Iterator[DecodedObject]:
        """The objects, in their order; each after all of its rows were handed to `take`.

        Raises whatever is wrong with the first that cannot be decoded; some of its rows may have been handed on.
        """
        self.start(items)
        for item in items:
            begun = self._begun.pop(item.name, None)
            if begun is None:
                yield self._decode(item, take)
                continue
            decoded, pieces = begun.result()
            for rows, partitions in pieces:
                take(rows, partitions)
            yield decoded

    def close(self) -> None:
        """Drop what was begun and nobody asked for."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._begun = None, {}

    def _read(self, item: LandingObject) -> Iterable[bytes]:
        """The bytes of an object in pieces. Raises UnsettledObject where landing listed it otherwise."""
        if item.folder == "":
            return [self._objects.get(item.name)]
        return read_pieces(self._landing, item.info) if self._listed else [self._landing.get(item.name)]

    def _decode(self, item: LandingObject, take: Take) -> DecodedObject:
        size_bytes, bounds = item.info.size_bytes, self._log.bounds
        if size_bytes > bounds.object_bytes_max:
            raise bounds.too_large(item.name, f"{size_bytes:,}", "object_bytes_max", "bytes")
        data, read, control, plain_bytes, events = _Summed(self._read(item)), 0, 0, 0, 0
        bad: list[BadRecord] = []
        for piece in acceptable_pieces(self._log, item.name, data):
            take(self._with_places(item, piece.rows, piece.lines), self._partitions(item, piece.rows, piece.lines))
            read, control, events = read + piece.read, control + piece.control, events + len(piece.rows)
            plain_bytes += piece.plain_bytes
            bad += piece.bad
        return DecodedObject(item, data.size_bytes, data.sha256.hexdigest(), plain_bytes, read, control, events, bad)

    def _with_places(self, item: LandingObject, events: pa.Table, lines: Seqs) -> pa.Table:
        """The events with object and line; those of a retry keep their place in landing, where it identifies them."""
        source = pa.DictionaryArray.from_arrays(np.zeros(len(events), dtype=np.int32), pa.array([item.name]))
        if item.folder == "" and self._log.by_place:
            names, numbers = zip(*self._objects.get_json(places_of(item.name)), strict=True)
            source, lines = pa.array(names).take(pa.array(lines - 1)).dictionary_encode(), np.array(numbers)[lines - 1]
        return events.append_column("source_object", source).append_column("source_line", pa.array(lines))

    def _partitions(self, item: LandingObject, rows: pa.Table, lines: Seqs) -> Partitions:
        if item.partition is None:
            keys = as_one([rows[name] for name in self._log.key_columns])
            return hashed_partitions(self._log, keys)
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
        return np.full(len(rows), item.partition, dtype=np.int16)


def hashed_partitions(log: Log, keys: pa.ChunkedArray) -> Partitions:
    """The log partitions that follow from keys, which are given as one column."""
    return kafka_partitions(_key_bytes(keys), log.partitions).astype(np.int16)


def _key_bytes(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    return keys.cast(pa.string()) if pa.types.is_integer(keys.type) else keys
