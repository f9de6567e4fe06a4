"""Replay reads contents once and remembers it; what it finds is no other for that, nor for less memory."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.stock import stock
from refold.config import Settings
from refold.encoding import EncodedRows
from refold.errors import FixInput
from refold.log.content import ContentCheck
from refold.log.deduplication import Suspects
from refold.log.kept_suspects import KeptSuspects
from refold.log.layout import StoredObject
from refold.log.reader import LogReader
from refold.log.repeated_hashes import HashSet
from refold.log.repeats import REPEATS
from refold.log.rereading import Rereader
from refold.log.segment import to_parquet
from refold.storage import sha256_hex
from tests.engine.sealing import STOCK_ONLY, sealed
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


def reread(shop: Shop, through: int, memory_bytes: int = 1 << 20) -> list[list[dict]]:
    """The repeats of every snapshot through a place, as full replay finds them."""
    engine = shop.engine()
    snapshots = list(engine.chain)[: through + 1]
    reader = LogReader(engine.objects, engine.chain, stock.log)
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


def test_contents_are_read_once_and_never_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read, compared = Counter[str](), Counter[str]()
    unread, require = LogReader.unread, ContentCheck.require

    def counting(self, snapshot, columns):
        read.update(columns)
        return unread(self, snapshot, columns)

    monkeypatch.setattr(LogReader, "unread", counting)
    monkeypatch.setattr(ContentCheck, "require", lambda s, snap, p: (compared.update([snap.key]), require(s, snap, p)))
    shop = landed(tmp_path, SOME)
    reread(shop, 2)
    assert compared == Counter(DAYS)
    read.clear()
    for memory_bytes in (1 << 20, 0):
        reread(shop, 2, memory_bytes)
        assert compared == Counter(DAYS)
        assert read == {"event_id": 3, "log_seq": 3}
        read.clear()


@pytest.mark.parametrize("memory_bytes", [0, 250, 1 << 20], ids=["on disk", "one in memory", "in memory"])
def test_suspects_that_none_repeats_are_not_kept(memory_bytes: int):
    kept = KeptSuspects(memory_bytes)
    for key, hashes in (("a", [1, 2, 3]), ("b", [2, 9])):
        count = len(hashes)
        rows = EncodedRows(np.array(hashes, dtype=np.uint8), np.arange(count + 1))
        empty = EncodedRows(np.zeros(0, dtype=np.uint8), np.zeros(count + 1, dtype=np.int64))
        seqs = np.arange(count)
        kept.keep(key, [Suspects(0, seqs, seqs, np.array(hashes, dtype=np.uint64), rows, empty)])
    assert kept.narrow(HashSet(np.array([2, 3], dtype=np.uint64))) == 3
    assert [[mine.hashes.tolist() for mine in kept[key]] for key in "ab"] == [[[2, 3]], [[2]]]
    assert [[bytes(mine.ids.data) for mine in kept[key]] for key in "ab"] == [[b"\2\3"], [b"\2"]]


def test_temporary_files_go_with_their_turn_and_with_their_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shop, temporary = landed(tmp_path / "shop", SOME), tmp_path / "temporary"
    found = reread(shop, 2)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    engine = shop.engine()
    reader = LogReader(engine.objects, engine.chain, stock.log)
    again = Rereader(engine.objects, engine.chain, reader, list(engine.chain), [], 0)
    for left, snapshot, repeats in zip((2, 1, 0), engine.chain, found, strict=True):
        assert again.repeats(snapshot).to_pylist() == repeats
        assert len([path for path in temporary.rglob("*") if path.is_file()]) == left
    del again
    assert list(temporary.iterdir()) == []


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


def test_the_limit_of_memory_comes_from_the_environment_and_must_be_a_number(tmp_path: Path):
    assert Settings.from_environment(tmp_path, {}).memory_limit_mb is None
    assert Settings.from_environment(tmp_path, {"REFOLD_MEMORY_LIMIT_MB": "256"}).memory_limit_mb == 256
    for wrong in ("0", "-1", "2.5", "much", "²"):
        with pytest.raises(FixInput, match="REFOLD_MEMORY_LIMIT_MB"):
            Settings.from_environment(tmp_path, {"REFOLD_MEMORY_LIMIT_MB": wrong})
