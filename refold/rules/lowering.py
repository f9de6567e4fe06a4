"""Lowering of statements and functions: from a rule's program to the source of the functions of a kernel.

`match` becomes `if`, `return row` becomes a decision (row, outcome, reason), a helper function is lowered once for
each combination of argument kinds, `raise` becomes a stop at which the interpreter takes over. Loops and everything
else not named here are `Unsupported`; the rule is interpreted then. `refold.rules.kernel` compiles the result.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType

from refold.rules import scaled
from refold.rules.branches import branches_of
from refold.rules.expressions import Expressions, lifted, replacer_name
from refold.rules.kinds import BOOL, DECISION, EVENT, INT, ROW, Kind, RowShape, Scaled, Typed, Unsupported
from refold.rules.purity import Program
from refold.rules.source import Source
from refold.types import Schema

RULE_NAME = "_rule"


@dataclass
class Lowering:
    """The functions of one kernel while they are lowered; `texts` has callees before their callers.

    `branches` are the numbers of the rule's branches, by the identity of their first statement.
    """

    program: Program
    shape: RowShape
    columns: Schema
    texts: list[str] = field(default_factory=list)
    replacers: set[tuple[int, ...]] = field(default_factory=set)
    branches: dict[int, int] = field(default_factory=dict)
    done: dict[tuple[FunctionType, tuple[tuple[str, Kind], ...]], tuple[str, Kind]] = field(default_factory=dict)

    @property
    def words(self) -> int:
        """How many integers hold the bits of the branches."""
        return len(self.branches) // WORD_BITS + 1

    def call(self, helper: FunctionType, kinds: Mapping[str, Kind]) -> tuple[str, Kind]:
        """The name and result kind of a helper function for arguments of these kinds, lowered if it was not before."""
        key = (helper, tuple(kinds.items()))
        if key not in self.done:
            name = f"_helper_{len(self.done)}"
            self.done[key] = (name, INT)  # takes the name; helpers cannot call themselves
            self.done[key] = (name, self._function(name, self.program.functions[helper], kinds))
        return self.done[key]

    def rule(self) -> str:
        """The source of all functions; the rule is `_rule(row, event)` and returns a decision and the branches taken.

        Raises:
            Unsupported: something in the rule or a helper function cannot be compiled with certainly the same meaning.
        """
        first, second = self.program.rule.parameters
        self.branches = {id(branch.body[0]): n for n, branch in enumerate(branches_of(self.program.rule))}
        kind = self._function(RULE_NAME, self.program.rule, {first: ROW, second: EVENT}, lift=True)
        if kind != DECISION:
            raise _noticed("a return of something that is neither a row nor a decision", self.program.rule)
        fields = range(len(self.shape.names))
        replacers = [
            _text(f"{replacer_name(places)}(row, {', '.join(f'n{p}' for p in places)})",
                  [f"return ({', '.join(f'n{f}' if f in places else f'row[{f}]' for f in fields)},)"])
            for places in sorted(self.replacers)
        ]  # fmt: skip
        return "\n\n".join([*replacers, *self.texts])

    def _function(
        self, name: str, source: Source, kinds: Mapping[str, Kind], lift: bool = False, result: Kind | None = None
    ) -> Kind:
        taken = _taken_code(self.words) if name == RULE_NAME else ""
        body = _Body(Expressions(source, self, dict(kinds), set(kinds)), lift, result, self.branches, taken)
        lines, ended = body.block(source.body)
        if body.returned == {ROW, DECISION}:
            return self._function(name, source, kinds, lift=True)
        widest = scaled.common(list(body.returned))
        if widest is not None and len(body.returned) > 1:
            return self._function(name, source, kinds, result=widest)
        if len(body.returned) != 1:
            raise _noticed(f"returns of different kinds in {source.name}", source)
        parameters = ", ".join(f"v_{parameter}" for parameter in kinds)
        if name == RULE_NAME:
            lines = [*(f"t_{word} = 0" for word in range(self.words)), *lines]
        self.texts.append(_text(f"{name}({parameters})", lines if ended else [*lines, _STOP]))
        return next(iter(body.returned))


def _noticed(what: str, source: Source, node: ast.AST | None = None) -> Unsupported:
    """An error with its place: a node of a function, or the function itself."""
    error = Unsupported(what)
    error.noticed_in(source, node or source.tree)
    return error


_STOP = "raise ValueError"

WORD_BITS = 62
"""How many branches one integer of a kernel counts."""


def _taken_code(words: int) -> str:
    return f"({' '.join(f't_{word},' for word in range(words))})"


def _text(head: str, lines: list[str]) -> str:
    return "\n".join(["@_function", f"def {head}:", *_indented(lines)])


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


Lines = tuple[list[str], bool]
"""Lowered statements, and whether they certainly return or raise."""


class _Body:
    """Lowers the statements of one function."""

    def __init__(
        self, expressions: Expressions, lift: bool, result: Kind | None, branches: Mapping[int, int], taken: str
    ) -> None:
        self.expressions, self.lift, self.result = expressions, lift, result
        self.branches, self.taken = branches, taken
        self.returned: set[Kind] = set()
        self.subjects = 0

    def block(self, statements: list[ast.stmt]) -> Lines:
        """Lower statements in order; statements after a certain return are unreachable and left out."""
        lines: list[str] = []
        number = self.branches.get(id(statements[0])) if statements else None
        if number is not None:
            lines.append(f"t_{number // WORD_BITS} |= {1 << number % WORD_BITS}")
        for statement in statements:
            try:
                more, ended = self._statement(statement)
            except Unsupported as error:
                error.noticed_in(self.expressions.source, statement)
                raise
            lines += more
            if ended:
                return lines, True
        return lines or ["pass"], False

    def _statement(self, node: ast.stmt) -> Lines:
        if isinstance(node, ast.Return):
            return self._return(node)
        if isinstance(node, ast.If):
            test = self.expressions.condition(node.test)
            return self._branches(test, lambda: self.block(node.body), lambda: self.block(node.orelse))
        if isinstance(node, ast.Match):
            return self._match(node)
        if isinstance(node, ast.Raise):
            return [_STOP], True
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return [], False
        return self._assignment(node), False

    def _return(self, node: ast.Return) -> Lines:
        if node.value is None:
            raise Unsupported(f"a return without a value ({self.expressions.source.where(node)})")
        value = self.expressions.lower(node.value)
        value = lifted(value) if self.lift else value
        value = value if self.result is None else self.expressions.in_kind(value, self.result, "returned")
        if value.kind == EVENT:
            raise Unsupported("a return of the event")
        self.returned.add(value.kind)
        return [f"return {value.code}, {self.taken}" if self.taken else f"return {value.code}"], True

    def _assignment(self, node: ast.stmt) -> list[str]:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], self.expressions.lower(node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, self.expressions.lower(node.value)
        elif isinstance(node, ast.AugAssign):
            target = node.target
            before = self.expressions.lower(ast.Name(id=getattr(target, "id", ""), ctx=ast.Load()))
            value = self.expressions.binary(node.op, before, self.expressions.lower(node.value))
        else:
            raise Unsupported(f"{type(node).__name__} ({self.expressions.source.where(node)})")
        if not isinstance(target, ast.Name):
            raise Unsupported(f"an assignment to several names ({self.expressions.source.where(node)})")
        return [self._assign(target.id, value)]

    def _assign(self, name: str, value: Typed) -> str:
        kind = self.expressions.kinds.get(name, value.kind)
        if kind != value.kind and not (isinstance(kind, Scaled) and isinstance(value.kind, Scaled)):
            raise Unsupported(f"the variable {name} for values of different kinds")
        self.expressions.kinds[name] = value.kind  # another scale is another number of the same 64 bits
        self.expressions.assigned.add(name)
        return f"v_{name} = {value.code}"

    def _branches(self, test: str, body: Callable[[], Lines], other: Callable[[], Lines]) -> Lines:
        """An `if` whose branches are lowered by calls, since each changes which variables have a value."""
        names, kinds = set(self.expressions.assigned), dict(self.expressions.kinds)
        first, first_ended = body()
        after_first, first_kinds = self.expressions.assigned, self.expressions.kinds
        self.expressions.assigned, self.expressions.kinds = names, {**first_kinds, **kinds}
        second, second_ended = other()
        if first_ended:
            pass
        elif second_ended:
            self.expressions.assigned = after_first
            self.expressions.kinds |= first_kinds
        else:
            self.expressions.assigned &= after_first
            self._join_scales(first, first_kinds, second)
        lines = [f"if {test}:", *_indented(first)]
        if second and second[0].startswith("if ") and _is_one_if(second):
            lines += [f"el{second[0]}", *second[1:]]
        elif second != ["pass"]:
            lines += ["else:", *_indented(second or ["pass"])]
        return lines, first_ended and second_ended

    def _join_scales(self, first: list[str], first_kinds: dict[str, Kind], second: list[str]) -> None:
        """Give variables that two branches leave with different scales the larger one, at the end of either branch."""
        second_kinds = self.expressions.kinds
        for name in sorted(self.expressions.assigned):
            kind = scaled.common([first_kinds[name], second_kinds[name]])
            if kind is not None:
                for lines, kinds in ((first, first_kinds), (second, second_kinds)):
                    value = Typed(f"v_{name}", kinds[name])
                    if value.kind != kind:
                        lines.append(f"v_{name} = {scaled.rescaled(value, kind.scale).code}")
                second_kinds[name] = kind

    def _match(self, node: ast.Match) -> Lines:
        subject = self.expressions.lower(node.subject)
        name = f"m_{self.subjects}"
        self.subjects += 1
        lines, ended = self._cases(node, Typed(name, subject.kind), 0, frozenset())
        return [f"{name} = {subject.code}", *lines], ended

    def _cases(self, node: ast.Match, subject: Typed, index: int, matched: frozenset[str]) -> Lines:
        """The cases from `index` on; `matched` are the enum codes that unguarded cases before them have taken."""
        if index == len(node.cases):
            members = range(len(list(subject.kind))) if isinstance(subject.kind, type) else None
            if members is not None and matched == {str(code) for code in members}:
                return [_STOP], True
            return ["pass"], False
        case = node.cases[index]
        tests = self._pattern(case.pattern, subject)
        taken = matched | set(tests or ()) if case.guard is None else matched
        captured = case.pattern.name if isinstance(case.pattern, ast.MatchAs) else None
        lines = [self._assign(captured, subject)] if captured is not None else []
        guard = self.expressions.condition(case.guard) if case.guard is not None else None
        if tests is None and guard is None:
            more, ended = self.block(case.body)
            return lines + more, ended
        codes = [self.expressions.equal(subject, Typed(t, subject.kind)) for t in tests or ()]
        test = " and ".join(part for part in (f"({' or '.join(codes)})" if codes else "", guard) if part)
        more, ended = self._branches(
            test, lambda: self.block(case.body), lambda: self._cases(node, subject, index + 1, taken)
        )
        return lines + more, ended

    def _pattern(self, pattern: ast.pattern, subject: Typed) -> list[str] | None:
        """The codes a pattern matches, of the subject's kind; None where it matches everything."""
        if isinstance(pattern, ast.MatchAs) and pattern.pattern is None:
            return None
        if isinstance(pattern, ast.MatchOr):
            parts = [self._pattern(part, subject) for part in pattern.patterns]
            if any(part is None for part in parts):
                return None
            return [code for part in parts for code in part or ()]
        if isinstance(pattern, ast.MatchValue):
            value = self.expressions.lower(pattern.value)
            if isinstance(subject.kind, Scaled) and scaled.scale_of(value) <= subject.kind.scale:
                value = scaled.rescaled(scaled.number(value), subject.kind.scale)
            if value.kind == subject.kind:
                return [value.code]
        if isinstance(pattern, ast.MatchSingleton) and isinstance(pattern.value, bool) and subject.kind == BOOL:
            return [str(pattern.value)]
        source = self.expressions.source
        raise _noticed(f"the pattern `{ast.unparse(pattern)}` ({source.where(pattern)})", source, pattern)


def _is_one_if(lines: list[str]) -> bool:
    """Whether lines are one `if` statement with its branches, so that `else: if` may be written `elif`."""
    return all(line.startswith((" ", "elif ", "else:")) for line in lines[1:])
