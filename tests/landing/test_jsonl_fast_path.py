"""The fast path of JSON Lines is the general path, only faster: equal rows and bad records for whatever comes."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from refold.base import parallel
from refold.landing import json_records
from refold.landing.decoder import Decoded, joined
from refold.landing.json_block import Block, BlockReader, LineIndex, Refused
from refold.landing.json_line import Field
from refold.landing.json_records import read_records
from refold.landing.jsonl import JsonLines
from refold.types import binary, boolean, date, decimal, enum, int64, text, timestamp


class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"


STOCK = {
    "event_id": text(),
    "product_id": text(),
    "quantity": int64(1, 10**6),
    "event_type": enum(Movement),
    "occurred_at": timestamp(),
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


WIDE = {
    "id": text(),
    "n": int64(-(2**63), 2**63 - 1, null=True),
    "price": decimal(6, 2, null=True),
    "rate": decimal(38, 38, null=True),
    "at": timestamp(null=True),
    "ms": timestamp(null=True, epoch="ms"),
    "local": timestamp(null=True, zone="Europe/Berlin", nanoseconds="truncate"),
    "utc": timestamp(null=True, zone="UTC"),
    "day": date(null=True),
    "kind": enum(Movement, null=True),
    "flag": boolean(null=True),
    "raw": binary(null=True),
    "deep": text(null=True, empty=False),
    "quoted": int64(null=True, quoted=True),
    "epoch_day": date(epoch="days", null=True),
    "unscaled": decimal(12, 2, encoding="base64", null=True),
    "scaled": decimal(12, 2, encoding="scaled", null=True),
    "yes": boolean(true=["1", "Y"], false=["0", "N"], null=True),
    "country": text(default="none"),
    "least": int64(0, 9, default=3),
}
DEEP = {"deep": ("o.p.deep", "o.q")}
KEYS = [
    "id",
    "n",
    "price",
    "rate",
    "at",
    "ms",
    "local",
    "utc",
    "day",
    "kind",
    "flag",
    "raw",
    "quoted",
    "epoch_day",
    "unscaled",
    "scaled",
    "yes",
    "country",
    "least",
    "scale",
    "value",
    "o",
    "p",
    "q",
    "deep",
    "other",
    "",
    "\\u0069d",
]
SCALARS = [
    *['"add"', '"x"', '""', '"\\u0000"', '"\\ud83d\\ude00"', '"\\ud800"', '"é"', '"\x7f"', '"a\tb"', '"\\/"', '"}{"'],
    *["0", "-0", "7", "1.5", "-1.50", "9999.99", "10000", "9999.990", "0.001", "1e2", "1E400", "1e-999999999", "01"],
    *["9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1" * 30],
    *['"1.5"', '"+1"', '".5"', '"1e2"', '"1e-999999999"', '"10000"', '"0.001"'],
    *['"0.' + "1" * 38 + '"', "0." + "1" * 38],
    *['"2026-02-01T10:20:30Z"', '"2026-02-30T10:20:30Z"', '"2026-02-01t10:20:30.5+05:30"', '"0000-01-01T00:00:00Z"'],
    *['"2026-02-01"', '"0000-01-01"', '"2026-02-30"', '"aGk="', '"aGk"', "true", "false", "null", "NaN", "-Inf", "Inf"],
    *['"7"', '"-9223372036854775808"', '"9223372036854775808"', '"007"', '"Y"', '"1"', '"AcnDgA=="', '"gA=="', '"=="'],
    *['{"scale":2,"value":"AcnDgA=="}', '{"scale":"2","value":"gA=="}', '{"scale":2,"value":null}', '{"scale":2}'],
    *['{"scale":-9223372036854775809,"value":"AQ=="}', '{"scale":1,"scale":1,"value":"AQ=="}', "19678", "2147483648"],
    *["{}", "[]", "[[]]", "[NaN]", "[" * 70 + "]" * 70],
]
values = st.recursive(
    st.sampled_from(SCALARS) | st.integers().map(str) | st.text(max_size=5).map(json.dumps),
    lambda inner: st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=4).map(
        lambda pairs: "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
    ),
    max_leaves=6,
)
GOOD = [
    ("id", st.sampled_from(['"a"', '"\\u00e9"', '"x\\n"'])),
    ("n", st.integers(-(2**63), 2**63 - 1).map(str) | st.just("null")),
    ("price", st.sampled_from(['"1.50"', "1.5", "-0", "null", '"9999.99"', "9999.99", '"1e1"'])),
    ("rate", st.sampled_from(['"0.1"', "0.1", "null", "0"])),
    ("at", st.sampled_from(['"2026-02-01T10:20:30Z"', '"2026-02-01 10:20:30.25-01:00"', '"2026-02-01t10:20:30z"'])),
    ("ms", st.integers(-(2**45), 2**45).map(str) | st.sampled_from(["null", "9223372036854775807"])),
    ("local", st.sampled_from(['"2026-02-01T10:20:30"', '"2026-02-01 10:20:30.1234567"', '"2026-03-29T02:30:00"'])),
    ("utc", st.sampled_from(['"2026-02-01T10:20:30"', '"2026-02-01 10:20:30.25-01:00"', "null"])),
    ("day", st.sampled_from(['"2026-02-01"', "null"])),
    ("kind", st.sampled_from(['"add"', '"remove"', "null"])),
    ("flag", st.sampled_from(["true", "false", "null"])),
    ("raw", st.sampled_from(['"aGk="', '""', "null"])),
    ("quoted", st.sampled_from(['"7"', '"-9223372036854775808"', "8", "null", '"9223372036854775808"'])),
    ("epoch_day", st.integers(-800_000, 3_000_000).map(str) | st.just("null")),
    ("unscaled", st.sampled_from(['"AcnDgA=="', '"gA=="', '"f///////////"', "null"])),
    (
        "scaled",
        st.sampled_from(['{"scale":2,"value":"gA=="}', '{"value":"AQ==","scale":-3}']),
    ),
    ("yes", st.sampled_from(['"1"', '"N"', "1", "0", "2", "null"])),
    ("country", st.sampled_from(['"x"', "null"])),
    ("least", st.sampled_from(["7", "null", "10"])),
    ("o", st.sampled_from(["null", "{}", '{"p":{"deep":"x"}}', '{"p":null,"q":"y"}', '{"p":{"deep":null},"q":"z"}'])),
]


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A line of JSON, mostly good, with keys that repeat, are missing, or hold something odd."""
    pairs = [(key, draw(good)) for key, good in GOOD if draw(st.integers(0, 9))]
    pairs += draw(st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=2)) if draw(st.booleans()) else []
    pairs = draw(st.permutations(pairs)) if draw(st.booleans()) else pairs
    space = draw(st.sampled_from(["", "", " ", "\t", "\r"]))
    return ("{" + ",".join(f'"{key}":{space}{value}' for key, value in pairs) + space + "}").encode()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A record with a few bytes replaced, taken out or put in."""
    line = bytearray(draw(records()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(line)))
        piece = draw(st.sampled_from([b"", b"{", b"}", b'"', b",", b"\\", b"\0", b"\xff", b"\r", b"NaN", b"}{", b"1"]))
        line[at : at + draw(st.integers(0, 2))] = piece
    return bytes(line).replace(b"\n", b"")


@st.composite
def crowded(draw: st.DrawFn) -> bytes:
    """Several records on a line, some of them broken."""
    blank = st.sampled_from([b"", b"", b" ", b"\t\r"])
    return b"".join(part for one in draw(st.lists(records() | mutated(), min_size=2)) for part in (draw(blank), one))


ODD = [b"", b"", b" \t", b"\r", b"null", b"[1]", b"{}", b'{"id"', b"\xef\xbb\xbf{}", b"\x0b", b"{}{}", b"[" * 200]
odd_lines = st.sampled_from(ODD) | st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b""))
lines = st.one_of(records(), records(), mutated(), crowded(), odd_lines)


@given(st.lists(st.one_of(records(), mutated()), min_size=1, max_size=4))
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_read_many_at_once_is_what_is_read_line_by_line(block: list[bytes]) -> None:
    """Asks the fast reader directly, so that no block is too small for it."""
    places = [Field(tuple(path.split(".")), WIDE[name]) for name in WIDE for path in DEEP.get(name, (name,))]
    index = LineIndex.of(b"\n".join(block))
    if not index.plain(1 << 20).all():
        event("not plain")
        return
    found = BlockReader(places).read(index.data, len(index.starts))
    event(type(found).__name__)
    if isinstance(found, Block):
        general = read_records(index, places, 1 << 20, fast=False)
        assert not general.bad
        assert found.table.equals(general.table)
        assert found.faults == general.faults


@given(st.lists(lines, max_size=12).map(b"\n".join))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_lines_hold_every_byte_but_newlines_and_blanks_between_objects(data: bytes) -> None:
    index = LineIndex.of(data)
    ends = [0, *index.ends.tolist()]
    gaps = [data[end:start] for end, start in zip(ends, [*index.starts.tolist(), len(data)], strict=True)]
    assert not b"".join(gaps).strip(b" \t\r\n")
    assert b"".join(gaps).count(b"\n") == data.count(b"\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["}{", '"}{"', "\\", '\\"', "[{]}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=3), max_size=20),
    st.lists(st.sampled_from(["", "", "\r", "\r\r", "\n", "\r\n", " \n\t", "\n\n"]), min_size=20, max_size=20),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_objects_in_a_row_are_the_records_that_python_reads(records: list[dict], gaps: list[str], ascii: bool) -> None:
    data = "".join(
        json.dumps({**record, "n": n}, ensure_ascii=ascii) + gap
        for n, (record, gap) in enumerate(zip(records, gaps, strict=False))
    )
    decoded = decode(data.encode(), {"n": int64()})
    expected, at = [], 0
    while at < len(data):
        record, at = json.JSONDecoder().raw_decode(data, at)
        expected.append(record["n"])
        at += len(data[at:]) - len(data[at:].lstrip())
    assert decoded.rows.column("n").to_pylist() == expected
    assert decoded.bad == []


@given(st.lists(lines, max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([b"", b"\n"]))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_fast_path_gives_what_the_general_path_gives(some: list[bytes], newline: bytes, last: bytes) -> None:
    """Good neighbours on both sides make the blocks large enough for the fast path."""
    neighbours = [b'{"id":"g","n":1,"price":"1.25","o":{"q":"%d"}}' % n for n in range(20)]
    data = newline.join([*neighbours, *some, *neighbours]) + last
    assert_same(decode(data, WIDE, paths=DEEP), decode(data, WIDE, paths=DEEP, fast=False))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_fast_path_equals_the_general_path_over_many_blocks_with_sparse_damage(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(parallel, "WORTH_THREADS", 0)
    monkeypatch.setattr(parallel, "cores", lambda: threads)
    monkeypatch.setattr(json_records, "BLOCK_BYTES", 1 << 14)
    good = '{"event_id":"e%d","product_id":"p","quantity":%d,"event_type":"add","occurred_at":"2026-02-01T00:00:%02dZ"}'
    all_lines = [(good % (n, n % 900 + 1, n % 60)).encode() for n in range(20_000)]
    for n in range(17, 20_000, 1_501):
        all_lines[n] = [b"oops", b"", all_lines[n][:-9], all_lines[n].replace(b"add", b"\xff")][n % 4]
    data = b"\n".join(all_lines)
    fast = decode(data, STOCK)
    assert_same(fast, decode(data, STOCK, fast=False))
    assert len(fast.bad) == sum(1 for n in range(17, 20_000, 1_501) if n % 4 != 1)


@pytest.mark.parametrize("price", ['"1.25"', "1.25", "null"])
def test_a_file_that_changes_how_it_writes_decimals_is_read_to_the_same_result(price: str) -> None:
    styles = ['"2.50"', price, "3.5", price]
    data = "".join(f'{{"price":{style}}}\n' * 30_000 for style in styles).encode()
    decoded = decode(data, {"price": decimal(9, 2, null=True)})
    values_expected = [Decimal(style.strip('"')) if style != "null" else None for style in styles]
    assert [decoded.rows.column("price")[30_000 * n].as_py() for n in range(4)] == values_expected
    assert (len(decoded.rows), len(decoded.bad)) == (120_000, 0)


@pytest.mark.parametrize(
    "styles",
    [
        ['"2.50"'] * 20_000 + ["1.25"] * 20_000,
        ['"2.50"', "1.25"] * 20_000,
        (['"2.50"'] * 999 + ["{}"]) * 40,
        (['"2.50"'] * 19 + ["{}"]) * 2_000,
        (["2.50"] * 19 + ["1.0000000000000000000000"]) * 2_000,
        (["2.50"] * 99 + ["1e2"]) * 400,
        (['"2.50"'] * 1_000 + ["{}"] * 1_000) * 20,
        ['"2.50"'] * 20_000 + ['"\udcff"'] + ['"2.50"'] * 20_000,
    ],
    ids=["once", "alternating", "few bad", "many bad", "long", "exponents", "stretches of bad", "not UTF-8"],
)
def test_what_is_read_in_vain_is_in_proportion_to_what_is_read(
    monkeypatch: pytest.MonkeyPatch, styles: list[str]
) -> None:
    """Reading on from each line that the fast path refuses, to the end of its block, would be a thousand times this."""
    read, sizes = BlockReader.read, []

    def counted(self: BlockReader, block: bytes, rows: int) -> Block | Refused:
        sizes.append(len(block))
        return read(self, block, rows)

    monkeypatch.setattr(BlockReader, "read", counted)
    data = "".join(f'{{"price":{style}}}\n' for style in styles).encode(errors="surrogateescape")
    decoded = decode(data, {"price": decimal(9, 2)})
    assert sum(sizes) < 8 * len(data)
    assert_same(decoded, decode(data, {"price": decimal(9, 2)}, fast=False))


def test_a_text_among_number_decimals_is_judged_as_a_text() -> None:
    """Arrow's own decimals take texts and numbers alike, also texts that we refuse."""
    data = b'{"price":1.5}\n' * 40 + b'{"price":"+1"}\n' * 40 + b'{"price":"1.5"}\n' * 40
    decoded = decode(data, {"price": decimal(9, 2)})
    assert_same(decoded, decode(data, {"price": decimal(9, 2)}, fast=False))
    assert (len(decoded.rows), {bad.reason for bad in decoded.bad}, len(decoded.bad)) == (80, {"not-a-decimal"}, 40)
