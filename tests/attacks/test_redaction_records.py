"""Somebody edits or removes a record of redaction, and makes its sum right."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refold.errors import Damaged
from refold.log.redactions import Redaction
from refold.rebuild import rebuild_all
from refold.sinks import Sql
from refold.storage.records import record_bytes
from tests.shop import DAYS, land, little, move
from tests.support import Shop

PROJECT = little({"on_hand": [Sql("on_hand_view")], "offers": [Sql("offers_view")]})
DAY, LAST, NEXT = DAYS[1], DAYS[2], DAYS[3]
Record = dict[str, Any]


def land_day(shop: Shop, number: int) -> None:
    """Two events of each of three products."""
    events = [move(f"{number}-{n}", f"product {n % 3}", 10 + n) for n in range(6)]
    land(shop.landing, "moves", DAYS[number], events)
    land(shop.landing, "prices", DAYS[number], [{"id": f"{number}", "product": "product 1", "price": 1 + number}])


def redact(shop: Shop, *, erase: bool = False) -> Redaction:
    """Put one event of the second day aside, or erase it."""
    engine = shop.engine()
    redactor = engine.redactor("moves")
    chosen = redactor.with_values(["id"], ["1-2"], erase=erase)
    how = redactor.erasing if erase else redactor.excluding
    redaction = how(chosen, reason="it is wrong", by="its owner", at=engine.now)
    redactor.commit(redaction)
    return redaction


def seen(shop: Shop) -> list[tuple[str, int]]:
    """The levels that readers see."""
    connection = sqlite3.connect(shop.database_file)
    rows = connection.execute("SELECT product, level FROM on_hand_view ORDER BY product").fetchall()
    connection.close()
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Three released days, none redacted."""
    shop = Shop(tmp_path_factory.mktemp("whole"), PROJECT)
    for number in range(3):
        land_day(shop, number)
    rebuild_all(shop.engine())
    return shop


@pytest.fixture
def shop(whole: Shop, tmp_path: Path) -> Shop:
    """A copy of it to redact and to damage."""
    shutil.copytree(whole.root, tmp_path / "shop")
    return Shop(tmp_path / "shop", PROJECT)


@pytest.mark.parametrize("more", [False, True], ids=["the same day", "one more day"])
def test_what_was_put_aside_does_not_come_back_where_its_record_is_removed(shop: Shop, more: bool):
    """What readers see rests on the redaction; without it nothing is released, until it is restored."""
    untouched, place = seen(shop), shop.store / redact(shop).name
    rebuild_all(shop.engine())
    before, record = seen(shop), place.read_bytes()
    assert before == [(product, level - 12 * (product == "product 2")) for product, level in untouched]
    place.unlink()
    if more:
        land_day(shop, 3)
    with pytest.raises(Damaged, match=f"expected snapshot {LAST} with the id .*A redaction or manifest was removed"):
        rebuild_all(shop.engine())
    assert seen(shop) == before
    place.write_bytes(record)
    rebuild_all(shop.engine())
    added = {"product 0": 23, "product 1": 25, "product 2": 27} if more else {}
    assert seen(shop) == [(product, level + added.get(product, 0)) for product, level in before]


def _cut(**changes: object) -> Callable[[Record], Record]:
    return lambda body: body | {"cuts": {DAY: body["cuts"][DAY] | changes}}


def _content(count: int) -> Callable[[Record], Record]:
    return lambda body: _cut(content=[*body["cuts"][DAY]["content"], "0" * 64][:count])(body)


WRONG: dict[str, tuple[bool, Callable[[Record], Record], str]] = {
    "an offset behind the snapshot": (False, _cut(places=[[0, 99999]]), "found the place 0:99999"),
    "an offset below zero": (False, _cut(places=[[0, -1]]), "found the place 0:-1"),
    "a log partition that is not there": (False, _cut(places=[[77, 0]]), "found the place 77:0"),
    "a place of three numbers": (False, _cut(places=[[0, 1, 2]]), "found the place 0:1:2"),
    "a place twice": (False, lambda b: _cut(places=b["cuts"][DAY]["places"] * 2)(b), "every place once, in order"),
    "no content": (False, _content(0), "found 0"),
    "content of one log partition too many": (False, _content(3), "found 3"),
    "another log": (False, lambda body: body | {"log": "prices"}, "found the place"),
    "a log that is not there": (False, lambda body: body | {"log": "no_log"}, "found 'no_log'"),
    "erased without other objects": (False, lambda body: body | {"erased": True}, "found none"),
    "objects though it erased nothing": (True, lambda body: body | {"erased": False}, "found some"),
}


@pytest.mark.parametrize(("erase", "edit", "found"), WRONG.values(), ids=WRONG)
def test_a_record_that_does_not_fit_its_snapshot_is_damage(
    shop: Shop, erase: bool, edit: Callable[[Record], Record], found: str
):
    """Every command that opens the log names the record, the snapshot and what does not fit."""
    before, place = seen(shop), shop.store / redact(shop, erase=erase).name
    body = json.loads(place.read_bytes())["body"]
    place.unlink()
    place.write_bytes(record_bytes(edit(body)))
    for command in (rebuild_all, lambda engine: engine.audit_objects(), lambda engine: engine.chain):
        with pytest.raises(Damaged, match=f"snapshot {DAY}: ") as error:
            command(shop.engine())
        assert found in str(error.value)
        assert place.name in str(error.value)
    assert seen(shop) == before
