"""`refold locks`: who holds which lease, since when and with which token; and taking one away."""

from __future__ import annotations

import click

from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.engine import Engine
from refold.errors import FixInput
from refold.leases.leases import Leases


@cli.group(invoke_without_command=True)
@click.pass_context
def locks(context: click.Context) -> None:
    """Show the leases of sealing, pruning and publishing: who holds them, how long, and with which token."""
    if context.invoked_subcommand is not None:
        return
    engine, console = open_project(context), view.console()
    found = _leases(engine).shown()
    rows = [
        {
            "lease": each.name,
            "holder": each.damage or each.record.holder or None,
            "token": each.record.token,
            "age (s)": None if each.age_seconds is None else round(each.age_seconds),
            "silent at most (s)": each.record.seconds if each.record.holder else None,
            "pending": each.record.pending.name if each.record.pending else None,
            "broken": each.record.note or None,
        }
        for each in found
    ]
    held = sum(bool(each.record.holder) for each in found)
    console.print(view.table(f"{held} of {len(found)} leases are held; kept in {_leases(engine).register.place}", rows))


@locks.command("break")
@click.argument("name")
@click.option("--reason", required=True, help="Why; goes into its record.")
@click.option("--by", required=True, help="Who; goes into its record.")
@click.pass_context
def locks_break(context: click.Context, name: str, reason: str, by: str) -> None:
    """Take lease NAME from its holder, whose commits, deletes and sink writes are refused from then on."""
    engine, console = open_project(context), view.console()
    former = _leases(engine).break_lease(name, reason, by)
    console.print(view.cell(f"Broken: lease {name}, held by {former.holder or 'nobody'} with token {former.token}."))


def _leases(engine: Engine) -> Leases:
    if engine.leases is None:
        raise FixInput(
            "This project has no leases, so nobody holds any.",
            remedy="REFOLD_LEASES=store keeps them in the object store, and the URL of a database in that database.",
        )
    return engine.leases
