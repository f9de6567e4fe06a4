"""The shop at work in a folder of its own, and processes that rebuild it on command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engine.compacting import sealed_and_proven
from tests.engine.damage import SMALL, three_days, what_readers_see
from tests.engine.sealing import STOCK_ONLY
from tests.support import Shop

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Stock alone, with nothing landed and nothing sealed."""
    return Shop(tmp_path, STOCK_ONLY)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A few weeks of the sample, proven at every snapshot; not to be changed."""
    return sealed_and_proven(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Three days of a small shop, of which two are served; the third is sealed, built and proven."""
    return three_days(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def served(sound: Shop, tmp_path: Path) -> Iterator[Shop]:
    """A copy of it to damage, whose readers must see the same at the end, unless something was released."""
    shutil.copytree(sound.root, tmp_path / "shop")
    shop = Shop(tmp_path / "shop", SMALL)
    before = what_readers_see(shop)
    yield shop
    if len(list((shop.store / "releases").iterdir())) == 1:
        assert what_readers_see(shop) == before


class Worker:
    """A process that rebuilds on command; see `tests.engine.worker`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.engine.worker"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, *orders: Mapping[str, Any]) -> None:
        """Have orders carried out, all at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(orders) + "\n")
        self.process.stdin.flush()

    def hear(self) -> list[dict[str, Any]]:
        """Wait for the results of what was told first."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, "the process ended; what it said is above"
        return json.loads(text)

    def ask(self, *orders: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Tell and hear."""
        self.tell(*orders)
        return self.hear()


@pytest.fixture(scope="module")
def start_worker() -> Iterator[Callable[..., Worker]]:
    """Starts processes with an environment of their own; they end with the module."""
    started: list[Worker] = []

    def start(**environment: str) -> Worker:
        started.append(Worker(environment))
        return started[-1]

    yield start
    for worker in started:
        worker.process.communicate()
        assert worker.process.returncode == 0
