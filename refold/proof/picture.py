"""A picture of a difference: its place in history and in key space, in characters that display everywhere.

The history strip has one column per snapshot, or one per group of snapshots where there are more than 64; the worst of
a group shows. A key space strip has 64 columns of 64 buckets of the key's hash each; the higher the block, the more of
its buckets differ. Only lines of text are made here; terminals and Dagster's Markdown both show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from refold.canonical.digest import BUCKETS

COLUMNS = 64
EQUAL, NOT_BUILT, STATE, LEDGER, BOTH = "·", " ", "▒", "▓", "█"
_WORST = f"{EQUAL}{NOT_BUILT}{STATE}{LEDGER}{BOTH}"
_HEIGHTS = "·▁▂▃▄▅▆▇█"
_PER_COLUMN = BUCKETS // COLUMNS


@dataclass(frozen=True)
class Picture:
    """Where a store differs.

    Attributes:
        history: (snapshot key, mark) from the oldest on; the mark is one of this module's.
        spaces: (what was compared, the buckets in which it differs).
    """

    history: Sequence[tuple[str, str]] = ()
    spaces: Sequence[tuple[str, Sequence[int]]] = field(default=())

    def lines(self) -> list[str]:
        """The picture as lines of text, with a legend.

        >>> days = [("2026-01-01", EQUAL), ("2026-01-02", STATE), ("2026-01-03", BOTH)]
        >>> print(*Picture(days, [("rows at 2026-01-02", [0, 1, 4095])]).lines(), sep="\\n")
        history              ·▒█  2026-01-01 to 2026-01-03
        rows at 2026-01-02   ▁······························································▁
        · equal  ▒ rows differ  ▓ outcomes differ  █ both;  64 buckets of keys a column, the higher the more differ
        """
        width = max([20, *(len(label) for label, _ in self.spaces)])
        lines = []
        if self.history:
            strip = "".join(_worst(group) for group in _groups([mark for _, mark in self.history]))
            lines.append(f"{'history':<{width}} {strip}  {self.history[0][0]} to {self.history[-1][0]}")
        lines += [f"{label:<{width}} {space_strip(buckets)}" for label, buckets in self.spaces]
        marks = f"{EQUAL} equal  {STATE} rows differ  {LEDGER} outcomes differ  {BOTH} both"
        if any(mark == NOT_BUILT for _, mark in self.history):
            marks += "  (blank) not built"
        return (
            [*lines, f"{marks};  {_PER_COLUMN} buckets of keys a column, the higher the more differ"] if lines else []
        )


def space_strip(buckets: Sequence[int]) -> str:
    """The key space as 64 characters, each as high as the share of its buckets that differ.

    >>> space_strip(range(64))[:3]
    '█··'
    """
    counts = np.bincount(np.asarray(buckets, dtype=np.int64) // _PER_COLUMN, minlength=COLUMNS)
    return "".join(_HEIGHTS[-(-int(count) * (len(_HEIGHTS) - 1) // _PER_COLUMN)] for count in counts)


def _groups(marks: Sequence[str]) -> list[Sequence[str]]:
    if len(marks) <= COLUMNS:
        return [[mark] for mark in marks]
    bounds = [len(marks) * column // COLUMNS for column in range(COLUMNS + 1)]
    return [marks[start:end] for start, end in pairwise(bounds)]


def _worst(marks: Sequence[str]) -> str:
    return max(marks, key=_WORST.index)
