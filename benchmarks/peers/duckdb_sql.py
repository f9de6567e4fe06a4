"""DuckDB alone, exact: first deliveries by `arg_min`, then one ordered list a key, folded by `list_reduce`.

A running sum cannot say it, because what is rejected changes what follows.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from benchmarks.answer import Levels
from benchmarks.program import Program

# The accumulator carries level and rejections in one number: the level above 2^32, the count of rejections below.
_SQL = """
    WITH first AS (
        SELECT
            min(log_seq) AS seq,
            arg_min(product_id, log_seq) AS key,
            arg_min(CASE WHEN event_type = 'remove' THEN -quantity ELSE quantity END, log_seq) AS change
        FROM read_parquet('{files}')
        GROUP BY event_id
    ),
    folded AS (
        SELECT
            key,
            count(*) AS events,
            list_reduce(
                [0::HUGEINT] || list(change::HUGEINT ORDER BY seq),
                lambda found, change: CASE
                    WHEN (found >> 32) + change < 0 THEN found + 1
                    ELSE found + (change * 4294967296) END
            ) AS found
        FROM first
        GROUP BY key
    )
    SELECT key, (found >> 32)::BIGINT AS level, (found & 4294967295::HUGEINT)::BIGINT AS rejected, events FROM folded
"""


def start(data: Path) -> duckdb.DuckDBPyConnection:
    """Open a database in memory."""
    return duckdb.connect()


def work(data: Path, started: duckdb.DuckDBPyConnection) -> Levels:
    """One query."""
    files = f"{data}/*/*.parquet"
    (events,) = started.sql(f"SELECT count(*) FROM read_parquet('{files}')").fetchall()[0]
    found = started.sql(_SQL.format(files=files)).to_arrow_table()
    rejected, first = (sum(found[name].to_pylist()) for name in ("rejected", "events"))
    return Levels(found["key"].to_pylist(), found["level"].to_pylist(), first - rejected, rejected, events - first)


PROGRAM = Program(work, start)
