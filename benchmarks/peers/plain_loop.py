"""The plain loop that one writes first: a dataclass an event, a set of ids, a dictionary of levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.answer import Levels
from benchmarks.peers.read import log_files, read_file
from benchmarks.program import Program


@dataclass(slots=True)
class Event:
    """One movement."""

    event_id: str
    product_id: str
    quantity: int
    event_type: str


def events(data: Path) -> Iterator[Event]:
    """All events, by log partition and offset."""
    for path in log_files(data):
        for batch in read_file(path).to_batches(max_chunksize=50_000):
            yield from map(Event, *(column.to_pylist() for column in batch.columns))


def work(data: Path, started: None) -> Levels:
    """Fold in one loop."""
    levels: dict[str, int] = {}
    seen: set[str] = set()
    applied = rejected = duplicate = 0
    for event in events(data):
        if event.event_id in seen:
            duplicate += 1
            continue
        seen.add(event.event_id)
        level = levels.setdefault(event.product_id, 0)
        if event.event_type == "add":
            levels[event.product_id] = level + event.quantity
        elif event.quantity <= level:
            levels[event.product_id] = level - event.quantity
        else:
            rejected += 1
            continue
        applied += 1
    return Levels(levels.keys(), levels.values(), applied, rejected, duplicate)


PROGRAM = Program(work)
