"""Framed Avro and Protobuf are read message by message: none is lost, none reads short, a bad one is kept as it is."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.dagster.keys import log_code_version
from refold.errors import DeclarationError, UnreadableObject
from refold.landing.avro_messages import AvroMessages, schemas_in
from refold.landing.bounds import LandingBounds
from refold.landing.debezium import Debezium
from refold.landing.framed import Framed, Framing
from refold.landing.protobuf_messages import ProtobufMessages
from refold.log.declaration import Log
from refold.types import Schema, binary, boolean, int64, text, timestamp

ONE = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
}
TWO = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "name", "type": ["null", "string"]},
        {"name": "note", "type": {"type": "array", "items": "string"}},
        {"name": "id", "type": "int"},
    ],
}
SCHEMAS = {1: json.dumps(ONE), 70000: json.dumps(TWO)}
COLUMNS: Schema = {"id": int64(-100, 100), "name": text(null=True)}


def avro(number: int, row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {1: ONE, 70000: TWO}[number], row)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


FRAMES: dict[Framing, Callable[[bytes], bytes]] = {
    Framing.DELIMITED: lambda raw: varint(len(raw)) + raw,
    Framing.INT32: lambda raw: len(raw).to_bytes(4, "big") + raw,
    Framing.BASE64: lambda raw: base64.b64encode(raw) + b"\n",
}


@pytest.fixture(params=FRAMES)
def framing(request: pytest.FixtureRequest) -> Framing:
    return Framing(request.param)


def framed(framing: Framing, messages: list[bytes]) -> bytes:
    return b"".join(map(FRAMES[framing], messages))


ROW = st.fixed_dictionaries({"id": st.integers(-120, 120), "name": st.text(max_size=200), "note": st.just(["x"])})


def test_messages_of_several_schemas_are_read_in_order_in_pieces_of_any_size(framing: Framing) -> None:
    decoder = Framed(messages=AvroMessages(SCHEMAS), framing=framing)

    @given(st.lists(st.tuples(st.sampled_from([1, 70000]), ROW), max_size=12), st.integers(1, 99))
    @settings(max_examples=60, deadline=None)
    def holds(rows: list[tuple[int, dict[str, Any]]], size: int) -> None:
        data = framed(framing, [avro(number, row) for number, row in rows])
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        found = list(decoder.pieces("a.bin", pieces, COLUMNS))
        good = [(n, row) for n, (_, row) in enumerate(rows, 1) if abs(row["id"]) <= 100]
        read = [row for piece in found for row in piece.rows.to_pylist()]
        assert read == [{"id": row["id"], "name": row["name"]} for _, row in good]
        assert [n for piece in found for n in piece.lines.tolist()] == [n for n, _ in good]
        bad = [record for piece in found for record in piece.bad]
        assert [r.number for r in bad] == [n for n, (_, row) in enumerate(rows, 1) if abs(row["id"]) > 100]
        wide = {**COLUMNS, "id": int64()}
        again = decoder.decode("a.retry.bin", decoder.encode([record.raw for record in bad]), wide)
        assert again.rows["id"].to_pylist() == [row["id"] for _, row in rows if abs(row["id"]) > 100]

    holds()


MESSAGES = [avro(1, {"id": n, "name": "x" * (60 * n)}) for n in range(4)]


def test_an_object_that_is_cut_within_a_message_is_refused_or_its_message_is_bad(framing: Framing) -> None:
    decoder, data = Framed(messages=AvroMessages(SCHEMAS), framing=framing), framed(framing, MESSAGES)
    ends = [len(framed(framing, MESSAGES[:count])) for count in range(5)]
    for end in range(len(data)):
        if end in ends:
            continue
        try:
            found = decoder.decode("a.bin", data[:end], COLUMNS)
        except UnreadableObject as error:
            assert "Expected whole messages" in str(error)
        else:  # a line without its end may still be whole
            assert framing is Framing.BASE64
            assert found.read == sum(each < end for each in ends)
            assert found.bad or end + 1 in ends


def test_a_line_that_is_no_base64_is_never_read_as_a_message() -> None:
    """The bytes of such a line can be a bare Protobuf message."""
    messages, one = ProtobufMessages(described(), "shop.Order"), b"\x08\x02"
    assert Framed(messages=messages, framing=Framing.INT32).decode("a", b"\0\0\0\2" + one, {"id": int64()}).read == 1
    with pytest.raises(UnreadableObject, match="no base64 in line 2"):
        Framed(messages=messages, framing=Framing.BASE64).decode("a", b"CAI=\n" + one + b"\n", {"id": int64()})


def test_a_message_that_is_none_is_bad_and_the_others_are_read() -> None:
    decoder = Framed(messages=AvroMessages(SCHEMAS), framing=Framing.INT32)
    wrong = [b"", b"\1abc", MESSAGES[0] + b"!", MESSAGES[2][:-1], b"\0\0\0\0\1"]
    data = framed(Framing.INT32, [MESSAGES[1], *wrong, MESSAGES[2], *wrong])
    found = decoder.decode("a.bin", data, COLUMNS)
    assert found.rows["id"].to_pylist() == [1, 2]
    assert [(record.number, record.raw) for record in found.bad] == list(
        zip([2, 3, 4, 5, 6, 8, 9, 10, 11, 12], wrong * 2, strict=True)
    )
    assert {record.reason for record in found.bad} == {"not-framed", "not-avro"}


def test_a_schema_that_is_not_declared_and_a_size_out_of_bounds_refuse_the_object(framing: Framing) -> None:
    decoder = Framed(messages=AvroMessages({1: SCHEMAS[1]}), framing=framing)
    other = avro(70000, {"id": 1, "name": None, "note": []})
    with pytest.raises(UnreadableObject, match="schemas 1 in the object a, found the id 70000") as error:
        decoder.decode("a", framed(framing, [MESSAGES[0], other]), COLUMNS)
    assert "Add the schema 70000" in str(error.value)
    with pytest.raises(UnreadableObject, match="bytes in each"):
        list(decoder.pieces("a", [framed(framing, MESSAGES)], COLUMNS, (), LandingBounds(record_bytes_max=100)))
    with pytest.raises(UnreadableObject, match=r"messages|lines"):
        list(decoder.pieces("a", [framed(framing, MESSAGES)], COLUMNS, (), LandingBounds(object_records_max=3)))


def test_schemas_are_files_or_answers_of_a_registry(tmp_path: Path) -> None:
    (tmp_path / "1.avsc").write_text(SCHEMAS[1])
    (tmp_path / "70000.json").write_text(json.dumps({"schema": SCHEMAS[70000], "id": 70000}))
    (tmp_path / "README").write_text("schemas")
    assert {number: json.loads(text) for number, text in schemas_in(tmp_path).items()} == {1: ONE, 70000: TWO}
    (tmp_path / "9.json").write_text(json.dumps({"schema": SCHEMAS[1], "references": [{"name": "x"}]}))
    (tmp_path / "latest.avsc").write_text(SCHEMAS[1])
    (tmp_path / "8.json").write_text("{")
    with pytest.raises(DeclarationError, match=r"(?s)8\.json.*9\.json.*references.*latest\.avsc"):
        schemas_in(tmp_path)
    with pytest.raises(DeclarationError, match=r"schema 3: .*(?s:.*)schema 4: expected a record"):
        AvroMessages({3: '{"type": "recrd"}', 4: '"long"'})


def test_changes_in_frames_are_those_of_debezium_with_tombstones() -> None:
    row = {"type": "record", "name": "V", "fields": [{"name": "id", "type": "long"}]}
    schema = {
        "type": "record",
        "name": "E",
        "fields": [
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "V"]},
            {"name": "op", "type": "string"},
        ],
    }

    def event(**values: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, values)
        return b"\0\0\0\0\7" + out.getvalue()

    decoder = Framed(messages=AvroMessages({7: json.dumps(schema)}), framing=Framing.INT32, changes=Debezium())
    data = [event(op="u", before={"id": 1}, after={"id": 2}), event(op="d", before={"id": 2}, after=None), b""]
    found = decoder.decode("a", framed(Framing.INT32, data), {"id": int64(), "op": text()}, ["id"])
    assert [tuple(row.values()) for row in found.rows.to_pylist()] == [(1, "d"), (2, "u"), (2, "d")]
    assert (found.control, list(found.bad), found.lines.tolist()) == (1, [], [1, 1, 2])


def described() -> bytes:
    """A descriptor set as protoc writes it: a type with all kinds of fields, and one in another."""
    field, file = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.FileDescriptorProto
    proto = file(name="shop.proto", package="shop", syntax="proto3")
    proto.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    proto.message_type.add(name="Other")
    order = proto.message_type.add(name="Order")
    kinds = [
        ("id", field.TYPE_SINT64, ""),
        ("big", field.TYPE_UINT64, ""),
        ("name", field.TYPE_STRING, ""),
        ("raw", field.TYPE_BYTES, ""),
        ("paid", field.TYPE_BOOL, ""),
        ("state", field.TYPE_ENUM, ".shop.Order.State"),
        ("at", field.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
        ("limit", field.TYPE_MESSAGE, ".google.protobuf.Int64Value"),
        ("buyer", field.TYPE_MESSAGE, ".shop.Order.Buyer"),
        ("ratio", field.TYPE_DOUBLE, ""),
        ("parent", field.TYPE_MESSAGE, ".shop.Order"),
    ]
    for number, (name, kind, type_name) in enumerate(kinds, 1):
        order.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL, type_name=type_name or None)
    maybe = order.field.add(name="maybe", number=12, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    maybe.proto3_optional, maybe.oneof_index = True, 0
    order.field.add(name="tags", number=13, type=field.TYPE_STRING, label=field.LABEL_REPEATED)
    order.oneof_decl.add(name="_maybe")
    state = order.enum_type.add(name="State")
    state.value.add(name="OPEN", number=0)
    state.value.add(name="SHUT", number=1)
    buyer = order.nested_type.add(name="Buyer")
    buyer.field.add(name="city", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    files = [file.FromString(each.DESCRIPTOR.serialized_pb) for each in (timestamp_pb2, wrappers_pb2)]
    return descriptor_pb2.FileDescriptorSet(file=[*files, proto]).SerializeToString()


DESCRIBED = described()
PROTO_COLUMNS: Schema = {
    "id": int64(),
    "big": int64(),
    "name": text(empty=True),
    "raw": binary(),
    "paid": boolean(),
    "state": text(),
    "at": timestamp(null=True),
    "limit": int64(null=True),
    "city": text(null=True),
    "maybe": int64(null=True),
}


def order_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIBED).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


ORDER = order_class()


def proto(**options: Any) -> Framed:
    messages = ProtobufMessages(DESCRIBED, "shop.Order", **options)
    return Framed({"city": ("buyer.city",)}, messages=messages, framing=Framing.DELIMITED)


def test_fields_of_protobuf_are_values_defaults_or_null() -> None:
    full = ORDER(id=-7, big=8, name="é", raw=b"\xff", paid=True, state=1, maybe=0, tags=["a"], ratio=1.5)
    full.at.seconds, full.at.nanos, full.limit.value, full.buyer.city = 1, 500_000_000, 9, "Ulm"
    data = framed(Framing.DELIMITED, [each.SerializeToString() for each in (full, ORDER())])
    found = proto().decode("a.pb", data, PROTO_COLUMNS)
    at = dt.datetime(1970, 1, 1, 0, 0, 1, 500000, dt.UTC)
    assert [list(row.values()) for row in found.rows.to_pylist()] == [
        [-7, 8, "é", b"\xff", True, "SHUT", at, 9, "Ulm", 0],
        [0, 0, "", b"", False, "OPEN", None, None, None, None],
    ]
    assert list(found.bad) == []


def test_what_protobuf_would_leave_out_or_round_is_bad() -> None:
    beyond, below, later = ORDER(big=2**64 - 1), ORDER(), ORDER()
    below.at.nanos, later.at.seconds = 1, 10**15
    raws = [beyond.SerializeToString(), below.SerializeToString(), later.SerializeToString()]
    raws += [b"\x0a\x01a", b"\x4a\x02\x08\x01", b"\xff", ORDER(name="abc").SerializeToString()[:-1], b"\xf8\x07\x01"]
    columns: Schema = {**PROTO_COLUMNS, "name": text(empty=True)}
    found = proto().decode("a.pb", framed(Framing.DELIMITED, raws), columns)
    assert [(record.number, record.reason) for record in found.bad] == [
        (1, "out-of-range"),
        (2, "below-microseconds"),
        (3, "not-a-time"),
        (4, "wrong-wire-type"),
        (5, "wrong-wire-type"),
        (6, "not-protobuf"),
        (7, "not-protobuf"),
    ]
    assert found.lines.tolist() == [8], "a field of a later declaration is passed over"
    with pytest.raises(UnreadableObject, match=r"double in ratio(?s:.*)in tags"):
        proto().decode("a.pb", framed(Framing.DELIMITED, raws), {"ratio": int64(), "tags": text()})


def test_protobuf_in_the_wire_format_of_confluent_names_its_type() -> None:
    decoder, body = proto(is_confluent=True), ORDER(id=3, name="x").SerializeToString()
    head = b"\0\0\0\0\5"
    data = [head + b"\2\2" + body, head + b"\0" + body, head + b"\4\2\0" + body, b"\0\0", b"\1" + head + body]
    found = decoder.decode("a", framed(Framing.DELIMITED, data), PROTO_COLUMNS)
    assert found.rows["id"].to_pylist() == [3]
    assert [(r.number, r.reason) for r in found.bad] == [
        (2, "other-message"),
        (3, "other-message"),
        (4, "not-framed"),
        (5, "not-framed"),
    ]


def test_a_declaration_is_described_by_what_it_reads_and_refused_where_that_is_nothing() -> None:
    logs = [
        Log("t", key="id", event_id="id", columns=COLUMNS, decoder=Framed(messages=each, framing=Framing.INT32))
        for each in (AvroMessages(SCHEMAS), AvroMessages({1: SCHEMAS[1]}), ProtobufMessages(DESCRIBED, "shop.Order"))
    ]
    assert len({log_code_version(log) for log in logs}) == 3
    with pytest.raises(DeclarationError, match=r"shop\.Nothing"):
        ProtobufMessages(DESCRIBED, "shop.Nothing")
    with pytest.raises(DeclarationError, match="ProtobufMessages"):
        ProtobufMessages(b"\xff", "shop.Order")
