"""`refold log inspect`: what an unknown bucket or folder holds, and a log to declare."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console

from refold.cli import terminal as view
from refold.cli.log import log
from refold.landing.inspect import OBJECTS_MAX, LogFound, field_json, inspect

_SHOWN = 10


@log.command("inspect")
@click.argument("url")
@click.option("--objects", default=OBJECTS_MAX, show_default=True, help="How many objects of each log are read.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
def log_inspect(url: str, objects: int, as_json: bool) -> None:
    """Inspect a bucket or folder at URL: layout, format, days, offsets, fields; prints a declaration to paste.

    All names are listed, and a sample of objects is read. Exits 1 where a log cannot be declared, saying why. Needs no
    project and writes nothing.
    """
    found = inspect(url, objects_max=objects)
    is_whole = bool(found.logs) and not found.strange and all(each.proposal for each in found.logs)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, default=str))
        sys.exit(not is_whole)
    console = view.console()
    title = f"{found.url}: {found.objects:,} objects, {found.size_bytes:,} bytes, {len(found.logs)} logs"
    console.print(view.cell(title), soft_wrap=True)
    for each in found.logs:
        _show(console, each)
    if found.strange:
        console.print(view.cell(f"Names that fit no layout, or are beyond the logs shown: {len(found.strange)}"))
    for name in found.strange[:_SHOWN]:
        console.print(view.cell(f"  {name}"), soft_wrap=True)
    if declaration := found.declaration():
        console.print(view.cell(f"\nFor a project with REFOLD_LANDING={found.url}, from {found.first_day or '?'}:\n"))
        click.echo(declaration)
    sys.exit(not is_whole)


def _show(console: Console, log: LogFound) -> None:
    where = f"{log.folder or '.'}{f' ({log.topic})' if log.topic else ''}"
    read = f"{len(log.sampled)} of {log.objects:,} objects read, {log.bytes_read:,} of {log.size_bytes:,} bytes"
    console.print()
    console.print(view.cell(f"{where}: {log.layout}; {read}"), soft_wrap=True)
    for what, counts in (("Formats", log.formats), ("Compression", log.compressions)):
        console.print(view.cell(f"{what}: {', '.join(f'{name} ({count})' for name, count in counts.items())}"))
    if log.keys:
        arrival = ", by the time of arrival" if log.by_arrival else ""
        console.print(view.cell(f"Days: {log.keys[0]} to {log.keys[-1]}{arrival}; missing: {_shown(log.missing)}"))
    ranges = [
        {
            "log partition": r.partition,
            "objects": r.objects,
            "first offset": r.first,
            "last start": r.last,
            "twice": _shown(r.repeated),
            "gaps": _shown([f"{one} to {other - 1}" for one, other in r.gaps]),
            "overlaps": _shown([f"{other} to {one - 1}" for one, other in r.overlaps]),
            "neighbours compared": r.compared,
        }
        for r in log.offsets
    ]
    if ranges:
        console.print(view.table("Offsets", ranges))
    if log.fields:
        console.print(view.table(f"{len(log.fields)} fields of the sample", map(field_json, log.fields)))
    if log.proposal is not None:
        found = log.proposal.found
        ids = ", ".join("+".join(names) for names in found.ids)
        console.print(view.cell(f"Candidates: key {_shown(found.keys)}; event id {ids or 'none'}"), soft_wrap=True)
        if found.spread:
            console.print(view.cell(f"No key, since values are in two log partitions: {_shown(found.spread)}"))
        console.print(view.cell(f"Times: {_shown(found.times)}"), soft_wrap=True)
    for reason in log.reasons:
        console.print(view.cell(f"Not covered: {reason}"), soft_wrap=True)


def _shown(values: object) -> str:
    found = [str(value) for value in values] if isinstance(values, (list, tuple)) else []
    return (", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")) or "none"
