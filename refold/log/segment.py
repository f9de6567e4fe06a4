"""Segments: canonical Parquet of one log partition and one offset range, and reading them back by snapshot.

Every read checks the sha256 of the file first. What the events mean is for stores; this module only lays out,
reads and names them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from refold.encoding import encode_rows
from refold.errors import Damaged
from refold.log.declaration import Log
from refold.log.repeats import Seqs, group_repeated_ids
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
        # Not pq.read_table, which makes a dataset of the one file first and takes three times as long for a small one.
        file = pq.ParquetFile(pa.BufferReader(data))
        names = file.schema_arrow.names if columns is None else list(columns)
        return file.read(names, use_threads=False).select(names)
    except (pa.ArrowInvalid, OSError, KeyError) as error:
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

        Raises Damaged where the segments do not make up the snapshot's offsets, or one is missing, has other bytes, or
        another number of rows than its range.
        """
        parts = [self.segment(file, columns) for file in self._files(snapshot)]
        if not parts:
            schema = self.log.schema if columns is None else pa.schema([self.log.schema.field(c) for c in columns])
            parts = [schema.append(pa.field("log_partition", pa.int64())).empty_table()]
        return pa.concat_tables(parts)

    def _files(self, snapshot: Snapshot) -> list[SegmentFile]:
        """The segments of a snapshot by log partition and offset, which must cover its offsets once."""
        cut = snapshot.cut(self.log.name)
        files = sorted(self._chain.layout(snapshot, self.log.name).segments, key=lambda f: (f.partition, f.start))
        reached = list(cut.starts)
        for file in files:
            if not file.partition < len(reached) or file.start != reached[file.partition]:
                break
            reached[file.partition] = file.end
        if reached != list(cut.ends) or sum(f.end - f.start for f in files) != cut.events:
            raise Damaged(
                f"The layout of snapshot {snapshot.key} does not make up log {self.log.name!r}: expected offsets "
                f"{list(cut.starts)} to {list(cut.ends)} by log partition, found segments up to {reached}.",
                remedy="Restore layouts/ from a copy.",
            )
        return files

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


def repeated_ids(reader: LogReader, snapshots: Sequence[Snapshot]) -> Seqs:
    """The groups of repeated event ids over snapshots from the first on, by log_seq; see `group_repeated_ids`."""
    name = reader.log.event_id
    events = pa.concat_tables([reader.events(snapshot, ["log_seq", name]) for snapshot in snapshots])
    return group_repeated_ids(events[name], events["log_seq"].to_numpy())
