"""Single Protobuf messages of one declared type, bare or in Confluent's wire format.

The type is declared by a descriptor set, which `protoc --include_imports --descriptor_set_out` writes. Enums are their
names. A field that knows whether it was set is null where it was not; another is its default, as Protobuf demands.
`google.protobuf.Timestamp` is a time as a text with nine digits of a second; wrappers are the value in them; repeated
fields, maps and floating point are read by no column.

A field of another wire type than declared is not left out, as Protobuf does: its message is bad. Fields with other
numbers are those of a later declaration, and are passed over.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from refold.errors import DeclarationError
from refold.landing.contract import Finding
from refold.landing.framed import Message

_UNREAD = pa.list_(pa.null())
_TYPES: Mapping[int, pa.DataType] = {
    FieldDescriptor.CPPTYPE_INT32: pa.int32(),
    FieldDescriptor.CPPTYPE_INT64: pa.int64(),
    FieldDescriptor.CPPTYPE_UINT32: pa.uint32(),
    FieldDescriptor.CPPTYPE_UINT64: pa.uint64(),
    FieldDescriptor.CPPTYPE_BOOL: pa.bool_(),
    FieldDescriptor.CPPTYPE_ENUM: pa.string(),
    FieldDescriptor.CPPTYPE_FLOAT: pa.float32(),
    FieldDescriptor.CPPTYPE_DOUBLE: pa.float64(),
}
_TIMESTAMP = "google.protobuf.Timestamp"
_WRAPPERS = frozenset(
    f"google.protobuf.{each}Value" for each in ("Int32", "Int64", "UInt32", "UInt64", "Bool", "String", "Bytes")
)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # UTC without the cost of a zone
_HEAD_BYTES = 5


@dataclass(frozen=True)
class ProtobufMessages:
    """Messages of one type.

    Attributes:
        descriptors: the bytes of a descriptor set that has the type and all that it imports. Kept as `described`.
        message: the full name of the type, such as `shop.Order`.
        is_confluent: whether a message comes after a zero, the id of its schema and its place in that, as Confluent's
            serializers write it. The id is not looked up; the place must be that of the declared type.

    Raises DeclarationError where the set has no such type.
    """

    descriptors: InitVar[bytes]
    message: str
    is_confluent: bool = False
    described: str = field(init=False, default="", repr=False)

    def __post_init__(self, descriptors: bytes) -> None:
        object.__setattr__(self, "described", base64.b64encode(descriptors).decode())
        try:
            _opened(self)
        except (KeyError, TypeError, DecodeError) as error:
            raise DeclarationError("ProtobufMessages", [f"message is {self.message!r}; {error}"]) from error

    def read(self, name: str, raw: bytes) -> Message | Finding:
        """One message; see `refold.landing.framed.Messages`."""
        opened, start = _opened(self), 0
        if self.is_confluent:
            place = _place(raw)
            if place is None:
                return Finding("not-framed", f"Expected a zero, an id and a place, found {raw[:_HEAD_BYTES].hex()}.")
            indexes, start = place
            if indexes != opened.indexes:
                return Finding("other-message", f"Expected {self.message}, found the message at {indexes}.")
        content = opened.new()
        try:
            content.ParseFromString(raw[start:])
        except DecodeError as error:
            return Finding("not-protobuf", f"Expected a message {self.message}, found {error}.")
        missing = content.FindInitializationErrors()
        if missing:
            return Finding("not-protobuf", f"Expected a message {self.message}, found none of {', '.join(missing)}.")
        odd = _of_other_wire_type(content)
        if odd:
            return Finding("wrong-wire-type", f"Expected a message {self.message}, found another type in {odd}.")
        return Message(self.message, content)

    def schema(self, key: Any) -> pa.Schema:
        """The fields of the type; see `refold.landing.framed.Messages`."""
        return _opened(self).fields

    def rows(self, contents: Sequence[Any], key: Any, wanted: pa.Schema) -> Iterable[Mapping[str, Any]]:
        """The values of wanted fields."""
        return map(_row_of(contents[0].DESCRIPTOR, list(wanted)), contents)


class _Opened(NamedTuple):
    new: Callable[[], Any]
    fields: pa.Schema
    indexes: list[int]


@cache
def _opened(messages: ProtobufMessages) -> _Opened:
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(base64.b64decode(messages.described)).file:
        pool.Add(file)
    descriptor = pool.FindMessageTypeByName(messages.message)
    new, fields = message_factory.GetMessageClass(descriptor), pa.schema(_fields(descriptor, ()))
    return _Opened(new, fields, _indexes(descriptor))


def _indexes(descriptor: Any) -> list[int]:
    """The place of a type in its file: among the types there, and below that among those within it."""
    outer = descriptor.containing_type
    beside = descriptor.file.message_types_by_name if outer is None else outer.nested_types_by_name
    return [*([] if outer is None else _indexes(outer)), list(beside).index(descriptor.name)]


def _fields(descriptor: Any, above: tuple[str, ...]) -> list[pa.Field]:
    """The fields of a type; one that holds itself is not read there."""
    above = (*above, descriptor.full_name)
    return [pa.field(each.name, _type(each, above)) for each in descriptor.fields]


def _type(of: Any, above: tuple[str, ...]) -> pa.DataType:
    if of.is_repeated:
        return _UNREAD
    if of.type == FieldDescriptor.TYPE_BYTES:
        return pa.binary()
    if of.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        return _TYPES.get(of.cpp_type, pa.string())
    name = of.message_type.full_name
    if name in _WRAPPERS:
        return _type(of.message_type.fields_by_name["value"], above)
    if name == _TIMESTAMP:
        return pa.string()
    return _UNREAD if name in above else pa.struct(_fields(of.message_type, above))


def _row_of(descriptor: Any, wanted: Sequence[pa.Field]) -> Callable[[Any], dict[str, Any]]:
    getters = [(each.name, _value_of(descriptor.fields_by_name[each.name], each.type)) for each in wanted]
    return lambda message: {name: get(message) for name, get in getters}


def _value_of(of: Any, type_: pa.DataType) -> Callable[[Any], Any]:
    """How the value of a field is taken from a message; None where it was not set."""
    name = of.name
    if type_ == _UNREAD:
        return lambda message: None
    if of.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        kind = of.message_type.full_name
        inner: Callable[[Any], Any]
        if kind in _WRAPPERS:
            inner = lambda value: value.value  # noqa: E731
        elif kind == _TIMESTAMP:
            inner = _time
        else:
            inner = _row_of(of.message_type, list(type_))
        return lambda message: inner(getattr(message, name)) if message.HasField(name) else None
    get: Callable[[Any], Any] = lambda message: getattr(message, name)  # noqa: E731
    if of.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        names = {number: value.name for number, value in of.enum_type.values_by_number.items()}
        get = lambda message: names.get(getattr(message, name), str(getattr(message, name)))  # noqa: E731
    return (lambda message: get(message) if message.HasField(name) else None) if of.has_presence else get


def _time(value: Any) -> str:
    try:
        return f"{_EPOCH + dt.timedelta(seconds=value.seconds):%Y-%m-%dT%H:%M:%S}.{value.nanos:09}Z"
    except OverflowError:
        return f"{value.seconds} s since 1970"


def _of_other_wire_type(message: Any) -> str | None:
    """A field that Protobuf left out of a message, or of one in it, because of its wire type; None for none."""
    known = message.DESCRIPTOR.fields_by_number
    for each in UnknownFieldSet(message):
        if each.field_number in known:
            return str(known[each.field_number].name)
    inner = (value for of, value in message.ListFields() if _is_message(of))
    return next(filter(None, map(_of_other_wire_type, inner)), None)


def _is_message(of: Any) -> bool:
    return of.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and not of.is_repeated


def _place(raw: bytes) -> tuple[list[int], int] | None:
    """The place of a message in its schema, and where the message begins; None where that is not there."""
    if len(raw) <= _HEAD_BYTES or raw[0]:
        return None
    numbers, at = list[int](), _HEAD_BYTES
    while not numbers or len(numbers) <= numbers[0]:
        number, shift = 0, 0
        while True:
            if at == len(raw) or shift > 28:
                return None
            number, shift, at = number | (raw[at] & 0x7F) << shift, shift + 7, at + 1
            if raw[at - 1] < 0x80:
                break
        numbers.append((number >> 1) ^ -(number & 1))
    return numbers[1:] or [0], at
