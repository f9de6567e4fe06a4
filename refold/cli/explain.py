"""`refold explain`: how a store is computed, and what is compiled of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
from rich.console import Console

from refold.cli import terminal as view
from refold.cli.group import cli
from refold.config import Settings
from refold.engine import Engine
from refold.errors import NotFound, Unproven
from refold.explain.computation import Explanation, explain
from refold.project import Project, find_root, load_project
from refold.release.releaser import utc_now
from refold.storage.objects import ObjectStore
from refold.stores.declaration import Store


@cli.command("explain")
@click.argument("store")
@click.option("--source", is_flag=True, help="Print the generated source that is compiled, or the query, and no more.")
@click.pass_context
def explain_command(context: click.Context, store: str, source: bool) -> None:
    """Say how a STORE is computed: compiled or interpreted, and why, what it reads and shares."""
    root = find_root(context.obj)
    project = load_project(root)
    declared, console = project.store(store), view.console()
    found = explain(project, declared)
    if source:
        _print_source(found)
        return
    _print(found, console)
    for doubt in _doubts(project, root, declared):
        console.print(view.cell(f"Proven, and may not be meant: {doubt}"), soft_wrap=True)


def _doubts(project: Project, root: Path, store: Store) -> list[str]:
    """The doubts of the proof at the newest snapshot; none where nothing is stored or proven yet."""
    try:
        engine = Engine(
            project, Settings.from_environment(root), partial(ObjectStore.open, must_exist=True), now=utc_now()
        )
        return engine.prover.doubts(store, engine.chain.get())
    except (NotFound, Unproven):
        return []


def _print_source(found: Explanation) -> None:
    if found.source is None:
        why = f" {found.because}" if found.because else ""
        raise click.ClickException(f"Nothing is generated for store {found.store}: {found.how}{why}")
    click.echo(found.source)


def _print(found: Explanation, console: Console) -> None:
    console.print(view.cell(f"{found.store}: {found.how}"))
    if found.because is not None:
        console.print(view.cell(f"Why not compiled: {found.because}"), soft_wrap=True)
    if found.place is not None:
        console.print(view.cell(f"  {found.place}"), soft_wrap=True)
    if found.kept:
        console.print(view.cell(f"Compiled code: {found.kept}"), soft_wrap=True)
    console.print(view.cell(f"Code version {found.code_version}; its digits change with any of these:"))
    console.print(
        view.table("", [{"of": kind, "what": text} for kind, texts in found.fingerprint_of.items() for text in texts])
    )
    rows = [{"column": c.name, "type": c.type} for c in found.columns if c.of == "row"]
    console.print(view.table("The row", rows))
    segments = [
        {"column": c.name, "type": c.type, "read": "read" if c.read else None}
        for c in found.columns
        if c.of == "segment"
    ]
    if segments:
        console.print(view.table("A segment's columns, and those a fold reads", segments))
    console.print(view.cell("Inputs: " + "; ".join(found.inputs)), soft_wrap=True)
    if found.shared_with:
        others = ", ".join(found.shared_with)
        console.print(view.cell(f"One pass over the log folds, and another proves, this store together with: {others}"))
    console.print(view.cell(f"Repeats: {found.repeats}"))
