"""A rule as declared: a plain function over a row and an event, with all that Refold derives from its source.

`Rule.of` is the only way to make one and reports every fault at once. `Rule.fold` is the only way to run one over
many events; compiled or interpreted, the result is the same. Logs, deduplication and states know rules, not the
other way round.
"""

from __future__ import annotations

import decimal
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from refold.errors import DeclarationError
from refold.rules.branches import Twin, branches_of
from refold.rules.comparisons import constant_comparisons
from refold.rules.constants import NotConstant, canonical
from refold.rules.event_class import event_faults
from refold.rules.fingerprint import fingerprint
from refold.rules.flow import FlowReport, analyse
from refold.rules.interpreter import Codes, Interpreter, Live, Row, fixed_context
from refold.rules.kernel import Kernel, kernel_source, switched_off
from refold.rules.kinds import RowShape, Unsupported, kind_of_column
from refold.rules.outcome import FoldResult, Outcome
from refold.rules.paths import missing_answers
from refold.rules.purity import Program, inspect_program
from refold.rules.refusal import Refusal, refused_types, rule_place
from refold.rules.source import Place, Source, SourceFault, is_named_tuple, read_source
from refold.rules.values import admits, arrow_rows, field_type
from refold.types import ColumnKind, ColumnType, Schema

COMPILED_FROM_EVENTS = 20_000
"""How many events a process interprets before it loads the kernel, since compiling takes longer than these."""


@dataclass(frozen=True, eq=False)
class Rule:
    """The pure function that folds the events of one key into its row.

    `columns_read` and `lineage` are in the log's declared order. `reasons` maps the code of each rejection to its name.
    `fingerprint` covers all that decides what the rule answers, and nothing else.
    """

    name: str
    doc: str
    version: int
    row: type
    row_columns: Schema
    columns: Schema = field(repr=False)
    columns_read: tuple[str, ...]
    reasons: Mapping[int, str]
    fingerprint: str
    lineage: Mapping[str, tuple[str, ...]] = field(repr=False)
    interpreter: Interpreter = field(repr=False)
    program: Program = field(repr=False)
    _kernel: Kernel | None = field(repr=False)
    _refusal: Refusal | None = field(repr=False)

    @classmethod
    def of(cls, function: Callable[..., object], columns: Schema, version: int) -> Rule:
        """Make a rule of a function `(row, event)` over the event columns of a log.

        The row's class is the annotation of the first parameter: a NamedTuple whose fields all have defaults.

        Raises:
            DeclarationError: with every fault found in the signature, the row, the function and its helpers.

        >>> from typing import NamedTuple
        >>> from refold.types import int64, text
        >>> class Total(NamedTuple):
        ...     amount: int = 0
        >>> def total(row: Total, event):
        ...     return row._replace(amount=row.amount + event.amount)
        >>> rule = Rule.of(total, {"amount": int64(), "note": text()}, version=1)
        >>> rule.columns_read, dict(rule.lineage)
        (('amount',), {'amount': ('amount',)})
        >>> events = pa.table({"amount": [3, 4, 5]})
        >>> rule.fold(rule.default_rows(2), np.array([0, 1, 0]), events, np.ones(3, bool)).rows.to_pydict()
        {'amount': [8, 4]}
        """
        where = f"The rule {getattr(function, '__name__', function)}"
        faults = _version_faults(version)
        try:
            source = read_source(function)
        except SourceFault as error:
            raise DeclarationError(where, [*faults, str(error)]) from error
        signature = _signature_faults(source)
        if signature:
            raise DeclarationError(where, faults + signature)
        row, row_columns, row_faults = _row_of(source)
        attributes = frozenset({*columns, *row_columns})
        program, impure = inspect_program(source, attributes)
        flow = analyse(program, row, tuple(row_columns), tuple(columns))
        faults += row_faults + event_faults(source, columns) + impure + _ratio_faults(flow, columns)
        faults += missing_answers(source, columns)
        # Without a row its fields are not known, so what the flow says of them would be noise.
        faults += [] if row_faults else [*flow.faults, *constant_comparisons(program, row_columns, columns)]
        if faults:
            raise DeclarationError(where, faults)
        return _rule_of(program, flow, row=row, row_columns=row_columns, columns=columns, version=version)

    @property
    def code_version(self) -> str:
        """The declared version and twelve digits of the fingerprint: the version in the names of states and proofs."""
        return f"{self.version}-{self.fingerprint[:12]}"

    @property
    def function(self) -> Callable[..., object]:
        """The function as the user wrote it, for folds without Refold's interpreter and kernel."""
        return self.interpreter.function

    @property
    def refusal(self) -> Refusal | None:
        """Why the rule is not compiled, with the line that says so; None where it is or can be compiled."""
        if self._kernel is not None and self._kernel.refusal is not None:
            return Refusal(self._kernel.refusal, rule_place(self.program))
        return self._refusal

    @property
    def interpreted_because(self) -> str | None:
        """A sentence that says why the rule is not compiled; None where it is or can be compiled."""
        return None if self.refusal is None else self.refusal.sentence

    @property
    def lowered(self) -> str | None:
        """The generated source that is compiled; None where the rule cannot be lowered."""
        return None if self._kernel is None else self._kernel.source

    def default_rows(self, count: int) -> pa.Table:
        """The rows of `count` keys before their first event."""
        return arrow_rows([self.row()] * count, self.row_columns)

    def fold(self, rows: pa.Table, codes: Codes, events: pa.Table, live: Live, *, traced: bool = False) -> FoldResult:
        """Fold events, in order, into the rows of the touched keys.

        `rows` has exactly `row_columns`; event i belongs to row `codes[i]`; `events` has at least `columns_read`. An
        event that is not live does not reach the rule, and its outcome is left 255. The inputs are not changed, and a
        rerun gives the same result, compiled or interpreted. The branches taken are counted where all events are
        compiled, and with `traced` also where some are interpreted.

        Raises:
            DeclarationError: a constant or helper of the rule is not what it was when the rule was declared.
            RuleError: the rule raised or returned something impossible; `event_index` is the first such event.
            ValueError: the inputs do not fit each other.
        """
        self._require_as_declared()
        codes = np.ascontiguousarray(codes, dtype=np.int64)
        live = np.ascontiguousarray(live, dtype=np.bool_)
        if not len(codes) == len(live) or (self.columns_read and events.num_rows != len(codes)):
            raise ValueError(f"{len(codes)} codes, {len(live)} live flags and {events.num_rows} events do not match")
        rows, events = rows.select(list(self.row_columns)), events.select(list(self.columns_read))
        noted: set[int] = set()
        interpreter = replace(self.interpreter, function=self._twin.noting(noted.add)) if traced else self.interpreter
        kernel, result = self._kernel, None
        if kernel is not None and kernel.is_due(len(codes), COMPILED_FROM_EVENTS) and kernel.load():
            result = kernel.fold(rows, codes, events, live, interpreter)
        result = result or interpreter.fold(rows, codes, events, live)
        if not result.interpreted:
            return result
        return replace(result, taken=sum(1 << n for n in noted) | (result.taken or 0) if traced else None)

    def _require_as_declared(self) -> None:
        """Refuse to fold by other constants and helpers than those that fingerprint, states and proofs name."""
        changes = self.program.changes()
        if changes:
            raise DeclarationError(f"The rule {self.name}", [f"{each}; define it once." for each in changes])

    @cached_property
    def branches(self) -> list[Place]:
        """The lines at which the branches of the rule begin, in the order of the bits of `FoldResult.taken`."""
        return [branch.place for branch in branches_of(self.program.rule)]

    @cached_property
    def _twin(self) -> Twin:
        return Twin.of(self.program.rule)

    @property
    def was_compiled(self) -> bool:
        """Whether compiling it is only loading what was compiled before; True where it is interpreted."""
        return self._kernel is None or self._kernel.was_compiled

    def compile(self) -> bool:
        """Compile now, or load what was compiled before; False where the rule is interpreted. A rerun does nothing."""
        return self._kernel is not None and self._kernel.load()

    def steps(self, row: Row, events: pa.Table) -> Iterator[tuple[Row, Outcome, int]]:
        """The row after each event of one key, with its outcome and reason code: the explanation of a value.

        Raises:
            DeclarationError: a constant or helper of the rule is not what it was when the rule was declared.
            RuleError: the rule raised or returned something impossible for an event.
        """
        self._require_as_declared()
        return self.interpreter.steps(self.row(*row), events.select(list(self.columns_read)))


def _rule_of(
    program: Program, flow: FlowReport, *, row: type, row_columns: Schema, columns: Schema, version: int
) -> Rule:
    source = program.rule
    read = {name: columns[name] for name in flow.columns_read}
    defaults = tuple(row())
    interpreter = Interpreter(source.name, source.function, row, row_columns, read)
    off, kernel = switched_off(), None
    refusal = refused_types(program, row, row_columns, read) or (Refusal(off) if off else None)
    if refusal is None:
        shape = RowShape(row, {n: kind_of_column(k) for n, k in row_columns.items()}, defaults)
        try:
            text, words = kernel_source(program, shape, row_columns, read)
            kernel = Kernel(text, row_columns, read, words)
        except Unsupported as error:
            refusal = Refusal.of(error)
    return Rule(
        name=source.name,
        doc=source.doc,
        version=version,
        row=row,
        row_columns=row_columns,
        columns=dict(columns),
        columns_read=flow.columns_read,
        reasons={code: reason.name for code, reason in sorted(program.reasons.items())},
        fingerprint=fingerprint(program, row_columns, defaults, read),
        lineage=flow.lineage,
        interpreter=interpreter,
        program=program,
        _kernel=kernel,
        _refusal=refusal,
    )


def _version_faults(version: int) -> list[str]:
    if type(version) is int and version >= 1:
        return []
    return [f"expected a version of 1 or more, found {version!r}."]


def _signature_faults(source: Source) -> list[str]:
    parameters = list(inspect.signature(source.function).parameters.values())
    plain = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    if len(parameters) == 2 and len(plain) == 2:
        return []
    found = str(inspect.signature(source.function))
    return [f"expected two parameters without defaults, (row, event), found {found}."]


def _ratio_faults(flow: FlowReport, columns: Schema) -> list[str]:
    return [
        f"reads the column {name}, a ratio; ratios are rounded results and cannot be folded."
        for name in flow.columns_read
        if columns[name].kind is ColumnKind.RATIO
    ]


def _row_of(source: Source) -> tuple[type, dict[str, ColumnType], list[str]]:
    """The row class of a rule, its columns, and its faults."""
    name = source.parameters[0]
    try:
        annotation = source.function.__annotations__.get(name)
        row = eval(annotation, source.names) if isinstance(annotation, str) else annotation
    except Exception as error:  # an annotation can be any expression, and raise anything
        return (
            tuple,
            {},
            [f"the annotation of {name} cannot be read ({error}); define the row's class before the rule."],
        )
    if not is_named_tuple(row):
        return tuple, {}, [f"expected the parameter {name} annotated with a NamedTuple, found {annotation!r}."]
    assert isinstance(row, type)
    try:
        hints = typing.get_type_hints(row, localns=source.names, include_extras=True)
    except (NameError, TypeError) as error:
        return row, {}, [f"the fields of {row.__name__} cannot be read ({error}); define their types before it."]
    columns, faults = {}, []
    for field_name in row._fields:  # type: ignore[attr-defined]
        kind = field_type(hints.get(field_name))
        fault = _field_fault(row, field_name, kind, hints.get(field_name))
        if fault:
            faults.append(f"the field {field_name} of {row.__name__} {fault}")
        if kind is not None:
            columns[field_name] = kind
    if not row._fields:  # type: ignore[attr-defined]
        faults.append(f"{row.__name__} has no fields; expected at least one.")
    return row, columns, faults


def _field_fault(row: type, name: str, kind: ColumnType | None, annotation: object) -> str:
    if kind is None or kind.kind in (ColumnKind.RATIO, ColumnKind.VERSION_VECTOR):
        expected = (
            "int, str, bool, bytes, date, datetime, an Enum, one of these or None, or Annotated[Decimal, decimal(p, s)]"
        )
        return f"has the type {annotation!r}; expected {expected}."
    defaults = row._field_defaults  # type: ignore[attr-defined]
    if name not in defaults:
        return "has no default; a key's row must exist before its first event."
    try:
        canonical(defaults[name])
    except NotConstant as error:
        return f"has the default {defaults[name]!r}, which is not admitted: {error}"
    with decimal.localcontext(fixed_context()):
        fits = admits(kind)(defaults[name])
    return "" if fits else f"has the default {defaults[name]!r}, which is not a valid {kind}."
