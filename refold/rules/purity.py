"""Checks that a rule gives the same answer for the same row and event, on every machine and in every process.

Only listed syntax, built-ins, attributes and outside values are admitted, in the rule and in every helper function it
calls. Anything else is refused, with the line and what to write instead. `try`, `assert`, `lambda`,
nested functions and comprehensions are refused too: the first two would make a result depend on how Python is
started or compiled, the others open scopes that a fold step does not need.

`refold.rules.source` comes before this module; all others work on an admitted `Program`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, EnumMeta, IntEnum
from functools import cached_property
from types import FunctionType, ModuleType

from refold.rules.constants import ATTRIBUTES, NotConstant, canonical
from refold.rules.outcome import ignore, reject
from refold.rules.source import UNKNOWN, Source, SourceFault, read_source


@dataclass
class Program:
    """A rule with all helper functions it can reach, and the outside values that each of them reads.

    `functions` begins with the rule; `names[f]` maps the dotted names in `f` to what they stand for. `code[f]` is what
    ran as `f` when the rule was declared.
    """

    rule: Source
    functions: dict[FunctionType, Source] = field(default_factory=dict)
    names: dict[FunctionType, dict[str, object]] = field(default_factory=dict)
    reasons: dict[int, IntEnum] = field(default_factory=dict)
    code: dict[FunctionType, tuple[object, ...]] = field(default_factory=dict)

    def changes(self) -> list[str]:
        """What stands for something else now than when the rule was declared, which its fingerprint covers."""
        faults = []
        for function, source in self.functions.items():
            if _code_of(function) != self.code[function]:
                faults.append(f"{source.name} has other code or defaults than when the rule was declared")
            for name, node in self._looked_up[function].items():
                then, now = self.names[function][name], source.static(node)
                if now is not then and not _is_same(then, now):
                    found, before = _shown(now, "another function"), _shown(then, "a function")
                    faults.append(f"{name} is {found} now, and was {before} when the rule was declared")
        return list(dict.fromkeys(faults))

    @cached_property
    def _looked_up(self) -> dict[FunctionType, dict[str, ast.expr]]:
        """The outside names of each function, as expressions."""
        return {
            function: {name: ast.parse(name, mode="eval").body for name in names}
            for function, names in self.names.items()
        }


def _code_of(function: FunctionType) -> tuple[object, ...]:
    named = function.__kwdefaults__ or {}
    return function.__code__, function.__defaults__, *sorted(named.items())


def _is_same(one: object, other: object) -> bool:
    """Whether two values are the same constant; two functions are two."""
    try:
        return not isinstance(other, FunctionType) and canonical(one, sets=True) == canonical(other, sets=True)
    except NotConstant:
        return False


def _shown(value: object, function: str) -> str:
    return function if isinstance(value, FunctionType) else "gone" if value is UNKNOWN else repr(value)


# fmt: off
_NODES = (
    ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.If, ast.Match, ast.For,
    ast.While, ast.Break, ast.Continue, ast.Pass, ast.Expr, ast.Raise, ast.BoolOp,
    ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Dict, ast.Compare, ast.Call,
    ast.FormattedValue, ast.JoinedStr, ast.Constant, ast.Attribute, ast.Subscript, ast.Starred,
    ast.Name, ast.List, ast.Tuple, ast.Slice, ast.Set, ast.keyword, ast.match_case,
    ast.pattern, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
    ast.arguments, ast.arg,
)

_INSTEAD: Mapping[str, str] = {
    "Import": "import at the top of the module, where the fingerprint sees it",
    "ImportFrom": "import at the top of the module, where the fingerprint sees it",
    "Global": "a rule keeps nothing between events; put it into the row",
    "Nonlocal": "a rule keeps nothing between events; put it into the row",
    "Lambda": "write a helper function at the top of the module",
    "FunctionDef": "write a helper function at the top of the module",
    "ClassDef": "write the class at the top of the module",
    "Try": "test for the case before it fails, and reject or ignore the event",
    "Assert": "`python -O` drops it; write if … raise, or reject the event",
    "SetComp": "the order of a set differs between runs; use a tuple",
    "ListComp": "write a for loop",
    "DictComp": "write a for loop",
    "GeneratorExp": "write a for loop",
    "Yield": "return one row per event",
    "YieldFrom": "return one row per event",
    "Await": "a rule waits for nothing",
    "With": "a rule opens nothing",
    "Delete": "a row and its values do not change; return another row",
}

_OUTSIDE: Mapping[str, str] = {
    "time": "the clock; take the time from a column of the event",
    "random": "chance; take the value from a column of the event",
    "secrets": "chance; take the value from a column of the event",
    "uuid": "chance; take the id from a column of the event",
    "os": "the machine it runs on; put the setting into a constant of the module",
    "sys": "the machine it runs on; put the setting into a constant of the module",
    "open": "files; seal them into a log and fold that",
    "input": "a person at a prompt; take the value from a column of the event",
    "print": "the terminal; put it into the row, or reject with a reason",
    "hash": "the hash seed of the process; compare the values themselves",
    "id": "memory addresses; compare the values themselves",
    "float": "rounding and the order of sums; use int (the smallest unit) or Decimal",
    "set": "an order that differs between runs; use a tuple",
    "frozenset": "an order that differs between runs; use a tuple",
}

_LAZY = (zip, enumerate, reversed)
_WALKING = (all, any, dict, enumerate, list, max, min, reversed, sorted, sum, tuple, zip)
"""Built-ins that iterate over their argument at once, so that the iterator itself is never visible."""

_CLOCKS = {"now", "today", "utcnow", "fromtimestamp", "utcfromtimestamp"}

# fmt: on


def inspect_program(source: Source, allowed_attributes: frozenset[str]) -> tuple[Program, list[str]]:
    """Collect a rule with its helper functions, and every fault against purity in them.

    `allowed_attributes` are the names of event columns and row fields. A rerun gives the same faults in the same order.
    """
    program = Program(source)
    faults: list[str] = []
    _inspect(source, program, faults, (), allowed_attributes)
    return program, list(dict.fromkeys(faults))


def _inspect(
    source: Source, program: Program, faults: list[str], callers: tuple[FunctionType, ...], attributes: frozenset[str]
) -> None:
    names: dict[str, object] = {}
    program.functions[source.function] = source
    program.names[source.function] = names
    program.code[source.function] = _code_of(source.function)
    check = _Check(source, program, names, faults, attributes)
    for statement in source.body:
        check.visit(statement)
    check.defaults()
    above = (*callers, source.function)
    for value in list(names.values()):
        if not isinstance(value, FunctionType) or value in (reject, ignore):
            continue
        if value in above:
            faults.append(f"{source.where(source.tree)}: {value.__name__} calls itself; write a for loop.")
        elif value not in program.functions:
            try:
                helper = read_source(value)
            except SourceFault as error:
                faults.append(f"{source.where(source.tree)}: {error}")
            else:
                _inspect(helper, program, faults, above, attributes)


class _Check(ast.NodeVisitor):
    """Visits the nodes of one function; anything that is not admitted becomes a fault."""

    def __init__(
        self,
        source: Source,
        program: Program,
        names: dict[str, object],
        faults: list[str],
        attributes: frozenset[str],
    ) -> None:
        self.source, self.program, self.names, self.faults = source, program, names, faults
        self.attributes = attributes
        self.walked: set[ast.expr] = set()

    def fault(self, node: ast.AST, text: str) -> None:
        """Note a fault at a node."""
        self.faults.append(f"{self.source.where(node)}: {text}")

    def defaults(self) -> None:
        """The default values of parameters are constants that the function reads."""
        function = self.source.function
        named = function.__kwdefaults__ or {}
        for value in (*(function.__defaults__ or ()), *named.values()):
            try:
                canonical(value)
            except NotConstant as error:
                self.fault(self.source.tree, f"the default of a parameter is not admitted: {error}")

    def generic_visit(self, node: ast.AST) -> None:
        """Refuse unknown syntax; visit the children of known syntax."""
        kind = type(node).__name__
        if not isinstance(node, _NODES):
            instead = _INSTEAD.get(kind.removeprefix("Async").replace("TryStar", "Try"), "write it in another way")
            self.fault(node, f"{kind} is not allowed in a rule: {instead}.")
            return
        super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """An annotation has no effect, so only the target and the value are checked."""
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Refuse floats."""
        if isinstance(node.value, float | complex):
            self.fault(node, f"{node.value!r} is a float, which is rounded; use int (the smallest unit) or Decimal.")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Refuse operators that produce floats."""
        self._no_float(node, node.op, node.right)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Refuse operators that produce floats."""
        self._no_float(node, node.op, node.value)

    def _no_float(self, node: ast.AST, op: ast.operator, right: ast.expr) -> None:
        if isinstance(op, ast.Div):
            self.fault(node, "`/` makes a float; use `//`, or keep both terms and divide in a relation.")
        if isinstance(op, ast.Pow):
            self._no_root(node, right)
        self.generic_visit(node)

    def _no_root(self, node: ast.AST, exponent: ast.expr) -> None:
        known = exponent.value if isinstance(exponent, ast.Constant) else self.source.static(exponent)
        if type(known) is not int or known < 0:
            self.fault(node, "a power makes a float where the exponent is negative; use a constant from 0 on.")

    def visit_For(self, node: ast.For) -> None:
        """The iterated value may be a lazy iterator."""
        self.walked.add(node.iter)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """`is` only where identity is certain; a set only to the right of `in`."""
        sides = [node.left, *node.comparators]
        for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if isinstance(op, ast.Is | ast.IsNot) and not (self._singleton(left) or self._singleton(right)):
                self.fault(node, "`is` depends on how Python stores the value; use `==` and `!=`.")
        for index, side in enumerate(sides):
            after_in = index > 0 and isinstance(node.ops[index - 1], ast.In | ast.NotIn)
            if after_in and isinstance(side, ast.Set):
                for element in side.elts:
                    self.visit(element)
            elif after_in and isinstance(self.source.static(side), frozenset):
                self._outside(side, sets=True)
            else:
                self.visit(side)

    def _singleton(self, node: ast.expr) -> bool:
        known = isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))
        return known or isinstance(self.source.static(node), Enum)

    def visit_Set(self, node: ast.Set) -> None:
        """Refuse sets, except after `in`: their order could be observed."""
        self.fault(node, "the order of a set differs between runs; use a tuple (a set may stand right of `in`).")

    def visit_Name(self, node: ast.Name) -> None:
        """Local names are admitted; outside names must be constants."""
        if not self.source.is_local(node.id):
            self._outside(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """A dotted outside name is looked up whole; any other attribute must be on the list."""
        if not isinstance(node.ctx, ast.Load):
            self.fault(node, "a row and an event do not change; return row._replace(…) instead.")
            return
        if self.source.static(node) is not UNKNOWN:
            self._outside(node)
            return
        base = self.source.static(node.value)
        if isinstance(base, ModuleType | type):
            members = f" {base.__name__} has {', '.join(base.__members__)}." if isinstance(base, EnumMeta) else ""
            self.fault(node, f"{ast.unparse(node)} does not exist.{members}")
            return
        if node.attr not in ATTRIBUTES | self.attributes and not self._is_parameter(node.value):
            self.fault(node, f"the attribute {node.attr} is not on the list of those that give the same result always.")
        self.visit(node.value)

    def _is_parameter(self, node: ast.expr) -> bool:
        """The rule's row and event are left to `refold.rules.flow`, which can list the attributes they have."""
        is_rule = self.source is self.program.rule
        return is_rule and isinstance(node, ast.Name) and node.id in self.source.parameters

    def visit_Call(self, node: ast.Call) -> None:
        """Admit calls of a listed built-in, a helper function, or an admitted class or attribute."""
        called = self.source.static(node.func)
        unseen = not isinstance(node.func, ast.Name | ast.Attribute)
        if unseen or (isinstance(node.func, ast.Name) and self.source.is_local(node.func.id)):
            self.fault(node, f"{ast.unparse(node.func)}(…) calls something that is not known before it runs.")
        if called is reject:
            self._reason(node)
        if called is pow and len(node.args) == 2:
            self._no_root(node, node.args[1])
        self._lazy(node, called)
        if isinstance(called, FunctionType):
            self.names[ast.unparse(node.func)] = called
            self._library(node, called)
        else:
            self.visit(node.func)
        for argument in (*node.args, *node.keywords):
            self.visit(argument)

    def _lazy(self, node: ast.Call, called: object) -> None:
        """Admit `zip` and similar only where they are iterated at once, since their text contains a memory address."""
        if any(called is walking for walking in _WALKING):
            self.walked |= {each.value if isinstance(each, ast.Starred) else each for each in node.args}
        if any(called is lazy for lazy in _LAZY) and node not in self.walked:
            self.fault(node, f"{ast.unparse(node.func)}(…) is not walked through at once; write tuple(…) around it.")

    def _library(self, node: ast.Call, called: FunctionType) -> None:
        root = (called.__module__ or "").partition(".")[0]
        if called not in (reject, ignore) and root in sys.stdlib_module_names and root != "__main__":
            why = f"it depends on {_OUTSIDE[root]}" if root in _OUTSIDE else "write what it does in a helper function"
            self.fault(node, f"{ast.unparse(node.func)}(…) is not allowed: {why}.")
            del self.names[ast.unparse(node.func)]

    def _reason(self, node: ast.Call) -> None:
        reason = self.source.static(node.args[0]) if len(node.args) == 1 and not node.keywords else UNKNOWN
        if not isinstance(reason, IntEnum) or not 1 <= reason <= 255:
            self.fault(node, "expected reject(Why.MEMBER) with a member of an IntEnum with a value from 1 to 255.")
            return
        other = self.program.reasons.setdefault(int(reason), reason)
        if other is not reason:
            self.fault(node, f"{reason!r} and {other!r} share the code {int(reason)}; give each reason its own.")

    def _outside(self, node: ast.expr, *, sets: bool = False) -> None:
        """Admit or refuse one name from outside the function."""
        name, value = ast.unparse(node), self.source.static(node)
        if value is UNKNOWN:
            self.fault(node, f"{name} is not defined here; define or import it above the rule.")
            return
        why = _refusal(name, value, sets)
        if why:
            self.fault(node, f"{name} is not allowed: {why}")
            return
        self.names[name] = value


def _refusal(name: str, value: object, sets: bool) -> str:
    keys = (name.partition(".")[0], name, str(getattr(value, "__module__", "")))
    outside = next((_OUTSIDE[key] for key in keys if key in _OUTSIDE), None)
    if isinstance(value, FunctionType):
        return "a function can only be called, not handed on."
    try:
        canonical(value, sets=sets)
    except NotConstant as error:
        if name.rpartition(".")[2] in _CLOCKS:
            outside = _OUTSIDE["time"]
        if outside:
            return f"it depends on {outside}."
        if callable(value) and not isinstance(value, type):
            return "its source cannot be seen, so the fingerprint cannot cover it; write it in Python."
        return str(error)
    return ""
