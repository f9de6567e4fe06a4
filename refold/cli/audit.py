"""The audit of stored objects and of earlier versions in sinks, as `refold verify` and `refold repair` show it."""

from __future__ import annotations

from rich.console import Console

from refold.cli import terminal as view
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.repair.damage import Damage
from refold.repair.repair_objects import repair_objects


def show_damage(engine: Engine, console: Console) -> list[Damage]:
    """Show every damaged object of the store, by name, or that there is none; returns them."""
    damages = engine.audit_objects()
    if not damages:
        console.print("All objects in the store are intact.")
        return []
    console.print(f"Damaged objects in the store: {len(damages)}")
    for d in damages:  # no table, which would break names and hashes that are to be copied
        for line in (f"{d.kind} {d.name}", f"  expected {d.expected}", f"  found {d.found}", f"  {d.remedy}"):
            console.print(view.cell(line), soft_wrap=True)
    return damages


def show_earlier(engine: Engine, console: Console, served: Snapshot) -> bool:
    """Show what differs in versions that were served before and are still held; returns whether nothing does."""
    rows = [
        {"sink": f"{sink.kind}/{sink.name}", "snapshot": snapshot.key, "where": d.where, "expected": d.expected,
         "found": d.found}
        for _, sink, snapshot, differences in engine.sink_audit.earlier(served, engine.project.in_order)
        for d in differences
    ]  # fmt: skip
    if rows:
        console.print(view.table(f"Versions served before: {len(rows)} differences", rows))
    return not rows


def repair_damage(engine: Engine, console: Console) -> tuple[Engine, bool]:
    """Repair damaged objects; returns an engine that has read none of them, and whether all are sound now."""
    damages = show_damage(engine, console)
    left = repair_objects(engine.reopened, damages)
    for damage in damages:
        if damage not in left:
            console.print(view.cell(f"Repaired: {damage.kind} {damage.name}"), soft_wrap=True)
    for damage in left:
        console.print(view.cell(f"Cannot be repaired: {damage}"), soft_wrap=True)
    return engine.reopened(), not left


def repair_earlier(engine: Engine, console: Console, served: Snapshot) -> bool:
    """Publish again what differs in versions that were served before; returns whether all are right afterwards."""
    right = True
    for store, sink, snapshot, differences in engine.sink_audit.earlier(served, engine.project.in_order):
        if not differences:
            continue
        try:
            engine.sink_audit.repair(store, sink, snapshot)
            console.print(view.cell(f"Published again: {sink.kind}/{sink.name} at snapshot {snapshot.key}"))
        except RefoldError as error:
            view.error(error)
            right = False
    return right
