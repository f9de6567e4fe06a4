"""The same landing gives the same digests: in other processes, with other settings of the machine, in other steps."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refold.rebuild import rebuild_all
from tests.engine.conftest import Worker
from tests.engine.worker import SHOP
from tests.support import Shop, digests

THROUGH = "2026-02-10"
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
MACHINES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "one thread": (
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"} | dict.fromkeys(THREADS, "1"),
        {"threads": 1, "shuffle": 1, "way": "at once"},
    ),
    "three threads": (
        {"PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8"} | dict.fromkeys(THREADS, "3"),
        {"threads": 3, "shuffle": 2, "way": "day by day"},
    ),
    "any threads": (
        {"PYTHONHASHSEED": "random", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"},
        {"shuffle": 3, "way": "in ranges"},
    ),
}


@pytest.fixture(scope="module")
def results(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, start_worker: Callable[..., Worker]
) -> SimpleNamespace:
    """What each machine came to, and the first one's shop."""
    landing = shared_data / "torture" / "landing"
    roots = {name: tmp_path_factory.mktemp("machine") for name in MACHINES}
    workers = {name: start_worker(**environment) for name, (environment, _) in MACHINES.items()}
    for name, (_, order) in MACHINES.items():
        workers[name].tell({"root": str(roots[name]), "landing": str(landing), "through": THROUGH} | order)
    found = {name: worker.hear()[0] for name, worker in workers.items()}
    return SimpleNamespace(found=found, shop=Shop(roots["one thread"], SHOP, landing))


@pytest.mark.parametrize("machine", [name for name in MACHINES if name != "one thread"])
def test_every_snapshot_state_and_ledger_is_the_same(results: SimpleNamespace, machine: str):
    expected = results.found["one thread"]["digests"]
    assert len(expected) == 10 * len(SHOP.stores)
    assert results.found[machine]["digests"] == expected


def test_doing_all_of_it_again_changes_no_object(results: SimpleNamespace):
    """Sealing, building, proving, relating, publishing, checking, releasing: twice is once, also from offset 0."""
    shop: Shop = results.shop
    files, database = shop.files(), _database(shop)
    rebuild_all(shop.engine())
    assert shop.files() == files
    rebuild_all(shop.engine(), fresh=True)
    assert shop.files() == files
    assert _database(shop) == database


def test_each_step_alone_changes_no_object(results: SimpleNamespace):
    shop: Shop = results.shop
    files = shop.files()
    engine = shop.engine()
    assert list(engine.sealing.seal()) == []
    snapshot = engine.chain.get("2026-02-06")
    for store in SHOP.in_order:
        assert engine.build(store, snapshot) == shop.engine().builder.find(store, snapshot)
        assert engine.prover.prove(store, engine.chain.get()).passed  # at an older one it would be another proof
    assert shop.engine().releaser.release(engine.chain.get()).number == 1
    assert shop.files() == files


def test_a_past_snapshot_built_alone_is_the_same(results: SimpleNamespace, tmp_path: Path):
    """The store at a day needs no day before it to be built."""
    shop = Shop(tmp_path, SHOP, results.shop.landing)
    engine = shop.engine()
    for _ in engine.sealing.seal("2026-02-07"):
        pass
    for store in SHOP.in_order[:2]:
        engine.build(store, engine.chain.get("2026-02-07"))
    expected = {place: tuple(found) for place, found in results.found["one thread"]["digests"].items()}
    found = digests(shop.engine())
    assert found
    assert found.items() <= expected.items()


def test_sealing_one_log_before_the_other_gives_the_same_logs(results: SimpleNamespace, tmp_path: Path):
    """Which log is declared first changes neither log's identity."""
    shop = Shop(tmp_path, SHOP, results.shop.landing)
    turned = shop.declared(stores=[*reversed(SHOP.stores)])
    for _ in turned.engine().sealing.seal("2026-02-03"):
        pass
    expected = results.shop.engine().chain
    for snapshot in turned.engine().chain:
        assert {name: cut.id for name, cut in snapshot.logs.items()} == {
            name: cut.id for name, cut in expected.get(snapshot.key).logs.items()
        }
        assert snapshot.id == expected.get(snapshot.key).id


def _database(shop: Shop) -> list[str]:
    connection = sqlite3.connect(shop.root / "refold.db")
    found = list(connection.iterdump())
    connection.close()
    return found
