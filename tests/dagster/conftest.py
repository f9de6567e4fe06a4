"""A house for each test of this room, and one real Dagster for those that look at its pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assets import PROJECT
from tests.dagster.browser import Served, serve
from tests.dagster.house import NOT_NEGATIVE, House, day, small_project
from tests.support import Shop, changed, moved


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker for tests with a real server."""
    config.addinivalue_line("markers", "ui: starts a real Dagster server, and a browser where there is one")


def land(shop: Shop, days: int = 3) -> Shop:
    """Days of this project's own cadence, each with a receipt, a refused sale and a change of the catalogue."""
    for n in range(1, days + 1):
        key = f"2010-12-{n:02}"
        shop.land(f"dt={key}/a.jsonl", moved(f"in{n}", "lamp", 5), moved(f"out{n}", "rug", -1))
        shop.land(f"product_changes/dt={key}/a.jsonl", changed(n, "u", "lamp", f"Lamp no. {n}", "9.50"))
    return shop


def land_five_days(shop: Shop) -> None:
    """Five days, the fourth without events; removals that are refused, one event delivered twice."""
    shop.land(f"dt={day(1)}/a.jsonl", moved("1", "lamp", 10), moved("2", "rug", -1))
    shop.land(f"dt={day(2)}/a.jsonl", moved("3", "lamp", -4), moved("1", "lamp", 10))
    shop.land(f"dt={day(3)}/a.jsonl", moved("4", "rug", 5), moved("5", "lamp", -7))
    shop.land(f"dt={day(5)}/a.jsonl", moved("6", "lamp", 1), moved("7", "rug", -5))


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Five days have landed; nothing is sealed."""
    house = House(Shop(tmp_path, small_project(expectations=[NOT_NEGATIVE])))
    land_five_days(house.shop)
    return house


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real `dagster dev` over five days of this project, which backfills three of them."""
    shop = land(Shop(tmp_path_factory.mktemp("served"), PROJECT), days=5)
    served = serve(shop, ["2010-12-02", "2010-12-03", "2010-12-04"])
    yield served
    served.stop()
