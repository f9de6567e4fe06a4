"""PARSE: pyarrow's parse of the same gzip JSON Lines into a table, one file a task; nothing is checked or kept."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj

from benchmarks.program import Program

_SCHEMA = pa.schema(
    {
        "event_id": pa.string(),
        "product_id": pa.string(),
        "quantity": pa.int64(),
        "event_type": pa.string(),
        "occurred_at": pa.timestamp("us", "UTC"),
        "country": pa.string(),
        "invoice_no": pa.string(),
        "unit_price": pa.string(),
        "customer_id": pa.string(),
    }
)


def _parse(path: Path) -> int:
    options = pj.ReadOptions(use_threads=False, block_size=8 << 20)
    return len(pj.read_json(path, options, pj.ParseOptions(explicit_schema=_SCHEMA)))


def work(data: Path, started: None) -> int:
    """Parse every file."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(_parse, sorted(data.glob("landing/*/*/*.jsonl.gz"))))


PROGRAM = Program(work, answer=lambda found: None)
