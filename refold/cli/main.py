"""The commands of `refold`. Each opens the project of the working folder, calls the engine, and shows the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from refold import terminal as view
from refold.engine import Engine, open_engine
from refold.errors import NotFound, RefoldError
from refold.log.snapshot import Snapshot
from refold.project import find_root, load_project
from refold.rebuild import rebuild_all
from refold.sinks import Tantivy
from refold.stores.declaration import Store
from refold.why import Step

_ROWS_SHOWN = 50


class _Commands(click.Group):
    """Shows Refold's errors as sentences, not as tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RefoldError as error:
            view.console(stderr=True).print(f"[bold red]{error.kind}[/bold red]", view.cell(str(error)), soft_wrap=True)
            sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refold")
@click.option("--project", "root", type=click.Path(path_type=Path), help="Project folder; by default found upwards.")
@click.pass_context
def cli(context: click.Context, root: Path | None) -> None:
    """Rebuild every derived store by folding the log again, and prove that it is right."""
    context.obj = root


def _engine(context: click.Context) -> Engine:
    root = find_root(context.obj)
    return open_engine(load_project(root), root)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--late", is_flag=True, help="Add the object that arrives late, into a folder that was sealed before.")
@click.pass_context
def sample(context: click.Context, folder: Path | None, late: bool) -> None:
    """Write the project's sample landing folder; the same bytes on every machine."""
    root = find_root(context.obj)
    project = load_project(root)
    if project.sample is None:
        raise NotFound(f"The project {project.name!r} has no sample.", remedy="Declare Project(sample=...).")
    target = folder or root / ".refold" / "landing"
    summary = project.sample(target, late)
    console = view.console()
    console.print(f"Wrote the sample to {target}")
    counts = getattr(summary, "counts", None)
    if counts:
        console.print(view.table("What it holds", [{"kind": kind, "records": n} for kind, n in counts.items()]))


@cli.command()
@click.option("--through", metavar="SNAPSHOT", help="The last snapshot; by default the last folder in landing.")
@click.option("--from-scratch", is_flag=True, help="Ignore all checkpoints and fold from offset 0.")
@click.pass_context
def rebuild(context: click.Context, through: str | None, from_scratch: bool) -> None:
    """Seal, fold, prove, publish and release everything, without Dagster."""
    engine, console = _engine(context), view.console()
    with view.progress(console):
        snapshot = rebuild_all(engine, through, fresh=from_scratch)
    view.summary(engine, snapshot, console)


@cli.group()
def log() -> None:
    """The sealed logs."""


@log.command("ls")
@click.option("--limit", default=20, show_default=True, help="How many of the newest snapshots to list.")
@click.pass_context
def log_ls(context: click.Context, limit: int) -> None:
    """List snapshots: key, identity, and for each log its events, quarantine and late objects."""
    engine, console = _engine(context), view.console()
    snapshots = list(engine.chain)
    rows = []
    for snapshot in snapshots[-limit:]:
        row: dict[str, Any] = {"snapshot": snapshot.key, "id": snapshot.id[:12]}
        for name, cut in snapshot.logs.items():
            row[f"{name} +"] = cut.events
            row[f"{name} total"] = cut.seq_end
        row["quarantined"] = sum(cut.quarantined for cut in snapshot.logs.values())
        row["late objects"] = sum(o.late for cut in snapshot.logs.values() for o in cut.objects)
        rows.append(row)
    console.print(view.table(f"{len(snapshots)} snapshots, the newest {len(rows)}", rows))


@log.command("verify")
@click.option("--as-of", metavar="SNAPSHOT", help="Verify up to this snapshot; by default the newest.")
@click.pass_context
def log_verify(context: click.Context, as_of: str | None) -> None:
    """Check every segment: hashes, offsets, order, content, keys, accounting. Exits 1 on a finding."""
    engine, console = _engine(context), view.console()
    snapshot = engine.chain.get(as_of)
    with view.progress(console):
        findings = [
            finding
            for each in engine.project.logs
            for _, found in engine.verify_log(each.name, snapshot)
            for finding in found
        ]
    if findings:
        rows = [{"check": f.check, "snapshot": f.snapshot, "where": f.where, "message": f.message} for f in findings]
        console.print(view.table(f"{len(findings)} findings", rows))
        sys.exit(1)
    console.print(f"The logs are whole up to snapshot {snapshot.key}: no findings.")


@cli.command()
@click.argument("store")
@click.argument("key", nargs=-1)
@click.option("--as-of", metavar="SNAPSHOT", help="The snapshot to show; by default what is served, else the newest.")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many rows to show without a key.")
@click.pass_context
def show(context: click.Context, store: str, key: tuple[str, ...], as_of: str | None, limit: int) -> None:
    """Show the rows of a STORE, or the row of a KEY, at a snapshot."""
    engine, console = _engine(context), view.console()
    declared = engine.project.store(store)
    snapshot = _snapshot(engine, as_of)
    rows = engine.rows(declared, snapshot)
    if key:
        rows = _with_key(declared, rows, key)
        if len(rows) == 0:
            raise NotFound(f"Store {store!r} has no row {' '.join(map(repr, key))} at snapshot {snapshot.key}.")
    title = f"{store} at snapshot {snapshot.key}: {len(rows):,} rows" + (
        f", the first {limit}" if len(rows) > limit else ""
    )
    console.print(view.table(title, rows.slice(0, limit).to_pylist(), rows.column_names))


def _snapshot(engine: Engine, as_of: str | None) -> Snapshot:
    served = engine.releaser.current() if as_of is None else None
    return engine.chain.get(served.snapshot if served else as_of)


def _with_key(store: Store, rows: pa.Table, key: Sequence[str]) -> pa.Table:
    if len(key) != len(store.key):
        raise click.UsageError(f"The key of {store.name} is {' '.join(store.key)}; found {len(key)} values.")
    for name, value in zip(store.key, key, strict=True):
        rows = rows.filter(pc.equal(pc.fill_null(pc.cast(rows[name], pa.string()), ""), value))
    return rows


@cli.command()
@click.argument("store")
@click.argument("key", nargs=-1, required=True)
@click.option("--as-of", metavar="SNAPSHOT", help="Explain the value at this snapshot; by default what is served.")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many of the last events to show.")
@click.pass_context
def why(context: click.Context, store: str, key: tuple[str, ...], as_of: str | None, limit: int) -> None:
    """Show the events behind the row of a KEY: place in the log, outcome, running value."""
    engine, console = _engine(context), view.console()
    declared = engine.project.store(store)
    snapshot = _snapshot(engine, as_of)
    steps = list(engine.explainer.why(declared, list(key), snapshot))
    for name in dict.fromkeys(step.store for step in steps):
        mine = [step for step in steps if step.store == name]
        title = f"{name}: {len(mine)} events up to snapshot {snapshot.key}" + (
            f", the last {limit}" if len(mine) > limit else ""
        )
        console.print(view.table(title, [_step_row(step) for step in mine[-limit:]]))
        console.print(view.cell("Segments: " + ", ".join(dict.fromkeys(step.segment for step in mine[-limit:][-5:]))))


def _step_row(step: Step) -> dict[str, Any]:
    return {
        "log_seq": step.log_seq,
        "place": f"{step.log_partition}:{step.log_offset}",
        "landed as": step.origin,
        **{name: None if value is None else str(value) for name, value in step.event.items()},
        "outcome": step.outcome + (f" ({step.reason})" if step.reason else ""),
        **({} if step.after is None else {"after": ", ".join(f"{n}={v}" for n, v in step.after.items())}),
    }


@cli.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", default=10, show_default=True, help="How many documents to show.")
@click.pass_context
def search(context: click.Context, words: tuple[str, ...], limit: int) -> None:
    """Search the released documents for WORDS."""
    engine, console = _engine(context), view.console()
    found = [(store, sink) for store in engine.project.stores for sink in store.sinks if isinstance(sink, Tantivy)]
    if not found:
        raise NotFound(f"The project {engine.project.name!r} has no search index.")
    served = engine.releaser.current()
    if served is None:
        raise NotFound("Nothing has been released yet.", remedy="Run a rebuild first.")
    for store, sink in found:
        target = sink.open(engine.publisher.connections, store.name, store.key, store.columns)
        hits = target.search(" ".join(words), limit=limit, version=served.versions[store.name])
        rows = [{"score": f"{hit.score:.2f}", **hit.document} for hit in hits]
        console.print(view.table(f"{sink.name} at snapshot {served.snapshot}: {len(rows)} documents", rows))


@cli.group()
def quarantine() -> None:
    """The landing records that could not become events."""


@quarantine.command("ls")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many records to show.")
@click.pass_context
def quarantine_ls(context: click.Context, limit: int) -> None:
    """List quarantined records: snapshot, object, line, reason, and the beginning of the raw bytes."""
    engine, console = _engine(context), view.console()
    items = engine.quarantine()
    rows = [
        {
            "snapshot": item.snapshot,
            "object": item.object,
            "line": item.record.line,
            "reason": item.record.reason,
            "detail": item.record.detail,
            "raw": repr(item.record.raw[:60])[2:-1] + ("…" if len(item.record.raw) > 60 else ""),
        }
        for item in items[:limit]
    ]
    console.print(view.table(f"{len(items)} records in quarantine", rows))


@quarantine.command("retry")
@click.pass_context
def quarantine_retry(context: click.Context) -> None:
    """Decode all of them again under today's declarations; those that read now enter the next snapshot."""
    engine, console = _engine(context), view.console()
    found = engine.retry_quarantine()
    console.print(
        view.table("Now readable, in the next snapshot", [{"log": n, "records": len(i)} for n, i in found.items()])
    )
