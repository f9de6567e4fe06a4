"""Rows with types of their own, from Parquet, Avro or framed messages, as records with the fields that are read.

Comes after `refold.landing.typed_values`, which reads values, and uses what JSON decoders do with their records: plain
rows are those of `JsonLines`, changes those of `Debezium` or `ChangeRows`. A type that a column cannot be read from
refuses the object, since it is that of every row. A bad record is kept as a JSON text of the fields that are read, and
retried as JSON Lines.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import DeclarationError, UnreadableObject
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds
from refold.landing.contract import expected, refuse_ratio
from refold.landing.decoder import ByPieces, Decoded, Decoder
from refold.landing.json_line import Field
from refold.landing.json_records import Records
from refold.landing.jsonl import NO_PATHS, JsonLines, LineDecoder, Paths, Plan, freeze_paths
from refold.landing.typed_values import json_value, reader_of
from refold.types import Schema

RETRY_SUFFIX = ".retry.jsonl"

Path = tuple[str, ...]
Check = Callable[[pa.Schema], list[Path]]
"""From the schema of a file to the paths in it that are read; it raises UnreadableObject where that does not fit."""

_NO_OBJECT = pa.list_(pa.null())
"""Stands for what a path leads through and has no fields; no column is read from it."""


@dataclass(frozen=True)
class TypedRows(ByPieces):
    """What decoders of typed rows have in common: columns by paths, or a form of changes.

    Attributes:
        paths: for a column that is not found under its own name, the dotted places to look in; the first that is not
            null wins. Kept as `places`.
        suffixes: the endings of names of objects; a retry has one of its own.
        changes: the form of changes that the rows are, such as `Debezium()`, which has the paths then.

    Raises DeclarationError for paths that are none, or beside `changes`.
    """

    paths: InitVar[Paths] = NO_PATHS
    suffixes: tuple[str, ...] = ()
    changes: LineDecoder | None = None
    retry_suffix: ClassVar[str] = RETRY_SUFFIX
    unit: str = field(default="row", init=False)
    places: tuple[tuple[str, tuple[str, ...]], ...] = field(init=False, default=())

    def __post_init__(self, paths: Paths) -> None:
        name = type(self).__name__
        object.__setattr__(self, "places", freeze_paths(name, paths))
        if paths and self.changes is not None:
            raise DeclarationError(name, ["expected the paths in changes, found both"])
        if self.changes is not None and (self.changes.arrays or self.changes.text_places):
            raise DeclarationError(name, ["only JSON has texts that are opened, or arrays that are taken apart"])
        if self.suffixes[0] != self.retry_suffix:
            object.__setattr__(self, "suffixes", (self.retry_suffix, *self.suffixes))

    def of(self, changes: LineDecoder) -> Decoder:
        """The same format, with rows that are changes of this form."""
        return replace(self, changes=changes)

    @abstractmethod
    def encode(self, raws: Sequence[bytes]) -> bytes:
        """The form of a retry; see `Decoder`."""

    @property
    def shape(self) -> LineDecoder:
        """What rows are: changes, or rows of their own."""
        return self.changes or JsonLines(dict(self.places))


class TypedFile(TypedRows):
    """What decoders of files with one schema have in common: numbering by rows, and the form of a retry."""

    def encode(self, raws: Sequence[bytes]) -> bytes:
        """JSON Lines."""
        return JsonLines().encode(raws)

    def pieces(
        self,
        name: str,
        data: Iterable[bytes],
        columns: Schema,
        key: Sequence[str] = (),
        bounds: LandingBounds = DEFAULT_BOUNDS,
    ) -> Iterator[Decoded]:
        """Decode one object in batches of rows; see `refold.landing.decoder.PieceDecoder`. The object is held whole."""
        refuse_ratio(columns)
        if name.endswith(RETRY_SUFFIX):
            yield from self.shape.pieces(name, data, columns, key, bounds)
            return
        plan, before = self.shape.plan(columns, key), 0
        for batch in self._batches(name, b"".join(data), partial(paths_read, name, columns, plan), bounds):
            if before + batch.num_rows > bounds.object_records_max:
                raise bounds.too_large(name, "more", "object_records_max", "rows")
            yield plan.settled(records_of(batch, plan.fields)).after(before)
            before += batch.num_rows

    @abstractmethod
    def _batches(self, name: str, data: bytes, check: Check, bounds: LandingBounds) -> Iterator[pa.RecordBatch]:
        """The rows of an object, with at least the paths that `check` returns for its schema."""


def changes_of(decoder: Decoder) -> Decoder:
    """The decoder that says what changes are: that of the rows, where a format has one, or the decoder itself."""
    return decoder.changes if isinstance(decoder, TypedRows) and decoder.changes is not None else decoder


def paths_read(name: str, columns: Schema, plan: Plan, schema: pa.Schema) -> list[Path]:
    """The paths of a file's schema that are read. Raises UnreadableObject, naming every column that does not fit."""
    faults, found = [], {each.path: _type_at(schema, each.path) for each in plan.fields}
    for column, pairs in plan.sources.items():
        kind, paths = columns[column], [plan.fields[number].path for pair in pairs for number in dict.fromkeys(pair)]
        if all(found[path] is None for path in paths) and not kind.null and kind.reading.default is None:
            faults.append(f"no {' or '.join('.'.join(path) for path in paths)}, which may not be null")
        faults += [f"{'.'.join(path)} twice" for path in paths if _is_twice(schema, path)]
        for path in dict.fromkeys(paths):
            type_ = found[path]
            if type_ is not None and reader_of(type_, kind) is None:
                faults.append(f"{type_} in {'.'.join(path)}; column {column} is read from {expected(kind)}")
    if faults:
        raise UnreadableObject(
            f"Expected the declared columns in the object {name}, found {'; '.join(faults)}.",
            remedy="Declare the columns, their readings and paths as the file has them; nothing of it was sealed.",
        )
    return sorted(path for path, type_ in found.items() if type_ is not None)


def roots_of(paths: Iterable[Path]) -> list[str]:
    """The fields at the top that paths begin with, sorted."""
    return sorted({path[0] for path in paths})


def pruned(fields: Iterable[pa.Field], paths: Iterable[Path]) -> list[pa.Field]:
    """The fields that paths lead through, with no other fields below them."""
    found, wanted = [], list(paths)
    for each in fields:
        below = [path[1:] for path in wanted if path[0] == each.name]
        if below:
            deeper = pa.types.is_struct(each.type) and [path for path in below if path]
            whole = () in below and _is_value(each.type)
            type_ = each.type if whole or not pa.types.is_struct(each.type) else pa.struct(pruned(each.type, deeper))
            found.append(pa.field(each.name, type_))
    return found


def _is_value(type_: pa.DataType) -> bool:
    """Whether a struct is one value: a decimal with its scale."""
    return bool(pa.types.is_struct(type_)) and {each.name for each in type_} == {"scale", "value"}


def _type_at(schema: pa.Schema, path: Path) -> pa.DataType | None:
    if len(schema.get_all_field_indices(path[0])) != 1:
        return None
    type_ = schema.field(path[0]).type
    for key in path[1:]:
        if pa.types.is_null(type_):
            return None
        if not pa.types.is_struct(type_):
            return _NO_OBJECT
        index = type_.get_field_index(key)
        if index < 0:
            return None
        type_ = type_.field(index).type
    return type_


def _is_twice(schema: pa.Schema, path: Path) -> bool:
    """Whether a field on a path has the name of another beside it."""
    fields = list(schema)
    for key in path:
        named = [each for each in fields if each.name == key]
        if len(named) != 1:
            return len(named) > 1
        fields = list(named[0].type) if pa.types.is_struct(named[0].type) else []
    return False


def _at(batch: pa.RecordBatch, path: Path) -> pa.Array | None:
    """The values at a path, null below null; None where the file has no such path."""
    if _type_at(batch.schema, path) in (None, _NO_OBJECT):
        return None
    values = batch.column(path[0])
    for key in path[1:]:
        values = pc.struct_field(values, values.type.get_field_index(key))
    return values


def records_of(batch: pa.RecordBatch, fields: Sequence[Field]) -> Records:
    """The rows of a batch as records with these fields."""
    found = [_at(batch, each.path) for each in fields]
    columns, faults = [], dict[int, dict[int, Any]]()
    for number, (each, values) in enumerate(zip(fields, found, strict=True)):
        if each.type is None:
            nowhere = values is None or not pa.types.is_struct(values.type)
            columns.append(pa.array(np.zeros(batch.num_rows, np.bool_)) if nowhere else pc.is_valid(values))
            continue
        read = None if values is None else reader_of(values.type, each.type)
        if read is None:
            columns.append(pa.nulls(batch.num_rows, each.type.arrow))
            continue
        typed, odd = read(values)
        columns.append(typed)
        for row, fault in odd.items():
            faults.setdefault(row, {})[number] = fault
    table = pa.table(columns, names=[str(number) for number in range(len(fields))])
    return Records(table, np.arange(1, batch.num_rows + 1), faults, [], partial(_raw, fields, found))


def _raw(fields: Sequence[Field], found: Sequence[pa.Array | None], row: int) -> bytes:
    """A row of a file, numbered from 1, as a JSON text of the fields that are read."""
    record: dict[str, Any] = {}
    for each, values in zip(fields, found, strict=True):
        if values is None or not values[row - 1].is_valid:
            continue
        *outer, last = each.path
        at = record
        for key in outer:
            at = at.setdefault(key, {})
        if each.type is not None:
            at[last] = json_value(values[row - 1], each.type)
        elif pa.types.is_struct(values.type):
            at.setdefault(last, {})
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
