"""Bytewax: a dataflow keyed by log partition, whose events travel in Arrow batches and are folded by a Python loop.

Keyed by product with one item an event it took ten times as long. Deduplicates within a log partition, which suffices
where a re-delivery has the key of the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.answer import Levels
from benchmarks.peers.read import log_files, read_file
from benchmarks.program import Program


@dataclass
class Folded:
    """The state of one log partition."""

    levels: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    applied: int = 0
    rejected: int = 0
    duplicate: int = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Fold a batch."""
        levels, seen = self.levels, self.seen
        for event_id, key, quantity, kind in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if event_id in seen:
                self.duplicate += 1
                continue
            seen.add(event_id)
            level = levels.setdefault(key, 0) + (quantity if kind == "add" else -quantity)
            if level < 0:
                self.rejected += 1
                continue
            levels[key] = level
            self.applied += 1


class _Batches(StatefulSourcePartition):  # type: ignore[type-arg]
    def __init__(self, partition: str, paths: list[Path]) -> None:
        self._partition = partition
        self._batches = (batch for path in paths for batch in read_file(path).to_batches(max_chunksize=50_000))

    def next_batch(self) -> Iterable[tuple[str, pa.RecordBatch]]:
        batch = next(self._batches, None)
        if batch is None:
            raise StopIteration
        return [(self._partition, batch)]

    def snapshot(self) -> None:
        return None


class _Source(FixedPartitionedSource):  # type: ignore[type-arg]
    def __init__(self, data: Path) -> None:
        self._files: dict[str, list[Path]] = {}
        for path in log_files(data):
            self._files.setdefault(path.parent.name, []).append(path)

    def list_parts(self) -> list[str]:
        return list(self._files)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Batches:
        return _Batches(for_part, self._files[for_part])


class _Last(DynamicSink, StatelessSinkPartition):  # type: ignore[type-arg]
    """Keeps the last state of each log partition; one worker, so one of it."""

    def __init__(self) -> None:
        self.states: dict[str, Folded] = {}

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Last:
        return self

    def write_batch(self, items: list[tuple[str, Folded]]) -> None:
        self.states.update(items)


def _move(state: Folded | None, batch: pa.RecordBatch) -> tuple[Folded, Folded]:
    state = state or Folded()
    state.take(batch)
    return state, state


def work(data: Path, started: None) -> Levels:
    """Run the flow to its end, with one worker: more than one would share the interpreter's lock."""
    flow, last = Dataflow("stock"), _Last()
    op.output("last", op.stateful_map("fold", op.input("log", flow, _Source(data)), _move), last)
    run_main(flow)
    states = list(last.states.values())
    return Levels(
        [key for state in states for key in state.levels],
        [level for state in states for level in state.levels.values()],
        *(sum(getattr(state, name) for state in states) for name in ("applied", "rejected", "duplicate")),
    )


PROGRAM = Program(work)
