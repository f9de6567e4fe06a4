"""The law of compiled decimals: rows, outcomes, reasons and errors byte for byte those of Python's decimals."""

import linecache
import random
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import Log, fold, text
from refold.errors import DeclarationError
from refold.rules import FoldResult, Rule, ignore, reject
from refold.stores.kinds.plain import PlainRule
from refold.types import INT64_MAX, boolean, decimal, int64
from tests.rules.test_compiled_equals_interpreted import KEYS, assert_same, by_kernel, result_or_error

CENT = Decimal("0.01")
VAT = Decimal("0.190")
ROUNDINGS = (ROUND_HALF_UP, ROUND_DOWN)  # each is the text of its name
RULES, EXPRESSIONS = 4, 20

COLUMNS = {
    "op": int64(),
    "a": decimal(18, 2),
    "b": decimal(9, 4),
    "c": decimal(38, 6),
    "n": int64(),
    "flag": boolean(),
}


class Why(IntEnum):
    TOO_LOW = 1
    ODD = 2


class Money(NamedTuple):
    x: decimal(18, 3) = Decimal("1.5")
    y: decimal(38, 2) = Decimal(0)
    n: int = 0


class Account(NamedTuple):
    balance: decimal(12, 2) = Decimal("100")
    peak: decimal(18, 2) = Decimal(0)
    fees: decimal(38, 6) = Decimal(0)
    open: bool = True


FRESH = Account(balance=Decimal("7.50"))


def fee_of(amount, rate=VAT):
    if amount < 0:
        return Decimal(0)
    return (amount * rate).quantize(CENT, rounding=ROUND_HALF_UP)


def account(row: Account, event):
    """Money as a rule uses it: fees by a helper function, variables of two scales, a refusal, a fresh start."""
    if not row.open:
        return FRESH if event.flag else ignore()
    if event.a == Decimal("13.00") or event.n % 7 == 3:
        return reject(Why.ODD)
    moved = event.a
    if event.flag:
        moved = moved * event.b
    balance = row.balance + round(moved, 2)
    if balance < -1000:
        return reject(Why.TOO_LOW)
    fee = fee_of(event.a) + fee_of(event.c, rate=Decimal("0.0005"))
    match event.c:
        case 0:
            return Account(balance, row.peak, fees=row.fees + fee)
    row = row._replace(balance=balance, fees=row.fees + fee, open=event.a != event.c)
    return row._replace(peak=max(row.peak, row.balance, Decimal(0)))


class Texts:
    """Makes random expressions; a number of the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of_decimals(self, depth: int) -> str:
        pick, deeper = self.random.choice, depth - 1
        if depth == 0:
            value = f"{self.random.randint(-99999, 99999)}e-{self.random.randint(0, 3)}"
            return pick(["event.a", "event.b", "event.c", "row.x", "row.y", "VAT", f'Decimal("{Decimal(value)}")'])
        one, other = self.of_decimals(deeper), self.of_decimals(deeper)
        return pick([
            f"({one} + {other})", f"({one} - {other})", f"({one} * {other})", f"({one} // {other})",
            f"({one} % {other})", f"(-{one})", f"abs({one})", f"min({one}, {other})", f"max({one}, {other})",
            f"round({one}, {self.random.randint(0, 5)})", f"{one}.quantize(CENT)",
            f"{one}.quantize(CENT, rounding={pick(ROUNDINGS)})",
            f"({one} if {self.of_truth(deeper)} else {other})", f"({one} * {self.of_integers(deeper)})",
            f"({self.of_integers(deeper)} - {one})", f"Decimal({self.of_integers(deeper)})", f"({one} or {other})",
        ])  # fmt: skip

    def of_integers(self, depth: int) -> str:
        if depth <= 0:
            return self.random.choice(["event.n", "row.n", str(self.random.randint(0, 9))])
        return self.random.choice(
            [f"int({self.of_decimals(depth - 1)})", f"round({self.of_decimals(depth - 1)})", "event.n"]
        )

    def of_truth(self, depth: int) -> str:
        one, other = self.of_decimals(max(0, depth - 1)), self.of_decimals(max(0, depth - 1))
        op = self.random.choice(["<", "<=", ">", ">=", "==", "!="])
        right = self.random.choice([other, "event.n", "event.flag"])
        return self.random.choice([f"{one} {op} {right}", f"not {one}", f"bool({one}) and event.flag"])

    def of_answer(self) -> str:
        value = self.of_decimals(self.random.randint(1, 3))
        return self.random.choice([
            f"row._replace(x={value})", f"row._replace(x=round({value}, 3))", f"row._replace(y=round({value}, 2))",
            f"Money(x=round({value}, 3), n={self.of_integers(2)})",
            f"reject(Why.ODD) if {self.of_truth(2)} else row._replace(y=round({value}, 2))",
        ])  # fmt: skip


def declared(answers):
    """A rule with one answer for each value of `op`."""
    cases = "".join(f"        case {place}:\n            return {text}\n" for place, text in enumerate(answers))
    source = f"def rule(row: Money, event):\n    match event.op:\n{cases}    return ignore()\n"
    name = f"/project/decimals_{len(linecache.cache)}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope = dict(globals())
    exec(compile(source, name, "exec"), scope)
    return Rule.of(scope["rule"], COLUMNS, 1)


@pytest.fixture(scope="module")
def random_rules():
    """Rules of random answers, without those whose products would need more digits than are compiled."""
    rules = []
    for seed in range(RULES):
        texts, answers, refused = Texts(seed), [], 0
        while len(answers) < EXPRESSIONS:
            text = texts.of_answer()
            try:
                because = declared([text]).interpreted_because
            except DeclarationError as error:
                assert "declare" in str(error), text  # a random comparison that can never hold
                continue
            if because is None:
                answers.append(text)
            else:
                refused += 1
                assert "digits after the point" in because
        assert refused < EXPRESSIONS
        rules.append(declared(answers))
        assert rules[-1].compile(), rules[-1].interpreted_because
    return rules


def unscaled(precision, scale):
    """Decimals of a column: small ones, any, those at its borders, and those at the borders of 64 bits."""
    most = 10**precision - 1
    borders = [v for v in (0, 1, -1, most, -most, INT64_MAX, INT64_MAX + 1, -INT64_MAX - 2, 1300) if abs(v) <= most]
    few = st.integers(-2000, 2000) | st.sampled_from(borders) | st.integers(-most, most)
    return few.map(
        lambda value: (
            Decimal(value).scaleb(-scale)
            if abs(value) < 10**27
            else Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -scale))
        )
    )


SMALL = st.integers(-(10**9), 10**9)
event_rows = st.tuples(
    st.integers(0, KEYS - 1),
    st.booleans() | st.just(True),
    st.integers(0, EXPRESSIONS),
    SMALL.map(lambda v: Decimal(v).scaleb(-2)) | unscaled(18, 2),
    unscaled(9, 4),
    SMALL.map(lambda v: Decimal(v).scaleb(-6)) | SMALL.map(lambda v: Decimal(v).scaleb(-6)) | unscaled(38, 6),
    st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
)


def events_of(rows):
    columns = list(zip(*rows, strict=True)) or [()] * 8
    table = {name: pa.array(columns[place], kind.arrow) for place, (name, kind) in enumerate(COLUMNS.items(), start=2)}
    return np.array(columns[0], dtype=np.int64), np.array(columns[1], dtype=np.bool_), pa.table(table)


@pytest.mark.parametrize("seed", range(RULES))
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(event_rows, max_size=30))
def test_random_rules_over_random_decimals_fold_as_interpreted(random_rules, seed, rows):
    """The kernel alone, and where it cannot hold a value, the fold that hands over to the interpreter."""
    assert_folds_as_interpreted(random_rules[seed], *events_of(rows))


def assert_folds_as_interpreted(rule, codes, live, events):
    expected = result_or_error(rule.interpreter.fold, rule, rule.default_rows(KEYS), codes, events, live)
    actual = result_or_error(rule.fold, rule, rule.default_rows(KEYS), codes, events, live)
    if isinstance(expected, FoldResult):
        assert actual.rows.equals(expected.rows)
        assert actual.rows.schema == expected.rows.schema
        assert actual.outcomes.tolist() == expected.outcomes.tolist()
        assert actual.reasons.tolist() == expected.reasons.tolist()
    else:
        assert actual == expected


@pytest.fixture(scope="module")
def account_rule():
    rule = Rule.of(account, COLUMNS, 1)
    assert rule.compile(), rule.interpreted_because
    return rule


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(event_rows, max_size=40))
def test_an_account_folds_as_interpreted(account_rule, rows):
    """A rule as people write them."""
    assert_folds_as_interpreted(account_rule, *events_of(rows))


def at(a="0", b="0", c="0", n=0, flag=False, op=0):
    return (0, True, op, Decimal(a), Decimal(b), Decimal(c), n, flag)


def test_compiled_events_are_compiled_and_others_interpreted(account_rule):
    """Ordinary money never leaves the kernel; what needs more than 64 bits does, and comes out right."""
    codes, live, events = events_of([at(a="10.25", b="1.5", c="0.000001")] * 50)
    result = account_rule.fold(account_rule.default_rows(1), codes, events, live)
    assert not result.interpreted
    assert result.rows.to_pylist()[0]["balance"] == Decimal("612.50")
    assert_same(account_rule, *events_of([at(a="9999999999999999.99", b="99999.9999", flag=True)]))
    beyond = events_of([at(c="99999999999999999999999999999999.999999")])
    assert by_kernel(account_rule, account_rule.default_rows(1), beyond[0], beyond[2], beyond[1]) is None


@pytest.mark.parametrize(
    ("answer", "events", "expected"),
    [
        (
            "row._replace(x=event.b)",
            [at(b="0.0005")],
            "set x to Decimal('0.0005'), which is not a valid decimal(18, 3)",
        ),
        ("row._replace(x=event.a * 1000)", [at(a="9999999999999999.99")], "set x to Decimal('9999999999999999990.00')"),
        ("row._replace(x=event.a // event.b)", [at(a="1", b="0")], "raised DivisionByZero"),
        ("row._replace(x=event.n)", [at(n=5)], "set x to 5, which is not a valid decimal(18, 3)"),
    ],
)
def test_what_does_not_fit_is_the_same_error(answer, events, expected):
    """A digit too many, a number too large, a division by zero, an integer in a decimal field."""
    rule = declared([answer])
    codes, live, table = events_of(events)
    rule.compile()
    told = {
        str(result_or_error(fold, rule, rule.default_rows(1), codes, table, live)[2])
        for fold in (rule.fold, rule.interpreter.fold)
    }
    assert len(told) == 1
    assert expected in told.pop()


@pytest.mark.parametrize(
    ("expression", "because"),
    [
        ("event.a * event.b * event.c * event.b * event.b", "a decimal with 20 digits after the point"),
        ("event.a.quantize(CENT, rounding='ROUND_UP')", "rounding to 2 digits after the point by ROUND_UP"),
        ("event.a.quantize(event.b)", "the call event.a.quantize(event.b)"),
        ("event.a ** 2", "the operator Pow of decimals"),
        ("min(event.a, event.n)", "the call min(event.a, event.n)"),
        ("event.a if event.flag else event.n", "values of different kinds"),
        ("event.n", "a value in the field x that is not of the kind decimal"),
        ("Decimal('1e30')", "which needs more than 64 bits"),
    ],
)
def test_what_is_not_compiled_is_named(expression, because):
    """Each is interpreted, with its reason in `refold explain`."""
    assert because in declared([f"row._replace(x={expression})"]).interpreted_because


def test_a_state_that_needs_more_than_64_bits_is_interpreted_from_its_start():
    """A sum that grows beyond them in the middle of a fold, and one that begins beyond them."""
    rule = declared(["row._replace(y=row.y + event.a)"])
    assert rule.compile()
    codes, live, events = events_of([at(a="9999999999999999.99")] * 30)
    assert_same_folded(rule, rule.default_rows(1), codes, live, events)
    large = rule.fold(rule.default_rows(1), codes, events, live).rows
    assert large["y"][0].as_py() > Decimal(2**63).scaleb(-2)
    assert_same_folded(rule, large, codes, live, events)


def assert_same_folded(rule, rows, codes, live, events):
    expected = rule.interpreter.fold(rows, codes, events.select(list(rule.columns_read)), live)
    actual = rule.fold(rows, codes, events, live)
    assert actual.rows.equals(expected.rows)
    assert actual.outcomes.tolist() == expected.outcomes.tolist()


def test_slices_and_chunks_of_decimal_columns_are_read_in_place(account_rule):
    """Arrow columns may begin anywhere in their buffers."""
    rows = [at(a=f"{n}.{n:02}", b="0.5", c=f"-{n}.000001", flag=n % 3 == 0) for n in range(40)]
    codes, live, events = events_of(rows)
    pieces = pa.concat_tables([events.slice(3, 10), events.slice(20, 0), events.slice(30)])
    whole = events_of([*rows[3:13], *rows[30:]])
    for table in (pieces, whole[2], pieces.combine_chunks()):
        assert_same(account_rule, whole[0], whole[1], table)
    assert_same(account_rule, codes, live, events)


class Written(NamedTuple):
    price: decimal(18, 3) = Decimal(0)
    text: str = ""


def written(row: Written, event):
    """Interpreted, and sees how many digits its own row is written with."""
    return row._replace(price=row.price + event.a * Decimal("-1.0"), text=f"{row.text} {row.price}"[-40:])


@given(numbers=st.lists(st.sampled_from(["0", "0.5", "-0.5", "7"]), min_size=1, max_size=6), cut=st.integers(0, 6))
def test_a_row_is_written_alike_whether_it_was_stored_in_between_or_not(numbers, cut):
    """Else the rows of a resumed fold, of full replay and of the reference would differ by where they were stored."""
    cut = min(cut, len(numbers))
    rule = Rule.of(written, COLUMNS, 1)
    codes, live, events = events_of([at(a=number) for number in numbers])
    whole = rule.fold(rule.default_rows(1), codes, events, live).rows
    first = rule.fold(rule.default_rows(1), codes[:cut], events.slice(0, cut), live[:cut]).rows
    assert rule.fold(first, codes[cut:], events.slice(cut), live[cut:]).rows.equals(whole)
    plain = PlainRule("written", rule, {"a": COLUMNS["a"]})
    for event in events.select(["a"]).to_pylist():
        plain.apply("key", event)
    assert plain.values("key") == whole.to_pylist()[0]
    assert whole["text"][0].as_py().endswith(".000") or whole["text"][0].as_py().endswith(".500")


@pytest.mark.parametrize(("scale", "limit"), [(2, "92,233,720,368,547,758.07"), (9, "9,223,372,036.85"), (18, "9.22")])
def test_the_limit_of_compiled_amounts_is_the_one_that_is_explained(scale: int, limit: str):
    """At the limit the kernel folds, one unit of the last digit above it the interpreter does, with equal sums."""

    class Held(NamedTuple):
        total: decimal(38, scale) = Decimal(0)

    log = Log("l", key="k", event_id="id", columns={"id": text(), "k": text(), "a": decimal(38, scale)})

    @fold(log, version=1)
    def held(row: Held, event):
        return row._replace(total=row.total + event.a)

    assert f"compiled up to {limit};" in held.account().how
    unit = Decimal(1).scaleb(-scale)
    most = Decimal(INT64_MAX).scaleb(-scale)
    for amounts, interpreted in (([most], False), ([most - unit, unit], False), ([most, unit], True)):
        events = pa.table({"a": pa.array(amounts, pa.decimal128(38, scale))})
        before = pa.table({"total": pa.array([Decimal(0)], pa.decimal128(38, scale))})
        found = held.fold(before, np.zeros(len(amounts), dtype=np.int64), events, np.ones(len(amounts), dtype=bool))
        assert (found.rows["total"].to_pylist(), found.interpreted) == ([sum(amounts)], interpreted)
