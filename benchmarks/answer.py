"""What an answer is: the same three counts and one digest, demanded from Refold and from every peer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import pyarrow as pa


@dataclass(frozen=True)
class Answer:
    """The levels of all keys that any event named, as a digest, and what became of the events."""

    levels: str
    applied: int
    rejected: int
    duplicate: int


@dataclass(frozen=True)
class Levels:
    """What a peer found: keys and their levels, alike in order, and the counts."""

    keys: Iterable[str]
    levels: Iterable[int]
    applied: int
    rejected: int
    duplicate: int

    def answer(self) -> Answer:
        """The answer to compare; made after the clock has stopped."""
        return Answer(levels_digest(self.keys, self.levels), self.applied, self.rejected, self.duplicate)


def levels_digest(keys: Iterable[object], levels: Iterable[int]) -> str:
    """The sha256 of the lines `key TAB level`, sorted as bytes.

    >>> levels_digest(["b", "a"], [1, 0]) == levels_digest(["a", "b"], [0, 1])
    True
    """
    if isinstance(keys, pa.Array | pa.ChunkedArray):
        keys = keys.to_pylist()
    lines = sorted(f"{key}\t{int(level)}\n".encode() for key, level in zip(keys, levels, strict=True))
    return sha256(b"".join(lines)).hexdigest()
