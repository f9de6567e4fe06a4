"""The audit of stored objects and of what was served before, as `refold verify` and `refold repair` run and show it."""

from __future__ import annotations

from rich.console import Console

from refold.cli import terminal as view
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.repair.damage import Damage
from refold.repair.repair_objects import repair_objects


def show_damage(engine: Engine, console: Console) -> list[Damage]:
    """Every damaged object of the store, by name; says so where there is none."""
    damages = engine.audit_objects()
    if not damages:
        console.print("Every object in the store has the bytes that whoever names it says.")
        return []
    console.print(f"Damaged at rest: {len(damages)} objects")
    for d in damages:  # no table, which would break names and hashes that are to be copied
        for line in (f"{d.kind} {d.name}", f"  expected {d.expected}", f"  found {d.found}", f"  {d.remedy}"):
            console.print(view.cell(line), soft_wrap=True)
    return damages


def show_earlier(engine: Engine, console: Console, served: Snapshot) -> bool:
    """What differs in versions that were served before and are still held, as a table; returns whether nothing does."""
    rows = [
        {"sink": f"{sink.kind}/{sink.name}", "snapshot": snapshot.key, "where": d.where, "expected": d.expected,
         "found": d.found}
        for _, sink, snapshot, differences in engine.sink_audit.earlier(served, engine.project.in_order)
        for d in differences
    ]  # fmt: skip
    if rows:
        console.print(view.table(f"What was served before and is kept: differences: {len(rows)}", rows))
    return not rows


def repair_damage(engine: Engine, console: Console) -> tuple[Engine, bool]:
    """Make damaged objects again; returns an engine that has read none of them, and whether all are sound now."""
    damages = show_damage(engine, console)
    left = repair_objects(engine.reopened, damages)
    for damage in damages:
        if damage not in left:
            console.print(view.cell(f"Made again: {damage.kind} {damage.name}"), soft_wrap=True)
    for damage in left:
        console.print(view.cell(f"Cannot be made again: {damage}"), soft_wrap=True)
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
