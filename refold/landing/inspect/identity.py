"""Which fields may be key, event id and time of a log: by what is unique in the sample, and by names.

Where landing has log partitions, a value of the key is in one of them only, or the order of its events is lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from refold.landing.inspect.content import Record
from refold.landing.inspect.profile import Field
from refold.types import ColumnKind

_IDENTIFYING = (ColumnKind.TEXT, ColumnKind.INT64, ColumnKind.BINARY)
_ID_NAME = re.compile(r"(?i)(?:^|_)(?:event|message|msg|record|change)_?id$|(?:^|_)uu?id$|^(?:event_)?seq(?:uence)?$")
_KEY_NAME = re.compile(r"(?i)(?:^|_)(?:id|key|sku|code|no|number)$|Id$|ID$")
_NUMBER_NAME = re.compile(r"(?i)version|seq|lsn|rev|offset|number")
_PAIRED_MAX = 8


@dataclass(frozen=True)
class Candidates:
    """Columns, the best first.

    Attributes:
        keys: columns that may be the key.
        ids: columns, alone or in pairs, that no two records of the sample share.
        times: timestamps that are never null.
        spread: columns that cannot be the key, since a value of theirs is in two log partitions.
    """

    keys: Sequence[str]
    ids: Sequence[tuple[str, ...]]
    times: Sequence[str]
    spread: Sequence[str] = ()


def candidates(fields: Sequence[Field], records: Sequence[Record], partitions: Sequence[int | None] = ()) -> Candidates:
    """The candidates among the fields of some records; `partitions` are the log partitions of these, if known."""
    usable = [each for each in fields if each.type and each.type.kind in _IDENTIFYING and not each.nulls]
    usable = [each for each in usable if each.records and not each.is_operation]
    unique = [each for each in usable if each.is_unique]
    unique.sort(key=lambda each: (_ID_NAME.search(each.path[-1]) is None, _KEY_NAME.search(each.path[-1]) is None))
    unique = [each for each in unique if _ID_NAME.search(each.path[-1]) or _KEY_NAME.search(each.path[-1])]
    ids = [(each.column,) for each in unique] or _pairs(usable, records)
    first = ids[0] if ids else ()
    keys = [each for each in usable if _KEY_NAME.search(each.path[-1]) or each.column in first]
    keys.sort(key=lambda each: (_is_of_event(each, first), len(each.path), each.column != "id"))
    keys = keys or usable
    spread = [each.column for each in keys if _is_spread(each, records, partitions)]
    times = [e.column for e in fields if e.type and e.type.kind is ColumnKind.TIMESTAMP and not e.nulls and e.records]
    return Candidates([each.column for each in keys if each.column not in spread], ids, times, spread)


def _is_spread(each: Field, records: Sequence[Record], partitions: Sequence[int | None]) -> bool:
    places = {(str(_at(record, each.path)), place) for record, place in zip(records, partitions, strict=False)}
    return len({value for value, _ in places}) < len(places)


def _is_of_event(each: Field, first: tuple[str, ...]) -> bool:
    return first == (each.column,) or _ID_NAME.search(each.path[-1]) is not None


def _pairs(usable: Sequence[Field], records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Pairs of a column and a number of versions that are unique together."""
    found = list[tuple[str, ...]]()
    for one, other in combinations(usable[:_PAIRED_MAX], 2):
        if not (_NUMBER_NAME.search(one.path[-1]) or _NUMBER_NAME.search(other.path[-1])):
            continue
        values = {(str(_at(record, one.path)), str(_at(record, other.path))) for record in records}
        if len(values) == len(records):
            found.append((one.column, other.column))
    return found


def _at(record: Record, path: Sequence[str]) -> object:
    value: object = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
