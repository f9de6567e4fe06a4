"""`refold log`: the sealed snapshots, and whether they are whole."""

from __future__ import annotations

import sys
from typing import Any

import click

from refold import terminal as view
from refold.cli.group import cli, open_project


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
    console.print(view.table(f"{len(snapshots)} snapshots, the newest {len(rows)}", rows))


@log.command("verify")
@click.option("--as-of", metavar="SNAPSHOT", help="Verify up to this snapshot; by default the newest.")
@click.pass_context
def log_verify(context: click.Context, as_of: str | None) -> None:
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
    if findings:
        rows = [{"check": f.check, "snapshot": f.snapshot, "where": f.where, "message": f.message} for f in findings]
        console.print(view.table(f"{len(findings)} findings", rows))
        sys.exit(1)
    console.print(f"The logs are whole up to snapshot {snapshot.key}: no findings.")
