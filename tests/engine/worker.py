"""A process that rebuilds a landing on command, in children that are killed at a chosen moment. Not a test.

Orders come as lines of JSON, answers go back the same way. Importing everything takes seconds, so it is done once,
and each order runs in a fork, made while there is no other thread.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pyarrow as pa

from assets import PROJECT
from refold import Daily
from refold.engine import Engine
from refold.errors import RefoldError
from refold.project import Project
from refold.rebuild import rebuild_all
from refold.stores.declaration import LedgerOf, Store
from refold.stores.folding import fold_events
from refold.stores.kinds.relation import Relation
from refold.stores.state import State
from tests.support import Shop, digests


def _without_expectations(project: Project) -> Project:
    """The same stores, not validated, since Great Expectations takes longer to start than all the rest."""
    mapped: dict[str, Store] = {}

    def source(each: Store | LedgerOf) -> Store | LedgerOf:
        return mapped[each.store.name].ledger if isinstance(each, LedgerOf) else mapped[each.name]

    for store in project.in_order:
        mapped[store.name] = replace(store, expect=())
        if isinstance(store, Relation):
            mapped[store.name] = replace(store, expect=(), reads=tuple(map(source, store.reads)))
    return replace(project, stores=list(mapped.values()))


SHOP = _without_expectations(PROJECT.with_cadence(Daily(dt.date(2026, 2, 1))))
"""What is rebuilt: all stores of this project, over the hostile shop's days."""


def main() -> None:
    """Serve orders until standard input ends: `[order, …]` runs all of them at once, and answers with all results."""
    _warm_up()
    for text in sys.stdin:
        orders = json.loads(text)
        gate_read, gate_write = os.pipe()
        children = [_fork(order, gate_read, gate_write) for order in orders]
        os.close(gate_read)
        os.close(gate_write)  # now all children start at once
        sys.stdout.write(json.dumps([_result(*child) for child in children]) + "\n")
        sys.stdout.flush()


def _warm_up() -> None:
    """Load compiled code, so that not every child does it again."""
    for store in SHOP.folded:
        row = {"product_id": "a", "quantity": 1, "event_type": "add", "op": "c", "log_seq": 0, "log_offset": 0}
        fields = [*store.log.schema, pa.field("log_partition", pa.int64())]
        schema = pa.schema([field.with_nullable(True) for field in fields])
        event = pa.Table.from_pylist([row | {"log_partition": 0}], schema=schema)
        fold_events(State(store), event, np.zeros(1, dtype=np.uint8))


def _fork(order: dict[str, Any], gate_read: int, gate_write: int) -> tuple[int, int]:
    result_read, result_write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(result_write)
        return pid, result_read
    os.close(gate_write)
    os.read(gate_read, 1)
    try:
        found = _work(order)
    except RefoldError as error:
        found = {"error": error.kind, "message": str(error)}
    os.write(result_write, json.dumps(found).encode())
    os._exit(0)


def _result(pid: int, pipe: int) -> dict[str, Any]:
    with os.fdopen(pipe, "rb") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text) if text else {"killed": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None}


def _work(order: dict[str, Any]) -> dict[str, Any]:
    if "threads" in order:
        pa.set_cpu_count(order["threads"])
        pa.set_io_thread_count(order["threads"])
    if "shuffle" in order:
        _shuffle_listings(random.Random(order["shuffle"]))
    shop = Shop(Path(order["root"]), SHOP, Path(order["landing"]))
    if "kill_after_seconds" in order:
        # Nobody handles this signal, so it ends the process on the spot, in the middle of anything, like SIGKILL.
        signal.setitimer(signal.ITIMER_REAL, order["kill_after_seconds"])
    _WAYS[order.get("way", "at once")](shop, order["through"])
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"digests": digests(shop.engine())}


def _shuffle_listings(shuffler: random.Random) -> None:
    listing = obstore.list

    def shuffled(*arguments: Any) -> list[list[Any]]:
        found = [meta for batch in listing(*arguments) for meta in batch]
        shuffler.shuffle(found)
        return [found]

    obstore.list = shuffled


def _at_once(shop: Shop, through: str) -> None:
    rebuild_all(shop.engine(), through)


def _in_steps(shop: Shop, through: str, days: int) -> None:
    """Seal, build and prove some days at a time, each by an engine that knows nothing but what is stored."""
    keys = shop.project.cadence.keys(through)
    for start in range(0, len(keys), days):
        _step(shop.engine(), keys[start : start + days])


def _step(engine: Engine, keys: list[str]) -> None:
    for _ in engine.sealing.seal(keys[-1]):
        pass
    for key in keys:
        for store in engine.project.in_order:
            engine.builder.build(store, engine.chain.get(key))
            assert engine.prover.prove(store, engine.chain.get(key)).passed


_WAYS: dict[str, Callable[[Shop, str], None]] = {
    "at once": _at_once,
    "day by day": lambda shop, through: _in_steps(shop, through, 1),
    "in ranges": lambda shop, through: _in_steps(shop, through, 4),
}


if __name__ == "__main__":
    main()
