"""What a rule may be, what is derived from it, and how every fault is told at once."""

import datetime
import random
import statistics
import time
import uuid
from decimal import Decimal
from enum import Enum, IntEnum
from functools import wraps
from typing import NamedTuple

import pytest

from refold.errors import DeclarationError
from refold.rules import Rule, ignore, reject
from refold.types import boolean, decimal, enum, int64, ratio, text, timestamp

RATES = {"DE": 19}
SEEN = []
CODES = frozenset({1, 2})
SHARE = 0.5


class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"


class Why(IntEnum):
    NO = 1
    BIG = 300


class Other(IntEnum):
    ALSO_NO = 1


class Stock(NamedTuple):
    level: int = 0
    name: str | None = None
    open: bool = True


COLUMNS = {
    "product_id": text(),
    "quantity": int64(),
    "event_type": enum(Movement),
    "occurred_at": timestamp(),
    "country": text(null=True),
    "flag": boolean(),
    "share": ratio(),
}


def faults_of(function, columns=COLUMNS):
    with pytest.raises(DeclarationError) as caught:
        Rule.of(function, columns, 1)
    return "\n".join(caught.value.faults)


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
    for code in (1, 2):
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
    return row._replace(open=event.quantity is 1000)  # noqa: F632


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
        assert "test_declaration.py line " in found


def test_the_line_in_a_fault_is_the_line_in_the_file():
    """The place can be clicked."""
    line = divides.__code__.co_firstlineno + 1
    assert f"test_declaration.py line {line} (divides)" in faults_of(divides)


def test_all_faults_are_told_at_once():
    """One round trip, not five."""

    class Bad(NamedTuple):
        level: int
        share: float = 0.0
        count: int = 2**63

    def many(row: Bad, event):
        if event.nothing:
            return row._replace(level=time.time())

    with pytest.raises(DeclarationError) as caught:
        Rule.of(many, COLUMNS, 0)
    text_of = str(caught.value)
    for expected in (
        "version",
        "level of Bad has no default",
        "share of Bad has the type",
        "count of Bad",
        "time.time",
    ):
        assert expected in text_of
    assert "a path reaches the end" in text_of


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (eval("lambda row, event: row"), "a lambda has no name"),
        (len, "expected a function written with def"),
        (wraps(clock)(lambda row, event: row), "is wrapped by a decorator"),
    ],
)
def test_what_has_no_readable_source_is_refused(function, expected):
    """Without source there is no fingerprint."""
    assert expected in faults_of(function)


def test_a_function_made_at_a_prompt_is_refused():
    """Its source is nowhere."""
    scope = {"Stock": Stock}
    exec("def typed(row: Stock, event):\n    return row\n", scope)
    assert "write it in a .py file, not at a prompt" in faults_of(scope["typed"])


def test_signature_and_row_are_checked():
    """Two parameters, the first annotated with a NamedTuple."""

    def one(row: Stock):
        return row

    def three(row: Stock, event, key):
        return row

    def defaulted(row: Stock, event=None):
        return row

    def untyped(row, event):
        return row

    def not_a_row(row: dict, event):
        return row

    for function in (one, three, defaulted):
        assert "expected two parameters" in faults_of(function)
    for function in (untyped, not_a_row):
        assert "annotated with a NamedTuple" in faults_of(function)


def test_a_match_over_every_member_needs_no_last_return():
    """An enum column that is never null has no other values."""

    def complete(row: Stock, event):
        match event.event_type:
            case Movement.ADD:
                return row
            case Movement.REMOVE:
                return ignore()

    assert Rule.of(complete, COLUMNS, 1).columns_read == ("event_type",)
    nullable = COLUMNS | {"event_type": enum(Movement, null=True)}
    assert "a path reaches the end" in faults_of(complete, nullable)


class Balance(NamedTuple):
    level: int = 0
    peak: int = 0
    moves: int = 0
    last: str | None = None
    never: int = 0


def grown(row, event):
    return row._replace(level=row.level + event.quantity)


def balance(row: Balance, event):
    """What is on hand.

    And the peak of it.
    """
    if event.flag:
        return ignore()
    after = grown(row, event) if event.event_type is Movement.ADD else row
    after = after._replace(peak=max(after.peak, after.level))
    return after._replace(moves=row.moves + 1, last=event.country)


def test_columns_lineage_reasons_and_doc_are_read_from_the_source():
    """Lineage goes through helper functions, conditions and other fields; an untouched field depends on nothing."""
    rule = Rule.of(balance, COLUMNS, 3)
    assert rule.name == "balance"
    assert rule.doc == "What is on hand.\n\nAnd the peak of it."
    assert rule.columns_read == ("quantity", "event_type", "country", "flag")
    assert dict(rule.lineage) == {
        "level": ("quantity", "event_type", "flag"),
        "peak": ("quantity", "event_type", "flag"),
        "moves": ("event_type", "flag"),
        "last": ("event_type", "country", "flag"),
        "never": (),
    }
    assert rule.row is Balance
    assert {name: str(kind) for name, kind in rule.row_columns.items()} == {
        "level": "int64", "peak": "int64", "moves": "int64", "last": "text?", "never": "int64",
    }  # fmt: skip


def test_reasons_of_rule_and_helpers_are_listed():
    """A ledger needs their names."""

    class Three(IntEnum):
        C = 3
        A = 1

    def checked(event):
        return reject(Three.C) if event.flag else ignore()

    def reasoned(row: Stock, event):
        if event.quantity > 3:
            return reject(Three.A)
        return checked(event)

    assert dict(Rule.of(reasoned, COLUMNS, 1).reasons) == {1: "A", 3: "C"}


def test_why_a_rule_is_interpreted_is_told():
    """Types and constructs that have no kernel are named, and the rule works all the same."""

    class Level(NamedTuple):
        level: int = 0

    def with_text(row: Level, event):
        return row._replace(level=len(event.country or ""))

    def with_loop(row: Level, event):
        for step in (1, 2):
            row = row._replace(level=row.level + step)
        return row

    def with_power(row: Level, event):
        return row._replace(level=event.quantity**2)

    def typed_row(row: Stock, event):
        return row

    reasons = [Rule.of(f, COLUMNS, 1).interpreted_because for f in (with_text, with_loop, with_power, typed_row)]
    assert "event column country is text?" in reasons[0]
    assert "It uses For" in reasons[1]
    assert "operator Pow" in reasons[2]
    assert "row field name is text?" in reasons[3]


def test_decimal_and_enum_fields_are_declared_by_their_types():
    """`decimal(p, s)` and an Enum class annotate fields that plain types cannot."""

    class Priced(NamedTuple):
        price: decimal(18, 4) = Decimal("0")
        kind: Movement = Movement.ADD
        maybe: Movement | None = None

    def priced(row: Priced, event):
        return row._replace(price=row.price + Decimal(event.quantity), kind=event.event_type)

    rule = Rule.of(priced, COLUMNS, 1)
    assert [str(kind) for kind in rule.row_columns.values()] == ["decimal(18, 4)", "enum", "enum?"]
    assert rule.default_rows(2).to_pylist() == [{"price": Decimal("0.0000"), "kind": "add", "maybe": None}] * 2
