"""Gzip undone: several members are one object, a damaged one is none at all, and a bomb does not go off."""

from __future__ import annotations

import gzip

import pytest

from refold.errors import UnreadableObject
from refold.landing.decoder import Decoded
from refold.landing.jsonl import JsonLines
from refold.types import Schema, text


def rows(data: bytes, columns: Schema, name: str = "a.jsonl", **options: int) -> Decoded:
    return JsonLines(**options).decode(name, data, columns)


LINES = b'{"x": "a"}\n' * 500


def test_gzip_of_several_members_and_padding_is_read_whole() -> None:
    members = b"".join(gzip.compress(LINES, mtime=0) for _ in range(50))
    assert len(rows(members, {"x": text()}, "a.jsonl.gz").rows) == 25_000
    assert len(rows(members + b"\0" * 512, {"x": text()}, "a.jsonl.gz").rows) == 25_000


def test_a_damaged_gzip_is_unreadable_wherever_it_breaks_off() -> None:
    whole = gzip.compress(b"".join(f'{{"x": "{n * 7919 % 1000}"}}\n'.encode() for n in range(500)), mtime=0)
    damaged = [whole[:cut] for cut in (0, 1, 5, 10, 11, len(whole) // 2, len(whole) - 8, len(whole) - 1)]
    damaged += [whole + whole[:20], whole + b"rubbish", LINES, b"\0" * 64, whole[:-8] + b"\1" * 8]
    for data in damaged:
        with pytest.raises(UnreadableObject, match=r"a\.jsonl\.gz, found .*Deliver"):
            rows(data, {"x": text()}, "a.jsonl.gz")


def test_gzip_under_a_plain_name_is_unreadable_rather_than_all_bad() -> None:
    with pytest.raises(UnreadableObject, match=r"ends in \.gz"):
        rows(gzip.compress(LINES), {"x": text()})


def test_an_object_larger_than_its_limit_is_unreadable_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\n" * 50_000_000)
    with pytest.raises(UnreadableObject, match="at most 1000000 plain bytes"):
        rows(bomb, {"x": text()}, "a.jsonl.gz", object_bytes_max=1_000_000)
    with pytest.raises(UnreadableObject, match="at most 10 plain bytes"):
        rows(LINES, {"x": text()}, object_bytes_max=10)
    assert rows(gzip.compress(LINES), {"x": text()}, "a.jsonl.gz", object_bytes_max=len(LINES)).read == 500
