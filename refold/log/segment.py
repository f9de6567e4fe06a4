"""Segments: canonical Parquet of one log partition and one offset range, and reading them back by snapshot.

Every read checks the sha256 of the file first. What the events mean is for stores; this module only lays out,
reads and names them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refold.encoding import encode_rows
from refold.errors import Damaged
from refold.log.declaration import Log
from refold.log.snapshot import SegmentFile, Snapshot, SnapshotChain
from refold.storage import ObjectStore, sha256_hex


def to_parquet(table: pa.Table) -> bytes:
    """Parquet bytes, zstd, of a small or middling table."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=1, store_schema=True)
    return buffer.getvalue()


def from_parquet(data: bytes, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A table from Parquet bytes. Raises Damaged, naming the object, where they cannot be read."""
    try:
        return pq.read_table(
            pa.BufferReader(data), columns=None if columns is None else list(columns), use_threads=False
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(f"The object {name} is not readable Parquet: {error}.") from error


def content_digest(log: Log, events: pa.Table) -> str:
    """The sha256 of the canonical bytes of events in offset order: declared columns only, whatever file holds them."""
    return sha256_hex(encode_rows([events[name] for name in log.columns], len(events)).data.tobytes())


def write_segment(objects: ObjectStore, log: Log, partition: int, events: pa.Table) -> SegmentFile:
    """Store the events of one log partition, sorted by offset, under a name that determines their content."""
    start = events["log_offset"][0].as_py()
    data = to_parquet(events)
    sha256 = sha256_hex(data)
    name = f"logs/{log.name}/segments/{partition:04d}/{start:020d}-{sha256[:16]}.parquet"
    objects.put(name, data)
    return SegmentFile(partition, start, start + len(events), name, sha256)


class LogReader:
    """Reads one log's events, snapshot by snapshot, in the order (log partition, offset)."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self._objects = objects
        self._chain = chain
        self.log = log

    def events(self, snapshot: Snapshot, columns: Sequence[str] | None = None) -> pa.Table:
        """The events a snapshot added, with `log_partition`; `columns` None reads all of the segment.

        Raises Damaged where a segment is missing, has other bytes, or another number of rows than its range.
        """
        parts = [self.segment(file, columns) for file in self._chain.layout(snapshot, self.log.name).segments]
        if not parts:
            schema = self.log.schema if columns is None else pa.schema([self.log.schema.field(c) for c in columns])
            parts = [schema.append(pa.field("log_partition", pa.int64())).empty_table()]
        return pa.concat_tables(parts)

    def segment(self, file: SegmentFile, columns: Sequence[str] | None = None) -> pa.Table:
        """The events of one segment, with `log_partition`. Raises Damaged."""
        table = from_parquet(self._objects.get_checked(file.name, file.sha256), file.name, columns)
        if len(table) != file.end - file.start:
            raise Damaged(f"The segment {file.name} holds {len(table)} events; expected {file.end - file.start}.")
        partition = pa.array(np.full(len(table), file.partition, dtype=np.int64))
        return table.append_column("log_partition", partition)

    def repeats(self, snapshot: Snapshot) -> pa.Table | None:
        """The events of a snapshot that repeat an earlier id, as sealing found them; None where there are none."""
        stored = self._chain.layout(snapshot, self.log.name).repeats
        if stored is None:
            return None
        return from_parquet(self._objects.get_checked(stored.name, stored.sha256), stored.name)

    def key_events(self, snapshot: Snapshot, value: object, column: str | None = None) -> pa.Table:
        """The events of a snapshot with one key (or another column's value), in log order."""
        events = self.events(snapshot)
        if value is None:
            return events.filter(pc.is_null(events[column or self.log.key]))
        wanted = pa.scalar(value, self.log.columns[column or self.log.key].arrow)
        return events.filter(pc.equal(events[column or self.log.key], wanted))
