"""DuckDB finds the first delivery of every id, numba folds."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from benchmarks.answer import Levels
from benchmarks.peers.kernel import fold, warm_up
from benchmarks.peers.read import log_files
from benchmarks.program import Program


def start(data: Path) -> duckdb.DuckDBPyConnection:
    """Open a database in memory, and compile."""
    warm_up()
    return duckdb.connect()


def work(data: Path, started: duckdb.DuckDBPyConnection) -> Levels:
    """Deduplicate in SQL, read the rest in order, fold compiled."""
    log = f"read_parquet({[str(path) for path in log_files(data)]})"
    firsts = started.sql(f"SELECT min(log_seq) AS seq FROM {log} GROUP BY event_id").fetchnumpy()["seq"]
    columns = "product_id, quantity, event_type = 'remove' AS removes, log_seq"
    table = started.sql(f"SELECT {columns} FROM {log}").to_arrow_table()  # in the order of files and rows
    first = np.zeros(len(table), dtype=np.bool_)
    first[firsts] = True
    keys = table["product_id"].combine_chunks().dictionary_encode()
    return fold(
        keys.dictionary,
        keys.indices.to_numpy(),
        table["quantity"].to_numpy(),
        table["removes"].to_numpy(),
        first[table["log_seq"].to_numpy()],
    )


PROGRAM = Program(work, start)
