"""A log whose landing is refused is stopped alone: the others are sealed, proven and released, and the run fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refold import ConflictLimits, QuarantineLimits, Sql, int64, open_release, relation, text
from refold.errors import (
    ChangedObject,
    ConflictLimit,
    QuarantineLimit,
    RefusedLanding,
    UnreadableObject,
)
from refold.rebuild import rebuild_all
from tests import shop
from tests.shop import DAYS, move
from tests.support import Shop

STRICT = replace(shop.moves, quarantine=QuarantineLimits(records_min=0), conflicts=ConflictLimits())
SINKS = {name: [Sql(name)] for name in ("on_hand", "offers")}


def _worth(on_hand: Any, offers: Any) -> list[Any]:
    """What is on hand at the newest price: a relation over both logs."""

    @relation(
        reads=[on_hand, offers],
        key=["product"],
        returns={"product": text(), "worth": int64()},
        sinks=[Sql("worth")],
    )
    def worth() -> str:
        """Units on hand times the price."""
        return "SELECT product, on_hand.level * offers.price AS worth FROM on_hand JOIN offers USING (product)"

    return [worth]


def price(event_id: str, product: str, amount: int) -> dict[str, object]:
    return {"id": event_id, "product": product, "price": amount}


@pytest.fixture
def house(tmp_path: Path) -> Shop:
    """A day of both logs, released."""
    house = Shop(tmp_path, shop.little(SINKS, moves=STRICT, more=_worth))
    shop.land(house.landing, "moves", DAYS[0], [move("a", "cup", 1)])
    shop.land(house.landing, "prices", DAYS[0], [price("p", "cup", 5)])
    rebuild_all(house.engine())
    return house


def _unreadable(house: Shop) -> Path:
    path = house.landing / "moves" / f"dt={DAYS[1]}" / "b.jsonl.gz"
    path.write_bytes(b"\x1f\x8b")
    return path


def _bad_records(house: Shop) -> Path:
    return house.land(f"moves/dt={DAYS[1]}/b.jsonl", "{", "{")


def _conflict(house: Shop) -> Path:
    return house.land(f"moves/dt={DAYS[1]}/b.jsonl", move("a", "cup", 7))


def _strange_name(house: Shop) -> Path:
    return house.land(f"moves/dt={DAYS[1]}/b.csv", "x")


def _beyond_partitions(house: Shop) -> Path:
    return house.land(f"moves/dt={DAYS[1]}/partition=7/b.jsonl", move("b", "cup", 7))


REFUSED: dict[str, tuple[Callable[[Shop], Path], type[RefusedLanding]]] = {
    "an unreadable object": (_unreadable, UnreadableObject),
    "too many bad records": (_bad_records, QuarantineLimit),
    "a conflict": (_conflict, ConflictLimit),
    "a name that no log takes": (_strange_name, RefusedLanding),
    "a log partition that the log does not have": (_beyond_partitions, UnreadableObject),
}


@pytest.mark.parametrize(("spoil", "kind"), REFUSED.values(), ids=list(REFUSED))
def test_the_other_logs_go_on_and_what_waits_enters_the_next_snapshot(
    house: Shop, tmp_path: Path, spoil: Callable[[Shop], Path], kind: type[RefusedLanding]
):
    for day in DAYS[1:3]:
        shop.land(house.landing, "prices", day, [price(f"p {day}", "cup", int(day[-1]))])
        shop.land(house.landing, "moves", day, [move(f"m {day}", "cup", 2)])
    broken = spoil(house)
    for _ in range(2):  # a rerun fails as well, though nothing is left to seal
        with pytest.raises(kind, match=broken.name):
            rebuild_all(house.engine())
        engine = house.engine()
        assert [snapshot.key for snapshot in engine.chain] == list(DAYS[:3])
        assert [snapshot.cut("moves").seq_end for snapshot in engine.chain] == [1, 1, 1]
        assert [snapshot.cut("prices").seq_end for snapshot in engine.chain] == [1, 2, 3]
        opened = open_release(str(house.store))
        assert opened.sql("offers").to_pylist()[0]["price"] == 3
        assert opened.sql("on_hand").to_pylist()[0]["level"] == 1
        assert opened.sql("worth").to_pylist() == [{"product": "cup", "worth": 3}]
    broken.unlink()
    shop.land(house.landing, "prices", DAYS[3], [price("last", "cup", 9)])
    rebuild_all(house.engine())
    head = house.engine().chain.get()
    assert [(o.name.split("dt=")[1][:10], o.late) for o in head.cut("moves").objects] == [
        (DAYS[1], True),
        (DAYS[2], True),
    ]
    assert open_release(str(house.store)).sql("on_hand").to_pylist()[0]["level"] == 5
    _equal_to_landing_late(house, tmp_path)


def _equal_to_landing_late(house: Shop, tmp_path: Path) -> None:
    """The snapshots are those of a landing in which the objects of the stopped log came late."""
    late = Shop(tmp_path / "late", house.project)
    for day in DAYS[:4]:
        late.land(f"prices/dt={day}/a.jsonl", (house.landing / "prices" / f"dt={day}" / "a.jsonl").read_bytes().strip())
    late.land(f"moves/dt={DAYS[0]}/a.jsonl", move("a", "cup", 1))
    list(late.engine().sealing.seal(DAYS[2]))
    for day in DAYS[1:3]:
        late.land(f"moves/dt={day}/a.jsonl", move(f"m {day}", "cup", 2))
    list(late.engine().sealing.seal())
    assert [s.id for s in late.engine().chain] == [s.id for s in house.engine().chain]
    assert late.files("logs").items() <= house.files("logs").items()


def test_a_changed_object_stops_its_own_log(house: Shop):
    house.land(f"moves/dt={DAYS[0]}/a.jsonl", move("a", "cup", 999))
    with pytest.raises(ChangedObject, match="sha256"):  # also where nothing is to be sealed
        rebuild_all(house.engine())
    shop.land(house.landing, "prices", DAYS[1], [price("q", "cup", 6)])
    with pytest.raises(ChangedObject, match="sha256"):
        rebuild_all(house.engine())
    assert open_release(str(house.store)).sql("offers").to_pylist()[0]["price"] == 6


class TestTheWholeProjectStops:
    def test_where_no_other_log_has_anything_to_seal(self, house: Shop):
        _conflict(house)
        with pytest.raises(ConflictLimit):
            rebuild_all(house.engine())
        assert len(house.engine().chain) == 1

    def test_where_all_logs_are_stopped_with_all_reasons(self, house: Shop):
        _conflict(house)
        house.land(f"prices/dt={DAYS[1]}/a.jsonl.gz").write_bytes(b"\x1f\x8b")
        with pytest.raises(RefusedLanding, match=r"(?s)repeat an event id.*prices/dt="):
            rebuild_all(house.engine())
        assert len(house.engine().chain) == 1

    def test_where_nothing_of_the_log_is_sealed_yet_and_more_keys_follow(self, tmp_path: Path):
        house = Shop(tmp_path, shop.little(SINKS, moves=STRICT, more=_worth))
        for day in DAYS[:2]:
            shop.land(house.landing, "prices", day, [price(day, "cup", 5)])
        house.land(f"moves/dt={DAYS[0]}/a.jsonl", "{")
        with pytest.raises(QuarantineLimit):
            rebuild_all(house.engine())
        assert len(house.engine().chain) == 0
        with pytest.raises(QuarantineLimit):
            rebuild_all(house.engine(), DAYS[0])
        assert [s.cut("prices").seq_end for s in house.engine().chain] == [1]


def test_the_command_says_what_was_released_without_what_and_exits_1(house: Shop):
    shop.land(house.landing, "prices", DAYS[1], [price("q", "cup", 6)])
    _conflict(house)
    (house.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.seal.test_stopped_log:PROJECT"\n')
    result = house.refold("rebuild", project=house.root)
    assert result.exit_code == 1
    assert "conflict-limit" in result.stderr and result.stderr.count("repeat an event id") == 1
    assert open_release(str(house.store)).snapshot == DAYS[1]


PROJECT = shop.little(SINKS, moves=STRICT, more=_worth)


PROJECT = shop.little(SINKS, moves=STRICT, more=_worth)


def test_a_store_is_shown_with_the_logs_that_are_behind_it(house: Shop):
    def show(store: str) -> str:
        done = house.refold("show", store, project=house.root)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    (house.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.seal.test_stopped_log:PROJECT"\n')
    assert "behind" not in show("on_hand")
    _bad_records(house)
    shop.land(house.landing, "prices", DAYS[1], [price("q", "cup", 6)])
    with pytest.raises(RefusedLanding):
        rebuild_all(house.engine())
    told = f"Log 'moves' is behind snapshot {DAYS[1]}: 1 objects of {DAYS[1]} to {DAYS[1]} are in landing"
    assert told in show("on_hand") and told in show("worth")
    assert "behind" not in show("offers")
    _strange_name(house)
    assert "Log 'moves' is stopped: " in show("on_hand")
