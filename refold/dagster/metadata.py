"""Metadata that Dagster shows for materializations and checks: numbers, digests and tables."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import dagster as dg
import pyarrow as pa

from refold.base.outside import as_code, printable_lines
from refold.dagster.columns import column_lineage, sink_lineage
from refold.log.declaration import Log
from refold.log.hot import HotLog, PartitionLoad
from refold.log.ordering import OrderFinding
from refold.log.snapshot import Snapshot
from refold.log.verify import LogFinding
from refold.proof.divergence import place_of
from refold.proof.prover import Difference, Verdict
from refold.rebuild.events import StoreRefused
from refold.release.pointer import Release
from refold.release.publisher import Published
from refold.repair.served import Served
from refold.seal.completeness import Completeness
from refold.seal.refusal import DryRun
from refold.seal.report import SealReport
from refold.sinks.base import Sink
from refold.sinks.expectations import ExpectationResult
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store

WAS_WRONG = "served until now and not as proven"
"""The entry of a materialization that lists what a sink served wrongly before; `served_wrongly` alerts by it."""

ROWS_SHOWN = 20
_OUTCOMES = ("applied", "rejected", "duplicate", "conflict", "ignored")


def log_metadata(log: Log, snapshot: Snapshot, report: SealReport | None = None) -> dict[str, Any]:
    """Numbers of one log's part of a snapshot, and what `report` says about landing if it was sealed just now."""
    cut = snapshot.cut(log.name)
    late = [o.name for o in cut.objects if o.late]
    found: dict[str, Any] = {
        "dagster/row_count": cut.events,
        "new events": cut.events,
        "events in the log so far": cut.seq_end,
        "new landing records": cut.read,
        "of them quarantined": cut.quarantined,
        "new landing objects": len(cut.objects),
    }
    if report and log.name in report.stopped:
        found["stopped"] = str(report.stopped[log.name])
    elif cut.events == 0:
        found["note"] = "No new events: the log equals that of the day before."
    if late:
        found["late objects"] = _listed(late)
    if report and report.vanished:
        found["sealed objects that landing no longer holds"] = _listed(report.vanished)
    skipped = [f"{each.info.name} ({each.reason})" for each in report.skipped if each.log == log.name] if report else []
    if skipped:
        found["objects in landing that are not data"] = _listed(skipped)
    if len(cut.ends) > 1 and cut.seq_end:
        spread = HotLog(log.name, [PartitionLoad(place, end, 0) for place, end in enumerate(cut.ends)])
        found["largest log partition, in means"] = round(spread.skew, 2)
        found["log partitions"] = _preformatted(spread.picture())
    return found | {"log identity": cut.id, "snapshot identity": snapshot.id}


def order_metadata(findings: Sequence[OrderFinding]) -> dict[str, Any]:
    """The state of deliveries according to their producers' numbers."""
    rows = [{"fault": each.fault, "snapshot": each.snapshot, "what": str(each)} for each in findings]
    return {"findings": len(rows)} | ({"deliveries": as_table(rows[:ROWS_SHOWN])} if rows else {})


def whole_metadata(found: Completeness) -> dict[str, Any]:
    """Which source offsets are sealed, as a picture, and what is missing, held twice or out of proportion."""
    rows = [{"finding": each.gap, "place": each.place, "what": each.what} for each in found.findings]
    shown: dict[str, Any] = {"findings": len(rows), "objects without offset": found.without_offset}
    shown |= {"offsets by log partition": _preformatted(found.picture())} if found.ranges else {}
    return shown | ({"not whole": as_table(rows[:ROWS_SHOWN])} if rows else {})


def _preformatted(lines: Sequence[str]) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md("\n".join(["```text", *lines, "```"]))


def landing_metadata(run: DryRun) -> dict[str, Any]:
    """What a dry run of sealing found: how much waits, and the first bad records and conflicts."""
    found: dict[str, Any] = {"waiting objects": run.objects, "bad records in them": len(run.bad)}
    rows: list[dict[str, Any]] = [
        {"from": f"{name} {run.log.decoder.unit} {record.number}", "reason": record.reason, "detail": record.detail}
        for name, record in run.bad[:ROWS_SHOWN]
    ]
    if rows:
        found["bad records"] = as_table(rows)
    conflicts = [{"conflict": each.text(run.log)} for each in islice(run.conflicts(), ROWS_SHOWN)]
    return found | ({"conflicts": as_table(conflicts)} if conflicts else {})


def _listed(names: Sequence[str]) -> dg.MarkdownMetadataValue:
    more = f"\n- … and {len(names) - ROWS_SHOWN} more" if len(names) > ROWS_SHOWN else ""
    return dg.MetadataValue.md("\n".join(f"- {as_code(name)}" for name in names[:ROWS_SHOWN]) + more)


def state_metadata(
    store: Store, record: StateRecord, before: StateRecord | None = None, sample: pa.Table | None = None
) -> dict[str, Any]:
    """Numbers and digests of a state, with the lineage of its columns, and its first rows where a `sample` is given.

    Outcomes are those of this snapshot's events, by the record of the snapshot `before`, and those from offset 0.
    """
    found: dict[str, Any] = {"dagster/row_count": record.rows}
    outcomes = {name: record.outcomes[name] for name in _OUTCOMES if name in record.outcomes}
    earlier = before.outcomes if before is not None else {}
    found |= {f"events {name}": count - earlier.get(name, 0) for name, count in outcomes.items()}
    found |= {f"events {name} so far": count for name, count in outcomes.items()}
    found["rows more than before"] = record.rows - (before.rows if before is not None else 0)
    found |= sample_metadata(sample)
    found["state digest"] = record.state_digest
    if record.ledger_digest:
        found["ledger digest"] = record.ledger_digest
    found |= {"code version": record.code_version, "stored as": ", ".join(each.name for each in record.objects)}
    return found | {"dagster/column_lineage": column_lineage(store)}


def sample_metadata(rows: pa.Table | None) -> dict[str, Any]:
    """Rows of a store as a table; nothing where there are none."""
    return {"first rows by key": as_table(rows.to_pylist())} if rows is not None and len(rows) else {}


def verdict_metadata(verdict: Verdict) -> dict[str, Any]:
    """The result of full replay: a table of differences, where a fold went wrong, a picture, and the remedy."""
    what = "rows of inputs" if verdict.store.ledger is None else "events replayed"
    found: dict[str, Any] = {"method": verdict.method, what: verdict.events, "seconds": verdict.seconds}
    if verdict.record is not None:
        found |= {"state digest": verdict.record.state_digest, "rows": verdict.record.rows}
    if verdict.doubts:
        found["may not be meant"] = _listed(verdict.doubts)
    if verdict.differences:
        found["first difference"] = str(verdict.differences[0])
        rows = [
            {"what": d.what, "where": d.where, "expected": d.expected, "found": d.found} for d in verdict.differences
        ]
        found["differences"] = as_table(rows[:ROWS_SHOWN])
        found |= _divergence_metadata(verdict)
        found["what to do"] = verdict.remedy
    return found


def _divergence_metadata(verdict: Verdict) -> dict[str, Any]:
    """Where the fold went wrong as a table, its first wrong offset as a line, and the picture as preformatted text."""
    found: dict[str, Any] = {}
    parted = verdict.divergence
    if parted is not None:
        found["cause"] = f"{parted.cause}: {parted.because}"
        if parted.event is not None:
            found["first wrong offset"] = place_of(parted.event)
        found["where stored and replayed part"] = as_table([{"what": w, "found": text} for w, text in parted.rows()])
    lines = verdict.picture.lines()
    if lines:
        found["picture"] = _preformatted(lines)
    return found


def findings_metadata(findings: Sequence[LogFinding], events: int) -> dict[str, Any]:
    """The results of the structural checks of a log."""
    found: dict[str, Any] = {"events verified": events, "findings": len(findings)}
    if findings:
        rows = [{"check": f.check, "snapshot": f.snapshot, "where": f.where, "message": f.message} for f in findings]
        found["table of findings"] = as_table(rows[:ROWS_SHOWN])
    return found


def expectations_metadata(store: Store, results: Sequence[ExpectationResult]) -> dict[str, Any]:
    """What Great Expectations found: one row per sink and expectation, and the failing rows of each that failed.

    `results` are in the order of the publisher: sink by sink.
    """
    places = [f"{sink.label} {sink.name}" for sink in store.sinks for _ in store.expect]
    summary = [
        {
            "expectation": str(r.expectation),
            "in": place,
            "result": "passed" if r.passed else ("warns" if r.expectation.severity == "warn" else "failed"),
            "rows against it": r.rows_unexpected,
            "note": r.problem,
        }
        for place, r in zip(places, results, strict=True)
    ]
    found: dict[str, Any] = {
        "expectations that hold": sum(r.passed for r in results),
        "expectations": as_table(summary),
    }
    for place, result in zip(places, results, strict=True):
        if not result.passed and result.rows:
            found[f"failing rows in {place}: {result.expectation}"] = as_table(list(result.rows))
    return found


def served_metadata(found: Sequence[Served]) -> dict[str, Any]:
    """What sinks serve of the release, and a table of what differs from its proof."""
    shown: dict[str, Any] = {}
    for each in found[:1]:
        shown |= {"release": each.release, "served snapshot": each.snapshot}
    shown["place"] = dg.MetadataValue.md(
        "\n".join(f"- {as_code(each.place)}" for each in found) or "nothing is released yet"
    )
    rows = [{"what": d.what, "where": d.where, "expected": d.expected, "found": d.found}
            for each in found for d in each.differences]  # fmt: skip
    return shown | ({"first difference": rows[0]["where"], "differences": as_table(rows[:ROWS_SHOWN])} if rows else {})


def sink_description(store: Store, sinks: Sequence[Sink]) -> str:
    """The description of a sink asset: what it holds, and when readers see it."""
    places = " and ".join(f"{sink.label} `{sink.name}`" for sink in sinks)
    return (
        f"{store.description}\n\nThe rows of `state/{store.name}` in the {places}. Readers see a new version "
        "once `release` moves all of them to it."
    )


def published_metadata(
    store: Store,
    published: Sequence[Published],
    snapshot: Snapshot,
    served: Release | None,
    differed: Sequence[Served] = (),
    sample: pa.Table | None = None,
) -> dict[str, Any]:
    """What was written where, and what readers saw at that time; `differed` is what they saw and was not proven."""
    repaired = {WAS_WRONG: as_table([_as_row(each, d) for each in differed for d in each.differences][:ROWS_SHOWN])}
    return {
        **(repaired if differed else {}),
        "dagster/row_count": published[0].rows,
        "published snapshot": snapshot.key,
        "version": published[0].version,
        **sample_metadata(sample),
        "served when published": f"snapshot {served.snapshot}, release {served.number}" if served else "nothing yet",
        "place": dg.MetadataValue.md("\n".join(f"- {as_code(each.place)}" for each in published)),
        "content digest, read back": published[0].digest,
        "dagster/column_lineage": sink_lineage(store),
    }


def mended_metadata(differences: Sequence[Difference]) -> dict[str, Any]:
    """What differed from full replay and was made again."""
    rows = [{"what": d.what, "where": d.where, "expected": d.expected, "found": d.found} for d in differences]
    return {"differed, and was made again": as_table(rows[:ROWS_SHOWN])}


def held_metadata(refused: StoreRefused, served: Release | None) -> dict[str, Any]:
    """Why a store was not published, and what its sinks serve meanwhile."""
    name = refused.store.name
    is_served = served is not None and name in served.versions
    return {
        "held back": printable_lines(refused.warning),
        "keeps serving": f"snapshot {served.position_of(name).snapshot}" if served and is_served else "nothing",
    }


def _as_row(served: Served, difference: Difference) -> dict[str, Any]:
    return {
        "sink": served.sink,
        "release": served.release,
        "where": difference.where,
        "expected": difference.expected,
        "found": difference.found,
        "published again": "yes" if served.repaired else "no: the next release replaces it",
    }


def release_metadata(served: Release) -> dict[str, Any]:
    """The served version and proof of each store."""
    rows = [
        {
            "store": name,
            "snapshot": served.position_of(name).snapshot,
            "version": version,
            "proof": served.proofs[name].rsplit("/", 1)[-1][:12],
        }
        for name, version in served.versions.items()
    ]
    return {
        "served snapshot": served.snapshot,
        "release number": served.number,
        "stores": as_table(rows),
        "snapshot identity": served.snapshot_id,
    }


def as_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table in the UI; every value becomes text or a number."""
    plain = [
        {
            k: v if isinstance(v, int | float) and not isinstance(v, bool) else printable_lines(str(v))
            for k, v in r.items()
        }
        for r in rows
    ]
    names = list(dict.fromkeys(name for row in plain for name in row))
    records = [dg.TableRecord({name: row.get(name, "") for name in names}) for row in plain]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema([dg.TableColumn(n, "any") for n in names]))
