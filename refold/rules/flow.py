"""Data flow of a rule: the event columns it reads, and the columns on which each row field depends.

The analysis is conservative and ignores the order of statements: a variable depends on everything ever assigned to
it, and a changed field on every condition of the function that changes it. So a field may have a column too many, but
never one too few. It also reports unknown columns and fields, and events used as a whole. Purity is checked before.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType

from refold.rules.outcome import ignore, reject
from refold.rules.purity import Program
from refold.rules.source import Source

Names = frozenset[str]
_NONE: Names = frozenset()


@dataclass(frozen=True)
class Flow:
    """The origin of a value.

    A source is `event.column` or `row.field`. A value that is a row has one set of sources per field instead, in
    which `=field` says "this field of the row as it was".
    """

    sources: Names = _NONE
    fields: tuple[Names, ...] | None = None
    is_event: bool = False

    def __or__(self, other: Flow) -> Flow:
        fields = self.fields or other.fields
        if self.fields is not None and other.fields is not None:
            fields = tuple(a | b for a, b in zip(self.fields, other.fields, strict=True))
        return Flow(self.sources | other.sources, fields, self.is_event or other.is_event)


@dataclass(frozen=True)
class FlowReport:
    """The columns read in declared order, the columns behind each field, and the faults found on the way."""

    columns_read: tuple[str, ...]
    lineage: Mapping[str, tuple[str, ...]]
    faults: tuple[str, ...]


@dataclass
class _Context:
    """The state of the analysis of one rule, shared by its functions."""

    program: Program
    row: type
    row_fields: tuple[str, ...]
    columns: Sequence[str]
    read: set[str] = field(default_factory=set)
    faults: dict[str, None] = field(default_factory=dict)
    results: dict[tuple[FunctionType, tuple[tuple[str, Flow], ...]], Flow] = field(default_factory=dict)


def analyse(program: Program, row: type, row_fields: tuple[str, ...], columns: Sequence[str]) -> FlowReport:
    """Follow the values of a rule from row and event to the row it returns; `columns` are the log's, in order."""
    context = _Context(program, row, row_fields, columns)
    start = Flow(fields=tuple(frozenset({f"={name}"}) for name in row_fields))
    first, second = program.rule.parameters
    result = _Function(context, program.rule, {first: start, second: Flow(is_event=True)}).result()
    direct = {
        name: _NONE if sources == {f"={name}"} else _past(sources)
        for name, sources in zip(row_fields, result.fields or (_NONE,) * len(row_fields), strict=True)
    }
    every = _through_fields(direct)
    lineage = {name: tuple(c for c in columns if f"event.{c}" in every[name]) for name in row_fields}
    return FlowReport(tuple(c for c in columns if c in context.read), lineage, tuple(context.faults))


def _past(sources: Names) -> Names:
    """The same sources, with fields that are passed on counted as read."""
    return frozenset(f"row.{s[1:]}" if s.startswith("=") else s for s in sources)


def _through_fields(direct: Mapping[str, Names]) -> dict[str, Names]:
    """The sources of each field including, transitively, those of the fields it is computed from."""
    found = dict(direct)
    for _ in found:
        for name, sources in found.items():
            below = (found.get(s.removeprefix("row."), _NONE) for s in sources if s.startswith("row."))
            found[name] = sources.union(*below)
    return found


class _Function:
    """One function with known arguments."""

    def __init__(self, context: _Context, source: Source, arguments: Mapping[str, Flow]) -> None:
        self.context, self.source = context, source
        self.variables: dict[str, Flow] = dict(arguments)

    def result(self) -> Flow:
        """The flow of what the function returns."""
        before: dict[str, Flow] | None = None
        while before != self.variables:
            before = dict(self.variables)
            returned, conditions = Flow(), _NONE
            for node in (n for statement in self.source.body for n in ast.walk(statement)):
                conditions |= self._condition(node)
                if isinstance(node, ast.Return) and node.value is not None:
                    returned |= self.value(node.value)
                else:
                    self._assignment(node)
        if returned.fields is None:
            return Flow(returned.sources | conditions, None, returned.is_event)
        # A rejection joins the rows with its own sources; they decide like a condition does.
        always = conditions | returned.sources
        unchanged = [frozenset({f"={name}"}) for name in self.context.row_fields]
        fields = tuple(s if s == same else s | always for s, same in zip(returned.fields, unchanged, strict=True))
        return Flow(conditions, fields)

    def _condition(self, node: ast.AST) -> Names:
        tests: Iterable[ast.expr | None] = ()
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            tests = (node.test,)
        elif isinstance(node, ast.For):
            tests = (node.iter,)
        elif isinstance(node, ast.Match):
            tests = (node.subject, *(case.guard for case in node.cases))
        elif isinstance(node, ast.BoolOp):
            tests = node.values
        return _NONE.union(*(self.plain(test) for test in tests if test is not None))

    def _assignment(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)
        elif isinstance(node, ast.AugAssign):
            self._join(node.target, Flow(self.plain(node.value)))
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            self._assign(node.target, node.value)
        elif isinstance(node, ast.For):
            self._join(node.target, Flow(self.plain(node.iter)))
        elif isinstance(node, ast.Match):
            self._captures(node)
        elif isinstance(node, ast.Expr):
            self._mutation(node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        whole = isinstance(target, ast.Name)
        self._join(target, self.value(value) if whole else Flow(self.plain(value)))

    def _join(self, target: ast.AST, flow: Flow) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self.variables[node.id] = self.variables.get(node.id, Flow()) | flow

    def _captures(self, node: ast.Match) -> None:
        whole = self.value(node.subject)
        if whole.is_event:
            self._event_as_whole(node)
        for pattern in (p for case in node.cases for p in ast.walk(case.pattern)):
            name = getattr(pattern, "name", None) or getattr(pattern, "rest", None)
            if isinstance(name, str):
                plain = Flow(self.plain(node.subject))
                self.variables[name] = self.variables.get(name, Flow()) | whole | plain

    def _mutation(self, call: ast.expr) -> None:
        """A statement such as `names.append(x)` gives the local list everything in the call."""
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            self._join(call.func.value, Flow(self.plain(call)))

    def plain(self, node: ast.expr) -> Names:
        """The sources of a value used as a plain value; a row counts with all its fields, and an event is a fault."""
        flow = self.value(node)
        if flow.is_event:
            self._event_as_whole(node)
        return flow.sources | _past(_NONE.union(*(flow.fields or ())))

    def _event_as_whole(self, node: ast.AST) -> None:
        self._fault(node, "the event is used as a whole; read its columns, or hand it to a helper function.")

    def _fault(self, node: ast.AST, text: str) -> None:
        self.context.faults[f"{self.source.where(node)}: {text}"] = None

    def value(self, node: ast.expr) -> Flow:
        """The flow of an expression."""
        if isinstance(node, ast.Name):
            return self.variables.get(node.id, Flow()) if self.source.is_local(node.id) else Flow()
        if isinstance(node, ast.Attribute):
            return self._attribute(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.NamedExpr):
            return self.value(node.value)
        if isinstance(node, ast.IfExp):
            either = self.value(node.body) | self.value(node.orelse)
            return Flow(either.sources | self.plain(node.test), either.fields, either.is_event)
        return Flow(self._children(node))

    def _children(self, node: ast.AST) -> Names:
        found = _NONE
        for child in ast.iter_child_nodes(node):
            found |= self.plain(child) if isinstance(child, ast.expr) else self._children(child)
        return found

    def _attribute(self, node: ast.Attribute) -> Flow:
        base = self.value(node.value)
        if base.is_event:
            if node.attr in self.context.columns:
                self.context.read.add(node.attr)
                return Flow(frozenset({f"event.{node.attr}"}))
            known = ", ".join(self.context.columns)
            self._fault(node, f"the event has no column {node.attr}; it has {known}.")
            return Flow()
        if base.fields is not None:
            if node.attr in self.context.row_fields:
                return Flow(base.sources | _past(base.fields[self.context.row_fields.index(node.attr)]))
            known = ", ".join(self.context.row_fields)
            self._fault(node, f"the row has no field {node.attr}; it has {known}.")
            return Flow()
        return Flow(base.sources)

    def _call(self, node: ast.Call) -> Flow:
        called = self.source.static(node.func)
        if called is reject or called is ignore:
            return Flow()
        if called is self.context.row:
            return self._row(node, [_NONE] * len(self.context.row_fields))
        if isinstance(called, FunctionType) and called in self.context.program.functions:
            return self._helper(node, self.context.program.functions[called])
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_replace":
            base = self.value(node.func.value)
            if base.fields is not None:
                return self._row(node, list(base.fields))
        return Flow(self._children(node))

    def _row(self, node: ast.Call, fields: list[Names]) -> Flow:
        """A row made of `fields`, each overwritten by an argument of the call where there is one."""
        names = self.context.row_fields
        given = [*zip(names, node.args, strict=False), *((k.arg, k.value) for k in node.keywords)]
        for name, value in given:
            if name is None or isinstance(value, ast.Starred):
                everything = _NONE.union(*(self.plain(each) for _, each in given))
                return Flow(fields=tuple(f | everything for f in fields))
            if name not in names:
                self._fault(node, f"the row has no field {name}; it has {', '.join(names)}.")
            else:
                # The mark keeps a field set to itself apart from a field never touched.
                fields[names.index(name)] = self.plain(value) | {"new"}
        return Flow(fields=tuple(fields))

    def _helper(self, node: ast.Call, helper: Source) -> Flow:
        arguments: dict[str, Flow] = {}
        try:
            bound = inspect.signature(helper.function).bind(
                *node.args, **{k.arg: k.value for k in node.keywords if k.arg is not None}
            )
        except TypeError as error:
            self._fault(node, f"{helper.name} cannot be called like this: {error}.")
            return Flow()
        starred = [k.value for k in node.keywords if k.arg is None]
        starred += [a for a in node.args if isinstance(a, ast.Starred)]
        extra = Flow(_NONE.union(*(self.plain(value) for value in starred)))
        for name in helper.parameters:
            value = bound.arguments.get(name)
            arguments[name] = (self.value(value) if isinstance(value, ast.expr) else self._several(value)) | extra
        key = (helper.function, tuple(arguments.items()))
        if key not in self.context.results:
            self.context.results[key] = Flow()  # ends a helper that calls itself; purity refuses it
            self.context.results[key] = _Function(self.context, helper, arguments).result()
        return self.context.results[key]

    def _several(self, values: object) -> Flow:
        """The flow of what a `*args` or `**kwargs` parameter collects; nothing where a default is used."""
        found = values.values() if isinstance(values, dict) else values if isinstance(values, tuple) else ()
        return Flow(_NONE.union(*(self.plain(v) for v in found if isinstance(v, ast.expr))))
