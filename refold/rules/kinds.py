"""Values as the lowering knows them: its kind, and the source that computes it.

A value is an integer, a boolean, an enum code, a decimal as an integer of a known scale, a row, an event or a decision
(row, outcome, reason). `refold.rules.expressions` and `refold.rules.scaled` lower expressions to such values.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from refold.rules.source import Place, Source
from refold.types import INT64_MAX, INT64_MIN, ColumnKind, ColumnType

SCALE_MAX = 18
"""The most digits after the point that a compiled decimal has, since 64 bits hold 18 digits."""


@dataclass(frozen=True)
class Scaled:
    """The kind of a decimal that is held as an integer: its value times ten to the power of `scale`."""

    scale: int

    def __str__(self) -> str:
        return f"decimal with {self.scale} digits after the point"


Kind = str | type[Enum] | Scaled

INT, BOOL, ROW, EVENT, DECISION = "integer", "boolean", "row", "event", "decision"


class Unsupported(Exception):
    """The expression or statement may not mean the same when compiled; the message completes the sentence 'it uses …'.

    `place` is the innermost piece of source it was noticed in.
    """

    place: Place | None = None

    def noticed_in(self, source: Source, node: ast.AST) -> None:
        """Record the place, unless a more precise one is known."""
        if self.place is None:
            self.place = source.place(node)


class Typed(NamedTuple):
    """Lowered source of an expression, in parentheses where needed, and the kind of its value."""

    code: str
    kind: Kind


@dataclass(frozen=True)
class RowShape:
    """The row of a rule in the kernel: a tuple with one place per field."""

    row: type
    kinds: Mapping[str, Kind]
    defaults: tuple[object, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The field names, in order."""
        return tuple(self.kinds)


def kind_of_column(column: ColumnType) -> Kind:
    """The kind of an event column or row field."""
    if column.choices is not None:
        return column.choices
    if column.kind is ColumnKind.DECIMAL:
        assert column.scale is not None
        return Scaled(column.scale)
    return INT if column.kind is ColumnKind.INT64 else BOOL


def constant(value: object, shape: RowShape | None) -> Typed:
    """A constant known at declaration. Raises Unsupported for a value that a kernel cannot hold."""
    if isinstance(value, bool):
        return Typed(str(value), BOOL)
    if isinstance(value, Enum):
        return Typed(str(list(type(value)).index(value)), type(value))
    if type(value) is int and INT64_MIN <= value <= INT64_MAX:
        return Typed(_integer(value), INT)
    if type(value) is Decimal and value.is_finite():
        return _decimal(value, 0)
    if shape is not None and type(value) is shape.row and isinstance(value, tuple):
        fields = zip(value, shape.kinds.values(), strict=True)
        return Typed(f"({', '.join(field_constant(v, kind) for v, kind in fields)},)", ROW)
    raise Unsupported(f"the constant {value!r}")


def field_constant(value: object, kind: Kind) -> str:
    """A constant as the value of a row field, in the scale of the field. Raises Unsupported where it does not fit."""
    if isinstance(kind, Scaled) and type(value) is Decimal and value.is_finite():
        found = _decimal(value, kind.scale)
    else:
        found = constant(value, None)
    if found.kind != kind:
        raise Unsupported(f"the constant {value!r} in a field that is not of its kind")
    return found.code


def _integer(value: int) -> str:
    """A 64-bit integer as source; numba takes the literal -2**63 for an unsigned number."""
    return "_MIN" if value == INT64_MIN else f"({value})" if value < 0 else str(value)


def _decimal(value: Decimal, scale_min: int) -> Typed:
    """A decimal as an integer, with no more zeros at its end than the least scale needs.

    Raises Unsupported where 64 bits do not hold it.
    """
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    unscaled, scale = int("".join(map(str, digits))), -exponent
    while scale > scale_min and unscaled % 10 == 0:
        unscaled, scale = unscaled // 10, scale - 1
    if unscaled == 0:
        scale = scale_min
    if max(scale, scale_min - scale) <= SCALE_MAX:
        unscaled *= 10 ** max(0, scale_min - scale)
        if unscaled <= INT64_MAX:
            return Typed(_integer(-unscaled if sign else unscaled), Scaled(max(scale, scale_min)))
    raise Unsupported(f"the constant {value!r}, which needs more than 64 bits")
