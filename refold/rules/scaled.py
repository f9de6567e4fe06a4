"""Lowering of decimals: integers of a known scale, whose every step is exact or stops the kernel.

Where a result leaves 64 bits, loses a digit or divides by zero, the kernel stops and the interpreter takes over, so
that the result is always that of Python's decimals. Decimals differ from integers in division, which cuts off towards
zero, so that the two kinds are never mixed in a variable. `refold.rules.expressions` decides where these are used.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from decimal import Decimal

from refold.rules.kinds import BOOL, INT, SCALE_MAX, Kind, Scaled, Typed, Unsupported

PRELUDE = """@_function
def _quotient(a, b):
    c = _floordiv(a, b)
    return c + 1 if c < 0 and _mod(a, b) != 0 else c


@_function
def _remainder(a, b):
    return a - _quotient(a, b) * b


@_function
def _exactly(a, b):
    if a % b:
        raise OverflowError
    return a // b


@_function
def _half_even(a, b):
    c, rest = a // b, a % b
    return c + 1 if rest > b - rest or (rest == b - rest and c % 2) else c


@_function
def _half_up(a, b):
    c, rest = a // b, a % b
    return c + 1 if rest > b - rest or (rest == b - rest and a > 0) else c


"""
"""The checked functions that lowered decimals call. Divisors of the last three are powers of ten from 1 on."""

_SUMS: Mapping[type[ast.operator], str] = {ast.Add: "_add", ast.Sub: "_sub", ast.Mod: "_remainder"}

ROUNDINGS: Mapping[object, str] = {
    None: "_half_even",
    "ROUND_HALF_EVEN": "_half_even",
    "ROUND_HALF_UP": "_half_up",
    "ROUND_DOWN": "_quotient",
}
"""The function that rounds, by the rounding of `quantize`; the context of every fold rounds half to even."""


def number(value: Typed) -> Typed:
    """A number as a decimal: an integer has no digits after the point. Raises Unsupported where it is none."""
    if isinstance(value.kind, Scaled):
        return value
    if value.kind in (INT, BOOL):
        return Typed(value.code if value.kind == INT else f"_int({value.code})", Scaled(0))
    raise Unsupported("a decimal with a value that is not a number")


def scale_of(value: Typed) -> int:
    """The digits after the point of a number."""
    return value.kind.scale if isinstance(value.kind, Scaled) else 0


def limited(scale: int) -> Scaled:
    """The kind of a scale. Raises Unsupported beyond what 64 bits are worth computing with."""
    if scale > SCALE_MAX:
        raise Unsupported(f"a decimal with {scale} digits after the point, more than {SCALE_MAX}")
    return Scaled(scale)


def rescaled(value: Typed, scale: int) -> Typed:
    """A decimal with another scale; the kernel stops where a digit would be lost."""
    if scale == scale_of(value):
        return value
    if scale > scale_of(value):
        return Typed(f"_mul({value.code}, {10 ** (scale - scale_of(value))})", limited(scale))
    return Typed(f"_exactly({value.code}, {10 ** (scale_of(value) - scale)})", Scaled(scale))


def common(kinds: Sequence[Kind]) -> Scaled | None:
    """The kind that holds all these decimals; None where one is not a decimal."""
    scales = [kind.scale for kind in kinds if isinstance(kind, Scaled)]
    return Scaled(max(scales)) if scales and len(scales) == len(kinds) else None


def aligned(values: Sequence[Typed]) -> list[Typed]:
    """Values with one scale, where all are decimals; else as they are."""
    kind = common([value.kind for value in values])
    return list(values) if kind is None else [rescaled(value, kind.scale) for value in values]


def combined(op: ast.operator, left: Typed, right: Typed) -> Typed:
    """Arithmetic of two numbers of which one is a decimal at least."""
    left, right = number(left), number(right)
    if isinstance(op, ast.Mult):
        return Typed(f"_mul({left.code}, {right.code})", limited(scale_of(left) + scale_of(right)))
    a, b = aligned([left, right])
    if type(op) in _SUMS:
        return Typed(f"{_SUMS[type(op)]}({a.code}, {b.code})", a.kind)
    if isinstance(op, ast.FloorDiv):
        return Typed(f"_quotient({a.code}, {b.code})", Scaled(0))
    raise Unsupported(f"the operator {type(op).__name__} of decimals")


def compared(op: str, left: Typed, right: Typed) -> str:
    """Source for the comparison of two numbers of which one is a decimal at least."""
    a, b = aligned([number(left), number(right)])
    return f"({a.code} {op} {b.code})"


def whole(value: Typed) -> Typed:
    """The integer of a decimal, cut off."""
    return Typed(f"_quotient({value.code}, {10 ** scale_of(value)})", INT)


def rounded(value: Typed, scale: int, rounding: object = None) -> Typed:
    """A decimal rounded to a scale, or with more zeros. Raises Unsupported for an unknown rounding."""
    name = ROUNDINGS.get(rounding)
    if name is None or scale < 0:
        raise Unsupported(f"rounding to {scale} digits after the point by {rounding}")
    if scale >= scale_of(value):
        return rescaled(value, scale)
    return Typed(f"{name}({value.code}, {10 ** (scale_of(value) - scale)})", Scaled(scale))


def digits_of(value: Decimal) -> int:
    """How many digits after the point a decimal is written with, which `quantize` goes by; -1 where it is infinite."""
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else -1
