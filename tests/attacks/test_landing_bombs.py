"""Landing that is small and becomes large, or is large at once, is refused within seconds and little memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import LandingBounds, QuarantineLimits, int64, text
from refold.errors import QuarantineLimit, RefusedLanding, UnreadableObject, UnsettledObject
from refold.landing.decoder import joined
from refold.landing.inflate import plain_pieces
from refold.landing.json_array import JsonArray
from refold.landing.jsonl import JsonLines
from refold.landing.line_pieces import line_pieces
from refold.landing.listing import read_pieces
from refold.seal.decoding import acceptable_pieces
from refold.storage.objects import ObjectStore
from tests import shop
from tests.shop import DAYS, move
from tests.support import Shop

EXPECTED = {
    "newlines.jsonl.gz": ("unreadable-object", "at most 16,777,216 lines", "found more", "object_records_max"),
    "braces.jsonl.gz": ("quarantine-limit", "65536 of 65536 records", "read so far", "QuarantineLimits"),
    "crowded.jsonl.gz": ("quarantine-limit", "65536 of 65536 records", "read so far", "QuarantineLimits"),
    "plain.jsonl": ("unreadable-object", "at most 1,073,741,824 bytes", "found 3,221,225,472", "object_bytes_max"),
    "line.jsonl.gz": ("unreadable-object", "at most 67,108,864 bytes", "found more in line 1", "record_bytes_max"),
    "plain-line.jsonl": ("unreadable-object", "at most 67,108,864 bytes", "found more in line 1", "record_bytes_max"),
}


def test_bombs_are_refused_with_object_bound_and_remedy_before_they_go_off(tmp_path: Path):
    """F1: they took up to 275 s and 23 GB, or ended the process."""
    run = [sys.executable, "-m", "tests.attacks.bombs", str(tmp_path)]
    found = json.loads(subprocess.run(run, capture_output=True, check=True, timeout=400).stdout)
    assert [name for name, *_ in found] == list(EXPECTED)
    for name, kind, message, _, peak_mib in found:
        assert kind == EXPECTED[name][0]
        assert [part for part in (name, *EXPECTED[name][1:]) if part not in message] == []
        assert peak_mib < 2000  # of the whole process so far, with what compiling kernels took


LINES = st.sampled_from(
    [b"", b"{}", b"null", b"}{", b'{"x":"\xff"}', b'{"x":"a","n":1}', b'{"x":"a"}{"x":"b"}\r{"n":2}']
)
COLUMNS = {"x": text(), "n": int64(null=True)}


@settings(deadline=None, max_examples=150)
@given(
    st.lists(LINES, max_size=40),
    st.sampled_from([b"\n", b"", b"\r\n"]),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 30),
)
def test_an_object_read_in_pieces_is_read_as_a_whole(
    lines: list[bytes], end: bytes, piece_bytes: int, piece_lines: int, given_bytes: int
):
    """Whatever its bytes come in, and however many lines are read together."""
    data = end.join(lines)
    whole = JsonLines().decode("a.jsonl", data, COLUMNS)
    decoder, plan, given_pieces = JsonLines(), JsonLines().plan(COLUMNS, ()), parted(data, given_bytes)
    places = line_pieces("a.jsonl", given_pieces, LandingBounds(), piece_bytes, piece_lines)
    pieces = [plan.settled(decoder._records(index, plan, fast=True)).after(before) for before, index in places]
    found = joined(COLUMNS, pieces)
    assert found.rows.equals(whole.rows)
    assert found.lines.tolist() == whole.lines.tolist()
    assert found.bad == whole.bad
    assert all(piece.read <= piece_lines for piece in pieces)
    assert b"".join(plain_pieces("a.gz", parted(gzip.compress(data), given_bytes))) == data


def parted(data: bytes, size_bytes: int) -> list[bytes]:
    return [data[start : start + size_bytes] for start in range(0, len(data), size_bytes)]


def house(tmp_path: Path, bounds: LandingBounds, limits: QuarantineLimits = shop.moves.quarantine) -> Shop:
    log = replace(shop.moves, bounds=bounds, quarantine=limits)
    return Shop(tmp_path, shop.little({"on_hand": []}, moves=log))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (LandingBounds(object_records_max=9), "at most 9 lines in the object moves/dt=2026-01-01/a.jsonl"),
        (LandingBounds(record_bytes_max=30), "at most 30 bytes in each line"),
        (LandingBounds(object_bytes_max=99), "at most 99 bytes in the object"),
        (LandingBounds(snapshot_bytes_max=999), "at most 999 (snapshot_bytes_max) in all objects that wait"),
        (LandingBounds(snapshot_records_max=19), "at most 19 (snapshot_records_max) in all objects that wait"),
    ],
)
def test_each_bound_refuses_what_passes_it_and_seals_nothing(tmp_path: Path, bounds: LandingBounds, expected: str):
    lamps = house(tmp_path, bounds)
    for name in "ab":
        lamps.land(f"moves/dt={DAYS[0]}/{name}.jsonl", *(move(f"{name}{n}", "cup", 1) for n in range(10)))
    with pytest.raises(RefusedLanding) as failure:
        list(lamps.engine().sealing.seal())
    assert expected in str(failure.value)
    assert failure.value.remedy
    assert not lamps.files("snapshots")
    lamps = lamps.declared(stores=shop.little({"on_hand": []}).stores)
    list(lamps.engine().sealing.seal())
    assert lamps.engine().chain.head.cut("moves").events == 20


def test_an_object_that_takes_too_long_is_refused_while_it_is_read():
    """Pieces of 65,536 lines, ten seconds each."""
    log = replace(shop.moves, bounds=LandingBounds(object_seconds_max=20), quarantine=QuarantineLimits(1.0, 1 << 30))
    data, ticks = b"null\n" * (1 << 18), iter(range(0, 1000, 10))
    read = []
    with pytest.raises(UnreadableObject, match=r"a\.jsonl in at most 20 seconds, found it unfinished after 30"):
        for piece in acceptable_pieces(log, "a.jsonl", [data], lambda: float(next(ticks))):
            read.append(piece.read)
    assert read == [1 << 16, 1 << 16]
    assert sum(piece.read for piece in acceptable_pieces(log, "a.jsonl", [data], lambda: 5.0)) == 1 << 18


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("decoder", [JsonLines(), JsonArray()])
def test_records_nested_deeper_than_any_parser_goes_are_quarantined(opening: str, decoder: JsonLines | JsonArray):
    """In a declared text, which takes JSON, and beside the declared fields; 64 levels are read."""
    closing, log = {"[": "]", '{"a":': "}"}[opening], replace(shop.moves, decoder=decoder)
    events = [json.dumps(move(name, "cup", 1)) for name in "ab"]
    for depth in (63, 64, 100_000):
        nested = opening * depth + "1" + closing * depth
        lines = [events[0], *(event_with(field, nested) for field in ("more", "note")), events[1]]
        text = "[" + ",".join(lines) + "]" if decoder.suffixes == JsonArray().suffixes else "\n".join(lines)
        pieces = list(acceptable_pieces(log, "a.json", [text.encode()]))
        assert (sum(len(piece.rows) for piece in pieces), depth) == (4 if depth == 63 else 2, depth)
        reasons = [record.reason for piece in pieces for record in piece.bad]
        assert reasons == ([] if depth == 63 else ["too-deep", "too-deep"])


def event_with(field: str, value: str) -> str:
    return json.dumps(move("c", "cup", 1))[:-1] + f', "{field}": {value}}}'


def test_an_object_is_not_read_any_further_once_the_quarantine_limit_is_passed(tmp_path: Path):
    limits = QuarantineLimits(records_max=5, share_max=1.0)
    lamps = house(tmp_path, LandingBounds(), limits)
    lamps.land(f"moves/dt={DAYS[0]}/a.jsonl", *[b"{}"] * 70_000, b"x" * (3 << 20))
    lamps.land(f"moves/dt={DAYS[0]}/b.jsonl", *[b"null"] * 7)
    with pytest.raises(QuarantineLimit, match=r"65536 of 65536 records .* read so far of 2026-01-01") as failure:
        list(lamps.engine().sealing.seal())
    assert failure.value.reasons == {"missing": 65536}


def test_a_large_object_is_read_in_pieces_and_refused_if_it_changes_meanwhile(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"0123456789")
    store = ObjectStore.open(str(tmp_path))
    (listed,) = store.list()
    assert list(read_pieces(store, listed, 4)) == [b"0123", b"4567", b"89"]
    coming = read_pieces(store, listed, 4)
    assert next(coming) == b"0123"
    (tmp_path / "a" / "other").write_bytes(b"9876543210")
    (tmp_path / "a" / "other").rename(tmp_path / "a" / "b")
    with pytest.raises(UnsettledObject, match="found 10 bytes with entity tag"):
        list(coming)
    (tmp_path / "a" / "b").unlink()
    with pytest.raises(UnsettledObject, match="found none that can be read"):
        list(read_pieces(store, listed, 4))


def test_a_gzip_file_of_many_empty_members_is_read_to_its_end(tmp_path: Path):
    """More members than a piece has lines; the last holds an event."""
    landing = Shop(tmp_path, shop.little({"on_hand": []}))
    path = landing.landing / "moves" / f"dt={DAYS[0]}" / "a.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"") * 70_000 + gzip.compress(json.dumps(move("m", "cup", 1)).encode()))
    (report,) = landing.engine().sealing.seal()
    assert report.snapshot.logs["moves"].events == 1
