"""The interpreted fold: what a rule sees of an event, what it may answer, and how an error names its event."""

import datetime as dt
import decimal
import itertools
from decimal import Decimal
from enum import Enum, IntEnum
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.errors import RuleError
from refold.rules import Outcome, Rule, ignore, reject
from refold.rules.interpreter import Interpreter
from refold.rules.rule import COMPILED_FROM_EVENTS
from refold.rules.values import admits
from refold.types import arrow_schema, binary, boolean, date, enum, int64, text, timestamp
from refold.types import decimal as decimal_type


class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"


class Why(IntEnum):
    NO = 9


COLUMNS = {
    "number": int64(null=True),
    "country": text(null=True),
    "kind": enum(Movement, null=True),
    "price": decimal_type(18, 4, null=True),
    "day": date(null=True),
    "at": timestamp(null=True),
    "raw": binary(null=True),
    "flag": boolean(null=True),
}
UTC_NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)


class Last(NamedTuple):
    number: int | None = None
    country: str | None = None
    kind: Movement | None = None
    price: decimal_type(18, 4, null=True) = None
    day: dt.date | None = None
    at: dt.datetime | None = None
    raw: bytes | None = None
    flag: bool | None = None
    seen: int = 0


def last(row: Last, event):
    return Last(
        event.number, event.country, event.kind, event.price, event.day, event.at, event.raw, event.flag, row.seen + 1
    )


def events_table(*rows):
    return pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema=arrow_schema(COLUMNS))


def one_fold(function, *rows, columns=COLUMNS):
    rule = Rule.of(function, columns, 1)
    codes, live = np.zeros(len(rows), np.int64), np.ones(len(rows), bool)
    return rule.fold(rule.default_rows(1), codes, events_table(*rows), live)


FULL = (7, "DE", "remove", Decimal("12.5000"), dt.date(2026, 3, 1), UTC_NOON, b"\x00\xff", True)
EMPTY = (None,) * 8


def test_every_column_type_goes_through_a_rule_unchanged():
    """What comes in as Arrow goes out as Arrow, null included."""
    for row in (FULL, EMPTY):
        result = one_fold(last, row)
        assert list(result.rows.to_pylist()[0].values()) == [*row, 1]
        assert result.outcomes.tolist() == [Outcome.APPLIED]


def test_a_rule_sees_members_dates_and_decimals():
    """The Python form of each type is the documented one."""
    row = one_steps(last, FULL)[0][0]
    assert row.kind is Movement.REMOVE
    assert row.at == UTC_NOON
    assert row.at.tzinfo is dt.UTC
    assert [type(value) for value in row[:8]] == [int, str, Movement, Decimal, dt.date, dt.datetime, bytes, bool]


def one_steps(function, *rows):
    rule = Rule.of(function, COLUMNS, 1)
    return list(rule.steps(rule.row(), events_table(*rows)))


def counted(row: Last, event):
    if event.number is None:
        return ignore()
    if event.number < 0:
        return reject(Why.NO)
    return row._replace(seen=row.seen + event.number)


def test_steps_tell_how_a_value_came_about():
    """One step per event: the row after it, the outcome, the reason."""
    rows = [(n, *EMPTY[1:]) for n in (3, -1, None, 4)]
    assert [(row.seen, outcome, reason) for row, outcome, reason in one_steps(counted, *rows)] == [
        (3, Outcome.APPLIED, 0),
        (3, Outcome.REJECTED, 9),
        (3, Outcome.IGNORED, 0),
        (7, Outcome.APPLIED, 0),
    ]


@given(numbers=st.lists(st.none() | st.integers(-3, 9), max_size=20), alive=st.lists(st.booleans(), min_size=20))
def test_the_last_step_is_the_folded_row(numbers, alive):
    """Explaining and folding are the same computation; dead events never reach the rule."""
    rule = Rule.of(counted, COLUMNS, 1)
    live = np.array(alive[: len(numbers)], dtype=bool)
    table = events_table(*((n, *EMPTY[1:]) for n in numbers))
    result = rule.fold(rule.default_rows(1), np.zeros(len(numbers), np.int64), table, live)
    steps = list(rule.steps(rule.row(), table.filter(pa.array(live))))
    plain = sum(n for n, keep in zip(numbers, live, strict=True) if keep and n is not None and n >= 0)
    assert result.rows.column("seen").to_pylist() == [plain]
    assert [o for o in result.outcomes.tolist() if o != 255] == [outcome for _, outcome, _ in steps]
    assert [r for r, keep in zip(result.reasons.tolist(), live, strict=True) if keep] == [r for *_, r in steps]
    assert not result.reasons[~live].any()


def test_an_exception_in_a_rule_names_its_event_and_keeps_its_cause():
    """The event index counts all events given, dead ones too."""

    def divided(row: Last, event):
        return row._replace(seen=10 // event.number)

    rule = Rule.of(divided, COLUMNS, 1)
    table = events_table(*((n, *EMPTY[1:]) for n in (0, 5, 0)))
    with pytest.raises(RuleError, match=r"divided raised ZeroDivisionError.* at event 2 with the row") as caught:
        rule.fold(rule.default_rows(1), np.zeros(3, np.int64), table, np.array([False, True, True]))
    assert caught.value.event_index == 2
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seen": None}, "set seen to None"),
        ({"seen": 2**63}, "set seen to 9223372036854775808"),
        ({"seen": True}, "set seen to True"),
        ({"seen": "1"}, "set seen to '1'"),
        ({"flag": 1}, "set flag to 1"),
        ({"country": "\ud800"}, "set country to"),
        ({"price": Decimal("0.00001")}, "set price to"),
        ({"price": Decimal("NaN")}, "set price to"),
        ({"day": UTC_NOON}, "set day to"),
        ({"at": dt.datetime(2026, 1, 1)}, "set at to"),  # noqa: DTZ001
        ({"kind": "add"}, "set kind to 'add'"),
    ],
)
def test_an_impossible_row_is_refused(changes, expected):
    """What a field cannot hold is an error of the rule, at the event where it happened."""
    rule, broken = Rule.of(last, COLUMNS, 1), Last()._replace(**changes)
    interpreter = Interpreter("broken", lambda row, event: broken, Last, rule.row_columns, {})
    with pytest.raises(RuleError, match=f"{expected}.*at event 0"):
        interpreter.fold(rule.default_rows(1), np.zeros(1, np.int64), pa.table({}), np.ones(1, bool))


def test_an_answer_that_is_no_row_is_refused():
    """A plain tuple has no names, so it may not stand for a row."""

    def plain(row: Last, event):
        return (1, 2)

    with pytest.raises(RuleError, match=r"returned \(1, 2\), which is not a Last"):
        one_fold(plain, FULL)


def test_decimals_do_not_depend_on_the_context_of_the_process():
    """A process that computes with three digits folds the same."""

    def added(row: Last, event):
        return row._replace(price=(row.price or Decimal(0)) + event.price)

    big = (*FULL[:3], Decimal("12345678901234.5678"), *FULL[4:])
    expected = Decimal("24691357802469.1356")
    with decimal.localcontext(decimal.Context(prec=3)):
        assert one_fold(added, big, big).rows.column("price").to_pylist() == [expected]
    assert one_fold(added, big, big).rows.column("price").to_pylist() == [expected]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_a_decimal_field_admits_what_arrow_stores_without_rounding(value):
    """Our integer test against the definition: times ten to the scale it is a whole number of few digits."""
    with decimal.localcontext(decimal.Context(prec=2000, Emin=-999999, Emax=999999)):
        scaled = value.scaleb(4)
        expected = scaled == scaled.to_integral_value() and abs(scaled) < 10**18
    assert admits(decimal_type(18, 4))(value) is expected
    if expected:
        assert pa.array([value], pa.decimal128(18, 4)).to_pylist() == [value]


def test_a_rule_that_reads_no_column_folds_too():
    """Counting needs no columns."""

    class Count(NamedTuple):
        n: int = 0

    def count(row: Count, event):
        return Count(row.n + 1)

    rule = Rule.of(count, COLUMNS, 1)
    assert rule.columns_read == ()
    codes, live = np.array([0, 1, 1, 1]), np.array([True, True, False, True])
    for fold in (rule.fold, rule.interpreter.fold):
        assert fold(rule.default_rows(2), codes, pa.table({}), live).rows.to_pydict() == {"n": [1, 2]}
        rule.compile()


def test_nothing_to_fold_leaves_the_rows_as_they_are():
    """No events, and no rows."""
    rule = Rule.of(last, COLUMNS, 1)
    for keys in (0, 3):
        result = rule.fold(rule.default_rows(keys), np.zeros(0, np.int64), events_table(), np.zeros(0, bool))
        assert result.rows.equals(rule.default_rows(keys))
        assert (len(result.outcomes), len(result.reasons)) == (0, 0)


def test_inputs_that_do_not_fit_each_other_are_refused():
    """A length too few would fold the wrong events."""
    rule = Rule.of(last, COLUMNS, 1)
    with pytest.raises(ValueError, match="2 codes, 2 live flags and 1 events"):
        rule.fold(rule.default_rows(1), np.zeros(2, np.int64), events_table(FULL), np.ones(2, bool))


def test_a_null_in_a_column_declared_without_is_refused():
    """The rule was written for columns without null; compiled or not, it is not asked."""

    class Seen(NamedTuple):
        seen: int = 0

    def added(row: Seen, event):
        return row._replace(seen=row.seen + event.number)

    rule = Rule.of(added, {"number": int64()}, 1)
    table = pa.table({"number": pa.array([1, None], pa.int64())})
    for _ in range(2):
        with pytest.raises(RuleError, match=r"cannot read the column number.*it holds null"):
            rule.fold(rule.default_rows(1), np.zeros(2, np.int64), table, np.ones(2, bool))
        assert rule.compile()


def test_columns_whose_names_are_odd_can_be_read():
    """A leading underscore, or the name of a tuple's method."""

    def odd(row: Last, event):
        return row._replace(seen=event._id + event.count + event.index)

    columns = {"_id": int64(), "count": int64(), "index": int64()}
    rule = Rule.of(odd, columns, 1)
    table = pa.table({"_id": [1], "count": [20], "index": [300]})
    assert [row.seen for row, *_ in rule.steps(Last(), table)] == [321]


def test_lists_loops_and_texts_work_interpreted():
    """What has no kernel is still a rule."""

    def walked(row: Last, event):
        names = []
        for part in (event.country or "").split(","):
            names.append(part.strip().upper())
        total = 0
        for number in range(len(names)):
            total += number
        return row._replace(country="/".join(sorted(names)), seen=total)

    result = one_fold(walked, (1, "de, at", *EMPTY[2:]))
    assert result.rows.select(["country", "seen"]).to_pylist() == [{"country": "AT/DE", "seen": 1}]


def test_a_large_fold_is_compiled_by_itself():
    """From a number of events on, `fold` compiles; the result is that of the interpreter."""

    class Total(NamedTuple):
        total: int = 0

    def total(row: Total, event):
        return row._replace(total=row.total + event.number)

    rule = Rule.of(total, {"number": int64()}, 1)
    n = COMPILED_FROM_EVENTS
    table = pa.table({"number": pa.array(np.arange(n))})
    codes, live = np.zeros(n, np.int64), np.ones(n, bool)
    small = rule.fold(rule.default_rows(1), codes[: n - 1], table.slice(0, n - 1), live[: n - 1])
    assert not rule._kernel.is_loaded
    large = rule.fold(rule.default_rows(1), codes, table, live)
    assert rule._kernel.is_loaded
    sums = list(itertools.accumulate(range(n)))
    assert small.rows.to_pydict() == {"total": [sums[-2]]}
    assert large.rows.to_pydict() == {"total": [sums[-1]]}
