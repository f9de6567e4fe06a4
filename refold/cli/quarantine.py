"""`refold quarantine`: the landing records that could not become events, and trying them again."""

from __future__ import annotations

import click

from refold.cli import terminal as view
from refold.cli.group import cli, open_project

_ROWS_SHOWN = 50


@cli.group()
def quarantine() -> None:
    """The landing records that could not become events."""


@quarantine.command("ls")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many records to show.")
@click.pass_context
def quarantine_ls(context: click.Context, limit: int) -> None:
    """List quarantined records: snapshot, object, record, reason, and the beginning of the raw bytes."""
    engine, console = open_project(context), view.console()
    items = engine.quarantine()
    rows = [
        {
            "snapshot": item.snapshot,
            "object": item.object,
            "record": f"{engine.project.log(item.log).decoder.unit} {item.record.number}",
            "reason": item.record.reason,
            "detail": item.record.detail,
            "raw": repr(item.record.raw[:60])[2:-1] + ("…" if len(item.record.raw) > 60 else ""),
        }
        for item in items[:limit]
    ]
    console.print(view.table(f"{len(items)} records in quarantine", rows))


@quarantine.command("retry")
@click.pass_context
def quarantine_retry(context: click.Context) -> None:
    """Decode all of them again under today's declarations; those that read now enter the next snapshot."""
    engine, console = open_project(context), view.console()
    found = engine.retry_quarantine()
    console.print(
        view.table("Now readable, in the next snapshot", [{"log": n, "records": len(i)} for n, i in found.items()])
    )
