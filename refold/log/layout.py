"""The layout of a snapshot: which objects hold its events, repeats and quarantine. Compaction may replace it.

The manifest (`refold.log.snapshot`) determines the content and identity of a snapshot; the layout only says where its
bytes are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refold.storage.content import StoredObject
from refold.storage.shapes import typed


@dataclass(frozen=True)
class Piece:
    """A range of an object's bytes and the sha256 of it."""

    start: int
    size: int
    sha256: str


@dataclass(frozen=True)
class SegmentFile:
    """One segment of a snapshot: events [start, end) of one log partition in one Parquet object.

    The object holds the events [first, last). They are the same range, or a larger one if it was compacted.
    `pieces` are its columns by name, and its footer under "", so that some columns can be read and checked alone.
    """

    partition: int
    start: int
    end: int
    name: str
    sha256: str
    pieces: Mapping[str, Piece]
    first: int
    last: int

    @property
    def is_whole(self) -> bool:
        """Whether the object holds only these events."""
        return (self.start, self.end) == (self.first, self.last)

    @property
    def size_bytes(self) -> int:
        """The size of the whole object, which may hold events of other snapshots."""
        return self.pieces[""].start + self.pieces[""].size

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SegmentFile:
        """Read one segment of a layout; layouts from before compaction existed have no `first` and `last`."""
        pieces = {name: typed(Piece(**piece)) for name, piece in value["pieces"].items()}
        file = typed(cls(**{"first": value["start"], "last": value["end"], **value, "pieces": pieces}))
        if min(file.partition, file.first, *(min(each.start, each.size) for each in pieces.values())) < 0:
            raise TypeError(f"{file.name}: expected no place or size below zero")
        return file


@dataclass(frozen=True)
class SeenFile:
    """One run of the seen index: the ids that were delivered first by the events [seq_start, seq_end) of `log_seq`.

    `sum` is that of its index, by which a run is known without reading all of it.
    """

    name: str
    sha256: str
    sum: str
    seq_start: int
    seq_end: int


@dataclass(frozen=True)
class LogLayout:
    """The objects that hold one log's part of a snapshot.

    Attributes:
        segments: its segments by log partition and offset; none for a log partition without new events.
        repeats: the events that repeat an id seen before, if any.
        quarantine: the records that cannot be events, if any.
        seen: the hashes of all ids delivered up to here, oldest first: a cache for sealing, of which only the newest
            snapshot's is kept.
        e_tags: the entity tags of the landing objects when they were read, by name.
    """

    segments: Sequence[SegmentFile]
    repeats: StoredObject | None
    quarantine: StoredObject | None
    seen: Sequence[SeenFile]
    e_tags: Mapping[str, str]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LogLayout:
        """Read one log's layout."""
        optional = {k: typed(StoredObject(**value[k])) if value[k] else None for k in ("repeats", "quarantine")}
        seen = [typed(SeenFile(**file)) for file in value["seen"]]
        segments = [SegmentFile.from_json(segment) for segment in value["segments"]]
        return typed(cls(segments, seen=seen, e_tags=value["e_tags"], **optional))


NO_FILES = LogLayout(segments=(), repeats=None, quarantine=None, seen=(), e_tags={})
"""The layout of a log that has no part in a snapshot."""
