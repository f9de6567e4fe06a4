"""What the sink tests share: fresh places for every test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refold.sinks import Connections
from refold.storage.objects import ObjectStore
from tests.postgres import postgres, postgres_url
from tests.valkey import valkey, valkey_url

__all__ = ["postgres", "postgres_url", "valkey", "valkey_url"]


@pytest.fixture
def connections(tmp_path: Path) -> Connections:
    """A local store, an SQLite file in a folder that does not exist yet, and a search folder that does not either."""
    store = tmp_path / "store"
    return Connections(
        ObjectStore.open(str(store)),
        {
            "database": f"sqlite:///{tmp_path / 'database' / 'refold.db'}",
            "search": str(store / "search"),
        },
    )


@pytest.fixture(scope="session")
def naughty_strings() -> list[str]:
    """The Big List of Naughty Strings, distinct."""
    path = Path(__file__).parents[3] / "shared" / "data" / "naughty" / "blns.json"
    if not path.is_file():
        pytest.skip("the shared test data is not beside the repository")
    return sorted(set(json.loads(path.read_text())))
