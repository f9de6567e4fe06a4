"""Messages one after another, each after its size or on a line of its own; what a message is, is declared apart.

Comes after `inflate` (plain bytes) and before `avro_messages` and `protobuf_messages`, which read one message.
Neither framing marks its end: an object that was cut between two messages looks whole but for its size in the listing
of landing; one that was cut within a message is refused.

Messages that are joined by a separator, as Confluent's sink writes raw bytes by default, cannot be told apart and are
not read: a message may hold the separator.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from refold.errors import UnreadableObject
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds
from refold.landing.contract import Finding, refuse_ratio
from refold.landing.decoder import BadRecord, Decoded
from refold.landing.inflate import COMPRESSIONS, plain_pieces
from refold.landing.json_records import Records
from refold.landing.jsonl import Plan
from refold.landing.line_pieces import line_pieces
from refold.landing.typed_rows import TypedRows, paths_read, pruned, records_of
from refold.types import Schema

RETRY_SUFFIX = ".retry.bin"
BATCH_ROWS = 1 << 13
BATCH_BYTES = 1 << 23
_VARINT_BYTES_MAX = 5


class Framing(StrEnum):
    """How messages follow one another."""

    DELIMITED = "delimited"
    """Each after its size as a varint, as `writeDelimitedTo` of Protobuf writes them."""
    INT32 = "int32"
    """Each after its size as four bytes, high byte first."""
    BASE64 = "base64"
    """Each as base64 on a line, as Aiven's sink writes CSV of values alone."""


class Message(NamedTuple):
    """One message that was read: what names its schema, and its content."""

    schema: Any
    content: Any


class Messages(Protocol):
    """A format of single messages; a value that can be hashed."""

    def read(self, name: str, raw: bytes) -> Message | Finding:
        """One message of an object, or why it is none. Raises UnreadableObject for a schema that is not declared."""

    def schema(self, key: Any) -> pa.Schema:
        """The fields of a schema."""

    def rows(self, contents: Sequence[Any], key: Any, wanted: pa.Schema) -> Iterable[Mapping[str, Any]]:
        """The values of wanted fields of messages of one schema."""


@dataclass(frozen=True)
class Framed(TypedRows):
    """Decodes objects that are messages one after another; other attributes are those of `TypedRows`.

    A message that cannot be read is a bad record, kept as it is. An empty one is the tombstone of a change.

    Attributes:
        messages: what one message is: `AvroMessages` or `ProtobufMessages`.
        framing: how they follow one another.
    """

    messages: Messages = field(kw_only=True)
    framing: Framing = field(kw_only=True)
    suffixes: tuple[str, ...] = (
        RETRY_SUFFIX,
        *(plain + compressed for plain in (".bin", ".avro", ".pb", ".csv") for compressed in COMPRESSIONS),
    )
    retry_suffix: ClassVar[str] = RETRY_SUFFIX
    unit: str = field(default="message", init=False)

    def encode(self, raws: Sequence[bytes]) -> bytes:
        """Messages, each after its size as four bytes."""
        return b"".join(len(raw).to_bytes(4, "big") + raw for raw in raws)

    def pieces(
        self,
        name: str,
        data: Iterable[bytes],
        columns: Schema,
        key: Sequence[str] = (),
        bounds: LandingBounds = DEFAULT_BOUNDS,
    ) -> Iterator[Decoded]:
        """Decode one object in batches of messages; see `refold.landing.decoder.PieceDecoder`."""
        refuse_ratio(columns)
        plan, before = self.shape.plan(columns, key), 0
        framing = Framing.INT32 if name.endswith(RETRY_SUFFIX) else Framing(self.framing)
        check = partial(paths_read, name, columns, plan)
        for raws in _batches(_FRAMINGS[framing](name, plain_pieces(name, data, bounds), bounds)):
            if before + len(raws) > bounds.object_records_max:
                raise bounds.too_large(name, "more", "object_records_max", "messages")
            for run in self._runs(name, raws):
                yield replace(self._decoded(run, plan, check), plain_bytes=sum(map(len, run.raws))).after(before)
                before += len(run.raws)

    def _runs(self, name: str, raws: Sequence[bytes]) -> Iterator[_Run]:
        """Messages that follow one another and have the same schema, with the bad ones among them."""
        found = [self.messages.read(name, raw) for raw in raws]
        keys, last = [], next((each.schema for each in found if isinstance(each, Message)), None)
        for each in found:
            last = each.schema if isinstance(each, Message) else last
            keys.append(last)
        for schema, run in groupby(range(len(raws)), keys.__getitem__):
            numbers = list(run)
            yield _Run(schema, [raws[n] for n in numbers], [found[n] for n in numbers])

    def _decoded(self, run: _Run, plan: Plan, check: Any) -> Decoded:
        bad = [
            BadRecord(number, *each, run.raws[number - 1])
            for number, each in enumerate(run.found, 1)
            if isinstance(each, Finding)
        ]
        good = [number for number, each in enumerate(run.found, 1) if isinstance(each, Message)]
        contents = [each.content for each in run.found if isinstance(each, Message)]
        schema = self.messages.schema(run.schema) if contents else pa.schema([])
        wanted = pa.schema(pruned(schema, check(schema))) if contents else schema
        if wanted.names:
            rows = list(self.messages.rows(contents, run.schema, wanted))
            batch = pa.RecordBatch.from_pylist(rows, wanted)
        else:
            batch = pa.RecordBatch.from_arrays([pa.nulls(len(contents))], [""])
        records = records_of(batch, plan.fields)
        numbers = np.array(good, dtype=np.int64)
        return plan.settled(Records(records.table, numbers, records.faults, bad, lambda number: run.raws[number - 1]))


class _Run(NamedTuple):
    schema: Any
    raws: list[bytes]
    found: list[Message | Finding]


def _batches(raws: Iterator[bytes]) -> Iterator[list[bytes]]:
    held, size = list[bytes](), 0
    for raw in raws:
        held.append(raw)
        size += len(raw)
        if len(held) == BATCH_ROWS or size >= BATCH_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def _sized(name: str, plain: Iterable[bytes], bounds: LandingBounds, *, is_varint: bool) -> Iterator[bytes]:
    """Messages after their sizes. Raises UnreadableObject."""
    held, position = b"", 0
    for piece in plain:
        held, at = held + piece, 0
        while (head := _size(name, held, at, position, is_varint=is_varint)) is not None:
            size, start = head
            if size > bounds.record_bytes_max:
                raise bounds.too_large(name, f"{size:,}", "record_bytes_max", "bytes in each message")
            if start + size > len(held):
                break
            yield held[start : start + size]
            at = start + size
        held, position = held[at:], position + at
    if held:
        raise _cut(name, f"an end in the middle of the message at byte {position:,}")


def _size(name: str, held: bytes, at: int, position: int, *, is_varint: bool) -> tuple[int, int] | None:
    """The size at a place, and where it ends; None if it is not all there."""
    if not is_varint:
        return (int.from_bytes(held[at : at + 4], "big"), at + 4) if len(held) >= at + 4 else None
    size = 0
    for place, byte in enumerate(held[at : at + _VARINT_BYTES_MAX]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return size, at + place + 1
    if len(held) >= at + _VARINT_BYTES_MAX:
        raise _cut(name, f"no size at byte {position + at:,}")
    return None


def _base64_lines(name: str, plain: Iterable[bytes], bounds: LandingBounds) -> Iterator[bytes]:
    """Messages on lines. Raises UnreadableObject: the text of a line could be read as a message of some formats."""
    for before, index in line_pieces(name, plain, bounds):
        for number in range(len(index)):
            try:
                yield base64.b64decode(index.raw(number).strip(), validate=True)
            except binascii.Error as error:
                raise _cut(name, f"no base64 in line {before + number + 1:,}") from error


def _cut(name: str, found: str) -> UnreadableObject:
    return UnreadableObject(
        f"Expected whole messages in the object {name}, found {found}.",
        remedy="Deliver the object again, whole, or declare its framing; nothing of it was sealed.",
    )


_FRAMINGS: Mapping[Framing, Callable[[str, Iterable[bytes], LandingBounds], Iterator[bytes]]] = {
    Framing.DELIMITED: partial(_sized, is_varint=True),
    Framing.INT32: partial(_sized, is_varint=False),
    Framing.BASE64: _base64_lines,
}
