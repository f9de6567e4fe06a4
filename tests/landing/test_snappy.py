"""Snappy in its three forms: whole objects are read, cut and damaged ones refused; bombs stop at the bound."""

from __future__ import annotations

from collections.abc import Callable

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.inflate import PIECE_BYTES, inflate, plain_pieces
from refold.landing.jsonl import JsonLines
from refold.types import int64

BLOCK = 700
DATA = b"".join(b'{"n": %d}\n' % n for n in range(300))


def blocks(data: bytes) -> list[bytes]:
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def sized(data: bytes) -> bytes:
    raw = bytes(cramjam.snappy.compress_raw(data))
    return len(raw).to_bytes(4, "big") + raw


def framed(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress(data))


def java(data: bytes) -> bytes:
    """As org.xerial.snappy.SnappyOutputStream writes."""
    return b"\x82SNAPPY\x00" + bytes([0, 0, 0, 1, 0, 0, 0, 1]) + b"".join(sized(block) for block in blocks(data))


def hadoop(data: bytes) -> bytes:
    """As org.apache.hadoop.io.compress.SnappyCodec writes: blocks, here of two parts each."""
    parts = ((block[: len(block) // 2], block[len(block) // 2 :]) for block in blocks(data))
    return b"".join(
        (len(one) + len(two)).to_bytes(4, "big") + b"".join(sized(part) for part in (one, two) if part)
        for one, two in parts
    )


FORMS: dict[str, Callable[[bytes], bytes]] = {"framed": framed, "java": java, "hadoop": hadoop}


@pytest.fixture(params=FORMS)
def compress(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return FORMS[str(request.param)]


def test_streams_one_after_another_are_read_whole_in_pieces_of_any_size(compress: Callable[[bytes], bytes]) -> None:
    @given(st.lists(st.binary(min_size=1, max_size=2000), max_size=3), st.integers(1, 500))
    @settings(max_examples=60, deadline=None)
    def holds(parts: list[bytes], size: int) -> None:
        data = b"".join(compress(part) for part in parts)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert b"".join(plain_pieces("a.jsonl.snappy", pieces)) == b"".join(parts)

    holds()


def test_an_object_that_is_cut_within_a_block_is_refused_and_one_between_blocks_ends_there(
    compress: Callable[[bytes], bytes],
) -> None:
    data, whole = compress(DATA), 0
    for end in range(1, len(data)):
        try:
            found = inflate("a.snappy", data[:end])
        except UnreadableObject as error:
            assert "Expected a whole" in str(error)
        else:
            whole += 1
            assert DATA.startswith(found)
            assert len(found) % BLOCK == 0
    assert whole <= len(DATA) // BLOCK + 1


def test_an_object_with_a_changed_byte_is_refused_or_of_the_same_size(compress: Callable[[bytes], bytes]) -> None:
    """Only the framing format has sums."""
    data = compress(DATA)
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        try:
            found = inflate("a.snappy", changed)
        except UnreadableObject:
            continue
        assert (found == DATA) if compress is framed else (len(found) == len(DATA)), place


def test_a_bomb_stops_at_the_bound_in_small_pieces(compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(4 << 20))
    assert all(len(piece) <= PIECE_BYTES for piece in plain_pieces("a.snappy", [bomb]))
    with pytest.raises(UnreadableObject, match="object_bytes_max"):
        inflate("a.snappy", bomb, LandingBounds(object_bytes_max=1 << 20))


@pytest.mark.parametrize("form", [framed, java, hadoop])
def test_a_block_that_says_it_is_huge_is_refused_before_it_is_made(form: Callable[[bytes], bytes]) -> None:
    huge = b"\xff\xff\xff\xff\x0f\x00a"
    head = {
        framed: b"\xff\x06\x00\x00sNaPpY\x00" + (len(huge) + 4).to_bytes(3, "little") + bytes(4),
        java: java(b"") + len(huge).to_bytes(4, "big"),
        hadoop: (64 << 20).to_bytes(4, "big") + len(huge).to_bytes(4, "big"),
    }[form]
    with pytest.raises(UnreadableObject, match="plain bytes"):
        inflate("a.snappy", head + huge)


def test_records_are_read_from_a_compressed_object_and_from_a_plain_one_of_its_name(
    compress: Callable[[bytes], bytes],
) -> None:
    for data in (compress(DATA), DATA):
        decoded = JsonLines().decode("a.jsonl.snappy", data, {"n": int64()})
        assert decoded.rows["n"].to_pylist() == list(range(300))
