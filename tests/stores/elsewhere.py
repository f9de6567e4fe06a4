"""A fold engine that runs each task in a new process, which is given its JSON and nothing else.

The process opens the store, imports the declarations, reads the states that the task names, and writes what it came to
to a folder of its own: rows by their state's digest, since replay stores none, and the changed rows and outcomes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.product_catalog import product_catalog
from assets.stock import stock
from refold.errors import NotDeterministic
from refold.log.reader import LogReader
from refold.log.snapshot import SnapshotChain
from refold.project import Project
from refold.storage.objects import ObjectStore
from refold.stores.checkpoint import Checkpoints
from refold.stores.declaration import Folded
from refold.stores.fold_engine import FoldTask, LocalEngine, states_of
from refold.stores.folding import FoldedPart
from refold.stores.ledger import LedgerPart
from refold.stores.state import State
from tests.stores.highest import PROJECT as HIGHEST
from tests.stores.highest import largest

PROJECT = Project("elsewhere", HIGHEST.cadence, [stock, product_catalog, largest])
ROOT = Path(__file__).parents[2]


class Elsewhere:
    """Runs tasks over the store at a place; `ran` are the tasks as they were sent."""

    def __init__(self, store: Path, folder: Path) -> None:
        self._places = {"store": str(store), "folder": str(folder)}
        self._folder = folder
        self.ran: list[dict[str, Any]] = []

    def fold(self, task: FoldTask, states: Sequence[State]) -> list[FoldedPart]:
        sent = {**self._places, "task": task.to_json()}
        done = subprocess.run(
            [sys.executable, "-m", "tests.stores.elsewhere"],
            input=json.dumps(sent),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.ran.append(sent["task"])
        found = json.loads(done.stdout)
        return [self._taken(state, each) for state, each in zip(states, found, strict=True)]

    def _taken(self, state: State, found: dict[str, Any]) -> FoldedPart:
        rows = pq.read_table(self._folder / found["rows"])
        state.put(state.locate(rows), rows)
        assert state.digest() == found["digest"]
        ledger = LedgerPart.from_table(pq.read_table(self._folder / found["ledger"]))
        return FoldedPart(ledger, [NotDeterministic(text) for text in found["unstable"]], found["taken"])


def run(sent: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one task; where the results are, by store."""
    task, folder = FoldTask.from_json(sent["task"]), Path(sent["folder"])
    objects = ObjectStore.open(sent["store"])
    reader = LogReader(objects, SnapshotChain(objects), PROJECT.log(task.log))

    def kept(store: Folded, digest: str) -> State:
        return State(store, pq.read_table(folder / f"{store.name}-{digest}.parquet"))

    folded = {store.name: store for store in PROJECT.folded}
    states = states_of(task, folded.__getitem__, Checkpoints(objects), kept)
    for state in states:
        state.begin_changes()
    parts = LocalEngine(reader).fold(task, states)
    return [_written(folder, state, part) for state, part in zip(states, parts, strict=True)]


def _written(folder: Path, state: State, part: FoldedPart) -> dict[str, Any]:
    digest, name = state.digest(), state.store.name
    pq.write_table(state.table, folder / f"{name}-{digest}.parquet")
    pq.write_table(state.changed(), folder / f"{name}-{digest}-changed.parquet")
    pq.write_table(_ledger(part.ledger), folder / f"{name}-{digest}-ledger.parquet")
    files = {what: f"{name}-{digest}-{what}.parquet" for what in ("changed", "ledger")}
    found = {"digest": digest, "rows": files["changed"], "ledger": files["ledger"]}
    return {**found, "unstable": [str(each) for each in part.unstable], "taken": part.taken}


def _ledger(part: LedgerPart) -> pa.Table:
    return part.to_table() if len(part.outcomes) else LedgerPart(*np.zeros((2, 0), dtype=np.uint8)).to_table()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(json.load(sys.stdin))))
