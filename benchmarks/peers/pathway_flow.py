"""Pathway in batch mode: the events of each product as one sorted tuple, folded by a Python function.

Deduplicates within a key, which suffices where a re-delivery has the key of the first.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pathway as pw

from benchmarks.answer import Levels
from benchmarks.peers.read import log_files, read_file
from benchmarks.program import Program


class _Events(pw.Schema):
    seq: int
    event_id: str
    product_id: str
    quantity: int
    event_type: str


def _fold(moves: tuple[tuple[int, str, int, str], ...]) -> tuple[int, int, int, int]:
    """(level, applied, rejected, duplicate) of one key, from its events in order."""
    level = applied = rejected = 0
    seen: set[str] = set()
    for _, event_id, quantity, kind in moves:
        if event_id in seen:
            continue
        seen.add(event_id)
        after = level + (quantity if kind == "add" else -quantity)
        if after < 0:
            rejected += 1
        else:
            level = after
            applied += 1
    return level, applied, rejected, len(moves) - len(seen)


def start(data: Path) -> None:
    """Silence its progress messages."""
    logging.disable(logging.WARNING)


def work(data: Path, started: None) -> Levels:
    """Build the table from rows, group it, fold each key, run to the end."""
    rows: list[tuple[Any, ...]] = []
    for path in log_files(data):
        table = read_file(path)
        seqs = range(len(rows), len(rows) + len(table))
        rows += zip(seqs, *(column.to_pylist() for column in table.columns), strict=True)
    events = pw.debug.table_from_rows(_Events, rows)
    move = pw.make_tuple(pw.this.seq, pw.this.event_id, pw.this.quantity, pw.this.event_type)
    moves = events.groupby(pw.this.product_id).reduce(pw.this.product_id, moves=pw.reducers.sorted_tuple(move))
    _, columns = pw.debug.table_to_dicts(moves.select(pw.this.product_id, found=pw.apply(_fold, pw.this.moves)))
    found = [columns["found"][key] for key in columns["product_id"]]
    counts = (sum(each[place] for each in found) for place in (1, 2, 3))
    return Levels(columns["product_id"].values(), [each[0] for each in found], *counts)


PROGRAM = Program(work, start)
