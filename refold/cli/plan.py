"""`refold plan`: what a rebuild would do, why, and how long it would take; and how earlier plans came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.plan.decisions import plan_rebuild, totals
from refold.plan.forecast import Forecast, bytes_text, forecast, known_rates, resident_mb, seconds_text, sentences
from refold.plan.runs import Outcome, outcomes_file, read_outcomes

_SHOWN = 20


@cli.command()
@click.option("--through", metavar="SNAPSHOT", help="The last snapshot; by default the last folder in landing.")
@click.option("--fresh", "--from-scratch", is_flag=True, help="Plan to ignore all checkpoints and fold from offset 0.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.option("--history", is_flag=True, help="Show what earlier rebuilds on this machine were said to take, and took.")
@click.pass_context
def plan(context: click.Context, through: str | None, fresh: bool, as_json: bool, history: bool) -> None:
    """Say what a rebuild would read, fold, prove and publish, and why, with seconds and memory; changes nothing."""
    if history:
        _show_history(read_outcomes(), as_json)
        return
    engine = open_project(context)
    base = resident_mb()
    made = plan_rebuild(engine, through, fresh=fresh)
    expected = forecast(engine, made, known_rates(may_calibrate=True), base_mb=base, in_new_process=True)
    if as_json:
        click.echo(json.dumps(as_object(expected), indent=2))
        return
    console = view.console()
    console.print(view.table(f"Plan of a rebuild through {made.through}", rows_of(expected)))
    for sentence in sentences(expected):
        console.print(view.cell(sentence), soft_wrap=True)


def rows_of(expected: Forecast) -> list[dict[str, Any]]:
    """The steps as rows to show."""
    return [
        {
            "step": step.name,
            "": "does" if step.due else "checks",
            "events": step.events or None,
            "rows": step.rows or None,
            "objects": step.objects or None,
            "reads": bytes_text(step.size_bytes) if step.size_bytes else None,
            "expected": seconds_text(seconds),
            "why": "; ".join(step.reasons) or None,
        }
        for step, seconds in expected.steps
        if step.due or seconds >= 0.0005
    ]


def as_object(expected: Forecast) -> dict[str, Any]:
    """The forecast for machines."""
    made = expected.plan
    steps = [{**asdict(step), "expected_seconds": round(seconds, 4)} for step, seconds in expected.steps]
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
        "steps": steps,
    }


def _show_history(outcomes: Sequence[Outcome], as_json: bool) -> None:
    runs = [outcome for outcome in outcomes if outcome.via != "calibration"]
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in runs], indent=2))
        return
    rows = [
        {
            "ended": outcome.at,
            "project": outcome.project,
            "through": outcome.through,
            "by": outcome.via,
            "predicted": seconds_text(outcome.predicted_seconds),
            "took": seconds_text(outcome.seconds),
            "error": f"{outcome.error_percent:+.0f} %",
            "peak MB predicted": round(outcome.predicted_peak_mb),
            "peak MB": None if outcome.peak_mb is None else round(outcome.peak_mb),
            "rates": outcome.basis,
        }
        for outcome in runs[-_SHOWN:]
    ]
    title = f"{len(runs)} rebuilds on this machine" + (f", the last {_SHOWN}" if len(runs) > _SHOWN else "")
    console = view.console()
    console.print(view.table(title, rows))
    if runs:
        within = sum(abs(outcome.error_percent) <= 20 for outcome in runs)
        console.print(f"Within 20 % of what was said: {within} of {len(runs)}.")
    console.print(view.cell(f"Kept in {outcomes_file()}"), style="dim", soft_wrap=True)
