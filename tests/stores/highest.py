"""A kind of store that Refold does not know, whole in this module: the highest value of a column by key.

A value that is not higher, or above a limit, is ignored, and one that is equal is rejected as a tie, so that outcomes
and reasons are its own. The project below publishes it, and counts its outcomes by a query over its ledger.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from assets.logs import stock_events
from refold import Daily, Delta, Project, Sql, int64, relation, text
from refold.log.declaration import POSITION, Log
from refold.log.reader import plain
from refold.rules.outcome import FoldResult, Outcome
from refold.sinks.base import Sink
from refold.stores.declaration import Account, Folded, Work, repeats_text
from refold.stores.kinds.plain import PlainFold
from refold.types import Schema

TIE = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Highest(Folded):
    """The highest `column` of each key's events, of those `at_most` so high."""

    column: str
    at_most: int = 2**62

    @property
    def values(self) -> Schema:
        return {self.column: int64(null=True)}

    @property
    def columns_read(self) -> Sequence[str]:
        return [self.column]

    @property
    def code_version(self) -> str:
        return f"{self.version}-highest-{self.column}-{self.at_most}"

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        return {name: [(self.log.name, name)] for name in self.columns}

    @property
    def row_before(self) -> pa.Table:
        return pa.table({self.column: pa.nulls(1, pa.int64())})

    @property
    def reasons(self) -> Mapping[int, str]:
        return {TIE: "TIE"}

    @property
    def work(self) -> Work:
        return Work.INTERPRETED

    def fold(self, rows: pa.Table, codes: Any, events: pa.Table, live: Any) -> FoldResult:
        highest, found = rows[self.column].to_pylist(), plain(events[self.column]).to_pylist()
        outcomes, reasons = np.zeros((2, len(codes)), dtype=np.uint8)
        for place in np.flatnonzero(live).tolist():
            key, value = codes[place], found[place]
            if value <= self.at_most and (highest[key] is None or value > highest[key]):
                highest[key] = value
            else:
                tie = value == highest[key]
                outcomes[place] = Outcome.REJECTED if tie else Outcome.IGNORED
                reasons[place] = TIE if tie else 0
        return FoldResult(pa.table({self.column: pa.array(highest, pa.int64())}), outcomes, reasons)

    def plain_fold(self) -> PlainFold:
        return _Plain(self.column, self.at_most)

    def account(self) -> Account:
        covered = {"column": [self.column]}
        return Account(
            how="The highest value by key.", fingerprint_of=covered, repeats=repeats_text("the comparison", self.log)
        )


class _Plain(PlainFold):
    """The same as a sorted list of what was seen."""

    def __init__(self, column: str, at_most: int) -> None:
        self._column = column
        self._at_most = at_most
        self._seen: dict[object, list[int]] = {}

    def apply(self, key: object, event: Mapping[str, Any]) -> tuple[Outcome, int]:
        seen, value = self._seen.setdefault(key, []), event[self._column]
        if value > self._at_most:
            return Outcome.IGNORED, 0
        before = seen[-1:]
        seen[:] = sorted([*seen, value])
        if before == [value]:
            return Outcome.REJECTED, TIE
        return (Outcome.IGNORED if before and before > [value] else Outcome.APPLIED), 0

    def values(self, key: object) -> Mapping[str, Any]:
        return {self._column: max(self._seen[key]) if self._seen.get(key) else None}


def highest_by_key(log: Log, name: str, column: str, sinks: Sequence[Sink] = (), at_most: int = 2**62) -> Highest:
    """Declare it."""
    keys = {name: log.columns[name] for name in log.key_columns}
    columns = {**keys, column: int64(null=True), **POSITION}
    key, declared = log.key_columns, tuple(sinks)
    return Highest(
        name=name, version=1, columns=columns, key=key, sinks=declared, log=log, column=column, at_most=at_most
    )


largest = highest_by_key(stock_events, "largest", "quantity", [Sql("largest"), Delta("largest")])
largest_of_few = highest_by_key(stock_events, "largest", "quantity", at_most=8)


@relation(reads=[largest.ledger, largest], key=["outcome"], returns={"outcome": text(), "events": int64()})
def largest_outcomes():
    """Events of keys that have a largest value, by outcome."""
    return """
        SELECT outcome, count(*) AS events FROM largest_ledger JOIN largest USING (product_id) GROUP BY outcome
    """


PROJECT = Project("highest", Daily(dt.date(2026, 1, 1)), [largest_outcomes, largest])
