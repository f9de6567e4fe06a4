"""`refold report`: one page of HTML about a release, which loads nothing from elsewhere.

It says what is served and on which proof it rests, what changed since the release before, what is in quarantine, how
many events each log has by snapshot, and which keys have the most. What comes from landing is shown as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from refold.base.outside import printable
from refold.cli import terminal as view
from refold.cli.group import cli, open_project
from refold.engine import Engine
from refold.errors import NotFound, RefoldError
from refold.log.declaration import POSITION
from refold.log.snapshot import Snapshot
from refold.release.pointer import Release
from refold.release.reader import OpenRelease
from refold.sinks.connections import Connections

_KEYS_SHOWN = 10
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: .5em 0 1.5em } th, td { padding: .2em .8em; border-bottom: 1px solid #ddd }
th { text-align: left; color: #666; font-weight: normal } td.n { text-align: right } td { overflow-wrap: anywhere }
h2 { margin-top: 1.5em } svg { display: block; margin: .5em 0 1.5em } .event { fill: #4878a8 } .bad { fill: #c44e52 }
"""


@cli.command()
@click.argument("number", type=int, required=False)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="report.html", show_default=True)
@click.pass_context
def report(context: click.Context, number: int | None, out: Path) -> None:
    """Write a page of HTML about a release, by default the one that is served: proofs, changes, quarantine, keys."""
    engine = open_project(context)
    pointer = engine.releaser.pointer
    found = pointer.current() if number is None else pointer.get(number)
    if found is None:
        raise NotFound("Nothing has been released yet.", remedy="Run a rebuild first.")
    out.write_text(page(engine, found), encoding="utf-8")
    view.console().print(view.cell(f"Wrote {out}, about {found}."))


def page(engine: Engine, release: Release) -> str:
    """The page about a release. Rows of a release that cannot be read any more are said to be so."""
    snapshot = engine.chain.get(release.snapshot)
    title = f"{engine.project.name}: {release}"
    parts = [
        *_served(engine, release),
        *_changed(engine, release),
        *_quarantined(engine, snapshot),
        *(line for log in engine.project.logs for line in _log(engine, log.name, snapshot)),
    ]
    head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
    return (
        f"{head}<style>{_STYLE}</style></head><body>\n<h1>{_text(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _served(engine: Engine, release: Release) -> Iterable[str]:
    rows = []
    for store, version in release.versions.items():
        proof = engine.prover.proofs.standing(release.proofs[store])
        rows.append(
            {
                "store": store,
                "snapshot": release.position_of(store).snapshot,
                "sinks": ", ".join(sink.title for sink in release.sinks.get(store, ())),
                "version": version,
                "proven by": proof.method if proof else "its proof is gone: run `refold verify`",
                "events replayed": proof.events if proof else None,
                "rows": proof.rows if proof else None,
                "digest of its state": proof.state_digest if proof else None,
            }
        )
    yield "<h2>What is served</h2>"
    yield f"<p>Snapshot {_text(release.snapshot_id)}. A proof says that a store equals a replay of its log there.</p>"
    yield _table(rows)


def _changed(engine: Engine, release: Release) -> Iterable[str]:
    yield "<h2>What changed</h2>"
    before = next((r for r in engine.releaser.pointer.newest_first() if _precedes(r, release)), None)
    if before is None:
        yield "<p>This is the first release.</p>"
        return
    opened = [OpenRelease(each, Connections(engine.objects, engine.settings.sink_places)) for each in (before, release)]
    stores = [store for store in release.versions if store in before.versions]
    yield f"<p>Rows by key, since {_text(str(before))}.</p>"
    yield _table([_difference(store, *opened) for store in stores])
    other = sorted({*release.versions} ^ {*before.versions})
    if other:
        yield f"<p>Only in one of them: {_text(', '.join(other))}.</p>"


def _precedes(earlier: Release, release: Release) -> bool:
    return earlier.number < release.number and earlier.content != release.content


def _difference(store: str, before: OpenRelease, after: OpenRelease) -> dict[str, Any]:
    """How many of the rows that are served were added, removed and changed, without their positions in the log."""
    try:
        old, new = (_by_key(each.release.sinks[store][0].key, each.rows(store)) for each in (before, after))
    except RefoldError as error:
        return {"store": store, "added": None, "removed": None, "changed": None, "unchanged": None, "why": str(error)}
    return {
        "store": store,
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "changed": sum(key in old and old[key] != row for key, row in new.items()),
        "unchanged": sum(key in old and old[key] == row for key, row in new.items()),
        "why": "",
    }


def _by_key(key: Sequence[str], rows: pa.Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    names = [name for name in rows.column_names if name not in POSITION]
    return {tuple(row[name] for name in key): row for row in rows.select(names).to_pylist()}


def _quarantined(engine: Engine, snapshot: Snapshot) -> Iterable[str]:
    counts = Counter((each.log, each.record.reason) for each in engine.quarantine(snapshot))
    yield "<h2>Quarantine</h2>"
    yield (
        _table([{"log": log, "reason": reason, "records": count} for (log, reason), count in sorted(counts.items())])
        if counts
        else "<p>No record of landing is in quarantine.</p>"
    )


def _log(engine: Engine, log: str, snapshot: Snapshot) -> Iterable[str]:
    hot = engine.hot(log, snapshot)
    yield f"<h2>Log {_text(log)}</h2>"
    days = [(each.key, each.cut(log)) for each in engine.chain.through(snapshot.key)]
    yield _plot([(key, cut.read - cut.quarantined, cut.quarantined) for key, cut in days])
    keys = [{"key": key, "events": events, "log partition": place} for key, place, events in hot.keys[:_KEYS_SHOWN]]
    yield "<p>The keys with the most events:</p>" + _table(keys)


def _plot(days: Sequence[tuple[str, int, int]]) -> str:
    """Records read by snapshot, as bars: events, and above them what is in quarantine."""
    highest = max((events + bad for _, events, bad in days), default=0) or 1
    width = 900 / max(len(days), 1)
    bars = []
    for place, (key, events, bad) in enumerate(days):
        above, below = 120 * bad / highest, 120 * events / highest
        box = f'x="{place * width:.2f}" width="{width * 0.9:.2f}"'
        said = f"<title>{_text(key)}: {events} events, {bad} in quarantine</title>"
        bars.append(f'<rect class="event" {box} y="{120 - below:.2f}" height="{below:.2f}">{said}</rect>')
        bars.append(f'<rect class="bad" {box} y="{120 - below - above:.2f}" height="{above:.2f}">{said}</rect>')
    ends = f"{days[0][0]} to {days[-1][0]}" if days else "no snapshot"
    caption = f"<p>Records by snapshot, {_text(ends)}; the highest bar is {highest}.</p>"
    size = 'viewBox="0 0 900 120" width="100%" height="120" preserveAspectRatio="none"'
    return f"{caption}<svg {size}>{''.join(bars)}</svg>"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{_text(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "<td>–</td>"
    return f'<td class="n">{value}</td>' if type(value) is int else f"<td>{_text(str(value))}</td>"


def _text(text: str) -> str:
    return escape(printable(text))
