"""The kind of store that a rule folds: a pure function of a key's row and an event, compiled where it can be."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.kernel_cache import cache_folder, kernel_files, unusable_because
from refold.log.declaration import POSITION, Log
from refold.rules.outcome import FoldResult, Ignored, Rejection
from refold.rules.refusal import rule_place
from refold.rules.rule import Rule
from refold.rules.source import Place
from refold.sinks.base import Sink
from refold.sinks.expectations import Expectation
from refold.stores.declaration import Account, Folded, Work, repeats_text
from refold.stores.kinds.plain import PlainFold, PlainRule
from refold.types import INT64_MAX, ColumnKind, Schema

_Row = TypeVar("_Row")
_RowRule = Callable[[_Row, Any], _Row | Rejection | Ignored]


@dataclass(frozen=True, eq=False, kw_only=True)
class RuleStore(Folded):
    """A store folded by a rule."""

    rule: Rule

    @property
    def values(self) -> Schema:
        """The fields of the rule's row."""
        return self.rule.row_columns

    @property
    def columns_read(self) -> Sequence[str]:
        """The event columns the rule's syntax tree reads."""
        return self.rule.columns_read

    @property
    def code_version(self) -> str:
        """The rule's version and fingerprint."""
        return self.rule.code_version

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Key and position come unchanged from the log; the lineage of values follows from the rule's syntax tree."""
        own = {name: (name,) for name in (*self.log.key_columns, *POSITION)}
        return {c: [(self.log.name, e) for e in {**own, **self.rule.lineage}[c]] for c in self.columns}

    @property
    def row_before(self) -> pa.Table:
        """The defaults of the rule's row."""
        return self.rule.default_rows(1)

    def fold(
        self, rows: pa.Table, codes: npt.NDArray[np.int64], events: pa.Table, live: npt.NDArray[np.bool_]
    ) -> FoldResult:
        """The rule over all events, compiled or interpreted."""
        return self.rule.fold(rows, codes, events, live)

    def fold_again(
        self, rows: pa.Table, codes: npt.NDArray[np.int64], events: pa.Table, live: npt.NDArray[np.bool_]
    ) -> FoldResult:
        """The rule, or where it is interpreted its twin that notes branches."""
        return self.rule.fold(rows, codes, events, live, traced=True)

    @property
    def branches(self) -> Sequence[Place]:
        """Those of the rule."""
        return self.rule.branches

    @property
    def written(self) -> Callable[..., object]:
        """The rule."""
        return self.rule.function

    @property
    def declared_at(self) -> str:
        """File and line of the rule."""
        return str(rule_place(self.rule.program))

    def plain_fold(self) -> PlainFold:
        """The user's function, called for each event."""
        return PlainRule(self.name, self.rule, self.log.columns)

    @cached_property
    def declared(self) -> Mapping[str, object]:
        """The source of the rule and of its helpers, and the fingerprint that covers them and what they read."""
        sources = [ast.unparse(source.tree) for source in self.rule.program.functions.values()]
        return {"kind": "rule", "source": sources, "fingerprint": self.rule.fingerprint}

    @property
    def work(self) -> Work:
        """Compiled, unless the rule is refused."""
        return Work.COMPILED if self.rule.interpreted_because is None else Work.INTERPRETED

    @property
    def was_compiled(self) -> bool:
        """Whether the rule's kernel is in the cache, or none is made."""
        return self.rule.was_compiled

    @property
    def reasons(self) -> Mapping[int, str]:
        """The reasons the rule rejects with."""
        return self.rule.reasons

    def account(self) -> Account:
        """Compiled or interpreted, why, and what the fingerprint covers."""
        rule = self.rule
        before = rule.was_compiled
        compiled = rule.compile()
        how = "compiled by numba and folded by columns, log partitions at once, without the interpreter's lock"
        how += _limit_of_decimals({**rule.interpreter.columns, **rule.row_columns})
        return Account(
            how=f"A rule, {how}."
            if compiled
            else "A rule, interpreted: Python runs it event by event, with equal result.",
            fingerprint_of=_fingerprinted(rule),
            repeats=repeats_text("the rule", self.log),
            because=None if rule.refusal is None else rule.refusal.sentence,
            place=None if rule.refusal is None else rule.refusal.place,
            kept=_kept(rule, before) if compiled else "",
            source=rule.lowered,
        )


def _limit_of_decimals(columns: Schema) -> str:
    """Up to which amount a rule over these columns is compiled; nothing where none is a decimal."""
    scales = {name: kind.scale or 0 for name, kind in columns.items() if kind.kind is ColumnKind.DECIMAL}
    if not scales:
        return ""
    name = max(scales, key=lambda each: scales[each])
    most = Decimal(INT64_MAX).scaleb(-scales[name])
    return (
        f"; decimals are 64-bit integers, so that {name} is compiled up to {most:,.2f}; a batch of events in which a "
        "value is greater is interpreted, which takes about a thousand times as long"
    )


def _fingerprinted(rule: Rule) -> dict[str, list[str]]:
    """What the fingerprint of a rule covers, in words."""
    row = rule.row()
    functions = [str(source.place(source.tree)) for source in rule.program.functions.values()]
    values: dict[str, str] = {}
    for names in rule.program.names.values():
        values |= {name: _value(value) for name, value in sorted(names.items()) if not callable(value)}
    fields = zip(rule.row_columns.items(), row, strict=True)
    return {
        "syntax trees": functions,
        "outside values": [f"{name} = {value}" for name, value in values.items()],
        "row": [f"{name} {kind} = {default!r}" for (name, kind), default in fields],
        "event columns": [f"{name} {rule.columns[name]}" for name in rule.columns_read],
    }


def _value(value: object) -> str:
    return f"{value.value!r}" if isinstance(value, Enum) else repr(value)


def _kept(rule: Rule, before: bool) -> str:
    """Where compiled code is kept, and what it costs where it cannot be."""
    refused = unusable_because(cache_folder())
    if refused is not None:
        return f"Not kept between processes, since {refused}: each compiles it again, which costs seconds and no more."
    how = "loaded from" if before else "compiled now, and kept in"
    return f"{how} {kernel_files(rule.lowered or '')}"


def fold(
    log: Log,
    *,
    version: int,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
) -> Callable[[_RowRule[_Row]], RuleStore]:
    """Declare a store by its rule, a pure function `(row, event) -> row | reject(reason) | ignore()`.

    The row's annotation is a NamedTuple whose defaults are the row before a key's first event. The event may be
    annotated with a class whose fields are columns of the log. The function's name and docstring become the store's.
    Raises DeclarationError with every fault at once.
    """

    def declare(function: _RowRule[_Row]) -> RuleStore:
        rule = Rule.of(function, log.columns, version)
        return RuleStore(
            name=rule.name,
            version=version,
            columns={**{name: log.columns[name] for name in log.key_columns}, **rule.row_columns, **POSITION},
            key=log.key_columns,
            sinks=tuple(sinks),
            expect=tuple(expect),
            owner=owner or log.owner,
            description=rule.doc,
            log=log,
            rule=rule,
        )

    return declare
