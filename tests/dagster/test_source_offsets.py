"""The audit of source offsets as a check in Dagster: of logs whose names have offsets, with a picture, as a warning."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pytest

from refold import Daily, Names, Project, Sql, latest_by_key
from tests import shop
from tests.dagster.house import House
from tests.support import Shop

LOG = replace(shop.moves, layout=Names("{date}/{topic}+{partition}+{offset}"))
DAY = "2026-01-01"


@pytest.mark.parametrize("job", ["rebuild_snapshot", "rebuild_history"])
def test_a_gap_of_offsets_is_a_warning_with_a_picture(tmp_path: Path, job: str):
    columns = {"quantity": LOG.columns["quantity"]}
    store = latest_by_key(LOG, "quantities", version=1, columns=columns, sinks=[Sql("quantities")])
    house = House(Shop(tmp_path, Project("audit", Daily(dt.date(2026, 1, 1)), [store])))
    for offset in (0, 2, 6):
        events = [{"id": f"{offset}{n}", "product": "cup", "quantity": 1, "kind": "add"} for n in range(2)]
        path = house.shop.landing / "moves" / DAY / f"moves+0+{offset}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in events))
    result = house.run("rebuild_snapshot", DAY) if job == "rebuild_snapshot" else house.run(job)
    assert result.success
    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "source_offsets"]
    assert (found.passed, found.severity.value) == (False, "WARN")
    assert "Offsets 4 to 5 are in no object" in str(found.description)
    assert "0  0 ████··██ 7" in str(found.metadata["offsets by log partition"].value)
