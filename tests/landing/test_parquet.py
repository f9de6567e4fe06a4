"""Parquet is read where no value changes; a type that a column cannot be read from refuses the file."""

from __future__ import annotations

import base64
import datetime as dt
import io
from decimal import Decimal
from enum import Enum

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.decoder import Decoded
from refold.landing.parquet import Parquet
from refold.types import ColumnType, Schema, binary, boolean, date, decimal, enum, int64, text, timestamp


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


def written(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def read(values: pa.Array, column: ColumnType) -> Decoded:
    return Parquet().decode("a.parquet", written(pa.table({"x": values})), {"x": column})


INSTANT = dt.datetime(2026, 1, 31, 10, 20, 30, 123456, dt.UTC)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
BERLIN = timestamp(zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("values", "column", "right"),
    [
        (pa.array([1, -2], pa.int16()), int64(), [1, -2]),
        (pa.array([1, 2**63 - 1], pa.uint64()), int64(), [1, 2**63 - 1]),
        (pa.array([7], pa.int32()), decimal(5, 2), [Decimal("7.00")]),
        (pa.array([Decimal("1.50")], pa.decimal128(20, 4)), decimal(5, 2), [Decimal("1.50")]),
        (pa.array([Decimal("1.5")], pa.decimal256(50, 1)), decimal(5, 2), [Decimal("1.50")]),
        (pa.array([Decimal("12")], pa.decimal128(38, 0)), int64(), [12]),
        (pa.array([INSTANT], pa.timestamp("us", "UTC")), timestamp(), [INSTANT]),
        (pa.array([INSTANT], pa.timestamp("us", "+02:00")), timestamp(), [INSTANT]),
        (pa.array([1500], pa.timestamp("ms", "UTC")), timestamp(), [EPOCH + dt.timedelta(seconds=1.5)]),
        (pa.array([1000], pa.timestamp("ns", "UTC")), timestamp(), [EPOCH + dt.timedelta(microseconds=1)]),
        (pa.array([0], pa.timestamp("us")), BERLIN, [EPOCH - dt.timedelta(hours=1)]),
        (pa.array([1500], pa.int64()), timestamp(epoch="ms"), [EPOCH + dt.timedelta(seconds=1.5)]),
        (pa.array([1], pa.int32()), date(epoch="days"), [dt.date(1970, 1, 2)]),
        (pa.array([dt.date(2026, 1, 31)]), date(), [dt.date(2026, 1, 31)]),
        (pa.array(["2026-01-31"]), date(), [dt.date(2026, 1, 31)]),
        (pa.array(["small"]).dictionary_encode(), enum(Size), ["small"]),
        (pa.array(["", "é"], pa.large_string()), text(), ["", "é"]),
        (pa.array([True]), boolean(), [True]),
        (pa.array([1, 0], pa.int8()), boolean(true=["1"], false=["0"]), [True, False]),
        (pa.array([b"hi"]), binary(), [b"hi"]),
        (pa.array([base64.b64decode("AcnDgA==")]), decimal(12, 2, encoding="base64"), [Decimal("300000.00")]),
        (pa.array([None, None]), text(null=True), [None, None]),
        (pa.array([None, 3]), int64(default=9), [9, 3]),
    ],
)
def test_a_type_is_read_as_the_column_it_fits(values: pa.Array, column: ColumnType, right: list) -> None:
    decoded = read(values, column)
    assert (decoded.rows["x"].to_pylist(), list(decoded.bad)) == (right, [])


@pytest.mark.parametrize(
    ("values", "column", "reason"),
    [
        (pa.array([2**63], pa.uint64()), int64(), "out-of-range"),
        (pa.array([Decimal("1.005")]), decimal(5, 2), "out-of-range"),
        (pa.array([Decimal("1.5")]), int64(), "out-of-range"),
        (pa.array([1001], pa.timestamp("ns", "UTC")), timestamp(), "below-microseconds"),
        (pa.array([2**60], pa.timestamp("ms", "UTC")), timestamp(), "out-of-range"),
        (pa.array([0], pa.timestamp("us")), timestamp(), "no-zone"),
        (pa.array([2**40]), date(epoch="days"), "out-of-range"),
        (pa.array(["medium"]), enum(Size), "unknown-value"),
        (pa.array([None], pa.int64()), int64(), "missing"),
    ],
)
def test_a_value_that_does_not_fit_is_bad_and_its_bytes_are_retried(
    values: pa.Array, column: ColumnType, reason: str
) -> None:
    (record,) = read(values, column).bad
    assert (record.number, record.reason) == (1, reason)
    again = Parquet().decode("a.retry.jsonl", Parquet().encode([record.raw]), {"x": column})
    assert (len(again.rows), len(again.bad)) == (0, 1)


@pytest.mark.parametrize(
    ("type_", "column"),
    [
        (pa.float64(), decimal(5, 2)),
        (pa.float32(), int64()),
        (pa.string(), int64()),
        (pa.int64(), text()),
        (pa.int64(), timestamp()),
        (pa.timestamp("us", "UTC"), timestamp(epoch="us")),
        (pa.bool_(), int64()),
        (pa.list_(pa.string()), text()),
        (pa.binary(), text()),
        (pa.date32(), timestamp()),
    ],
)
def test_a_type_that_a_column_cannot_be_read_from_refuses_the_file(type_: pa.DataType, column: ColumnType) -> None:
    data = written(pa.table({"x": pa.array([], type_)}))
    with pytest.raises(UnreadableObject, match=r"a\.parquet, found .* in x; column x is read from .*; no y, which may"):
        Parquet().decode("a.parquet", data, {"x": column, "y": int64(), "z": text(null=True)})


def test_nested_fields_are_found_by_paths_and_the_first_that_is_not_null_counts() -> None:
    table = pa.Table.from_pylist([{"after": {"id": 1}, "before": None}, {"after": None, "before": {"id": 2}}])
    form = Parquet({"id": ("after.id", "before.id")})
    assert form.decode("a", written(table), {"id": int64(), "op": text(null=True)}).rows["id"].to_pylist() == [1, 2]


COLUMNS: Schema = {
    "id": int64(),
    "name": text(null=True),
    "price": decimal(8, 2, null=True),
    "at": timestamp(null=True),
}


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(max_size=5),
            st.none() | st.decimals(places=2, min_value=-9999, max_value=9999),
            st.none() | st.datetimes(min_value=dt.datetime(1, 1, 2), timezones=st.just(dt.UTC)),  # noqa: DTZ001
        ),
        max_size=20,
    ),
    st.sampled_from(["none", "snappy", "zstd", "gzip", "lz4"]),
    st.integers(1, 7),
)
@settings(max_examples=80, deadline=None)
def test_what_arrow_writes_is_read_whole(rows: list[tuple], compression: str, group: int) -> None:
    names = list(COLUMNS)
    types = [column.arrow for column in COLUMNS.values()]
    values = zip(*rows, strict=True) if rows else [[]] * 4
    table = pa.table([pa.array(each, type_) for each, type_ in zip(values, types, strict=True)], names)
    decoded = Parquet().decode("a.parquet", written(table, compression=compression, row_group_size=group), COLUMNS)
    assert [tuple(row.values()) for row in decoded.rows.to_pylist()] == rows
    assert decoded.lines.tolist() == list(range(1, len(rows) + 1))


def test_a_file_that_is_cut_or_has_a_changed_page_is_refused() -> None:
    table = pa.table({"id": list(range(50)), "name": [f"n{n}" for n in range(50)]})
    data = written(table, write_page_checksum=True, compression="none", use_dictionary=False)
    columns: Schema = {"id": int64(), "name": text()}
    for end in range(0, len(data), 7):
        with pytest.raises(UnreadableObject, match="whole Parquet file"):
            Parquet().decode("a.parquet", data[:end], columns)
    place = data.index(b"n17")
    with pytest.raises(UnreadableObject, match="whole Parquet file"):
        Parquet().decode("a.parquet", data[:place] + b"m" + data[place + 1 :], columns)


def test_a_file_that_is_larger_than_its_bounds_is_refused_before_it_is_read() -> None:
    data = written(pa.table({"id": pa.array([0] * 100_000)}))
    few_bytes, few_rows = LandingBounds(object_bytes_max=100), LandingBounds(object_records_max=9)
    for bounds, unit in ((few_bytes, "plain bytes"), (few_rows, "rows")):
        with pytest.raises(UnreadableObject, match=f"at most .* {unit}"):
            list(Parquet().pieces("a.parquet", [data], {"id": int64()}, (), bounds))


def test_a_name_that_two_fields_have_and_a_path_through_a_value_are_refused_even_where_null_is_allowed() -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(UnreadableObject, match="found x twice"):
        Parquet().decode("a.parquet", written(twice), {"x": int64(null=True)})
    with pytest.raises(UnreadableObject, match=r"in after\.id; column x is read from"):
        Parquet({"x": ("after.id",)}).decode("a", written(pa.table({"after": ["x"]})), {"x": int64(null=True)})
