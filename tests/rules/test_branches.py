"""Branches that a rule takes: counted alike compiled and interpreted, and as Python itself traces them."""

# ruff: noqa: SIM108

import sys
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import RuleError
from refold.rules import Rule, ignore, reject
from refold.rules.branches import branches_of
from refold.types import int64
from tests.rules.test_compiled_equals_interpreted import (
    COLUMNS,
    KEYS,
    Why,
    account,
    bounded,
    by_kernel,
    event_rows,
    events_of,
    numbers,
    stock,
)


class Count(NamedTuple):
    count: int = 0


LIMIT = 3


def looping(row: Count, event):
    """Interpreted, since it has loops."""
    for step in range(event.b % 4):
        if step == 2:
            row = row._replace(count=row.count + 1)
            break
        if step == 1:
            row = row._replace(count=row.count + 5)
        else:
            row = row._replace(count=row.count - 1)
    else:
        row = row._replace(count=row.count % 7)
    while row.count > LIMIT:
        row = row._replace(count=row.count - 2)
    return row


def closed_over(limit):
    def within(row: Count, event):
        if event.a > limit:
            return reject(Why.CLOSED)
        if event.flag:
            pass
        elif event.b == 0:
            return ignore()
        return row._replace(count=limit)

    return within


FUNCTIONS = [stock, account, numbers, bounded, looping, closed_over(2)]


@contextmanager
def lines_of(function):
    """The lines of a function that Python runs."""
    found = set()

    def tracer(frame, what, _):
        if frame.f_code is not function.__code__:
            return None
        if what == "line":
            found.add(frame.f_lineno)
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        yield found
    finally:
        sys.settrace(before)


@pytest.fixture(scope="module")
def rules():
    return [Rule.of(function, COLUMNS, 1) for function in FUNCTIONS]


@pytest.mark.parametrize("place", range(len(FUNCTIONS)))
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(event_rows, max_size=12))
def test_branches_are_counted_as_python_runs_them(rules, place, rows):
    """By the kernel where it folds all, and by the twin that the interpreter runs."""
    rule = rules[place]
    codes, live, events = events_of(rows)
    folded = events.select(list(rule.columns_read))
    with lines_of(rule.function) as lines:
        try:
            plain = rule.interpreter.fold(rule.default_rows(KEYS), codes, folded, live)
        except RuleError:
            return
    firsts = [branch.body[0].lineno for branch in branches_of(rule.program.rule)]
    expected = sum(1 << number for number, line in enumerate(firsts) if line in lines)
    traced = rule.fold(rule.default_rows(KEYS), codes, folded, live, traced=True)
    assert traced.taken == expected
    assert traced.rows.equals(plain.rows)
    assert rule.fold(rule.default_rows(KEYS), codes, folded, live).taken in (None, expected)
    if rule.compile():
        compiled = by_kernel(rule, rule.default_rows(KEYS), codes, folded, live)
        assert compiled.interpreted or compiled.taken == expected
        again = rule.fold(rule.default_rows(KEYS), codes, folded, live, traced=True)
        assert again.taken == expected


def test_branches_are_named_by_their_lines(rules):
    """`elif` is a branch of its own, an `else` is shown with its `if`."""
    names = [place.text for place in rules[FUNCTIONS.index(looping)].branches]
    assert names == [
        "for step in range(event.b % 4)", "else of `for step in range(event.b % 4)`", "if step == 2", "if step == 1",
        "else of `if step == 1`", "while row.count > LIMIT",
    ]  # fmt: skip
    assert [place.text for place in rules[-1].branches] == ["if event.a > limit", "if event.flag", "if event.b == 0"]
    cases = [place.text for place in rules[0].branches]
    assert cases == ["case Movement.ADD", "case Movement.REMOVE if event.a > row.level"]


def test_a_rule_of_more_branches_than_a_word_has_bits_is_counted_too(tmp_path):
    """Each case is one branch, and each event takes one."""
    cases = "".join(f"        case {n}:\n            return Count({n})\n" for n in range(150))
    path = tmp_path / "many.py"
    path.write_text(f"def many(row: Count, event):\n    match event.a:\n{cases}    return ignore()\n")
    scope = {"Count": Count, "ignore": ignore}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    rule = Rule.of(scope["many"], {"a": int64()}, 1)
    assert rule.compile()
    taken = [0, 3, 61, 62, 63, 64, 123, 124, 149]
    codes, live = np.zeros(len(taken), np.int64), np.ones(len(taken), bool)
    result = by_kernel(rule, rule.default_rows(1), codes, pa.table({"a": taken}), live)
    assert not result.interpreted
    assert result.taken == sum(1 << n for n in taken)
