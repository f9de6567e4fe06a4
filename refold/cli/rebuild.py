"""`refold sample` and `refold rebuild`: a landing folder to try, and the main job without Dagster."""

from __future__ import annotations

from pathlib import Path

import click

from refold.cli import terminal as view
from refold.cli.group import THROUGH, cli, open_project
from refold.errors import NotFound
from refold.plan.forecast import foreseen
from refold.project import find_root, load_project
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import CountingStore


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
@click.option("--through", metavar="SNAPSHOT", help=THROUGH)
@click.option("--from-scratch", is_flag=True, help="Ignore all checkpoints and fold from offset 0.")
@click.pass_context
def rebuild(context: click.Context, through: str | None, from_scratch: bool) -> None:
    """Seal, fold, prove, publish and release everything, without Dagster."""
    opened: list[CountingStore] = []

    def counted(store: ObjectStore) -> ObjectStore:
        opened.append(CountingStore(store))
        return opened[-1]

    engine, console = open_project(context, counted), view.console()
    lines: list[str] = []
    with view.progress(console):
        snapshot = foreseen(engine, through, fresh=from_scratch, report=lines.append)
    view.summary(engine, snapshot, console)
    lines += [f"Requests of {each.url}: {each.requests}" for each in opened if each.probe_key is not None]
    for line in lines:
        console.print(view.cell(line), soft_wrap=True)
