"""How Refold's things look in Dagster: asset keys, and metadata that a stranger can read."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from refold.expectations import ExpectationResult
from refold.log.declaration import POSITION, Log
from refold.log.snapshot import Snapshot
from refold.log.verify import Finding
from refold.proof import Verdict
from refold.publishing import Published
from refold.release import Release
from refold.sinks.base import Sink
from refold.storage import canonical_json, sha256_hex
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded, LedgerOf, Relation, Store
from refold.types import INT64_MAX, INT64_MIN, ColumnType, Schema

RELEASE_KEY, RELEASE_CODE = dg.AssetKey("release"), "1"
STRUCTURE, FULL_REPLAY, EXPECTATIONS = "structure", "full_replay", "expectations"
_ROWS_SHOWN = 20
_OUTCOMES = ("applied", "rejected", "duplicate", "conflict", "ignored")


def log_key(log: Log) -> dg.AssetKey:
    """`log/<name>`."""
    return dg.AssetKey(["log", log.name])


def state_key(store: Store) -> dg.AssetKey:
    """`state/<name>`."""
    return dg.AssetKey(["state", store.name])


def sink_key(sink: Sink) -> dg.AssetKey:
    """`sql/<table>`, `delta/<table>` or `search/<index>`."""
    return dg.AssetKey([sink.kind, sink.name])


def sink_groups(store: Store) -> dict[dg.AssetKey, list[Sink]]:
    """A store's sinks by asset: those of one kind and name are published together."""
    groups: dict[dg.AssetKey, list[Sink]] = {}
    for sink in store.sinks:
        groups.setdefault(sink_key(sink), []).append(sink)
    return groups


def checked_sink(store: Store) -> dg.AssetKey | None:
    """The asset that shows a store's expectations: its first sink; None where it has no sink or expects nothing."""
    return next(iter(sink_groups(store)), None) if store.expect else None


def input_keys(store: Store) -> list[dg.AssetKey]:
    """The assets a store is computed from, each once; a ledger is a state's, and its events are the log's."""
    if isinstance(store, Folded):
        return [log_key(store.log)]
    assert isinstance(store, Relation)
    found = []
    for source in store.reads:
        if isinstance(source, LedgerOf):
            found += [state_key(source.store), log_key(source.store.log)]
        else:
            found.append(state_key(source))
    return list(dict.fromkeys(found))


def log_code_version(log: Log) -> str:
    """Another one where the log is declared differently: columns, key, event id, log partitions, decoder."""
    decoder = type(log.decoder).__name__
    return sha256_hex(canonical_json([log.content, log.key, log.event_id, log.partitions, decoder]))[:12]


def log_schema(log: Log) -> dg.TableSchema:
    """The columns of a log's events: place, origin, and what is declared. Event ids repeat: a log keeps repetitions."""
    roles = {log.key: "The key: which entity the event belongs to.", log.event_id: "The event id, for deduplication."}
    if log.event_time is not None:
        roles[log.event_time] = "When it happened."
    return dg.TableSchema([*_columns(POSITION), *_columns(_ORIGIN), *_columns(log.columns, roles)])


def store_schema(store: Store) -> dg.TableSchema:
    """The columns of a store's rows, and of its ledger where it is folded."""
    return dg.TableSchema([*sink_schema(store).columns, *(_columns(_LEDGER) if isinstance(store, Folded) else [])])


def sink_schema(store: Store) -> dg.TableSchema:
    """The columns as published; a single key column is unique."""
    roles = dict.fromkeys(store.key, "Key." if len(store.key) == 1 else f"Part of the key ({', '.join(store.key)}).")
    if isinstance(store, Folded):
        roles |= dict.fromkeys(POSITION, "Of the last event of this key.")
    return dg.TableSchema(_columns(store.columns, roles, unique=store.key))


_ORIGIN: Schema = {"source_object": ColumnType("text"), "source_line": ColumnType("int64")}
_LEDGER: Schema = {"ledger.outcome": ColumnType("text"), "ledger.reason": ColumnType("text", null=True)}
_MEANINGS = {
    "log_partition": "The part of the log that holds all events of a key.",
    "log_offset": "The place in the log partition, from 0.",
    "log_seq": "The place in the order of the whole log, from 0.",
    "source_object": "The landing object it was read from.",
    "source_line": "Its line there, from 1.",
    "ledger.outcome": "What became of each event: applied, duplicate, rejected, conflict, ignored.",
    "ledger.reason": "Why the rule rejected it.",
}


def _columns(
    columns: Schema, roles: Mapping[str, str] | None = None, unique: Sequence[str] = ()
) -> list[dg.TableColumn]:
    return [
        dg.TableColumn(
            name,
            "text" if column.kind == "enum" else str(column).rstrip("?"),
            description=" ".join(filter(None, [_MEANINGS.get(name), (roles or {}).get(name), _values(column)])) or None,
            constraints=dg.TableColumnConstraints(nullable=column.null, unique=list(unique) == [name]),
        )
        for name, column in columns.items()
    ]


def _values(column: ColumnType) -> str:
    """Which values a column admits, where fewer than its type has."""
    if column.choices is not None:
        return f"One of {', '.join(column.values)}."
    low = column.minimum if column.minimum not in (None, INT64_MIN) else None
    high = column.maximum if column.maximum not in (None, INT64_MAX) else None
    bounds = [f"at least {low:,}" if low is not None else "", f"at most {high:,}" if high is not None else ""]
    return ", ".join(filter(None, bounds)).capitalize() + "." if any(bounds) else ""


def column_lineage(store: Store) -> dg.TableColumnLineage:
    """The lineage of a store's columns, down to the columns of logs and stores it reads."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for column, sources in store.lineage.items():
        found = [_column(store, source, name) for source, name in sources]
        deps[column] = [dg.TableColumnDep(*place) for place in dict.fromkeys(found)]
    if isinstance(store, Folded):
        decisive = dict.fromkeys([store.log.event_id, store.log.key, *store.columns_read])
        deps |= {name: [dg.TableColumnDep(log_key(store.log), column) for column in decisive] for name in _LEDGER}
    return dg.TableColumnLineage(deps)


def _column(store: Store, source: str, column: str) -> tuple[dg.AssetKey, str]:
    """The asset and column behind an input's column; a ledger's event columns are the log's."""
    if isinstance(store, Folded):
        return log_key(store.log), column
    assert isinstance(store, Relation)
    read = next(each for each in store.reads if each.name == source)
    if not isinstance(read, LedgerOf):
        return state_key(read), column
    log = read.store.log
    if column in log.columns or column in POSITION:
        return log_key(log), column
    if column == "event_date" and log.event_time is not None:
        return log_key(log), log.event_time
    return state_key(read.store), f"ledger.{column}"


def sink_lineage(store: Store) -> dg.TableColumnLineage:
    """A published column comes from the state's column of the same name."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(state_key(store), name)] for name in store.columns})


def log_metadata(
    log: Log, snapshot: Snapshot, late: Sequence[str] = (), vanished: Sequence[str] = ()
) -> dict[str, Any]:
    """One log's part of a snapshot in numbers."""
    cut = snapshot.logs[log.name]
    late = [o.name for o in cut.objects if o.late] or list(late)
    found: dict[str, Any] = {
        "dagster/row_count": cut.events,
        "new events": cut.events,
        "events in the log so far": cut.seq_end,
        "new landing records": cut.read,
        "of them quarantined": cut.quarantined,
        "new landing objects": len(cut.objects),
    }
    if cut.events == 0:
        found["note"] = "No new events: the log is what it was a day before, under another key."
    if late:
        found["late objects"] = _listed(late)
    if vanished:
        found["sealed objects that landing no longer holds"] = _listed(vanished)
    return found | {"log identity": cut.id, "snapshot identity": snapshot.id}


def _listed(names: Sequence[str]) -> dg.MarkdownMetadataValue:
    more = f"\n- … and {len(names) - _ROWS_SHOWN} more" if len(names) > _ROWS_SHOWN else ""
    return dg.MetadataValue.md("\n".join(f"- `{name}`" for name in names[:_ROWS_SHOWN]) + more)


def state_metadata(record: StateRecord) -> dict[str, Any]:
    """A state in numbers and digests; outcomes are counted from offset 0."""
    found: dict[str, Any] = {"dagster/row_count": record.rows, "rows": record.rows}
    found |= {f"events {name} so far": record.outcomes[name] for name in _OUTCOMES if name in record.outcomes}
    found["state digest"] = record.state_digest
    if record.ledger_digest:
        found["ledger digest"] = record.ledger_digest
    return found | {"code version": record.code_version, "stored as": record.state.name}


def verdict_metadata(verdict: Verdict) -> dict[str, Any]:
    """What full replay found, with every difference in a table."""
    what = "rows of inputs" if isinstance(verdict.store, Relation) else "events replayed"
    found: dict[str, Any] = {"method": verdict.method, what: verdict.events}
    if verdict.record is not None:
        found |= {"state digest": verdict.record.state_digest, "rows": verdict.record.rows}
    if verdict.differences:
        found["first difference"] = str(verdict.differences[0])
        rows = [
            {"what": d.what, "where": d.where, "expected": d.expected, "found": d.found} for d in verdict.differences
        ]
        found["differences"] = as_table(rows[:_ROWS_SHOWN])
    return found


def findings_metadata(findings: Sequence[Finding], events: int) -> dict[str, Any]:
    """What the structural checks of a log found."""
    found: dict[str, Any] = {"events verified": events, "findings": len(findings)}
    if findings:
        rows = [{"check": f.check, "snapshot": f.snapshot, "where": f.where, "message": f.message} for f in findings]
        found["table of findings"] = as_table(rows[:_ROWS_SHOWN])
    return found


def expectations_metadata(store: Store, results: Sequence[ExpectationResult]) -> dict[str, Any]:
    """What Great Expectations found: one row per sink and expectation, and the failing rows of each that failed.

    `results` are those of one sink after the other, as the publisher gives them.
    """
    sinks = [_sink_name(sink) for sink in store.sinks for _ in store.expect]
    summary = [
        {
            "expectation": str(r.expectation),
            "in": sink,
            "result": "passed" if r.passed else ("warns" if r.expectation.severity == "warn" else "failed"),
            "rows against it": r.rows_unexpected,
            "note": r.problem,
        }
        for sink, r in zip(sinks, results, strict=True)
    ]
    found: dict[str, Any] = {
        "expectations that hold": sum(r.passed for r in results),
        "expectations": as_table(summary),
    }
    for sink, result in zip(sinks, results, strict=True):
        if not result.passed and result.rows:
            found[f"failing rows in {sink}: {result.expectation}"] = as_table(list(result.rows))
    return found


def sink_description(store: Store, sinks: Sequence[Sink]) -> str:
    """What a sink holds, and when readers see it."""
    names = " and ".join(_sink_name(sink) for sink in sinks)
    return (
        f"{store.description}\n\nThe rows of `state/{store.name}`, published to {names}: a new version is unseen "
        "until `release` moves all readers to it."
    )


def _sink_name(sink: Sink) -> str:
    return f"{type(sink).__name__} `{sink.name}`"


def published_metadata(published: Sequence[Published], snapshot: Snapshot, served: Release | None) -> dict[str, Any]:
    """What was written where, and what readers see meanwhile."""
    return {
        "dagster/row_count": published[0].rows,
        "rows": published[0].rows,
        "published snapshot": snapshot.key,
        "version": published[0].version,
        "served when published": f"snapshot {served.snapshot}, release {served.number}" if served else "nothing yet",
        "place": dg.MetadataValue.md("\n".join(f"- `{each.place}`" for each in published)),
        "content digest, read back": published[0].digest,
    }


def release_metadata(served: Release) -> dict[str, Any]:
    """What is served, store by store."""
    rows = [
        {"store": name, "version": version, "proof": served.proofs[name].rsplit("/", 1)[-1][:12]}
        for name, version in served.versions.items()
    ]
    return {
        "served snapshot": served.snapshot,
        "release number": served.number,
        "stores": as_table(rows),
        "snapshot identity": served.snapshot_id,
    }


def release_version(served: Release) -> str:
    """The data version of the release: its number and what it serves."""
    return f"{served.number}-{served.snapshot_id[:12]}"


def as_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table in the UI; every value becomes text or a number."""
    plain = [
        {k: v if isinstance(v, int | float) and not isinstance(v, bool) else str(v) for k, v in r.items()} for r in rows
    ]
    names = list(dict.fromkeys(name for row in plain for name in row))
    records = [dg.TableRecord({name: row.get(name, "") for name in names}) for row in plain]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema([dg.TableColumn(n, "any") for n in names]))
