"""`refold show`, `why` and `search`: what stores hold, and the events behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import pyarrow as pa

from refold.cli import terminal as view
from refold.cli.audit import show_served
from refold.cli.group import cli, open_project, snapshot_of
from refold.errors import NotFound
from refold.explain.events import ExplainedEvent
from refold.stores.declaration import Store
from refold.types import matching

_ROWS_SHOWN = 50


@cli.command()
@click.argument("store")
@click.argument("key", nargs=-1)
@click.option("--as-of", metavar="SNAPSHOT", help="The snapshot to show; by default what is served, else the newest.")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many rows to show without a key.")
@click.pass_context
def show(context: click.Context, store: str, key: tuple[str, ...], as_of: str | None, limit: int) -> None:
    """Show the rows of a STORE, or the row of a KEY, at a snapshot, and what its sinks serve now.

    Logs that have not taken in all of landing up to that snapshot are named.
    """
    engine, console = open_project(context), view.console()
    declared = engine.project.store(store)
    snapshot = snapshot_of(engine, as_of)
    rows = engine.rows(declared, snapshot)
    if key:
        rows = _with_key(declared, rows, key)
        if len(rows) == 0:
            raise NotFound(f"Store {store!r} has no row {' '.join(map(repr, key))} at snapshot {snapshot.key}.")
    title = f"{store} at snapshot {snapshot.key}: {view.count(len(rows), 'row')}" + (
        f", the first {limit}" if len(rows) > limit else ""
    )
    console.print(view.table(title, rows.slice(0, limit).to_pylist(), rows.column_names))
    if declared.sinks:
        show_served(console, engine.served.check(store))
        if engine.served.serves_other_rows(declared, snapshot):
            console.print(
                "What is served are other rows than these: they were released before the declaration changed or events "
                "were redacted. `refold release ls` lists the releases.",
                soft_wrap=True,
            )
    for sentence in view.behind(engine, declared, snapshot):
        console.print(view.cell(sentence), soft_wrap=True)


def _with_key(store: Store, rows: pa.Table, key: Sequence[str]) -> pa.Table:
    if len(key) != len(store.key):
        raise click.UsageError(f"The key of {store.name} is {' '.join(store.key)}; found {len(key)} values.")
    for name, value in zip(store.key, key, strict=True):
        rows = rows.filter(matching(rows[name], value, store.columns[name]))
    return rows


@cli.command()
@click.argument("store")
@click.argument("key", nargs=-1, required=True)
@click.option("--as-of", metavar="SNAPSHOT", help="Explain the value at this snapshot; by default what is served.")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many of the last events to show.")
@click.pass_context
def why(context: click.Context, store: str, key: tuple[str, ...], as_of: str | None, limit: int) -> None:
    """Show the events behind the row of a KEY: place in the log, outcome, running value."""
    engine, console = open_project(context), view.console()
    declared = engine.project.store(store)
    snapshot = snapshot_of(engine, as_of)
    steps = list(engine.explainer.why(declared, list(key), snapshot))
    for name in dict.fromkeys(step.store for step in steps):
        mine = [step for step in steps if step.store == name]
        title = f"{name}: {view.count(len(mine), 'event')} up to snapshot {snapshot.key}" + (
            f", the last {limit}" if len(mine) > limit else ""
        )
        view.records(title, [step_row(step) for step in mine[-limit:]], console)
        for segment in dict.fromkeys(step.segment for step in mine[-limit:][-5:]):
            console.print(view.cell(f"Segment {segment}"), soft_wrap=True)


@cli.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", default=10, show_default=True, help="How many documents to show.")
@click.pass_context
def search(context: click.Context, words: tuple[str, ...], limit: int) -> None:
    """Search the released documents for WORDS."""
    engine, console = open_project(context), view.console()
    found = [(store, sink) for store in engine.project.stores for sink in store.sinks if sink.searchable]
    if not found:
        raise NotFound(f"The project {engine.project.name!r} has no search index.")
    served = engine.releaser.current()
    if served is None:
        raise NotFound("Nothing has been released yet.", remedy="Run a rebuild first.")
    for store, sink in found:
        if store.name not in served.versions:
            raise NotFound(f"Store {store.name!r} is not in release {served.number}.", remedy="Run `refold rebuild`.")
        target = engine.publisher.target(store, sink)
        hits = target.search(" ".join(words), limit=limit, version=served.versions[store.name])
        rows = [{"score": f"{hit.score:.2f}", **hit.document} for hit in hits]
        console.print(view.table(f"{sink.name} at snapshot {served.snapshot}: {len(rows)} documents", rows))


def step_row(step: ExplainedEvent) -> dict[str, Any]:
    """One event behind a value, as a row to show."""
    return {
        "log_seq": step.log_seq,
        "place": f"{step.log_partition}:{step.log_offset}",
        "landed as": step.origin,
        **{name: None if value is None else str(value) for name, value in step.event.items()},
        "outcome": step.outcome + (f" ({step.reason})" if step.reason else ""),
        **({} if step.after is None else {"after": ", ".join(f"{n}={v}" for n, v in step.after.items())}),
    }
