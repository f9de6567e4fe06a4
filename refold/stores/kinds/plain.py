"""Kinds in plain Python, one event at a time: what the reference fold may use of a store, and what explains a value.

Nothing here shares code with the folds by columns; an import contract keeps it so. Values are checked against the text
of `refold.canonical.encoding`. It is slow by design. `refold.proof.reference`
adds deduplication, positions and digests.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import struct
from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from refold.errors import EventRefused, RuleError
from refold.rules.outcome import Ignored, Outcome, Rejection
from refold.types import ColumnKind, ColumnType, Schema, member_text

if TYPE_CHECKING:
    from refold.rules.rule import Rule

Row = Mapping[str, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TRAPS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
_DECIMALS = decimal.Context(prec=76, rounding=decimal.ROUND_HALF_EVEN, traps=_TRAPS, Emin=-999999, Emax=999999)
_PLAIN: Mapping[str, Any] = {"int64": int, "boolean": bool, "text": str, "binary": bytes, "decimal": Decimal}
_PYTHON: Mapping[str, Any] = {**_PLAIN, "date": dt.date, "timestamp": dt.datetime}


class PlainFold(ABC):
    """One folded store on its way through history, in plain Python."""

    @abstractmethod
    def apply(self, key: object, event: Row) -> tuple[Outcome, int]:
        """Apply the first delivery of an event to the row of its key; its outcome and reason code. Raises RuleError."""

    @abstractmethod
    def values(self, key: object) -> Row:
        """The values of a key as a state holds them, with `deleted` where rows can be; also before its first event."""


class PlainRule(PlainFold):
    """A rule's row changes by what the rule answers, and stays where it rejects or ignores the event."""

    def __init__(self, name: str, rule: Rule, columns: Schema) -> None:
        self._name = name
        self._rule = rule
        self._columns = columns
        self._now: dict[object, tuple[object, ...]] = {}

    def apply(self, key: object, event: Row) -> tuple[Outcome, int]:
        """Call the user's function."""
        row = self._now[key] if key in self._now else self._stored(self._rule.row())
        answer = self._answer(row, event)
        if isinstance(answer, Rejection) and 1 <= answer.reason <= 255:
            return Outcome.REJECTED, int(answer.reason)
        if isinstance(answer, Ignored):
            return Outcome.IGNORED, 0
        if not self._is_row(answer):
            raise self._error(event, f"answered {answer!r} to the row {row!r}")
        self._now[key] = self._stored(answer)
        return Outcome.APPLIED, 0

    def _stored(self, row: Any) -> Any:
        """A row as a state gives it back: decimals with the digits of their column, timestamps in UTC."""
        return type(row)(*map(_read_back, self._rule.row_columns.values(), row))

    def _is_row(self, answer: Any) -> bool:
        kinds, row_class = self._rule.row_columns.values(), cast("Any", self._rule.row)
        return type(answer) is row_class and all(admitted(k, v) for k, v in zip(kinds, answer, strict=True))

    def _answer(self, row: tuple[object, ...], event: Row) -> Any:
        try:
            values = {name: _as_rules_see(column, event[name]) for name, column in self._columns.items()}
        except ValueError as error:
            raise self._error(event, f"cannot read {error}") from error
        seen = SimpleNamespace(**values)
        with decimal.localcontext(_DECIMALS):
            try:
                return self._rule.function(row, seen)
            except Exception as error:  # a rule can raise anything; the message names the event
                raise self._error(event, f"raised {type(error).__name__} ({error}) at the row {row!r}") from error

    def _error(self, event: Row, what: str) -> RuleError:
        return RuleError(
            f"The rule of store {self._name!r} {what} for the event at log partition {event['log_partition']}, "
            f"offset {event['log_offset']} (log_seq {event['log_seq']}).",
            remedy="Correct the rule and raise its version, or handle such an event by reject(...).",
        )

    def begin(self, key: object, event: Row) -> None:
        """Take an event's columns for the row of a key."""
        kinds = self._rule.row_columns
        self._now[key] = self._stored(self._rule.row(**{n: _as_rules_see(kind, event[n]) for n, kind in kinds.items()}))

    def values(self, key: object) -> Row:
        """The fields of the rule's row, enum members as their texts."""
        row = self._now.get(key, self._rule.row())
        plain = [member_text(value) if isinstance(value, Enum) else value for value in row]
        return dict(zip(self._rule.row_columns, plain, strict=True))


class PlainLatest(PlainFold):
    """The newest event's columns; before the first event, and after a delete, there are none and the row is deleted.

    All events of a key are kept in a list, sorted by the declared order, then by their places in the log; without a
    declared order by the latter alone. A column takes its value from the newest event that gives it one or deletes.

    Attributes:
        names: the columns kept.
        deletes: the column and the values that delete a key; None for any value but null.
        order_by, ties: the columns that order events, and `refuse`, `first` or `last` of equals.
        unchanged: by column the placeholder of a value that an event does not give.
        filled: by name of another state column, the column kept that it is about, or "" for the row, and the event
            column that fills it.
    """

    def __init__(
        self,
        store: str,
        names: Sequence[str],
        deletes: tuple[str, tuple[object, ...] | None] | None,
        unchanged: Mapping[str, object],
        order_by: Sequence[str],
        ties: str,
        filled: Mapping[str, tuple[str, str]],
    ) -> None:
        self._store, self._names, self._deletes, self._unchanged = store, names, deletes, unchanged
        self._order_by, self._ties, self._filled = order_by, ties, filled
        self._events: dict[object, list[tuple[tuple[object, ...], int, Row]]] = {}

    def apply(self, key: object, event: Row) -> tuple[Outcome, int]:
        """Put the event where it belongs, and see whether anything comes from it."""
        mine = self._events.setdefault(key, [])
        order = tuple(_bytes(event[name]) for name in self._order_by)
        if self._ties == "refuse" and self._order_by:
            self._refuse_equal(mine, order, event)
        if self._order_by:
            insort(mine, (order, -len(mine) if self._ties == "first" else len(mine), event), key=lambda each: each[:2])
        else:
            mine.append((order, 0, event))
            del mine[: -1 - max((self._age(mine, name) for name in self._unchanged), default=0)]
        newest = mine[-1][2]
        for name in self._unchanged:
            source = self._source(mine, name)
            if not self._is_delete(newest) and (source is None or self._is_delete(source)):
                raise self._error(event, f"no event gave column {name!r} a value for {event[name]!r} to keep")
        used = any(self._source(mine, name) is event for name in ("", *self._unchanged))
        return (Outcome.APPLIED, 0) if used else (Outcome.IGNORED, 1)

    def values(self, key: object) -> Row:
        """The kept columns, and those that say which event gave what."""
        mine = self._events.get(key)
        if mine is None:
            return dict.fromkeys([*self._names, *self._filled]) | {"deleted": True}
        gone = self._is_delete(mine[-1][2])
        kept = {name: None if gone else self._given(mine, name)[name] for name in self._names}
        return kept | {n: self._given(mine, of)[by] for n, (of, by) in self._filled.items()} | {"deleted": gone}

    def _is_delete(self, event: Row) -> bool:
        return self._deletes is not None and _is_delete(self._deletes, event)

    def _gives(self, event: Row, name: str) -> bool:
        return name not in self._unchanged or self._is_delete(event) or event[name] != self._unchanged[name]

    def _age(self, mine: Sequence[tuple[tuple[object, ...], int, Row]], name: str) -> int:
        """How many events are newer than the one that gives a column its value."""
        return next((age for age, each in enumerate(reversed(mine)) if self._gives(each[2], name)), len(mine))

    def _source(self, mine: Sequence[tuple[tuple[object, ...], int, Row]], name: str) -> Row | None:
        age = self._age(mine, name)
        return None if age == len(mine) else mine[-1 - age][2]

    def _given(self, mine: Sequence[tuple[tuple[object, ...], int, Row]], name: str) -> Row:
        source = self._source(mine, name)
        assert source is not None, "an event whose column nothing gives is refused"
        return source

    def _refuse_equal(
        self, mine: Sequence[tuple[tuple[object, ...], int, Row]], order: tuple[object, ...], event: Row
    ) -> None:
        for name in ("", *self._unchanged):
            age = self._age(mine, name)
            if age < len(mine) and mine[-1 - age][0] == order and self._gives(event, name):
                other = mine[-1 - age][2]["log_seq"]
                raise self._error(event, f"the event with log_seq {other} has the same {', '.join(self._order_by)}")

    def _error(self, event: Row, what: str) -> EventRefused:
        return EventRefused(
            f"Store {self._store!r} cannot take the event at log partition {event['log_partition']}, offset "
            f"{event['log_offset']} (log_seq {event['log_seq']}): {what}."
        )


class PlainVersions(PlainFold):
    """All writes of each key, each compared with all others; those that no other dominates are the sides.

    Attributes:
        picked: the columns kept. by: the column of version vectors. seen: what every write has seen, by producer.
        deletes: as in `PlainLatest`. merge: the rule that merges two sides. greatest: without one, what decides.
    """

    def __init__(
        self,
        picked: Schema,
        by: str,
        seen: Mapping[str, int],
        deletes: tuple[str, tuple[object, ...] | None] | None,
        merge: PlainRule | None,
        greatest: Sequence[str],
    ) -> None:
        self._picked, self._by, self._seen, self._deletes = picked, by, seen, deletes
        self._merge, self._greatest = merge, greatest
        self._writes: dict[object, list[tuple[Mapping[str, int], str, Row | None]]] = {}

    def apply(self, key: object, event: Row) -> tuple[Outcome, int]:
        """Keep the write, and see what it meets."""
        counters = json.loads(event[self._by])
        vector = {name: count for name, count in counters.items() if count > self._seen.get(name, 0)}
        deleted = self._deletes is not None and _is_delete(self._deletes, event)
        values = {n: None if deleted else _json(kind, event[n]) for n, kind in self._picked.items()}
        shown = json.dumps(
            {"deleted": deleted, "values": values, "version": _vector(vector)},
            sort_keys=True, separators=(",", ":"), ensure_ascii=False,
        )  # fmt: skip
        mine = self._writes.setdefault(key, [])
        sides = self._sides(mine)
        mine.append((vector, shown, None if deleted else event))
        if any(_has_seen(other, vector) for other, _, _ in sides):
            return Outcome.IGNORED, 1
        if any(text == shown for _, text, _ in sides):
            return Outcome.IGNORED, 2
        others = [other for other, _, _ in sides if not _has_seen(vector, other)]
        return Outcome.APPLIED, 4 if vector in others else 3 if others else 0

    def values(self, key: object) -> Row:
        """What the sides are resolved to, the join of their vectors, and the sides where there are several."""
        sides = self._sides(self._writes.get(key, []))
        names, living = list(self._picked), [(text, event) for _, text, event in sides if event is not None]
        join = {n: max(v.get(n, 0) for v, _, _ in sides) for vector, _, _ in sides for n in vector}
        marks = {
            self._by: _vector(join) if sides else None,
            "sides": f"[{','.join(text for _, text, _ in sides)}]" if len(sides) > 1 else None,
            "deleted": not living,
        }
        return {**(self._resolved(living) if living else dict.fromkeys(names)), **marks}

    def _sides(self, writes: Sequence[tuple[Mapping[str, int], str, Row | None]]) -> list[Any]:
        kept = {text: (v, text, event) for v, text, event in writes if not any(_has_seen(o, v) for o, _, _ in writes)}
        return [kept[text] for text in sorted(kept, key=str.encode)]

    def _resolved(self, living: Sequence[tuple[str, Row]]) -> Row:
        if self._merge is None or len(living) == 1:
            ranked = [([_rank(event[n]) for n in self._greatest], text.encode(), event) for text, event in living]
            chosen = max(ranked, key=lambda each: each[:2])[2]
            return {name: chosen[name] for name in self._picked}
        self._merge.begin("", living[0][1])
        for _, event in living[1:]:
            self._merge.apply("", event)
        return self._merge.values("")


def _has_seen(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    names = {*one, *other}
    return one != other and all(one.get(name, 0) >= other.get(name, 0) for name in names)


def _vector(counters: Mapping[str, int]) -> str:
    ordered = dict(sorted(counters.items(), key=lambda each: each[0].encode()))
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))


def _rank(value: Any) -> tuple[Any, ...]:
    return () if value is None else (_bytes(value),)


def _json(column: ColumnType, value: Any) -> object:
    """A value as `refold.sinks.values` writes it in JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return f"{value:.{column.scale}f}"
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27)
    return value.isoformat() if isinstance(value, dt.date) else value


def _is_delete(deletes: tuple[str, tuple[object, ...] | None], event: Row) -> bool:
    column, values = deletes
    return event[column] is not None if values is None else event[column] in values


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _read_back(column: ColumnType, value: Any) -> Any:
    if isinstance(value, Decimal) and column.scale is not None:
        with decimal.localcontext(_DECIMALS):
            return value.quantize(Decimal(1).scaleb(-column.scale)) + 0  # + 0 takes the sign from a zero
    return value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value


def _as_rules_see(column: ColumnType, value: Any) -> Any:
    if value is None or column.choices is None:
        return value
    for member in column.choices:
        if member_text(member) == value:
            return member
    raise ValueError(f"{value!r}, which is not a {column.choices.__name__} (expected {', '.join(column.values)}),")


def admitted(column: ColumnType, value: Any) -> bool:
    """Whether a row may hold a value: of exactly the column's Python type, and within its bounds."""
    if value is None:
        return column.null
    if column.choices is not None:
        return isinstance(value, column.choices)
    if type(value) is not _PYTHON.get(column.kind):
        return False
    try:
        encode_value(column, value)
    except (OverflowError, ValueError, TypeError):
        return False
    low, high = column.minimum, column.maximum  # declared for int64 alone
    return (low is None or low <= value) and (high is None or value <= high) and (value != "" or column.empty)


def encode_value(column: ColumnType, value: Any) -> bytes:
    """The canonical bytes of one value, as `refold.canonical.encoding` specifies them.

    >>> from refold.types import int64, text
    >>> encode_value(int64(), -2).hex(), encode_value(text(), "é").hex(), encode_value(text(null=True), None).hex()
    ('01feffffffffffffff', '0102000000c3a9', '00')
    """
    if value is None:
        return b"\x00"
    if column.kind in (ColumnKind.TEXT, ColumnKind.ENUM, ColumnKind.BINARY, ColumnKind.VERSION_VECTOR):
        raw = value if isinstance(value, bytes) else value.encode()
        return b"\x01" + len(raw).to_bytes(4, "little") + raw
    if column.kind is ColumnKind.BOOLEAN:
        return b"\x01" + (b"\x01" if value else b"\x00")
    if column.kind is ColumnKind.RATIO:
        return b"\x01" + struct.pack("<d", math.nan if math.isnan(value) else value + 0.0)
    if column.kind is ColumnKind.DECIMAL:
        return b"\x01" + _unscaled(column, value).to_bytes(16, "little", signed=True)
    if column.kind is ColumnKind.TIMESTAMP:
        value = (value - _EPOCH) // dt.timedelta(microseconds=1)
    elif column.kind is ColumnKind.DATE:
        value = (value - _EPOCH.date()).days
    return b"\x01" + int(value).to_bytes(8, "little", signed=True)


def _unscaled(column: ColumnType, value: Decimal) -> int:
    assert column.precision is not None and column.scale is not None
    over, under = value.as_integer_ratio()
    unscaled, rest = divmod(over * int(10**column.scale), under)
    if rest or abs(unscaled) >= 10**column.precision:
        raise ValueError(f"{value} is not {column}")
    return unscaled
