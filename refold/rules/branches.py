"""The branches of a rule, with their lines, and a twin of the rule that notes which of them it takes.

A branch is the body of an `if`, `elif`, `else`, `case` or loop in the rule itself; what helper functions and
`… if … else …` choose is not counted. The branches taken are bits of a number, bit n for the n-th branch. Compiled
rules count them as they fold (`refold.rules.lowering`); an interpreted rule runs as its twin where it is run a second
time anyway.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import NamedTuple

from refold.rules.source import FUTURES, Place, Source

_NOTE = "__refold_branch__"


class Branch(NamedTuple):
    """The statements of a branch, and where it begins."""

    body: list[ast.stmt]
    place: Place


def branches_of(source: Source) -> list[Branch]:
    """The branches of a function, in the order of its source."""
    return [branch for statement in source.body for branch in _branches(source, statement)]


def _branches(source: Source, node: ast.stmt) -> Iterator[Branch]:
    file = source.function.__code__.co_filename
    inner: list[list[ast.stmt]] = []
    if isinstance(node, ast.If | ast.For | ast.While):
        head = ast.unparse(node).partition("\n")[0].removesuffix(":")
        yield Branch(node.body, Place(file, node.lineno, head))
        inner.append(node.body)
        is_elif = isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
        if node.orelse and not is_elif:
            yield Branch(node.orelse, Place(file, node.orelse[0].lineno, f"else of `{head}`"))
        inner.append(node.orelse)
    elif isinstance(node, ast.Match):
        for case in node.cases:
            head = ast.unparse(case).strip().partition("\n")[0].removesuffix(":")
            yield Branch(case.body, Place(file, case.pattern.lineno, head))
            inner.append(case.body)
    for body in inner:
        for statement in body:
            yield from _branches(source, statement)


@dataclass(frozen=True)
class Twin:
    """A rule that calls `note` with the number of each branch that it takes, and answers as the rule does."""

    function: FunctionType
    code: CodeType

    @classmethod
    def of(cls, source: Source) -> Twin:
        """Compile the twin of a rule."""
        tree = copy.deepcopy(source.tree)
        for number, branch in enumerate(branches_of(Source(source.function, tree))):
            call = ast.Call(ast.Name(_NOTE, ast.Load()), [ast.Constant(number)], [])
            branch.body.insert(0, ast.copy_location(ast.Expr(call), branch.body[0]))
        tree.decorator_list, tree.returns = [], None
        for argument in tree.args.args:
            argument.annotation = None
        function = source.function
        closed = [ast.arg(name) for name in function.__code__.co_freevars]
        outer = copy.copy(tree)
        outer.args, outer.body = ast.arguments([], closed, kwonlyargs=[], kw_defaults=[], defaults=[]), [tree]
        module = ast.fix_missing_locations(ast.Module([outer], []))
        file, flags = function.__code__.co_filename, function.__code__.co_flags & FUTURES
        code = compile(module, file, "exec", flags=flags, dont_inherit=True)
        return cls(function, _inner(_inner(code)))

    def noting(self, note: Callable[[int], None]) -> Callable[..., object]:
        """The twin as a function."""
        names, cells = self.function.__code__.co_freevars, self.function.__closure__ or ()
        by_name = dict(zip(names, cells, strict=True))
        closure = tuple(by_name[name] for name in self.code.co_freevars)
        names_seen = {**self.function.__globals__, _NOTE: note}
        return FunctionType(self.code, names_seen, self.function.__name__, self.function.__defaults__, closure)


def _inner(code: CodeType) -> CodeType:
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))
