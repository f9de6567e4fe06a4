"""Comparisons as text for people and machines: Markdown for a pull request's summary, JSON for whatever reads it.

Pure functions of what `refold.diff.compare` found. The terminal's own tables are made in the command line.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refold.base.outside import as_markdown, printable
from refold.diff.compare import Answer, ComparedEvent, Comparison, OutcomeDiff
from refold.diff.rows import Change
from refold.log.declaration import POSITION

Rows = list[dict[str, Any]]

_CELL_MAX = 300


@dataclass(frozen=True)
class Asked:
    """The comparison: the labels of the sides, and `--against` as it was given."""

    old: str
    new: str
    against: str

    def command(self, comparison: Comparison) -> str:
        """The command that gives the same comparison again."""
        words = ["refold", "diff", comparison.store, "--against", self.against, "--as-of", comparison.snapshot.key]
        return shlex.join(words)


def verdict(comparison: Comparison) -> str:
    """One comparison in a few words."""
    if comparison.same:
        return "same code version"
    if comparison.old is None:
        return "new store"
    if comparison.new is None:
        return "removed store"
    return "differs" if comparison.differs else "other code version, same result"


def overview(comparison: Comparison) -> dict[str, Any]:
    """One comparison as a row of counts."""
    rows = comparison.rows
    counts = {"added": rows.added, "removed": rows.removed, "changed": rows.changed} if rows else {}
    outcomes = sum(each.changed for each in comparison.outcomes)
    return {
        "store": comparison.store,
        "result": verdict(comparison),
        "rows, old": rows.rows_old if rows else None,
        "rows, new": rows.rows_new if rows else None,
        **{name: counts.get(name) for name in ("added", "removed", "changed")},
        "outcomes changed": outcomes if comparison.outcomes else None,
    }


def schema_rows(comparison: Comparison) -> Rows:
    """The columns that are declared otherwise."""
    return [{"column": each.column, "old": each.old, "new": each.new} for each in comparison.schema]


def changes_sentence(comparison: Comparison) -> str:
    """How many keys change, how many of them are shown, and in which columns the rows of both sides differ."""
    rows = comparison.rows
    assert rows is not None
    total, shown = rows.added + rows.removed + rows.changed, len(rows.changes)
    first = f", the first {shown}" if shown < total else ""
    cells = "; ".join(f"{name} in {count:,}" for name, count in rows.cells.items())
    return f"{total:,} {'key changes' if total == 1 else 'keys change'}{first}" + (f" ({cells})" if cells else "")


def versions_sentence(comparison: Comparison) -> str:
    """The code versions of a store, or of what it reads where its own is the same."""
    old, new = comparison.old, comparison.new
    if old is None or new is None or old.code_version != new.code_version:
        return f"Code version {old.code_version if old else 'none'} → {new.code_version if new else 'none'}."
    before = {**{name: each.code_version for name, each in old.folded.items()}, **old.relations}
    after = {**{name: each.code_version for name, each in new.folded.items()}, **new.relations}
    other = [name for name in dict.fromkeys([*after, *before]) if before.get(name) != after.get(name)]
    return f"Code version {new.code_version} on both sides; what it reads is declared otherwise: {', '.join(other)}."


def outcomes_of(comparisons: Sequence[Comparison]) -> list[OutcomeDiff]:
    """The outcomes behind some comparisons, each folded store once."""
    return list({each.store: each for comparison in comparisons for each in comparison.outcomes}.values())


def outcomes_sentence(outcome: OutcomeDiff) -> str:
    """How many events have another outcome."""
    return f"{outcome.store}: {outcome.changed:,} of {outcome.events:,} events have another outcome"


def change_rows(comparison: Comparison) -> Rows:
    """The first changed rows, one line per changed cell; an added or removed row is one line."""
    changes = comparison.rows.changes if comparison.rows else ()
    return [line for change in changes for line in _change_lines(change)]


def move_rows(outcome: OutcomeDiff) -> Rows:
    """How many events went from which outcome to which."""
    return [{"old outcome": old, "new outcome": new, "events": count} for old, new, count in outcome.moves]


def event_row(event: ComparedEvent) -> dict[str, Any]:
    """One event under both rules, as a row to show."""
    return {
        "": "≠" if event.parts else "",
        "log_seq": event.log_seq,
        "place": f"{event.log_partition}:{event.log_offset}",
        **{name: _text(value) for name, value in event.event.items()},
        "by the old rule": _answer_text(event.old),
        "by the new rule": _answer_text(event.new),
    }


def parting_sentence(outcome: OutcomeDiff) -> str:
    """The place at which the two rules differ, as a sentence."""
    event = outcome.first
    if event is None:
        return f"The two rules of {outcome.store} part at no event."
    return (
        f"The two rules of {outcome.store} first part at log_seq {event.log_seq} (log partition {event.log_partition}, "
        f"offset {event.log_offset}; snapshot {event.snapshot}; landed as {event.origin})."
    )


def values_text(values: Mapping[str, Any] | None) -> str | None:
    """A row as text; None where there is none."""
    if values is None:
        return None
    return ", ".join(f"{name}={_text(value)}" for name, value in values.items() if value is not None) or "all null"


def markdown(comparisons: Sequence[Comparison], asked: Asked) -> str:
    """A summary of comparisons, fit for $GITHUB_STEP_SUMMARY; those that differ are shown in full."""
    snapshot = comparisons[0].snapshot.key if comparisons else ""
    differing = [each for each in comparisons if each.differs]
    title = f"{len(differing)} of {len(comparisons)} stores differ" if differing else "No store differs"
    if len(comparisons) == 1:
        title = f"{comparisons[0].store}: {verdict(comparisons[0])}"
    parts = [
        f"## refold diff: {_md(title)}",
        f"Old: {_md(asked.old)}. New: {_md(asked.new)}. Both folded from offset 0 through snapshot {snapshot}, in a "
        "shadow: nothing was stored or released.",
        _md_table(overview(each) for each in comparisons),
        *(part for each in differing for part in _md_store(each, asked)),
        *(part for each in outcomes_of(differing) for part in _md_outcome(each)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(comparisons: Sequence[Comparison], asked: Asked) -> str:
    """Comparisons as JSON: numbers as numbers, decimals, dates and times as text, bytes as hexadecimal digits."""
    stores = [
        {
            **{name: value for name, value in asdict(each).items() if name != "snapshot"},
            "result": verdict(each),
            "differs": each.differs,
            "command": asked.command(each),
        }
        for each in comparisons
    ]
    snapshot = comparisons[0].snapshot if comparisons else None
    summary = {"old": asked.old, "new": asked.new, "snapshot": snapshot.key if snapshot else None, "stores": stores}
    return json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n"


def _change_lines(change: Change) -> Rows:
    key = {name: _text(value) for name, value in change.key.items()}
    if change.kind == "changed":
        return [
            {**key, "change": "changed", "column": name, "from": _text(old), "to": _text(new)}
            for name, (old, new) in change.cells.items()
        ]
    side = 0 if change.kind == "removed" else 1
    values = values_text({name: cell[side] for name, cell in change.cells.items() if name not in POSITION})
    sides = {"from": values, "to": None} if change.kind == "removed" else {"from": None, "to": values}
    return [{**key, "change": change.kind, "column": None, **sides}]


def _answer_text(answer: Answer | None) -> str | None:
    if answer is None:
        return None
    return answer.outcome + (f": {values_text(answer.after)}" if answer.after is not None else "")


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """A value as JSON holds it; numbers that JSON has not are text."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value.isoformat() if isinstance(value, dt.date) else _text(value)


def _md_store(comparison: Comparison, asked: Asked) -> list[str]:
    parts = [f"### {_md(comparison.store)}: {verdict(comparison)}", _md(versions_sentence(comparison))]
    if comparison.schema:
        parts += ["**Columns declared otherwise**", _md_table(schema_rows(comparison))]
    parts += [f"**{_md(changes_sentence(comparison))}**", _md_table(change_rows(comparison))]
    return [*parts, f"Again, with the events behind a key: `{asked.command(comparison)} --why KEY`"]


def _md_outcome(outcome: OutcomeDiff) -> list[str]:
    parts = [f"### {_md(outcomes_sentence(outcome))}", _md_table(move_rows(outcome)), _md(parting_sentence(outcome))]
    return [*parts, _md_table([event_row(outcome.first)] if outcome.first else [])]


def _md_table(rows: Iterable[Mapping[str, Any]]) -> str:
    found = list(rows)
    if not found:
        return ""
    names = list(dict.fromkeys(name for row in found for name in row))
    lines: list[list[Any]] = [names, *([row.get(name) for name in names] for row in found)]
    drawn = ["| " + " | ".join(_md(value) for value in line) + " |" for line in lines]
    rule = "|" + "|".join("--:" if _numeric(found, name) else "---" for name in names) + "|"
    return "\n".join([drawn[0], rule, *drawn[1:]])


def _numeric(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(row.get(name), int) or row.get(name) is None for row in rows)


def _md(value: object) -> str:
    """A value as Markdown shows it letter by letter, on one line."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    text = text if len(text) <= _CELL_MAX else f"{text[:_CELL_MAX]}…"
    return as_markdown(printable(text))
