"""Derived stores as their user declares them: a fold by a rule, the latest row per key, a relation, documents.

Declarations only: nothing is read, folded or written here. Before this module stand logs and rules; after it the
engine that computes what is declared.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

from refold.errors import DeclarationError
from refold.log.declaration import POSITION, PROVENANCE, Log
from refold.rules.fingerprint import fingerprint_text
from refold.rules.rule import Rule
from refold.sinks.base import Sink
from refold.sinks.expectations import Expectation
from refold.types import ColumnType, Schema, describe, member_text

DELETED = "deleted"


@dataclass(frozen=True, eq=False, kw_only=True)
class Store:
    """What all derived stores share.

    Attributes:
        name: its name everywhere: commands, assets, sinks, proofs.
        version: the version its user declares; raise it when the meaning changes.
        columns: what is published, in order: key, values, position of the last event.
        key: the columns whose values are unique over its rows.
        sinks: where it is published.
        expect: what must hold of published content.
        owner: a mail address or `team:name`.
        description: what a row means, for people.
    """

    name: str
    version: int
    columns: Schema
    key: tuple[str, ...]
    sinks: tuple[Sink, ...] = ()
    expect: tuple[Expectation, ...] = ()
    owner: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        faults = []
        if not self.name.isidentifier():
            faults.append(f"its name {self.name!r} is no identifier")
        if self.expect and not self.sinks:
            faults.append("it has expectations and no sink; they are checked on what is published")
        if faults:
            raise DeclarationError(f"Store {self.name!r}", faults)

    @property
    def code_version(self) -> str:
        """The declared version and the fingerprint of what computes it; another one invalidates states and proofs."""
        raise NotImplementedError

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """For each published column the (input, column) pairs it is computed from."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Folded(Store):
    """A store folded from one log, one row per key. See `fold` and `latest_by_key`."""

    log: Log

    @property
    def ledger(self) -> LedgerOf:
        """Its ledger, to be read by relations as a table of events with `outcome` and `reason`."""
        return LedgerOf(self)

    @property
    def values(self) -> Schema:
        """The value columns of its state, without key and position."""
        raise NotImplementedError

    @property
    def state_columns(self) -> Schema:
        """The columns of its state: key, values, tombstone mark where rows can be deleted, position."""
        mark = {DELETED: ColumnType("boolean")} if self.deletes else {}
        return {self.log.key: self.log.columns[self.log.key], **self.values, **mark, **POSITION}

    @property
    def deletes(self) -> bool:
        """Whether a row can be a tombstone, which is in the state and not published."""
        return False

    @property
    def columns_read(self) -> Sequence[str]:
        """The event columns the fold reads, besides key and position."""
        raise NotImplementedError


@dataclass(frozen=True)
class LedgerOf:
    """The ledger of a folded store as an input: the log's events with outcome and reason."""

    store: Folded

    @property
    def name(self) -> str:
        """The name of the table in SQL."""
        return f"{self.store.name}_ledger"

    @property
    def columns(self) -> Sequence[str]:
        """The names of the table's columns: the log's, the day of its event time, position, provenance, outcome."""
        log = self.store.log
        dated = ["event_date"] if log.event_time else []
        return [*log.columns, *dated, *POSITION, *PROVENANCE.names, "outcome", "reason"]


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
        """Key and position come from the log as they are, values as the rule's syntax tree says."""
        own = {name: (name,) for name in (self.log.key, *POSITION)}
        return {c: [(self.log.name, e) for e in {**own, **self.rule.lineage}[c]] for c in self.columns}


@dataclass(frozen=True, eq=False, kw_only=True)
class LatestStore(Folded):
    """A store that keeps the last event's columns per key; a delete leaves a tombstone in the state."""

    picked: Schema
    delete_when: tuple[str, str] | None = None

    @property
    def values(self) -> Schema:
        """The picked columns, nullable, because a tombstone has no values."""
        return {name: replace(column, null=True) for name, column in self.picked.items()}

    @property
    def deletes(self) -> bool:
        """Always: a key whose events were all conflicts has a row too, and no values to publish."""
        return True

    @property
    def columns_read(self) -> Sequence[str]:
        """The picked columns and the one that tells deletes."""
        extra = [self.delete_when[0]] if self.delete_when and self.delete_when[0] not in self.picked else []
        return [*self.picked, *extra]

    @property
    def code_version(self) -> str:
        """The declared version and the fingerprint of the declaration."""
        parts = ["latest", self.log.content, self.log.key, describe(self.picked), repr(self.delete_when)]
        return f"{self.version}-{fingerprint_text(*parts)[:12]}"

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Every column comes from the column of the same name; a delete decides on all."""
        deciding = [(self.log.name, self.delete_when[0])] if self.delete_when else []
        return {name: [(self.log.name, name), *deciding] for name in self.columns}


@dataclass(frozen=True, eq=False, kw_only=True)
class Relation(Store):
    """A store computed by SQL over ledgers, states and other stores at one snapshot. See `relation`."""

    reads: tuple[Store | LedgerOf, ...]
    sql: str
    documents: bool = False

    @property
    def code_version(self) -> str:
        """The declared version and the fingerprint of query, result and key."""
        return (
            f"{self.version}-{fingerprint_text('relation', self.sql, describe(self.columns), ','.join(self.key))[:12]}"
        )

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """The columns that the query computes each column from; empty where that cannot be told."""
        from refold.stores.sql_lineage import column_lineage  # noqa: PLC0415  # sqlglot takes 0.2 s to import

        tables = {source.name: list(source.columns) for source in self.reads}
        return column_lineage(self.sql, list(self.columns), tables)


def fold(
    log: Log,
    *,
    version: int,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
) -> Callable[[Callable[..., Any]], RuleStore]:
    """Declare a store by its rule, a pure function `(row, event) -> row | reject(reason) | ignore()`.

    The row's annotation is a NamedTuple whose defaults are the row before a key's first event. The function's
    name and docstring become the store's. Raises DeclarationError with every fault at once.
    """

    def declare(function: Callable[..., Any]) -> RuleStore:
        rule = Rule.of(function, log.columns, version)
        return RuleStore(
            name=rule.name,
            version=version,
            columns={log.key: log.columns[log.key], **rule.row_columns, **POSITION},
            key=(log.key,),
            sinks=tuple(sinks),
            expect=tuple(expect),
            owner=owner or log.owner,
            description=rule.doc,
            log=log,
            rule=rule,
        )

    return declare


def latest_by_key(
    log: Log,
    name: str,
    *,
    version: int,
    columns: Schema,
    delete_when: tuple[str, Enum] | None = None,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
    description: str = "",
) -> LatestStore:
    """Declare a store that holds the last event's `columns` per key.

    Args:
        delete_when: the event column and the value that deletes a key, such as `("op", Op.DELETE)`.

    Raises DeclarationError where a column is unknown or of another type than the log's.
    """
    faults = [
        f"column {c!r} is {t} here and {log.columns.get(c, 'not declared')} in log {log.name!r}"
        for c, t in columns.items()
        if c not in log.columns or str(replace(log.columns[c], null=True)) != str(replace(t, null=True))
    ]
    if delete_when and member_text(delete_when[1]) not in getattr(log.columns.get(delete_when[0]), "values", ()):
        faults.append(
            f"delete_when is {delete_when[0]!r} = {delete_when[1]}; expected an enum column of {log.name!r} and one "
            "of its members"
        )
    if faults:
        raise DeclarationError(f"Store {name!r}", faults)
    return LatestStore(
        name=name,
        version=version,
        columns={log.key: log.columns[log.key], **columns, **POSITION},
        key=(log.key,),
        sinks=tuple(sinks),
        expect=tuple(expect),
        owner=owner or log.owner,
        description=description,
        log=log,
        picked=dict(columns),
        delete_when=(delete_when[0], member_text(delete_when[1])) if delete_when else None,
    )


def relation(
    *,
    reads: Sequence[Store | LedgerOf],
    key: Sequence[str],
    returns: Schema,
    version: int = 1,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
) -> Callable[[Callable[[], str]], Relation]:
    """Declare a store by a SQL query (DuckDB's dialect) over its inputs, each a table under its own name.

    A ledger is the table `<store>_ledger`: the log's columns, `event_date`, position, `outcome`, `reason`.
    The result is cast to `returns`; its rows must be unique by `key`. Raises DeclarationError.
    """

    def declare(function: Callable[[], str]) -> Relation:
        faults = [f"key column {name!r} is not in returns" for name in key if name not in returns]
        names = [source.name for source in reads]
        faults += [f"it reads two inputs named {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
        if faults:
            raise DeclarationError(f"Relation {function.__name__!r}", faults)
        return Relation(
            name=function.__name__,
            version=version,
            columns=dict(returns),
            key=tuple(key),
            sinks=tuple(sinks),
            expect=tuple(expect),
            owner=owner,
            description=textwrap.dedent(function.__doc__ or "").strip(),
            reads=tuple(reads),
            sql=textwrap.dedent(function()).strip().rstrip(";"),
        )

    return declare


def documents(
    name: str,
    *,
    left: Folded,
    right: Folded,
    how: Literal["left", "inner", "full"] = "full",
    version: int = 1,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
    description: str = "",
) -> Relation:
    """Declare one document per key, joining two folded stores of the same key at the same snapshot.

    Columns are the key, then the values of both; those of a side that may be missing become nullable.
    Raises DeclarationError where the keys differ or a value column is in both.
    """
    (key,), (other,) = left.key, right.key
    faults = [f"{left.name} has key {key!r}, {right.name} has key {other!r}"] if key != other else []
    faults += [f"column {c!r} is in both stores" for c in left.values if c in right.values]
    if faults:
        raise DeclarationError(f"Documents {name!r}", faults)
    lefts = {c: replace(left.columns[c], null=left.columns[c].null or how == "full") for c in left.values}
    rights = {c: replace(right.columns[c], null=right.columns[c].null or how != "inner") for c in right.values}
    fields = ", ".join([*(f"l.{c}" for c in lefts), *(f"r.{c}" for c in rights)])
    chosen = f"coalesce(l.{key}, r.{key}) AS {key}"
    return Relation(
        name=name,
        version=version,
        columns={key: replace(left.columns[key], null=False), **lefts, **rights},
        key=(key,),
        sinks=tuple(sinks),
        expect=tuple(expect),
        owner=owner or left.owner,
        description=description,
        reads=(left, right),
        sql=f"SELECT {chosen}, {fields} FROM {left.name} l {how.upper()} JOIN {right.name} r ON l.{key} = r.{key}",
        documents=True,
    )
