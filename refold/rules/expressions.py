"""Lowering of expressions: from the expressions of a rule to Python source that numba compiles to the same values.

The lowering has types of its own (`refold.rules.kinds`) and does not depend on what numba infers. Whatever is not
certain to mean the same compiled as interpreted is `Unsupported`. Arithmetic goes through checked functions of the
kernel, which raise instead of wrapping. `refold.rules.scaled` lowers decimals, `refold.rules.lowering` statements.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import FunctionType
from typing import Protocol

from refold.rules import scaled
from refold.rules.constants import FUNCTIONS
from refold.rules.kinds import (
    BOOL,
    DECISION,
    EVENT,
    INT,
    ROW,
    Kind,
    RowShape,
    Scaled,
    Typed,
    Unsupported,
    constant,
    field_constant,
    kind_of_column,
)
from refold.rules.outcome import Outcome, ignore, reject
from refold.rules.source import UNKNOWN, Source
from refold.types import INT64_MAX, Schema

_CHECKED: Mapping[type[ast.operator], str] = {
    ast.Add: "_add",
    ast.Sub: "_sub",
    ast.Mult: "_mul",
    ast.FloorDiv: "_floordiv",
    ast.Mod: "_mod",
}
_EXACT: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
_BITS: Mapping[type[ast.operator], str] = {ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"}
_EQUAL: Mapping[type[ast.cmpop], str] = {ast.Eq: "==", ast.NotEq: "!=", ast.Is: "==", ast.IsNot: "!="}
_ORDER: Mapping[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


class Functions(Protocol):
    """Where helper functions are lowered, once per combination of argument kinds."""

    shape: RowShape
    columns: Schema
    replacers: set[tuple[int, ...]]

    def call(self, helper: FunctionType, kinds: Mapping[str, Kind]) -> tuple[str, Kind]:
        """The name and result kind of a lowered helper function."""


@dataclass
class Expressions:
    """Lowers the expressions of one function.

    `kinds` are the kinds of its variables, `assigned` those that certainly have a value at the current statement.
    """

    source: Source
    functions: Functions
    kinds: dict[str, Kind] = field(default_factory=dict)
    assigned: set[str] = field(default_factory=set)

    def lower(self, node: ast.expr) -> Typed:
        """Lower one expression."""
        try:
            return self._lowered(node)
        except Unsupported as error:
            error.noticed_in(self.source, node)
            raise

    def _lowered(self, node: ast.expr) -> Typed:
        static = self.source.static(node)
        if static is not UNKNOWN:
            return constant(static, self.functions.shape)
        literal = self._literal(node)
        if literal is not None:
            return constant(literal, self.functions.shape)
        method = _BY_NODE.get(type(node))
        if method is None:
            raise Unsupported(f"{type(node).__name__} ({self.source.where(node)})")
        return method(self, node)

    def _literal(self, node: ast.expr) -> int | None:
        """The exact value of an integer written as a term of literals and constants, such as `-(2**40)`."""
        if isinstance(node, ast.BinOp):
            left, right = self._literal(node.left), self._literal(node.right)
            if left is None or right is None:
                return None
            small = 0 <= right <= 64 and abs(left) <= INT64_MAX
            combine = _EXACT.get(type(node.op)) if small or not isinstance(node.op, ast.Pow | ast.LShift) else None
            return combine(left, right) if combine is not None else None
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            operand = self._literal(node.operand)
            return None if operand is None else -operand
        value = node.value if isinstance(node, ast.Constant) else self.source.static(node)
        return value if type(value) is int else None

    def condition(self, node: ast.expr) -> str:
        """Lower an expression that is used as a condition."""
        return self.truth(self.lower(node))

    def truth(self, value: Typed) -> str:
        """The truth of a value as source."""
        if value.kind == BOOL:
            return value.code
        if value.kind == INT or isinstance(value.kind, Scaled):
            return f"({value.code} != 0)"
        raise Unsupported(f"the truth of a value that is neither a number nor a boolean ({self.source.name})")

    def _as_int(self, value: Typed) -> str:
        if value.kind == INT:
            return value.code
        if value.kind == BOOL:
            return f"_int({value.code})"
        raise Unsupported(f"arithmetic with a value that is not an integer ({self.source.name})")

    def equal(self, left: Typed, right: Typed) -> str:
        """Source for `left == right`."""
        return self._compare("==", left, right)

    def _constant(self, node: ast.Constant) -> Typed:
        return constant(node.value, self.functions.shape)

    def _name(self, node: ast.Name) -> Typed:
        if node.id not in self.assigned:
            raise Unsupported(f"the variable {node.id} where it may have no value yet ({self.source.where(node)})")
        return Typed(f"v_{node.id}", self.kinds[node.id])

    def _attribute(self, node: ast.Attribute) -> Typed:
        base = self.lower(node.value)
        if base.kind == EVENT:
            column = self.functions.columns[node.attr]
            place = list(self.functions.columns).index(node.attr)
            return Typed(f"{base.code}[{place}]", kind_of_column(column))
        if base.kind == ROW:
            shape = self.functions.shape
            return Typed(f"{base.code}[{shape.names.index(node.attr)}]", shape.kinds[node.attr])
        raise Unsupported(f"the attribute {node.attr} ({self.source.where(node)})")

    def _binary(self, node: ast.BinOp) -> Typed:
        return self.binary(node.op, self.lower(node.left), self.lower(node.right))

    def binary(self, op: ast.operator, left: Typed, right: Typed) -> Typed:
        """Lower one arithmetic operation."""
        if isinstance(left.kind, Scaled) or isinstance(right.kind, Scaled):
            return scaled.combined(op, left, right)
        if type(op) in _CHECKED:
            return Typed(f"{_CHECKED[type(op)]}({self._as_int(left)}, {self._as_int(right)})", INT)
        if type(op) in _BITS:
            bits = f"({self._as_int(left)} {_BITS[type(op)]} {self._as_int(right)})"
            both = left.kind == BOOL and right.kind == BOOL
            return Typed(f"({bits} != 0)", BOOL) if both else Typed(bits, INT)
        raise Unsupported(f"the operator {type(op).__name__} ({self.source.name})")

    def _unary(self, node: ast.UnaryOp) -> Typed:
        if isinstance(node.op, ast.Not):
            return Typed(f"(not {self.condition(node.operand)})", BOOL)
        operand = self.lower(node.operand)
        if isinstance(node.op, ast.Invert):
            if operand.kind != INT:
                raise Unsupported(f"~ of a value that is not an integer ({self.source.where(node)})")
            return Typed(f"(~{operand.code})", INT)
        number = operand if isinstance(operand.kind, Scaled) else Typed(self._as_int(operand), INT)
        return Typed(f"_sub(0, {number.code})", number.kind) if isinstance(node.op, ast.USub) else number

    def _boolean(self, node: ast.BoolOp) -> Typed:
        values = scaled.aligned([self.lower(value) for value in node.values])
        kind = values[0].kind
        if any(value.kind != kind for value in values) or not (kind in (INT, BOOL) or isinstance(kind, Scaled)):
            raise Unsupported(f"`and`/`or` between values of different kinds ({self.source.where(node)})")
        word = " and " if isinstance(node.op, ast.And) else " or "
        return Typed(f"({word.join(value.code for value in values)})", kind)

    def _if(self, node: ast.IfExp) -> Typed:
        test, body, other = self.condition(node.test), self.lower(node.body), self.lower(node.orelse)
        if {body.kind, other.kind} == {ROW, DECISION}:
            body, other = lifted(body), lifted(other)
        body, other = scaled.aligned([body, other])
        if body.kind != other.kind:
            raise Unsupported(f"`if … else …` between values of different kinds ({self.source.where(node)})")
        return Typed(f"({body.code} if {test} else {other.code})", body.kind)

    def _comparison(self, node: ast.Compare) -> Typed:
        parts = []
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                parts.append(self._membership(isinstance(op, ast.NotIn), left, right))
            else:
                parts.append(self._single(op, self.lower(left), self.lower(right)))
            left = right
        return Typed(f"({' and '.join(parts)})", BOOL)

    def _single(self, op: ast.cmpop, left: Typed, right: Typed) -> str:
        singletons = left.kind == BOOL or isinstance(left.kind, type)
        if isinstance(op, ast.Is | ast.IsNot) and not (singletons and left.kind == right.kind):
            raise Unsupported(f"`is` between values that are not both booleans or of one enum ({self.source.name})")
        return self._compare({**_EQUAL, **_ORDER}[type(op)], left, right)

    def _compare(self, op: str, left: Typed, right: Typed) -> str:
        if isinstance(left.kind, type) and left.kind is right.kind and op in ("==", "!="):
            return f"({left.code} {op} {right.code})"
        if isinstance(left.kind, Scaled) or isinstance(right.kind, Scaled):
            return scaled.compared(op, left, right)
        return f"({self._as_int(left)} {op} {self._as_int(right)})"

    def _membership(self, negated: bool, item: ast.expr, container: ast.expr) -> str:
        left, static = self.lower(item), self.source.static(container)
        if isinstance(container, ast.Tuple | ast.List | ast.Set):
            members = [self.lower(element) for element in container.elts]
        elif isinstance(static, tuple | frozenset):
            # a frozenset has no order, but `or` over its members has none either
            members = [constant(value, self.functions.shape) for value in static]
            members.sort(key=lambda member: member.code)
        else:
            raise Unsupported(f"`in` something that is not a tuple ({self.source.where(container)})")
        tests = " or ".join(self.equal(left, member) for member in members) or "False"
        return f"(not ({tests}))" if negated else f"({tests})"

    def _call(self, node: ast.Call) -> Typed:
        called = self.source.static(node.func)
        if called is reject or called is ignore:
            return self._refusal(node, called is reject)
        if called is self.functions.shape.row:
            return self._construct(node)
        if isinstance(called, FunctionType):
            return self._helper(node, called)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("_replace", "quantize"):
            base = self.lower(node.func.value)
            return self._replace(node, base) if node.func.attr == "_replace" else self._quantize(node, base)
        return self._decimal(node) if called is Decimal else self._built_in(node, called)

    def _refusal(self, node: ast.Call, rejected: bool) -> Typed:
        row = constant(self.functions.shape.row(*self.functions.shape.defaults), self.functions.shape).code
        if not rejected:
            return Typed(f"({row}, {int(Outcome.IGNORED)}, 0)", DECISION)
        reason = self.source.static(node.args[0])
        assert isinstance(reason, int)
        return Typed(f"({row}, {int(Outcome.REJECTED)}, {int(reason)})", DECISION)

    def _construct(self, node: ast.Call) -> Typed:
        shape = self.functions.shape
        given = dict(self._fields(node))
        fields = [
            given.get(name) or field_constant(default, shape.kinds[name])
            for name, default in zip(shape.names, shape.defaults, strict=True)
        ]
        return Typed(f"({', '.join(fields)},)", ROW)

    def _replace(self, node: ast.Call, base: Typed) -> Typed:
        if base.kind != ROW or node.args:
            raise Unsupported(f"_replace of something that is not a row ({self.source.where(node)})")
        given = {self.functions.shape.names.index(name): code for name, code in self._fields(node)}
        if not given:
            return base
        places = tuple(sorted(given))
        self.functions.replacers.add(places)
        codes = ", ".join(given[place] for place in places)
        return Typed(f"{replacer_name(places)}({base.code}, {codes})", ROW)

    def _fields(self, node: ast.Call) -> list[tuple[str, str]]:
        shape = self.functions.shape
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            raise Unsupported(f"* or ** in a call ({self.source.where(node)})")
        if len(node.args) > len(shape.names):
            raise Unsupported(f"a row with too many fields ({self.source.where(node)})")
        pairs = [*zip(shape.names, node.args, strict=False), *((str(k.arg), k.value) for k in node.keywords)]
        lowered = [(name, self.lower(value)) for name, value in pairs]
        return [(name, self.in_kind(value, shape.kinds[name], f"in the field {name}").code) for name, value in lowered]

    def in_kind(self, value: Typed, kind: Kind, where: str) -> Typed:
        """A value as one of a kind; a decimal gets the scale. Raises Unsupported where it is of another kind."""
        if isinstance(value.kind, Scaled) and isinstance(kind, Scaled):
            return scaled.rescaled(value, kind.scale)
        if value.kind != kind:
            raise Unsupported(f"a value {where} that is not of the kind {kind}")
        return value

    def _decimal(self, node: ast.Call) -> Typed:
        """`Decimal(…)` of a number, or of a text that is known."""
        if len(node.args) == 1 and not node.keywords:
            known = self._known(node.args[0])
            if isinstance(known, str):
                return constant(Decimal(known), self.functions.shape)
            return scaled.number(self.lower(node.args[0]))
        raise Unsupported(f"the call {ast.unparse(node)} ({self.source.where(node)})")

    def _quantize(self, node: ast.Call, value: Typed) -> Typed:
        """`value.quantize(Decimal("0.01"), rounding=…)` with a known argument."""
        pattern = self._known(node.args[0]) if len(node.args) == 1 else None
        named = {k.arg: self._known(k.value) for k in node.keywords}
        if not isinstance(pattern, Decimal) or named.keys() - {"rounding"} or not isinstance(value.kind, Scaled):
            raise Unsupported(f"the call {ast.unparse(node)} ({self.source.where(node)})")
        return scaled.rounded(value, scaled.digits_of(pattern), named.get("rounding"))

    def _known(self, node: ast.expr) -> object:
        """The value of a constant, or of `Decimal(…)` of one, with its zeros; UNKNOWN where it is not known."""
        if isinstance(node, ast.Call) and self.source.static(node.func) is Decimal and len(node.args) == 1:
            text = self._known(node.args[0])
            return Decimal(text) if isinstance(text, str) else UNKNOWN
        return node.value if isinstance(node, ast.Constant) else self.source.static(node)

    def _helper(self, node: ast.Call, helper: FunctionType) -> Typed:
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            raise Unsupported(f"* or ** in a call ({self.source.where(node)})")
        signature = inspect.signature(helper)
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
            raise Unsupported(f"a helper function with * or ** ({helper.__name__})")
        bound = signature.bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
        bound.apply_defaults()
        values = {
            name: self.lower(value) if isinstance(value, ast.expr) else constant(value, self.functions.shape)
            for name, value in bound.arguments.items()
        }
        name, kind = self.functions.call(helper, {key: value.kind for key, value in values.items()})
        return Typed(f"{name}({', '.join(value.code for value in values.values())})", kind)

    def _built_in(self, node: ast.Call, called: object) -> Typed:
        arguments = scaled.aligned([self.lower(argument) for argument in node.args])
        name = getattr(called, "__name__", "")
        if called is FUNCTIONS.get(name) and arguments and not node.keywords:
            found = self._of_one(name, arguments[0]) if len(arguments) == 1 else self._of_many(name, arguments, node)
            if found is not None:
                return found
        raise Unsupported(f"the call {ast.unparse(node)} ({self.source.where(node)})")

    def _of_one(self, name: str, only: Typed) -> Typed | None:
        is_decimal = isinstance(only.kind, Scaled)
        if name == "abs":
            return Typed(f"_abs({only.code if is_decimal else self._as_int(only)})", only.kind if is_decimal else INT)
        if name == "int":
            return scaled.whole(only) if is_decimal else Typed(self._as_int(only), INT)
        if name == "bool":
            return Typed(self.truth(only), BOOL)
        return Typed(scaled.rounded(only, 0).code, INT) if name == "round" and is_decimal else None

    def _of_many(self, name: str, arguments: Sequence[Typed], node: ast.Call) -> Typed | None:
        kind = arguments[0].kind
        alike = (kind == INT or isinstance(kind, Scaled)) and all(argument.kind == kind for argument in arguments)
        if name in ("min", "max") and alike:
            return Typed(nested(f"_{name}", [argument.code for argument in arguments]), kind)
        if name == "round" and isinstance(kind, Scaled):
            digits = self._literal(node.args[1])
            return None if digits is None else scaled.rounded(arguments[0], digits)
        return None


def lifted(value: Typed) -> Typed:
    """The decision that applies a row; a decision is returned unchanged."""
    return Typed(f"({value.code}, {int(Outcome.APPLIED)}, 0)", DECISION) if value.kind == ROW else value


def replacer_name(places: tuple[int, ...]) -> str:
    """The name of the kernel's function that replaces the fields at these places."""
    return "_replace_" + "_".join(map(str, places))


def nested(name: str, codes: Sequence[str]) -> str:
    """Nested calls of a function of two arguments, for many arguments."""
    return codes[0] if len(codes) == 1 else f"{name}({nested(name, codes[:-1])}, {codes[-1]})"


_BY_NODE: Mapping[type[ast.expr], Callable[..., Typed]] = {
    ast.Constant: Expressions._constant,
    ast.Name: Expressions._name,
    ast.Attribute: Expressions._attribute,
    ast.BinOp: Expressions._binary,
    ast.UnaryOp: Expressions._unary,
    ast.BoolOp: Expressions._boolean,
    ast.IfExp: Expressions._if,
    ast.Compare: Expressions._comparison,
    ast.Call: Expressions._call,
}
