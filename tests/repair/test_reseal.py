"""Segments and quarantine sealed again from landing: the same bytes, or a reason why not, and no proof lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refold import QuarantineLimits, Sql, int64
from refold.engine import Engine
from refold.log.compaction import Compactor, MergeLimits
from refold.log.reader import LogReader
from refold.log.segment import _write
from refold.rebuild import rebuild_all
from refold.repair.repair_objects import repair_objects
from refold.storage.names import ObjectKind, kind_of
from tests import shop
from tests.support import Shop, flip

DAYS = shop.DAYS[:4]
MOVES = replace(shop.moves, quarantine=QuarantineLimits(share_max=0.5))


def _project(quantity_max: int = 1000) -> shop.Project:
    columns = MOVES.columns | {"quantity": int64(1, quantity_max)}
    return shop.little({"on_hand": [Sql("on_hand")]}, moves=replace(MOVES, columns=columns))


@pytest.fixture
def house(tmp_path: Path) -> Shop:
    """Four days of two log partitions, with repeats, quarantined records, a late object and a retry; compacted."""
    house = Shop(tmp_path / "a root", _project())
    for number, day in enumerate(DAYS):
        moves = [shop.move(_uuid(number, n), f"product {n % 5}", n + 1) for n in range(9)]
        shop.land(house.landing, "moves", day, [*moves, moves[0], shop.move(_uuid(number, 99), "product 1", 5000)])
    assert len(list(house.engine().sealing.seal(DAYS[0]))) == 1
    house.land(f"moves/dt={DAYS[0]}/late.jsonl", shop.move(_uuid(9, 9), "product 2", 7))
    assert replace(house, project=_project(10**4)).engine().retry_quarantine() != {"moves": []}
    rebuild_all(house.engine(), DAYS[-1])
    engine = house.engine()
    compactor = Compactor(engine.objects, engine.chain, MOVES, MergeLimits(events_max=20, files_min=2))
    compactor.apply(compactor.plan())
    rebuild_all(house.engine(), DAYS[-1])  # which compares contents with the new layouts, and remembers that
    return house


def _uuid(*numbers: int) -> str:
    return "{:08x}-0000-0000-0000-{:012x}".format(*numbers)


def _used(engine: Engine, kind: ObjectKind) -> list[str]:
    layouts = [engine.chain.layout(snapshot, "moves") for snapshot in engine.chain]
    segments = [file.name for layout in layouts for file in layout.segments]
    quarantine = [layout.quarantine.name for layout in layouts if layout.quarantine is not None]
    return sorted(set(segments if kind is ObjectKind.SEGMENT else quarantine))


def _repaired(house: Shop) -> list[str]:
    """Repair; the names of what is still damaged."""
    return [damage.name for damage in repair_objects(house.engine, house.engine().audit_objects())]


@pytest.mark.parametrize("kind", [ObjectKind.SEGMENT, ObjectKind.QUARANTINE])
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_every_object_comes_back_byte_for_byte(house: Shop, kind: ObjectKind, damage: Callable[[Path], object]):
    before, names = house.files(), _used(house.engine(), kind)
    assert len(names) > 1
    for name in names:
        damage(house.store / name)
    assert {each.name for each in house.engine().audit_objects()} >= set(names)
    assert _repaired(house) == []
    assert house.files() == before
    rebuild_all(house.engine(), DAYS[-1])
    assert house.files() == before


def test_repeats_and_seen_ids_are_made_from_segments_that_were_sealed_again(house: Shop):
    before = house.files()
    for name in before:
        if kind_of(name) in (ObjectKind.SEGMENT, ObjectKind.REPEATS, ObjectKind.SEEN_IDS, ObjectKind.LEDGER_PART):
            (house.store / name).unlink()
    left = set(_repaired(house))
    assert left == set()
    caches = (ObjectKind.SEEN_IDS, ObjectKind.CONTENT_CHECK, ObjectKind.LAYOUT)
    assert {n: sha for n, sha in house.files().items() if kind_of(n) not in caches}.items() <= before.items()
    rebuild_all(house.engine(), DAYS[-1])


def test_a_segment_of_other_bytes_is_replaced_in_the_layouts(house: Shop):
    """As an earlier library would have written it: here the UUIDs are text."""
    engine = house.engine()
    last = engine.chain.get()
    layout = engine.chain.layout(last, "moves")
    file = layout.segments[0]
    events = LogReader(engine.objects, engine.chain, MOVES).segment(file).select(MOVES.schema.names)
    earlier = _write(engine.objects, MOVES, file.partition, events, None)
    assert earlier.name != file.name
    engine.chain.replace_layout(last, {"moves": replace(layout, segments=[earlier, *layout.segments[1:]])})
    rebuild_all(house.engine(), DAYS[-1])
    release = house.engine().releaser.current()
    (house.store / earlier.name).unlink()
    assert _repaired(house) == []
    names = _used(house.engine(), ObjectKind.SEGMENT)
    assert earlier.name not in names
    rebuild_all(house.engine(), DAYS[-1])
    assert house.engine().releaser.current() == release


@pytest.mark.parametrize("landing", ["expired", "other bytes", "read otherwise"])
def test_what_landing_no_longer_gives_is_left_with_the_reason(
    house: Shop, landing: str, caplog: pytest.LogCaptureFixture
):
    names = _used(house.engine(), ObjectKind.SEGMENT)
    proofs = [name for name in house.files() if kind_of(name) is ObjectKind.PROOF]
    for path in house.landing.rglob("*.jsonl"):
        if landing == "expired":
            path.unlink()
        elif landing == "other bytes":
            path.write_bytes(path.read_bytes().replace(b"product 3", b"product 9"))
    if landing == "read otherwise":
        house = replace(house, project=_project(quantity_max=8))
    flip(house.store / names[0])
    with caplog.at_level(logging.WARNING):
        assert names[0] in _repaired(house)
    reason = {"expired": "not", "other bytes": "other bytes", "read otherwise": "they give other events now"}[landing]
    assert any(names[0] in r.getMessage() and reason in r.getMessage() for r in caplog.records)
    assert [name for name in house.files() if kind_of(name) is ObjectKind.PROOF] == proofs
