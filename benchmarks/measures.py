"""What is measured: which programs are run beside each other, over which data, and which of them is the measure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Subject:
    """One way of doing the work.

    Attributes:
        name: for the command line.
        title: for people.
        target: the program, for `benchmarks.child`.
        events_max: beyond so many events it takes too long; it is then run at that size, beside the same measure.
        prepares: whether the program prepares anything on disk.
        tree: whether its memory is that of several processes, so that they are watched from outside.
        note: what must be known to read its row.
    """

    name: str
    title: str
    target: str
    events_max: int | None = None
    prepares: bool = False
    tree: bool = False
    note: str = ""


@dataclass(frozen=True)
class Measure:
    """Subjects that are run in turns over the same data.

    `data` is the kind of data: `log` (Parquet), `wide` (Parquet, a key an event), `landing` (gzip JSON Lines), or
    `none`. The first subject is the baseline that the others are divided by, unless `baseline` is False.
    """

    name: str
    title: str
    data: str
    subjects: list[Subject] = field(default_factory=list)
    baseline: bool = True


READ = Subject("read", "READ: merely reading the columns (pyarrow)", "benchmarks.peers.read")


def _ours(name: str, title: str, program: str, note: str = "") -> Subject:
    return Subject(name, f"Refold: {title}", f"benchmarks.ours:{program}", prepares=True, note=note)


def _loader(name: str, title: str, program: str) -> Subject:
    return Subject(name, title, f"benchmarks.peers.bulk_load:{program}", prepares=True)


_REBUILD = _ours("rebuild", "rebuild", "REBUILD", "from one snapshot")
_VERIFY = _ours("verify", "verification from the ids", "VERIFY", "of one snapshot")
_PUBLISHED = "state read and checked, rows loaded and read back"
_BOUNDED = "a snapshot for each million events; `memory_limit_mb` is 256"
_WITHIN = "deduplicates within a log partition"
_PEERS = [
    Subject("polars", "Polars + compiled fold", "benchmarks.peers.polars_fold"),
    Subject("duckdb", "DuckDB + compiled fold", "benchmarks.peers.duckdb_fold"),
    Subject("duckdb-sql", "DuckDB, SQL alone", "benchmarks.peers.duckdb_sql"),
    Subject("spark", "PySpark + compiled fold", "benchmarks.peers.spark", tree=True, note=f"local[2]; {_WITHIN}"),
    Subject("bytewax", "Bytewax", "benchmarks.peers.bytewax_flow", 1_000_000, note=_WITHIN),
    Subject("pathway", "Pathway", "benchmarks.peers.pathway_flow", 100_000, note="deduplicates within a key"),
    Subject("eventsourcing", "eventsourcing", "benchmarks.peers.event_sourcing", 100_000, note="nothing is saved"),
    Subject("loop", "Plain loop over dataclasses", "benchmarks.peers.plain_loop"),
]

MEASURES = [
    Measure("compare", "The whole fold, beside other tools", "log", [READ, _REBUILD, _VERIFY, *_PEERS]),
    Measure(
        "rebuild",
        "Rebuild",
        "log",
        [READ, _REBUILD, _ours("rebuild-100", "rebuild of 100 snapshots", "REBUILD_100", "a state at each of them")],
    ),
    Measure(
        "verify",
        "Verification with exact deduplication",
        "log",
        [READ, _VERIFY, _ours("verify-100", "verification of 100 snapshots", "VERIFY_100", "at each of them")],
    ),
    Measure(
        "out-of-core",
        "Out of core",
        "log",
        [
            READ,
            _ours("rebuild-256", "rebuild", "REBUILD_OUT_OF_CORE", _BOUNDED),
            _ours("verify-256", "verification from the ids", "VERIFY_OUT_OF_CORE", _BOUNDED),
            _ours("first-256", "first verification, which compares contents", "FIRST_OUT_OF_CORE", _BOUNDED),
        ],
    ),
    Measure(
        "incremental",
        "A hundredth more, at most 100,000 events: sealed, folded and digested",
        "log",
        [
            _ours("incremental", "landing is Parquet", "INCREMENTAL"),
            _ours("incremental-json", "landing is JSON Lines", "INCREMENTAL_JSON"),
        ],
        baseline=False,
    ),
    Measure(
        "seal",
        "Sealing gzip JSON Lines",
        "landing",
        [
            Subject("parse", "PARSE: pyarrow's parse into a table", "benchmarks.peers.arrow_json"),
            _ours("seal", "sealed segments", "SEAL"),
        ],
    ),
    Measure(
        "publish-sqlite",
        "Publishing to SQLite",
        "wide",
        [
            _loader("executemany", "`executemany` in one transaction", "SQLITE"),
            _ours("load", "the load alone", "LOAD_SQLITE"),
            _ours("publish", "publish", "PUBLISH_SQLITE", _PUBLISHED),
        ],
    ),
    Measure(
        "publish-postgres",
        "Publishing to PostgreSQL",
        "wide",
        [
            _loader("copy", "COPY of text", "COPY"),
            _loader("adbc", "ADBC", "ADBC"),
            _ours("load", "the load alone", "LOAD_POSTGRES"),
            _ours("publish", "publish", "PUBLISH_POSTGRES", _PUBLISHED),
        ],
    ),
    Measure(
        "startup",
        "Start-up, whole processes",
        "none",
        [
            Subject("help", "`refold --help`", "benchmarks.ours:HELP"),
            Subject("definitions", "Loading the Dagster definitions", "benchmarks.ours:DEFINITIONS"),
        ],
        baseline=False,
    ),
    Measure(
        "history",
        "A year of small snapshots of seven stores",
        "none",
        [
            _ours("plain", "without an orchestrator", "HISTORY"),
            _ours("dagster", "in Dagster", "HISTORY_DAGSTER"),
        ],
    ),
]


def measure(name: str) -> Measure:
    """A measure by name. Raises KeyError, naming what there is."""
    found = {each.name: each for each in MEASURES}
    if name not in found:
        raise KeyError(f"There is no measure {name!r}; there are {', '.join(found)}.")
    return found[name]
