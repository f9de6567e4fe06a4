"""`refold release` and `refold prune`: what was served, going back to it, and giving up what is old."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.engine import Engine
from refold.errors import NotFound
from refold.release.pointer import Release
from refold.release.releaser import utc_now
from refold.release.retention import KEEP, OLDER_THAN_DAYS
from refold.repair.garbage import find_unreferenced
from refold.stores.thinning import Thinning

_ROWS_SHOWN = 20


@cli.group()
def release() -> None:
    """What readers are served, and what they were served before."""


@release.command("ls")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many of the newest numbers to list.")
@click.pass_context
def release_ls(context: click.Context, limit: int) -> None:
    """List the numbers of the pointer, the newest first; the first is served."""
    engine, console = open_project(context), view.console()
    found = list(engine.releaser.pointer.newest_first())
    rows = [
        {
            "release": each.number,
            "snapshot": each.snapshot,
            "released at": each.released_at or None,
            "by": each.released_by or None,
            "stores": len(each.versions),
            "what": _what(each),
        }
        for each in found[:limit]
    ]
    console.print(view.table(f"{view.count(len(found), 'release')}, the newest {len(rows)}", rows))


def _what(release: Release) -> str:
    if not release.moves_readers:
        return f"prune of {sum(map(len, release.retired.values()))} versions"
    return "release" if release.rolled_back_to is None else f"rollback to {release.rolled_back_to}"


@release.command("show")
@click.argument("number", type=int, required=False)
@click.pass_context
def release_show(context: click.Context, number: int | None) -> None:
    """Show release NUMBER, by default the one that is served: every store, sink, version and proof."""
    engine, console = open_project(context), view.console()
    found = engine.releaser.current() if number is None else engine.releaser.pointer.get(number)
    if found is None:
        raise NotFound("Nothing has been released yet.", remedy="Run a rebuild first.")
    rows = [
        {
            "store": store,
            "snapshot": found.position_of(store).snapshot,
            "version": version,
            "sinks": _places(found, store),
            "proof": found.proofs[store],
        }
        for store, version in found.versions.items()
    ]
    console.print(view.cell("Release" + str(found).removeprefix("release") if found.moves_readers else str(found)))
    console.print(view.cell(f"Snapshot id {found.snapshot_id}, {_what(found)}"))
    if found.rolled_back_from is not None:
        console.print(view.cell("Snapshots it was rolled back from are not released again by themselves."))
    console.print(view.table("What it serves", rows))
    former = [
        {"sink": each.title, "store": each.store, "version": each.version, "place": each.sink.place}
        | {"becomes": "kept" if each.keep else "withdrawn"}
        for each in found.former
    ]
    if former:
        console.print(view.table("Former sinks, which the project no longer has", former))


def _places(release: Release, store: str) -> str:
    return ", ".join(sink.title for sink in release.sinks.get(store, ())) or "not recorded"


@release.command("rollback")
@click.argument("number", type=int, required=False)
@click.pass_context
def release_rollback(context: click.Context, number: int | None) -> None:
    """Serve the content of release NUMBER again, by default of the one before; builds nothing.

    Snapshots that were rolled back from are not released again by themselves; a newer one is, as usual.
    """
    engine, console = open_project(context), view.console()
    console.print(view.cell(f"Served: {engine.releaser.rollback(number)}"))


@release.command("again")
@click.argument("snapshot", required=False)
@click.pass_context
def release_again(context: click.Context, snapshot: str | None) -> None:
    """Release a published SNAPSHOT, by default the newest, although it was rolled back from."""
    engine, console = open_project(context), view.console()
    console.print(view.cell(f"Served: {engine.releaser.release(engine.chain.get(snapshot), again=True)}"))


@cli.command()
@click.option("--keep", default=KEEP, show_default=True, help="Keep what the last so many releases served.")
@click.option(
    "--older-than", "days", metavar="DAYS", type=float, default=OLDER_THAN_DAYS, show_default=True,
    help="Keep what was released within so many days.",
)  # fmt: skip
@click.option("--apply", "doing", is_flag=True, help="Do it. Without this nothing is changed.")
@click.option("--all", "shown", is_flag=True, help="Also show what is kept, and why.")
@click.pass_context
def prune(context: click.Context, keep: int, days: float, doing: bool, shown: bool) -> None:
    """Give up old versions in the sinks and rows of old checkpoints; shows what it would do unless --apply is given.

    What is served and what a kept release refers to is never given up, nor are logs, ledgers, digests and proofs. A
    checkpoint without rows costs a longer fold where its state is asked for again. Small segments that were joined by
    `refold log compact` go a day later.
    """
    engine, console = open_project(context), view.console()
    engine.require_anchored()
    now = utc_now()
    plan, thinnings = engine.plan_prune(keep, days, now)
    rows = [
        {"sink": v.sink, "version": v.version, "releases": ", ".join(map(str, v.releases)) or None, "why": v.why}
        | ({"kept": "yes" if v.keep else None} if shown else {})
        for v in plan.versions
        if shown or not v.keep
    ]
    count = sum(map(len, plan.dropped.values()))
    console.print(view.table(f"{count} of {len(plan.versions)} versions are to be given up", rows))
    for title, versions in plan.unfinished.items():
        console.print(view.cell(f"A prune was killed; still to be dropped from {title}: {', '.join(versions)}"))
    for note in plan.left:
        console.print(view.cell(f"Left: {note}"))
    _show_thinnings(engine, thinnings)
    _show_unreferenced(engine)
    if not doing:
        console.print(view.cell("Nothing was changed. `refold prune --apply` does it."))
        return
    done, thinned, removed = engine.prune(plan, thinnings, now)
    console.print(
        view.cell(
            f"Dropped {view.count(done, 'version')}, rows of {view.count(thinned, 'checkpoint')}, "
            f"{view.count(removed, 'object')} that nothing needs."
        )
    )


def _show_thinnings(engine: Engine, thinnings: Sequence[Thinning]) -> None:
    """By store and reason, since there may be thousands."""
    counts = Counter((each.record.store, each.why) for each in thinnings)
    rows = [{"store": store, "checkpoints": count, "why": why} for (store, why), count in counts.items()]
    if rows:
        view.console().print(view.table(f"To give up their rows: {view.count(len(thinnings), 'checkpoint')}", rows))


def _show_unreferenced(engine: Engine) -> None:
    """One by one, except superseded segments, of which there may be thousands."""
    found = find_unreferenced(engine.objects, utc_now())
    rows: list[dict[str, Any]] = [
        {"unreferenced": each.name, "bytes": each.size_bytes, "left because": each.why or None}
        for each in found
        if not each.superseded
    ]
    if rows:
        view.console().print(view.table(f"{view.count(len(rows), 'object')} that nothing names", rows))
    superseded = [each for each in found if each.superseded]
    sizes = dict[str, list[int]]()
    for each in superseded:
        sizes.setdefault(each.why, []).append(each.size_bytes)
    rows = [{"segments": len(some), "bytes": sum(some), "left because": why or None} for why, some in sizes.items()]
    if rows:
        view.console().print(
            view.table(f"{view.count(len(superseded), 'segment')} that only superseded layouts name", rows)
        )
