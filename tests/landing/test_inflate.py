"""Gzip undone: several members are one object, a damaged one is none at all, and a bomb does not go off."""

from __future__ import annotations

import gzip
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.decoder import Decoded, joined
from refold.landing.inflate import inflate
from refold.landing.jsonl import JsonLines
from refold.types import Schema, text


def rows(data: bytes, columns: Schema, name: str = "a.jsonl", **bounds: int) -> Decoded:
    return joined(columns, JsonLines().pieces(name, [data], columns, (), LandingBounds(**bounds)))


LINES = b'{"x": "a"}\n' * 500


def test_gzip_of_several_members_and_padding_is_read_whole() -> None:
    members = b"".join(gzip.compress(LINES, mtime=0) for _ in range(50))
    assert len(rows(members, {"x": text()}, "a.jsonl.gz").rows) == 25_000
    assert len(rows(members + b"\0" * 512, {"x": text()}, "a.jsonl.gz").rows) == 25_000


def test_a_damaged_gzip_is_unreadable_wherever_it_breaks_off() -> None:
    whole = gzip.compress(b"".join(f'{{"x": "{n * 7919 % 1000}"}}\n'.encode() for n in range(500)), mtime=0)
    damaged = [whole[:cut] for cut in (1, 2, 3, 5, 10, 11, len(whole) // 2, len(whole) - 8, len(whole) - 1)]
    damaged += [whole + whole[:20], whole + b"rubbish", b"\0" * 64, whole[:-8] + b"\1" * 8, LINES + b"\0"]
    damaged += [b"{" + whole[1:], b"{}" + whole[2:], whole[10:], b'{"x": "\xff"}']
    for data in damaged:
        with pytest.raises(UnreadableObject, match=r"a\.jsonl\.gz, found .*Deliver"):
            rows(data, {"x": text()}, "a.jsonl.gz")


def zlib_reads(data: bytes) -> bytes | None:
    """The plain bytes of all members as zlib reads them; None where it finds anything wrong."""
    plain = b""
    while not plain or data.strip(b"\0"):
        member = zlib.decompressobj(31)
        try:
            plain += member.decompress(data)
        except zlib.error:
            return None
        if not member.eof:
            return None
        data = member.unused_data
    return plain


PLAIN = st.tuples(st.binary(max_size=30), st.integers(1, 300)).map(lambda drawn: drawn[0] + b"ab" * drawn[1])
MEMBER = st.tuples(PLAIN, st.sampled_from([0, 1, 9])).map(lambda drawn: gzip.compress(*drawn, mtime=0))


@settings(deadline=None, max_examples=400)
@given(
    st.lists(MEMBER, min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))), st.data()
)
def test_bytes_that_changed_are_read_where_zlib_reads_them_and_as_it_does(members, changes, data) -> None:
    """What zlib refuses is refused, or it is nothing but a code that no byte needs, and what was packed comes out."""
    damaged = bytearray(b"".join(members))
    for place, byte in changes[:2]:
        damaged[place % len(damaged)] = byte
    damaged = damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) - 1, len(damaged) // 2]))]
    expected = zlib_reads(bytes(damaged))
    if expected is None:
        with suppress(UnreadableObject):
            assert inflate("a.gz", bytes(damaged)) == gzip.decompress(b"".join(members))
    else:
        assert inflate("a.gz", bytes(damaged)) == expected


def test_a_member_may_have_a_header_of_64_kib_and_a_name() -> None:
    whole = gzip.compress(LINES)
    extra = struct.pack("<H", 65_535) + b"\0" * 65_535
    headed = whole[:3] + b"\x0c" + whole[4:10] + extra + b"n" * 300 + b"\0" + whole[10:]
    assert inflate("a.gz", headed * 2) == zlib_reads(headed * 2) == LINES * 2


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
def test_flags_that_gzip_does_not_know_are_damage(flag: int) -> None:
    whole = bytearray(gzip.compress(LINES) * 2)
    whole[len(whole) // 2 + 3] |= flag
    with pytest.raises(UnreadableObject, match=f"flags after byte {len(whole) // 2} that gzip does not have"):
        inflate("a.gz", bytes(whole))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("data", [LINES, "\ufeff{}\r\n".encode(), b" ", b"oops", b"", "é".encode()])
def test_gzip_and_plain_bytes_are_told_apart_whatever_the_name(name: str, data: bytes) -> None:
    """Proxies decompress what they pass on, and a sink may compress without a suffix."""
    assert inflate(name, data) == inflate(name, gzip.compress(data)) == data


def test_damaged_gzip_under_a_plain_name_is_unreadable_rather_than_all_bad() -> None:
    with pytest.raises(UnreadableObject, match=r"a\.jsonl, found an end in the middle"):
        rows(gzip.compress(LINES)[:-9], {"x": text()})


def test_an_object_larger_than_its_limit_is_unreadable_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\n" * 50_000_000)
    with pytest.raises(UnreadableObject, match="at most 1,000,000 plain bytes"):
        rows(bomb, {"x": text()}, "a.jsonl.gz", object_bytes_max=1_000_000)
    with pytest.raises(UnreadableObject, match="at most 10 plain bytes"):
        rows(LINES, {"x": text()}, object_bytes_max=10)
    assert rows(gzip.compress(LINES), {"x": text()}, "a.jsonl.gz", object_bytes_max=len(LINES)).read == 500
