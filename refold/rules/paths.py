"""Finds paths of a rule without an answer: every path must return a row, `reject(…)` or `ignore()`."""

from __future__ import annotations

import ast
from collections.abc import Callable

from refold.rules.source import Source
from refold.types import Schema


def missing_answers(source: Source, columns: Schema) -> list[str]:
    """A fault for each `return` without a value, and one where the end can be reached without a return."""
    nodes = [n for statement in source.body for n in ast.walk(statement)]
    bare = [n for n in nodes if isinstance(n, ast.Return) and _is_none(n.value)]
    expected = "expected a row, reject(…) or ignore()"
    faults = [f"{source.where(node)}: returns None; {expected}." for node in bare]
    event = source.parameters[1]

    def covers(match: ast.Match) -> bool:
        return _covers_enum(match, source, event, columns)

    if not ends(source.body, covers):
        last = source.body[-1] if source.body else source.tree
        faults.append(f"{source.where(last)}: a path reaches the end and returns None; {expected} on every path.")
    return faults


def ends(statements: list[ast.stmt], covers: Callable[[ast.Match], bool]) -> bool:
    """Whether statements certainly return or raise; `covers` says whether a match has a case for every value."""
    return any(_ends(statement, covers) for statement in statements)


def _ends(node: ast.stmt, covers: Callable[[ast.Match], bool]) -> bool:
    if isinstance(node, ast.Return | ast.Raise):
        return True
    if isinstance(node, ast.If):
        return ends(node.body, covers) and ends(node.orelse, covers)
    if isinstance(node, ast.While):
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        return endless and not any(isinstance(n, ast.Break) for n in ast.walk(node))
    if isinstance(node, ast.Match):
        wild = any(_matches_all(case.pattern) and case.guard is None for case in node.cases)
        return (wild or covers(node)) and all(ends(case.body, covers) for case in node.cases)
    return False


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _matches_all(pattern: ast.pattern) -> bool:
    if isinstance(pattern, ast.MatchOr):
        return any(_matches_all(part) for part in pattern.patterns)
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or _matches_all(pattern.pattern))


def _covers_enum(match: ast.Match, source: Source, event: str, columns: Schema) -> bool:
    """Whether the cases without a guard cover every member of the enum column that is matched."""
    subject = match.subject
    if not (isinstance(subject, ast.Attribute) and isinstance(subject.value, ast.Name) and subject.value.id == event):
        return False
    column = columns.get(subject.attr)
    if column is None or column.choices is None or column.null:
        return False
    named: list[object] = []
    for pattern in (case.pattern for case in match.cases if case.guard is None):
        parts = pattern.patterns if isinstance(pattern, ast.MatchOr) else [pattern]
        named += [source.static(part.value) for part in parts if isinstance(part, ast.MatchValue)]
    return all(any(member is value for value in named) for member in column.choices)
