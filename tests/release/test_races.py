"""Two who publish, release and roll back at once, with readers reading all the while."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from refold import Sql
from refold.release.pointer import Pointer
from refold.release.releaser import Superseded
from refold.storage.objects import ObjectStore
from tests.release.little import DAYS, Little, database, read_whole, shown
from tests.release.racing import PROCESSES, race, race_in_process, watch, watch_in_process

ROUNDS = 24


def settled(little: Little, told: dict[int, list[str]], rounds: int) -> None:
    """Every turn won or was told who won, numbers have no gap, and all sinks serve what the pointer says."""
    pointer = Pointer(ObjectStore.open(str(little.store)))
    numbers = [release.number for release in pointer.newest_first()]
    assert numbers == list(range(len(numbers), 0, -1))
    for turns in told.values():
        assert len(turns) == rounds
        for turn in turns:
            lost = re.match(r"Another process moved the pointer first: release (\d+) of snapshot (\S+?),", turn)
            assert turn == "published" or turn.isdigit() or lost, turn
            if lost:
                assert pointer.get(int(lost[1])).snapshot == lost[2]
    current = pointer.current()
    day = DAYS.index(current.snapshot)
    assert set(little.released().values()) == {day}
    assert shown(database(little)) == (day, {str(current.number)})
    assert read_whole(little) == (current.number, day)


def start(little: Little) -> None:
    for day in (0, 1, 2):
        little.release(day)


def test_threads_that_release_and_roll_back_at_once_never_tear_anything(either: Little):
    start(either)
    barrier, done = threading.Barrier(2), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(watch, either, done)
        sides = {side: pool.submit(race, either, side, ROUNDS, barrier) for side in (0, 1)}
        try:
            told = {side: future.result() for side, future in sides.items()}
        finally:
            done.set()
        pinned, viewed = reader.result()
    assert pinned and viewed
    settled(either, told, ROUNDS)


def test_processes_that_release_and_roll_back_at_once_never_tear_anything(either: Little):
    start(either)
    barrier, done, queue = PROCESSES.Barrier(2), PROCESSES.Event(), PROCESSES.Queue()
    root, url = str(either.root), either.database
    reader = PROCESSES.Process(target=watch_in_process, args=(root, url, done, queue))
    racers = [
        PROCESSES.Process(target=race_in_process, args=(root, url, side, ROUNDS, barrier, queue)) for side in (0, 1)
    ]
    for process in (*racers, reader):
        process.start()
    found = dict(queue.get(timeout=120) for _ in racers)
    done.set()
    _, reads = queue.get(timeout=60)
    for process in (*racers, reader):
        process.join(60)
        assert process.exitcode == 0
    assert isinstance(reads, tuple), reads
    settled(either, found, ROUNDS)


def test_a_release_that_was_overtaken_moves_no_sink_back(either: Little):
    """It has moved the pointer and is about to move the sinks, when a later one does all of that."""
    either.release(0)
    slow = either.releaser()
    slow.pointer.move(slow._wanted(either.engine().chain.get(DAYS[1]), slow.current()))
    late = list(slow._moves(slow.current()))
    either.release(2)
    for sink, moves in late:
        with pytest.raises(Superseded):
            sink.release_together([move for _, move in moves], slow.confirm(2))
    slow.roll_forward()
    assert set(either.released().values()) == {2}
    assert shown(database(either)) == (2, {"3"})


def test_a_release_moves_all_tables_of_a_database_or_none(either: Little):
    """Of two tables the one serves the wanted version already; it is moved along, or both would part if overtaken."""
    either.release(0)
    slow = either.releaser()
    slow.pointer.move(slow._wanted(either.engine().chain.get(DAYS[1]), slow.current()))
    ((sink, moves),) = [(sink, moves) for sink, moves in slow._moves(slow.current()) if isinstance(sink, Sql)]
    sink.release_together([move for _, move in moves[:1]])
    ((_, again),) = [(sink, moves) for sink, moves in slow._moves(slow.current()) if isinstance(sink, Sql)]
    assert [target.place for _, (target, _, _) in again] == [target.place for _, (target, _, _) in moves]
    slow.roll_forward()
    assert shown(database(either)) == (1, {"2"})
