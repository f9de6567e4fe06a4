"""Names outside a series are refused or reported by name; nothing is written under a name that nobody reads."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refold.errors import Damaged
from refold.log.layout import LogLayout
from refold.log.snapshot import Snapshot, layout_bytes, unchanged
from refold.repair.garbage import find_unreferenced, remove_unreferenced
from refold.storage.names import ObjectKind, name_of
from refold.storage.records import record_bytes
from tests.release.conftest import little, proven, published
from tests.release.little import Little
from tests.seal.sealing import GOOD, STOCK_ONLY, ids, sealed
from tests.support import Shop, moved

__all__ = ["little", "proven", "published"]

HIGHEST = 10**20 - 1
"""The highest number of a release that its name has digits for."""


def release_file(shop: Shop, number: int) -> Path:
    return shop.store / name_of(ObjectKind.RELEASE, number=number)


def forged(shop: Shop, number: int) -> bytes:
    """A release of another number with a right sum, made of the first one."""
    body = json.loads(release_file(shop, 1).read_bytes())["body"]
    return record_bytes({**body, "number": number})


@pytest.mark.parametrize("number", [3, 10**9, HIGHEST])
def test_a_release_that_does_not_continue_the_series_is_named_and_none_follows_it(little: Little, number: int):
    """F17: `verify` counted up to it without end, and the next release got a name that nobody reads."""
    little.release(0)
    stray = release_file(little, number)
    stray.write_bytes(forged(little, number))
    damages = little.engine().audit_objects()
    missing = [damage for damage in damages if damage.found == "none" and damage.kind is ObjectKind.RELEASE]
    assert [damage.name for damage in missing] == [name_of(ObjectKind.RELEASE, number=2)]
    assert (f"the numbers 2 to {number - 1} of the pointer" in missing[0].expected) == (number > 3)
    engine = little.engine()
    compared = list(engine.sink_audit.earlier(engine.chain.get(), engine.project.stores))
    assert len(compared) == len(list(little.targets())), "what the first release serves, and it ends"
    before = little.files("releases")
    # A number beyond 64 bits is that of no release; others would be, in their place.
    why = " is not a release" if number == HIGHEST else ", does not continue .*0002\\.json.* remove it"
    with pytest.raises(Damaged, match=rf"releases/{number:020d}\.json{why}"):
        little.release(1)
    assert little.files("releases") == before
    stray.unlink()
    assert little.release(1).number == 2


@pytest.mark.parametrize("data", [b"", b"notes", None])
def test_a_stray_file_under_the_highest_number_is_named_to_readers_and_writers(little: Little, data: bytes | None):
    little.release(0)
    stray = release_file(little, HIGHEST)
    stray.write_bytes(release_file(little, 1).read_bytes() if data is None else data)
    assert stray.relative_to(little.store).as_posix() in [damage.name for damage in little.engine().audit_objects()]
    for work in (little.engine().releaser.current, lambda: little.release(1)):
        with pytest.raises(Damaged, match=stray.name):
            work()


def future(shop: Shop, key: str) -> Snapshot:
    """An empty snapshot that continues the chain, as somebody with write access adds it."""
    chain = shop.engine().chain
    head = chain.get()
    logs = {log: unchanged(cut) for log, cut in head.logs.items()}
    snapshot = Snapshot(key, head.ordinal + 1, head.key, head.sha256, logs)
    chain.create(snapshot, {})
    return snapshot


NOW = dt.datetime(2026, 1, 3, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize("key", ["9999-12-31", "2026-01-05"])
def test_an_empty_snapshot_of_the_future_is_named_and_given_up(tmp_path: Path, key: str):
    """F17: nothing could be sealed any more, and no command said so."""
    shop = Shop(tmp_path, STOCK_ONLY, now=NOW)
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    sealed(shop)
    snapshot = future(shop, key)
    shop.land("dt=2026-01-02/a.jsonl", moved("2", "lamp", 1))
    asked: list[Callable[[], object]] = [
        lambda: sealed(shop),
        shop.engine().sealing.left,
        shop.engine().sealing.dry_run,
    ]
    for work in asked:
        with pytest.raises(
            Damaged, match=rf"{snapshot.name}, is in the future .* 2026-01-01: expected 2026-01-02.*{key}"
        ):
            work()
    done = shop.refold("log", "unseal", key, "--yes")
    assert done.exit_code == 0, done.output
    sealed(shop)
    assert list(ids(shop)) == ["2026-01-01", "2026-01-02"]


def test_days_that_were_sealed_ahead_by_name_are_not_refused(tmp_path: Path):
    shop = Shop(tmp_path, STOCK_ONLY, now=NOW)
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    sealed(shop, "2026-01-05")
    later = replace(shop, now=NOW + dt.timedelta(days=4))
    later.land("dt=2026-01-06/a.jsonl", moved("2", "lamp", 1))
    assert sealed(shop) == []
    assert [report.snapshot.key for report in sealed(later)] == ["2026-01-06"]


def test_a_layout_of_the_last_number_is_not_followed_by_one_that_nobody_reads(tmp_path: Path):
    shop = Shop(tmp_path, STOCK_ONLY)
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    sealed(shop)
    chain = shop.engine().chain
    snapshot = chain.get()
    layout: dict[str, LogLayout] = {"stock_events": chain.layout(snapshot, "stock_events")}
    last = name_of(ObjectKind.LAYOUT, snapshot=snapshot.key, manifest=snapshot.sha256, number=99_999_999)
    (shop.store / last).write_bytes(layout_bytes(snapshot, 99_999_999, layout))
    chain = shop.engine().chain
    assert chain.layout(snapshot, "stock_events") == layout["stock_events"]
    with pytest.raises(Damaged, match=last):
        chain.replace_layout(snapshot, layout)


STRANGE = [
    "logs/stock_events/notes.txt",
    "logs/stock_events/segments/0000/a.parquet",
    "logs/other/segments/0000/00000000000000000000-0123456789abcdef.parquet.bak",
    "releases/100000000000000000000.json",
    "releases/1.json",
    "layouts/a.json",
    "snapshots/2026-1-1.json",
    "states/stock/rows/a",
]


def test_objects_that_refold_does_not_name_are_listed_and_kept(tmp_path: Path):
    shop = Shop(tmp_path, STOCK_ONLY)
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    sealed(shop)
    for name in STRANGE:
        (shop.store / name).parent.mkdir(parents=True, exist_ok=True)
        (shop.store / name).write_bytes(b"")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=9)
    found = {each.name: each.why for each in find_unreferenced(shop.engine().objects, later)}
    assert {name: found.get(name) for name in STRANGE} == dict.fromkeys(
        STRANGE, "its name is not one that Refold gives"
    )
    remove_unreferenced(shop.engine().objects, later)
    assert all((shop.store / name).exists() for name in STRANGE)
    assert shop.engine().audit_objects() == []
