"""The seen index on disk answers as a dictionary does, and where it is damaged, sealing does without."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.base import parallel
from refold.dedup.deliveries import SeenRun
from refold.errors import Damaged
from refold.repair.garbage import find_unreferenced, remove_unreferenced
from refold.seal.seen_index import BLOCK, SeenIndex, StoredRun, encode_run, newest_seen, sorted_entries
from refold.storage.objects import ObjectStore
from tests.seal.sealing import ids, ids_of, sealed
from tests.support import Shop, flip, moved

HASHES = st.one_of(st.integers(0, 12), st.integers(2**64 - 3, 2**64 - 1), st.integers(0, 2**64 - 1))


def run_of(hashes: list[int], start: int) -> SeenRun:
    seqs = np.arange(start, start + len(hashes))
    return SeenRun(np.array(hashes, dtype=np.uint64), seqs.astype(np.uint64) * np.uint64(3), seqs)


def entries_of(hashes: list[int], start: int) -> npt.NDArray[np.uint64]:
    return sorted_entries(run_of(hashes, start))


def answers(index: SeenIndex, asked: list[int]) -> list[tuple[int, int, int]]:
    rows, found = index.candidates(run_of(asked, 0))
    return sorted(zip(rows.tolist(), found.seqs.tolist(), found.contents.tolist(), strict=True))


@settings(deadline=None, derandomize=True)
@given(st.lists(HASHES, max_size=40), st.sampled_from([1, 2, 10]))
def test_entries_by_hash_are_in_the_order_of_a_stable_sort(hashes: list[int], times: int):
    """Spread as hashes are, or not, and each several times."""
    run = run_of(hashes * times, 0)
    assert run.by_hash.tolist() == sorted(range(len(run)), key=lambda place: run.hashes[place])


def test_many_entries_by_hash_are_in_the_order_of_a_stable_sort():
    hashes = np.random.default_rng(1).integers(0, 2**64, 5000, dtype=np.uint64)
    run = run_of(np.concatenate([hashes, hashes[::2], hashes[:10]]).tolist(), 0)
    assert run.by_hash.tolist() == np.argsort(run.hashes, kind="stable").tolist()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    runs=st.lists(st.tuples(st.lists(HASHES, max_size=8), st.sampled_from([1, 1, 60, 400])), max_size=5),
    asked=st.lists(HASHES, max_size=12),
    stored=st.booleans(),
)
def test_an_index_answers_as_a_dictionary(runs: list[tuple[list[int], int]], asked: list[int], stored: bool):
    """Some hashes come hundreds of times, so that they fill blocks; real ones hardly ever do."""
    index, known, start = SeenIndex(), defaultdict(list), 0
    objects = ObjectStore.open("memory://")
    for some, times in runs:
        hashes = some * times
        index.add(entries_of(hashes, start), start + len(hashes))
        for seq, value in enumerate(hashes, start):
            known[value].append(seq)
        start += len(hashes)
        if stored:
            index = SeenIndex.open(objects, index.store(objects, "moves"), start)
    expected = [(row, seq, 3 * seq) for row, value in enumerate(asked) for seq in known[value]]
    assert answers(index, asked) == sorted(expected)


def test_runs_grow_no_larger_than_they_may():
    index, objects = SeenIndex(run_entries_max=250), ObjectStore.open("memory://")
    for number in range(10):
        index.add(entries_of(list(range(100 * number, 100 * number + 100)), 100 * number), 100 * number + 100)
    assert [file.seq_end - file.seq_start for file in index.store(objects, "moves")] == [200] * 5
    assert [seq for _, seq, _ in answers(index, [0, 150, 999])] == [0, 150, 999]


def test_prune_removes_the_runs_that_went_into_others_and_no_others(shop: Shop):
    later = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    for day in range(1, 6):
        shop.land(f"dt=2026-01-0{day}/a.jsonl", *[moved(f"{day} {n}", "lamp", 1) for n in range(3)])
    sealed(shop)
    engine = shop.engine()
    asked = {file.name for file in newest_seen(engine.chain, "stock_events")[1]}
    stored = {info.name for info in engine.objects.list("logs/stock_events/seen")}
    assert asked < stored
    young = [each for each in find_unreferenced(engine.objects, dt.datetime.now(dt.UTC)) if each.removable]
    assert young == []
    assert set(remove_unreferenced(engine.objects, later)) == stored - asked
    assert remove_unreferenced(engine.objects, later) == []
    shop.land("dt=2026-01-06/a.jsonl", moved("1 1", "lamp", 1))
    sealed(shop)
    assert shop.engine().audit_objects() == []


def test_many_random_hashes_are_found_by_several_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parallel, "WORTH_THREADS", 0)
    monkeypatch.setattr(parallel, "cores", lambda: 3)
    numbers = np.random.default_rng(1).integers(0, 2**63, 20_000).astype(np.uint64) * np.uint64(2)
    run = StoredRun(encode_run(entries_of(numbers.tolist(), 0)), "a run")
    asked = np.concatenate([numbers[::7], numbers[:5000] + np.uint64(1)])
    rows, found = run.find(asked)
    assert rows.tolist() == list(range(len(numbers[::7])))
    assert found.seqs.tolist() == list(range(0, 20_000, 7))


def test_runs_are_merged_so_that_few_remain_and_what_is_stored_is_not_written_again(tmp_path: Path):
    objects, index, start = ObjectStore.open(str(tmp_path)), SeenIndex(), 0
    for number in range(64):
        index.add(entries_of(list(range(start, start + 100)), start), start + 100)
        start += 100
        files = index.store(objects, "moves")
        assert (files[0].seq_start, files[-1].seq_end) == (0, start)
        assert len(files) <= 8, f"{len(files)} runs after {number + 1} snapshots of the same size"
    assert answers(index, [0, 3199, 6399, 6400]) == [(0, 0, 0), (1, 3199, 9597), (2, 6399, 19197)]


@pytest.mark.parametrize("place", range(0, 48 + 16 * 3, 3))
def test_a_damaged_byte_of_the_index_is_noticed_before_it_is_believed(place: int):
    data = bytearray(encode_run(entries_of(list(range(0, 3 * BLOCK)), 0)))
    data[place] ^= 1
    with pytest.raises(Damaged, match="a run"):
        StoredRun(bytes(data), "a run").find(np.arange(5, dtype=np.uint64))


@pytest.mark.parametrize("byte", range(0, 64, 7))
def test_a_damaged_group_of_the_filter_is_noticed_where_it_is_asked_and_not_elsewhere(byte: int):
    """Without that, an id that was seen could pass for a new one."""
    hashes = [n << 56 for n in range(256)]  # of all groups
    data = bytearray(encode_run(entries_of(hashes, 0)))
    data[48 + 16 * 2 + 64 * 3 + byte] ^= 16
    run, asked = StoredRun(bytes(data), "a run"), np.array(hashes, dtype=np.uint64)
    assert run.find(asked[:70])[1].seqs.tolist() == list(range(70))
    with pytest.raises(Damaged, match="group 3 of its filter"):
        run.find(asked)


def test_groups_of_the_filter_that_changed_places_are_noticed():
    hashes = [n << 56 for n in range(256)]
    words = np.frombuffer(encode_run(entries_of(hashes, 0)), dtype=np.uint64).copy()
    first = 6 + 2 * 2
    words[first : first + 16] = np.roll(words[first : first + 16], 8)
    with pytest.raises(Damaged, match="group 0 of its filter"):
        StoredRun(words.tobytes(), "a run").find(np.array([0], dtype=np.uint64))


def test_the_filter_of_another_run_of_the_same_size_is_noticed():
    mine, other = (bytearray(encode_run(entries_of([n * 7 + k for n in range(300)], 0))) for k in (0, 1))
    start, end = 48 + 16 * 2, len(mine) - 24 * 300
    mine[start:end] = other[start:end]
    with pytest.raises(Damaged, match="of its filter"):
        StoredRun(bytes(mine), "a run").find(np.array([7], dtype=np.uint64))


@pytest.mark.parametrize("change", [(2, 8, 4, -24), (2, -8, 4, 24), (4, 8, 2, -3)])
def test_counts_that_changed_are_noticed_also_where_they_fit_the_size(change: tuple[int, int, int, int]):
    words = np.frombuffer(encode_run(entries_of(list(range(400)), 0)), dtype=np.uint64).astype(np.int64)
    one, by, other, back = change
    words[one] += by
    words[other] += back
    with pytest.raises(Damaged, match="a run"):
        StoredRun(words.astype(np.uint64).tobytes(), "a run")


def test_a_run_without_a_filter_is_none():
    words = np.frombuffer(encode_run(entries_of([], 0)), dtype=np.uint64).copy()[:6]
    words[4] = 0
    with pytest.raises(Damaged, match="sizes in its header"):
        StoredRun(words.tobytes(), "a run")


def test_a_damaged_block_is_noticed_where_it_is_asked_and_not_elsewhere():
    data = bytearray(encode_run(entries_of(list(range(0, 3 * BLOCK)), 0)))
    data[-24 * BLOCK + 9] ^= 1  # in the third block
    run = StoredRun(bytes(data), "a run")
    assert run.find(np.array([0, BLOCK], dtype=np.uint64))[1].seqs.tolist() == [0, BLOCK]
    with pytest.raises(Damaged, match="block 2 of its entries"):
        run.find(np.array([2 * BLOCK + 7], dtype=np.uint64))
    with pytest.raises(Damaged, match="entries do not have the sums"):
        run.entries()


def test_another_run_in_its_place_is_noticed(tmp_path: Path):
    objects, index = ObjectStore.open(str(tmp_path)), SeenIndex()
    index.add(entries_of(list(range(50)), 0), 50)
    index.add(entries_of(list(range(50, 55)), 50), 55)
    first, second = files = index.store(objects, "moves")
    (tmp_path / second.name).write_bytes((tmp_path / first.name).read_bytes())
    with pytest.raises(Damaged, match="it is another run"):
        SeenIndex.open(objects, files, 55)


@pytest.mark.parametrize("data", [b"", b"refold s", b"x" * 48, encode_run(entries_of([1, 2], 0))[:-8]])
def test_what_is_no_run_is_told(data: bytes):
    with pytest.raises(Damaged, match="a run"):
        StoredRun(data, "a run")


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_sealing_does_without_a_damaged_index_and_writes_it_again(shop: Shop, tmp_path: Path, damage):
    for day in (1, 2, 3):
        events = [moved(f"{n}", "lamp", 1) for n in range(2 * day, 2 * day + 6)]
        shop.land(f"dt=2026-01-0{day}/a.jsonl", *events)
        sealed(shop)
        for path in sorted((shop.store / "logs" / "stock_events" / "seen").iterdir()):
            damage(path)
    assert ids(shop) == ids_of(tmp_path / "whole", shop.landing)
    engine = shop.engine()
    repeats = [engine.chain.layout(snapshot, "stock_events").repeats for snapshot in engine.chain]
    assert [stored is not None for stored in repeats] == [False, True, True]
