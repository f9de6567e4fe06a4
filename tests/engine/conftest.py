"""Processes that rebuild a shop on command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


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
