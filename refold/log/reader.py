"""Reads a log's events by snapshot, from segments whose bytes are checked at every read.

It checks the sha256 of the whole file, or those of the footer and the columns that are read. `refold.log.segment`
writes segments; stores interpret the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refold.base.parallel import each
from refold.errors import Conflict, Damaged, NotFound
from refold.log import event_ids
from refold.log.declaration import PROVENANCE, Log, not_as_sealed
from refold.log.layout import SegmentFile
from refold.log.segment import PLACE, from_parquet, place_of, short_id
from refold.log.slices import Held, own_events
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.names import OBJECTS, ObjectKind
from refold.storage.objects import ObjectStore, sha256_hex
from refold.types import ColumnKind


@dataclass(frozen=True)
class Part:
    """Events that a snapshot added to one log partition, in the order of their offsets, from `start` on.

    Text columns are dictionaries; ids that are UUIDs are 16 bytes. Offsets are consecutive, unless there is a column
    `log_offset`, as in a selection of events. `origin` reads where in landing the event at a place was.
    """

    partition: int
    start: int
    table: pa.Table
    origin: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def offsets(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The offsets of the events at some places."""
        if "log_offset" not in self.table.column_names:
            return self.start + places
        return np.asarray(self.table["log_offset"].to_numpy()[places], dtype=np.int64)


@dataclass(frozen=True)
class UnreadPart:
    """The `size` events that a snapshot added to one log partition, not read yet: `pieces` reads them by segment.

    Each piece is a part of its own. Drop it before taking the next, so that memory holds only one segment.
    """

    partition: int
    start: int
    size: int
    pieces: Callable[[], Iterable[Part]]

    @classmethod
    def of(cls, part: Part) -> UnreadPart:
        """A part that was read already, as its own only piece."""
        return cls(part.partition, part.start, len(part), lambda: [part])

    def __len__(self) -> int:
        return self.size


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of a part, decoded if it is a dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def parts_of(events: pa.Table) -> list[Part]:
    """Split events in the order (log partition, offset), which have both columns, by log partition."""
    if len(events) == 0:
        return []
    places, offsets = events["log_partition"].to_numpy(), events["log_offset"].to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
    return [Part(int(places[a]), int(offsets[a]), events.slice(a, b - a)) for a, b in pairwise(bounds)]


def position(parts: Iterable[Part], place: int) -> tuple[int, int, int]:
    """Log partition, offset and `log_seq` of the event at a place in the order of the parts."""
    for part in parts:
        if place < len(part):
            return part.partition, int(part.offsets(np.array([place]))[0]), part.table["log_seq"][place].as_py()
        place -= len(part)
    raise IndexError(f"the parts hold {place} events fewer")


def _buffer_of(file: SegmentFile, pieces: Mapping[str, memoryview]) -> pa.Buffer:
    """A buffer of the size of an object with only some of its pieces filled in."""
    footer = file.pieces[""]
    buffer = pa.allocate_buffer(footer.start + footer.size)  # pages that are not written take no memory
    data = np.frombuffer(buffer, dtype=np.uint8)
    for name, content in pieces.items():
        start = file.pieces[name].start
        data[start : start + len(content)] = np.frombuffer(content, dtype=np.uint8)
    return buffer


class LogReader:
    """Reads one log's events, snapshot by snapshot, in the order (log partition, offset).

    It keeps the last compacted segment of each log partition, so that reading history in order reads each once.
    """

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self._objects = objects
        self._chain = chain
        self._held = Held()
        self._readable = log.content
        self.log = log

    def snapshot(self, key: str) -> Snapshot:
        """The snapshot of a key. Raises NotFound."""
        return self._chain.get(key)

    def events(self, snapshot: Snapshot, columns: Sequence[str] | None = None) -> pa.Table:
        """The events a snapshot added, with `log_partition`; `columns` None reads all of the segment.

        Raises Damaged where the segments do not make up the snapshot's offsets, or one is missing, has other bytes, or
        another number of rows than its range; Conflict as `standing` does.
        """
        files = self.files(snapshot)
        with self.standing(snapshot):
            parts = each(lambda file: self.segment(file, columns), files, self._held.sizes(files))
        if not parts:
            schema = self.log.schema if columns is None else pa.schema([self.log.schema.field(c) for c in columns])
            parts = [schema.append(pa.field("log_partition", pa.int64())).empty_table()]
        return pa.concat_tables(parts)

    def at(self, seqs: Sequence[int]) -> Iterator[pa.Table]:
        """The events with some `log_seq`, which rise; a table for each snapshot that has some. Raises as `events`."""
        for snapshot in self._chain:
            cut = snapshot.cut(self.log.name)
            wanted = [seq for seq in seqs if cut.seq_start <= seq < cut.seq_end]
            if wanted:
                yield self.matching(snapshot, ["log_seq"], partial(_is_among, pa.array(wanted, pa.int64())))

    def matching(
        self, snapshot: Snapshot, columns: Sequence[str], chosen: Callable[[pa.Table], pa.ChunkedArray]
    ) -> pa.Table:
        """The events of a snapshot for which `chosen`, given some columns, is true; with all columns, as from `events`.

        Of segments without such an event only the given columns are read. Raises Damaged, Conflict as `events` does.
        """
        files = self.files(snapshot)

        def read(file: SegmentFile) -> pa.Table | None:
            mask = chosen(self.segment(file, columns))
            return self.segment(file).filter(mask) if pc.any(mask).as_py() else None

        with self.standing(snapshot):
            found = each(read, files, self._held.sizes(files))
        empty = self.log.schema.append(pa.field("log_partition", pa.int64())).empty_table()
        return pa.concat_tables([empty, *(table for table in found if table is not None)])

    def unread(
        self, snapshot: Snapshot, columns: Sequence[str], files: Sequence[SegmentFile] | None = None
    ) -> list[UnreadPart]:
        """The events a snapshot added by log partition, without empty ones, in the form that is fastest to fold.

        `columns` are columns of the segment; `log_offset` is left out, since a part has its first offset. `files` are
        the segments of the snapshot, if they are known. A segment is read, and Damaged or Conflict raised, when its
        piece is taken. Raises Damaged where the layout is damaged.
        """
        columns = [name for name in columns if name != "log_offset"]
        by_partition: dict[int, list[SegmentFile]] = {}
        for file in self.files(snapshot) if files is None else files:
            by_partition.setdefault(file.partition, []).append(file)

        def pieces(files: Sequence[SegmentFile]) -> Iterator[Part]:
            for file in files:
                with self.standing(snapshot):
                    table = self._read(file, columns, dictionaries=True)
                yield Part(file.partition, file.start, table, partial(self._origin, file))

        return [
            UnreadPart(place, files[0].start, files[-1].end - files[0].start, partial(pieces, files))
            for place, files in sorted(by_partition.items())
        ]

    @contextmanager
    def standing(self, snapshot: Snapshot) -> Iterator[None]:
        """Raise Conflict in place of Damaged where the layout of a snapshot was replaced since it was read.

        Objects that only the old layout names may have been pruned. The new layout is not read here, since results
        about the old segments would then be applied to other ones.
        """
        try:
            yield
        except Damaged as error:
            newer = self._chain.newer_layout(snapshot)
            if newer is None:
                raise
            raise Conflict(
                f"The layout of snapshot {snapshot.key} was replaced by {newer} after it was read here, and cannot be "
                f"read any more: {error}",
                remedy="Run again: it reads the new one.",
            ) from error

    def files(self, snapshot: Snapshot) -> list[SegmentFile]:
        """The segments of a snapshot by log partition and offset, which must cover its offsets once.

        Raises Damaged, and DeclarationError where the log is declared so that these events cannot be read.
        """
        cut = snapshot.cut(self.log.name)
        self.require_readable(cut.schema)
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
                remedy=OBJECTS[ObjectKind.LAYOUT].remedy,
            )
        return files

    def require_readable(self, content: str) -> None:
        """Raise DeclarationError where events that were sealed with some `content` cannot be read as the log is now."""
        if content in ("", self._readable):
            return
        if faults := self.log.faults_of_reading(content):
            raise not_as_sealed(self.log, faults)
        self._readable = content

    def segment(self, file: SegmentFile, columns: Sequence[str] | None = None) -> pa.Table:
        """The events of one segment as the log declares them, with `log_partition`. Raises Damaged."""
        schema = self.log.schema if columns is None else pa.schema([self.log.schema.field(name) for name in columns])
        stored = [name for name in schema.names if name != "log_offset"]
        table = self._with_text_ids(self._read(file, None if columns is None else stored))
        if "log_offset" in schema.names:
            table = table.append_column("log_offset", pa.array(np.arange(file.start, file.end)))
        table = table.select(schema.names).cast(schema)
        partition = pa.array(np.full(len(table), file.partition, dtype=np.int64))
        return table.append_column("log_partition", partition)

    def _origin(self, file: SegmentFile, place: int) -> str:
        """Landing object and line of the event at a place of a segment. Raises Damaged."""
        table = self.segment(file, PROVENANCE.names).slice(place, 1)
        return ":".join(str(table[name][0].as_py()) for name in PROVENANCE.names)

    def _with_text_ids(self, table: pa.Table) -> pa.Table:
        name = short_id(self.log)
        if name not in table.column_names:
            return table
        place, ids = table.column_names.index(name), table[name]
        if ids.type != event_ids.STORED:
            return table
        return table.set_column(place, self.log.schema.field(name), event_ids.to_text(ids))

    def _read(self, file: SegmentFile, columns: list[str] | None, *, dictionaries: bool = False) -> pa.Table:
        """Columns of one segment in their stored types."""
        if file.is_whole:
            return self._read_object(file, columns, dictionaries=dictionaries)
        wanted = (None if columns is None else tuple(columns), dictionaries)
        table = self._held.table(file, wanted, lambda: self._read_object(file, columns, dictionaries=dictionaries))
        return own_events(table, file)

    def _read_object(self, file: SegmentFile, columns: list[str] | None, *, dictionaries: bool) -> pa.Table:
        """Columns of all events of an object; all of its bytes, or those of the columns, are checked."""
        wanted = self.log.schema.names if columns is None else columns
        added = [name for name in wanted if name not in file.pieces and self._may_be_added(name)]
        there = columns if columns is None or not added else [name for name in columns if name not in added]
        return self._grown(self._read_stored(file, there, dictionaries=dictionaries), added, dictionaries=dictionaries)

    def _may_be_added(self, name: str) -> bool:
        """Whether a column that a segment does not have can have been added to the log after it was written."""
        return name in self.log.columns and self.log.columns[name].null

    def _grown(self, table: pa.Table, added: Sequence[str], *, dictionaries: bool) -> pa.Table:
        """The events of an object as the log is declared now: `added` columns are null, decimals have its digits."""
        for name in added:
            kind = self.log.schema.field(name).type
            if dictionaries and pa.types.is_string(kind):
                kind = pa.dictionary(pa.int32(), kind)
            table = table.append_column(name, pa.nulls(len(table), kind))
        for place, field in enumerate(table.schema):
            declared = self.log.columns.get(field.name)
            if declared is not None and declared.kind is ColumnKind.DECIMAL and field.type != declared.arrow:
                table = table.set_column(place, field.name, table[field.name].cast(declared.arrow))
        return table

    def _read_stored(self, file: SegmentFile, columns: list[str] | None, *, dictionaries: bool) -> pa.Table:
        """Columns of an object in their stored types."""
        if columns is None:
            data = pa.py_buffer(self._objects.get_checked(file.name, file.sha256))
            with self._opened(file, data, dictionaries=dictionaries) as opened:
                return opened.read(use_threads=False)
        pieces, name = self._pieces(file, columns), short_id(self.log)
        ids = event_ids.of_page(pieces[name], file.last - file.first) if name in pieces else None
        decoded = [column for column in columns if ids is None or column != name]
        data = _buffer_of(file, {column: pieces[column] for column in ("", *decoded)})
        with self._opened(file, data, dictionaries=dictionaries) as opened:
            table = opened.read(decoded, use_threads=False)
        if name is None or ids is None:
            return table
        return table.add_column(columns.index(name), pa.field(name, ids.type, False), pa.chunked_array([ids]))

    @contextmanager
    def _opened(self, file: SegmentFile, data: pa.Buffer, *, dictionaries: bool) -> Iterator[pq.ParquetFile]:
        """The Parquet file of an object, whose place and length must match its layout. Raises Damaged."""
        names = [f.name for f in self.log.schema if pa.types.is_string(f.type) and f.name in file.pieces]
        texts = names if dictionaries else None
        try:
            with pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts) as opened:
                schema = opened.schema_arrow
                found = (schema.metadata or {}).get(PLACE, b"no place")
                expected = place_of(self.log, file.partition, file.first)
                if found != expected:
                    raise Damaged(
                        f"The segment {file.name} belongs to another place: expected {expected.decode()}, found "
                        f"{found.decode(errors='replace')}.",
                        remedy="Restore it, or the layout that names it, from a copy.",
                    )
                columns = sorted(schema.names)
                if columns != sorted(name for name in file.pieces if name):
                    raise Damaged(
                        f"The layout names other columns than the segment {file.name} has: expected {columns}, found "
                        f"{sorted(name for name in file.pieces if name)}.",
                        remedy="Restore the layout from a copy.",
                    )
                events = opened.metadata.num_rows
                if events != file.last - file.first:
                    raise Damaged(f"The segment {file.name} holds {events} events; expected {file.last - file.first}.")
                yield opened
        except (pa.ArrowInvalid, OSError) as error:
            raise Damaged(f"The object {file.name} is not readable Parquet: {error}.") from error

    def _pieces(self, file: SegmentFile, columns: Sequence[str]) -> dict[str, memoryview]:
        """The checked bytes of some columns and, under "", of the footer. Raises Damaged."""
        try:
            wanted = {name: file.pieces[name] for name in ("", *columns)}
            found = self._objects.get_ranges(file.name, [(piece.start, piece.size) for piece in wanted.values()])
        except NotFound as error:
            raise Damaged(f"{error} Its manifest lists it.", remedy="Restore it, or rebuild what holds it.") from error
        except KeyError as error:
            raise Damaged(f"The layout has no piece {error} of the segment {file.name}.") from error
        for (name, piece), content in zip(wanted.items(), found, strict=True):
            sha256 = sha256_hex(content)
            if sha256 != piece.sha256:
                raise Damaged(
                    f"The object {file.name} is damaged in {f'column {name!r}' if name else 'its footer'}: expected "
                    f"sha256 {piece.sha256} of {piece.size} bytes from {piece.start}, found {sha256}.",
                    remedy="Restore it from a copy, or rebuild what holds it.",
                )
        return dict(zip(wanted, found, strict=True))

    def repeats(self, snapshot: Snapshot) -> pa.Table | None:
        """The events of a snapshot that repeat an earlier id, as sealing found them; None where there are none."""
        stored = self._chain.layout(snapshot, self.log.name).repeats
        if stored is None:
            return None
        return from_parquet(self._objects.get_checked(stored.name, stored.sha256), stored.name)


def _is_among(seqs: pa.Array, events: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(events["log_seq"], seqs)
