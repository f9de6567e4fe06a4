"""The interpreted fold: the specification of what a rule means.

Python runs the rule event by event, with exact integers and one fixed decimal context. The compiled fold in
`refold.rules.kernel` must give the same rows, outcomes and reasons, and hands over to this one whenever it cannot.
"""

from __future__ import annotations

import datetime as dt
import decimal
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.errors import RuleError
from refold.rules.outcome import NOT_FOLDED, FoldResult, Ignored, Outcome, Rejection
from refold.rules.values import admits, arrow_rows, python_values
from refold.types import ColumnKind, ColumnType, Schema

Codes = npt.NDArray[np.int64]
Live = npt.NDArray[np.bool_]
Row = tuple[object, ...]

_CHUNK_EVENTS = 1024  # bounds the memory of Python values; larger chunks measured slower, for the garbage collector


def fixed_context() -> decimal.Context:
    """The decimal context of every fold: twice the digits of a column, half to even, whatever the process has set."""
    traps = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
    return decimal.Context(prec=76, rounding=decimal.ROUND_HALF_EVEN, traps=traps, Emin=-999999, Emax=999999)


@dataclass(frozen=True)
class Interpreter:
    """Runs a rule as Python; `columns` are the event columns it reads, `row_columns` the fields of its row."""

    name: str
    function: Callable[..., object]
    row: type
    row_columns: Schema
    columns: Schema

    def fold(self, rows: pa.Table, codes: Codes, events: pa.Table, live: Live, first_index: int = 0) -> FoldResult:
        """Fold the live events in order; event i belongs to row `codes[i]` and is called `first_index + i` in errors.

        Raises:
            RuleError: the rule raised or gave something impossible; nothing is returned then.
        """
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < rows.num_rows:
            raise ValueError(f"codes run from {codes.min()} to {codes.max()}, but there are {rows.num_rows} rows")
        state = self.rows_of(rows)
        outcomes, reasons = bytearray([NOT_FOLDED]) * len(codes), bytearray(len(codes))
        step = self._step()
        with decimal.localcontext(fixed_context()):
            for start in range(0, len(codes), _CHUNK_EVENTS):
                part = slice(start, start + _CHUNK_EVENTS)
                alive = live[part].tolist()
                views = self.events_of(events.slice(start, _CHUNK_EVENTS), first_index + start, len(alive))
                for offset, (code, event) in enumerate(zip(codes[part].tolist(), views, strict=True)):
                    if alive[offset]:
                        index = start + offset
                        row, outcome, reason = step(state[code], event, first_index + index)
                        state[code], outcomes[index], reasons[index] = row, outcome, reason
        return FoldResult(
            arrow_rows(state, self.row_columns),
            np.frombuffer(outcomes, dtype=np.uint8),
            np.frombuffer(reasons, dtype=np.uint8),
        )

    def steps(self, row: Row, events: pa.Table) -> Iterator[tuple[Row, Outcome, int]]:
        """The row after each event of one key, with its outcome and reason code (0 where none)."""
        step = self._step()
        for index, event in enumerate(self.events_of(events, 0, events.num_rows)):
            with decimal.localcontext(fixed_context()):
                row, outcome, reason = step(row, event, index)
            yield row, outcome, reason

    def rows_of(self, rows: pa.Table) -> list[Row]:
        """The rows of a table as the rule's NamedTuple."""
        lists = [python_values(rows.column(name), kind) for name, kind in self.row_columns.items()]
        make: Callable[[Row], Row] = self.row._make  # type: ignore[attr-defined]
        return [make(values) for values in zip(*lists, strict=True)]

    def events_of(self, events: pa.Table, first_index: int, count: int) -> list[tuple[object, ...]]:
        """The events as objects whose attributes are the columns read.

        Raises:
            RuleError: a column holds what its type does not admit.
        """
        if not self.columns:
            return [()] * count
        lists = []
        for name, kind in self.columns.items():
            try:
                lists.append(python_values(events.column(name), kind))
            except ValueError as error:
                raise RuleError(
                    f"The rule {self.name} cannot read the column {name}: {error}.",
                    remedy="Compare the log's declared columns with its segments.",
                    event_index=first_index + _first_unreadable(events.column(name), kind),
                ) from error
        return list(map(_event_class(tuple(self.columns)), zip(*lists, strict=True)))

    def _step(self) -> Callable[[Row, object, int], tuple[Row, Outcome, int]]:
        """One step as a closure, since attribute look-ups would double the time of the loop."""
        function, row_class = self.function, self.row
        tests = [admits(kind) for kind in self.row_columns.values()]
        formed = as_stored(self.row, self.row_columns)
        applied, rejected, ignored = Outcome.APPLIED, Outcome.REJECTED, Outcome.IGNORED

        def step(row: Row, event: object, index: int) -> tuple[Row, Outcome, int]:
            try:
                answer = function(row, event)
            except Exception as error:  # any error of a rule is reported with the event that caused it
                raise RuleError(
                    f"The rule {self.name} raised {type(error).__name__}: {error} at event {index} with the row {row}.",
                    remedy="Let the rule reject or ignore such an event, or change the rule.",
                    event_index=index,
                ) from error
            if isinstance(answer, Rejection):
                return row, rejected, self._reason(answer, row, index)
            if isinstance(answer, Ignored):
                return row, ignored, 0
            if type(answer) is not row_class:
                raise self._impossible(f"returned {answer!r}, which is not a {row_class.__name__},", row, index)
            assert isinstance(answer, tuple)
            for value, test in zip(answer, tests, strict=True):
                if not test(value):
                    self._refuse(answer, row, index)
            return answer if formed is None else formed(answer), applied, 0

        return step

    def _reason(self, answer: Rejection, row: Row, index: int) -> int:
        if not 1 <= answer.reason <= 255:
            raise self._impossible(f"rejected with {answer.reason!r}, which is not from 1 to 255,", row, index)
        return int(answer.reason)

    def _refuse(self, answer: Row, row: Row, index: int) -> None:
        for (name, kind), value in zip(self.row_columns.items(), answer, strict=True):
            if not admits(kind)(value):
                raise self._impossible(f"set {name} to {value!r}, which is not a valid {kind},", row, index)

    def _impossible(self, what: str, row: Row, index: int) -> RuleError:
        return RuleError(
            f"The rule {self.name} {what} at event {index} with the row {row}.",
            remedy="Let the rule reject such an event, or return a row with admitted values.",
            event_index=index,
        )


def as_stored(row: type, columns: Schema) -> Callable[[Row], Row] | None:
    """Gives the values of an admitted row the form they are read back in; None where a row has no values of two forms.

    A rule can see the digits of a decimal, the sign of its zero and the zone of a timestamp. None of them may depend on
    whether the row was stored in between.
    """
    forms: list[tuple[int, Callable[[Any], object]]] = []
    for place, kind in enumerate(columns.values()):
        if kind.kind is ColumnKind.DECIMAL:
            forms.append((place, partial(_in_scale, decimal.Decimal((0, (1,), -(kind.scale or 0))))))
        elif kind.kind is ColumnKind.TIMESTAMP:
            forms.append((place, lambda value: value.astimezone(dt.UTC)))
    make: Callable[[list[object]], Row] = row._make  # type: ignore[attr-defined]

    def formed(answer: Row) -> Row:
        values = list(answer)
        for place, form in forms:
            if values[place] is not None:
                values[place] = form(values[place])
        return make(values)

    return formed if forms else None


def _in_scale(unit: decimal.Decimal, value: decimal.Decimal) -> decimal.Decimal:
    return value.quantize(unit) if value else unit - unit


def _event_class(columns: tuple[str, ...]) -> type[tuple[object, ...]]:
    """A light class whose attributes are the columns; a named tuple would refuse names such as `_id`."""
    members: dict[str, object] = {name: property(itemgetter(i)) for i, name in enumerate(columns)}
    return type("Event", (tuple,), {"__slots__": (), **members})


def _first_unreadable(column: pa.ChunkedArray, kind: ColumnType) -> int:
    """The place of the first value that its type does not admit, of a column that has one."""
    return bisect_left(range(len(column)), True, key=lambda place: not _readable(column.slice(0, place + 1), kind))


def _readable(column: pa.ChunkedArray, kind: ColumnType) -> bool:
    try:
        python_values(column, kind)
    except ValueError:
        return False
    return True
