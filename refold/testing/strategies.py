"""Hypothesis strategies for landing records: days of events as `assert_replay_equal` takes them. Needs hypothesis.

Drawn to be troublesome: few keys and few event ids, so that ids repeat within a day and across days, with the same
content and with other; empty days; keys that differ only by case, by white space or not at all to the eye.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from refold.log.declaration import Log
from refold.types import INT64_MAX, INT64_MIN, ColumnKind, ColumnType

KEYS = ("a", "A", "a ", "", "é", "e\u0301", "0", "00", "\u0000", "';--", "日本", "🧺")
"""The texts that serve as keys unless others are given."""

_START = dt.date(2026, 1, 1)


def values(column: ColumnType) -> st.SearchStrategy[Any]:
    """JSON values that a column admits, null included where it may be."""
    drawn = _VALUES[column.kind](column)
    return st.none() | drawn if column.null else drawn


def _decimals(column: ColumnType) -> st.SearchStrategy[str]:
    assert column.precision is not None and column.scale is not None
    largest = 10**column.precision - 1
    return st.integers(-largest, largest).map(lambda units: format(Decimal(units).scaleb(-(column.scale or 0)), "f"))


_VALUES: Mapping[str, Callable[[ColumnType], st.SearchStrategy[Any]]] = {
    "int64": lambda c: st.integers(
        INT64_MIN if c.minimum is None else c.minimum, INT64_MAX if c.maximum is None else c.maximum
    ),
    "text": lambda c: st.sampled_from(KEYS) if c.empty else st.sampled_from([key for key in KEYS if key]),
    "enum": lambda c: st.sampled_from(c.values),
    "decimal": _decimals,
    "date": lambda _: st.dates(dt.date(1970, 1, 1), dt.date(2100, 1, 1)).map(dt.date.isoformat),
    "timestamp": lambda _: st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1)).map(  # noqa: DTZ001  # written with Z
        lambda at: at.isoformat() + "Z"
    ),
    "boolean": lambda _: st.booleans(),
    "binary": lambda _: st.sampled_from(["", "AA==", "/w=="]),
    "versionvector": lambda c: st.dictionaries(
        st.sampled_from(["a", "b", "é"]), st.integers(1, 4), min_size=1, max_size=min(3, c.maximum or 3)
    ),
}


@st.composite
def events(draw: st.DrawFn, log: Log, *, keys_max: int = 4, ids_max: int = 12) -> dict[str, Any]:
    """One record of a log whose columns are at the top of its records."""
    record = {name: draw(values(column)) for name, column in log.columns.items()}
    few = dict.fromkeys(log.id_columns, ids_max) | dict.fromkeys(log.key_columns, keys_max)
    for name, column in log.columns.items():
        if name in few and column.kind is ColumnKind.TEXT:
            texts = st.sampled_from(KEYS[: few[name]]), st.integers(1, few[name]).map(str)
            record[name] = draw(texts[name not in log.key_columns])
        elif name in few and column.kind is ColumnKind.INT64:
            low = column.minimum or 0
            record[name] = draw(st.integers(low, low + few[name] - 1))
    return record


@st.composite
def event_days(
    draw: st.DrawFn, log: Log, *, days_max: int = 4, events_max: int = 8, keys_max: int = 4, ids_max: int = 12
) -> dict[str, list[dict[str, Any]]]:
    """Records by snapshot key, some of them delivered again on the same or on a later day; days may be empty.

    >>> from refold import int64, text
    >>> log = Log("sales", key="shop", event_id="n", columns={"n": int64(0), "shop": text(), "units": int64(1, 9)})
    >>> event_days(log, days_max=1).validate()
    """
    delivered: list[dict[str, Any]] = []
    days: dict[str, list[dict[str, Any]]] = {}
    for number in range(draw(st.integers(1, days_max))):
        day = days.setdefault((_START + dt.timedelta(days=number)).isoformat(), [])
        for _ in range(draw(st.integers(0, events_max))):
            again = delivered and draw(st.integers(0, 4)) == 0
            record = (
                draw(st.sampled_from(delivered)) if again else draw(events(log, keys_max=keys_max, ids_max=ids_max))
            )
            delivered.append(record)
            day.append(record)
    return days
