"""What a rule may do: each rule here breaks one law, and the fault names the line and what to write instead."""

# The rules here are wrong on purpose.
# ruff: noqa: DTZ005, PTH123, T201, PLW0602, PLC3002, C416, RET503, PLC0208, F632, RUF100

import datetime
import random
import statistics
import time
import uuid
from enum import IntEnum, StrEnum
from typing import NamedTuple

import pytest

from refold.rules import Rule, ignore, reject
from tests.rules.stock import COLUMNS, Movement, Stock, faults_of

RATES = {"DE": 19}
SEEN = []
CODES = frozenset({1, 2})
SHARE = 0.5


class Why(IntEnum):
    NO = 1
    BIG = 300


class Other(IntEnum):
    ALSO_NO = 1


def helper_with_clock(row):
    return row._replace(level=int(time.time()))


def recursive(number):
    return recursive(number - 1) if number else 0


# Each of these breaks exactly one rule of purity; the text must be part of the fault.
def clock(row: Stock, event):
    return row._replace(level=time.time_ns())


def clock_of_datetime(row: Stock, event):
    return row._replace(level=datetime.datetime.now().year)


def chance(row: Stock, event):
    return row._replace(level=random.randint(1, 6))


def fresh_id(row: Stock, event):
    return row._replace(name=str(uuid.uuid4()))


def reads_file(row: Stock, event):
    return row._replace(name=open("/etc/hostname").read())


def hashes(row: Stock, event):
    return row._replace(level=hash(event.country))


def prints(row: Stock, event):
    print(event.country)
    return row


def imports(row: Stock, event):
    import os

    return row._replace(name=os.sep)


def globally(row: Stock, event):
    global SHARE
    return row


def mutable_list(row: Stock, event):
    return row._replace(level=len(SEEN))


def mutable_dict(row: Stock, event):
    return row._replace(level=RATES["DE"])


def walks_set(row: Stock, event):
    for code in CODES:
        row = row._replace(level=code)
    return row


def walks_set_literal(row: Stock, event):
    for code in {1, 2}:
        row = row._replace(level=code)
    return row


def makes_set(row: Stock, event):
    return row._replace(level=len(set(event.country)))


def float_literal(row: Stock, event):
    return row._replace(level=int(row.level * 1.5))


def float_constant(row: Stock, event):
    return row._replace(level=int(row.level * SHARE))


def divides(row: Stock, event):
    return row._replace(level=row.level / 2)


def to_float(row: Stock, event):
    return row._replace(level=int(float(row.level)))


def shows_addresses(row: Stock, event):
    return row._replace(name=str(zip((1, 2), (3, 4), strict=True)))


def keeps_a_walk(row: Stock, event):
    pairs = reversed((1, 2))
    return row._replace(name=f"{pairs}")


def shows_a_function(row: Stock, event):
    return row._replace(name=str(reject))


class Lucky(NamedTuple):
    number: int = 0

    def count(self, _):
        return random.randint(1, 6)


class Drifting(NamedTuple):
    number: int = 0

    def __add__(self, other):
        return SEEN.append(other) or len(SEEN)


class Odd(IntEnum):
    ONE = 1

    def __mul__(self, other):
        return time.time_ns() * other


class Loud(StrEnum):
    QUIET = "quiet"

    def upper(self):
        return str(uuid.uuid4())


def chance_in_a_tuple(row: Stock, event):
    return row._replace(level=Lucky(1).count(1))


def state_in_an_operator(row: Stock, event):
    return row._replace(level=Drifting(1) + 1)


def clock_in_an_enum(row: Stock, event):
    return row._replace(level=Odd.ONE * event.quantity)


def chance_in_an_enum(row: Stock, event):
    return row._replace(name=Loud.QUIET.upper())


def negative_power(row: Stock, event):
    return row._replace(level=int(10**event.quantity))


def power_of_two_arguments(row: Stock, event):
    return row._replace(level=int(pow(10, -2) * 300))


def tries(row: Stock, event):
    try:
        return row._replace(level=row.level // event.quantity)
    except ZeroDivisionError:
        return ignore()


def asserts(row: Stock, event):
    assert event.quantity
    return row


def with_lambda(row: Stock, event):
    return row._replace(level=(lambda x: x)(event.quantity))


def comprehends(row: Stock, event):
    return row._replace(level=sum([x for x in (event.quantity, 1)]))


def yields(row: Stock, event):
    yield row


def nested(row: Stock, event):
    def inner():
        return row

    return inner()


def identity(row: Stock, event):
    return row._replace(open=event.quantity is row.level)


def assigns(row: Stock, event):
    event.quantity = 3
    return row


def stdlib(row: Stock, event):
    return row._replace(level=statistics.mean((1, 2)))


def hidden(row: Stock, event):
    return row._replace(level=event.occurred_at.timestamp())


def calls_helper_with_clock(row: Stock, event):
    return helper_with_clock(row)


def calls_recursive(row: Stock, event):
    return row._replace(level=recursive(event.quantity))


def undefined(row: Stock, event):
    return row._replace(level=THRESHOLD)  # noqa: F821


def missing_member(row: Stock, event):
    return row if event.event_type is Movement.BURN else ignore()


def hands_on_function(row: Stock, event):
    return row._replace(level=max((1, -2), key=recursive))


def bad_reason(row: Stock, event):
    return reject(Why.BIG)


def computed_reason(row: Stock, event):
    return reject(Why(event.quantity))


def shared_code(row: Stock, event):
    return reject(Why.NO) if event.flag else reject(Other.ALSO_NO)


def unknown_column(row: Stock, event):
    return row._replace(level=event.quantiti)


def unknown_field(row: Stock, event):
    return row._replace(levle=row.lvl)


def whole_event(row: Stock, event):
    return row._replace(name=str(event))


def ratio_column(row: Stock, event):
    return row._replace(open=event.share > 0)


def falls_through(row: Stock, event):
    if event.flag:
        return row


def bare_return(row: Stock, event):
    if event.flag:
        return None
    return row


def guarded_match(row: Stock, event):
    match event.event_type:
        case Movement.ADD:
            return row
        case Movement.REMOVE if event.flag:
            return row


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (clock, "the clock; take the time from a column"),
        (clock_of_datetime, "the clock; take the time from a column"),
        (chance, "chance; take the value from a column"),
        (fresh_id, "chance; take the id from a column"),
        (reads_file, "files; seal them into a log"),
        (hashes, "the hash seed"),
        (prints, "the terminal"),
        (imports, "import at the top of the module"),
        (globally, "keeps nothing between events"),
        (mutable_list, "SEEN is not allowed: a list can change"),
        (mutable_dict, "RATES is not allowed: a dict can change"),
        (walks_set, "the order of a set differs"),
        (walks_set_literal, "the order of a set differs"),
        (makes_set, "an order that differs between runs"),
        (float_literal, "1.5 is a float"),
        (float_constant, "SHARE is not allowed: floats are rounded"),
        (divides, "`/` makes a float; use `//`"),
        (to_float, "rounding and the order of sums"),
        (shows_addresses, "zip(…) is not walked through at once"),
        (keeps_a_walk, "reversed(…) is not walked through at once"),
        (shows_a_function, "a function can only be called"),
        (chance_in_a_tuple, "Lucky is not allowed: Lucky defines count itself"),
        (state_in_an_operator, "Drifting defines __add__ itself"),
        (clock_in_an_enum, "the enum Odd defines __mul__ itself"),
        (chance_in_an_enum, "the enum Loud defines upper itself"),
        (negative_power, "a power makes a float where the exponent is negative"),
        (power_of_two_arguments, "a power makes a float where the exponent is negative"),
        (tries, "Try is not allowed"),
        (asserts, "`python -O` drops it"),
        (with_lambda, "Lambda is not allowed"),
        (comprehends, "ListComp is not allowed in a rule: write a for loop"),
        (yields, "return one row per event"),
        (nested, "write a helper function at the top"),
        (identity, "`is` depends on how Python stores"),
        (assigns, "return row._replace"),
        (stdlib, "write what it does in a helper"),
        (hidden, "the attribute timestamp is not on the list"),
        (calls_helper_with_clock, "(helper_with_clock): time.time is not allowed"),
        (calls_recursive, "recursive calls itself"),
        (undefined, "THRESHOLD is not defined"),
        (missing_member, "Movement.BURN does not exist"),
        (hands_on_function, "a function can only be called"),
        (bad_reason, "value from 1 to 255"),
        (computed_reason, "expected reject(Why.MEMBER)"),
        (shared_code, "share the code 1"),
        (unknown_column, "no column quantiti; it has product_id, quantity, event_type"),
        (unknown_field, "the row has no field levle; it has level, name, open"),
        (whole_event, "the event is used as a whole"),
        (ratio_column, "reads the column share, a ratio"),
        (falls_through, "a path reaches the end"),
        (bare_return, "returns None; expected a row"),
        (guarded_match, "a path reaches the end"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_rule_that_could_answer_differently_is_refused_with_what_to_do(function, expected):
    """The fault names the line in this file and what to write instead."""
    found = faults_of(function)
    assert expected in found
    if function not in (ratio_column,):
        assert "test_purity.py line " in found


def walks_at_once(row: Stock, event):
    for number, value in enumerate(zip(range(3), reversed((4, 5, 6)), strict=True)):
        row = row._replace(level=row.level + number * sum(value))
    return row._replace(
        level=row.level**2 + pow(2, 3) + pow(2, event.quantity, 7) + sum(tuple(zip((1,), (2,), strict=True))[-1])
    )


def test_walking_at_once_and_constant_powers_are_admitted():
    """What is refused above is refused for its place, not for its name."""
    assert Rule.of(walks_at_once, COLUMNS, 1).columns_read == ("quantity",)


def test_the_line_in_a_fault_is_the_line_in_the_file():
    """The place can be clicked."""
    line = divides.__code__.co_firstlineno + 1
    assert f"test_purity.py line {line} (divides)" in faults_of(divides)
