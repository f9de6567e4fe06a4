"""How many requests a rebuild makes of its store: a listing costs the same whatever history is behind it."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from assets import PROJECT
from refold.rebuild import rebuild_all
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import CountingStore, Operation, wrapped
from tests.s3 import BUCKET, s3, s3_address
from tests.support import Shop, changed, moved
from tests.three_days import SMALL

__all__ = ["s3", "s3_address"]


def _rebuilt(shop: Shop) -> Counter[Operation]:
    """The requests of a rebuild of everything that landed, by a process that knows nothing."""
    counting = list[CountingStore]()

    def count(store: ObjectStore) -> ObjectStore:
        counting.append(CountingStore(store))
        return counting[-1]

    rebuild_all(replace(shop, open_store=wrapped(count)).engine())
    return sum((each.calls for each in counting if each.url == str(shop.store)), Counter[Operation]())


def _land(shop: Shop, days: int) -> None:
    for number in range(days):
        day = dt.date(2026, 1, 1) + dt.timedelta(number)
        shop.land(f"dt={day}/a.jsonl", *(moved(f"{number}-{n}", f"product {n}", 10) for n in range(4)))
        shop.land(f"product_changes/dt={day}/a.jsonl", changed(number, "u", "product 1", f"Product of {day}", "1.5"))


@pytest.mark.parametrize("run", ["of all history", "with nothing to do"])
def test_listings_do_not_grow_with_history(tmp_path: Path, run: str):
    found = []
    for days in (2, 5):
        shop = Shop(tmp_path / str(days), SMALL)
        _land(shop, days)
        requests = _rebuilt(shop)
        found.append(requests if run == "of all history" else _rebuilt(shop))
    few, many = found
    assert few[Operation.LIST] == many[Operation.LIST] > 0
    assert few[Operation.GET] < many[Operation.GET], "else nothing was counted"


@pytest.mark.usefixtures("s3")
def test_a_rebuild_reports_the_requests_of_a_remote_store(tmp_path: Path):
    shop, url = Shop(tmp_path, PROJECT), f"s3://{BUCKET}/{uuid.uuid4().hex}"
    day = PROJECT.cadence.start
    shop.land(f"dt={day}/a.jsonl", moved("1", "product 1", 10))
    result = shop.refold("rebuild", "--through", str(day), environ={"REFOLD_STORE": url})
    assert result.exit_code == 0, result.output
    (found,) = re.findall(rf"Requests of {url}: ([\d,]+) puts, ([\d,]+) gets, ([\d,]+) lists", result.output)
    assert all(int(count.replace(",", "")) > 0 for count in found)
    assert int(found[0]) > len(ObjectStore.open(url).list("states"))
