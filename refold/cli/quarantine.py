"""`refold quarantine`: the landing records that could not become events, and trying them again."""

from __future__ import annotations

import base64
import json

import click

from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.log.declaration import Log
from refold.log.quarantine import Quarantined

_ROWS_SHOWN = 50


@cli.group()
def quarantine() -> None:
    """The landing records that could not become events."""


@quarantine.command("ls")
@click.argument("log", required=False)
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many records to show.")
@click.option("--refused", is_flag=True, help="Those that wait in landing for the next snapshot, and what stops it.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on each line, for machines, without a limit.")
@click.pass_context
def quarantine_ls(context: click.Context, log: str | None, limit: int, refused: bool, as_json: bool) -> None:
    """List quarantined records of a LOG (default: all): snapshot, object, record, reason, and the beginning of it."""
    engine, console = open_project(context), view.console()
    logs = [engine.project.log(log)] if log else engine.project.logs
    runs = [run for run in engine.sealing.dry_run() if run.log in logs] if refused else []
    items = [item for run in runs for item in run.quarantined()] if refused else engine.quarantine()
    items = [item for item in items if any(item.log == each.name for each in logs)]
    if as_json:
        for item in items:
            click.echo(json.dumps(_object(item)))
        return
    title = f"{view.count(len(items), 'record')} {'in landing that cannot be events' if refused else 'in quarantine'}"
    console.print(view.table(title, [_row(engine.project.log(item.log), item) for item in items[:limit]]))
    for run in runs:
        view.lines(console, run.errors)


def _row(log: Log, item: Quarantined) -> dict[str, object]:
    return {
        "snapshot": item.snapshot,
        "object": item.object,
        "record": f"{log.decoder.unit} {item.record.number}",
        "reason": item.record.reason,
        "detail": item.record.detail,
        "raw": repr(item.record.raw[:60])[2:-1] + ("…" if len(item.record.raw) > 60 else ""),
    }


def _object(item: Quarantined) -> dict[str, object]:
    """The record for machines, with all of its bytes in base64."""
    record = item.record
    return {
        "log": item.log,
        "snapshot": item.snapshot,
        "object": item.object,
        "record": record.number,
        "reason": record.reason,
        "detail": record.detail,
        "raw_base64": base64.b64encode(record.raw).decode(),
    }


@quarantine.command("retry")
@click.pass_context
def quarantine_retry(context: click.Context) -> None:
    """Decode all of them again under today's declarations; those that read now enter the next snapshot."""
    engine, console = open_project(context), view.console()
    found = engine.retry_quarantine()
    console.print(
        view.table("Now readable, in the next snapshot", [{"log": n, "records": len(i)} for n, i in found.items()])
    )
