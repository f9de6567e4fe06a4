"""A rebuild of which nothing is released fails, whatever the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assets.stock import stock
from refold import Project
from refold.errors import FixInput
from refold.rebuild import rebuild_all
from tests.support import Shop, moved
from tests.three_days import DAYS, SMALL

ALONE = Project("small", SMALL.cadence, [stock])


@pytest.mark.parametrize("released", [0, 1])
def test_a_rebuild_fails_where_every_store_is_held_back(tmp_path: Path, released: int):
    """No database can be opened: nothing is served, or still the day before, and neither is a success."""
    shop = Shop(tmp_path, ALONE)
    for day in DAYS[:released]:
        shop.land(f"dt={day}/a.jsonl", moved(day, "product 1", 1))
        rebuild_all(shop.engine())
    shop.land(f"dt={DAYS[1]}/a.jsonl", moved("new", "product 1", 1))
    broken = replace(shop, database=str(tmp_path / "not a URL"))
    with pytest.raises(FixInput, match="it is not a URL"):
        rebuild_all(broken.engine())
    assert len(list((shop.store / "releases").rglob("*.json"))) == released
