"""`refold log`: the sealed snapshots, whether they are whole, and fewer, larger segments for them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.engine import Engine
from refold.errors import Damaged
from refold.log.compaction import Compactor
from refold.release.unsealing import Unsealer
from refold.seal.against_landing import Compared
from refold.seal.id_costs import id_costs

_GONE_SHOWN = 20


@cli.group()
def log() -> None:
    """The sealed logs."""


@log.command("ls")
@click.option("--limit", default=20, show_default=True, help="How many of the newest snapshots to list.")
@click.pass_context
def log_ls(context: click.Context, limit: int) -> None:
    """List snapshots: key, identity, and for each log its events, quarantine and late objects."""
    engine, console = open_project(context), view.console()
    snapshots = list(engine.chain)
    rows = []
    for snapshot in snapshots[-limit:]:
        row: dict[str, Any] = {"snapshot": snapshot.key, "id": snapshot.id[:12]}
        for name, cut in snapshot.logs.items():
            row[f"{name} +"] = cut.events
            row[f"{name} total"] = cut.seq_end
        row["quarantined"] = sum(cut.quarantined for cut in snapshot.logs.values())
        row["late objects"] = sum(o.late for cut in snapshot.logs.values() for o in cut.objects)
        rows.append(row)
    console.print(view.table(f"{view.count(len(snapshots), 'snapshot')}, the newest {len(rows)}", rows))
    if snapshots:
        view.waiting(engine, console)


@log.command("show")
@click.argument("log")
@click.argument("place", metavar="PARTITION:OFFSET")
@click.pass_context
def log_show(context: click.Context, log: str, place: str) -> None:
    """Show one event of a LOG: its columns, where it came from, whether it repeats another, and its outcomes."""
    engine, console = open_project(context), view.console()
    declared = engine.project.log(log)
    partition, _, offset = place.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise click.UsageError(f"Expected log partition and offset, such as 0:7, found {place!r}.")
    found = engine.explainer.event(declared, int(partition), int(offset), engine.stores_of(log))
    columns = [{"column": n, "type": str(declared.columns[n]), "value": value} for n, value in found.event.items()]
    console.print(view.table(f"{log} {place}, sealed in snapshot {found.snapshot}", columns))
    console.print(view.cell(f"log_seq {found.log_seq}, from landing {found.origin}"), soft_wrap=True)
    console.print(view.cell(f"Segment: {found.segment}"), soft_wrap=True)
    console.print(view.cell(f"Delivery: {found.repeats or 'the first of its id'}"))
    for each in engine.chain.redactions:
        cut = each.cuts.get(found.snapshot)
        if each.log == log and cut is not None and [int(partition), int(offset)] in [list(at) for at in cut.places]:
            console.print(view.cell(f"Redacted: {each}"), soft_wrap=True)
    for assumed in declared.assumed:
        console.print(view.cell(f"Declared: {assumed}"))
    for store, outcome in found.outcomes.items():
        console.print(view.cell(f"Store {store}: {outcome}"))


@log.command("ids")
@click.argument("log", required=False)
@click.pass_context
def log_ids(context: click.Context, log: str | None) -> None:
    """Show what remembering the event ids of LOG (default: of all) costs in bytes and seconds, measured now."""
    engine, console = open_project(context), view.console()
    rows = []
    for each in [engine.project.log(log)] if log else engine.project.logs:
        costs = id_costs(engine.objects, engine.chain, each)
        if costs is None:
            continue
        row: dict[str, Any] = {"log": each.name, "events": costs.events, "ids remembered": costs.remembered}
        row |= {"for": "all of the log" if each.repeats_within is None else f"{each.repeats_within} snapshots"}
        row |= {"bytes": costs.size_bytes, "MB a million ids": round(costs.bytes_per_million / 1e6, 1)}
        rows.append(row | {"looked up": costs.looked_up, "seconds a million": round(costs.seconds_per_million, 3)})
    console.print(view.table(f"Ids of {len(rows)} logs", rows))


@log.command("skipped")
@click.argument("log", required=False)
@click.pass_context
def log_skipped(context: click.Context, log: str | None) -> None:
    """List the objects in landing that are not data of LOG (default: of any log): hidden, markers, Kafka sidecars."""
    engine, console = open_project(context), view.console()
    logs = {engine.project.log(log).name} if log else {each.name for each in engine.project.logs}
    found = [each for each in engine.sealing.sealer().skipped() if each.log in logs]
    rows = [{"object": each.info.name, "bytes": each.info.size_bytes, "reason": each.reason} for each in found]
    console.print(view.table(f"{view.count(len(rows), 'object')} in landing, not data", rows))


@log.command("verify")
@click.option("--as-of", metavar="SNAPSHOT", help="Verify up to this snapshot; by default the newest.")
@click.option("--landing", is_flag=True, help="Also compare every event with what landing still holds.")
@click.pass_context
def log_verify(context: click.Context, as_of: str | None, landing: bool) -> None:
    """Check every segment: hashes, offsets, order, content, keys, accounting. Exits 1 on a finding."""
    engine, console = open_project(context), view.console()
    snapshot = engine.chain.get(as_of)
    with view.progress(console):
        findings = [
            finding
            for each in engine.project.logs
            for _, found in engine.verify_log(each.name, snapshot)
            for finding in found
        ]
        logs = engine.project.logs if landing else ()
        compared = [each for log in logs for each in engine.compare_with_landing(log.name, snapshot)]
    rows = [{"check": f.check, "snapshot": f.snapshot, "where": f.where, "message": f.message} for f in findings]
    rows += [
        {"check": "landing", "snapshot": each.snapshot, "where": where, "message": message}
        for each in compared
        for where, message in each.findings
    ]
    if landing:
        _show_compared(engine, console, compared)
    if rows:
        console.print(view.table(view.count(len(rows), "finding"), rows))
        sys.exit(1)
    console.print(f"The logs are whole up to snapshot {snapshot.key}: no findings.")


def _show_compared(engine: Engine, console: Console, compared: Sequence[Compared]) -> None:
    """How many events are those of landing, how many could not be compared and why, and what is not sealed."""
    gone = [name for each in compared for name in each.gone]
    equal, left = sum(each.events for each in compared), sum(each.left for each in compared)
    console.print(f"Compared with landing: {equal:,} events equal, {left:,} not compared.")
    if readable := sum(each.readable for each in compared):
        console.print(f"In quarantine, and events by today's declaration: {readable}; see `refold quarantine retry`.")
    if gone:
        console.print(f"Sealed objects that landing no longer holds: {len(gone)}")
    for name in gone[:_GONE_SHOWN]:
        console.print(view.cell(f"  {name}"), soft_wrap=True)
    view.waiting(engine, console)


@log.command("compact")
@click.argument("log", required=False)
@click.option("--dry-run", is_flag=True, help="Show what would be joined, and write nothing.")
@click.pass_context
def log_compact(context: click.Context, log: str | None, dry_run: bool) -> None:
    """Join small segments of LOG (default: all logs) into larger ones; changes no identity and no digest.

    What is new is read back and compared before it counts; `refold prune` removes the old segments a day later. Exits
    1 where a segment is damaged, which stays as it is with its neighbours.
    """
    engine, console = open_project(context), view.console()
    engine.require_anchored()
    rows: list[dict[str, Any]] = []
    damaged: list[Damaged] = []
    with view.progress(console):
        for each in engine.project.logs if log is None else [engine.project.log(log)]:
            started = time.perf_counter()
            compactor = Compactor(engine.objects, engine.chain, each)
            plan = compactor.plan()
            row = {"log": each.name, "files before": plan.files, "files after": plan.files_after}
            row |= {"bytes before": plan.size_bytes, "bytes after": None}
            if not dry_run:
                done = compactor.apply(plan)
                damaged += done.damaged
                row |= {"files after": done.files, "bytes after": done.size_bytes}
            rows.append(row | {"seconds": f"{time.perf_counter() - started:.1f}"})
    console.print(view.table("What compaction would do" if dry_run else "Compacted", rows))
    for error in damaged:
        view.error(error)
    if damaged:
        sys.exit(1)


@log.command("unseal")
@click.argument("snapshot")
@click.option("--yes", "doing", is_flag=True, help="Do it. Without this nothing is changed.")
@click.pass_context
def log_unseal(context: click.Context, snapshot: str, doing: bool) -> None:
    """Give up SNAPSHOT and all after it, so that their landing is sealed again; shows what it would undo.

    Only the newest snapshots, and only where no release rests on one of them. Their events, states and proofs are gone;
    what is in landing waits again, as it is then: corrected objects are taken as they are, removed ones are not.
    """
    engine, console = open_project(context), view.console()
    engine.require_anchored()
    landed = [info.name for each in engine.project.logs for info in engine.landing().list(each.name)]
    unsealer = Unsealer(engine.objects, engine.chain)
    plan = unsealer.plan(snapshot, landed)
    rows = [
        {
            "snapshot": each.key,
            "events": each.events,
            "landing objects": sum(len(cut.objects) for cut in each.logs.values()),
            "quarantined": sum(cut.quarantined for cut in each.logs.values()),
        }
        for each in plan.snapshots
    ]
    console.print(view.table(f"To be unsealed: {view.count(len(rows), 'snapshot')}, the newest first", rows))
    for name in plan.missing:
        console.print(view.cell(f"No longer in landing, so its events are not sealed again: {name}"), soft_wrap=True)
    if not doing:
        console.print(view.cell("Nothing was changed. `--yes` does it."))
        return
    unsealer.apply(plan)
    console.print(
        view.cell(f"Unsealed {view.count(len(rows), 'snapshot')}. The next rebuild seals what is in landing then.")
    )
