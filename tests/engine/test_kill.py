"""Rebuilds that are killed at any moment, and rebuilds that race each other; `tests.failpoints` kills at every write.

Served is the second day; killed is the rebuild of the third. Afterwards a reader finds the old or the new, never a
mixture or a piece, and running again ends where an undisturbed rebuild ends, object by object.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from refold.engine import Engine
from tests.engine.conftest import Worker
from tests.engine.worker import SHOP
from tests.support import Shop, digests

OLD, NEW = "2026-02-02", "2026-02-03"
MOMENTS = 6


@pytest.fixture(scope="module")
def days(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, start_worker: Callable[..., Worker]
) -> SimpleNamespace:
    """The shop with the second day served, and the same after an undisturbed rebuild of the third."""
    landing = shared_data / "torture" / "landing"
    worker = start_worker()
    old = Shop(tmp_path_factory.mktemp("old"), SHOP, landing)
    worker.ask(_order(old, OLD))
    new = _copy(old, tmp_path_factory.mktemp("new") / "shop")
    worker.ask(_order(new, NEW))
    contents = {place: _contents(shop.engine()) for place, shop in ((OLD, old), (NEW, new))}
    return SimpleNamespace(worker=worker, old=old, new=new, contents=contents)


def _order(shop: Shop, through: str) -> dict[str, object]:
    return {"root": str(shop.root), "landing": str(shop.landing), "through": through}


def _copy(shop: Shop, root: Path) -> Shop:
    shutil.copytree(shop.root, root)
    return Shop(root, shop.project, shop.landing)


def _targets(engine: Engine):
    for store in engine.project.stores:
        for sink in store.sinks:
            yield store, f"{type(sink).__name__} {sink.name}", engine.publisher.target(store, sink)


def _contents(engine: Engine) -> dict[str, pa.Table]:
    """What each sink shows its readers."""
    return {
        name: target.read().sort_by([(k, "ascending") for k in store.key]) for store, name, target in _targets(engine)
    }


def _check_readers(shop: Shop, days: SimpleNamespace) -> None:
    """The log is whole, the pointer names the old or the new snapshot, and each sink shows one of them, whole."""
    engine = shop.engine()
    for log in SHOP.logs:
        assert [f for _, found in engine.verify_log(log.name, engine.chain.get()) for f in found] == []
    assert engine.releaser.current().snapshot in (OLD, NEW)
    shown = _contents(engine)
    for name, rows in shown.items():
        assert any(rows.equals(days.contents[key][name]) for key in (OLD, NEW)), name
    in_database = [name for name in shown if name.startswith("Sql ")]
    assert any(all(shown[name].equals(days.contents[key][name]) for name in in_database) for key in (OLD, NEW))
    if engine.releaser.current().snapshot == OLD:
        assert all(shown[name].equals(days.contents[OLD][name]) for name in shown)
    for store, name, target in _targets(engine):  # a reader who resolves through the pointer
        rows = target.read(engine.releaser.current().versions[store.name]).sort_by(
            [(k, "ascending") for k in store.key]
        )
        assert rows.equals(days.contents[engine.releaser.current().snapshot][name])


def _check_end(shop: Shop, days: SimpleNamespace) -> None:
    """All is as if nothing had ever happened: digests, objects, versions in sinks, rows in the database."""
    engine = shop.engine()
    assert digests(engine) == digests(days.new.engine())
    assert _served(engine) == _served(days.new.engine())
    shown = _contents(engine)
    assert [name for name, rows in days.contents[NEW].items() if not shown[name].equals(rows)] == []
    expected = {name: target.versions() for _, name, target in _targets(days.new.engine())}
    assert {name: target.versions() for _, name, target in _targets(engine)} == expected
    assert _objects(shop) == _objects(days.new)
    assert _rows(shop) == _rows(days.new)


def _served(engine: Engine) -> tuple[object, ...]:
    """What the pointer says is served; a proof counts by its claim, since it also tells how long it took."""
    release = engine.releaser.current()
    claims = {store: name.rpartition("/")[0] for store, name in release.proofs.items()}
    return release.snapshot, release.snapshot_id, dict(release.versions), claims


def _objects(shop: Shop) -> dict[str, str]:
    """All objects but those that tell when readers were moved: releases, commits of Delta tables, aliases.

    A file that ends in `#` and digits is one that the storage library had not finished; it is no object.
    """
    timed = ("/releases/", "/_delta_log/", "/commits/", "/released.json")
    files = {name: sha256 for name, sha256 in shop.files().items() if not re.search(r"#\d+$", name)}
    found = {name: sha256 for name, sha256 in files.items() if not any(part in f"/{name}" for part in timed)}
    claims = {name.rpartition("/")[0]: "proven" for name in found if name.startswith("proofs/")}
    return {name: sha256 for name, sha256 in found.items() if not name.startswith("proofs/")} | claims


def _rows(shop: Shop) -> dict[str, int]:
    connection = sqlite3.connect(shop.root / "refold.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    connection.close()
    return found


def test_killed_at_any_moment_it_goes_on_to_the_same_end(days: SimpleNamespace, tmp_path: Path):
    shop = _copy(days.old, tmp_path / "shop")
    moments = random.Random(20260203)
    results = []
    for number in range(MOMENTS):
        delay = moments.uniform(0.05, 0.1 + number * 0.1)
        results += days.worker.ask(_order(shop, NEW) | {"kill_after_seconds": delay})
        _check_readers(shop, days)
    assert sum("killed" in result for result in results) >= 3
    days.worker.ask(_order(shop, NEW))
    _check_end(shop, days)
    assert shop.engine().releaser.current().number == 2  # released once, whatever happened in between


def test_of_several_at_once_one_wins_and_the_others_say_so(days: SimpleNamespace, tmp_path: Path):
    """From nothing, three processes do everything at once; what they leave is what one of them would have left."""
    shop = Shop(tmp_path / "shop", SHOP, days.old.landing)
    shop.root.mkdir()
    results = days.worker.ask(*[_order(shop, OLD)] * 3)
    assert any("digests" in result for result in results)
    assert {result["error"] for result in results if "error" in result} <= {"conflict", "unavailable"}
    assert all("again" in result["message"] for result in results if "error" in result)
    days.worker.ask(_order(shop, OLD))
    assert digests(shop.engine()) == digests(days.old.engine())
    assert _served(shop.engine()) == _served(days.old.engine())
    shown = _contents(shop.engine())
    assert [name for name, rows in days.contents[OLD].items() if not shown[name].equals(rows)] == []


def test_an_old_and_a_new_rebuild_at_once_leave_the_new_one_served(days: SimpleNamespace, tmp_path: Path):
    """Backfilling the past while the present is rebuilt never moves readers back."""
    shop = _copy(days.new, tmp_path / "shop")
    days.worker.ask(_order(shop, NEW))
    number = shop.engine().releaser.current().number
    results = days.worker.ask(_order(shop, OLD), _order(shop, NEW), _order(shop, OLD))
    assert shop.engine().releaser.current().number == number
    assert all("digests" in result or result["error"] in ("conflict", "unavailable") for result in results)
    _check_end(shop, days)
