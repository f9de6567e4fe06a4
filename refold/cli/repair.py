"""`refold repair` and `refold demo`: find what differs from full replay, rebuild just that, and see it done."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from refold.cli import terminal as view
from refold.cli.audit import repair_damage, repair_earlier, repair_empty_ends
from refold.cli.group import cli, open_project, snapshot_of
from refold.cli.store import step_row
from refold.config import Settings
from refold.engine import Engine
from refold.errors import NotFound
from refold.project import find_root, load_project
from refold.proof.prover import Difference
from refold.rebuild import rebuild_all
from refold.release.releaser import utc_now
from refold.repair.drift import Drift
from refold.sinks import Sql
from refold.stores.declaration import Store
from refold.types import ColumnKind

_DEMO_PERIODS = 20


@cli.command("repair")
@click.argument("store", required=False)
@click.option("--as-of", metavar="SNAPSHOT", help="The snapshot to repair; by default what is served, else the newest.")
@click.option(
    "--drop-empty",
    is_flag=True,
    help="Drop the newest releases and snapshots without content; seal again from landing.",
)
@click.pass_context
def repair_command(context: click.Context, store: str | None, as_of: str | None, drop_empty: bool) -> None:
    """Verify a STORE (default: all) and its sinks, rebuild just what differs, and prove it. Exits 1 where it cannot.

    Without a STORE, repair also damaged objects in the store, and publish again what was served before. Releases and
    snapshots without content, as a power cut may leave the newest, are listed, and dropped with --drop-empty; such
    snapshots are then sealed again from landing.
    """
    if not repair_empty_ends(context, view.console(), drop_empty):
        sys.exit(1)
    engine, console = open_project(context), view.console()
    engine.require_anchored()
    mended = True
    if store is None:
        engine, mended = repair_damage(engine, console)
    snapshot = snapshot_of(engine, as_of)
    if store is None:
        mended = repair_earlier(engine, console, snapshot) and mended
    for each in engine.project.in_order if store is None else [engine.project.store(store)]:
        drift = engine.drifts.find(each, snapshot)
        if not drift.differences:
            console.print(f"{each.name} at snapshot {snapshot.key}: nothing differs.")
            continue
        show_differences(console, drift)
        mended = _mend(engine, console, drift) and mended
    sys.exit(0 if mended else 1)


def show_differences(console: Console, drift: Drift) -> None:
    """The differences of one store as a table, where a fold went wrong, the picture, and what to do."""
    title = f"{drift.store.name} at snapshot {drift.snapshot.key}: differences: {len(drift.differences)}"
    console.print(view.table(title, [_difference_row(each) for each in drift.differences]))
    found = drift.verdict.divergence
    if found is not None:
        title = f"{drift.store.name}: where stored and replayed part"
        console.print(view.table(title, [{"what": what, "found": text} for what, text in found.rows()]))
    for line in drift.picture.lines():
        console.print(view.cell(line), soft_wrap=True)
    if drift.remedy:
        console.print("", *map(view.cell, drift.remedy.splitlines()), sep="\n")


def _difference_row(difference: Difference) -> dict[str, str]:
    return {
        "what": difference.what,
        "where": difference.where,
        "expected": difference.expected,
        "found": difference.found,
    }


def _mend(engine: Engine, console: Console, drift: Drift) -> bool:
    verdict = engine.drifts.repair(drift)
    if verdict.passed and not engine.drifts.find(drift.store, drift.snapshot).differences:
        console.print(f"{drift.store.name}: rebuilt and proven equal to full replay.")
        return True
    fault = "the log or the rule is at fault. Run `refold log verify`."
    if drift.store.ledger is None:
        fault = "its query or what it reads is at fault."
    console.print(f"{drift.store.name}: still differs; {fault}")
    return False


@cli.command()
@click.option("--break", "damage", is_flag=True, help="Damage one cell of what is served, find it, and repair it.")
@click.pass_context
def demo(context: click.Context, damage: bool) -> None:
    """Rebuild three weeks of the sample in a temporary folder; with --break, damage one cell and see it found."""
    root = find_root(context.obj)
    project, console = load_project(root), view.console()
    if project.sample is None:
        raise NotFound(f"The project {project.name!r} has no sample.", remedy="Declare Project(sample=...).")
    with tempfile.TemporaryDirectory(prefix="refold-demo-") as folder:
        place = Path(folder)
        names = {sink.connection for store in project.stores for sink in store.sinks}
        settings = Settings(
            str(place / "landing"),
            str(place / "store"),
            f"sqlite:///{place / 'shop.db'}",
            place / "search",
            connections={name: str(place / name) for name in names},
        )
        project.sample(place / "landing", False)
        engine, cadence = Engine(project, settings, now=utc_now()), project.cadence
        last = cadence.key(cadence.begins(cadence.first) + _DEMO_PERIODS * cadence.period) if cadence.first else None
        with view.progress(console):
            snapshot = rebuild_all(engine, last)
        view.summary(engine, snapshot, console)
        if damage:
            _break_and_mend(engine, console, place / "shop.db")


def _break_and_mend(engine: Engine, console: Console, database: Path) -> None:
    snapshot = engine.chain.get()
    store, sink = _first_view(engine)
    column = next(name for name, kind in store.columns.items() if kind.kind is ColumnKind.INT64)
    row = engine.rows(store, snapshot).to_pylist()[0]
    wrong = row[column] + 1000
    with sqlite3.connect(database) as connection:
        (rows_table,) = connection.execute(
            "SELECT rows_table FROM refold_release WHERE table_name = ?", [sink.name]
        ).fetchone()
        connection.execute(
            f'UPDATE "{rows_table}" SET "{column}" = ? WHERE "{store.key[0]}" = ?', [wrong, row[store.key[0]]]
        )
    connection.close()
    console.rule("somebody changes a cell behind our back")
    key = row[store.key[0]]
    console.print(f"{sink.name}: {column} of {store.key[0]} {key!r} is now {wrong}; it should be {row[column]}.")
    console.rule("refold verify")
    drift = engine.drifts.find(store, snapshot)
    show_differences(console, drift)
    console.rule(f"refold why {store.name} {key}")
    steps = list(engine.explainer.why(store, [str(key)], snapshot))
    console.print(
        view.table(f"The last of {len(steps)} events behind the right value", [step_row(step) for step in steps[-3:]])
    )
    console.rule("refold repair")
    _mend(engine, console, drift)


def _first_view(engine: Engine) -> tuple[Store, Sql]:
    for store in engine.project.stores:
        for sink in store.sinks:
            if isinstance(sink, Sql) and store.ledger is not None:
                return store, sink
    raise NotFound(f"The project {engine.project.name!r} publishes no folded store to SQL.")
