"""The kind of store that a query computes from ledgers, states and other stores at one snapshot, whole each time.

`documents` is a relation with a query made for it: one document per key from two folded stores. How a query is run and
refused is `refold.stores.relating`.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa

from refold.errors import DeclarationError, FixInput
from refold.log.declaration import Log
from refold.rules.fingerprint import fingerprint_text
from refold.sinks.base import Sink
from refold.sinks.expectations import Expectation
from refold.storage.objects import canonical_json, sha256_hex
from refold.stores.declaration import Account, Folded, LedgerOf, Source, Store
from refold.types import Schema, describe

if TYPE_CHECKING:
    from refold.log.snapshot import Snapshot
    from refold.stores.incremental_query import IncrementalQuery
    from refold.stores.relating import RelationRunner
    from refold.stores.row_orders import RowOrder
    from refold.stores.sql_binding import BoundQuery
    from refold.stores.sql_purity import QueryFault


@dataclass(frozen=True, eq=False, kw_only=True)
class Relation(Store):
    """A store computed by SQL over ledgers, states and other stores at one snapshot. See `relation`.

    Its query is bound when it is declared. `written` is the function that gives the query; errors name its lines.
    """

    computed_by: ClassVar[str] = "duckdb"

    reads: tuple[Source, ...]
    sql: str
    documents: bool = False
    written: Callable[[], str] | None = None

    def __post_init__(self) -> None:
        faults = [f"key column {name!r} is not in returns" for name in self.key if name not in self.columns]
        names = [source.name for source in self.reads]
        faults += [f"it reads two inputs named {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
        if not self.key:
            faults.append("its key is empty; name the columns whose values are unique over its rows")
        if faults:
            raise DeclarationError(f"Relation {self.name!r}", faults)
        super().__post_init__()
        if self.bound.faults:
            raise DeclarationError(f"Relation {self.name!r}", [self._placed(fault) for fault in self.bound.faults])

    @cached_property
    def bound(self) -> BoundQuery:
        """Its query bound to empty tables of its inputs."""
        from refold.stores.sql_binding import bind  # noqa: PLC0415  # projects without relations need no DuckDB

        return bind(self.sql, {source.name: source.table for source in self.reads}, self.columns)

    @cached_property
    def incremental(self) -> IncrementalQuery:
        """How its query is maintained from the changes of its inputs."""
        from refold.stores.incremental_query import incremental_query  # noqa: PLC0415  # sqlglot takes 0.2 s to import

        computed = [source.name for source in self.reads if source.store.ledger is None]
        ledgers = [source.name for source in self.reads if isinstance(source, LedgerOf)]
        tables = {source.name: source.table for source in self.reads}
        return incremental_query(self.sql, tables, ledgers, computed, self.columns, self.key)

    @property
    def is_maintained(self) -> bool:
        """Whether its query allows that."""
        return not self.incremental.is_whole

    def _placed(self, fault: QueryFault) -> str:
        """A fault with the file and line of the query's text, or its line in the query where that is not known."""
        if fault.offset is None:
            return fault.text if self.written is None else f"{_place(self.written, '')}: {fault.text}"
        number = self.sql.encode()[: fault.offset].count(b"\n")
        line = self.sql.splitlines()[number].strip()
        place = f"line {number + 1} of its query" if self.written is None else _place(self.written, line)
        return f"{place}: {fault.text}, at: {line}"

    @property
    def sources(self) -> Sequence[Source]:
        """What it reads, each a table of its query."""
        return self.reads

    @property
    def columns_read_of(self) -> Mapping[str, Sequence[str]]:
        """The columns that its query reads, and where it reads none the first, so that rows can be counted."""
        return self.bound.reads

    @property
    def takes_of_ties(self) -> Sequence[str]:
        """What in its query takes one of the rows that tie."""
        from refold.stores.sql_binding import ties_of  # noqa: PLC0415  # projects without relations need no DuckDB

        return ties_of(self.sql)

    @property
    def query(self) -> str:
        """Its SQL."""
        return self.sql

    @property
    def code_version(self) -> str:
        """The declared version and the fingerprint of query, result and key."""
        return (
            f"{self.version}-{fingerprint_text('relation', self.sql, describe(self.columns), ','.join(self.key))[:12]}"
        )

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """The columns that the query computes each column from; empty where that is unknown."""
        from refold.stores.sql_lineage import column_lineage  # noqa: PLC0415  # sqlglot takes 0.2 s to import

        tables = {source.name: list(source.columns) for source in self.reads}
        return column_lineage(self.sql, list(self.columns), tables)

    def identity(self, snapshot: Snapshot, claims: Sequence[Mapping[str, str]]) -> str:
        """The digests of what it reads."""
        pairs = zip(self.reads, claims, strict=True)
        fields = ("inputs", "state_digest", "ledger_digest")
        return sha256_hex(canonical_json([[source.name, *(claim[name] for name in fields)] for source, claim in pairs]))

    def compute(
        self, runner: RelationRunner, tables: Mapping[str, pa.Table], order: RowOrder | None = None
    ) -> pa.Table:
        """The result of its query over the columns that it reads. Raises DeclarationError, RuleError."""
        read = {name: tables[name].select(columns) for name, columns in self.columns_read_of.items()}
        return runner.run(self, read, order)

    def account(self) -> Account:
        """Its query, and what the fingerprint covers."""
        return Account(
            how=f"A relation: DuckDB runs its query over its inputs at the same snapshot. {self.incremental.how}",
            fingerprint_of={
                "query": ["its text"],
                "columns": [f"{name} {kind}" for name, kind in self.columns.items()],
                "key": list(self.key),
            },
            repeats="A ledger has a row for every delivery, with its outcome; the query says which it counts.",
            source=self.sql,
        )

    def followed(self, key: Sequence[str]) -> list[tuple[Folded, dict[str, str]]]:
        """Documents follow the key of every store they join; others, events that have the key's columns."""
        folded = [ledger.store for each in dict.fromkeys(self.inputs) if (ledger := each.ledger) is not None]
        if self.documents:
            return [(store, dict(zip(store.log.key_columns, key, strict=True))) for store in folded]
        wanted = dict(zip(self.key, key, strict=True))
        found = [(store, wanted) for store in folded if wanted.keys() <= {*store.log.columns, *_dated(store)}]
        if not found:
            raise FixInput(
                f"The key ({', '.join(self.key)}) of {self.name!r} cannot be followed to events: no input "
                "has all of its columns.",
                remedy=f"Ask for the keys of its inputs: {', '.join(s.name for s in self.reads)}.",
            )
        return found

    def origin_of(self, source: str, column: str) -> tuple[Store | Log, str]:
        """The column of the source of that name."""
        return next(each for each in self.reads if each.name == source).origin(column)

    @property
    def computed_from(self) -> list[Store | Log]:
        """The stores it reads, with the logs of those whose ledgers it reads."""
        return list(dict.fromkeys(each for source in self.reads for each in source.comes_from))


def _dated(store: Folded) -> set[str]:
    return {"event_date"} if store.log.event_time else set()


def _place(function: Callable[[], str], line: str) -> str:
    """The file of a function, and the line of its source that has this text; its first line where that is not one."""
    code = inspect.unwrap(function).__code__
    try:
        lines, start = inspect.getsourcelines(code)
    except (OSError, TypeError):
        lines, start = [], code.co_firstlineno
    found = [number for number, text in enumerate(lines, start) if line and line in text]
    return f"{code.co_filename}:{found[0] if len(found) == 1 else code.co_firstlineno}"


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
    A timestamp is an instant (TIMESTAMP WITH TIME ZONE, shown in UTC), and `event_date` its day in UTC; the day in
    another zone is `CAST("at" AT TIME ZONE 'Europe/Berlin' AS DATE)`.
    The result must have the types of `returns`, up to their width, and rows that are unique by `key`. The query is
    bound here, before there are rows, and may call only functions whose result depends on their arguments alone.

    Raises DeclarationError with every fault and its line, also where the result would depend on the order of rows.
    """

    def declare(function: Callable[[], str]) -> Relation:
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
            written=function,
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
    key, other = (", ".join(store.key) for store in (left, right))
    faults = [f"{left.name} has key {key!r}, {right.name} has key {other!r}"] if key != other else []
    lefts, rights = ({c: kind for c, kind in s.columns.items() if c in s.values} for s in (left, right))
    faults += [f"column {c!r} is in both stores" for c in lefts if c in rights]
    if faults:
        raise DeclarationError(f"Documents {name!r}", faults)
    lefts = {c: replace(kind, null=kind.null or how == "full") for c, kind in lefts.items()}
    rights = {c: replace(kind, null=kind.null or how != "inner") for c, kind in rights.items()}
    return Relation(
        name=name,
        version=version,
        columns={**{k: replace(left.columns[k], null=False) for k in left.key}, **lefts, **rights},
        key=left.key,
        sinks=tuple(sinks),
        expect=tuple(expect),
        owner=owner or left.owner,
        description=description,
        reads=(left, right),
        sql=_joined(left, right, how, lefts, rights),
        documents=True,
    )


def _joined(left: Folded, right: Folded, how: str, lefts: Iterable[str], rights: Iterable[str]) -> str:
    """The query that joins two stores by their key and selects these columns of each."""
    from refold.stores.sql_binding import named, named_table  # noqa: PLC0415  # projects without relations need no DuckDB

    fields = ", ".join([*(f"l.{named(c)}" for c in lefts), *(f"r.{named(c)}" for c in rights)])
    names = [named(name) for name in left.key]
    chosen = ", ".join(f"coalesce(l.{k}, r.{k}) AS {k}" for k in names)
    same = " AND ".join(f"l.{k} = r.{k}" for k in names)
    tables = f"{named_table(left.name)} l {how.upper()} JOIN {named_table(right.name)} r"
    return f"SELECT {chosen}, {fields} FROM {tables} ON {same}"
