"""Replay reads contents once and remembers it; what it finds is no other for that, nor for less memory."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.stock import stock
from refold.canonical.encoding import EncodedRows, encode_rows
from refold.config import Settings
from refold.dedup.content_check import ContentCheck
from refold.dedup.deliveries import REPEATS
from refold.dedup.first_contents import FirstContents
from refold.dedup.rereader import Rereader
from refold.dedup.spill import Kept
from refold.engine import Engine
from refold.errors import Damaged, FixInput
from refold.log.reader import LogReader, UnreadPart
from refold.log.segment import to_parquet, write_segment
from refold.log.snapshot import Snapshot
from refold.storage.content import StoredObject
from refold.storage.objects import sha256_hex
from tests.seal.sealing import STOCK_ONLY, sealed
from tests.support import Shop, moved

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
EVENT = st.tuples(
    st.sampled_from(["1", "2", "3", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"]),
    st.sampled_from(["lamp", "bowl", "cup"]),
    st.integers(1, 2),
)


def landed(root: Path, days: list[list[tuple[str, str, int]]]) -> Shop:
    shop = Shop(root, STOCK_ONLY)
    for day, events in zip(DAYS, days, strict=False):
        shop.land(f"dt={day}/a.jsonl", *[moved(name, product, units) for name, product, units in events])
    sealed(shop)
    return shop


def reread(shop: Shop, through: int, memory_bytes: int = 1 << 20, reader: LogReader | None = None) -> list[list[dict]]:
    """The repeats of every snapshot through a place, as full replay finds them."""
    engine = shop.engine()
    snapshots = list(engine.chain)[: through + 1]
    reader = reader or LogReader(engine.objects, engine.chain, stock.log)
    again = Rereader(engine.objects, engine.chain, reader, snapshots, [], memory_bytes)
    return [again.repeats(snapshot).to_pylist() for snapshot in snapshots]


def by_dictionary(days: list[list[tuple[str, str, int]]]) -> list[list[tuple[int, int, int]]]:
    """`log_seq`, delivery and first `log_seq` of the repeats of each day."""
    first: dict[str, tuple[int, tuple[str, str, int]]] = {}
    found, seq = [], 0
    for events in days:
        found.append(list[tuple[int, int, int]]())
        for event in events:
            at, content = first.setdefault(event[0], (seq, event))
            if at != seq:
                found[-1].append((seq, 1 if content == event else 2, at))
            seq += 1
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    days=st.lists(st.lists(EVENT, min_size=1, max_size=6), min_size=3, max_size=3),
    before=st.sampled_from([None, 0, 1, 2]),
    memory_bytes=st.sampled_from([0, 200, 1 << 20]),
)
def test_what_replay_finds_is_what_a_dictionary_finds_whatever_it_remembers(days, before, memory_bytes: int):
    with tempfile.TemporaryDirectory() as folder:
        shop = landed(Path(folder), days)
        if before is not None:
            reread(shop, before)
        remembered = len(shop.files("checked"))
        assert remembered == (0 if before is None else before + 1)
        found = reread(shop, 2, memory_bytes)
        assert len(shop.files("checked")) == 3
        assert found == reread(shop, 2, memory_bytes)
    seen = [sorted((row["log_seq"], row["delivery"], row["first_seq"]) for row in rows) for rows in found]
    assert seen == by_dictionary(days)


SOME = [[("1", "lamp", 1), ("2", "cup", 1), ("1", "lamp", 1)], [("2", "cup", 2), ("3", "bowl", 1)], [("3", "bowl", 1)]]


class Counted(LogReader):
    """A reader that counts how often each column was read, by snapshots."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.objects, engine.chain, stock.log)
        self.read = Counter[str]()

    def unread(self, snapshot: Snapshot, columns: Sequence[str]) -> list[UnreadPart]:
        self.read.update(columns)
        return super().unread(snapshot, columns)


def test_contents_are_read_once_and_never_again(tmp_path: Path):
    for memory_bytes, ids_read in ((1 << 20, 1), (0, 2)):  # few events are held from the reading of ids on
        shop = landed(tmp_path / str(memory_bytes), SOME)
        first = Counted(shop.engine())
        reread(shop, 2, memory_bytes, first)
        assert all(
            first.read[name] == len(DAYS) * (ids_read if name == "event_id" else 1) for name in stock.log.columns
        )
    for memory_bytes in (1 << 20, 0):
        later = Counted(shop.engine())
        reread(shop, 2, memory_bytes, later)
        assert later.read == {"event_id": 3, "log_seq": 3}


def test_temporary_files_have_no_name_and_go_with_their_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shop, temporary = landed(tmp_path / "shop", SOME), tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def opened() -> int:
        return sum(
            str(temporary) in str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()
        )

    engine = shop.engine()
    reader = LogReader(engine.objects, engine.chain, stock.log)
    again = Rereader(engine.objects, engine.chain, reader, list(engine.chain), [], 0)
    found = [again.repeats(snapshot).to_pylist() for snapshot in engine.chain]
    assert (opened(), list(temporary.iterdir())) == (3, []), "suspects, pairs and contents"
    del again
    assert (opened(), list(temporary.iterdir())) == (0, [])
    assert found == reread(shop, 2)


VALUES = st.lists(st.tuples(st.sampled_from("abc"), st.text("xyz", max_size=4)), max_size=12)


@settings(derandomize=True)
@given(values=VALUES, memory_bytes=st.sampled_from([0, 5, 100]), gone=st.sampled_from(["", "a", "ab"]))
def test_what_is_kept_is_what_a_dictionary_keeps(values: list[tuple[str, str]], memory_bytes: int, gone: str):
    kept, expected = Kept[str](memory_bytes, len), dict[str, str]()
    for key, value in values:
        kept.keep(key, value)
        expected[key] = value
        assert {key: kept[key] for key in expected} == expected
    for key in gone:
        kept.let_go(key)
        expected.pop(key, None)
    assert {key: kept[key] for key in expected} == expected
    if memory_bytes == 100:
        assert all(kept[key] is value for key, value in expected.items()), "they are held, not read from a file"
    for key in list(expected):
        kept.let_go(key)
    large = "x" * memory_bytes
    kept.keep("d", large)
    assert kept["d"] is large, "values that are let go make room"


SNAPSHOTS = st.lists(
    st.tuples(st.integers(1, 5), st.booleans(), st.lists(st.integers(0, 20), max_size=6)), min_size=1, max_size=8
)


@settings(derandomize=True, deadline=None)
@given(snapshots=SNAPSHOTS, memory_bytes=st.sampled_from([0, 60, 1 << 20]), group=st.sampled_from([1, 4, 1 << 16]))
def test_contents_of_first_deliveries_come_back_where_they_are_asked_for(snapshots, memory_bytes: int, group: int):
    """Snapshots of a few events, of which some repeat any event up to themselves, and some are not compared."""
    ends = np.cumsum([events for events, _, _ in snapshots])
    asked = [
        np.array([seq % end for seq in seqs] if compared else [], dtype=np.int64)
        for end, (_, compared, seqs) in zip(ends.tolist(), snapshots, strict=True)
    ]

    def contents_of(seqs: np.ndarray) -> EncodedRows:
        return encode_rows([pa.array(["x" * (seq % 7) + str(seq) for seq in seqs.tolist()], pa.string())])

    firsts = FirstContents(asked, memory_bytes, group)
    for place, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        wanted = firsts.wanted(start, end)
        assert wanted.tolist() == sorted({seq for seqs in asked[place:] for seq in seqs.tolist() if start <= seq < end})
        firsts.hold(np.arange(start, end), contents_of(np.arange(start, end)))
        if len(asked[place]):
            assert list(firsts.of(place, asked[place])) == list(contents_of(asked[place]))


def test_a_new_snapshot_that_repeats_an_old_id_is_compared_with_its_content(tmp_path: Path):
    shop = landed(tmp_path, SOME)
    reread(shop, 0)
    assert [[(row["log_seq"], row["delivery"]) for row in rows] for rows in reread(shop, 1)] == [[(2, 1)], [(3, 2)]]


def test_a_damaged_memory_is_made_again(tmp_path: Path):
    shop = landed(tmp_path, SOME)
    found, before = reread(shop, 2), shop.files("checked")
    name = sorted((shop.store / "checked").rglob("*.json"))[0]
    name.write_bytes(name.read_bytes()[:-3])
    assert reread(shop, 2) == found
    assert shop.files("checked") == before


def test_recorded_repeats_that_sealing_did_not_find_right_are_never_remembered_as_right(tmp_path: Path):
    """Repeats with one delivery turned, under a layout with right hashes: only contents can tell."""
    shop = landed(tmp_path, SOME)
    right = reread(shop, 2)
    shutil.rmtree(shop.store / "checked")
    engine = shop.engine()
    snapshot = list(engine.chain)[1]
    wrong = right[1][0] | {"delivery": 3 - right[1][0]["delivery"]}
    _replace_repeats(engine, snapshot, wrong)
    assert reread(shop, 2) == right
    assert reread(shop, 2) == right
    assert len(shop.files("checked")) == 2


def test_a_memory_that_the_ids_contradict_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    shop = landed(tmp_path, SOME)
    right = reread(shop, 2)
    engine = shop.engine()
    snapshot = list(engine.chain)[1]
    wrong = right[1][0] | {"log_seq": 4, "log_offset": 0}
    _replace_repeats(engine, snapshot, wrong)
    check = ContentCheck(engine.objects, engine.chain, LogReader(engine.objects, engine.chain, stock.log))
    check.remember(snapshot, pa.Table.from_pylist([wrong], REPEATS))
    assert reread(shop, 2) == right
    assert "2026-01-02: the recorded repeats are not those in the ids" in caplog.text


def _replace_repeats(engine, snapshot, row: dict) -> None:
    """A layout of a snapshot whose repeats are one row, all hashes being right."""
    data = to_parquet(pa.Table.from_pylist([row], REPEATS))
    stored = StoredObject(f"logs/stock_events/repeats/{sha256_hex(data)[:32]}.parquet", sha256_hex(data))
    engine.objects.put(stored.name, data)
    layout = engine.chain.layout(snapshot, "stock_events")
    engine.chain.replace_layout(snapshot, {"stock_events": replace(layout, repeats=stored)})


@pytest.mark.parametrize("wrong", [[1000, 1001, 1002], [0, 0, 0], [0, 2, 1], [-1, 0, 1], [0, 1, 3]])
def test_events_with_another_log_seq_under_right_hashes_are_damage(tmp_path: Path, wrong: list[int]):
    """No content digest is over `log_seq`, by which repeats know their firsts."""
    shop = landed(tmp_path, [[("1", "lamp", 1), ("2", "lamp", 1), ("1", "lamp", 1)], [("2", "lamp", 1)]])
    engine = shop.engine()
    snapshot = next(iter(engine.chain))
    layout = engine.chain.layout(snapshot, "stock_events")
    (file,) = layout.segments
    events = LogReader(engine.objects, engine.chain, stock.log).segment(file).select(stock.log.schema.names)
    place = events.column_names.index("log_seq")
    events = events.set_column(place, events.schema.field("log_seq"), pa.array(wrong))
    false = write_segment(engine.objects, stock.log, file.partition, events.cast(stock.log.schema))
    engine.chain.replace_layout(snapshot, {"stock_events": replace(layout, segments=[false])})
    with pytest.raises(Damaged, match="expected every log_seq from 0 to 2, ascending"):
        reread(shop, 1)


def test_the_limit_of_memory_comes_from_the_environment_and_must_be_a_number(tmp_path: Path):
    assert Settings.from_environment(tmp_path, {}).memory_limit_mb is None
    assert Settings.from_environment(tmp_path, {"REFOLD_MEMORY_LIMIT_MB": "256"}).memory_limit_mb == 256
    for wrong in ("0", "-1", "2.5", "much", "²"):
        with pytest.raises(FixInput, match="REFOLD_MEMORY_LIMIT_MB"):
            Settings.from_environment(tmp_path, {"REFOLD_MEMORY_LIMIT_MB": wrong})
