"""Slices: the events of one snapshot out of a compacted segment, which holds those of several.

`Held` keeps the tables read last, since history is read in order and the next snapshot's events are usually in the same
object. `refold.log.reader` reads objects, checks their bytes and calls this module; `refold.log.compaction` writes
compacted segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from refold.errors import Damaged
from refold.log.layout import SegmentFile
from refold.storage.names import OBJECTS, ObjectKind

Wanted = tuple[tuple[str, ...] | None, bool]
"""A request for an object: its columns (None: all), and whether texts are read as dictionaries."""

_Object = tuple[str, str]


class Held:
    """The compacted object of each log partition that was read last; threads may ask at once.

    At most one object for each log partition is held, once for each choice of columns that was wanted of it.
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[_Object, dict[Wanted, pa.Table]]] = {}

    def table(self, file: SegmentFile, wanted: Wanted, read: Callable[[], pa.Table]) -> pa.Table:
        """What was wanted of the object of a segment, read where it is not held."""
        named = (file.name, file.sha256)
        held, tables = self._last.get(file.partition, (named, {}))
        if held != named:
            tables = {}
        if wanted not in tables:
            tables[wanted] = read()
        self._last[file.partition] = named, tables
        return tables[wanted]

    def sizes(self, files: Sequence[SegmentFile]) -> list[int]:
        """How many events there are to be read for each segment: all of an object that is not held."""
        held = {partition: named for partition, (named, _) in self._last.items()}
        return [
            file.end - file.start if held.get(file.partition) == (file.name, file.sha256) else file.last - file.first
            for file in files
        ]


def own_events(table: pa.Table, file: SegmentFile) -> pa.Table:
    """The events of a segment out of those of its object. Raises Damaged where the object does not hold its range.

    Dictionaries are those of these events alone, since folding looks at every value of a dictionary.
    """
    if not file.first <= file.start <= file.end <= file.last:
        raise Damaged(
            f"A layout names the events {file.start} to {file.end} of the segment {file.name}, which holds those from "
            f"{file.first} to {file.last}.",
            remedy=OBJECTS[ObjectKind.LAYOUT].remedy,
        )
    mine = table.slice(file.start - file.first, file.end - file.start)
    for place, column in enumerate(mine.columns):
        if pa.types.is_dictionary(column.type):
            values = column.cast(column.type.value_type).dictionary_encode()
            mine = mine.set_column(place, mine.schema.field(place).with_type(values.type), values)
    return mine
