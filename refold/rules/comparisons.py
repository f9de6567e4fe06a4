"""Finds comparisons of a rule that can never hold, by the declared types: text with an enum, a number out of bounds.

Such a comparison is False for every event, so that a rule would reject them all and still fold to the same result each
time. The analysis ignores the order of statements: a variable may be anything ever assigned to it, so no comparison
that can hold is refused. Of what it cannot follow, it concludes nothing.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum, EnumMeta
from types import FunctionType
from typing import Any

from refold.rules.constants import CLASSES, FUNCTIONS
from refold.rules.possible import (
    NOTHING,
    ORDER,
    TRUTH,
    UNKNOWN_VALUES,
    Family,
    Values,
    beyond,
    can_equal,
    can_hold,
    family_of,
    of_column,
    remedy,
)
from refold.rules.purity import Program
from refold.rules.source import UNKNOWN, Source, is_named_tuple
from refold.types import Schema

_PLAIN: tuple[type, ...] = (int, str, bytes, type(None), Enum, type, *CLASSES[:4])

_ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def constant_comparisons(program: Program, row_columns: Schema, columns: Schema) -> list[str]:
    """A fault for each comparison and `case` that can never hold (or never fail), in the order of the source."""
    context = _Context(program, row_columns, columns)
    first, second = program.rule.parameters
    context.arguments[program.rule.function] = {first: Values(whole="row"), second: Values(whole="event")}
    before: object = None
    while before != (state := context.state()):
        before = state
        for source in program.functions.values():
            context.function(source).collect()
    for source in program.functions.values():
        context.function(source).check()
    return list(context.faults)


_NO_MATCH = "can never match"


@dataclass
class _Context:
    """What is known of all functions of a rule: the values of their variables, and of what they return."""

    program: Program
    row_columns: Schema
    columns: Schema
    arguments: dict[FunctionType, dict[str, Values]] = field(default_factory=dict)
    returned: dict[FunctionType, Values] = field(default_factory=dict)
    faults: dict[str, None] = field(default_factory=dict)

    def state(self) -> object:
        """All that grows while the functions are followed."""
        return {f: dict(v) for f, v in self.arguments.items()}, dict(self.returned)

    def function(self, source: Source) -> _Function:
        """One function with the variables that are known of it."""
        return _Function(self, source, self.arguments.setdefault(source.function, {}))


@dataclass
class _Function:
    context: _Context
    source: Source
    variables: dict[str, Values]

    def collect(self) -> None:
        """Join what is assigned to variables, handed to helpers and returned."""
        for node in self._nodes():
            if isinstance(node, ast.Return) and node.value is not None:
                before = self.context.returned.get(self.source.function, NOTHING)
                self.context.returned[self.source.function] = before | self.value(node.value)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(target, self.value(node.value))
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                self._assign(node.target, self.value(node.value))
            elif isinstance(node, ast.AugAssign):
                self._assign(node.target, self._arithmetic(node.op, self.value(node.target), self.value(node.value)))
            elif isinstance(node, ast.For):
                self._assign(node.target, self._items(node.iter))
            elif isinstance(node, ast.Match):
                self._captures(node)
            elif isinstance(node, ast.Call):
                self._hand_over(node)

    def check(self) -> None:
        """Note the comparisons and cases that can never hold."""
        for node in self._nodes():
            if isinstance(node, ast.Compare):
                self._comparison(node)
            elif isinstance(node, ast.Match):
                for case in node.cases:
                    self._pattern(case.pattern, node.subject)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                mapping = node.func.value
                if node.func.attr == "get" and isinstance(mapping, ast.Dict):
                    self._among(node, node.args[0], [key for key in mapping.keys if key is not None])

    def _nodes(self) -> Iterable[ast.AST]:
        return (node for statement in self.source.body for node in ast.walk(statement))

    def _assign(self, target: ast.expr, values: Values) -> None:
        if isinstance(target, ast.Name):
            self.variables[target.id] = self.variables.get(target.id, NOTHING) | values
        else:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    self.variables[node.id] = UNKNOWN_VALUES

    def _captures(self, node: ast.Match) -> None:
        for case in node.cases:
            for pattern in ast.walk(case.pattern):
                name = getattr(pattern, "name", None) or getattr(pattern, "rest", None)
                if isinstance(name, str):
                    whole = pattern is case.pattern
                    self._assign(ast.Name(name), self.value(node.subject) if whole else UNKNOWN_VALUES)

    def _hand_over(self, node: ast.Call) -> None:
        """Join the arguments of a call into the parameters of the helper function."""
        helper = self.source.static(node.func)
        if not isinstance(helper, FunctionType) or helper not in self.context.program.functions:
            return
        parameters = self.context.arguments.setdefault(helper, {})
        signature = inspect.signature(helper)
        starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        try:
            bound = signature.bind(*node.args, **{str(k.arg): k.value for k in node.keywords}).arguments
        except TypeError:
            bound, starred = {}, True
        for name, parameter in signature.parameters.items():
            given = bound.get(name)
            if starred or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                values = UNKNOWN_VALUES
            elif isinstance(given, ast.expr):
                values = self.value(given)
            else:
                values = _constant(parameter.default)
            parameters[name] = parameters.get(name, NOTHING) | values

    def value(self, node: ast.expr) -> Values:
        """The possible values of an expression."""
        static = self.source.static(node)
        if static is not UNKNOWN:
            return _constant(static)
        method = _BY_NODE.get(type(node))
        return UNKNOWN_VALUES if method is None else method(self, node)

    def _name(self, node: ast.Name) -> Values:
        return self.variables.get(node.id, NOTHING if self.source.is_local(node.id) else UNKNOWN_VALUES)

    def _attribute(self, node: ast.Attribute) -> Values:
        base = self.value(node.value)
        if base.whole:
            columns = self.context.columns if base.whole == "event" else self.context.row_columns
            return of_column(columns[node.attr]) if node.attr in columns and base.known else UNKNOWN_VALUES
        members = [constant.value for constant in base.constants]
        only_members = base.comparable and not base.many and all(isinstance(member, Enum) for member in members)
        if node.attr in ("name", "value") and only_members:
            return replace(Values.of(*(getattr(member, node.attr) for member in members)), data=base.data)
        return family_of(node.attr) if base.comparable else UNKNOWN_VALUES

    def _unary(self, node: ast.UnaryOp) -> Values:
        if isinstance(node.op, ast.Not):
            return replace(TRUTH, data=True)
        operand = self.value(node.operand)
        only = operand.only
        if isinstance(node.op, ast.USub) and only is not None and isinstance(only.value, int | Decimal):
            negative = only.value.copy_negate() if isinstance(only.value, Decimal) else -only.value
            return replace(Values.of(negative), data=operand.data)
        return self._number(operand)

    def _arithmetic(self, op: ast.operator, left: Values, right: Values) -> Values:
        a, b = left.only, right.only
        if a is not None and b is not None and isinstance(a.value, int) and isinstance(b.value, int):
            small = abs(a.value) < 2**64 and 0 <= b.value <= 64
            combine = operator.pow if isinstance(op, ast.Pow) and small else _ARITHMETIC.get(type(op))
            if combine is not None:
                return replace(Values.of(combine(a.value, b.value)), data=left.data or right.data)
        return self._number(left, right)

    def _number(self, *operands: Values) -> Values:
        """Any number, where all operands are numbers."""
        for operand in operands:
            numbers = all(isinstance(c.value, int | Decimal) for c in operand.constants)
            if not (operand.comparable and numbers and all(m.family is Family.NUMBER for m in operand.many)):
                return UNKNOWN_VALUES
        return Values.any(Family.NUMBER, data=any(operand.data for operand in operands))

    def _call(self, node: ast.Call) -> Values:
        called = self.source.static(node.func)
        if isinstance(called, FunctionType):
            helper = called in self.context.program.functions
            return self.context.returned.get(called, NOTHING if helper else UNKNOWN_VALUES)
        if isinstance(called, EnumMeta):
            return replace(Values.of(*called), data=True)
        if called is UNKNOWN:
            return self._method(node, node.func) if isinstance(node.func, ast.Attribute) else UNKNOWN_VALUES
        return self._built_in(node, called)

    def _method(self, node: ast.Call, called: ast.Attribute) -> Values:
        texts = self.value(called.value)
        plain = called.attr in ("lower", "upper", "strip") and not node.args
        if plain and all(isinstance(constant.value, str) for constant in texts.constants):
            return _mapped(operator.methodcaller(called.attr), texts) or self._attribute(called)
        return self._attribute(called)

    def _built_in(self, node: ast.Call, called: object) -> Values:
        arguments = [self.value(argument) for argument in node.args]
        name = getattr(called, "__name__", "")
        if name == "str" and len(arguments) == 1:
            return _mapped(str, arguments[0]) or Values.any(Family.TEXT, data=True)
        if name in ("min", "max") and len(arguments) > 1 and not node.keywords:
            return _joined(arguments)
        if name in ("bool", "isinstance", "any", "all"):
            return replace(TRUTH, data=True)
        if isinstance(called, type) and called in CLASSES[:4]:
            constant = _made(called, node, [*arguments, *(self.value(k.value) for k in node.keywords)])
            if constant is not None:
                return constant
        return family_of(name)

    def _items(self, iterated: ast.expr) -> Values:
        """The possible values of a loop over an expression."""
        static = self.source.static(iterated)
        if isinstance(static, tuple) and not is_named_tuple(type(static)):
            return _joined(map(_constant, static))
        if isinstance(iterated, ast.Tuple | ast.List):
            return _joined(map(self.value, iterated.elts))
        is_range = isinstance(iterated, ast.Call) and self.source.static(iterated.func) is FUNCTIONS["range"]
        return Values.any(Family.NUMBER) if is_range else UNKNOWN_VALUES

    def _comparison(self, node: ast.Compare) -> None:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                elements: Iterable[ast.expr | Values] | None = None
                if isinstance(right, ast.Tuple | ast.List | ast.Set):
                    elements = right.elts
                elif isinstance(static := self.source.static(right), tuple | frozenset):
                    elements = [_joined(map(_constant, static))] if static else None
                if elements is not None:
                    self._among(node, left, elements)
            elif type(op) in ORDER:
                self._order(node, left, type(op), right)
            else:
                unlike = isinstance(op, ast.NotEq | ast.IsNot)
                self._equality(node, left, right, "is always True" if unlike else "is always False")
            left = right

    def _among(self, node: ast.expr, item: ast.expr, elements: Iterable[ast.expr | Values]) -> None:
        for element in elements:
            self._equality(node, item, element)

    def _equality(self, node: ast.AST, left: ast.expr, right: ast.expr | Values, what: str = _NO_MATCH) -> None:
        """Note a fault where two sides can never be equal."""
        a, b = self._sides(left, right)
        if a.comparable and b.comparable and (a.data or b.data) and not can_equal(a, b):
            self._note(node, left, right, what)

    def _order(self, node: ast.AST, left: ast.expr, op: type[ast.cmpop], right: ast.expr) -> None:
        a, b = self._sides(left, right)
        if not (a.comparable and b.comparable and (a.data or b.data)):
            return
        if not can_hold(a, op, b):
            self._note(node, left, right, "can never be True")
        elif not can_hold(a, _OPPOSITE[op], b) and (beyond(a, b) or beyond(b, a)):
            self._note(node, left, right, "is always True")

    def _sides(self, left: ast.expr, right: ast.expr | Values) -> tuple[Values, Values]:
        a, b = self.value(left), right if isinstance(right, Values) else self.value(right)
        if self.source is self.context.program.rule:
            return a, b
        return (a.unbounded if a.data else a), (b.unbounded if b.data else b)

    def _pattern(self, pattern: ast.pattern, subject: ast.expr) -> None:
        if isinstance(pattern, ast.MatchOr):
            for part in pattern.patterns:
                self._pattern(part, subject)
        elif isinstance(pattern, ast.MatchAs) and pattern.pattern is not None:
            self._pattern(pattern.pattern, subject)
        elif isinstance(pattern, ast.MatchValue):
            self._equality(pattern, subject, pattern.value)
        elif isinstance(pattern, ast.MatchSingleton):
            self._equality(pattern, subject, Values.of(pattern.value))
        elif isinstance(pattern, ast.MatchSequence) and isinstance(subject, ast.Tuple):
            starred = any(isinstance(part, ast.MatchStar) for part in pattern.patterns)
            pairs = [] if starred else zip(pattern.patterns, subject.elts, strict=False)
            for part, each in pairs:
                self._pattern(part, each)
        elif isinstance(pattern, ast.MatchSequence):
            self._equality(pattern, subject, Values.any(Family.TUPLE))

    def _note(self, node: ast.AST, left: ast.expr, right: ast.expr | Values, what: str) -> None:
        a, b = self.value(left), right if isinstance(right, Values) else self.value(right)
        name, data, other = ast.unparse(left), a, b
        if not a.data and isinstance(right, ast.expr):
            name, data, other = ast.unparse(right), b, a
        text = f"`case {ast.unparse(node)}`" if isinstance(node, ast.pattern) else f"`{ast.unparse(node)}`"
        self.context.faults[
            f"{self.source.where(node)}: {text} {what}: expected a value that {name} can have, which is {data}, "
            f"found {other}; {remedy(data, other)}."
        ] = None


_OPPOSITE: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}


_BY_NODE: Mapping[type[ast.expr], Callable[[_Function, Any], Values]] = {
    ast.Constant: lambda function, node: _constant(node.value),
    ast.Name: _Function._name,
    ast.Attribute: _Function._attribute,
    ast.IfExp: lambda function, node: function.value(node.body) | function.value(node.orelse),
    ast.BoolOp: lambda function, node: _joined(map(function.value, node.values)),
    ast.NamedExpr: lambda function, node: function.value(node.value),
    ast.Compare: lambda function, node: replace(TRUTH, data=True),
    ast.BinOp: lambda function, node: function._arithmetic(
        node.op, function.value(node.left), function.value(node.right)
    ),
    ast.UnaryOp: _Function._unary,
    ast.JoinedStr: lambda function, node: Values.any(Family.TEXT, data=True),
    ast.Tuple: lambda function, node: Values.any(Family.TUPLE),
    ast.Call: _Function._call,
}


def _constant(value: object) -> Values:
    if isinstance(value, tuple):
        return Values.any(Family.TUPLE)
    return Values.of(value) if isinstance(value, _PLAIN) else UNKNOWN_VALUES


def _mapped(function: Callable[[Any], object], values: Values) -> Values | None:
    """The results of a function for known values; None if some are unknown."""
    if not values.comparable or values.many:
        return None
    return replace(Values.of(*(function(constant.value) for constant in values.constants)), data=values.data)


def _joined(values: Iterable[Values]) -> Values:
    found = NOTHING
    for each in values:
        found |= each
    return found


def _made(called: type, node: ast.Call, arguments: list[Values]) -> Values | None:
    """The value that a class makes of constants alone; None where it is not known."""
    constants = [values.only for values in arguments]
    if any(constant is None for constant in constants) or any(k.arg is None for k in node.keywords):
        return None
    values = [constant.value for constant in constants if constant is not None]
    named = {str(k.arg): value for k, value in zip(node.keywords, values[len(node.args) :], strict=True)}
    try:
        return _constant(called(*values[: len(node.args)], **named))
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN_VALUES
