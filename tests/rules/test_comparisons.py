"""Comparisons that can never hold are refused when a rule is declared, and those that can hold never are."""

# The rules here are wrong on purpose.
# ruff: noqa: DTZ001, E501

import ast
import datetime as dt
import linecache
import random
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.errors import DeclarationError
from refold.rules import Rule, ignore, reject
from refold.rules.possible import ORDER, Values, can_equal, can_hold, of_column
from refold.types import binary, boolean, date, decimal, enum, int64, text, timestamp

MODE = "lax"
KINDS = ("add", "remove")
NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
NAIVE = dt.datetime(2024, 1, 1, 12)


class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"


class Change(Enum):
    ADD = "add"
    DROP = "drop"


class Level(IntEnum):
    LOW = 10
    HIGH = 20


class Tone(StrEnum):
    SOFT = "soft"
    LOUD = "loud"


class Why(IntEnum):
    NO = 1


ALL = (Movement.ADD, Change.DROP)

COLUMNS = {
    "kind": enum(Movement),
    "maybe": enum(Movement, null=True),
    "level": enum(Level),
    "tone": enum(Tone),
    "quantity": int64(1, 10**6),
    "number": int64(),
    "price": decimal(5, 2),
    "note": text(null=True),
    "code": text(empty=False),
    "day": date(),
    "at": timestamp(),
    "flag": boolean(),
    "raw": binary(),
}


class Stock(NamedTuple):
    total: int = 0
    small: int64(0, 10) = 0
    last: str | None = None
    kind: Movement = Movement.ADD


def is_added(value):
    return value == "add"


def is_missing(value):
    return value is None


def signed(kind, quantity):
    return quantity if kind is Movement.ADD else -quantity


NEVER = [
    ("event.kind == 'add'", "`event.kind == 'add'` is always False", "Movement.ADD, Movement.REMOVE", "write Movement.ADD"),
    ("event.kind != 'ADD'", "is always True", "found 'ADD'", "write Movement.ADD"),
    ("'add' == event.kind", "is always False", "event.kind can have", "write Movement.ADD"),
    ("event.kind == 'burn'", "is always False", "'burn'", "one of these members"),
    ("event.kind is Change.ADD", "is always False", "found Change.ADD", "write Movement.ADD"),
    ("event.kind in ('add', Movement.REMOVE)", "can never match", "'add'", "write Movement.ADD"),
    ("event.kind in KINDS", "can never match", "one of 'add', 'remove'", ""),
    ("event.kind not in ('add', 'remove')", "can never match", "'add'", ""),
    ("event.kind.value == 'ADD'", "is always False", "one of 'add', 'remove'", ""),
    ("event.kind.name == 'add'", "is always False", "one of 'ADD', 'REMOVE'", ""),
    ("event.kind is None", "is always False", "found None", "declare null"),
    ("event.quantity is not None", "is always True", "found None", "declare null"),
    ("event.maybe == 'add'", "is always False", "None", "write Movement.ADD"),
    ("event.kind == 1", "is always False", "found 1", ""),
    ("event.level == 15", "is always False", "Level.HIGH, Level.LOW", ""),
    ("event.level > 20", "can never be True", "found 20", ""),
    ("event.tone == 'SOFT'", "is always False", "found 'SOFT'", "write Tone.SOFT"),
    ("event.kind < Movement.ADD", "can never be True", "", ""),
    ("event.number == '5'", "is always False", "int64", "one type"),
    ("event.number + 1 == '5'", "is always False", "number", "one type"),
    ("event.number < '5'", "can never be True", "int64", "one type"),
    ("event.number == 2**63", "is always False", "9223372036854775808", "widen"),
    ("event.quantity == 0", "is always False", "int64 from 1 to 1000000", "widen"),
    ("event.quantity <= 0", "can never be True", "int64 from 1 to 1000000", "widen"),
    ("event.quantity > 0", "is always True", "int64 from 1 to 1000000", "widen"),
    ("event.quantity > 10**6", "can never be True", "int64 from 1 to 1000000", ""),
    ("event.quantity == Decimal('1.5')", "is always False", "Decimal('1.5')", ""),
    ("event.price == Decimal('0.005')", "is always False", "decimal(5, 2)", ""),
    ("event.price >= 1000", "can never be True", "decimal(5, 2)", "widen"),
    ("event.price == '1.00'", "is always False", "decimal(5, 2)", "one type"),
    ("event.note == 5", "is always False", "text", ""),
    ("event.code == ''", "is always False", "text that is not empty", ""),
    ("event.day == '2024-01-01'", "is always False", "date", ""),
    ("event.day == NOON", "is always False", "date", ""),
    ("event.day == event.at", "is always False", "timestamp", ""),
    ("event.at.date() == '2024-01-01'", "is always False", "date", ""),
    ("event.at > NAIVE", "can never be True", "timestamp", ""),
    ("event.at == dt.datetime(2024, 1, 1)", "is always False", "timestamp", ""),
    ("event.flag == 'true'", "is always False", "False, True", ""),
    ("event.raw == 'abc'", "is always False", "binary", ""),
    ("event.kind == event.note", "is always False", "Movement.ADD", ""),
    ("event.number == event.code", "is always False", "int64", ""),
    ("row.small > 10", "can never be True", "int64 from 0 to 10", "widen"),
    ("row.kind == 'add'", "is always False", "row.kind", "write Movement.ADD"),
    ("row.total is None", "is always False", "found None", "declare null"),
    ("event.flag and not event.kind == 'add'", "is always False", "found 'add'", ""),
    ("is_added(event.kind)", "`value == 'add'` is always False", "(is_added)", "write Movement.ADD"),
    ("0 < event.quantity <= 10", "is always True", "found 0", "widen"),
    ("str(event.number) == 5", "is always False", "text", ""),
    ("{'add': 1}.get(event.kind)", "can never match", "found 'add'", "write Movement.ADD"),
    ("max(event.quantity, 5) == 'x'", "is always False", "", ""),
    ("event.kind == ('add', 'remove')", "is always False", "found tuple", ""),
    ("event.kind == ALL", "is always False", "found tuple", ""),
    ("event.kind == Movement", "is always False", "found Movement", ""),
    ("str(event.kind) == 'add'", "is always False", "'Movement.ADD'", ""),
    ("event.kind.value.upper() == 'add'", "is always False", "one of 'ADD', 'REMOVE'", ""),
]  # fmt: skip

POSSIBLE = [
    "event.kind == Movement.ADD",
    "event.kind in ALL",
    "event.kind.value == 'add'",
    "event.kind.name in ('ADD', 'REMOVE')",
    "event.maybe is None",
    "event.maybe != Movement.ADD",
    "event.level == 10",
    "event.level > 10",
    "event.level in (Level.LOW, 20)",
    "event.tone == 'soft'",
    "event.tone == event.code",
    "event.quantity == 1",
    "event.quantity >= 1",
    "event.quantity < event.number",
    "event.quantity == Decimal('2.0')",
    "event.quantity * 2 > 10**6",
    "event.number == True",
    "-2 < event.number <= -(2**63)",
    "event.price == Decimal('0.050')",
    "event.price > Decimal('999.989')",
    "event.price < event.number",
    "event.note is not None",
    "event.note == ''",
    "event.note in KINDS",
    "event.day == event.at.date()",
    "event.at < dt.datetime(2024, 1, 1, tzinfo=dt.UTC)",
    "event.at.year == 2024",
    "event.flag == 1",
    "event.raw == b''",
    "MODE == 'strict'",
    "row.small == 10",
    "row._replace(small=row.small - event.quantity).small < 0",
    "is_missing(event.quantity)",
    "is_added(event.note)",
    "signed(event.kind, event.quantity) < 0",
    "str(event.number) == '5'",
    "event.code[0] == 5",
    "(event.kind, event.flag) == (Movement.ADD, True)",
    "event.note.upper() == 'add'",
    "event.kind.value.upper() == 'ADD'",
    "str(event.kind) == 'Movement.ADD'",
]

TEXT = """def rule(row: Stock, event):
    if {test}:
        return row._replace(total=row.total + 1)
    return reject(Why.NO)
"""


def declared(source):
    """A rule from its text, as if it had been imported from a file of that text."""
    name = f"/project/rules_{len(linecache.cache)}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope = dict(globals())
    exec(compile(source, name, "exec"), scope)
    return Rule.of(scope["rule"], COLUMNS, 1)


@pytest.mark.parametrize(("test", "what", "expected", "instead"), NEVER)
def test_what_can_never_hold_is_refused_with_its_line(test, what, expected, instead):
    """Line, what is wrong, what the column can be, what was found, and what to write."""
    with pytest.raises(DeclarationError) as caught:
        declared(TEXT.format(test=test))
    (fault,) = [fault for fault in caught.value.faults if what in fault][:1]
    assert expected in fault
    assert instead in fault
    assert f"line {'2 (rule)' if 'is_added' not in test else ''}" in fault
    assert len(caught.value.faults) <= 2


@pytest.mark.parametrize("test", POSSIBLE)
def test_what_can_hold_is_not_refused(test):
    """A false alarm would keep a right rule from running."""
    declared(TEXT.format(test=test))


BODIES = [
    "    match event.kind:\n        case 'add':\n            return row\n    return ignore()",
    "    match event.kind:\n        case Movement.ADD | Change.DROP:\n            return row\n    return ignore()",
    "    match event.kind:\n        case None:\n            return row\n    return ignore()",
    "    match (event.kind, event.flag):\n        case ('add', True):\n            return row\n    return ignore()",
    "    match event.kind:\n        case Movement.ADD, Movement.REMOVE:\n            return row\n    return ignore()",
    "    match event.quantity:\n        case 0 | 1:\n            return row\n    return ignore()",
    "    kind = event.kind\n    if kind == 'add':\n        return row\n    return ignore()",
    "    for wanted in ('add', 'remove'):\n        if event.kind == wanted:\n            return row\n    return ignore()",
    "    return row if (kind := event.kind) == 'add' or kind == Movement.REMOVE else ignore()",
    "    return row._replace(total=1 if event.kind == 'add' else 2)",
]


@pytest.mark.parametrize("body", BODIES)
def test_cases_variables_and_loops_are_followed(body):
    """The comparison need not name the column."""
    with pytest.raises(DeclarationError, match=r"can never match|is always"):
        declared(f"def rule(row: Stock, event):\n{body}\n")


RIGHT_BODIES = [
    "    last = None\n    if event.flag:\n        last = event.code\n    return row if last is None else ignore()",
    "    row = row._replace(small=-5)\n    return row if row.small < 0 else ignore()",
    "    n = 0\n    for _ in range(3):\n        n += 1\n    return row if n == 3 else ignore()",
    "    match (event.kind, event.number):\n        case (Movement.ADD, 1):\n            return row\n    return ignore()",
    "    match event.maybe:\n        case None:\n            return row\n        case other if other == Movement.ADD:\n"
    "            return ignore()\n    return ignore()",
]


@pytest.mark.parametrize("body", RIGHT_BODIES)
def test_variables_may_be_anything_assigned_to_them(body):
    """The analysis ignores order, so it knows less than the author, and must not refuse for that."""
    declared(f"def rule(row: Stock, event):\n{body}\n")


def test_a_member_that_does_not_exist_is_refused_with_those_that_do():
    """The usual slip of the pen."""
    with pytest.raises(DeclarationError, match=r"Movement.ADDED does not exist. Movement has ADD, REMOVE"):
        declared(TEXT.format(test="event.kind == Movement.ADDED"))


_NUMBERS = st.integers(-12, 12) | st.decimals(-12, 12, places=2) | st.sampled_from([2**63, -(2**63), 2**63 - 1])
_ANY = st.one_of(
    _NUMBERS,
    st.none(),
    st.booleans(),
    st.sampled_from(["", "add", "soft", "x", b"", b"x", NOON, NAIVE, dt.date(2024, 1, 1)]),
    st.sampled_from([*Movement, *Change, *Level, *Tone]),
)


@st.composite
def columns_with_values(draw):
    """A column type, and one of the values it admits."""
    kind = draw(st.sampled_from(["int", "decimal", *(name for name in COLUMNS if name not in ("number", "price"))]))
    if kind == "int":
        low, high = sorted([draw(st.integers(-12, 12)), draw(st.integers(-12, 12))])
        return int64(low, high), draw(st.integers(low, high))
    if kind == "decimal":
        scale = draw(st.integers(0, 2))
        return decimal(scale + 1, scale), Decimal(
            draw(st.integers(-(10 ** (scale + 1)) + 1, 10 ** (scale + 1) - 1))
        ).scaleb(-scale)
    column = COLUMNS[kind]
    values = {
        "kind": list(Movement), "maybe": [None, *Movement], "level": list(Level), "tone": list(Tone),
        "quantity": [1, 2, 10**6], "note": [None, "", "add", "x"], "code": ["add", "soft"],
        "day": [dt.date(2024, 1, 1)], "at": [NOON], "flag": [True, False], "raw": [b"", b"x"],
    }  # fmt: skip
    return column, draw(st.sampled_from(values[kind]))


@given(columns_with_values(), columns_with_values() | _ANY)
def test_nothing_that_holds_for_some_value_is_said_never_to_hold(one, other):
    """The law behind the refusals: compared as Python compares the values themselves."""
    column, value = one
    if isinstance(other, tuple):
        right, second = of_column(other[0]), other[1]
    else:
        right, second = Values.of(other), other
    left = of_column(column)
    if value == second:
        assert can_equal(left, right)
        assert can_equal(right, left)
    for op, compare in ORDER.items():
        try:
            holds = compare(value, second)
        except TypeError:
            continue
        assert can_hold(left, op, right) or not holds


OPERANDS = [
    *(f"event.{name}" for name in COLUMNS), "row.total", "row.small", "row.last", "row.kind", "event.kind.value",
    "event.kind.name", "event.tone.value", "str(event.kind)", "event.at.date()", "event.at.year", "abs(event.number)",
    "event.quantity * 2", "-event.number", "event.note or 'x'", "max(event.quantity, 5)", "str(event.number)",
    "event.kind.value.upper()", "(event.flag and event.kind)", "(event.number if event.flag else None)", "len(event.code)",
    "(event.kind, event.flag)", "signed(event.kind, event.quantity)", "bool(event.number)", "Movement.ADD", "Change.ADD",
    "Level.LOW", "Tone.SOFT", "None", "True", "''", "'add'", "'ADD'", "'soft'", "'5'", "b'x'", "0", "1", "5", "10", "15",
    "10**6", "-1", "2**63", "Decimal('0.05')", "Decimal('0.005')", "NOON", "NAIVE", "dt.date(2024, 1, 1)", "KINDS", "ALL",
    "MODE", "(Movement.ADD, True)",
]  # fmt: skip
OPERATORS = ["==", "!=", "<", "<=", ">", ">=", "in"]
VALUES = {
    "kind": list(Movement), "maybe": [None, *Movement], "level": list(Level), "tone": list(Tone), "raw": [b"", b"x"],
    "quantity": [1, 2, 5, 10, 15, 10**6], "number": [-(2**63), -1, 0, 1, 5, 15, 2**63 - 1], "flag": [True, False],
    "price": list(map(Decimal, ["-999.99", "-1", "0", "0.05", "1", "5.00", "10", "999.99"])),
    "note": [None, "", "add", "ADD", "soft", "5", "x"], "code": ["add", "ADD", "soft", "5", "lax", "Movement.ADD"],
    "day": [dt.date(2024, 1, 1), dt.date(2023, 1, 1)], "at": [NOON, dt.datetime(2023, 1, 1, tzinfo=dt.UTC)],
}  # fmt: skip
ROWS = {"total": [-5, 0, 1, 15], "small": [0, 5, 10], "last": [None, "", "add"], "kind": list(Movement)}


@pytest.mark.parametrize("seed", range(10))
def test_no_comparison_that_holds_for_some_events_and_fails_for_others_is_refused(seed):
    """Random comparisons, one a line: what is refused gives one result, or an error, for a hundred random events."""
    chance = random.Random(seed)
    comparisons = [tuple(map(chance.choice, (OPERANDS, OPERATORS, OPERANDS))) for _ in range(100)]
    tests = [f"({left}) {op} ({right})" for left, op, right in comparisons]
    lines = "".join(f"    if {test}: return ignore()\n" for test in tests)
    try:
        declared(f"def rule(row: Stock, event):\n{lines}    return row\n")
    except DeclarationError as error:
        for fault in error.faults:
            test = tests[int(fault.partition(" line ")[2].partition(" ")[0]) - 2]
            # One element of a written tuple that can never match is refused for itself.
            if "expected a value that" in fault and ") in ((" not in test:
                assert len(results_of(test, chance)) <= 1, fault


def results_of(test, chance):
    """What a comparison gives for random events and rows, without those for which it is an error."""
    results, code = set(), compile(test, "<test>", "eval")
    for _ in range(100):
        event, row = (SimpleNamespace(**{n: chance.choice(v) for n, v in of.items()}) for of in (VALUES, ROWS))
        try:
            results.add(bool(eval(code, globals(), {"event": event, "row": row})))
        except (TypeError, ArithmeticError):
            continue
    return results


def test_every_operator_of_order_is_known():
    """A new one would otherwise be taken for equality."""
    assert set(ORDER) == {ast.Lt, ast.LtE, ast.Gt, ast.GtE}
    assert reject(Why.NO) != ignore()
