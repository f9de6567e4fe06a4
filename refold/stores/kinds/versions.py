"""The kind of store that keeps of each key the writes that no other has seen, and resolves several of them to one row.

Which write has seen which is in their version vectors, and not in the order in which they arrive. How rows change is in
`refold.stores.kinds.versions_fold`. `conflicts` lists the sides of the rows that have several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.canonical.version_vectors import COUNTER_MAX, vector_text
from refold.errors import DeclarationError
from refold.log.declaration import POSITION, Log
from refold.rules.fingerprint import fingerprint_text
from refold.rules.outcome import FoldResult
from refold.rules.rule import Rule
from refold.sinks.base import Sink
from refold.sinks.expectations import Expectation
from refold.stores.declaration import DELETED, Account, Folded, Work, repeats_text
from refold.stores.kinds.latest import delete_condition
from refold.stores.kinds.plain import PlainFold, PlainRule, PlainVersions
from refold.stores.kinds.relation import Relation
from refold.stores.kinds.versions_fold import REASONS, SIDES, Merge, Resolver, TieBreak, Versions
from refold.types import ColumnKind, ColumnType, Schema, boolean, describe, int64, text

__all__ = ["TieBreak", "VersionStore", "conflicts", "latest_by_version"]


@dataclass(frozen=True, eq=False, kw_only=True)
class VersionStore(Folded):
    """A store of the writes of each key that no other has seen. See `latest_by_version`."""

    picked: Schema
    versions: Versions

    @property
    def values(self) -> Schema:
        """The kept columns, the vector, and the sides; nullable, because a tombstone has no values."""
        types = {**self.picked, self.versions.by: self.columns[self.versions.by], SIDES: self.columns[SIDES]}
        return {name: replace(column, null=True) for name, column in types.items()}

    @property
    def deletes(self) -> bool:
        """Always, as of a store of latest values."""
        return True

    @property
    def columns_read(self) -> Sequence[str]:
        """The kept columns, the vector, and the column that marks deletes."""
        when = self.versions.delete_when
        return list(dict.fromkeys([*self.picked, self.versions.by, *([when.column] if when else [])]))

    @property
    def code_version(self) -> str:
        """The declared version and the fingerprint of the declaration, with that of the merge function."""
        read = describe({name: self.log.columns[name] for name in (*self.log.key_columns, *self.columns_read)})
        when, versions = self.versions.delete_when, self.versions
        kept = [describe(self.picked), versions.by, vector_text(versions.seen)]
        parts = ["versions", read, *self.log.key_columns, *kept, repr(when and when.form), versions.resolver.form]
        return f"{self.version}-{fingerprint_text(*parts)[:12]}"

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """A kept column comes from that of its name, and where sides are resolved from all that are kept."""
        read = [(self.log.name, name) for name in self.columns_read]
        own = {name: [(self.log.name, name)] for name in (*self.log.key_columns, *POSITION)}
        return {name: own.get(name) or list(dict.fromkeys([*_own(self, name), *read])) for name in self.columns}

    @property
    def row_before(self) -> pa.Table:
        """No values, and deleted."""
        return pa.table({**{n: pa.nulls(1, column.arrow) for n, column in self.values.items()}, DELETED: [True]})

    @property
    def reasons(self) -> Mapping[int, str]:
        """Why a write is ignored, and how one that is applied meets others."""
        return REASONS

    def fold(
        self, rows: pa.Table, codes: npt.NDArray[np.int64], events: pa.Table, live: npt.NDArray[np.bool_]
    ) -> FoldResult:
        """The sides of each key after the events, and what they are resolved to."""
        return self.versions.fold(rows, codes, events, live)

    def plain_fold(self) -> PlainFold:
        """The same from all writes of each key, each compared with all others."""
        versions, resolver = self.versions, self.versions.resolver
        when = versions.delete_when
        merge = PlainRule(self.name, resolver.rule, self.picked) if isinstance(resolver, Merge) else None
        greatest = resolver.columns if isinstance(resolver, TieBreak) else ()
        deletes = (when.column, when.values) if when else None
        return PlainVersions(self.picked, versions.by, dict(versions.seen), deletes, merge, greatest)

    @property
    def declared(self) -> Mapping[str, object]:
        """The kept columns, the vector, what deletes a key, and how sides are resolved."""
        versions = self.versions
        when = versions.delete_when and versions.delete_when.form
        columns, seen = describe(self.picked), dict(versions.seen)
        more = {"delete_when": when, "resolve": versions.resolver.form, "seen": seen}
        return {"kind": "versions", "columns": columns, "by": versions.by, **more}

    @property
    def work(self) -> Work:
        """By columns, since most keys are written in turn."""
        return Work.BY_COLUMNS

    def account(self) -> Account:
        """Which writes are kept, and how several become one."""
        versions = self.versions
        when = [str(versions.delete_when)] if versions.delete_when else []
        how = f"The writes of each key that no other has seen, by {versions.by}; several are resolved by "
        how += f"{versions.resolver}"
        how += "".join(f"; {text} deletes the key, unless another side does not" for text in when)
        how += f"; seen by all: {vector_text(versions.seen)}" if versions.seen else ""
        resolver = versions.resolver
        refusal = resolver.rule.refusal if isinstance(resolver, Merge) else None
        return Account(
            how=f"{how}.",
            fingerprint_of={
                "columns read": [f"{n} {self.log.columns[n]}" for n in (*self.log.key_columns, *self.columns_read)],
                "key": list(self.log.key_columns),
                "columns kept": [f"{name} {kind}" for name, kind in self.picked.items()],
                "delete_when": when,
                "resolve": [str(resolver)],
                "seen": [vector_text(versions.seen)],
            },
            repeats=repeats_text("the row's values", self.log),
            because=None if refusal is None else refusal.sentence,
            place=None if refusal is None else refusal.place,
        )


def _own(store: VersionStore, name: str) -> list[tuple[str, str]]:
    return [(store.log.name, name)] if name in store.log.columns else []


def latest_by_version(
    log: Log,
    name: str,
    *,
    version: int,
    by: str,
    columns: Sequence[str],
    resolve: TieBreak | Callable[..., object],
    delete_when: tuple[str, object] | None = None,
    seen: Mapping[str, int] | None = None,
    sides_max: int = 1000,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
    description: str = "",
) -> VersionStore:
    """Declare a store that holds per key the write that has seen all others, and where there is none all latest ones.

    Concurrent writes, of which none has seen the others, are sides of one row. Its values are what `resolve` makes of
    them, its vector the join of theirs, and its column `sides` a JSON array of `version`, `values` and `deleted` of
    each: a write with a higher vector than the row's replaces them all. Rows depend on the writes as a set, not on the
    order in which they arrive; the position of a row alone is that of its key's last event.

    Args:
        by: the column of version vectors (`version_vector()`, not null).
        columns: the event columns to keep.
        resolve: `TieBreak(column, …)`, or a merge function `(one, other)` of two writes: `one` annotated with a
            NamedTuple of the kept columns, `other` read by their names; it returns `one` with other fields. It is
            compiled or interpreted as a rule is, and called for two sides at a time in the order of their JSON texts.
            `refold.testing.merging` checks that it is commutative, associative and idempotent.
        delete_when: what deletes a key, as in `latest_by_key`. A delete gives way to a concurrent write.
        seen: by producer, the writes of it that every other write has seen, for producers that write no more. Their
            counters leave vectors, so that these do not grow with every producer that there ever was. Vectors are
            bounded by `producers_max` of their column besides.
        sides_max: how many sides a key may have. The store refuses the write that would be one more, so that no write
            is dropped and rows stay a function of the writes; another number changes no row.

    Raises DeclarationError with every fault at once.
    """
    faults = [f"column {c!r} is not declared in log {log.name!r}" for c in columns if c not in log.columns]
    faults += [] if columns else ["columns is empty; name the event columns to keep"]
    faults += [] if sides_max > 1 else [f"sides_max is {sides_max}; expected at least 2"]
    picked = {name: log.columns[name] for name in columns if name in log.columns}
    when, wrong = delete_condition(log, delete_when) if delete_when else (None, [])
    faults += [*wrong, *_vector_faults(log, by, picked, seen or {})]
    resolver, wrong = _resolver(resolve, picked, version)
    faults += wrong
    if faults:
        raise DeclarationError(f"Store {name!r}", faults)
    assert resolver is not None
    keys = {name: log.columns[name] for name in log.key_columns}
    return VersionStore(
        name=name,
        version=version,
        columns={**keys, **picked, by: log.columns[by], SIDES: text(null=True), **POSITION},
        key=log.key_columns,
        sinks=tuple(sinks),
        expect=tuple(expect),
        owner=owner or log.owner,
        description=description,
        log=log,
        picked=picked,
        versions=Versions(by, picked, resolver, when, dict(seen or {}), sides_max),
    )


def _vector_faults(log: Log, by: str, picked: Schema, seen: Mapping[str, int]) -> list[str]:
    column = log.columns.get(by)
    faults = []
    if column is None or column.kind is not ColumnKind.VERSION_VECTOR or column.null:
        faults.append(f"by names {by!r}, which is {column or 'not declared'}; expected version_vector(), not null")
    taken = {*log.key_columns, *POSITION, DELETED, SIDES, by}
    faults += [f"column {name!r} is kept in any case, or its name is taken" for name in picked if name in taken]
    faults += [
        f"seen of {producer!r} is {count!r}; expected an integer from 1"
        for producer, count in seen.items()
        if type(count) is not int or not 1 <= count <= COUNTER_MAX
    ]
    return faults


def _resolver(
    resolve: TieBreak | Callable[..., object], picked: Schema, version: int
) -> tuple[Resolver | None, list[str]]:
    """How sides are resolved, and what is wrong with its declaration."""
    if isinstance(resolve, TieBreak):
        faults = [f"TieBreak names {name!r}, which is not kept" for name in resolve.columns if name not in picked]
        return resolve, faults
    try:
        rule = Rule.of(resolve, picked, version)
    except DeclarationError as error:
        return None, list(error.faults)
    kept, row = describe(picked), {name: rule.row_columns[name] for name in picked if name in rule.row_columns}
    faults = [f"the merge function rejects ({name}); it must return a row" for name in rule.reasons.values()]
    if describe(row) != kept or len(rule.row_columns) != len(picked):
        found = ", ".join(f"{name} {kind}" for name, kind in rule.row_columns.items())
        faults.append(f"the merge function's row has {found}; expected {', '.join(kept.splitlines())}")
    return Merge(rule), faults


def conflicts(
    store: VersionStore, name: str = "", *, sinks: Sequence[Sink] = (), expect: Sequence[Expectation] = ()
) -> Relation:
    """Declare the table of the rows of a store that have several sides: a row for each side, with the decision.

    Columns: the key; `side`, from 1; the vector of the side; `deleted`, whether it deletes; its values; as
    `decided_<column>` what the row's values are; `taken`, whether those are the values of this side; and
    `resolved_by`. A row is in it until a write has seen all of its sides. Named `<store>_conflicts` by default.

    Raises DeclarationError where a kept column has the name of another.
    """
    from refold.stores.sql_binding import named_table, quoted  # noqa: PLC0415  # projects without relations need no DuckDB

    by, key, picked = store.versions.by, store.log.key_columns, store.picked
    decided = {f"decided_{column}": column for column in picked}
    own = ["side", by, "deleted", "taken", "resolved_by"]
    columns = {
        **{column: store.columns[column] for column in key},
        **{"side": int64(), by: store.columns[by], "deleted": boolean()},
        **{column: replace(kind, null=True) for column, kind in picked.items()},
        **{column: replace(picked[source], null=True) for column, source in decided.items()},
        **{"taken": boolean(), "resolved_by": text()},
    }
    name = name or f"{store.name}_conflicts"
    if len(columns) != len(key) + len(own) + 2 * len(picked):
        faults = [f"a column of store {store.name!r} is named as one of {', '.join([*own, *decided])}"]
        raise DeclarationError(f"Relation {name!r}", faults)
    values = {column: _from_sides(f"values/{_in_pointer(column)}", kind) for column, kind in picked.items()}
    is_deleted = _from_sides("deleted", ColumnType(ColumnKind.BOOLEAN))
    same = [f"s.{quoted(column)} IS NOT DISTINCT FROM {value}" for column, value in values.items()]
    fields = [
        *(f"s.{quoted(column)} AS {quoted(column)}" for column in key),
        f"s.side AS side, {_from_sides('version', columns[by])} AS {quoted(by)}, {is_deleted} AS deleted",
        *(f"{value} AS {quoted(column)}" for column, value in values.items()),
        *(f"s.{quoted(source)} AS {quoted(column)}" for column, source in decided.items()),
        f"NOT {is_deleted} AND {' AND '.join(same)} AS taken, {_literal(str(store.versions.resolver))} AS resolved_by",
    ]
    kept = ", ".join(map(quoted, dict.fromkeys([*key, *picked, SIDES])))
    numbers = f"unnest(range(1, CAST(json_array_length({SIDES}) AS BIGINT) + 1)) AS side"
    parts = f"SELECT {kept}, {numbers} FROM {named_table(store.name)} WHERE {SIDES} IS NOT NULL"
    return Relation(
        name=name,
        version=store.version,
        columns=columns,
        key=(*key, "side"),
        sinks=tuple(sinks),
        expect=tuple(expect),
        owner=store.owner,
        description=f"The sides of the rows of {store.name} that have several, and what they are resolved to.",
        reads=(store,),
        sql=f"SELECT {', '.join(fields)} FROM ({parts}) s",
    )


def _from_sides(pointer: str, kind: ColumnType) -> str:
    """SQL for what is at a JSON pointer in a side."""
    from refold.stores.sql_binding import sql_type  # noqa: PLC0415

    found = f"json_extract_string(s.{SIDES}, '/' || (s.side - 1) || {_literal(f'/{pointer}')})"
    if kind.kind is ColumnKind.BINARY:
        return f"from_base64({found})"
    return f"CAST({found} AS {sql_type(kind)})"


def _in_pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
