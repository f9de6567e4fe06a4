"""`refold conflicts`: events that repeat an id with other content, with both contents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import click

from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.dedup.conflicts import ConflictingDelivery, conflicts_of, count_conflicts
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.declaration import Log
from refold.log.reader import LogReader

_ROWS_SHOWN = 50


@cli.command()
@click.argument("log", required=False)
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many conflicts of each log to show.")
@click.option("--refused", is_flag=True, help="Those that wait in landing for the next snapshot, and what stops it.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on each line, for machines, without a limit.")
@click.pass_context
def conflicts(context: click.Context, log: str | None, limit: int, refused: bool, as_json: bool) -> None:
    """List the events of a LOG (default: all) that repeat an id with other content; no store takes their values."""
    engine, console = open_project(context), view.console()
    logs = [engine.project.log(log)] if log else engine.project.logs
    for declared, count, found, errors in _waiting(engine, logs) if refused else _sealed(engine, logs):
        if as_json:
            for each in found:
                click.echo(json.dumps(_object(each), default=str))
            continue
        title = f"{declared.name}: {view.count(count, 'conflict')}{' in landing' if refused else ''}"
        shown = f", the first {limit}" if count > limit else ""
        rows = [row for each in islice(found, limit) for row in _rows(declared, each)]
        console.print(view.table(title + shown, rows))
        view.lines(console, errors)


_Found = tuple[Log, int, Iterator[ConflictingDelivery], Sequence[RefoldError]]


def _sealed(engine: Engine, logs: Iterable[Log]) -> Iterator[_Found]:
    for log in logs:
        reader = LogReader(engine.objects, engine.chain, log)
        yield log, count_conflicts(reader, engine.chain), conflicts_of(reader, engine.chain), ()


def _waiting(engine: Engine, logs: Sequence[Log]) -> Iterator[_Found]:
    for run in engine.sealing.dry_run():
        if run.log in logs:
            yield run.log, run.count_conflicts(), run.conflicts(), run.errors


def _rows(log: Log, conflict: ConflictingDelivery) -> list[dict[str, object]]:
    """A row for each delivery, the first that counts, with the columns that differ."""
    return [
        {
            "snapshot": conflict.snapshot,
            "id": log.id_of(event),
            "delivery": delivery,
            "from": f"{event['source_object']} {log.decoder.unit} {event['source_line']}",
            "offset": f"{event['log_partition']}:{event['log_offset']}" if "log_partition" in event else None,
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
