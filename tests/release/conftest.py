"""The little project, built once and copied for every test; its tables in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.postgres import postgres, postgres_url
from tests.release.little import Little, build

__all__ = ["postgres", "postgres_url"]


@pytest.fixture(scope="session")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days, sealed, folded and proven."""
    return build(tmp_path_factory.mktemp("little") / "root").root


@pytest.fixture(scope="session")
def published(proven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with all days published to all sinks, and nothing released."""
    root = tmp_path_factory.mktemp("published") / "root"
    shutil.copytree(proven, root)
    Little(root).publish(0, 1, 2, 3)
    return root


@pytest.fixture
def little(published: Path, tmp_path: Path) -> Little:
    """A copy with all days published, on SQLite."""
    shutil.copytree(published, tmp_path / "root")
    return Little(tmp_path / "root")


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, published: Path, tmp_path: Path) -> Little:
    """A copy with all days published, on each of the databases."""
    shutil.copytree(published, tmp_path / "root")
    if request.param == "sqlite":
        return Little(tmp_path / "root")
    little = Little(tmp_path / "root", database=request.getfixturevalue("postgres"))
    little.publish(0, 1, 2, 3)
    return little
