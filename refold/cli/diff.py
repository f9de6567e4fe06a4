"""`refold diff`: which rows and outcomes a changed rule would change, before anything is built by it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console

from refold.cli import terminal as view
from refold.cli.group import cli, open_project, snapshot_of
from refold.diff import summary
from refold.diff.against import two_sides
from refold.diff.compare import ComparedEvent, Comparer, Comparison
from refold.errors import FixInput, RefoldError
from refold.project import find_root

_ROWS_SHOWN = 20
_BEFORE_PARTING = 3


@cli.command()
@click.argument("store", required=False)
@click.option(
    "--against", default="HEAD", show_default=True, metavar="REF|MODULE[:STORE]", help="Whose declarations are the old."
)
@click.option("--as-of", metavar="SNAPSHOT", help="The snapshot to compare at; by default what is served, else newest.")
@click.option("--why", "keys", metavar="KEY", multiple=True, help="Show the events behind a key of STORE; repeatable.")
@click.option("--limit", default=_ROWS_SHOWN, show_default=True, help="How many changed keys, and events, to show.")
@click.option("--markdown", metavar="FILE", type=click.Path(allow_dash=True), help="Write a summary; - for output.")
@click.option("--json", "machine", metavar="FILE", type=click.Path(allow_dash=True), help="Write all of it as JSON.")
@click.option("--allow-changes", is_flag=True, help="Exit 0 also where something differs.")
@click.pass_context
def diff(
    context: click.Context,
    store: str | None,
    against: str,
    as_of: str | None,
    keys: tuple[str, ...],
    limit: int,
    markdown: str | None,
    machine: str | None,
    allow_changes: bool,
) -> None:
    """Compare a STORE (default: all) as declared here with what another git ref or module declares.

    Both rules fold the sealed log from offset 0 in memory; nothing is stored, and what is served stays. Parts of a
    KEY are separated by commas. Exits 0 where nothing differs, 1 where something does, 2 where the comparison fails.
    """
    if keys and store is None:
        raise click.UsageError("--why needs a STORE.")
    console = view.console(stderr="-" in (markdown, machine))
    try:
        engine = open_project(context)
        snapshot = snapshot_of(engine, as_of)
        with two_sides(engine, find_root(context.obj), snapshot, against, store) as (old, new, names):
            comparer = Comparer(engine.chain, snapshot, old, new)
            with view.progress(console):
                comparisons = comparer.compare(names, max(limit, 0))
            asked = summary.Asked(old.label, new.label, against)
            _show(console, comparisons, asked)
            for key in keys:
                _show_why(console, comparer, comparisons[0], key, limit)
    except RefoldError as error:
        view.error(error)
        sys.exit(2)
    _write(markdown, summary.markdown(comparisons, asked))
    _write(machine, summary.as_json(comparisons, asked))
    sys.exit(1 if any(each.differs for each in comparisons) and not allow_changes else 0)


def _write(file: str | None, text: str) -> None:
    if file is not None:
        with click.open_file(file, "w", encoding="utf-8") as to:
            to.write(text)


def _show(console: Console, comparisons: Sequence[Comparison], asked: summary.Asked) -> None:
    console.print(view.cell(f"Old: {asked.old}. New: {asked.new}."))
    if all(each.same for each in comparisons):
        console.print("Same code versions: nothing to compare.")
        return
    snapshot = comparisons[0].snapshot.key
    console.print(view.table(f"Compared at snapshot {snapshot}", [summary.overview(each) for each in comparisons]))
    differing = [each for each in comparisons if each.differs]
    for each in differing:
        _show_one(console, each)
    for outcome in summary.outcomes_of(differing):
        _table(console, summary.outcomes_sentence(outcome), summary.move_rows(outcome))
        first = [summary.event_row(outcome.first)] if outcome.first else []
        _table(console, summary.parting_sentence(outcome), first)


def _show_one(console: Console, comparison: Comparison) -> None:
    name = comparison.store
    if comparison.schema:
        _table(console, f"{name}: columns declared otherwise", summary.schema_rows(comparison))
    _table(console, f"{name}: {summary.changes_sentence(comparison)}", summary.change_rows(comparison))


def _show_why(console: Console, comparer: Comparer, comparison: Comparison, key: str, limit: int) -> None:
    if comparison.same:
        return
    for name, events in comparer.why(comparison, _parts_of(key, comparison)).items():
        start, shown = _window(events, limit)
        place = "" if len(shown) == len(events) else f", {len(shown)} from number {start + 1} on"
        apart = sum(event.parts for event in events)
        title = f"{name}: {len(events)} events behind {key!r}, {apart} with another answer{place}"
        _table(console, title, [summary.event_row(event) for event in shown])


def _window(events: Sequence[ComparedEvent], limit: int) -> tuple[int, Sequence[ComparedEvent]]:
    """The events to show: where the two rules part, and what came right before; else the last."""
    parting = next((place for place, event in enumerate(events) if event.parts), len(events))
    start = max(0, min(parting - _BEFORE_PARTING, len(events) - limit))
    return start, events[start : start + limit]


def _parts_of(key: str, comparison: Comparison) -> list[str]:
    """The parts of a key: the text itself, or where there are more, separated by commas and quoted as in CSV."""
    declared = comparison.new or comparison.old
    assert declared is not None
    parts = [key] if len(declared.key) == 1 else next(csv.reader([key]), [])
    if len(parts) != len(declared.key):
        raise FixInput(
            f"The key of {comparison.store!r} is ({', '.join(declared.key)}); found {len(parts)} values in {key!r}.",
            remedy="Separate them by commas, and quote a value that has one: --why '2011-01-31,\"Korea, South\"'.",
        )
    return parts


def _table(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table under its title, which may be wider than the table."""
    console.print(view.table(title, []), soft_wrap=True)
    if rows:
        console.print(view.table("", rows))
