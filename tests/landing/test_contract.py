"""The check that all decoders share, and texts as values: a column at once and one by one are the same."""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from refold.errors import DeclarationError
from refold.landing import texts
from refold.landing.contract import Finding, ValueFault, check, settle
from refold.landing.decoder import BadRecord
from refold.landing.numerals import read_scaled
from refold.types import ColumnType, binary, boolean, date, decimal, enum, int64, text, timestamp


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
    lambda y, mo, d, t, h, s, f, z: f"{y}-{mo}-{d}{t}{h}{s}{f}{z}",
    st.sampled_from(["2026", "0001", "0000", "9999", "1969", "1900", "2000", "26"]),
    st.sampled_from(["01", "02", "12", "13", "00", "1"]),
    st.sampled_from(["01", "28", "29", "30", "31", "32"]),
    st.sampled_from(["T", " ", "t", "", "_"]),
    st.builds("{}:{}".format, st.sampled_from(["00", "23", "24"]), st.sampled_from(["00", "59", "60"])),
    st.sampled_from(["", ":00", ":59", ":60", ":61", ":5"]),
    st.sampled_from(["", ".", ".1", ".123456", ".1234567", ".123456000", ".000000001", ",5", ".,5"]),
    st.builds(
        str.__add__,
        st.sampled_from(["Z", "z", "", "+00:00", "-00:01", "+23:59", "+24:00", "+01:60", "+0100", "-08", " +01", " Z"])
        | st.sampled_from(["UTC", " GMT", " utc", "+1", "+010", "  Z", "-0860", "+01:", "Z+01:00"]),
        st.sampled_from(["", "", "", "\n", "[UTC]", "[Europe/Paris]", "[]", "[!UTC]"]),
    ),
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
        (timestamp(zone="UTC"), near_times),
        (timestamp(zone="-03:30", nanoseconds="truncate"), near_times),
        (timestamp(zone="Europe/Berlin", nanoseconds="truncate"), near_times),
        (date(), near_dates),
        (decimal(8, 2), near_decimals),
        (decimal(38, 38), near_decimals),
        (decimal(5, 0), near_decimals),
        (binary(), near_bytes),
        (int64(quoted=True), near_decimals),
        (decimal(12, 2, encoding="base64"), near_bytes),
        (boolean(true=["1", "0e0"], false=["0"]), near_decimals),
    ],
    ids=[
        "timestamp",
        "in-utc",
        "at-an-offset",
        "in-berlin",
        "date",
        "decimal",
        "decimal-all-scale",
        "decimal-no-scale",
        "binary",
        "integer-as-text",
        "decimal-as-base64",
        "words",
    ],
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


def read_by_python(text: str) -> dt.datetime | None:
    """The instant of a text, as Python reads it once the parts that Python does not know are rewritten."""
    plain = re.sub(r"\[[\w/+-]+\]$", "", text, flags=re.ASCII)
    if plain != text and not re.search(r"(Z|UTC|GMT|[+-]\d\d(:?\d\d)?)$", plain, re.ASCII | re.IGNORECASE):
        return None
    plain = re.sub(r" (?=[+-]\d\d(:?\d\d)?$)", "", plain, flags=re.ASCII)
    plain = re.sub(r" ?(Z|z|UTC|GMT)$", "+00:00", plain)
    plain = re.sub(r"([.,]\d{6})0+(?=[+-])", r"\1", plain, flags=re.ASCII)
    shape = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,6})?)?[+-]\d\d(:?[0-5]\d)?"
    if not re.fullmatch(shape, plain, re.ASCII):
        return None
    try:
        return dt.datetime.fromisoformat(plain).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


@given(near_times)
@example("2026-01-01T00:00:00.00+0100")
@settings(max_examples=600, deadline=None)
def test_a_time_is_the_instant_that_python_reads(text: str) -> None:
    read = texts.read_timestamp(text)
    expected = read_by_python(text)
    if "24:00" in text:  # the next day to newer versions of Python, refused by us
        assert isinstance(read, str)
        return
    event("read" if expected else "refused")
    instant = None if isinstance(read, str) else texts.EPOCH.replace(tzinfo=dt.UTC) + texts.MICROSECOND * read
    assert expected == instant


CHANGES = [dt.datetime(2026, 3, 29, 2, 30), dt.datetime(2026, 10, 25, 2, 30), dt.datetime(1945, 5, 24, 2, 30)]  # noqa: DTZ001


@given(
    st.sampled_from(CHANGES).flatmap(
        lambda near: st.datetimes(near - dt.timedelta(hours=3), near + dt.timedelta(hours=3))
    )
    | st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2030, 1, 1)),  # noqa: DTZ001
    st.integers(0, 999),
)
@settings(max_examples=300, deadline=None)
def test_a_local_time_is_the_instant_that_pandas_reads_or_has_a_reason(local: dt.datetime, below: int) -> None:
    written = local.strftime("%Y-%m-%d %H:%M:%S") + f".{local.microsecond:06}{below:03}"
    read = texts.read_timestamp(written, timestamp(zone="Europe/Berlin", nanoseconds="truncate").reading)
    try:
        there = pd.Timestamp(local).tz_localize("Europe/Berlin", ambiguous="raise", nonexistent="raise")
    except ValueError as error:  # of either kind, in the words of pandas
        assert read == ("no-such-time" if "nonexistent" in str(error) else "ambiguous-time")
        return
    assert read == there.value // 1000


@pytest.mark.parametrize(
    ("column", "number", "expected"),
    [
        (timestamp(epoch="s"), -1, -1_000_000),
        (timestamp(epoch="ms"), 1_769_940_000_123, 1_769_940_000_123_000),
        (timestamp(epoch="us"), texts.TIME_MAX, texts.TIME_MAX),
        (timestamp(epoch="us"), texts.TIME_MAX + 1, "out-of-range"),
        (timestamp(epoch="s"), 2**62, "out-of-range"),
        (timestamp(epoch="ns"), -1_999_000, -1999),
        (timestamp(epoch="ns"), 1_999, "below-microseconds"),
        (timestamp(epoch="ns", nanoseconds="truncate"), 1_999, 1),
        (timestamp(epoch="ns", nanoseconds="truncate"), -1_999, -2),
    ],
)
def test_an_integer_counts_the_declared_unit_since_1970(column: ColumnType, number: int, expected: object) -> None:
    values, faults = texts.convert(pa.array([number, None]), column)
    if isinstance(expected, str):
        assert [fault.reason for fault in faults.values()] == [expected]
    else:
        assert (faults, values.cast(pa.int64()).to_pylist()) == ({}, [expected, None])
        assert texts.read_epoch(number, column) == expected


def test_a_timestamp_that_cannot_be_read_as_declared_is_refused_with_all_faults() -> None:
    with pytest.raises(DeclarationError) as caught:
        timestamp(zone="Europe/Atlantis", nanoseconds="round", epoch="minutes")
    assert len(caught.value.faults) == 4


FORMS = {
    "java.time.OffsetDateTime": lambda m: re.sub(r":00(?=\+00:00$)", "", m.isoformat()).replace("+00:00", "Z"),
    "java.time.ZonedDateTime": lambda m: f"{m.isoformat()}[Africa/Abidjan]",
    "java.text.SimpleDateFormat": lambda m: m.strftime("%Y-%m-%dT%H:%M:%S") + f".{m.microsecond:06}+0000",
    ".NET": lambda m: m.strftime("%Y-%m-%dT%H:%M:%S") + f".{m.microsecond:06}0Z",
    "chrono": lambda m: m.strftime("%Y-%m-%dT%H:%M:%S") + f".{m.microsecond:06}000+00:00",
    "PostgreSQL": lambda m: m.isoformat(" ").replace("+00:00", "+00"),
    "BigQuery": lambda m: m.isoformat(" ").replace("+00:00", " UTC"),
    "Ruby": lambda m: m.isoformat(" ").replace("+00:00", " +0000"),
    "Python": dt.datetime.isoformat,
    "ISO 8601 with a comma": lambda m: m.isoformat().replace(".", ","),
}


@pytest.mark.parametrize("form", FORMS)
@given(
    st.datetimes(texts.EPOCH.replace(year=1000), texts.EPOCH.replace(year=9999), timezones=st.just(dt.UTC)),
    st.integers(-1439, 1439),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_time_that_others_write_is_read_back(form, moment, offset_minutes, whole) -> None:
    moment = moment.replace(second=0, microsecond=0) if whole else moment
    written = FORMS[form](moment)
    values, faults = texts.convert(pa.array([written, "2026-01-01T00:00:00Z"]), timestamp())
    assert (faults, values[0].as_py()) == ({}, moment)
    if form == "Python":
        there = moment.astimezone(dt.timezone(dt.timedelta(minutes=offset_minutes)))
        assert texts.read_timestamp(there.isoformat()) == texts.read_timestamp(written)


@given(st.decimals(min_value=-(10**14) + 1, max_value=10**14 - 1, places=4))
@settings(deadline=None)
def test_every_decimal_that_fits_is_read_back_however_it_is_written(value: Decimal) -> None:
    for written in (f"{value:f}", f"{value:E}", str(value)):
        assert texts.read_decimal(written, 18, 4) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**20), max_value=10**20))
def test_an_unscaled_decimal_is_read_as_kafka_connect_writes_it(value: Decimal) -> None:
    """Written here as Java's BigInteger does: as few bytes as its sign permits."""
    unscaled = int(value.scaleb(4))
    data = unscaled.to_bytes(((unscaled + (unscaled < 0)).bit_length() + 8) // 8, signed=True)
    column = decimal(30, 4, encoding="base64")
    assert texts.read(base64.b64encode(data).decode(), column) == value
    assert read_scaled(4, base64.b64encode(data).decode(), decimal(30, 6, encoding="scaled")) == value
    assert read_scaled(-1, base64.b64encode(data).decode(), decimal(38, 0)) == Decimal(unscaled * 10)


def test_a_default_takes_the_place_of_nothing_and_not_of_what_cannot_be_read() -> None:
    columns = {"a": int64(0, 9, default=3), "b": text()}
    table = pa.table({"a": pa.array([None, None, 10]), "b": pa.array(["x", "y", "z"])})
    known = {"a": {1: ValueFault("wrong-type", "an integer", "'7'")}}
    decoded = settle(table, columns, np.array([1, 2, 3]), lambda line: b"raw", known=known)
    assert decoded.rows.to_pylist() == [{"a": 3, "b": "x"}]
    assert [(record.number, record.reason) for record in decoded.bad] == [(2, "wrong-type"), (3, "out-of-range")]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: int64(default="7"),
        lambda: decimal(5, 2, encoding="hex"),
        lambda: decimal(4, 2, default=Decimal("1.005")),
        lambda: date(epoch="s"),
        lambda: boolean(true=["1"]),
        lambda: boolean(true="Y", false=["N"]),
        lambda: timestamp(epoch="days"),
    ],
)
def test_a_reading_that_its_type_does_not_have_is_refused(declare: Callable[[], ColumnType]) -> None:
    with pytest.raises(DeclarationError):
        declare()
