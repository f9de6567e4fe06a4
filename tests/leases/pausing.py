"""Two real processes, one of which is stopped past its lease, again and again. Not a test.

`test_paused` runs a few rounds, and `python -m tests.leases --rounds 200` many.
"""

from __future__ import annotations

import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from refold.release.pointer import Pointer
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import ObjectStore
from refold.storage.records import read_record
from tests.leases.worker import LEASE_SECONDS, LEFT, RIGHT

ROOT = Path(__file__).parents[2]
WRITES = 3


class Paused:
    """A process that can be stopped."""

    def __init__(self, name: str, store: str, database: str, register: str, environ: Mapping[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.leases.worker", store, database, register, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environ},
        )  # fmt: skip
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.hears()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def hears(self, seconds: float = 60) -> dict[str, Any]:
        return self._said.get(timeout=seconds)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Told:
    """What became of the rounds."""

    rounds: int = 0
    writes_of_losers: int = 0
    seconds: float = 0.0


@contextmanager
def workers(store: str, database: str, register: str, environ: Mapping[str, str]) -> Iterator[list[Paused]]:
    """Two processes, and the two tables that they write to."""
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg2://", 1))
    with engine.begin() as connection:
        for table in (LEFT, RIGHT):
            table.create(connection)
            connection.execute(sa.insert(table).values(token=0, number=0))
    engine.dispose()
    found: list[Paused] = []
    try:
        for name in ("first", "second"):
            found.append(Paused(name, store, database, register, environ))
        yield found
    finally:
        for each in found:
            each.end()


def pause_past_the_lease(
    objects: ObjectStore, store: str, database: str, register: str, environ: Mapping[str, str], rounds: int
) -> Told:
    """Stop the holder somewhere in its writes, let the other one take over, go on, and check; by turns."""
    told, began = Told(), time.monotonic()
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg2://", 1))
    with workers(store, database, register, environ) as found:
        for number in range(rounds):
            loser, winner = found if number % 2 == 0 else found[::-1]
            _round(random.Random(number), loser, winner, told)
            _check(objects, engine, winner.name)
    engine.dispose()
    told.rounds, told.seconds = rounds, time.monotonic() - began
    return told


def _round(random_: random.Random, loser: Paused, winner: Paused, told: Told) -> None:
    loser.tell("work")
    token = loser.hears()["held"]
    time.sleep(random_.uniform(0, 0.3))
    loser.stop()
    winner.tell(f"work {WRITES}")
    taken = winner.hears()["held"]
    assert taken == token + 1, "the lease has one holder after the other"
    done = None
    with suppress(queue.Empty):  # it waits where the loser was stopped within a transaction
        done = winner.hears(LEASE_SECONDS * 5)
    loser.go_on()
    fenced = loser.hears()
    assert (done or winner.hears()) == {"done": WRITES}, "the winner writes all it has"
    assert re.search(f"{winner.name} (holds|held) it with token {taken}", fenced["fenced"]), fenced
    told.writes_of_losers += fenced["writes"]


def _check(objects: ObjectStore, engine: sa.Engine, winner: str) -> None:
    """No number is missing or torn, tokens only rise, and both tables show the last number of the winner."""
    numbers = Pointer(objects).numbers()
    assert numbers == list(range(1, len(numbers) + 1))
    bodies = [read_record(objects, name_of(ObjectKind.RELEASE, number=n)) for n in numbers[-4 * WRITES :]]
    tokens = [body["token"] for body in bodies if body]
    assert tokens == sorted(tokens) and len(tokens) == len(bodies)
    assert bodies[-1] is not None and bodies[-1]["by"] == winner
    with engine.connect() as connection:
        left, right = (tuple(connection.execute(sa.select(table)).one()) for table in (LEFT, RIGHT))
    assert left == right == (bodies[-1]["token"], numbers[-1])
