"""The audit of stored objects and of earlier versions in sinks, as `refold verify` and `refold repair` show it."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console

from refold.cli import terminal as view
from refold.cli.group import open_project
from refold.config import Settings
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.project import find_root
from refold.repair.damage import Damage
from refold.repair.power_cut import drop_empty_ends, find_empty_ends, seal_again
from refold.repair.repair_objects import repair_objects
from refold.repair.served import Served
from refold.storage.packs import open_packed

_SHOWN = 20


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


def show_anchor(engine: Engine, console: Console) -> bool:
    """Show differences between the store and its anchor; returns whether there are none, or no anchor."""
    if engine.anchor is None:
        return True
    found = engine.check_anchor()
    if not found:
        console.print(view.cell(f"The store is what was anchored in {engine.anchor.place}."), soft_wrap=True)
        return True
    console.print(f"Not what was anchored: {len(found)}")
    for each in found:
        for line in (each.where, f"  expected {each.expected}", f"  found {each.found}"):
            console.print(view.cell(line), soft_wrap=True)
    return False


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


def show_served(console: Console, found: Sequence[Served]) -> None:
    """Say what sinks serve, and show what of it is not what was proven."""
    if not found:
        console.print("Nothing is released yet.")
        return
    wrong = [(each, difference) for each in found for difference in each.differences]
    release = f"release {found[0].release} of snapshot {found[0].snapshot}"
    if not wrong:
        sinks = "1 sink" if len(found) == 1 else f"{len(found)} sinks"
        console.print(f"Served: {release} in {sinks}, equal to what was proven.")
        return
    rows = [
        {"sink": each.sink, "where": d.where, "expected": d.expected, "found": d.found} for each, d in wrong[:_SHOWN]
    ]
    count = "1 difference" if len(wrong) == 1 else f"{len(wrong)} differences"
    console.print(view.table(f"Served: {release}, with {count} from what was proven", rows))


def repair_empty_ends(context: click.Context, console: Console, drop: bool) -> bool:
    """List the newest releases, snapshots and layouts without content; with `drop` drop them, and seal again.

    Returns whether there are none afterwards. Raises Conflict or Damaged where landing does not give a snapshot again.
    """
    objects = open_packed(Settings.from_environment(find_root(context.obj)).store)
    ends = find_empty_ends(objects)
    for name in ends.names:
        console.print(view.cell(f"{'Dropped' if drop else 'Without content'}: {name}"), soft_wrap=True)
    if not ends.names or not drop:
        if ends.names:
            console.print("A power cut leaves such objects. Restore them where there is a copy.")
            console.print(
                "Else run `refold repair --drop-empty`: it drops them, and seals dropped snapshots again from landing."
            )
        return not ends.names
    drop_empty_ends(objects, ends)
    engine = open_project(context)
    for key, same in seal_again(ends, engine.objects, engine.chain, engine.sealing):
        what = "it is the snapshot that was sealed before" if same else "nothing tells what was sealed before"
        console.print(f"Sealed again from landing: {key}; {what}.")
    return True


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
