"""Terminal output: tables, progress with rows per second and time left, the closing summary.

Every command prints through `console`, which with `--json` writes JSON instead: see `refold.cli.machine`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from refold.base.outside import printable, printable_lines
from refold.base.progress import Progress, watching
from refold.cli.machine import MachineConsole, MachineTable, as_json
from refold.engine import Engine
from refold.errors import NotFound, RefoldError, RefusedLanding
from refold.log.snapshot import Snapshot
from refold.rules.outcome import Outcome
from refold.seal.sealer import Sealer
from refold.seal.sealing import shortened
from refold.stores.declaration import Folded, Store

_WIDE = 140
"""From how many columns on a row of many columns is shown in one line."""


class _Rate(ProgressColumn):
    """Rows per second so far."""

    def render(self, task: Task) -> Text:
        rows, seconds = task.fields.get("rows", 0), task.finished_time or task.elapsed or 0
        return Text(f"{rows:,} rows  {rows / seconds:,.0f}/s" if rows and seconds else f"{rows:,} rows", style="cyan")


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or of 160 columns where there is none; with `--json` one for machines."""
    if as_json():
        return MachineConsole(stderr=stderr)
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160)


def error(problem: RefoldError) -> None:
    """An error on standard error, as `lines` shows it."""
    lines(console(stderr=True), [problem])


def lines(to: Console, problems: Iterable[RefoldError]) -> None:
    """Errors, each as its kind, its sentences and its notes, line by line."""
    for problem in problems:
        if isinstance(to, MachineConsole):
            to.print(problem)
            continue
        shown = "\n".join([str(problem), *getattr(problem, "__notes__", ())]).splitlines()
        to.print(Text(problem.kind, "bold red"), *map(cell, shown), sep="\n", soft_wrap=True)


@contextmanager
def progress(console: Console) -> Iterator[None]:
    """Show a progress bar for every piece of work that reports progress while the block runs.

    Where the output is not a terminal, work that takes long is reported in lines on standard error.
    """
    if not console.is_terminal:
        with watching(ProgressLines(lambda line: print(line, file=sys.stderr), time.monotonic)):
            yield
        return
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Bars(*columns, console=console, refresh_per_second=4) as bars:
        tasks: dict[str, Any] = {}

        def watch(now: Progress) -> None:
            if now.label not in tasks:
                tasks[now.label] = bars.add_task(now.label, total=now.total)
            bars.update(tasks[now.label], completed=now.done, total=now.total, rows=now.rows)

        with watching(watch):
            yield


class ProgressLines:
    """A line for each piece of work at most every ten seconds; none for what takes less."""

    EVERY_SECONDS = 10.0

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._last: dict[str, float] = {}

    def __call__(self, now: Progress) -> None:
        """Report it, if it is time."""
        last = self._last.setdefault(now.label, self._clock())
        if self._clock() - last >= self.EVERY_SECONDS:
            self._last[now.label] = self._clock()
            self._write(printable(f"{now.label}: {now.done} of {now.total}, {now.rows} rows"))


def records(title: str, rows: Iterable[Mapping[str, Any]], to: Console) -> None:
    """Rows as a table where the terminal is wide enough for many columns, else a line for each value."""
    found = list(rows)
    if isinstance(to, MachineConsole) or (to.is_terminal and to.width >= _WIDE):
        to.print(table(title, found))
        return
    to.print(Text(printable(title), "bold"))
    for row in found:
        width = max(map(len, row))
        to.print()
        for name, value in row.items():
            to.print(Text(f"  {name:<{width}}  ") + cell(value), soft_wrap=True)


def table(title: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> RenderableType:
    """A table of rows under its title, or the title where there are none.

    Numbers are right-aligned, and nothing is parsed as markup.
    """
    found = list(rows)
    if as_json():
        return MachineTable(title, found, columns)
    if not found:
        return Text(printable(title), "bold")
    names = list(columns or dict.fromkeys(name for row in found for name in row))
    shown = Table(header_style="dim", box=box.SIMPLE_HEAD)
    for name in names:
        numeric = all(isinstance(row.get(name), int) or row.get(name) is None for row in found)
        shown.add_column(name, justify="right" if numeric and found else "left", overflow="fold")
    for row in found:
        shown.add_row(*(cell(row.get(name)) for name in names))
    return Group(Text(printable(title), "bold"), shown)  # a title of the table's own is wrapped to its width


def count(number: int, noun: str) -> str:
    """A number of things, such as `1 record` or `2 records`."""
    return f"{cell(number)} {noun}{'' if number == 1 else 's'}"


def cell(value: Any) -> Text:
    """One value as text: null as a dash, text by its characters with control characters escaped.

    Thousands are separated on a terminal alone.
    """
    if value is None:
        return Text("–", style="dim")
    if isinstance(value, bool) or not isinstance(value, int):
        return Text(printable(str(value)))
    return Text(f"{value:,}" if sys.stdout.isatty() else str(value))


def summary(engine: Engine, snapshot: Snapshot, console: Console) -> None:
    """What was rebuilt: snapshots, events, outcomes, quarantine, stores with digests and proofs, where to look next."""
    snapshots = engine.chain.through(snapshot.key)
    distinct = len({each.id for each in snapshots})
    console.print(
        f"\n[bold]{distinct} snapshots[/bold] under {len(snapshots)} keys, {snapshots[0].key} to {snapshot.key}"
        f" ({len(snapshots) - distinct} days without events)"
    )
    stores = engine.project.in_order
    console.print(table("Logs", [_log_row(log.name, snapshots) for log in engine.project.logs]))
    console.print(table("Outcomes of events", [_outcome_row(engine, s, snapshot) for s in engine.project.folded]))
    console.print(table("Stores, each equal to full replay", [_store_row(engine, s, snapshot) for s in stores]))
    reasons = Counter((q.log, q.record.reason) for q in engine.quarantine(snapshot))
    if reasons:
        rows = ({"log": log, "reason": reason, "records": count} for (log, reason), count in sorted(reasons.items()))
        console.print(table("Quarantine", rows))
    waiting(engine, console)
    served = engine.releaser.current()
    if served is not None:
        console.print(f"Served: release {served.number}, snapshot {served.snapshot} ({served.snapshot_id[:16]}…)")
    places = engine.settings.shown().items()
    console.print(Text(printable_lines("\n".join(f"{name.capitalize()} {url}" for name, url in places)), "dim"))


def waiting(engine: Engine, console: Console) -> None:
    """What in landing is not sealed and why, beside what `skipped_and_stopped` shows."""
    sealer = skipped_and_stopped(engine, console)
    left = engine.sealing.waiting(sealer, ()) if sealer else []
    if left:
        console.print(f"In landing and not sealed: {len(left)} places")
    for line in shortened(left):
        console.print(cell(line), soft_wrap=True)


def skipped_and_stopped(engine: Engine, console: Console) -> Sealer | None:
    """How many objects in landing are not data, and the logs that are stopped; None where landing cannot be listed."""
    try:
        sealer = engine.sealing.sealer()
    except NotFound:
        return None  # sealed snapshots outlive their landing
    except RefusedLanding as error:
        lines(console, [error])
        return None
    skipped = Counter(each.reason for each in sealer.skipped())
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        console.print(f"Objects in landing that are not data: {reasons}; `refold log skipped` lists them.")
    lines(console, sealer.stopped.values())
    return sealer


def behind(engine: Engine, store: Store, snapshot: Snapshot) -> Iterator[str]:
    """The logs behind a store that have not taken in all of landing up to a snapshot, for people.

    Nothing where landing cannot be listed, since sealed snapshots outlive it.
    """
    logs = {ledger.store.log.name for each in (store, *store.all_inputs) if (ledger := each.ledger) is not None}
    try:
        sealer = engine.sealing.sealer()
    except RefoldError:
        return
    for log in sorted(logs):
        if log in sealer.stopped:
            yield f"Log {log!r} is stopped: {sealer.stopped[log]}"
        waits = [i for i in sealer.unsealed() if i.name.startswith(f"{log}/") and "" < i.folder <= snapshot.key]
        if waits:
            first, last = min(item.folder for item in waits), max(item.folder for item in waits)
            yield (
                f"Log {log!r} is behind snapshot {snapshot.key}: {len(waits)} objects of {first} to {last} are in "
                "landing and not sealed; `refold plan` says what becomes of them."
            )


def _log_row(log: str, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    cuts = [snapshot.cut(log) for snapshot in snapshots]
    return {
        "log": log,
        "records read": sum(cut.read for cut in cuts),
        "events": cuts[-1].seq_end,
        "quarantined": sum(cut.quarantined for cut in cuts),
        "late objects": sum(o.late for cut in cuts for o in cut.objects),
        "log id": cuts[-1].id[:12],
    }


def _outcome_row(engine: Engine, store: Folded, snapshot: Snapshot) -> dict[str, Any]:
    outcomes, names = engine.builder.require(store, snapshot).outcomes, map(str.lower, Outcome.__members__)
    return {
        "store": store.name,
        **{name: outcomes[name] for name in names if name in outcomes},
    }


def _store_row(engine: Engine, store: Store, snapshot: Snapshot) -> dict[str, Any]:
    record, _ = engine.prover.require(store, snapshot)
    return {
        "store": store.name,
        "rows": len(engine.rows(store, snapshot)),
        "digest": record.state_digest[:16],
        "published to": ", ".join(dict.fromkeys(f"{sink.kind}/{sink.name}" for sink in store.sinks)),
    }
