"""`refold log redact` and `refold log redactions`: sealed events put aside or erased, and the record of it."""

from __future__ import annotations

import sys
from typing import Any

import click

from refold.cli import terminal as view
from refold.cli.group import open_project
from refold.cli.log import log
from refold.engine import Engine
from refold.log.redactions import Redaction
from refold.seal.redacting import Redactor, Selection
from refold.storage.names import is_retry, places_of

_SHOWN = 50


@log.command("redact")
@click.argument("log_name", metavar="LOG")
@click.option("--event", "ids", multiple=True, metavar="ID", help="The event of this id; once for each id column.")
@click.option("--place", metavar="PARTITION:OFFSET", help="The event at this place, such as 0:7.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="All events of this key; once for each key column.")
@click.option("--erase", is_flag=True, help="Erase the values as well; without this the events stay as they are.")
@click.option("--column", "columns", multiple=True, help="Erase only this column; the events still count. Repeatable.")
@click.option("--reason", required=True, help="Why; goes into the record.")
@click.option("--by", required=True, help="Who; goes into the record.")
@click.option("--yes", "doing", is_flag=True, help="Do it. Without this nothing is changed.")
@click.pass_context
def log_redact(
    context: click.Context, log_name: str, ids: tuple[str, ...], place: str | None, keys: tuple[str, ...], erase: bool,
    columns: tuple[str, ...], reason: str, by: str, doing: bool,
) -> None:  # fmt: skip
    """Put sealed events of LOG aside, or erase them, by a record; shows the events unless --yes is given.

    From the first of them on the log has another identity, and all stores are folded and proven again; then the keys
    that moved are listed by store. Readers keep what they see until the next release. The old segments, states and
    versions go with `refold prune --keep 1 --older-than 0 --apply`, objects a day later. Landing, retries and
    quarantine are not changed; objects that hold the events are listed. Exits 1 where a key moved that no redacted
    event has.
    """
    engine, console = open_project(context), view.console()
    engine.require_anchored()
    redactor = engine.redactor(log_name)
    if columns and not erase:
        raise click.UsageError("--column erases: give --erase as well.")
    chosen = _chosen(redactor, ids, place, keys, erase)
    found = [{"snapshot": key, "place": f"{p}:{o}"} for key, places in chosen.places.items() for p, o in places]
    console.print(view.table(f"To be redacted: {view.count(len(found), 'event')} of log {log_name}", found[:_SHOWN]))
    _show_copies(redactor, chosen)
    if not doing:
        console.print(view.cell("Nothing was changed. `--yes` does it."))
        return
    own: dict[str, Any] = {"reason": reason, "by": by, "at": engine.now}
    redaction = redactor.erasing(chosen, columns, **own) if erase else redactor.excluding(chosen, **own)
    redactor.commit(redaction)
    console.print(view.cell(f"Recorded: {redaction}"))
    _show_moved(engine.reopened(), redaction, chosen)


def _show_copies(redactor: Redactor, chosen: Selection) -> None:
    """Name the objects that hold the events as they came, which no redaction changes."""
    retries = [name for name in chosen.sources if is_retry(name)]
    landed = [name for name in chosen.sources if not is_retry(name)]
    rows = [{"object": name, "what to do": "remove it from landing, or the lines of these events"} for name in landed]
    kept = f"no command removes it; the object beside it, {places_of('NAME')}, names its objects of landing"
    rows += [{"object": name, "what to do": kept} for name in retries]
    console = view.console()
    console.print(view.table("They are still in the objects that they came from", rows))
    quarantined = redactor.quarantined()
    if quarantined:
        console.print(view.cell(
            f"Quarantine holds raw records that name no event: look for the subject with `refold quarantine ls "
            f"{redactor.log.name}` in {', '.join(quarantined)}."
        ))  # fmt: skip


def _chosen(
    redactor: Redactor, ids: tuple[str, ...], place: str | None, keys: tuple[str, ...], erase: bool
) -> Selection:
    if sum(map(bool, (ids, place, keys))) != 1:
        raise click.UsageError("Expected one of --event, --place and --key.")
    if place is None:
        names = redactor.log.id_columns if ids else redactor.log.key_columns
        return redactor.with_values(names, ids or keys, erase=erase)
    partition, _, offset = place.partition(":")
    if not (place.isascii() and partition.isdecimal() and offset.isdecimal()):
        raise click.UsageError(f"Expected log partition and offset, such as 0:7, found {place!r}.")
    return redactor.at((int(partition), int(offset)), erase=erase)


def _show_moved(engine: Engine, redaction: Redaction, chosen: Selection) -> None:
    """Rebuild, and list the keys that moved."""
    console = view.console()
    with view.progress(console):
        moved = list(engine.moved_by(redaction, chosen.keys))
    rows = [
        {
            "store": each.store.name,
            "keys that moved": "not built before" if each.keys is None else len(each.keys),
            "which": ", ".join(map(str, (each.keys or ())[:_SHOWN])) or None,
            "of other keys": len(each.others),
        }
        for each in moved
    ]
    console.print(view.table("Compared with before, every store proven again", rows))
    console.print(view.cell("Readers see it after `refold rebuild`, which releases."))
    if any(each.others for each in moved):
        sys.exit(1)


@log.command("redactions")
@click.pass_context
def log_redactions(context: click.Context) -> None:
    """List the redactions: when, who, which events, why."""
    engine, console = open_project(context), view.console()
    rows = [
        {
            "redaction": each.number,
            "at": each.at,
            "by": each.by,
            "log": each.log,
            "what": "erased" if each.erased else "excluded",
            "columns": ", ".join(each.columns) or "all",
            "events": each.events,
            "snapshots": ", ".join(key for key in each.cuts if each.changes(key)),
            "reason": each.reason,
        }
        for each in engine.chain.redactions
    ]
    console.print(view.table(f"{len(rows)} redactions", rows))
