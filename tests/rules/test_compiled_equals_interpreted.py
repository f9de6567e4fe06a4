"""The law of the compiled fold: the same rows, outcomes, reasons and errors as the interpreter gives."""

from enum import Enum, IntEnum
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import RuleError
from refold.rules import FoldResult, Outcome, Rule, ignore, reject
from refold.types import INT64_MAX, INT64_MIN, boolean, enum, int64, text

KEYS = 5
BORDERS = [INT64_MIN, INT64_MIN + 1, -(2**32), -(2**31), -3, -1, 0, 1, 2, 7, 2**31, 2**32, 3037000500, INT64_MAX]


class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"
    COUNT = "count"


class Level(IntEnum):
    LOW = 10
    HIGH = 20


class Operation(Enum):
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MOD = "mod"
    ABS = "abs"
    NEG = "neg"
    BACK = "back"


class Why(IntEnum):
    INSUFFICIENT = 1
    CLOSED = 7
    LAST = 255


COLUMNS = {
    "key": text(),
    "a": int64(),
    "b": int64(),
    "flag": boolean(),
    "kind": enum(Movement),
    "level": enum(Level),
}


class Stock(NamedTuple):
    level: int = 0


def stock(row: Stock, event):
    match event.kind:
        case Movement.ADD:
            return row._replace(level=row.level + event.a)
        case Movement.REMOVE if event.a > row.level:
            return reject(Why.INSUFFICIENT)
    return row._replace(level=row.level - event.a)


class Account(NamedTuple):
    balance: int = 100
    open: bool = True
    steps: int = 0


LIMIT = 2**40
QUIET = (Movement.COUNT, Movement.ADD)
CODES = frozenset({1, 7, -3})
FRESH = Account()


def closing(row, event, low=-5):
    if event.flag and event.b < low:
        return reject(Why.CLOSED)
    return row._replace(open=not event.flag)


def clipped(number, limit=LIMIT):
    limit = min(limit, LIMIT, 2**41)
    return max(-limit, min(number, limit))


def account(row: Account, event):
    if not row.open:
        if event.level is Level.HIGH and event.kind in QUIET:
            return FRESH
        return ignore()
    if event.a in CODES:
        return closing(row, event, low=event.a)
    if event.a == 2:
        return closing(row, event)
    moved = row._replace(balance=clipped(row.balance + event.a))
    if event.flag is True or event.level == Level.LOW:
        moved = moved._replace(steps=moved.steps + 1, open=event.kind != Movement.REMOVE)
    return Account(moved.balance, steps=moved.steps) if event.b < 0 else moved


class Numbers(NamedTuple):
    x: int = 3
    y: int = -4
    odd: bool = False


def numbers(row: Numbers, event):
    total = row.x
    if -(2**31) <= event.a < event.b or (event.flag and not row.odd):
        total -= event.a * row.y
        share = event.b // (event.a + 1)
    elif event.a != event.b != 7:
        total += event.b % event.a
        share = -event.b
    else:
        share = ~event.a & 255 | event.b ^ row.x
    odd = bool(total % 2) ^ event.flag
    if total == share and odd:
        return reject(Why.LAST)
    if event.level is not Level.LOW:
        return Numbers(x=total, y=abs(share), odd=odd)
    return row._replace(x=int(odd) + (row.y or 5), y=min(total, share, row.x) + True)


class Bounded(NamedTuple):
    seen: int = 0
    last: int = -(2**63)


def bounded(row: Bounded, event):
    """Captures, or-patterns, a raise and a match that names every member."""
    match event.a:
        case 0 | 1 | -1:
            row = row._replace(seen=row.seen + 1)
        case other if other > 2**62:
            if event.flag:
                raise ValueError("too much")
            return ignore()
        case other:
            row = row._replace(last=other)
    match event.kind:
        case Movement.ADD | Movement.COUNT:
            return row
        case Movement.REMOVE:
            return reject(Why.CLOSED) if event.flag else row


def operations(row: Stock, event):  # noqa: PLR0911
    """Every operation on numbers alone, so that each meets the borders."""
    match event.operation:
        case Operation.ADD:
            return Stock(event.a + event.b)
        case Operation.SUB:
            return Stock(event.a - event.b)
        case Operation.MUL:
            return Stock(event.a * event.b)
        case Operation.DIV:
            return Stock(event.a // event.b)
        case Operation.MOD:
            return Stock(event.a % event.b)
        case Operation.ABS:
            return Stock(abs(event.a))
        case Operation.NEG:
            return Stock(-event.a)
        case Operation.BACK:
            return Stock((event.a * event.b) // event.b + (event.a + event.b) - event.b)


@pytest.fixture(scope="module")
def rules():
    """Compiled once, since that takes a second each."""
    made = {function.__name__: Rule.of(function, COLUMNS, 1) for function in (stock, account, numbers, bounded)}
    for rule in made.values():
        assert rule.interpreted_because is None
        assert rule.compile(), rule.interpreted_because
    return made


def events_of(rows):
    columns = list(zip(*rows, strict=True)) or [()] * 7
    table = pa.table(
        {
            "a": pa.array(columns[2], pa.int64()),
            "b": pa.array(columns[3], pa.int64()),
            "flag": pa.array(columns[4], pa.bool_()),
            "kind": pa.array(columns[5], pa.string()).dictionary_encode(),
            "level": pa.array(columns[6], pa.string()),
        }
    )
    return np.array(columns[0], dtype=np.int64), np.array(columns[1], dtype=np.bool_), table


numbers_near_borders = st.one_of(
    st.integers(-10, 10), st.sampled_from(BORDERS), st.integers(INT64_MIN, INT64_MAX), st.integers(-(2**33), 2**33)
)
event_rows = st.tuples(
    st.integers(0, KEYS - 1),
    st.booleans() | st.just(True),
    numbers_near_borders,
    numbers_near_borders,
    st.booleans(),
    st.sampled_from(["add", "remove", "count"]),
    st.sampled_from(["low", "high"]),
)


def result_or_error(fold, rule, rows, codes, events, live):
    try:
        return fold(rows, codes, events.select(list(rule.columns_read)), live)
    except RuleError as error:
        return error.event_index, type(error.__cause__), str(error)


def by_kernel(rule, rows, codes, events, live):
    """The fold by the kernel, however few events there are."""
    return rule._kernel.fold(rows, codes, events, live, rule.interpreter)


def assert_same(rule, codes, live, events):
    rows = rule.default_rows(KEYS)
    expected = result_or_error(rule.interpreter.fold, rule, rows, codes, events, live)
    actual = result_or_error(partial(by_kernel, rule), rule, rows, codes, events, live)
    if not isinstance(expected, FoldResult):
        assert actual == expected
        return
    assert actual.rows.equals(expected.rows)
    assert actual.rows.schema == expected.rows.schema
    assert actual.outcomes.tolist() == expected.outcomes.tolist()
    assert actual.reasons.tolist() == expected.reasons.tolist()
    assert all((actual.outcomes == 255) == ~live)


@pytest.mark.parametrize("name", ["stock", "account", "numbers", "bounded"])
@settings(max_examples=150, deadline=None)
@given(rows=st.lists(event_rows, max_size=40))
def test_compiled_fold_equals_interpreted_fold(rules, name, rows):
    """Random events over several keys, with dead events and numbers at the borders of 64 bits."""
    assert_same(rules[name], *(events_of(rows)[i] for i in (0, 1)), events_of(rows)[2])


@pytest.fixture(scope="module")
def operations_rule():
    rule = Rule.of(operations, {"a": int64(), "b": int64(), "operation": enum(Operation)}, 1)
    assert rule.compile()
    return rule


@settings(max_examples=400, deadline=None)
@given(a=numbers_near_borders, b=numbers_near_borders, operation=st.sampled_from([m.value for m in Operation]))
def test_each_operation_is_exact_or_refused(operations_rule, a, b, operation):
    """One event each: the compiled operation neither wraps nor truncates."""
    events = pa.table({"a": pa.array([a]), "b": pa.array([b]), "operation": pa.array([operation])})
    assert_same(operations_rule, np.zeros(1, np.int64), np.ones(1, bool), events)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(event_rows, min_size=1, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_chunks_and_dictionaries_of_the_columns_do_not_matter(rules, rows, cuts):
    """The same events in several Arrow chunks with their own dictionaries give the same fold."""
    codes, live, whole = events_of(rows)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = [events_of(rows[a:b])[2] for a, b in pairwise(edges)]
    assert_same(rules["account"], codes, live, pa.concat_tables(pieces))
    one = result_or_error(
        rules["account"].fold, rules["account"], rules["account"].default_rows(KEYS), codes, whole, live
    )
    many = result_or_error(
        rules["account"].fold,
        rules["account"],
        rules["account"].default_rows(KEYS),
        codes,
        pa.concat_tables(pieces),
        live,
    )
    if isinstance(one, FoldResult):
        assert one.rows.equals(many.rows)
        assert one.outcomes.tolist() == many.outcomes.tolist()
    else:
        assert one == many


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(event_rows, min_size=2, max_size=40), cut=st.integers(0, 40))
def test_folding_in_two_parts_equals_folding_at_once(rules, rows, cut):
    """Rows are all the state there is: a fold resumed from them goes on as if never interrupted."""
    rule, (codes, live, events) = rules["stock"], events_of(rows)
    cut = min(cut, len(rows))
    whole = result_or_error(rule.fold, rule, rule.default_rows(KEYS), codes, events, live)
    if not isinstance(whole, FoldResult):
        return
    first = rule.fold(rule.default_rows(KEYS), codes[:cut], events.slice(0, cut), live[:cut])
    second = rule.fold(first.rows, codes[cut:], events.slice(cut), live[cut:])
    assert second.rows.equals(whole.rows)
    assert [*first.outcomes, *second.outcomes] == whole.outcomes.tolist()


def test_many_events_beyond_64_bits_are_interpreted_in_growing_blocks(rules):
    """Every event overflows on the way, none at its end, over more events than one block holds."""
    n = 12_000
    events = events_of([(i % KEYS, i % 3 > 0, INT64_MAX, 2, True, "add", "low") for i in range(n)])
    assert_same(rules["account"], events[0], events[1], events[2])
    assert_same(rules["numbers"], events[0], events[1], events[2])


def test_stock_of_the_glossary_example(rules):
    """`add 10, remove 5` gives 5, `remove 5, add 10` refuses the removal and gives 10."""
    codes, live, events = events_of(
        [
            (0, True, 10, 0, True, "add", "low"),
            (0, True, 5, 0, True, "remove", "low"),
            (1, True, 5, 0, True, "remove", "low"),
            (1, True, 10, 0, True, "add", "low"),
            (1, False, 99, 0, True, "add", "low"),
        ]
    )
    result = by_kernel(rules["stock"], rules["stock"].default_rows(2), codes, events.select(["a", "kind"]), live)
    assert result.rows.to_pydict() == {"level": [5, 10]}
    assert result.outcomes.tolist() == [Outcome.APPLIED, Outcome.APPLIED, Outcome.REJECTED, Outcome.APPLIED, 255]
    assert result.reasons.tolist() == [0, 0, 1, 0, 0]


def test_a_row_value_beyond_64_bits_names_its_event(rules):
    """Both folds refuse the same event with the same sentence."""
    codes, live, events = events_of([(0, True, INT64_MAX, 0, True, "add", "low")] * 2)
    with pytest.raises(RuleError, match=r"set level to 18446744073709551614.* at event 1 ") as caught:
        by_kernel(rules["stock"], rules["stock"].default_rows(1), codes, events.select(["a", "kind"]), live)
    assert caught.value.event_index == 1
    assert_same(rules["stock"], codes, live, events)


def test_codes_that_name_no_row_are_refused(rules):
    """Neither fold writes outside the rows it was given."""
    codes, live, events = events_of([(0, True, 1, 0, True, "add", "low")])
    for wrong in (-1, 1):
        for fold in (partial(by_kernel, rules["stock"]), rules["stock"].interpreter.fold):
            with pytest.raises(ValueError, match="rows"):
                fold(rules["stock"].default_rows(1), codes * 0 + wrong, events.select(["a", "kind"]), live)


def test_an_unknown_text_in_an_enum_column_is_an_error_of_the_rule(rules):
    """The kernel leaves such columns to the interpreter, which names the place."""
    codes, live, events = events_of([(0, True, 1, 0, True, "burn", "low")])
    with pytest.raises(RuleError, match="'burn' is not a Movement"):
        rules["stock"].fold(rules["stock"].default_rows(1), codes, events, live)


def test_declared_bounds_of_a_row_field_hold_compiled_too():
    """A field declared `int64(0, 10)` refuses 11 in both folds."""

    class Small(NamedTuple):
        level: int64(0, 10) = 0

    def small(row: Small, event):
        return row._replace(level=row.level + event.a)

    rule = Rule.of(small, COLUMNS, 1)
    assert rule.compile()
    for numbers_in in ([5, 5], [5, 6], [-1]):
        codes, live, events = events_of([(0, True, a, 0, True, "add", "low") for a in numbers_in])
        assert_same(rule, codes, live, events)
