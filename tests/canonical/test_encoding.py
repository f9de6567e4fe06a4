"""The canonical bytes of rows: golden vectors reasoned by hand, and the fast encoder held equal to the plain one."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from enum import Enum

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.canonical.encoding import EncodedRows, encode_rows, kafka_partitions, text_buffers
from refold.proof.reference import encode_row, murmur64a
from refold.types import (
    INT64_MAX,
    INT64_MIN,
    ColumnType,
    Schema,
    binary,
    boolean,
    date,
    decimal,
    enum,
    int64,
    ratio,
    text,
    timestamp,
)


class Move(Enum):
    ADD = "add"
    REMOVE = "remove"


UTC = dt.UTC
GOLDEN = [
    # Little-endian two's complement: 258 = 0x0102, and -1 is all ones.
    (int64(), 0, "01" "0000000000000000"),
    (int64(), 258, "01" "0201000000000000"),
    (int64(), -1, "01" "ffffffffffffffff"),
    (int64(), INT64_MIN, "01" "0000000000000080"),
    (int64(), INT64_MAX, "01" "ffffffffffffff7f"),
    (int64(null=True), None, "00"),
    (boolean(), True, "01" "01"),
    (boolean(), False, "01" "00"),
    (boolean(null=True), None, "00"),
    # Days and microseconds since 1970, negative before it. 2026-01-01 is day 20454 = 0x4fe6, and 20454 × 86400 × 10⁶
    # microseconds are 0x6474846204000.
    (date(), dt.date(1970, 1, 2), "01" "0100000000000000"),
    (date(), dt.date(1969, 12, 31), "01" "ffffffffffffffff"),
    (date(), dt.date(2026, 1, 1), "01" "e64f000000000000"),
    (timestamp(), dt.datetime(1970, 1, 1, 0, 0, 0, 256, UTC), "01" "0001000000000000"),
    (timestamp(), dt.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), "01" "ffffffffffffffff"),
    (timestamp(), dt.datetime(2026, 1, 1, tzinfo=UTC), "01" "0040204648470600"),
    # 1.5 with scale 4 is 15000 = 0x3a98; trailing zeros of the text do not matter.
    (decimal(18, 4), Decimal("1.5"), "01" "983a0000000000000000000000000000"),
    (decimal(18, 4), Decimal("1.5000"), "01" "983a0000000000000000000000000000"),
    (decimal(18, 4), Decimal("-0.0001"), "01" "ffffffffffffffffffffffffffffffff"),
    (decimal(18, 4), Decimal("-0"), "01" "00000000000000000000000000000000"),
    (decimal(38, 0), Decimal(2**64), "01" "00000000000000000100000000000000"),
    (decimal(38, 0), Decimal(1 - 10**38), "01" "01000000c0dd75f6853b79a557b3c4b4"),
    # Sign bit, exponent 0x3fe: 0.5. One zero, one NaN.
    (ratio(), 0.5, "01" "000000000000e03f"),
    (ratio(), -2.0, "01" "00000000000000c0"),
    (ratio(), -0.0, "01" "0000000000000000"),
    (ratio(), math.nan, "01" "000000000000f87f"),
    (ratio(), math.copysign(math.nan, -1), "01" "000000000000f87f"),
    (ratio(), -math.inf, "01" "000000000000f0ff"),
    (ratio(), None, "00"),
    # The length in bytes, not in characters; empty is not null, and NUL is a byte like others.
    (text(), "", "01" "00000000"),
    (text(), "\0", "01" "01000000" "00"),
    (text(), "é", "01" "02000000" "c3a9"),
    (text(), "e\u0301", "01" "03000000" "65cc81"),
    (text(), "🧺", "01" "04000000" "f09fa7ba"),
    (text(), "a" * 256, "01" "00010000" + "61" * 256),
    (text(null=True), None, "00"),
    (enum(Move), "add", "01" "03000000" "616464"),
    (binary(), b"", "01" "00000000"),
    (binary(), b"\x00\xff", "01" "02000000" "00ff"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "expected"), GOLDEN, ids=lambda value: str(value)[:30])
def test_a_value_has_the_bytes_that_the_specification_says(column: ColumnType, value: object, expected: str):
    assert encode_rows([pa.array([value], column.arrow)]).row(0).hex() == expected
    assert encode_row({"c": column}, {"c": value}).hex() == expected


def test_a_row_is_its_values_one_after_the_other():
    columns = {"k": text(), "n": int64(null=True), "d": decimal(5, 1)}
    arrays = [pa.array(["ab"]), pa.nulls(1, pa.int64()), pa.array([Decimal("-1.0")], pa.decimal128(5, 1))]
    expected = "01" "02000000" "6162" "00" "01" "f6ffffffffffffffffffffffffffffff"  # fmt: skip
    assert encode_rows(arrays).row(0).hex() == expected
    assert encode_row(columns, {"k": "ab", "n": None, "d": Decimal(-1)}).hex() == expected


def test_neighbouring_texts_cannot_run_into_each_other():
    table = pa.table({"a": ["ab", "a"], "b": ["c", "bc"]})
    rows = list(encode_rows(table.columns))
    assert rows[0] != rows[1]


def test_rows_without_columns_are_empty_and_counted():
    assert list(encode_rows([], 3)) == [b"", b"", b""]


@pytest.mark.parametrize("column", [int64(), text(), decimal(9, 2), boolean(), ratio(), binary(), date()], ids=str)
def test_columns_without_rows_and_of_nulls_alone_encode(column: ColumnType):
    assert list(encode_rows([pa.array([], column.arrow)])) == []
    assert list(encode_rows([pa.nulls(3, column.arrow)])) == [b"\0"] * 3
    assert list(encode_rows([pa.chunked_array([], column.arrow)])) == []


def test_a_type_without_a_place_in_the_encoding_is_refused():
    with pytest.raises(TypeError, match=r"list<.*int64>"):
        encode_rows([pa.array([[1]])])


_WIDE = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda units: _scaled(units, 10))
VALUES: dict[ColumnType, st.SearchStrategy[object]] = {
    int64(null=True): st.integers(INT64_MIN, INT64_MAX),
    text(null=True): st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    binary(null=True): st.binary(max_size=20),
    boolean(null=True): st.booleans(),
    date(null=True): st.dates(),
    timestamp(null=True): st.datetimes(timezones=st.just(UTC)),
    decimal(18, 4, null=True): st.integers(-(10**18) + 1, 10**18 - 1).map(lambda units: _scaled(units, 4)),
    decimal(38, 10, null=True): _WIDE,
    ratio(): st.floats(),
    enum(Move, null=True): st.sampled_from(["add", "remove"]),
}


def _scaled(units: int, scale: int) -> Decimal:
    """Exact, whatever the decimal context of the process."""
    sign, digits, _ = Decimal(units).as_tuple()
    return Decimal((sign, digits, -scale))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Schema, list[dict[str, object]], pa.Table]:
    """Rows under drawn columns, as dictionaries and as Arrow, cut into chunks and slices in a drawn way."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    columns = {f"c{i}": kind for i, kind in enumerate(kinds)}
    row = st.fixed_dictionaries({name: st.none() | VALUES[kind] for name, kind in columns.items()})
    before, rows = draw(st.lists(row, max_size=3)), draw(st.lists(row, max_size=8))
    cut = draw(st.integers(0, len(rows)))
    arrays = []
    for name, kind in columns.items():
        whole = pa.array([each[name] for each in [*before, *rows]], kind.arrow).slice(len(before))
        column = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)], kind.arrow)
        arrays.append(column.dictionary_encode() if kind.kind in ("text", "enum") and draw(st.booleans()) else column)
    return columns, rows, pa.table(arrays, names=list(columns))


@settings(deadline=None, max_examples=150)
@given(tables())
def test_the_fast_encoder_and_hash_equal_the_plain_ones(drawn: tuple[Schema, list[dict[str, object]], pa.Table]):
    columns, rows, table = drawn
    expected = [encode_row(columns, row) for row in rows]
    found = encode_rows(table.columns)
    assert list(found) == expected
    assert [found.row(i) for i in range(len(found))] == expected
    assert found.hashes().tolist() == [murmur64a(row) for row in expected]


ROW = st.lists(st.sampled_from([b"\0", b"\x01", b"a", b"b", b"\xff", b"a" * 7, b"SKU-0022", b"\0" * 9])).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(ROW, st.integers(0, 3)), max_size=40), st.sampled_from([b"", b"a", b"\0" * 12]))
def test_rows_of_a_group_are_joined_as_bytes_sort(drawn: list[tuple[bytes, int]], prefix: bytes):
    rows = [prefix + row for row, _ in drawn]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    encoded = EncodedRows(np.frombuffer(b"".join(rows), np.uint8), offsets)
    joined = encoded.joined_by(np.array([group for _, group in drawn], dtype=np.uint16), 4)
    for group in range(4):
        expected = sorted(row for row, (_, mine) in zip(rows, drawn, strict=True) if mine == group)
        assert joined.row(group) == b"".join(expected)


@settings(deadline=None)
@given(st.lists(st.tuples(ROW, ROW)))
def test_rows_are_the_same_where_their_bytes_are(pairs: list[tuple[bytes, bytes]]):
    pairs += [(one, one + b"a") for one, _ in pairs] + [(one, one) for one, _ in pairs]

    def encoded(rows: list[bytes]) -> EncodedRows:
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return EncodedRows(np.frombuffer(b"".join([*rows, b"a"]), np.uint8), offsets)

    ones, others = (encoded([pair[side] for pair in pairs]) for side in (0, 1))
    assert ones.same_as(others).tolist() == [one == other for one, other in pairs]
    assert others.same_as(ones).tolist() == [one == other for one, other in pairs]


def test_the_plain_murmur64a_passes_the_verification_of_its_author():
    """SMHasher's check: the hash of the hashes of 0, 1, 2 … under falling seeds; its value there is 0x1F0D3804."""
    hashes = b"".join(murmur64a(bytes(range(i)), 256 - i).to_bytes(8, "little") for i in range(256))
    assert murmur64a(hashes) & 0xFFFFFFFF == 0x1F0D3804


HASHES = {
    "": 0,
    "a": 0x071717D2D36B6B11,
    "1234567": 0xAE9EBD2095279402,
    "12345678": 0x758F67D162B2D202,
    "123456789": 0x4977490251674330,
    "é\0": 0x27FEEF8AE59F1E9A,
}


def test_murmur64a_of_texts_has_the_golden_values():
    """Lengths around the block of eight bytes; a null hashes as empty."""
    assert EncodedRows(*text_buffers(pa.array([*HASHES, None]))).hashes().tolist() == [*HASHES.values(), 0]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_the_fast_murmur64a_equals_the_plain_one(values: list[bytes]):
    assert EncodedRows(*text_buffers(pa.array(values, pa.binary()))).hashes().tolist() == [
        murmur64a(value) for value in values
    ]


KAFKA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""The vectors of Kafka's own UtilsTest, as Java's signed int."""


def murmur2(data: bytes) -> int:
    """Kafka's `Utils.murmur2` in plain integers, as Java's signed int."""
    m, most = 0x5BD1E995, 2**32 - 1
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & most
        h = (h * m ^ (k ^ k >> 24) * m) & most
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & most
    h = (h ^ h >> 13) * m & most
    h ^= h >> 15
    return h - 2**32 if h >= 2**31 else h


def test_murmur2_of_kafkas_own_vectors():
    assert {key: murmur2(key.encode()) for key in KAFKA} == KAFKA
    expected = [value & 0x7FFFFFFF for value in KAFKA.values()]
    assert kafka_partitions(pa.array(list(KAFKA)), 2**31).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=10), st.integers(1, 1024))
def test_the_fast_murmur2_equals_the_plain_one(keys: list[bytes], partitions: int):
    found = kafka_partitions(pa.array(keys, pa.binary()), partitions).tolist()
    assert found == [(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
