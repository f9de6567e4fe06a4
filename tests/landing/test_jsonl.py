"""JSON Lines: the strict reading of a line, the fast reading of many, and files that nobody would send on purpose."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum

import pytest

from refold.errors import DeclarationError
from refold.landing.decoder import Decoded, joined
from refold.landing.json_block import LineIndex
from refold.landing.jsonl import JsonLines
from refold.types import binary, boolean, date, decimal, enum, int64, ratio, text, timestamp

UTC = dt.UTC


class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"


STOCK = {
    "event_id": text(),
    "product_id": text(),
    "quantity": int64(1, 10**6),
    "event_type": enum(Movement),
    "occurred_at": timestamp(),
    "country": text(null=True),
    "invoice_no": text(null=True),
    "unit_price": decimal(18, 4, null=True),
    "customer_id": text(null=True),
}


def decode(data: bytes, columns: dict, name: str = "a.jsonl", fast: bool = True, **options: object) -> Decoded:
    return joined(columns, JsonLines(**options).pieces(name, [data], columns, fast=fast))


def assert_same(one: Decoded, other: Decoded) -> None:
    assert one.rows.equals(other.rows)
    assert one.rows.schema.equals(other.rows.schema)
    assert one.lines.tolist() == other.lines.tolist()
    assert one.lines.dtype == other.lines.dtype
    assert list(one.bad) == list(other.bad)
    assert one.control == other.control


def only(line: bytes, **columns: object) -> object:
    """The value of the one column of a one-line object, or the reason it is bad; the same read among many."""
    decoded = decode(line, columns)
    crowd = decode(b"\n".join([line] * 40), columns)
    assert_same(crowd, decode(b"\n".join([line] * 40), columns, fast=False))
    assert (len(crowd.rows), len(crowd.bad)) == (40 * len(decoded.rows), 40 * len(decoded.bad))
    if decoded.bad:
        assert {bad.reason for bad in crowd.bad} == {decoded.bad[0].reason}
        assert decoded.bad[0].raw == line
        return decoded.bad[0].reason
    values = {tuple(row.values()) for row in [*decoded.rows.to_pylist(), *crowd.rows.to_pylist()]}
    assert len(values) == 1
    return values.pop()[0]


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("7", 7),
        ("-0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", "out-of-range"),
        ("-9223372036854775809", "out-of-range"),
        ("100000000000000000000000", "out-of-range"),
        ("9" * 10_000, "out-of-range"),
        ("1.0", "wrong-type"),
        ("1e2", "wrong-type"),
        ('"7"', "wrong-type"),
        ("true", "wrong-type"),
        ("[7]", "wrong-type"),
        ("null", "missing"),
        ("NaN", "not-json"),
        ("-Infinity", "not-json"),
        ("01", "not-json"),
        ("+1", "not-json"),
    ],
)
def test_an_integer_is_an_integer_literal_of_64_bits_and_nothing_else(literal: str, expected: object) -> None:
    assert only(f'{{"n":{literal}}}'.encode(), n=int64()) == expected


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ('"1.50"', Decimal("1.5000")),
        ("1.50", Decimal("1.5000")),
        ('"-0.0"', Decimal("0.0000")),
        ('"1.50000"', Decimal("1.5000")),
        ("1e2", Decimal("100.0000")),
        ('"1E-4"', Decimal("0.0001")),
        ("0e999999999999", Decimal("0.0000")),
        ('"99999999999999.9999"', Decimal("99999999999999.9999")),
        ("99999999999999.9999", Decimal("99999999999999.9999")),
        ("100000000000000", "out-of-range"),
        ("999999999999999999", "out-of-range"),
        ('"100000000000000"', "out-of-range"),
        ('"0.00001"', "out-of-range"),
        ("3.140000104904175", "out-of-range"),
        ("1e-999999999", "out-of-range"),
        ('"1e-999999999"', "out-of-range"),
        ('"1e99999999999999999999"', "out-of-range"),
        ('"+1"', "not-a-decimal"),
        ('".5"', "not-a-decimal"),
        ('"5."', "not-a-decimal"),
        ('" 1"', "not-a-decimal"),
        ('"00.5"', "not-a-decimal"),
        ('"NaN"', "not-a-decimal"),
        ('"1_000"', "not-a-decimal"),
        ('"٣"', "not-a-decimal"),
        ('""', "not-a-decimal"),
        ("true", "wrong-type"),
    ],
)
def test_a_decimal_is_exact_whether_text_or_number_and_never_rounded(literal: str, expected: object) -> None:
    assert only(f'{{"n":{literal}}}'.encode(), n=decimal(18, 4)) == expected


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("2026-02-01T10:20:30Z", dt.datetime(2026, 2, 1, 10, 20, 30, tzinfo=UTC)),
        ("2026-02-01 10:20:30.000001Z", dt.datetime(2026, 2, 1, 10, 20, 30, 1, tzinfo=UTC)),
        ("2026-02-01t10:20:30.5z", dt.datetime(2026, 2, 1, 10, 20, 30, 500_000, tzinfo=UTC)),
        ("2026-02-01T00:20:30+05:30", dt.datetime(2026, 1, 31, 18, 50, 30, tzinfo=UTC)),
        ("1969-12-31T23:59:59.5-00:00", dt.datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", dt.datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("0000-01-01T00:00:00Z", "not-a-time"),
        ("0001-01-01T00:00:00+00:01", "not-a-time"),
        ("9999-12-31T23:59:59-00:01", "not-a-time"),
        ("2026-02-01T10:20:30", "no-zone"),
        ("2026-02-01 10:20", "no-zone"),
        ("2026-02-01T10:20:30[Europe/Paris]", "not-a-time"),
        ("2026-02-01T10:20:30.1234567Z", "below-microseconds"),
        ("2026-02-01T10:20:30.1234560000Z", dt.datetime(2026, 2, 1, 10, 20, 30, 123_456, tzinfo=UTC)),
        ("2026-02-30T10:20:30Z", "not-a-time"),
        ("2026-02-01T24:00:00Z", "hour-24"),
        ("2026-02-01T24:00:01Z", "not-a-time"),
        ("2026-02-01T23:59:60Z", "leap-second"),
        ("2026-02-01T23:59:61Z", "not-a-time"),
        ("2026-02-01T10:20:30+24:00", "not-a-time"),
        ("2026-02-01T10:20:30+0530", dt.datetime(2026, 2, 1, 4, 50, 30, tzinfo=UTC)),
        ("2026-02-01T10:20:30 -05", dt.datetime(2026, 2, 1, 15, 20, 30, tzinfo=UTC)),
        ("2026-02-01T10:20Z", dt.datetime(2026, 2, 1, 10, 20, tzinfo=UTC)),
        ("2026-02-01T10:20:30,5Z", dt.datetime(2026, 2, 1, 10, 20, 30, 500_000, tzinfo=UTC)),
        ("2026-02-01 10:20:30 UTC", dt.datetime(2026, 2, 1, 10, 20, 30, tzinfo=UTC)),
        ("2026-02-01T10:20+01:00[Europe/Paris]", dt.datetime(2026, 2, 1, 9, 20, tzinfo=UTC)),
        ("2026-02-01T10:20:30Z ", "not-a-time"),
        ("2026-02-01T10:20:30Z\\n", "not-a-time"),
        ("yesterday", "not-a-time"),
        ("", "not-a-time"),
    ],
)
def test_a_timestamp_names_its_zone_and_at_most_microseconds(literal: str, expected: object) -> None:
    assert only(f'{{"at":"{literal}"}}'.encode(), at=timestamp()) == expected


def test_a_number_that_would_wrap_around_128_bits_is_out_of_range() -> None:
    """Arrow rescales 174 to decimal(38, 38) without looking whether it fits."""
    for literal in (b"174", b"1", b"17014118346046923174", b"340282366920938463463.4"):
        assert only(b'{"n":' + literal + b"}", n=decimal(38, 38)) == "out-of-range"
    assert only(b'{"n":174}', n=decimal(38, 20)) == Decimal("174.00000000000000000000")


def test_dates_booleans_bytes_texts_and_enums_take_their_own_form_only() -> None:
    assert only(b'{"x":"2026-02-28"}', x=date()) == dt.date(2026, 2, 28)
    assert only(b'{"x":"0000-02-28"}', x=date()) == "not-a-date"
    assert only(b'{"x":"2026-2-28"}', x=date()) == "not-a-date"
    assert only(b'{"x":20260228}', x=date()) == "wrong-type"
    assert only(b'{"x":true}', x=boolean()) is True
    assert only(b'{"x":"true"}', x=boolean()) == "wrong-type"
    assert only(b'{"x":1}', x=boolean()) == "wrong-type"
    assert only(b'{"x":"aGk="}', x=binary()) == b"hi"
    assert only(b'{"x":"aGk"}', x=binary()) == "not-base64"
    assert only(b'{"x":"a\\u0000\\ud83d\\ude00"}', x=text()) == "a\0\U0001f600"
    assert only(b'{"x":""}', x=text()) == ""
    assert only(b'{"x":""}', x=text(empty=False)) == "empty"
    assert only(b'{"x":7}', x=text()) == "wrong-type"
    assert only(b'{"x":"add"}', x=enum(Movement)) == "add"
    assert only(b'{"x":"Add"}', x=enum(Movement)) == "unknown-value"
    assert only(b'{"x":null}', x=enum(Movement, null=True)) is None
    assert only(b"{}", x=enum(Movement)) == "missing"


def test_a_ratio_cannot_be_read_from_landing() -> None:
    with pytest.raises(DeclarationError, match=r"decimal\(p, s\)"):
        decode(b"", {"x": ratio()})


# --- lines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not-json"),
        (b'{"x": "a"', "not-json"),
        (b'{"x": "a"}, {"x": "b"}', "not-json"),
        (b'{"x": "a"} {"x": "b"}', "not-json"),
        (b'[{"x": "a"}{"x": "b"}]', "not-json"),
        (b'{"y": {"x": "a"}{"x": "b"}', "not-json"),
        (b'{"x": "a}{"x": "b"}', "not-json"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"x": "a"}', "not-json"),
        (b'\xef\xbb\xbf{"x": "\xff"}', "not-utf8"),
        (b'{"x": "a",}', "not-json"),
        (b"{'x': 'a'}", "not-json"),
        (b'{"x": "tab\there"}', "not-json"),
        (b'{"x": "a"}\x00', "not-json"),
        (b'{"y": NaN, "x": "a"}', "not-json"),
        (b'{"y": [-Infinity], "x": "a"}', "not-json"),
        (b'{"y": Inf, "x": "a"}', "not-json"),
        (b"null", "not-an-object"),
        (b"[1, 2]", "not-an-object"),
        (b'"text"', "not-an-object"),
        (b'{"x": "a", "x": "a"}', "duplicate-key"),
        (b'{"x": null, "\\u0078": "a"}', "duplicate-key"),
        (b'{"x": "\xe9t\xe9"}', "not-utf8"),
        (b'{"x": "\xed\xa0\x80"}', "not-utf8"),
        (b'{"y": "\x80", "x": "a"}', "not-utf8"),
        (b'{"x": "\\ud800"}', "lone-surrogate"),
        (b'{"x": "a", "y": "\\udc00\\ud800"}', "lone-surrogate"),
        (b'{"y": "\\ud800", "y": 1, "x": "a"}', "lone-surrogate"),
        (b"[" * 100_000, "too-deep"),
        (b'{"x": "a", "y": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "too-deep"),
        (b'{"x": "a", "y": ' + b"[" * 64 + b"]" * 64 + b"}", "too-deep"),
        (b"\x0b", "not-json"),
    ],
)
def test_a_line_that_is_no_record_is_kept_whole_with_its_reason(line: bytes, reason: str) -> None:
    assert only(line, x=text()) == reason
    neighbour = b'{"x": "good"}'
    decoded = decode(b"\n".join([neighbour] * 30 + [line] + [neighbour] * 30), {"x": text()})
    assert [(bad.number, bad.reason, bad.raw) for bad in decoded.bad] == [(31, reason, line)]
    assert decoded.lines.tolist() == [n for n in range(1, 62) if n != 31]


@pytest.mark.parametrize(
    "line",
    [
        b'{"x": "a", "y": ' + b"[" * 63 + b"]" * 63 + b"}",
        b'{"x": "a", "y": "' + b"[{" * 1000 + b'"}',
        b'{"y": 1, "y": {"y": 2}, "x": "a"}',
        b'{"y": 1e999, "z": 0.' + b"1" * 5000 + b', "x": "a"}',
        b'{"y": "x: NaN, y: Inf}", "x": "a"}',
        b'{"y": "\\\\ud800", "x": "a"}',
        b'\t {"x": "a"} \r',
        b'{"\\u0078": "a"}',
        b'{"x\\u0000": "b", "x": "a"}',
        b'{"x":\r"a"}',
        b'\xef\xbb\xbf{"x": "a"}\r',
        b'\xef\xbb\xbf \t{"x": "a", "y": "}{"}',
    ],
)
def test_what_is_not_declared_is_not_judged_and_white_space_is_no_matter(line: bytes) -> None:
    assert only(line, x=text()) == "a"


def test_blank_lines_count_for_line_numbers_and_are_no_records() -> None:
    good = b'{"x": "a"}'
    decoded = decode(b"\n \t\r\n" + good + b"\r\n\r\n\n" + good + b"\n\n" + good, {"x": text()})
    assert decoded.lines.tolist() == [3, 6, 8]
    assert decoded.read == 3
    assert [bad.number for bad in decode(b'\n\n{"x', {"x": text()}).bad] == [3]


def test_an_object_over_two_lines_is_not_read() -> None:
    odd = [b'{"x": "a", "y":', b'{"z": 1}}', b'{"x": "b"}{"x": "c"}']
    data = b"\n".join([b'{"x": "good"}'] * 20 + odd + [b'{"x": "good"}'] * 20)
    decoded = decode(data, {"x": text()})
    assert [(bad.number, bad.reason) for bad in decoded.bad] == [(21, "not-json"), (22, "not-json")]
    assert decoded.rows.column("x").to_pylist()[20:22] == ["b", "c"]


def test_objects_on_one_line_are_numbered_as_if_each_began_on_a_new_line() -> None:
    line = b'{"x": "a"}{"x": 7}\r{"x": "b}{\\"}{", "y": [{}]}\r{"x": null}'
    decoded = decode(b'{"x": "first"}\n' + line + b'\r\n{"x": "last"}', {"x": text()})
    assert decoded.rows.column("x").to_pylist() == ["first", "a", 'b}{"}{', "last"]
    assert decoded.lines.tolist() == [1, 2, 4, 6]
    assert [(bad.number, bad.reason, bad.raw) for bad in decoded.bad] == [
        (3, "wrong-type", b'{"x": 7}'),
        (5, "missing", b'{"x": null}\r'),
    ]


def test_the_limit_of_a_line_is_that_of_each_object_on_it() -> None:
    """Amazon Data Firehose writes megabytes of objects without a newline."""
    one = b'{"x": "%06d"}'
    data = b"".join(one % n for n in range(200_000))
    decoded = decode(data, {"x": text()}, line_bytes_max=len(one % 0))
    assert (len(decoded.rows), len(decoded.bad)) == (200_000, 0)
    assert decoded.lines.tolist() == list(range(1, 200_001))


def test_a_byte_order_mark_alone_is_not_a_record() -> None:
    assert decode(b"\xef\xbb\xbf\r\n\xef\xbb\xbf", {"x": text()}).read == 0
    joined = b'\xef\xbb\xbf{"x": "a"}\n\xef\xbb\xbf{"x": "b"}\n' * 20
    assert decode(joined, {"x": text()}).rows.column("x").to_pylist() == ["a", "b"] * 20


def test_a_nul_byte_keeps_a_line_from_the_fast_path_whatever_arrow_makes_of_it() -> None:
    assert LineIndex.of(b'{"x":1}\n{"x":\0}\n{"x":1}').plain(100).tolist() == [True, False, True]
    data = b"\n".join([b'{"x": "a"}'] * 30 + [b'{"x": "a"}\0{"x": "b"}', b'{"x": "\0"}'] + [b'{"x": "a"}'] * 30)
    assert [(bad.number, bad.reason) for bad in decode(data, {"x": text()}).bad] == [(31, "not-json"), (32, "not-json")]


def test_raw_bytes_keep_the_carriage_return_and_lack_the_newline() -> None:
    assert decode(b'oh\r\n{"x":"a"}', {"x": text()}).bad[0].raw == b"oh\r"


def test_no_bytes_and_only_blank_lines_are_no_records() -> None:
    for data in (b"", b"\n", b"\r\n  \n"):
        decoded = decode(data, {"x": text(), "at": timestamp(null=True)})
        assert decoded.read == 0
        assert decoded.rows.schema.names == ["x", "at"]


def test_a_line_of_ten_megabytes_is_quarantined_whole_and_costs_its_neighbours_nothing() -> None:
    long = b'{"x": "' + b"a" * 10_000_000 + b'"}'
    decoded = decode(b'{"x": "b"}\n' + long + b'\n{"x": "c"}\n', {"x": text()})
    assert decoded.rows.column("x").to_pylist() == ["b", "c"]
    assert [(bad.number, bad.reason, bad.raw == long) for bad in decoded.bad] == [(2, "line-too-long", True)]
    assert len(decode(long, {"x": text()}, line_bytes_max=len(long)).rows) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_file_in_another_encoding_gives_a_place_and_a_reason_for_each_line(encoding: str) -> None:
    decoded = decode(("\n".join(['{"x": "é"}'] * 50)).encode(encoding), {"x": text()})
    assert len(decoded.rows) == 0
    assert len(decoded.bad) >= 50
    assert {bad.reason for bad in decoded.bad} <= {"not-utf8", "not-json"}


def test_the_first_failing_column_in_declared_order_gives_the_reason() -> None:
    line = b'{"quantity": 0, "event_id": "e", "product_id": 5, "event_type": "x", "occurred_at": "soon"}'
    decoded = decode(line, STOCK)
    assert decoded.bad[0].reason == "wrong-type"
    assert decoded.bad[0].detail == "Column product_id: expected a text, found 5."
    assert decode(line.replace(b": 5", b': "p"'), STOCK).bad[0].reason == "out-of-range"
    assert decode(line.replace(b": 5", b': "p"').replace(b"0", b"1"), STOCK).bad[0].reason == "unknown-value"


# --- places -------------------------------------------------------------------------------------------------------


def test_a_column_is_read_from_the_first_of_its_places_that_is_not_null() -> None:
    decoder = JsonLines({"id": ("after.id", "before.id")})
    lines = [
        b'{"after": {"id": "a"}, "before": {"id": "b"}}',
        b'{"after": {"id": null}, "before": {"id": "b"}}',
        b'{"after": null, "before": {"id": "b"}}',
        b'{"before": {"id": "b"}, "after": {}}',
        b'{"after": {"id": "a"}, "before": 7}',
        b'{"after": {"id": 7}, "before": {"id": "b"}}',
        b'{"after": [], "before": {"id": "b"}}',
        b'{"after": {"id": "a", "id": "a"}}',
        b'{"after": {"id": "a"}, "after": {"id": "a"}}',
        b"{}",
    ]
    expected = ["a", "b", "b", "b", "a", "wrong-type", "wrong-type", "duplicate-key", "duplicate-key", "missing"]
    for line, outcome in zip(lines, expected, strict=True):
        decoded = decoder.decode("a.jsonl", b"\n".join([line] * 20), {"id": text()})
        assert {row["id"] for row in decoded.rows.to_pylist()} | {bad.reason for bad in decoded.bad} == {outcome}


def test_a_name_with_dots_is_one_key_at_the_top_unless_paths_say_otherwise() -> None:
    assert only(b'{"a.b": "x", "a": {"b": "y"}}', **{"a.b": text()}) == "x"


def test_places_that_exclude_each_other_are_read_all_the_same() -> None:
    decoder = JsonLines({"whole": ("a",), "part": ("a.b",)})
    decoded = decoder.decode("a.jsonl", b'{"a": {"b": "x"}}\n' * 20, {"whole": text(null=True), "part": text()})
    assert {bad.reason for bad in decoded.bad} == {"wrong-type"}
    twice = JsonLines({"n": ("v",), "s": ("v",)})
    decoded = twice.decode("a.jsonl", b'{"v": 1}\n{"v": null}\n' * 20, {"n": int64(null=True), "s": text(null=True)})
    assert (len(decoded.rows), len(decoded.bad)) == (20, 20)


def test_the_declaration_can_be_hashed_and_compared() -> None:
    assert JsonLines({"id": ("a.id",)}) == JsonLines({"id": ("a.id",)})
    assert len({JsonLines({"id": ("a.id",)}), JsonLines({"id": ("a.id",)}), JsonLines()}) == 2


def test_paths_that_cannot_work_are_refused_all_at_once() -> None:
    with pytest.raises(DeclarationError) as caught:
        JsonLines({"a": "after.a", "b": (), "c": ("after..c",)})  # type: ignore[dict-item]
    assert len(caught.value.faults) == 3
