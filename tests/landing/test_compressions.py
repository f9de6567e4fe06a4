"""zstd, LZ4 frames and bzip2: whole objects are read, cut or damaged ones are refused, and none reads short."""

from __future__ import annotations

import bz2
import sys
from collections.abc import Callable

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.inflate import PIECE_BYTES, inflate, plain_pieces
from refold.landing.jsonl import JsonLines
from refold.types import int64

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    ".lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
    ".bz2": bz2.compress,
}
DATA = b"".join(b'{"n": %d}\n' % n for n in range(300))


@pytest.fixture(params=COMPRESS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_frames_one_after_another_are_read_whole_in_pieces_of_any_size(kind: str) -> None:
    @given(st.lists(st.binary(max_size=300), max_size=3), st.integers(1, 500))
    @settings(max_examples=60, deadline=None)
    def holds(parts: list[bytes], size: int) -> None:
        data = b"".join(COMPRESS[kind](part) for part in parts)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert b"".join(plain_pieces(f"a{kind}", pieces)) == b"".join(parts)

    holds()


def test_an_object_that_is_cut_anywhere_is_refused(kind: str) -> None:
    data = COMPRESS[kind](DATA) + COMPRESS[kind](b'{"n": 300}\n')
    boundary = len(COMPRESS[kind](DATA))
    for end in range(1, len(data)):
        if end == boundary:  # what is whole cannot be told from all there is
            continue
        with pytest.raises(UnreadableObject, match="Expected a whole"):
            inflate(f"a{kind}", data[:end])


def test_an_object_with_a_changed_byte_is_refused_or_unchanged(kind: str) -> None:
    """Some bits of a header have no meaning; every byte of content is summed."""
    data = COMPRESS[kind](DATA)
    for place in range(4, len(data)):
        changed = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        try:
            found = inflate(f"a{kind}", changed)
        except UnreadableObject:
            continue
        assert found == DATA, place


def test_a_bomb_stops_at_the_bound_in_small_pieces(kind: str) -> None:
    bomb = COMPRESS[kind](bytes(64 << 20))
    assert len(bomb) < 1 << 20
    assert all(len(piece) <= PIECE_BYTES for piece in plain_pieces("a", [bomb]))
    with pytest.raises(UnreadableObject, match="object_bytes_max"):
        inflate("a", bomb, LandingBounds(object_bytes_max=1 << 20))


def test_records_are_read_from_a_compressed_object_and_from_a_plain_one_of_its_name(kind: str) -> None:
    for data in (COMPRESS[kind](DATA), DATA):
        decoded = JsonLines().decode(f"a.jsonl{kind}", data, {"n": int64()})
        assert decoded.rows["n"].to_pylist() == list(range(300))
    with pytest.raises(UnreadableObject, match="neither compressed nor text"):
        JsonLines().decode(f"a.jsonl{kind}", b"\x00\x01\xff", {"n": int64()})


def test_a_text_that_begins_as_bzip2_does_is_text() -> None:
    assert inflate("a.csv", b"BZh9,1\n") == b"BZh9,1\n"
