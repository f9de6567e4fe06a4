"""Whether a value read from a record has the types that its class declares.

The sum of a record only says that its bytes are what somebody wrote. They may be another program's, with text where a
number belongs: that is found where the record is read, not where the number is used.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
_Check = Callable[[object], bool]
_INT_MAX = (1 << 63) - 1


def typed(value: T) -> T:
    """A dataclass as it was given. Raises TypeError where one of its fields does not have its declared type."""
    for name, check, expected in _checks(type(value)):  # type: ignore[arg-type]
        found = getattr(value, name)
        if not check(found):
            raise TypeError(f"{type(value).__name__}.{name}: expected {expected}, found {found!r}")
    return value


def plain_value(value: Any) -> Any:
    """Dataclasses within a value as JSON has them: objects of their fields.

    Five times as fast as `dataclasses.asdict`, which copies every text and looks up the fields each time.
    """
    if isinstance(value, str | int | None):
        return value
    if (names := getattr(type(value), "__dataclass_fields__", None)) is not None:
        return {name: plain_value(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {name: plain_value(one) for name, one in value.items()}
    return [plain_value(one) for one in value] if isinstance(value, list | tuple) else value


def has_shape(value: object, expected: Any) -> bool:
    """Whether a value read from JSON has a declared type, such as a TypedDict."""
    return _check(expected)(value)


@cache
def _checks(kind: type) -> tuple[tuple[str, _Check, str], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, _check(hints[field.name]), str(field.type)) for field in fields(kind))


def _check(hint: Any) -> _Check:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return lambda _: True
    if origin in (Union, types.UnionType):
        either = [_check(each) for each in inner]
        return lambda value: any(check(value) for check in either)
    if is_typeddict(hint):
        own = {name: _check(each) for name, each in get_type_hints(hint).items()}
        return lambda value: (
            isinstance(value, dict) and all(name in value and f(value[name]) for name, f in own.items())
        )
    if origin is not None and issubclass(origin, Mapping):
        key, each = _check(inner[0]), _check(inner[1])
        return lambda value: isinstance(value, Mapping) and all(key(k) and each(v) for k, v in value.items())
    if origin is not None and issubclass(origin, Sequence):
        return _row(inner) if origin is tuple and ... not in inner else _rows(_check(inner[0]))
    return _plain(hint)


def _rows(one: _Check) -> _Check:
    return lambda value: isinstance(value, list | tuple) and all(map(one, value))


def _row(hints: Sequence[Any]) -> _Check:
    """A list of JSON with so many values, each of its own type."""
    places = [_check(each) for each in hints]
    return lambda value: (
        isinstance(value, list | tuple)
        and len(value) == len(places)
        and all(check(each) for check, each in zip(places, value, strict=True))
    )


def _plain(kind: type) -> _Check:
    if kind is int:
        return lambda value: type(value) is int and -_INT_MAX <= value <= _INT_MAX
    if kind is float:
        return lambda value: type(value) in (int, float)
    if is_dataclass(kind):
        return lambda value: isinstance(value, kind)
    return lambda value: type(value) is kind
