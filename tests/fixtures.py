"""Shops that tests of several rooms start from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.log.compacting import sealed_and_proven
from tests.seal.sealing import STOCK_ONLY
from tests.support import Shop
from tests.three_days import SMALL, three_days, what_readers_see


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
