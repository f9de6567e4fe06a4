"""JSON Lines, plain or gzip: each JSON object is one record.

This module has the declaration, and takes declared columns from the fields of records. `refold.landing.json_line`
defines a record, `refold.landing.contract` checks columns. Change events in Debezium's envelope build on this module,
in `refold.landing.debezium`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import DeclarationError
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds
from refold.landing.contract import ValueFault, refuse_ratio, settle
from refold.landing.decoder import ByPieces, Decoded
from refold.landing.inflate import plain_pieces
from refold.landing.json_block import LineIndex
from refold.landing.json_line import Field
from refold.landing.json_records import LINE_BYTES_MAX, Records, read_records, read_rewritten
from refold.landing.line_pieces import line_pieces
from refold.types import Schema

Paths = Mapping[str, tuple[str, ...]]
NO_PATHS: Paths = MappingProxyType({})
SUFFIXES = tuple(
    plain + compressed
    for plain in (".jsonl", ".ndjson", ".json")
    for compressed in ("", ".gz", ".zst", ".lz4", ".bz2", ".snappy")
)

Sources = Mapping[str, tuple[tuple[int, int], ...]]
"""For each column its alternative places, first wins, each as (usual place, place where the record deletes)."""


@dataclass(frozen=True)
class Plan:
    """What a decoder does with records.

    Attributes:
        fields: what is read of each.
        sources: the fields of each column.
        settled: makes rows and bad records of records with these fields.
    """

    fields: Sequence[Field]
    sources: Sources
    settled: Callable[[Records], Decoded]


class LineDecoder(ByPieces):
    """What decoders of JSON Lines have in common: file names, numbering by lines, and the form of a retry."""

    line_bytes_max: int
    arrays: tuple[str, ...] = ()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The file name endings of JSON Lines."""
        return SUFFIXES

    @property
    def unit(self) -> str:
        """Records are numbered by lines."""
        return "line"

    def encode(self, raws: Sequence[bytes]) -> bytes:
        """Lines, each with its newline."""
        return b"".join(raw + b"\n" for raw in raws)

    def pieces(
        self,
        name: str,
        data: Iterable[bytes],
        columns: Schema,
        key: Sequence[str] = (),
        bounds: LandingBounds = DEFAULT_BOUNDS,
        *,
        fast: bool = True,
    ) -> Iterator[Decoded]:
        """Decode one object piece by piece; see `refold.landing.decoder.PieceDecoder`.

        `fast=False` decodes line by line throughout, to the same result.
        """
        refuse_ratio(columns)
        plan = self.plan(columns, key)
        for before, index in line_pieces(name, self._plain(name, data, bounds), bounds):
            decoded = plan.settled(self._records(index, plan, fast))
            yield replace(decoded, plain_bytes=len(index.data)).after(before)

    def _records(self, index: LineIndex, plan: Plan, fast: bool) -> Records:
        """The records of some lines, which it numbers from 1."""
        texts, arrays = self.text_places, [tuple(place.split(".")) for place in self.arrays]
        if not texts and not arrays:
            return read_records(index, plan.fields, self.line_bytes_max, fast=fast)
        return read_rewritten(index, plan.fields, self.line_bytes_max, texts, arrays, fast=fast)

    @property
    def text_places(self) -> Sequence[tuple[str, ...]]:
        """The places of JSON texts that are opened."""
        return []

    def _plain(self, name: str, data: Iterable[bytes], bounds: LandingBounds) -> Iterable[bytes]:
        """The plain bytes of an object, in pieces, as lines."""
        return plain_pieces(name, data, bounds)

    @abstractmethod
    def plan(self, columns: Schema, key: Sequence[str]) -> Plan:
        """Which fields of records are read, and what becomes of them; for records of other formats too."""


@dataclass(frozen=True)
class JsonLines(LineDecoder):
    """Decodes JSON Lines: lines end in `\\n`, a `\\r` before it is a blank, blank lines are counted but not records.

    JSON objects that follow one another without a blank (`}{`, as Amazon Data Firehose writes them) are records of
    their own, and are numbered as if each began on a new line. Blanks between them make the line a bad record.

    Attributes:
        paths: for a column that is not found under its own name at the top of a record, the dotted places to look in;
            the first that is not null wins. Kept as `places`, so that the declaration can be hashed.
        line_bytes_max: a longer line is quarantined as `line-too-long`, whole.
        texts: dotted places of texts that are JSON objects or arrays themselves, and are read as such.
        arrays: dotted places of arrays of rows: a record is an event for each row, which takes the place of the array.
            Several arrays are taken apart together. The place `#` is the number of the row, from 0. A record of which
            one row is bad is bad; one without rows is a control record.

    >>> from refold.types import int64, text
    >>> decoded = JsonLines({"id": ("after.id",)}).decode("a.jsonl", b'{"after": {"id": "x"}, "n": 1}', {"id": text()})
    >>> decoded.rows.to_pylist()
    [{'id': 'x'}]
    """

    paths: InitVar[Paths] = NO_PATHS
    line_bytes_max: int = LINE_BYTES_MAX
    texts: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    places: tuple[tuple[str, tuple[str, ...]], ...] = field(init=False, default=())

    def __post_init__(self, paths: Paths) -> None:
        object.__setattr__(self, "places", freeze_paths("JsonLines", paths))
        for each in (self.texts, self.arrays):
            if isinstance(each, str) or any("" in place.split(".") for place in each):
                raise DeclarationError("JsonLines", [f"expected dotted places, found {each!r}"])

    @property
    def text_places(self) -> Sequence[tuple[str, ...]]:
        """The places of JSON texts that are opened."""
        return [tuple(place.split(".")) for place in self.texts]

    def plan(self, columns: Schema, key: Sequence[str]) -> Plan:
        """The fields of the columns; see `LineDecoder`."""
        paths, finder = dict(self.places), FieldFinder()
        sources = {
            column: tuple((place, place) for place in finder.alternatives(paths.get(column), column, columns))
            for column in columns
        }

        def settled(records: Records) -> Decoded:
            table, known = pick(records, sources)
            bad, control, lines, raw = records.bad, records.control, records.lines, records.raw
            return settle(table, columns, lines, raw, bad=bad, known=known, control=control)

        return Plan(finder.fields, sources, settled)


class FieldFinder:
    """Collects the fields that are read, each once, and numbers them."""

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def add(self, wanted: Field) -> int:
        """The number of a field."""
        if wanted not in self.fields:
            self.fields.append(wanted)
        return self.fields.index(wanted)

    def alternatives(self, dotted: tuple[str, ...] | None, column: str, columns: Schema) -> list[int]:
        """The fields of a column: those of its paths, or the one of its own name, dots included, at the top."""
        paths = [(column,)] if dotted is None else [tuple(path.split(".")) for path in dotted]
        return [self.add(Field(path, columns[column])) for path in paths]


def freeze_paths(decoder: str, paths: Paths) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Paths in a form that can be hashed.

    Raises:
        DeclarationError: a column without any path, a single text instead of a tuple, or an empty key in a path.
    """
    faults: list[str] = []
    for column, dotted in paths.items():
        if isinstance(dotted, str) or not dotted:
            faults.append(f"paths of {column}: expected a tuple of dotted places, found {dotted!r}")
        else:
            faults += [f"paths of {column}: {path!r} has an empty key" for path in dotted if "" in path.split(".")]
    if faults:
        raise DeclarationError(decoder, faults)
    return tuple((column, tuple(dotted)) for column, dotted in paths.items())


def pick(
    records: Records, sources: Sources, deletes: pa.ChunkedArray | None = None
) -> tuple[pa.Table, dict[str, dict[int, ValueFault]]]:
    """Columns from places, and the faults of the places that were picked, by column and row.

    Args:
        records: what was read.
        sources: the places of each column.
        deletes: which rows take the second place of each pair; none where not given.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for column, alternatives in sources.items():
        values = [_either(records.table, pair, deletes) for pair in alternatives]
        columns[column] = pc.coalesce(*values) if len(values) > 1 else values[0]
    return pa.table(columns), _picked_faults(records, sources, deletes)


def _either(table: pa.Table, pair: tuple[int, int], deletes: pa.ChunkedArray | None) -> pa.ChunkedArray:
    usual, deleted = pair
    if deletes is None or usual == deleted:
        return table.column(usual)
    return pc.if_else(deletes, table.column(deleted), table.column(usual))


def _picked_faults(
    records: Records, sources: Sources, deletes: pa.ChunkedArray | None
) -> dict[str, dict[int, ValueFault]]:
    known: dict[str, dict[int, ValueFault]] = {column: {} for column in sources}
    if not records.faults:
        return known
    rows = pa.array(list(records.faults), pa.int64())
    present = {index: records.table.column(index).take(rows).is_valid().to_numpy() for index in _numbers(sources)}
    second = np.zeros(len(rows), np.int64) if deletes is None else pc.fill_null(deletes, False).take(rows).to_numpy()
    for position, (row, faults) in enumerate(records.faults.items()):
        for column, alternatives in sources.items():
            # The first place that holds anything decides: a value that cannot be read is not passed over for the next.
            for place in (pair[int(second[position])] for pair in alternatives):
                if place in faults:
                    known[column][row] = faults[place]
                if place in faults or present[place][position]:
                    break
    return known


def _numbers(sources: Sources) -> set[int]:
    return {place for alternatives in sources.values() for pair in alternatives for place in pair}
