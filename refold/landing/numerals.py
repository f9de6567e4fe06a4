"""Decimals, integers, bytes and words for true and false: one text each, as a value or the reason that it is none.

Comes after `refold.landing.contract` and before `refold.landing.texts`, which reads whole columns.

- A decimal is written as JSON writes numbers (`-12.50`, `1e2`) and must be exact: trailing zeros do not count as
  digits, and nothing is ever rounded. A column may declare an encoding (`refold.types.Encoding`).
- Bytes are base64 with padding, in the standard alphabet, without line breaks.
- An integer is its digits, with a minus and without leading zeros.
"""

from __future__ import annotations

import base64
import re
from decimal import Decimal

from refold.base.reading import Reading
from refold.landing.contract import ValueFault, expected, shorten
from refold.types import INT64_MAX, INT64_MIN, ColumnType

_DECIMAL = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_INT64_CHARS = 20
_UNSCALED_BYTES_MAX = 64
_SCALE_MAX = 1 << 16


def read_decimal(text: str, precision: int, scale: int) -> Decimal | str:
    """The exact decimal, or the reason there is none: `not-a-decimal` or `out-of-range`.

    >>> read_decimal("1.50", 18, 4), read_decimal("0.00001", 18, 4), read_decimal("+1", 18, 4)
    (Decimal('1.5000'), 'out-of-range', 'not-a-decimal')
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return "not-a-decimal"
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    shown = digits.rstrip("0")
    if not shown:
        return Decimal(f"0E-{scale}")
    exponent = exponent.lstrip("0")
    if len(exponent) > 9:  # out of every range, and its power of ten must never be computed
        return "out-of-range"
    shift = int(f"{exponent_sign}{exponent or 0}") - len(fraction) + len(digits) - len(shown)
    if -shift > scale or len(shown) + shift > precision - scale:
        return "out-of-range"
    return Decimal(f"{sign}{int(shown) * 10 ** (shift + scale)}E-{scale}")


def read_binary(text: str) -> bytes | None:
    """The bytes that a base64 text encodes, or None.

    >>> read_binary("aGk="), read_binary("aGk")
    (b'hi', None)
    """
    return base64.b64decode(text) if _BASE64.fullmatch(text) else None


def read_integer(text: str) -> int | str:
    """The integer that some digits write, or the reason there is none: `not-an-integer` or `out-of-range`.

    >>> read_integer("-7"), read_integer("007"), read_integer("9223372036854775808")
    (-7, 'not-an-integer', 'out-of-range')
    """
    if _INTEGER.fullmatch(text) is None:
        return "not-an-integer"
    fits = len(text) <= _INT64_CHARS and INT64_MIN <= int(text) <= INT64_MAX
    return int(text) if fits else "out-of-range"


def read_unscaled(text: str, column: ColumnType, scale: int | None = None) -> Decimal | ValueFault:
    """The decimal whose unscaled value, in two's complement with the high byte first, is base64; or the fault.

    Args:
        text: the base64.
        column: a decimal column.
        scale: that of the value; by default that of the column.

    >>> from refold.types import decimal
    >>> read_unscaled("AcnDgA==", decimal(12, 2))
    Decimal('300000.00')
    """
    data = read_binary(text)
    if not data:
        return ValueFault("not-base64", expected(column), shorten(text))
    scale = column.scale or 0 if scale is None else scale
    if len(data) > _UNSCALED_BYTES_MAX or abs(scale) > _SCALE_MAX:
        return ValueFault("out-of-range", expected(column), shorten(text))
    value = read_decimal(f"{int.from_bytes(data, signed=True)}e{-scale}", column.precision or 1, column.scale or 0)
    return ValueFault(value, expected(column), shorten(text)) if isinstance(value, str) else value


def read_scaled(scale: object, value: object, column: ColumnType) -> Decimal | ValueFault:
    """The decimal of an object `{"scale": …, "value": …}`, or the fault."""
    if type(scale) is not int or type(value) is not str:
        return ValueFault("wrong-type", expected(column), f"scale {shorten(scale)} and value {shorten(value)}")
    return read_unscaled(value, column, scale)


def read_word(text: str, reading: Reading) -> bool | None:
    """The truth that a word means, or None."""
    return True if text in reading.true else False if text in reading.false else None
