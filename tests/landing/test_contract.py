"""The check that all decoders share, and texts as values: a column at once and one by one are the same."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.landing import texts
from refold.landing.contract import Finding, ValueFault, check, settle
from refold.landing.decoder import BadRecord
from refold.types import binary, date, decimal, enum, int64, text, timestamp


class Size(Enum):
    SMALL = 1
    LARGE = 2


def reasons(values: pa.Array, column: object) -> dict[int, str]:
    return {row: found.reason for row, found in check(pa.table({"x": values}), {"x": column}).items()}


def test_each_kind_of_column_names_what_it_does_not_admit() -> None:
    assert reasons(pa.array([1, 0, None, 9, 10]), int64(1, 9)) == {1: "out-of-range", 2: "missing", 4: "out-of-range"}
    assert reasons(pa.array([1, None]), int64(null=True)) == {}
    assert reasons(pa.array(["", None, "x"]), text()) == {1: "missing"}
    assert reasons(pa.array(["", None, "x"]), text(null=True, empty=False)) == {0: "empty"}
    assert reasons(pa.array(["small", "Small", None]), enum(Size)) == {1: "unknown-value", 2: "missing"}
    assert reasons(pa.array(["small", None]), enum(Size, null=True)) == {}
    # A decimal beyond its precision can come out of other readers; pyarrow itself only makes one from raw bytes.
    raw = (10**18).to_bytes(16, "little") + (10**18 - 1).to_bytes(16, "little")
    wide = pa.Array.from_buffers(pa.decimal128(18, 4), 2, [None, pa.py_buffer(raw)])
    assert reasons(wide, decimal(18, 4)) == {0: "out-of-range"}
    years = pa.array([-(2**62), 0, 2**62]).cast(pa.timestamp("us", "UTC"))
    assert reasons(years, timestamp()) == {0: "out-of-range", 2: "out-of-range"}
    days = pa.array([-(2**31), 0, 2**31 - 1], pa.int32()).cast(pa.date32())
    assert reasons(days, date()) == {0: "out-of-range", 2: "out-of-range"}


def test_the_first_column_in_declared_order_wins_and_faults_of_reading_come_before_the_check() -> None:
    columns = {"a": int64(0, 9), "b": text()}
    table = pa.table({"a": pa.array([5, 10, None, None]), "b": pa.array([None, None, None, "x"], pa.string())})
    known = {"a": {2: ValueFault("wrong-type", "an integer", "'7'")}, "b": {1: ValueFault("wrong-type", "a text", "7")}}
    assert check(table, columns, known) == {
        0: Finding("missing", "Column b: expected a text, found null or nothing."),
        1: Finding("out-of-range", "Column a: expected an integer from 0 to 9, found 10."),
        2: Finding("wrong-type", "Column a: expected an integer, found '7'."),
        3: Finding("missing", "Column a: expected an integer from 0 to 9, found null or nothing."),
    }


def test_a_detail_repeats_only_the_beginning_of_what_it_found() -> None:
    finding = check(pa.table({"x": ["y" * 1_000_000]}), {"x": enum(Size)})[0]
    assert len(finding.detail) < 150
    assert "expected one of small, large, found 'yyy" in finding.detail


def test_settling_parts_rows_from_bad_records_in_the_order_of_lines() -> None:
    table = pa.table({"b": ["x", "y", "z"], "a": pa.array([1, 100, 3])})
    earlier = BadRecord(2, "not-json", "…", b"oops")
    decoded = settle(
        table,
        {"a": int64(0, 9), "b": text()},
        np.array([1, 3, 4], np.int64),
        lambda line: f"line {line}".encode(),
        bad=[earlier],
        early={2: Finding("missing-op", "…")},
        control=5,
    )
    assert decoded.rows.to_pylist() == [{"a": 1, "b": "x"}]
    assert decoded.rows.schema.names == ["a", "b"]
    assert decoded.lines.tolist() == [1]
    assert [(bad.number, bad.reason, bad.raw) for bad in decoded.bad] == [
        (2, "not-json", b"oops"),
        (3, "out-of-range", b"line 3"),
        (4, "missing-op", b"line 4"),
    ]
    assert decoded.read == 9


digits = st.text("0123456789", max_size=4)
near_times = st.builds(
    lambda y, mo, d, t, h, mi, s, f, z: f"{y}-{mo}-{d}{t}{h}:{mi}:{s}{f}{z}",
    st.sampled_from(["2026", "0001", "0000", "9999", "1969", "1900", "2000", "26"]),
    st.sampled_from(["01", "02", "12", "13", "00", "1"]),
    st.sampled_from(["01", "28", "29", "30", "31", "32"]),
    st.sampled_from(["T", " ", "t", "", "_"]),
    st.sampled_from(["00", "23", "24"]),
    st.sampled_from(["00", "59", "60"]),
    st.sampled_from(["00", "59", "60"]),
    st.sampled_from(["", ".", ".1", ".123456", ".1234567", ",5"]),
    st.sampled_from(["Z", "z", "", "+00:00", "-00:01", "+23:59", "+24:00", "+01:60", "+0100", "Z\n", " Z"]),
)
near_decimals = st.builds(
    lambda sign, whole, point, fraction, exponent: sign + whole + point + fraction + exponent,
    st.sampled_from(["", "-", "+"]),
    st.sampled_from(["0", "1", "00", "99", "123456", "1" * 38, "1" * 39, ""]),
    st.sampled_from([".", ""]),
    st.sampled_from(["", "0", "5", "50", "00001", "9" * 20, "0" * 50]),
    st.sampled_from(["", "", "", "e0", "E+2", "e-2", "e999999999", "e-999999999", "e" + "9" * 30, "e"]),
)
near_dates = near_times.map(lambda time: time[:10])
near_bytes = st.text("Aa+/=_- \n", max_size=9)


@pytest.mark.parametrize(
    ("column", "near"),
    [
        (timestamp(), near_times),
        (date(), near_dates),
        (decimal(8, 2), near_decimals),
        (decimal(38, 38), near_decimals),
        (decimal(5, 0), near_decimals),
        (binary(), near_bytes),
    ],
    ids=["timestamp", "date", "decimal", "decimal-all-scale", "decimal-no-scale", "binary"],
)
def test_a_column_of_texts_converts_as_its_texts_do_one_by_one(column: object, near: st.SearchStrategy[str]) -> None:
    """Singles show each text's own way through the common shape; lists show that one odd text spoils no neighbour."""

    @given(st.one_of(near.map(lambda one: [one]), st.lists(st.none() | near | st.text(max_size=4), max_size=5)))
    @settings(max_examples=150, deadline=None)
    def holds(column_texts: list[str | None]) -> None:
        values, faults = texts.convert(pa.array(column_texts, pa.string()), column)
        one_by_one = [None if one is None else texts.read(one, column) for one in column_texts]
        assert faults == {row: value for row, value in enumerate(one_by_one) if isinstance(value, ValueFault)}
        assert values.equals(texts.typed([None if isinstance(v, ValueFault) else v for v in one_by_one], column))

    holds()


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T00:00:00.00+0100", "2026-01-01T00:00:00.1234+01", "2026-01-01T00:00:00+0100", "2026-01-01T00:00Z"],
)
def test_a_time_that_arrow_takes_and_we_do_not_is_refused(text: str) -> None:
    """Two of them are as long as the usual times."""
    assert pa.array([text]).cast(timestamp().arrow).null_count == 0
    values, faults = texts.convert(pa.array([text, "2026-01-01T00:00:00.000000Z"]), timestamp())
    assert (values.null_count, [fault.reason for fault in faults.values()]) == (1, ["not-a-time"])


@given(st.datetimes(timezones=st.timezones().map(lambda _: dt.UTC)))
@settings(deadline=None)
def test_every_time_that_python_writes_in_utc_is_read_back(moment: dt.datetime) -> None:
    micros = texts.read_timestamp(moment.isoformat())
    assert micros is not None
    assert dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros) == moment


@given(st.decimals(min_value=-(10**14) + 1, max_value=10**14 - 1, places=4))
@settings(deadline=None)
def test_every_decimal_that_fits_is_read_back_however_it_is_written(value: Decimal) -> None:
    for written in (f"{value:f}", f"{value:E}", str(value)):
        assert texts.read_decimal(written, 18, 4) == value
