"""Version vectors: their text, which write has seen which, and what all of some writes have seen.

A vector gives for each producer the number of its writes that a write has seen, its own among them; a producer that it
does not name counts as 0. One vector dominates another where it is at least as high for every producer, and higher for
one: then its write has seen the other. Two of which neither dominates are concurrent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Vector: TypeAlias = Mapping[str, int]

COUNTER_MAX = 2**63 - 1


def read_vector(text: str) -> dict[str, int] | None:
    """The vector of a JSON text; None where it is not an object of counters, names none, or names one twice.

    >>> read_vector('{"b": 1, "a": 3, "c": 0}'), read_vector('{"a": 1.0}'), read_vector("{}")
    ({'b': 1, 'a': 3}, None, None)
    """
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
        if not isinstance(pairs, _Pairs) or len(dict(pairs)) < len(pairs):
            return None
        "".join(name for name, _ in pairs).encode()
    except (ValueError, RecursionError):  # UnicodeEncodeError, of half a surrogate pair, is a ValueError
        return None
    if not all(type(count) is int and 0 <= count <= COUNTER_MAX for _, count in pairs):
        return None
    return {name: count for name, count in pairs if count} or None


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object."""


def vector_text(vector: Vector) -> str:
    """The one text of a vector: JSON, with producers in the order of their bytes.

    >>> vector_text({"é": 1, "b": 2})
    '{"b":2,"é":1}'
    """
    ordered = {name: vector[name] for name in sorted(vector, key=str.encode)}
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))


def dominates(one: Vector, other: Vector) -> bool:
    """Whether the write of one vector has seen that of the other, and is not the same.

    >>> dominates({"a": 2, "b": 1}, {"a": 1}), dominates({"a": 1}, {"a": 1}), dominates({"a": 1}, {"b": 1})
    (True, False, False)
    """
    return one != other and all(one.get(name, 0) >= count for name, count in other.items())


def joined(vectors: Iterable[Vector]) -> dict[str, int]:
    """The least vector that dominates or equals all of some: what a write has seen that read all of theirs.

    >>> joined([{"a": 2}, {"a": 1, "b": 1}])
    {'a': 2, 'b': 1}
    """
    found: dict[str, int] = {}
    for vector in vectors:
        for name, count in vector.items():
            found[name] = max(count, found.get(name, 0))
    return found


def beyond(vector: Vector, seen: Vector) -> dict[str, int]:
    """A vector without the counters that every write has seen, so that retired producers leave it.

    Where no write has less than `seen`, one vector dominates another after this exactly where it did before.

    >>> beyond({"old": 17, "a": 2}, {"old": 17})
    {'a': 2}
    """
    return {name: count for name, count in vector.items() if count > seen.get(name, 0)}
