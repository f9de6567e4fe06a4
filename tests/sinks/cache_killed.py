"""Kills processes between any two requests that a cache's writes send to its server, and looks at what is left.

Not a test. A process of its own, without threads, forks for each kill: `python -m tests.sinks.cache_killed URL`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import redis
from redis.connection import AbstractConnection

from refold import Cache, CachedRows
from refold.errors import NotFound
from refold.sinks.cache import CacheTarget
from refold.sinks.cache_server import CacheServer
from refold.testing.sink_contents import levels
from tests.failpoints.forks import fork

CACHES = ("levels", "others")
ROWS = 200
OLD, NEW = (levels(version, number, count=ROWS, ordinal=number) for number, version in enumerate(("v1", "v2"), 1))


def targets(url: str) -> list[CacheTarget]:
    return [CacheTarget(Cache(name), CacheServer(url), OLD.columns, _unfenced) for name in CACHES]


def _unfenced(_: str) -> Any:
    return nullcontext(None)


def release(url: str, version: str) -> None:
    lineage = {"release": version[1:]}
    Cache("levels").release_together([(target, version, lineage) for target in targets(url)])


def publish(url: str) -> None:
    for target in targets(url):
        target.publish(NEW)


def drop(url: str) -> None:
    for target in targets(url):
        target.drop("v1")


def withdraw(url: str) -> None:
    for target in targets(url):
        target.withdraw()


STAGES: Mapping[str, tuple[list[Callable[[str], None]], Callable[[str], None], set[str]]] = {
    "publish": ([], publish, {"v1"}),
    "release": ([publish], lambda url: release(url, "v2"), {"v1", "v2"}),
    "drop": ([publish, lambda url: release(url, "v2")], drop, {"v2"}),
    "withdraw": ([], withdraw, {"v1", "cold"}),
}
"""What is done before, what is killed, and which versions readers may find from then on."""


def prepare(url: str, before: list[Callable[[str], None]]) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushall()
    for target in targets(url):
        target.publish(OLD)
    release(url, "v1")
    for work in before:
        work(url)


def count_requests(die_before: int | None) -> list[int]:
    """Count what is sent from now on in this process, which dies instead of sending one of a number."""
    sent, send = [0], AbstractConnection.send_packed_command

    def counting(self: Any, command: Any, check_health: bool = True) -> Any:
        if sent[0] == die_before:
            os.kill(os.getpid(), signal.SIGKILL)
        sent[0] += 1
        return send(self, command, check_health)

    AbstractConnection.send_packed_command = counting
    return sent


def seen(url: str) -> list[str]:
    """The version that readers of each cache find: that of its first and last rows, and of all of them."""
    found = []
    for target in targets(url):
        try:
            rows = target.read().to_pylist()
            versions = [content.version for content in (OLD, NEW) if _plain(content.rows.to_pylist()) == _plain(rows)]
            row = CachedRows(url, target.sink.cache).get(rows[0]["product_id"])
            assert row is not None and row["level"] in [each["level"] for each in rows]
            found += versions or ["a mix"]
        except NotFound:
            found.append("cold")
    return found


def _plain(rows: list[Mapping[str, Any]]) -> list[list[Any]]:
    return sorted([row["product_id"], row["level"]] for row in rows)


def held(url: str) -> dict[str, Any]:
    """All that the server has, without what a killed process was building, which expires."""
    with redis.Redis.from_url(url) as client:
        keys = sorted(key for key in client.scan_iter() if b":b:" not in key)
        building = [client.ttl(key) for key in client.scan_iter() if b":b:" in key]
        found = {
            key.decode(): len(client.hgetall(key)) if client.type(key) == b"hash" else client.get(key).decode()
            for key in keys
        }
    return {"keys": found, "forever": sum(ttl < 0 for ttl in building)}


def kill_each(url: str, stage: str) -> dict[str, Any]:
    """Every kill of a stage, and what was wrong after it."""
    before, work, allowed = STAGES[stage]

    def undisturbed(_: int) -> dict[str, Any]:
        prepare(url, before)
        sent = count_requests(None)
        work(url)
        return {"sent": sent[0], "held": held(url)}

    expected, faults = fork(undisturbed).result(), []
    assert "sent" in expected, expected
    for place in range(expected["sent"]):

        def die(_: int, place: int = place) -> None:
            prepare(url, before)
            count_requests(place)
            work(url)

        died = fork(die).result()
        after = fork(lambda _: {"seen": seen(url), "held": held(url)}).result()

        def again(_: int) -> dict[str, Any]:
            work(url)
            return {"seen": seen(url), "held": held(url)}

        then = fork(again).result()
        faults += [f"{place}: {died}"] if died.get("signal") != signal.SIGKILL else []
        faults += [f"{place}: readers found {after}"] if not set(after.get("seen", ["?"])) <= allowed else []
        faults += [f"{place}: a mix: {after}"] if stage == "release" and len(set(after.get("seen", []))) != 1 else []
        faults += [f"{place}: left for ever: {after}"] if after.get("held", {}).get("forever") else []
        faults += (
            [f"{place}: the next run: {then}"] if then.get("held", {}).get("keys") != expected["held"]["keys"] else []
        )
    return {"kills": expected["sent"], "faults": faults}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({stage: kill_each(sys.argv[1], stage) for stage in STAGES}))
