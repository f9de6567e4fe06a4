"""The declaration of a log that inspection found, checked by decoding the sample with it.

Comes after `profile` and `identity`; `refold.landing.inspect` puts it together with what was found.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from refold.errors import RefoldError
from refold.landing.avro import Avro
from refold.landing.change_sources import (
    DEBEZIUM_MONGODB,
    DEBEZIUM_MYSQL,
    DEBEZIUM_POSTGRESQL,
    DEBEZIUM_SQLSERVER,
    ChangeSource,
)
from refold.landing.decoder import Decoder
from refold.landing.delimited import Csv
from refold.landing.inspect.content import Content, Format, Record
from refold.landing.inspect.identity import Candidates, candidates
from refold.landing.inspect.naming import Named
from refold.landing.inspect.profile import Field, fields_of
from refold.landing.json_array import JsonArray
from refold.landing.jsonl import JsonLines
from refold.landing.parquet import Parquet
from refold.types import ColumnKind, ColumnType, Schema, enum

_SOURCES: Mapping[str, tuple[str, ChangeSource]] = {
    "postgresql": ("DEBEZIUM_POSTGRESQL", DEBEZIUM_POSTGRESQL),
    "mysql": ("DEBEZIUM_MYSQL", DEBEZIUM_MYSQL),
    "mariadb": ("DEBEZIUM_MYSQL", DEBEZIUM_MYSQL),
    "sqlserver": ("DEBEZIUM_SQLSERVER", DEBEZIUM_SQLSERVER),
    "mongodb": ("DEBEZIUM_MONGODB", DEBEZIUM_MONGODB),
}
_OPERATIONS = {"c", "r", "u", "d", "t", "m"}


class RowOp(Enum):
    """The operation of a row of AWS DMS in CSV or Parquet."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"


@dataclass(frozen=True)
class Changes:
    """Change events in Debezium's envelope: the ready identity of their connector, and whether they are wrapped."""

    name: str
    source: ChangeSource
    enveloped: bool


@dataclass(frozen=True)
class Proposal:
    """A log as it could be declared.

    Attributes:
        name: of the log.
        fields, found: the fields, and which of them may identify.
        key, event_id, event_time: those that are proposed; the event id is empty for `PLACE`.
        columns: of the log, those of a change source included.
        checked, bad: how many records of the sample the declaration reads, and how many it refuses, by reason.
    """

    name: str
    named: Named
    decoder: Decoder
    fields: Sequence[Field]
    found: Candidates
    columns: Schema
    key: str
    event_id: tuple[str, ...]
    event_time: str
    partitions: int
    changes: Changes | None = None
    is_default_suffix: bool = True
    checked: int = 0
    bad: Mapping[str, int] | None = None


def changes_of(records: Sequence[Record]) -> Changes | str | None:
    """The change source of records in Debezium's envelope, or why there is none; None where they are no changes."""
    enveloped = bool(records) and all({"payload", "schema"} <= record.keys() for record in records)
    bodies = [record["payload"] if enveloped else record for record in records]
    bodies = [body for body in bodies if isinstance(body, dict)]
    if not bodies or not all(body.get("op") in _OPERATIONS and {"before", "after"} & body.keys() for body in bodies):
        return None
    connectors = {(body.get("source") or {}).get("connector") for body in bodies}
    known = [_SOURCES[each] for each in map(str, connectors) if each in _SOURCES]
    if len(connectors) != 1 or not known:
        shown = ", ".join(sorted(map(str, connectors)))
        return f"changes of Debezium whose source.connector is {shown}; known are {', '.join(_SOURCES)}"
    name, source = known[0]
    return Changes(name, replace(source, enveloped=enveloped) if enveloped else source, enveloped)


def rows_of(records: Sequence[Record], changes: Changes | None) -> list[Record]:
    """The rows of records: of changes, what they write or delete."""
    if changes is None:
        return [*records]
    bodies = [record["payload"] if changes.enveloped else record for record in records]
    rows = [body.get("after") or body.get("before") for body in bodies if isinstance(body, dict)]
    return [row for row in rows if isinstance(row, dict)]


def propose(named: Named, contents: Sequence[Content], *, is_whole: bool) -> Proposal | str:
    """The declaration for a log whose sampled objects have these contents, or why there is none.

    `is_whole` says whether the sample is all there is.
    """
    form = contents[0].format
    assert form is not None
    records = [record for content in contents for record in content.records]
    changes = changes_of(records) if form in (Format.JSON_LINES, Format.JSON_ARRAY) else None
    if isinstance(changes, str):
        return changes
    places = {item.name: item.partition for item in named.objects}
    rows = rows_of(records, changes)
    placed = [places.get(c.info.name) for c in contents for _ in rows_of(c.records, changes)]
    fields = fields_of(rows, form, may_be_null=not is_whole or changes is not None)
    found = candidates(fields, rows, placed)
    if not found.keys and found.spread:
        return f"no key: values of {', '.join(found.spread)} are in two log partitions, so that their order is unknown"
    if not found.keys:
        return "no field of texts or integers that is never null, so that nothing can be the key"
    key = found.keys[0]
    event_id = () if changes else (found.ids[0] if found.ids else ())
    columns = {each.column: each.type for each in fields if each.type is not None}
    columns = _as_declared(columns, key, event_id, rows, fields)
    event_time = found.times[0] if found.times and changes is None else ""
    partitions = max((item.partition for item in named.objects if item.partition is not None), default=3) + 1
    decoder = _decoder(form, contents[0], fields, columns, changes)
    if changes:
        columns |= {"op": enum(changes.source.operations), **changes.source.columns}
    default = all(item.name.endswith(decoder.suffixes) for item in named.objects or ()) and bool(named.objects)
    proposal = Proposal(
        _identifier(named.topic or named.folder), named, decoder, fields, found, columns, key, event_id, event_time,
        partitions, changes, default,
    )  # fmt: skip
    return _checked(proposal, contents)


def _as_declared(
    columns: dict[str, ColumnType], key: str, event_id: tuple[str, ...], rows: Sequence[Record], fields: Sequence[Field]
) -> dict[str, ColumnType]:
    """Columns where what identifies is never null, and an operation of DMS is an enum."""
    found = {n: replace(c, null=False) if n == key or n in event_id else c for n, c in columns.items()}
    first = fields[0]
    if first.column in found and first.is_operation:
        found[first.column] = enum(RowOp, null=found[first.column].null)
    return found


def _decoder(
    form: Format, content: Content, fields: Sequence[Field], columns: Schema, changes: Changes | None
) -> Decoder:
    elsewhere = {e.column: e.dotted for e in fields if e.column in columns and e.path != (e.column,)}
    if changes:
        return changes.source.decoder_of({column: f"row.{place}" for column, place in elsewhere.items()})
    if form is Format.CSV:
        dialect = content.dialect
        return Csv(elsewhere, names=dialect.names, delimiter=dialect.delimiter)
    paths = {column: (place,) for column, place in elsewhere.items()}
    decoder: Decoder = {
        Format.JSON_LINES: JsonLines,
        Format.JSON_ARRAY: JsonArray,
        Format.PARQUET: Parquet,
        Format.AVRO: Avro,
    }[form](paths)
    return decoder


def _checked(proposal: Proposal, contents: Sequence[Content]) -> Proposal | str:
    """With how the declared decoder reads the sample."""
    bad, rows = Counter[str](), 0
    for content in contents:
        try:
            name = content.info.name if content.format in (Format.PARQUET, Format.AVRO) else "sample"
            found = proposal.decoder.decode(name, content.raw, proposal.columns, (proposal.key,))
        except RefoldError as error:
            return f"{content.info.name} is not as the others: {str(error).splitlines()[0]}"
        rows += len(found.rows)
        bad.update(record.reason for record in found.bad)
    return replace(proposal, checked=rows, bad=dict(bad))


def _identifier(folder: str) -> str:
    last = folder.rpartition("/")[2].rpartition(".")[2].lower()
    name = re.sub(r"\W+", "_", last, flags=re.ASCII).strip("_") or "events"
    return f"log_{name}" if name[0].isdigit() or keyword.iskeyword(name) else name


def imports(proposal: Proposal) -> set[tuple[str, str]]:
    """What the declaration imports: modules and names."""
    found = {("refold", "Log")} | {("refold", _called(each)) for each in _own(proposal).values()}
    found |= {("refold", word) for word in ("Folders", "Names") if proposal.named.shown.startswith(f"{word}(")}
    if proposal.named.imported:
        found.add(("refold.landing.names", proposal.named.imported))
    if proposal.changes and proposal.changes.enveloped:
        found.add(("dataclasses", "replace"))
    if proposal.changes:
        found.add(("refold", proposal.changes.name))
    elif decoder := _shown_decoder(proposal):
        found.add(("refold", decoder.partition("(")[0]))
    if not proposal.changes and not proposal.event_id:
        found.add(("refold", "PLACE"))
    if _has_row_op(proposal):
        found.add(("enum", "Enum"))
    return found


def _own(proposal: Proposal) -> dict[str, ColumnType]:
    """The columns that are declared: without those that a change source has."""
    return {e.column: proposal.columns[e.column] for e in proposal.fields if e.column in proposal.columns and e.type}


def _has_row_op(proposal: Proposal) -> bool:
    return any(column.choices is RowOp for column in _own(proposal).values())


def lines(proposal: Proposal, landing: str) -> Iterator[str]:
    """The declaration, as lines of Python; `landing` is the folder below the root of landing."""
    p = proposal
    if _has_row_op(p):
        yield from ["class Op(Enum):", '    INSERT = "I"', '    UPDATE = "U"', '    DELETE = "D"', "", ""]
    source = f"replace({p.changes.name}, enveloped=True)" if p.changes and p.changes.enveloped else ""
    source = source or (p.changes.name if p.changes else "")
    yield f"{p.name} = Log.of_changes(" if p.changes else f"{p.name} = Log("
    yield f'    "{p.name}",'
    yield from [f"    {source},"] if source else []
    yield f"    landing={_text(landing)},"
    yield f"    layout={p.named.shown},"
    yield from [f"    suffixes={_tuple(p.named.suffixes)},"] if not p.is_default_suffix else []
    yield f'    key="{p.key}",'
    if p.changes:
        if paths := {e.column: f"row.{e.dotted}" for e in p.fields if e.type and e.path != (e.column,)}:
            yield f"    paths={_dict(paths)},"
    else:
        event_id = f'"{p.event_id[0]}"' if len(p.event_id) == 1 else _tuple(p.event_id)
        yield f"    event_id={event_id if p.event_id else 'PLACE'},"
        yield from [f"    decoder={decoder},"] if (decoder := _shown_decoder(p)) else []
    yield from [f'    event_time="{p.event_time}",'] if p.event_time else []
    yield f"    partitions={p.partitions},"
    yield "    columns={"
    notes = {each.column: each.note for each in p.fields}
    for name, column in _own(p).items():
        note = f"  # {notes[name]}" if notes[name] else ""
        yield f"        {_text(name)}: {_shown(column)},{note}"
    yield "    },"
    yield ")"
    for each in p.fields:
        if each.type is None:
            yield f"# {each.dotted!r}: {each.note}"


def _shown_decoder(proposal: Proposal) -> str:
    """The decoder as Python; "" where it is the default."""
    decoder: Any = proposal.decoder
    kind, places = type(decoder).__name__, dict(decoder.places)
    arguments = [_dict(places)] if places else []
    if isinstance(decoder, Csv):
        arguments += [f"names={_tuple(decoder.names)}"] if decoder.names else []
        arguments += [f"delimiter={_text(decoder.delimiter)}"] if decoder.delimiter != "," else []
    return "" if kind == "JsonLines" and not places else f"{kind}({', '.join(arguments)})"


def _called(column: ColumnType) -> str:
    return str(column.kind)


def _shown(column: ColumnType) -> str:
    """A column as a declaration has it."""
    reading, arguments = column.reading, list[str]()
    if column.kind is ColumnKind.DECIMAL:
        arguments += [str(column.precision), str(column.scale)]
    if column.kind is ColumnKind.ENUM:
        arguments.append("Op")
    arguments += [f'zone="{reading.zone}"'] if reading.zone else []
    arguments += ['nanoseconds="truncate"'] if reading.nanoseconds == "truncate" else []
    if reading.encoding == "quoted":
        arguments.append("quoted=True")
    elif reading.encoding:
        arguments.append(f'encoding="{reading.encoding}"')
    arguments += ["null=True"] if column.null else []
    return f"{_called(column)}({', '.join(arguments)})"


def _text(value: str) -> str:
    shown = repr(value)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown else shown


def _tuple(values: Sequence[str]) -> str:
    return f"({', '.join(map(_text, values))}{',' if len(values) == 1 else ''})"


def _dict(values: Mapping[str, Any]) -> str:
    shown = (f"{_text(k)}: {_text(v) if isinstance(v, str) else _tuple(v)}" for k, v in values.items())
    return "{" + ", ".join(shown) + "}"
