"""A log that is stopped in Dagster: the other logs go on to the release, the log's check and the run fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from refold import Sql, open_release
from refold.dagster.failures import failure_texts
from tests import shop
from tests.dagster.house import House
from tests.shop import DAYS, move
from tests.support import Shop


@pytest.fixture
def two(tmp_path: Path) -> House:
    """Two logs, sealed and released on the first day; on the second one has an object that cannot be read."""
    house = House(Shop(tmp_path, shop.little({name: [Sql(name)] for name in ("on_hand", "offers")})))
    for day in DAYS[:2]:
        shop.land(house.shop.landing, "prices", day, [{"id": day, "product": "cup", "price": int(day[-1])}])
        shop.land(house.shop.landing, "moves", day, [move(day, "cup", 1)])
    assert house.run("rebuild_snapshot", DAYS[0]).success
    house.shop.land(f"moves/dt={DAYS[1]}/broken.jsonl.gz").write_bytes(b"\x1f\x8b")
    return house


def test_the_other_log_is_released_and_the_run_fails_by_the_check_of_the_log(two: House):
    for first in (True, False):  # run again, it fails again
        result = two.run("rebuild_snapshot", DAYS[1])
        assert not result.success
        found = {
            e.asset_key.to_user_string(): e for e in result.get_asset_check_evaluations() if e.check_name == "landing"
        }
        assert {name: each.passed for name, each in found.items()} == {"log/moves": False, "log/prices": True}
        assert "broken.jsonl.gz" in str(found["log/moves"].description)
        assert found["log/moves"].metadata["waiting objects"].value == 2
        (sealed,) = result.asset_materializations_for_node("seal")[:1]
        assert ("stopped" in sealed.metadata) is (sealed.asset_key.path[-1] == "moves" and first)
        (text,) = failure_texts(result.all_events)
        assert "broken.jsonl.gz" in text and "traceback" not in text.lower()
        served = open_release(str(two.shop.store))
        assert (served.snapshot, served.sql("offers").to_pylist()[0]["price"]) == (DAYS[1], 2)
        assert served.sql("on_hand").to_pylist()[0]["level"] == 1


def test_the_history_job_releases_and_fails_at_its_end(two: House):
    result = two.run("rebuild_history")
    assert not result.success
    failed = [event.step_key for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    assert failed == ["check_landing"]
    assert open_release(str(two.shop.store)).snapshot == DAYS[1]


def fails(row: shop.Level, event: Any):
    """A rule that fails on the events of the second day."""
    return row._replace(level=row.level + 10 // (event.quantity - 2))


def test_a_store_that_refuses_an_event_is_held_back_and_the_history_job_fails_at_its_end(tmp_path: Path):
    sinks = {name: [Sql(name)] for name in ("on_hand", "last_move", "offers", "turnover")}
    fails.__name__ = "on_hand"
    house = House(Shop(tmp_path, shop.little(sinks, rule=fails)))
    for number, day in enumerate(DAYS[:2], start=1):
        shop.land(house.shop.landing, "moves", day, [move(day, "cup", number)])
        shop.land(house.shop.landing, "prices", day, [{"id": day, "product": "cup", "price": number}])
    result = house.run("rebuild_history")
    failed = [event.step_key for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    assert failed == ["check_stores"], failure_texts(result.all_events)
    (text,) = failure_texts(result.all_events)
    assert "Store 'on_hand' was held back" in text and "product 'cup'" in text
    assert "Store 'turnover' was held back and is not served. It is computed from 'on_hand'." in text
    served = open_release(str(house.shop.store))
    assert served.snapshot == DAYS[1] and sorted(served.release.versions) == ["last_move", "offers"]
