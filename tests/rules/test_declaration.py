"""What a rule may be, what is derived from it, and how every fault is reported at once."""

# Some of the rules here are wrong on purpose.
# ruff: noqa: RET503

import time
from decimal import Decimal
from enum import IntEnum
from functools import wraps
from typing import Annotated, NamedTuple

import pytest

from refold.errors import DeclarationError
from refold.rules import Rule, ignore, reject
from refold.types import decimal, enum
from tests.rules.stock import COLUMNS, Movement, Stock, faults_of


def clock(row: Stock, event):
    return row._replace(level=time.time_ns())


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


class Moved(NamedTuple):
    """Some columns of the log, for an editor."""

    product_id: str
    event_type: Movement
    quantity: int


def typed(row: Stock, event: Moved) -> Stock:
    return row._replace(level=row.level + event.quantity)


def untyped(row: Stock, event):
    return row._replace(level=row.level + event.quantity)


def test_the_class_of_an_event_is_compared_with_the_columns_and_changes_nothing():
    class Wrong(NamedTuple):
        product_id: int
        event_type: str
        quantty: int

    def wrong(row: Stock, event: Wrong):
        return row

    first = Rule.of(typed, COLUMNS, 1).fingerprint
    assert first == Rule.of(untyped, COLUMNS, 1).fingerprint
    text_of = faults_of(wrong)
    assert "the field product_id of Wrong is int; expected str." in text_of
    assert "the field event_type of Wrong is str; expected Movement." in text_of
    assert "the field quantty of Wrong is not a column; the log has " in text_of


def test_a_decimal_field_can_be_annotated_so_that_type_checkers_see_a_decimal():
    class Sum(NamedTuple):
        total: Annotated[Decimal, decimal(18, 2)] = Decimal(0)

    class NotDecimal(NamedTuple):
        total: Annotated[int, decimal(18, 2)] = 0

    def summed(row: Sum, event):
        return row

    def refused(row: NotDecimal, event):
        return row

    assert Rule.of(summed, COLUMNS, 1).row_columns == {"total": decimal(18, 2)}
    assert "the field total of NotDecimal has the type" in faults_of(refused)
