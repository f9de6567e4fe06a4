"""The server that kills, and a real PostgreSQL for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from tests.failpoints.shop import SQLITE
from tests.failpoints.sites import ROOT
from tests.postgres import postgres_url

__all__ = ["postgres_url"]

Killed = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def postgres(postgres_url: str) -> str:
    """The URL of a real PostgreSQL without a database, which each process names in its environment."""
    connection = psycopg2.connect(postgres_url)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("ALTER SYSTEM SET fsync = off")  # its clients are killed, not the server, and databases are copied
    cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    url = make_url(postgres_url)._replace(drivername="postgresql+psycopg2", database=None)
    return url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """Kills a stage at its writes, once for all tests that ask: what it wrote, where it was killed, what was found.

    With `power` the machine's power is cut there instead.
    """
    folder = tmp_path_factory.mktemp("failpoints")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.failpoints.server", str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    known: dict[tuple[str, str, bool], dict[str, Any]] = {}

    def kill(stage: str, url: str, *, power: bool = False) -> dict[str, Any]:
        asked = stage, url, power
        if asked not in known:
            order = {"stage": stage, "url": url, "near": url != SQLITE, "power": power}
            print(json.dumps(order), file=process.stdin, flush=True)
            text = process.stdout.readline()
            assert text, "the server ended; what it said is above"
            known[asked] = json.loads(text)
        assert "error" not in known[asked], known[asked]["error"]
        return known[asked]

    yield kill
    process.communicate()
    shutil.rmtree(folder, ignore_errors=True)
