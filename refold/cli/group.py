"""The command group of `refold`: how a project is found, and how errors are shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from refold import terminal as view
from refold.engine import Engine, open_engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.project import find_root, load_project


class _Commands(click.Group):
    """Shows Refold's errors as sentences, not as tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RefoldError as error:
            view.error(error)
            sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refold")
@click.option("--project", "root", type=click.Path(path_type=Path), help="Project folder; by default found upwards.")
@click.pass_context
def cli(context: click.Context, root: Path | None) -> None:
    """Rebuild every derived store by folding the log again, and prove that it is right."""
    context.obj = root


def open_project(context: click.Context) -> Engine:
    """The engine over the project of the working folder, or of --project."""
    root = find_root(context.obj)
    return open_engine(load_project(root), root)


def snapshot_of(engine: Engine, as_of: str | None) -> Snapshot:
    """The snapshot of a key; without one what is served, else the newest."""
    served = engine.releaser.current() if as_of is None else None
    return engine.chain.get(served.snapshot if served else as_of)
