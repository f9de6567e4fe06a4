"""`refold log hot`, `order`, `audit` and `repartition`: how a log is spread over its partitions, and was delivered."""

from __future__ import annotations

import json
import sys

import click

import refold.cli.landing
import refold.cli.redact  # noqa: F401  # both register their commands of `refold log`
from refold.cli import terminal as view
from refold.cli.group import open_project
from refold.cli.log import log
from refold.seal.completeness import Gap
from refold.seal.repartition import Repartition
from refold.storage.objects import ObjectStore

_SHOWN = 50


@log.command("hot")
@click.argument("log", required=False)
@click.option("--as-of", metavar="SNAPSHOT", help="Up to this snapshot; by default the newest.")
@click.pass_context
def log_hot(context: click.Context, log: str | None, as_of: str | None) -> None:
    """Show the share of each log partition of LOG (default: all logs) in events, bytes and seconds, and heavy keys."""
    engine, console = open_project(context), view.console()
    snapshot = engine.chain.get(as_of)
    for each in engine.project.logs if log is None else [engine.project.log(log)]:
        with view.progress(console):
            found = engine.hot(each.name, snapshot)
        rows = [
            {
                "log partition": load.partition,
                "events": load.events,
                "share": f"{100 * load.events / max(found.events, 1):.1f} %",
                "bytes": load.size_bytes,
                "seconds": f"{load.seconds:.3f}",
            }
            for load in found.partitions
        ]
        title = f"Log {each.name} up to {snapshot.key}: the largest log partition has {found.skew:.2f} times the mean"
        console.print(view.table(title, rows))
        for line in found.picture():
            console.print(view.cell(line), soft_wrap=True)
        keys = [{"key": str(key), "log partition": place, "events": events} for key, place, events in found.keys]
        console.print(view.table("The keys with the most events", keys))


@log.command("repartition")
@click.argument("log")
@click.option("--partitions", type=click.IntRange(1, 1024), required=True, help="The new number of log partitions.")
@click.option("--into", metavar="PLACE", required=True, help="Where the new generation is made: a store of its own.")
@click.pass_context
def log_repartition(context: click.Context, log: str, partitions: int, into: str) -> None:
    """Make the snapshots again in another PLACE, with another number of log partitions of LOG; the store is only read.

    Every event, and the order of those of each key, is compared. Then declare `partitions`, give `REFOLD_STORE` the new
    place and rebuild there: stores are folded and proven again, and until its first release readers see what they saw.
    A rerun goes on where another ended. Exits 1 where the new log is not whole.
    """
    engine, console = open_project(context), view.console()
    target = ObjectStore.open(into)
    work = Repartition(engine.objects, engine.chain, target, engine.project.log(log), partitions)
    made = list(work.run())
    findings = work.verify()
    events = sum(each.events for each in made)
    made_of = f"{view.count(len(made), 'snapshot')}, {view.count(events, 'event')} of log {log}"
    console.print(f"{made_of}: the same events, in the same order by key.")
    for finding in findings:
        console.print(view.cell(finding), soft_wrap=True)
    if findings:
        sys.exit(1)


@log.command("order")
@click.argument("log", required=False)
@click.option("--as-of", metavar="SNAPSHOT", help="Up to this snapshot; by default the newest.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on each line, for machines, without a limit.")
@click.pass_context
def log_order(context: click.Context, log: str | None, as_of: str | None, as_json: bool) -> None:
    """List deliveries out of order, repeated and missing by the numbers of producers of LOG. Exits 1 on a finding.

    Also events later than `late_max` allows. By default of all logs that declare `numbered` or `late_max`.
    """
    engine, console = open_project(context), view.console()
    snapshot, any_found = engine.chain.get(as_of), False
    for name in [log] if log else [each.name for each in engine.project.logs if each.has_order]:
        found = engine.order_check(name).through(snapshot)
        any_found = any_found or bool(found)
        if as_json:
            for each in found:
                click.echo(json.dumps({"log": name, **vars(each)}, ensure_ascii=False))
            continue
        rows = [{"fault": f.fault, "snapshot": f.snapshot, "what": str(f)} for f in found[:_SHOWN]]
        console.print(view.table(f"Log {name} up to {snapshot.key}: {view.count(len(found), 'finding')}", rows))
    if any_found:
        sys.exit(1)


@log.command("audit")
@click.argument("log", required=False)
@click.option("--as-of", metavar="SNAPSHOT", help="Up to this snapshot; by default the newest.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on each line, for machines, without a limit.")
@click.pass_context
def log_audit(context: click.Context, log: str | None, as_of: str | None, as_json: bool) -> None:
    """List gaps and overlaps of source offsets, and snapshots without records or out of proportion, of LOG.

    By default of all logs. Offsets are those in the names of landing objects. Exits 1 on a gap or an overlap.
    """
    engine, console = open_project(context), view.console()
    snapshot, broken = engine.chain.get(as_of), False
    for each in engine.project.logs if log is None else [engine.project.log(log)]:
        found = engine.completeness(each.name, snapshot)
        broken = broken or any(finding.gap in (Gap.MISSING, Gap.OVERLAP) for finding in found.findings)
        if as_json:
            for finding in found.findings:
                click.echo(json.dumps({"log": each.name, **vars(finding)}, ensure_ascii=False))
            continue
        ranges = [
            {"log partition": r.partition, "objects": r.objects, "first offset": r.start, "last offset": r.end - 1}
            for r in found.ranges
        ]
        title = f"Log {each.name} up to {snapshot.key}: {found.without_offset} objects without an offset in their name"
        console.print(view.table(title, ranges))
        for line in found.picture():
            console.print(view.cell(line), soft_wrap=True)
        rows = [{"finding": f.gap, "place": f.place, "what": f.what} for f in found.findings[:_SHOWN]]
        console.print(view.table(f"{len(found.findings)} findings", rows))
    if broken:
        sys.exit(1)
