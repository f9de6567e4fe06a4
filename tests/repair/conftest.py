"""The store of the damage matrix and another one like it, each built once; and a copy to damage for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.postgres import postgres, postgres_url
from tests.repair.matrix import House, build

__all__ = ["postgres", "postgres_url"]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> House:
    """The store, never to be changed."""
    return build(tmp_path_factory.mktemp("whole") / "root")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Another store of the same project over other events; all its hashes are sound."""
    return build(tmp_path_factory.mktemp("foreign") / "root", shift=1)


@pytest.fixture
def house(whole: House, tmp_path: Path) -> House:
    """A copy to damage."""
    return whole.copy(tmp_path / "root")
