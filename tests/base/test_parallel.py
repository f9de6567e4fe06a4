"""Work of several threads: its order, its errors, work within work, and a process that was forked in between."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from refold.base import parallel
from refold.base.parallel import each

LARGE = [parallel.WORTH_THREADS] * 4


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)


def test_results_keep_the_order_of_the_items_and_two_threads_work_at_once():
    both = threading.Barrier(2, timeout=60)

    def meet(item: int) -> tuple[int, int]:
        both.wait()
        return item, threading.get_ident()

    found = each(meet, [3, 1, 2, 0], LARGE)
    assert [item for item, _ in found] == [3, 1, 2, 0]
    assert len({thread for _, thread in found}) == 2


def test_the_first_error_by_item_is_raised_once_all_have_ended():
    done = []

    def work(item: int) -> None:
        done.append(item)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        each(work, range(4), [1, 2, 3, parallel.WORTH_THREADS])
    assert sorted(done) == [0, 1, 2, 3]


def test_work_within_work_is_done():
    assert each(lambda n: sum(each(lambda m: n * m, range(4), LARGE)), range(4), LARGE) == [0, 6, 12, 18]


def _in_child() -> None:
    assert each(abs, [-1, -2, -3, -4], LARGE) == [1, 2, 3, 4]


def test_a_forked_process_has_threads_of_its_own():
    assert each(abs, [-1, -2, -3, -4], LARGE) == [1, 2, 3, 4]
    child = multiprocessing.get_context("fork").Process(target=_in_child)
    child.start()
    child.join(60)
    code, _ = child.exitcode, child.kill()
    assert code == 0
