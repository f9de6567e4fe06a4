"""`refold verify`: is what is stored and published equal to full replay, or to the reference, and where is it not."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console

from refold.cli import terminal as view
from refold.cli.audit import show_anchor, show_damage, show_earlier, show_served
from refold.cli.group import cli, open_project, snapshot_of
from refold.cli.repair import show_differences
from refold.engine import Engine
from refold.errors import FixInput
from refold.log.snapshot import Snapshot
from refold.repair.drift import Drift
from refold.stores.declaration import Store


@cli.command()
@click.argument("store", required=False)
@click.option("--as-of", metavar="SNAPSHOT", help="The snapshot to verify; by default what is served, else the newest.")
@click.option("--reference", is_flag=True, help="Compare folded stores with the plain reference, one event at a time.")
@click.pass_context
def verify(context: click.Context, store: str | None, as_of: str | None, reference: bool) -> None:
    """Verify a STORE (default: all) and its sinks against full replay. Exits 1 where one differs.

    Where REFOLD_ANCHOR is set, hold the store against it. Without a STORE, audit also every stored object, and the
    versions served before that sinks still hold.
    """
    engine, console = open_project(context), view.console()
    whole = not show_damage(engine, console) if store is None and not reference else True
    whole = show_anchor(engine, console) and whole
    snapshot = snapshot_of(engine, as_of)
    chosen = engine.project.in_order if store is None else [engine.project.store(store)]
    with view.progress(console):
        drifts = _by_reference(engine, chosen, snapshot) if reference else _by_replay(engine, chosen, snapshot)
    equal = _show_drifts(console, snapshot, drifts)
    earlier = show_earlier(engine, console, snapshot) if store is None and not reference else True
    served = True if reference else _show_served(engine, console, store, drifts)
    sys.exit(0 if whole and equal and earlier and served else 1)


def _show_drifts(console: Console, snapshot: Snapshot, drifts: Sequence[Drift]) -> bool:
    """Show each store's result, its doubts and what differs; returns whether all are equal."""
    console.print(view.table(f"Verified at snapshot {snapshot.key}", [_row(drift) for drift in drifts]))
    for drift in drifts:
        for doubt in drift.verdict.doubts:
            console.print(view.cell(f"Store {drift.store.name}: {doubt}"), soft_wrap=True)
    differing = [drift for drift in drifts if not _passed(drift)]
    for drift in differing:
        show_differences(console, drift)
    return not differing


def _show_served(engine: Engine, console: Console, store: str | None, drifts: Sequence[Drift]) -> bool:
    """Compare what is served with its proof, and show what was not shown yet; returns whether nothing differs."""
    served = engine.served.check(store)
    shown = {difference for drift in drifts for difference in drift.differences}
    if any(set(each.differences) - shown for each in served):
        show_served(console, served)
    return not any(each.differences for each in served)


def _by_replay(engine: Engine, stores: Iterable[Store], snapshot: Snapshot) -> list[Drift]:
    return [engine.drifts.find(store, snapshot) for store in stores]


def _by_reference(engine: Engine, stores: Sequence[Store], snapshot: Snapshot) -> list[Drift]:
    """Those of the stores that are folded; one store alone must be."""
    folded = [ledger.store for store in stores if (ledger := store.ledger) is not None]
    if not folded:
        inputs = dict.fromkeys(each.name for store in stores for each in store.inputs)
        raise FixInput(
            f"The reference folds events; store {stores[0].name!r} is a query over other stores.",
            remedy=f"Verify what it reads: {', '.join(inputs)}.",
        )
    return [Drift(verdict.store, snapshot, verdict, []) for verdict in engine.compare_with_reference(folded, snapshot)]


def _passed(drift: Drift) -> bool:
    return drift.verdict.passed and not drift.differences


def _row(drift: Drift) -> dict[str, Any]:
    return {
        "store": drift.store.name,
        "snapshot": drift.snapshot.key,
        "method": drift.verdict.method,
        "events": drift.verdict.events,
        "result": "equal" if _passed(drift) else f"differs: {len(drift.differences)}",
    }
