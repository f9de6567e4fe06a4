"""`refold plan`: what a rebuild would do, why, and how long it would take; and how good earlier predictions were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from refold.cli import terminal as view
from refold.cli.audit import show_served
from refold.cli.group import THROUGH, cli, open_project
from refold.errors import RefoldError, Unproven
from refold.log.snapshot import Snapshot
from refold.plan.decisions import plan_rebuild, totals
from refold.plan.forecast import Forecast, bytes_text, forecast, resident_mb, seconds_text, sentences
from refold.plan.runs import RunRecord, Via, read_runs, runs_file
from refold.release.releaser import Releaser

_SHOWN = 20


@cli.command()
@click.option("--through", metavar="SNAPSHOT", help=THROUGH)
@click.option("--fresh", "--from-scratch", is_flag=True, help="Plan to ignore all checkpoints and fold from offset 0.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.option(
    "--history", is_flag=True, help="Show the predicted and the measured time of earlier rebuilds on this machine."
)
@click.pass_context
def plan(context: click.Context, through: str | None, fresh: bool, as_json: bool, history: bool) -> None:
    """Show what a rebuild would read, fold, prove and publish, and why, with seconds and memory; changes nothing.

    Also reads back what is served now, and says where it differs from what was proven, which sinks that the project
    no longer has will be withdrawn, and, once all is published, which sinks could not follow a release.
    """
    if history:
        _show_history(read_runs(), as_json)
        return
    engine = open_project(context)
    base = resident_mb()
    made = plan_rebuild(engine, through, fresh=fresh)
    expected = forecast(engine, made, read_runs(), Via.COMMAND, base_mb=base)
    served, former = engine.served.check(), engine.releaser.foretell_withdrawals()
    last = made.days[-1].snapshot
    refused = refusals(engine.releaser, last) if made.release and last is not None else []
    if as_json:
        more = {"served": [asdict(each) for each in served], "former_sinks": former, "refused": refused}
        click.echo(json.dumps({**as_object(expected), **more}, indent=2))
        return
    console = view.console()
    console.print(view.table(f"Plan of a rebuild through {made.through}", rows_of(expected)))
    for sentence in sentences(expected):
        console.print(view.cell(sentence), soft_wrap=True)
    if engine.chain.head is not None:
        view.skipped_and_stopped(engine, console)
    show_served(console, served)
    for sentence in [*former, *refused]:
        console.print(view.cell(sentence), soft_wrap=True)


def refusals(releaser: Releaser, snapshot: Snapshot) -> list[str]:
    """Why no release of a snapshot can be made, asked of every sink, for people; moves nothing.

    Empty where all sinks can follow, and where they cannot be asked yet: not all is proven and published.
    """
    try:
        releaser.require_followed(snapshot, ())
    except Unproven:
        return []
    except RefoldError as error:
        return [str(error)]
    return []


def rows_of(expected: Forecast) -> list[dict[str, Any]]:
    """The stages as rows to show."""
    return [
        {
            "step": stage.name,
            "": "does" if stage.due else "checks",
            "events": stage.events or None,
            "rows": stage.rows or None,
            "objects": stage.objects or None,
            "reads": bytes_text(stage.size_bytes) if stage.size_bytes else None,
            "expected": seconds_text(seconds),
            "why": "; ".join(stage.reasons) or None,
        }
        for stage, seconds in expected.stages
        if stage.due or seconds >= 0.0005
    ]


def as_object(expected: Forecast) -> dict[str, Any]:
    """The forecast for machines."""
    made = expected.plan
    steps = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "due": stage.due,
            "reasons": stage.reasons,
            "work": stage.work,
            "events": stage.events,
            "rows": stage.rows,
            "objects": stage.objects,
            "size_bytes": stage.size_bytes,
            "expected_seconds": round(seconds, 4),
        }
        for stage, seconds in expected.stages
    ]
    return {
        "through": made.through,
        "fresh": made.fresh,
        "nothing_to_do": made.nothing_to_do,
        **totals(made),
        "expected_seconds": round(expected.seconds, 3),
        "expected_peak_mb": round(expected.peak_mb, 1),
        "rates": expected.basis,
        "changed_sinks": made.changed_sinks,
        "release": made.release,
        "note": made.note,
        "early": made.early,
        "waiting": [asdict(each) for each in made.waiting],
        "steps": steps,
    }


def _show_history(runs: Sequence[RunRecord], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(run) for run in runs], indent=2))
        return
    rows = [
        {
            "ended": run.at,
            "project": run.project,
            "through": run.through,
            "by": run.via,
            "predicted": seconds_text(run.predicted_seconds),
            "took": seconds_text(run.seconds),
            "error": f"{run.error_percent:+.0f} %",
            "peak MB predicted": round(run.predicted_peak_mb),
            "peak MB": None if run.peak_mb is None else round(run.peak_mb),
            "rates": run.basis,
        }
        for run in runs[-_SHOWN:]
    ]
    title = f"{len(runs)} rebuilds on this machine" + (f", the last {_SHOWN}" if len(runs) > _SHOWN else "")
    console = view.console()
    console.print(view.table(title, rows))
    if runs:
        within = sum(abs(run.error_percent) <= 20 for run in runs)
        console.print(f"Within 20 % of the prediction: {within} of {len(runs)}.")
    console.print(view.cell(f"Kept in {runs_file()}"), style="dim", soft_wrap=True)
