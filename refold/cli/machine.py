"""What a command prints, as JSON for machines: one object on each line, whatever the command.

`kind` says what it is:

- `table`: `title`, `columns` in order, and `rows`, each an object by column. Numbers are exact; decimals, dates and
  times are texts (ISO 8601), bytes are base64, and missing values null;
- `text`: `text`, a sentence;
- `error`: `error`, the kind of error, `message`, and `notes`. It is on standard error where the command ends by it.

`plan`, `diff`, `conflicts`, `quarantine ls`, `log order`, `log audit` and `log inspect` write the objects they find.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refold.errors import RefoldError

_META = "refold.json"


def option() -> click.Option:
    """The option `--json` of commands that have none of their own."""
    return click.Option(
        ["--json", "json_lines"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_chosen,
        help="JSON objects, one on each line, for machines.",
    )


def _chosen(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_META] = True


def as_json() -> bool:
    """Whether the command that runs was called with it."""
    context = click.get_current_context(silent=True)
    return context is not None and _META in context.meta


class MachineTable(Table):
    """A table that keeps its rows as they are given."""

    def __init__(self, title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None) -> None:
        super().__init__()
        names = list(columns or dict.fromkeys(name for row in rows for name in row))
        values = [{name: _finite(row.get(name)) for name in names} for row in rows]
        self.content = {"kind": "table", "title": title, "columns": names, "rows": values}


class MachineConsole(Console):
    """Writes what is printed as JSON, a line for each object."""

    def print(self, *objects: Any, **_options: Any) -> None:
        """Write tables, errors and texts; empty lines are left out."""
        for each in objects:
            content = _content(each)
            if content.get("text") != "":
                line = json.dumps(content, default=_value, allow_nan=False)  # ASCII: nothing that a terminal obeys
                click.echo(line, file=sys.stderr if self.stderr else sys.stdout)


def _content(shown: Any) -> dict[str, Any]:
    if isinstance(shown, MachineTable):
        return shown.content
    if isinstance(shown, RefoldError):
        notes = list(getattr(shown, "__notes__", ()))
        return {"kind": "error", "error": shown.kind, "message": str(shown), "notes": notes}
    text = shown.plain if isinstance(shown, Text) else Text.from_markup(str(shown)).plain
    return {"kind": "text", "text": text.strip()}


def _finite(value: object) -> object:
    """A value, as a text where it is a number that JSON does not have."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _value(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat else str(value)
