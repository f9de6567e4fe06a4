"""A snapshot larger than memory is sealed in pieces, to the same bytes as where all of it fits into memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import PLACE
from refold.dedup.deliveries import SeenRun
from refold.engine import Engine
from refold.log.segment import content_digest
from refold.seal.new_events import NewEvents
from tests import shop
from tests.shop import DAYS, move
from tests.support import Shop


def test_memory_does_not_grow_with_the_snapshot(tmp_path: Path):
    """F1: 2M events of one snapshot took 1.6 GB with a limit of 128 MB: 700 bytes an event; half a million, 350 MB."""
    run = [sys.executable, "-m", "tests.attacks.large_day", str(tmp_path)]
    small, large = json.loads(subprocess.run(run, capture_output=True, check=True, timeout=400).stdout)
    assert large - small < 105


BY_PLACE = replace(shop.moves, event_id=PLACE, partitions=3)
ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 9), st.integers(0, 2)), max_size=30)


def table_of(rows: list[tuple[str, int, int]], name: str) -> pa.Table:
    columns = {
        "id": pa.array([f"{name}{units % 4}" for _, units, _ in rows], pa.string()),
        "product": pa.array([product for product, *_ in rows], pa.string()),
        "quantity": pa.array([units for _, units, _ in rows], pa.int64()),
        "kind": pa.array(["add"] * len(rows), pa.string()),
        "source_object": pa.array([name] * len(rows), pa.string()).dictionary_encode(),
        "source_line": pa.array(range(1, len(rows) + 1), pa.int64()),
    }
    return pa.table(columns)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(ROWS, max_size=5), st.integers(1, 7), st.sampled_from([0, 500, 1 << 30]), st.sampled_from([True, False])
)
def test_new_events_are_the_same_whatever_is_ordered_together_and_kept_in_memory(
    objects: list[list[tuple[str, int, int]]], together: int, memory_bytes: int, by_place: bool
):
    """Against places counted one by one."""
    log = BY_PLACE if by_place else replace(shop.moves, partitions=3)
    new = NewEvents(log, [5, 0, 7], 40, memory_bytes, together)
    expected: list[list[dict[str, object]]] = [[], [], []]
    for number, rows in enumerate(objects):
        table = table_of(rows, f"object {number}")
        new.add(table, np.array([partition for *_, partition in rows], dtype=np.int16))
        for row, (*_, partition) in zip(table.to_pylist(), rows, strict=True):
            place = {"log_offset": new.starts[partition] + len(expected[partition])}
            expected[partition].append({**row, **place, "log_seq": 40 + sum(map(len, expected))})
    found = [pa.concat_tables([log.schema.empty_table(), *new.tables(partition)]) for partition in range(3)]
    events = [pa.Table.from_pylist(rows, log.schema) for rows in expected]
    every = pa.concat_tables(events).sort_by("log_seq")
    assert [table.to_pylist() for table in found] == [table.to_pylist() for table in events]
    assert new.content == [content_digest(log, [table]) for table in events]
    assert new.ends == [start + len(rows) for start, rows in zip(new.starts, expected, strict=True)]
    run, whole = new.run(), SeenRun.of(log, every)
    assert [list(column) for column in (run.hashes, run.contents, run.seqs)] == [
        list(column) for column in (whole.hashes, whole.contents, whole.seqs)
    ]
    chosen = np.arange(len(new)) % 3 == 1
    assert new.at(run.seqs[chosen]).to_pylist() == every.filter(pa.array(chosen)).to_pylist()
    for partition in range(3):
        mine = [row for row in expected[partition] if chosen[row["log_seq"] - 40]]
        offsets, seqs = new.places_of(partition, chosen)
        assert list(zip(offsets.tolist(), seqs.tolist(), strict=True)) == [
            (row["log_offset"], row["log_seq"]) for row in mine
        ]


@pytest.mark.parametrize("memory_limit_mb", [0, 1])
def test_what_is_stored_does_not_depend_on_the_memory_limit(tmp_path: Path, memory_limit_mb: int):
    whole = Shop(tmp_path / "whole", shop.little({"on_hand": []}))
    for day in DAYS[:2]:
        for name in "ab":
            moves = [move(f"{name}{n % 900}", f"cup {n % 7}", 1 + n % 5) for n in range(1000)]
            whole.land(f"moves/dt={day}/{name}.jsonl.gz", *moves, "{bad")
    pieces = replace(whole, root=tmp_path / "pieces", landing_folder=whole.landing)
    list(whole.engine().sealing.seal())
    limited = replace(pieces.settings, memory_limit_mb=memory_limit_mb)
    list(Engine(pieces.project, limited, now=pieces.now).sealing.seal())
    assert pieces.files() == whole.files()
    assert len(pieces.files("snapshots")) == 2
