"""`refold conflicts`: events that repeat an id with other content, with both contents."""

from __future__ import annotations

import json
from itertools import islice

import click

from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.dedup.conflicts import ConflictingDelivery, conflicts_of
from refold.engine import Engine
from refold.log.declaration import Log
from refold.log.reader import LogReader

_ROWS_SHOWN = 50


@cli.command()
@click.argument("log", required=False)
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many conflicts of each log to show.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on each line, for machines, without a limit.")
@click.pass_context
def conflicts(context: click.Context, log: str | None, limit: int, as_json: bool) -> None:
    """List the events of a LOG (default: all) that repeat an id with other content; they count for no store."""
    engine, console = open_project(context), view.console()
    for declared in engine.project.logs if log is None else [engine.project.log(log)]:
        found = conflicts_of(LogReader(engine.objects, engine.chain, declared), engine.chain)
        if as_json:
            for each in found:
                click.echo(json.dumps(_object(each), default=str, ensure_ascii=False))
            continue
        rows = [row for each in islice(found, limit) for row in _rows(declared, each)]
        count = _count(engine, declared)
        shown = f", the first {limit}" if count > limit else ""
        console.print(view.table(f"{declared.name}: {count} conflicts{shown}", rows))


def _count(engine: Engine, log: Log) -> int:
    return sum(1 for _ in conflicts_of(LogReader(engine.objects, engine.chain, log), engine.chain))


def _rows(log: Log, conflict: ConflictingDelivery) -> list[dict[str, object]]:
    """A row for each delivery, the first that counts, with the columns that differ."""
    return [
        {
            "snapshot": conflict.snapshot,
            "id": log.id_of(event),
            "delivery": delivery,
            "from": f"{event['source_object']} {log.decoder.unit} {event['source_line']}",
            "offset": f"{event['log_partition']}:{event['log_offset']}",
            "differs": ", ".join(f"{name} {event[name]}" for name in conflict.columns),
        }
        for delivery, event in (("first", conflict.first), ("later", conflict.later))
    ]


def _object(conflict: ConflictingDelivery) -> dict[str, object]:
    return {
        "log": conflict.log,
        "snapshot": conflict.snapshot,
        "columns": list(conflict.columns),
        "first": dict(conflict.first),
        "later": dict(conflict.later),
    }
