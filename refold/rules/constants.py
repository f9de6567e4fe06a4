"""The values that a rule may read from outside itself, and the one canonical form of each.

A value is admitted if it cannot change and can be written without hash seed, address or path, so that the fingerprint
covers it. `refold.rules.purity` checks whether a value is admitted; `refold.rules.fingerprint` hashes it.
"""

from __future__ import annotations

import builtins
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum, EnumMeta
from types import FunctionType

from refold.rules.outcome import Ignored, Rejection, ignore, reject
from refold.rules.source import is_named_tuple

Form = None | bool | int | str | list["Form"]

FUNCTIONS: Mapping[str, object] = {
    name: getattr(builtins, name)
    for name in (
        *("abs", "all", "any", "bool", "bytes", "chr", "dict", "divmod", "enumerate", "int", "isinstance", "len"),
        *("list", "max", "min", "ord", "pow", "range", "reversed", "round", "sorted", "str", "sum", "tuple", "zip"),
    )
}
"""The built-in functions whose result depends on their arguments alone and is the same everywhere."""

CLASSES: tuple[type, ...] = (Decimal, dt.date, dt.datetime, dt.timedelta, Rejection, Ignored)
"""The classes that a rule may call or name besides its own enums and named tuples."""

_SCALARS = (Decimal, dt.date, dt.datetime, dt.timedelta, dt.timezone)

_METHODS = (FunctionType, property, classmethod, staticmethod)

ATTRIBUTES = frozenset((
    "value", "name", "year", "month", "day", "hour", "minute", "second", "microsecond", "weekday",
    "isoweekday", "isocalendar", "toordinal", "isoformat", "date", "days", "seconds", "microseconds",
    "replace", "lower", "upper", "strip", "lstrip", "rstrip", "split", "rsplit", "partition", "rpartition",
    "startswith", "endswith", "find", "count", "index", "join", "isdigit", "isdecimal", "isalpha", "isalnum",
    "isascii", "removeprefix", "removesuffix", "zfill", "encode", "decode", "hex", "append", "extend",
    "insert", "pop", "get", "items", "keys", "values", "bit_length", "bit_count", "quantize", "normalize",
    "scaleb", "adjusted", "compare", "copy_abs", "copy_negate", "is_zero", "is_signed", "to_integral_value",
    "_replace",
))  # fmt: skip
"""The attributes that always give the same result on the values that a rule can hold."""

_UNUSED = {"__init__", "__new__", "__repr__", "__dir__", "__init_subclass__", "__set_name__", "__getnewargs__"}
_UNUSED |= {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__class_getitem__", "__copy__"}
_UNUSED |= {"__deepcopy__", "__replace__"}
"""Special methods that no rule runs, or that run only when the class or its members are created."""


def _runs(name: str) -> bool:
    """Whether a rule can run a class's own method of that name, by an operator, a built-in or a listed attribute."""
    special = name.startswith("__") and name.endswith("__")
    return name in ATTRIBUTES or name in ("_missing_", "_make") or (special and name not in _UNUSED)


class NotConstant(Exception):
    """A value cannot be part of a rule; the message says why and what to use instead."""


def canonical(value: object, *, sets: bool = False) -> Form:
    """The canonical form of an admitted value, made of lists, texts, integers, booleans and None.

    A frozenset is admitted only where `sets` says that nothing can walk through it.

    Raises:
        NotConstant: the value may change, or has no form that is the same on every machine.

    >>> canonical((1, "a", None))
    ['tuple', [['int', '0x1'], ['str', 'a'], None]]
    """
    if value is None or isinstance(value, bool):
        return value
    if sets and type(value) is frozenset:
        return ["set", sorted((canonical(v) for v in value), key=repr)]
    if isinstance(value, Enum):
        return ["member", value.name, _enum(type(value))]
    if isinstance(value, tuple) and (type(value) is tuple or is_named_tuple(type(value))):
        names: Form = list(getattr(value, "_fields", ()))
        return ["tuple", [canonical(v) for v in value], *([names] if names else [])]
    return _code(value) if isinstance(value, type) or callable(value) else _scalar(value)


def _scalar(value: object) -> Form:
    kind = type(value).__name__
    match value:
        case int() if type(value) is int:
            return ["int", hex(value)]
        case str() if type(value) is str:
            return ["str", value]
        case bytes() if type(value) is bytes:
            return ["bytes", value.hex()]
        case dt.datetime() if value.tzinfo is not None and type(value.tzinfo) is not dt.timezone:
            raise NotConstant("a time zone with rules changes with its database; use datetime.UTC.")
        case Decimal() | dt.date() | dt.timedelta() | dt.timezone() if type(value) in _SCALARS:
            return [kind, repr(value)]
    raise NotConstant(_why_not(value))


def _code(value: object) -> Form:
    """A class or function that a rule may name."""
    if isinstance(value, EnumMeta):
        return _enum(value)
    if isinstance(value, type) and is_named_tuple(value):
        return ["row", _named_tuple(value)]
    known = value is reject or value is ignore or any(value is built_in for built_in in FUNCTIONS.values())
    if known or (isinstance(value, type) and (value in CLASSES or _is_exception(value))):
        return ["code", value.__name__]  # type: ignore[attr-defined]
    raise NotConstant(_why_not(value))


def _is_exception(value: type) -> bool:
    return issubclass(value, Exception) and getattr(builtins, value.__name__, None) is value


def _why_not(value: object) -> str:
    if isinstance(value, list | dict | set | bytearray):
        return f"a {type(value).__name__} can change while the process runs; use a tuple, an Enum or match."
    if isinstance(value, frozenset):
        return "the order of a set differs between runs; it may only stand right of `in`, elsewhere use a tuple."
    if isinstance(value, float | complex):
        return "floats are rounded and depend on the order of sums; use int (the smallest unit) or Decimal."
    return f"a {type(value).__name__} may change unseen; use int, str, bool, Decimal, date, tuple, Enum or NamedTuple."


def _enum(kind: EnumMeta) -> Form:
    # Enum itself writes some of these into a class with mixed-in int or str; those are functions of the module enum.
    attributes = [
        item for base in kind.__mro__ if base.__module__ not in ("enum", "builtins") for item in vars(base).items()
    ]
    own = sorted(name for name, value in attributes if _runs(name) and isinstance(value, _METHODS)
                 and getattr(value, "__module__", None) != "enum")  # fmt: skip
    if own:
        raise NotConstant(f"the enum {kind.__name__} defines {', '.join(own)} itself; leave these to Enum.")
    mixed = [base.__name__ for base in kind.__mro__ if base in (int, str)]
    by_name: Mapping[str, Enum] = kind.__members__
    members: list[Form] = [[name, _enum_value(kind, member.value)] for name, member in by_name.items()]
    return ["enum", *mixed, members]


def _enum_value(kind: EnumMeta, value: object) -> Form:
    try:
        return canonical(value)
    except NotConstant as error:
        raise NotConstant(f"a value of the enum {kind.__name__} cannot be written down: {error}") from error


def _named_tuple(kind: type) -> Form:
    own = sorted(name for name, value in vars(kind).items() if _runs(name) and isinstance(value, _METHODS)
                 and getattr(value, "__module__", None) != "collections")  # fmt: skip
    if own:
        raise NotConstant(
            f"{kind.__name__} defines {', '.join(own)} itself, which the fingerprint does not cover; leave these to "
            "NamedTuple, and write a helper function at the top of the module."
        )
    defaults = kind._field_defaults  # type: ignore[attr-defined]
    return [[name, *([canonical(defaults[name])] if name in defaults else [])] for name in kind._fields]  # type: ignore[attr-defined]
