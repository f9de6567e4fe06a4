"""The values that an expression of a rule may have, and whether two of them can ever be equal or in order.

Values are known as constants (the members of an enum, a literal), as a kind with bounds (a column of int64), or not at
all. What is not known could be anything, so nothing is concluded from it. `refold.rules.comparisons` finds the values.
"""

from __future__ import annotations

import ast
import datetime as dt
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from typing import Any, NamedTuple, TypeGuard

from refold.types import INT64_MAX, INT64_MIN, ColumnKind, ColumnType, member_text

Number = int | Decimal

ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Family(StrEnum):
    """Values of one family can be equal to each other, and are never equal to those of another."""

    NUMBER = "number"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TUPLE = "tuple"


_CLASSES: Mapping[Family, type] = {Family.TEXT: str, Family.BYTES: bytes, Family.TUPLE: tuple}


class Constant(NamedTuple):
    """One exact value, with its type, since True and 1 are equal keys."""

    type: type
    value: object


@dataclass(frozen=True)
class Many:
    """Any value of a family within bounds, both inclusive; `places` are the digits after the point, None for any."""

    family: Family
    low: Number | None = None
    high: Number | None = None
    places: int | None = None
    empty: bool = True
    text: str = ""

    def __str__(self) -> str:
        return self.text or self.family

    @property
    def unbounded(self) -> Many:
        """The same family without bounds."""
        return Many(self.family, text=self.text)

    def outside(self, value: object) -> bool:
        """Whether a number is beyond the bounds."""
        if not _is_number(value):
            return False
        return (self.low is not None and value < self.low) or (self.high is not None and value > self.high)

    def holds(self, value: object) -> bool:
        """Whether a constant can be equal to one of the values."""
        if self.family is Family.NUMBER:
            if not _is_number(value) or self.outside(value):
                return False
            return self.places is None or (Fraction(value) * 10**self.places).denominator == 1
        if self.family is Family.DATE:
            return type(value) is dt.date
        if self.family is Family.TIMESTAMP:
            return isinstance(value, dt.datetime) and value.utcoffset() is not None
        return isinstance(value, _CLASSES[self.family]) and (value != "" or self.empty)


@dataclass(frozen=True)
class Values:
    """The possible values of an expression: one of the constants, any of the many, or anything where it is not `known`.

    `data` says whether it depends on row or event. `whole` is "row" or "event" where it is the rule's own parameter.
    """

    constants: frozenset[Constant] = frozenset()
    many: frozenset[Many] = frozenset()
    known: bool = True
    data: bool = False
    whole: str = ""

    def __or__(self, other: Values) -> Values:
        if NOTHING in (self, other):
            return other if self == NOTHING else self
        whole = self.whole if self.whole == other.whole else ""
        known = self.known and other.known and bool(whole) == bool(self.whole or other.whole)
        return Values(self.constants | other.constants, self.many | other.many, known, self.data or other.data, whole)

    @classmethod
    def of(cls, *values: object) -> Values:
        """Exactly these values; anything where one of them has no hash."""
        try:
            return cls(frozenset(Constant(type(value), value) for value in values))
        except TypeError:
            return UNKNOWN_VALUES

    @classmethod
    def any(cls, family: Family, *, data: bool = False) -> Values:
        """Any value of a family."""
        return cls(many=frozenset({Many(family)}), data=data)

    @property
    def comparable(self) -> bool:
        """Whether something is known of it."""
        return self.known and not self.whole and bool(self.constants or self.many)

    @property
    def only(self) -> Constant | None:
        """Its one value; None where it may have several."""
        return next(iter(self.constants)) if len(self.constants) == 1 and not self.many and self.known else None

    @property
    def unbounded(self) -> Values:
        """The same without declared bounds, and with None: for helper functions, which may serve several rules."""
        many = frozenset(each.unbounded for each in self.many)
        return replace(self, many=many, constants=self.constants | {Constant(type(None), None)})

    def __str__(self) -> str:
        texts = sorted(text_of(constant.value) for constant in self.constants) + sorted(map(str, self.many))
        return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"


UNKNOWN_VALUES = Values(known=False)
NOTHING = Values()
TRUTH = Values.of(True, False)


def _is_number(value: object) -> TypeGuard[Number]:
    return isinstance(value, int) or (isinstance(value, Decimal) and value.is_finite())


def text_of(value: object) -> str:
    """A constant as a rule writes it."""
    if isinstance(value, type):
        return value.__name__
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)


def of_column(kind: ColumnType) -> Values:
    """The values of a declared column or row field.

    >>> str(of_column(ColumnType(ColumnKind.INT64, minimum=1, maximum=9)))
    'int64 from 1 to 9'
    """
    null = Values.of(None) if kind.null else NOTHING
    if kind.choices is not None:
        found = Values.of(*kind.choices)
    elif kind.kind is ColumnKind.BOOLEAN:
        found = TRUTH
    elif kind.kind in _FAMILIES:
        found = Values(many=frozenset({_many(kind)}))
    else:
        found = UNKNOWN_VALUES
    return replace(found | null, data=True)


def _many(kind: ColumnType) -> Many:
    family, name = _FAMILIES[kind.kind], str(replace(kind, null=False))
    if kind.kind is ColumnKind.DECIMAL:
        assert kind.precision is not None and kind.scale is not None
        most = Decimal((0, (9,) * kind.precision, -kind.scale))
        return Many(family, -most, most, kind.scale, text=name)
    if kind.kind is ColumnKind.INT64:
        low = INT64_MIN if kind.minimum is None else kind.minimum
        high = INT64_MAX if kind.maximum is None else kind.maximum
        text = name if (low, high) == (INT64_MIN, INT64_MAX) else f"{name} from {low} to {high}"
        return Many(family, low, high, 0, text=text)
    return Many(family, empty=kind.empty, text=name if kind.empty else f"{name} that is not empty")


_FAMILIES: Mapping[ColumnKind, Family] = {
    ColumnKind.INT64: Family.NUMBER,
    ColumnKind.DECIMAL: Family.NUMBER,
    ColumnKind.TEXT: Family.TEXT,
    ColumnKind.VERSION_VECTOR: Family.TEXT,
    ColumnKind.BINARY: Family.BYTES,
    ColumnKind.DATE: Family.DATE,
    ColumnKind.TIMESTAMP: Family.TIMESTAMP,
}


def family_of(name: str) -> Values:
    """The result of an attribute, method or built-in of this name."""
    family = next((family for family, names in _RESULTS.items() if name in names), None)
    return UNKNOWN_VALUES if family is None else Values.any(family, data=True)


_RESULTS: Mapping[Family, frozenset[str]] = {
    Family.NUMBER: frozenset((
        "year", "month", "day", "hour", "minute", "second", "microsecond", "days", "seconds", "microseconds",
        "weekday", "isoweekday", "toordinal", "find", "bit_length", "bit_count", "adjusted", "quantize",
        "normalize", "scaleb", "copy_abs", "copy_negate", "to_integral_value", "int", "len", "abs", "ord", "round",
        "Decimal",
    )),
    Family.TEXT: frozenset((
        "lower", "upper", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "zfill", "isoformat", "join",
        "str", "chr",
    )),
    Family.DATE: frozenset(("date",)),
}  # fmt: skip
"""The families of what attributes, methods and built-ins give, by name."""


def can_equal(left: Values, right: Values) -> bool:
    """Whether some value of the left can be equal to some value of the right."""
    if any(_equal(a.value, b.value) for a in left.constants for b in right.constants):
        return True
    pairs = [(many, constant) for many in left.many for constant in right.constants]
    pairs += [(many, constant) for many in right.many for constant in left.constants]
    if any(many.holds(constant.value) for many, constant in pairs):
        return True
    return any(a.family is b.family and _ordered(a, ast.LtE, b) and _ordered(a, ast.GtE, b)
               for a in left.many for b in right.many)  # fmt: skip


def can_hold(left: Values, op: type[ast.cmpop], right: Values) -> bool:
    """Whether `left op right` can be true for an operator of order."""
    firsts: list[Constant | Many] = [*left.constants, *left.many]
    seconds: list[Constant | Many] = [*right.constants, *right.many]
    return any(_can_be(a, op, b) for a in firsts for b in seconds)


def _can_be(left: Constant | Many, op: type[ast.cmpop], right: Constant | Many) -> bool:
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _in_order(left.value, op, right.value)
    a, b = _as_many(left), _as_many(right)
    return a is not None and b is not None and a.family is b.family and _ordered(a, op, b)


def _equal(left: object, right: object) -> bool:
    return bool(left == right)


def _in_order(left: object, op: type[ast.cmpop], right: object) -> bool:
    try:
        return bool(ORDER[op](left, right))
    except (TypeError, ArithmeticError):
        return False


def _as_many(value: Constant | Many) -> Many | None:
    """A constant as a family with equal bounds; None where it has no family."""
    if isinstance(value, Many):
        return value
    if _is_number(value.value):
        return Many(Family.NUMBER, value.value, value.value)
    return next((many for family in Family if (many := Many(family)).holds(value.value)), None)


def _ordered(left: Many, op: type[ast.cmpop], right: Many) -> bool:
    """Whether a value of the left can have this order to a value of the right, by the bounds."""
    a, b = (left.low, right.high) if op in (ast.Lt, ast.LtE) else (left.high, right.low)
    return a is None or b is None or ORDER[op](a, b)


def beyond(data: Values, other: Values) -> bool:
    """Whether a constant is outside the bounds of the data."""
    only = other.only
    return data.data and only is not None and any(many.outside(only.value) for many in data.many)


def remedy(data: Values, other: Values) -> str:
    """The advice for a comparison of data with a value that it can never have."""
    only = other.only
    members = [constant.value for constant in data.constants if isinstance(constant.value, Enum)]
    if only is not None and only.value is None:
        return "remove the comparison, or declare null where it may be missing"
    if only is not None and any(many.unbounded.holds(only.value) for many in data.many):
        return "remove the comparison, or widen the declared type"
    if members and only is not None:
        wanted = only.value.name if isinstance(only.value, Enum) else str(only.value)
        same = [m for m in members if wanted.lower() in (m.name.lower(), member_text(m).lower())]
        return f"write {text_of(same[0])}" if same else "write one of these members"
    return "compare values of one type, or declare another type"
