"""A project whose store is in packs: the same digests, few objects, whatever is killed; damage has the part's name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from assets.stock import stock
from refold import Project
from refold.rebuild import rebuild_all
from refold.repair.garbage import find_unreferenced, remove_unreferenced
from refold.repair.repair_objects import repair_objects
from refold.storage.objects import ObjectStore, OpenStore
from refold.storage.packs import PackedStore
from refold.storage.wrappers import Operation
from refold.testing.faulty_store import Crash, Effect, Faults
from tests.support import LONG_AFTER, Shop, changed, digests, moved
from tests.three_days import DAYS, SMALL

BARE = replace(SMALL, stores=[replace(stock, sinks=[], expect=[])])
"""A project that publishes nothing."""

PARTS = ("states", "proofs", "checked", "layouts", "logs", "expectations")


def packed(store: Path, opened: OpenStore = ObjectStore.open) -> OpenStore:
    """A way to open stores in which one folder is in packs, as a remote store is."""

    def found(url: str, *, must_exist: bool = False) -> ObjectStore:
        inner = opened(url, must_exist=must_exist)
        return PackedStore(inner) if url == str(store) else inner

    return found


def landed(root: Path, days: int = len(DAYS), project: Project = SMALL) -> Shop:
    shop = Shop(root, project)
    for number, day in enumerate(DAYS[:days]):
        events = [moved(f"{number}-{n}", f"product {n}", 10 + n) for n in range(6)]
        shop.land(f"dt={day}/a.jsonl", *events, moved("0-1", "product 1", 11), moved(f"{number} no", "product 2", -999))
        shop.land(f"product_changes/dt={day}/a.jsonl", changed(number, "u", "product 1", f"Product of {day}", "1.5"))
    return shop


def in_packs(shop: Shop, opened: OpenStore = ObjectStore.open) -> Shop:
    return replace(shop, open_store=packed(shop.store, opened))


def loose(shop: Shop) -> list[str]:
    return [name for name in shop.files() if name.startswith(PARTS)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """What three days are where each part is an object."""
    shop = landed(tmp_path_factory.mktemp("loose"))
    rebuild_all(shop.engine())
    assert len(loose(shop)) > 50
    return digests(shop.engine())


def test_a_history_in_packs_is_the_same_in_few_objects(tmp_path: Path, expected: dict[str, tuple[str, ...]]):
    shop = in_packs(landed(tmp_path))
    for day in DAYS:
        before = set(shop.files())
        rebuild_all(shop.engine(), day)
        of_day = {name for name in set(shop.files()) - before if not name.startswith(("releases", "sinks", "delta"))}
        assert len(of_day) <= 4, of_day
        assert [name for name in of_day if name.startswith("snapshots")] == [f"snapshots/{day}.json"]
    assert digests(shop.engine()) == expected and loose(shop) == []
    files = shop.files()
    rebuild_all(shop.engine())
    assert shop.files() == files
    assert digests(replace(shop, open_store=ObjectStore.open).engine()) == expected  # found to be in packs


def test_an_older_store_goes_on_in_packs(tmp_path: Path, expected: dict[str, tuple[str, ...]]):
    shop = landed(tmp_path)
    rebuild_all(shop.engine(), DAYS[0])
    old = shop.files()
    rebuild_all(in_packs(shop).engine())
    assert digests(shop.engine()) == expected
    assert {name: sha256 for name, sha256 in shop.files().items() if name in old and name.startswith(PARTS)} == {
        name: sha256 for name, sha256 in old.items() if name.startswith(PARTS)
    }
    assert shop.engine().audit_objects() == []


WRITES = (Operation.PUT, Operation.CREATE, Operation.DELETE)


@pytest.mark.parametrize("effect", [Effect.CRASH, Effect.CRASH_AFTER, Effect.LOSE_ANSWER])
def test_a_rebuild_that_is_killed_at_any_write_goes_on(tmp_path: Path, effect: Effect):
    writes, whole = 0, landed(tmp_path / "whole", 2, BARE)
    rebuild_all(whole.engine())
    expected = digests(whole.engine())
    while True:
        faults = Faults()
        shop = landed(tmp_path / str(writes), 2, BARE)
        faulty = in_packs(shop, faults.open)
        faults.plan(WRITES, effect, "^(packs|snapshots|releases|states|layouts)/", after=writes)
        with suppress(Crash):
            rebuild_all(faulty.engine())
        if not faults.happened:
            break
        faults.clear()
        assert in_packs(shop).engine().audit_objects() == []
        rebuild_all(in_packs(shop).engine())
        assert digests(in_packs(shop).engine()) == expected
        writes += 1
    assert writes >= 6


def _damaged(shop: Shop, choose: Callable[[str], bool]) -> str:
    """Flip a byte of a part, in the middle of a file; the name of the part."""
    store = PackedStore(ObjectStore.open(str(shop.store)))
    name = next(info.name for info in store.list() if choose(info.name))
    data = store.get(name)
    for path in (shop.store / "packs").iterdir():
        whole = path.read_bytes()
        if data in whole:
            place = whole.index(data) + len(data) // 2
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    return name


@pytest.mark.parametrize("kind", ["states/stock/rows/", "states/stock/ledger/", "states/stock/", "proofs/stock/"])
def test_damage_has_the_name_of_the_part_and_is_mended(tmp_path: Path, kind: str, expected: dict[str, tuple[str, ...]]):
    shop = in_packs(landed(tmp_path))
    rebuild_all(shop.engine())
    name = _damaged(shop, lambda name: name.startswith(kind) and (kind != "states/stock/" or name.endswith(".json")))
    damage = shop.engine().audit_objects()
    assert [each.name for each in damage] == [name]
    repair_objects(shop.engine, damage)
    assert shop.engine().audit_objects() == []
    assert digests(shop.engine()) == expected


def test_what_nothing_names_is_removed_from_its_packs(tmp_path: Path, expected: dict[str, tuple[str, ...]]):
    shop = in_packs(landed(tmp_path))
    rebuild_all(shop.engine())
    objects = shop.engine().objects
    lost = f"states/stock/rows/{'5' * 40}.parquet"
    objects.put(lost, b"rows that nothing names")
    objects.put("states/stock/rows/not ours", b"kept, since its name is not one that Refold gives")
    objects.sync()
    assert lost not in [each.name for each in find_unreferenced(objects, dt.datetime.now(dt.UTC)) if each.removable]
    found = [each.name for each in find_unreferenced(objects, LONG_AFTER) if each.removable]
    assert lost in found and remove_unreferenced(shop.engine().objects, LONG_AFTER) == found
    held = b"".join(path.read_bytes() for path in (shop.store / "packs").iterdir())
    assert b"rows that nothing names" not in held and b"kept, since" in held
    assert digests(shop.engine()) == expected and shop.engine().audit_objects() == []
