"""Segments: canonical Parquet of one log partition and one offset range, whose columns can be checked one by one.

This module formats, writes and names them; `refold.log.reader` reads them, and stores interpret the events.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from refold.base.memory import release_memory
from refold.canonical.encoding import EncodedRows, encode_rows
from refold.errors import Damaged
from refold.log import event_ids
from refold.log.declaration import Log
from refold.log.layout import Piece, SegmentFile
from refold.storage.content import put_content
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore, sha256_hex
from refold.types import ColumnKind


def to_parquet(table: pa.Table, *, distinct: Collection[str] = ()) -> bytes:
    """Parquet bytes, compressed with zstd, of a table in memory; the values of `distinct` columns do not recur."""
    numbers = [f.name for f in table.schema if pa.types.is_integer(f.type) or pa.types.is_timestamp(f.type)]
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=1,
        store_schema=True,
        use_dictionary=[name for name in table.column_names if name not in numbers and name not in distinct],
        column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        write_statistics=False,
    )
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


def content_digest(log: Log, pieces: Iterable[pa.Table]) -> str:
    """The sha256 of the canonical bytes of events in offset order: declared columns only, whatever files hold them."""
    found = hashlib.sha256()
    for events in pieces:
        for start in range(0, len(events), ENCODED_EVENTS):
            found.update(encoded(log, events.slice(start, ENCODED_EVENTS)).data.data)
    return found.hexdigest()


def encoded(log: Log, events: pa.Table) -> EncodedRows:
    """The canonical bytes of the declared columns of events: the content by which deliveries of one id are compared."""
    return encode_rows([events[name] for name in log.columns], len(events))


SEGMENT_EVENTS = 1 << 17
"""The most events of one segment as it is sealed; a segment is read into memory at once and folded by one thread."""

_PAGE_EVENTS = 1 << 20

ENCODED_EVENTS = 1 << 15
"""How many events are encoded at a time, which bounds memory."""
_DELTAS = ("log_seq", "source_line")
_DICTIONARY_BYTES = _PAGE_BYTES = 1 << 24
PLACE = b"refold"


def write_segments(objects: ObjectStore, log: Log, partition: int, tables: Iterable[pa.Table]) -> list[SegmentFile]:
    """Store the events of one log partition, sorted by offset, in segments under names that determine their content.

    `tables` are of the log's schema; memory holds those of one segment.
    """
    written = []
    for events in _segments(tables):
        written.append(write_segment(objects, log, partition, events))
        del events  # before the next segment takes as much
    return written


def _segments(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of as many as a segment may have, the last of the rest."""
    held, count = list[pa.Table](), 0
    for table in tables:
        held.append(table)
        count += len(table)
        while count >= SEGMENT_EVENTS:
            rest = table[len(table) - (count - SEGMENT_EVENTS) :]
            yield _joined(held, SEGMENT_EVENTS)
            held.append(rest)
            count = len(rest)
            release_memory()
    if count:
        yield _joined(held, count)


def _joined(held: list[pa.Table], rows: int) -> pa.Table:
    """The first rows of some tables in one piece; `held` is emptied, so that the tables' memory can be freed."""
    table = pa.concat_tables(held)[:rows]
    held.clear()
    return table.combine_chunks()


def short_id(log: Log) -> str | None:
    """The column whose texts are stored as 16 bytes where all of them are UUIDs: that of the ids, if it is one text."""
    (name, *others) = log.id_columns
    return None if others or log.columns[name].kind is not ColumnKind.TEXT else name


def stored_ids(log: Log, events: pa.Table) -> pa.ChunkedArray | None:
    """The ids of events as 16 bytes where all of them are UUIDs as text; None where they are stored as they are."""
    name = short_id(log)
    return None if name is None else event_ids.to_bytes(events[name])


def write_segment(objects: ObjectStore, log: Log, partition: int, events: pa.Table) -> SegmentFile:
    """Store events of one log partition, at least one, sorted by offset, as one segment."""
    return _write(objects, log, partition, events, stored_ids(log, events))


def _write(
    objects: ObjectStore, log: Log, partition: int, events: pa.Table, ids: pa.ChunkedArray | None
) -> SegmentFile:
    start, end = events["log_offset"][0].as_py(), events["log_offset"][-1].as_py() + 1
    data = segment_bytes(log, partition, events, ids)
    stored = put_content(objects, ObjectKind.SEGMENT, data, log=log.name, partition=partition, start=start)
    return SegmentFile(partition, start, end, stored.name, stored.sha256, _pieces(data), first=start, last=end)


def segment_bytes(log: Log, partition: int, events: pa.Table, ids: pa.ChunkedArray | None) -> bytes:
    """The Parquet file of a segment: one row group, so that a column is one range of bytes.

    Only the first offset is stored, in the footer with log and log partition, since the others follow. Ids that are
    UUIDs are 16 bytes, without dictionary or compression, which gain nothing on them, and one page, so that they can be
    used without a copy (`event_ids.of_page`).
    """
    stored, name = events.drop_columns(["log_offset"]), short_id(log)
    if ids is not None:
        stored = stored.set_column(stored.column_names.index(name), pa.field(name, ids.type, False), ids)
    times = [field.name for field in stored.schema if pa.types.is_timestamp(field.type)]
    deltas = dict.fromkeys([*_DELTAS, *times], "DELTA_BINARY_PACKED")
    plain = {name} if ids is not None else set()
    buffer = io.BytesIO()
    pq.write_table(
        stored.replace_schema_metadata({PLACE: place_of(log, partition, events["log_offset"][0].as_py())}),
        buffer,
        row_group_size=max(1, len(stored)),
        compression={name: "NONE" if name in plain else "ZSTD" for name in stored.column_names},
        compression_level={name: 1 for name in stored.column_names if name not in plain},
        use_dictionary=[name for name in stored.column_names if name not in deltas and name not in plain],
        write_statistics=[name for name in stored.column_names if name not in plain],
        data_page_size=_PAGE_BYTES,
        max_rows_per_page=_PAGE_EVENTS,
        column_encoding=deltas,
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        store_schema=True,
    )
    return buffer.getvalue()


def place_of(log: Log, partition: int, start: int) -> bytes:
    """The description of a segment's place, stored in its footer under `PLACE`."""
    return f"log {log.name}, log partition {partition}, from offset {start}".encode()


def _pieces(data: bytes) -> dict[str, Piece]:
    """The ranges of the columns and, under "", of the footer after them."""
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    pieces, end = {}, 0
    for place in range(group.num_columns):
        chunk = group.column(place)
        begins = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        pieces[chunk.path_in_schema] = _piece(data, begins, chunk.total_compressed_size)
        end = max(end, begins + chunk.total_compressed_size)
    return {**pieces, "": _piece(data, end, len(data) - end)}


def _piece(data: bytes, start: int, size: int) -> Piece:
    return Piece(start, size, sha256_hex(data[start : start + size]))
