"""Avro is read where no value changes, as fastavro writes it; what is cut within a block is refused."""

from __future__ import annotations

import datetime as dt
import io
import uuid
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import UnreadableObject
from refold.landing.avro import Avro
from refold.landing.bounds import LandingBounds
from refold.landing.decoder import Decoded
from refold.types import ColumnType, Schema, binary, boolean, date, decimal, int64, text, timestamp


def written(fields: dict[str, Any], rows: list[dict[str, Any]], codec: str = "null") -> bytes:
    out = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}
    fastavro.writer(out, schema, rows, codec=codec, sync_interval=200)
    return out.getvalue()


def read(kind: Any, value: Any, column: ColumnType) -> Decoded:
    return Avro().decode("a.avro", written({"x": kind}, [{"x": value}]), {"x": column})


INSTANT = dt.datetime(2026, 1, 31, 10, 20, 30, 123000, dt.UTC)
UUID = "7c0a4f3e-52a5-4b4f-9a62-5a35c8f2b5a1"


@pytest.mark.parametrize(
    ("kind", "value", "column", "right"),
    [
        ("int", 7, int64(), 7),
        ("long", -(2**63), int64(), -(2**63)),
        (["null", "long"], None, int64(null=True), None),
        (["null", "string"], "é", text(null=True), "é"),
        ("bytes", b"hi", binary(), b"hi"),
        ("boolean", True, boolean(), True),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, "B", text(), "B"),
        ({"type": "int", "logicalType": "date"}, dt.date(2026, 1, 31), date(), dt.date(2026, 1, 31)),
        ({"type": "long", "logicalType": "timestamp-millis"}, INSTANT, timestamp(), INSTANT),
        ({"type": "long", "logicalType": "timestamp-micros"}, INSTANT, timestamp(), INSTANT),
        (
            {"type": "long", "logicalType": "local-timestamp-millis"},
            INSTANT.replace(tzinfo=None),
            timestamp(zone="+01:00"),
            INSTANT - dt.timedelta(hours=1),
        ),
        ("long", 1500, timestamp(epoch="ms"), dt.datetime(1970, 1, 1, 0, 0, 1, 500000, dt.UTC)),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4},
            Decimal("1.5"),
            decimal(8, 2),
            Decimal("1.50"),
        ),
        ({"type": "string", "logicalType": "uuid"}, uuid.UUID(UUID), text(), UUID),
    ],
)
def test_a_type_is_read_as_the_column_it_fits(kind: Any, value: Any, column: ColumnType, right: object) -> None:
    decoded = read(kind, value, column)
    assert (decoded.rows["x"].to_pylist(), list(decoded.bad)) == ([right], [])


@pytest.mark.parametrize(
    ("kind", "value", "column"),
    [
        ("double", 1.5, decimal(5, 2)),
        (["int", "string"], 1, int64()),
        ({"type": "array", "items": "string"}, ["a"], text()),
        ("string", "7", int64()),
    ],
)
def test_a_type_that_a_column_cannot_be_read_from_refuses_the_file(kind: Any, value: Any, column: ColumnType) -> None:
    with pytest.raises(UnreadableObject, match=r"a\.avro, found .* in x; column x is read from"):
        read(kind, value, column)


ENVELOPE = {"type": "record", "name": "row", "fields": [{"name": "id", "type": "long"}]}


def test_nested_fields_are_found_by_paths() -> None:
    named = ["null", ENVELOPE]
    data = written({"before": named, "op": "string"}, [{"before": {"id": 2}, "op": "d"}, {"before": None, "op": "c"}])
    decoded = Avro({"id": ("before.id",)}).decode("a", data, {"id": int64(null=True), "op": text()})
    assert decoded.rows.to_pylist() == [{"id": 2, "op": "d"}, {"id": None, "op": "c"}]


COLUMNS: Schema = {"id": int64(), "name": text(null=True), "price": decimal(8, 2)}
FIELDS = {
    "id": "long",
    "name": ["null", "string"],
    "price": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2},
}


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "id": st.integers(-(2**63), 2**63 - 1),
                "name": st.none() | st.text(max_size=5),
                "price": st.decimals(places=2, min_value=-9999, max_value=9999),
            }
        ),
        max_size=30,
    ),
    st.sampled_from(["null", "deflate", "bzip2", "zstandard", "xz", "snappy"]),
)
@settings(max_examples=80, deadline=None)
def test_what_fastavro_writes_is_read_whole(rows: list[dict[str, Any]], codec: str) -> None:
    decoded = Avro().decode("a.avro", written(FIELDS, rows, codec), COLUMNS)
    assert decoded.rows.to_pylist() == rows
    assert decoded.lines.tolist() == list(range(1, len(rows) + 1))


CODECS = ["null", "deflate", "bzip2", "zstandard", "xz", "snappy"]


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_that_is_cut_within_a_block_is_refused_and_one_between_blocks_ends_there(codec: str) -> None:
    rows = [{"id": n, "name": f"name {n}", "price": Decimal(n)} for n in range(60)]
    data = written(FIELDS, rows, codec)
    whole = 0
    for end in range(len(data)):
        try:
            found = Avro().decode("a.avro", data[:end], COLUMNS)
        except UnreadableObject as error:
            assert "whole Avro file" in str(error)
        else:
            whole += 1
            assert found.rows.to_pylist() == rows[: len(found.rows)]
    assert 1 <= whole <= len(data) // 100


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_with_a_changed_byte_is_refused_or_has_as_many_rows(codec: str) -> None:
    rows = [{"id": n, "name": f"name {n}", "price": Decimal(n)} for n in range(60)]
    data = written(FIELDS, rows, codec)
    for place in range(4, len(data), 3):
        changed = data[:place] + bytes([data[place] ^ 0x11]) + data[place + 1 :]
        try:
            found = Avro().decode("a.avro", changed, COLUMNS)
        except UnreadableObject:
            continue
        assert found.read == 60, place


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_bomb_stops_at_the_bound(codec: str) -> None:
    bomb = written({"id": "long", "name": "string"}, [{"id": n, "name": "x" * (1 << 20)} for n in range(8)], codec)
    assert len(bomb) < 1 << 20
    with pytest.raises(UnreadableObject, match="object_bytes_max"):
        bounds = LandingBounds(object_bytes_max=4 << 20)
        list(Avro().pieces("a.avro", [bomb], {"id": int64(), "name": text()}, (), bounds))


def test_bounds_and_retries_are_those_of_all_formats() -> None:
    data = written(FIELDS, [{"id": n, "name": None, "price": Decimal(n)} for n in range(9)])
    with pytest.raises(UnreadableObject, match="at most 8 rows"):
        list(Avro().pieces("a.avro", [data], COLUMNS, (), LandingBounds(object_records_max=8)))
    narrow = {**COLUMNS, "id": int64(0, 7)}
    (record,) = Avro().decode("a.avro", data, narrow).bad
    assert (record.number, record.reason) == (9, "out-of-range")
    again = Avro().decode("a.retry.jsonl", Avro().encode([record.raw]), COLUMNS)
    assert again.rows.to_pylist() == [{"id": 8, "name": None, "price": Decimal(8)}]
