"""The real Dagster, with its daemon: a backfill launched through the UI's own API, and the pages that people see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.dagster.browser import CHROMIUM, Served

pytestmark = pytest.mark.ui

VERSIONS = {
    "stock": 3,
    "product_catalog": 3,
    "daily_movement": 3,
    "monthly_revenue": 1,  # nothing that was sold had a price
    "product_search": 3,
    "sell_through": 3,
    "stock_outs": 3,
}

NODE = """
query($key: AssetKeyInput!, $keys: [String!]) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      staleStatusByPartition(partitions: $keys)
      dataVersionByPartition(partitions: $keys)
      partitionStats { numMaterialized numFailed }
    }
  }
}
"""
CHECKS = """
query($key: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $key, checkName: $check, limit: 20) { status partition evaluation { description } }
}
"""


@pytest.fixture(scope="module")
def backfill(served: Served) -> Iterator[dict[str, Any]]:
    """The backfill when it is over; the server, which is begun before its time, ends with this module."""
    yield served.finished()
    served.stop()


def checks(served: Served, path: list[str], name: str) -> dict[str, str]:
    """The status of a check by partition."""
    found = served.ask(CHECKS, key={"path": path}, check=name)["assetCheckExecutions"]
    return {execution["partition"]: execution["status"] for execution in found}


def test_a_backfill_of_a_range_completes_with_one_run_a_day(served: Served, backfill: dict[str, Any]):
    assert backfill["status"] == "COMPLETED_SUCCESS", served.log()
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in backfill["runs"]]
    assert sorted(run["dagster/partition"] for run in tags) == served.days
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS"}


@pytest.mark.parametrize("store", VERSIONS)
def test_each_partition_shows_its_own_version_and_check_and_is_fresh(
    served: Served, backfill: dict[str, Any], store: str
):
    path = ["state", store]
    node = served.ask(NODE, key={"path": path}, keys=served.days)["assetNodeOrError"]
    assert node["staleStatusByPartition"] == ["FRESH"] * 3
    assert node["partitionStats"] == {"numMaterialized": 3, "numFailed": 0}
    assert len(set(node["dataVersionByPartition"])) == VERSIONS[store]
    assert checks(served, path, "full_replay") == dict.fromkeys(served.days, "SUCCEEDED")


@pytest.mark.parametrize("log", ["stock_events", "product_changes"])
def test_each_partition_of_a_log_shows_its_structure_checked(served: Served, backfill: dict[str, Any], log: str):
    path = ["log", log]
    assert checks(served, path, "structure") == dict.fromkeys(served.days, "SUCCEEDED")
    node = served.ask(NODE, key={"path": path}, keys=served.days)["assetNodeOrError"]
    assert len(set(node["dataVersionByPartition"])) == 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
class TestThePages:
    def test_the_lineage_of_the_states_names_them(self, served: Served, backfill: dict[str, Any]):
        shown = [f">{name}<" for name in ("stock", "daily_movement", "stock_events", "DuckDB")]
        page = served.page("locations/refold_shop/asset-groups/states/lineage", *shown)
        assert [text for text in shown if text not in page] == []

    def test_a_state_tells_what_it_is_and_what_became_of_its_events(self, served: Served, backfill: dict[str, Any]):
        shown = (
            "Units on hand of one product. A removal that would go below zero is rejected.",
            "events rejected so far",
            "ledger digest",
            "place in the order of the whole log, from 0.",
            "inventory",
        )
        page = served.page("assets/state/stock?view=overview", *shown)
        assert [text for text in shown if text not in page] == []

    def test_a_check_tells_what_it_promises_and_found(self, served: Served, backfill: dict[str, Any]):
        shown = ("full_replay", "uses no checkpoint and finds duplicates", "events replayed", "blocking", "Passed")
        page = served.page("assets/state/stock?view=checks", *shown)
        assert [text for text in shown if text not in page] == []
