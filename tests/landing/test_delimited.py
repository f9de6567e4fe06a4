"""CSV is read as Python's `csv` module writes it, and strictly: what is no record is bad, and nothing is guessed."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
from decimal import Decimal

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from refold.errors import DeclarationError, UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.decoder import Decoded, joined
from refold.landing.delimited import Csv
from refold.types import boolean, date, decimal, int64, text, timestamp

COLUMNS = {
    "id": int64(),
    "name": text(null=True),
    "price": decimal(8, 2, null=True),
    "day": date(null=True),
    "at": timestamp(null=True, epoch="ms"),
    "paid": boolean(null=True),
}
TABLE = {
    "id": "7",
    "name": "lamp, large",
    "price": "12.50",
    "day": "2026-01-31",
    "at": "1500",
    "paid": "true",
}


def written(rows: list[list[str]], quoting: int = csv.QUOTE_MINIMAL, end: str = "\n", delimiter: str = ",") -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=quoting, lineterminator=end, delimiter=delimiter).writerows(rows)
    return out.getvalue().encode()


def read(data: bytes, columns: dict = COLUMNS, form: Csv = Csv(), name: str = "a.csv", **options: bool) -> Decoded:  # noqa: B008
    return joined(columns, form.pieces(name, [data], columns, **options))


def faults(decoded: Decoded) -> list[tuple[int, str, bytes]]:
    return [(record.number, record.reason, record.raw) for record in decoded.bad]


def test_every_value_is_a_text_that_its_column_reads() -> None:
    row = {
        "id": 7,
        "name": "lamp, large",
        "price": Decimal("12.50"),
        "day": dt.date(2026, 1, 31),
        "at": dt.datetime(1970, 1, 1, 0, 0, 1, 500_000, dt.UTC),
        "paid": True,
    }
    data = written([list(TABLE), [*TABLE.values()], ["8", "", "", "", "", ""]])
    decoded = read(data)
    assert decoded.rows.to_pylist() == [row, dict.fromkeys(TABLE, None) | {"id": 8}]
    assert decoded.lines.tolist() == [1, 2]
    assert read(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")).rows.equals(decoded.rows)
    assert read(gzip.compress(data), name="a.csv.gz").rows.equals(decoded.rows)
    other = Csv({"id": "Id"}, names=("paid", "Id"), delimiter=";", null=())
    assert read(b"true;5\n", {"id": int64(), "paid": boolean()}, other).rows.to_pylist() == [{"id": 5, "paid": True}]


HEADER = b"id,name,price,day,at,paid\n"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"7,lamp,,,,,", "ragged"),
        (b"7,lamp", "ragged"),
        (b'7,"lamp"x,,,,', "not-csv"),
        (b"7,\xff,,,,", "not-utf8"),
        (b"07,lamp,,,,", "not-an-integer"),
        (b"9223372036854775808,lamp,,,,", "out-of-range"),
        (b"7.0,lamp,,,,", "not-an-integer"),
        (b",lamp,,,,", "missing"),
        (b"7,lamp,1.005,,,", "out-of-range"),
        (b"7,lamp,,2026-02-30,,", "not-a-date"),
        (b"7,lamp,,,1e3,", "not-an-integer"),
        (b"7,lamp,,,,True", "unknown-value"),
    ],
)
def test_what_is_no_record_is_bad_with_its_bytes_and_its_neighbours_are_read(record: bytes, reason: str) -> None:
    decoded = read(HEADER + b'1,"a ""b""",,,,\n' + record + b"\n2,b,,,,\n")
    assert decoded.rows["id"].to_pylist() == [1, 2]
    assert faults(decoded) == [(2, reason, HEADER + record)]
    again = read(Csv().encode([HEADER + record, HEADER + b'3,"x\ny",,,,']), name="a.retry.csv")
    assert faults(again) == [(1, reason, HEADER + record)]
    assert (again.rows["name"].to_pylist(), again.lines.tolist()) == (["x\ny"], [2])


def test_a_quote_that_never_ends_takes_nothing_with_it_unseen() -> None:
    decoded = read(HEADER + b'1,a,,,,\n2,"b,,,,\n3,c,,,,\n')
    assert decoded.rows["id"].to_pylist() == [1]
    assert faults(decoded) == [(2, "not-csv", HEADER + b'2,"b,,,,\n3,c,,,,')]


def test_fields_that_do_not_fit_the_columns_are_refused_together() -> None:
    with pytest.raises(UnreadableObject, match="the field 'name' twice, no field id"):
        read(b"name,name\na,b\n")
    with pytest.raises(UnreadableObject, match="more"):
        list(Csv().pieces("a.csv", [HEADER + b"1,a,,,,\n" * 9], COLUMNS, (), LandingBounds(object_records_max=8)))
    for declare in (
        lambda: Csv(delimiter=";;"),
        lambda: Csv(quote=","),
        lambda: Csv(names=("a", "a")),
        lambda: Csv(null="x"),
    ):
        with pytest.raises(DeclarationError):
            declare()
    with pytest.raises(DeclarationError, match="scale and value"):
        read(HEADER, {"price": decimal(8, 2, encoding="scaled")})


@pytest.mark.parametrize("data", [b"", b"\n", HEADER, b"id,name,price,day,at,paid"])
def test_an_object_without_records_has_none(data: bytes) -> None:
    assert read(data).read == 0


cells = st.text(st.sampled_from("ab,;\"\n\r 'é\x00{}7"), max_size=4) | st.integers(0, 99).map(str)


@given(
    st.lists(st.tuples(cells, cells, cells), max_size=12),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=300, deadline=None)
def test_what_the_standard_library_writes_is_read_whole(
    rows: list[tuple[str, str, str]], quoting: int, end: str
) -> None:
    columns = {"a": text(), "b": text(), "c": text()}
    if end == "\n" and quoting == csv.QUOTE_MINIMAL:  # the standard library writes a \r before it without quotes
        rows = [tuple(cell.replace("\r", "") for cell in row) for row in rows]
    data = written([["a", "b", "c"], *map(list, rows)], quoting, end)
    form = Csv(null=())
    whole = read(data, columns, form)
    assert [tuple(row.values()) for row in whole.rows.to_pylist()] == rows
    assert not whole.bad
    event("quotes" if b'"' in data else "no quotes")
    records = Csv(names=("a", "b", "c"), null=()).pieces("a.csv", [data.partition(b"\n")[2]], columns)
    assert joined(columns, records).rows.equals(whole.rows)


@given(
    st.lists(st.sampled_from([b"1", b"x", b",", b"\n", b"\r\n", b"\r", b'"', b" ", b"\xff", b"\0", b"2"]), max_size=40)
)
@settings(max_examples=400, deadline=None)
def test_arrow_splits_as_the_standard_library_does(parts: list[bytes]) -> None:
    columns = {"a": int64(null=True), "b": text(null=True)}
    data = b"a,b\n" + b"".join(parts)
    fast, slow = read(data, columns), read(data, columns, fast=False)
    assert fast.rows.equals(slow.rows)
    assert fast.lines.tolist() == slow.lines.tolist()
    assert faults(fast) == faults(slow)


def test_records_that_span_pieces_are_whole() -> None:
    rows = [[str(n), f'line\n{n} "quoted", {"x" * (n % 17 + 1500)}'] for n in range(2000)]
    data = written([["id", "name"], *rows])
    columns = {"id": int64(), "name": text()}
    pieces = list(Csv().pieces("a.csv", [data], columns, piece_bytes=4096))
    assert len(pieces) > 2
    decoded = joined(columns, pieces)
    assert [[str(row["id"]), row["name"]] for row in decoded.rows.to_pylist()] == rows
    assert decoded.lines.tolist() == list(range(1, 2001))
