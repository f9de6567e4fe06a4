"""The interface of a store: what building, proof, plans, explanations and Dagster need from every kind.

A store is either folded from one log (`Folded`: it has a ledger, and a row per key) or computed whole from other stores
(it has `sources` and no ledger). The kinds are in `refold.stores.kinds`, one module each; a project may add its own.
Nothing is read or written here. Before this module come logs and rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.errors import DeclarationError
from refold.log.declaration import POSITION, PROVENANCE, Log
from refold.rules.outcome import FoldResult
from refold.rules.source import Place
from refold.sinks.base import Sink
from refold.sinks.expectations import Expectation
from refold.types import ColumnKind, ColumnType, Schema, arrow_schema

if TYPE_CHECKING:
    from refold.log.snapshot import Snapshot
    from refold.stores.kinds.plain import PlainFold
    from refold.stores.relating import RelationRunner
    from refold.stores.row_orders import RowOrder

DELETED = "deleted"

_T = TypeVar("_T")


class Work(StrEnum):
    """The kind of work that dominates the time of a fold; rates and plans use these names."""

    COMPILED = "compiled"
    INTERPRETED = "interpreted"
    BY_COLUMNS = "latest"


@dataclass(frozen=True, kw_only=True)
class Account:
    """How a store is computed, for people.

    Attributes:
        how: a sentence.
        fingerprint_of: what the code version covers, by kind.
        repeats: how events with a repeated id are treated.
        because, place: why it is not compiled, and the source line that decides it.
        kept: where compiled code is kept.
        source: the generated source that is compiled, or a query.
    """

    how: str
    fingerprint_of: Mapping[str, Sequence[str]]
    repeats: str
    because: str | None = None
    place: Place | None = None
    kept: str = ""
    source: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Store(ABC):
    """The base of all derived stores.

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

    computed_by: ClassVar[str]
    """The kind of its computation, in one word."""

    name: str
    version: int
    columns: Schema
    key: tuple[str, ...]
    sinks: tuple[Sink, ...] = ()
    expect: tuple[Expectation, ...] = ()
    owner: str | None = None
    description: str = ""

    @property
    def written(self) -> Callable[..., object] | None:
        """The function that its user wrote for it; None where there is none."""
        return None

    def __post_init__(self) -> None:
        faults = []
        if not self.name.isidentifier():
            faults.append(f"its name {self.name!r} is not an identifier")
        if self.expect and not self.sinks:
            faults.append("it has expectations and no sink; they are checked on what is published")
        if faults:
            raise DeclarationError(f"Store {self.name!r}", faults)

    @property
    @abstractmethod
    def code_version(self) -> str:
        """The declared version and the fingerprint of what computes it; another one invalidates states and proofs."""

    @property
    @abstractmethod
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """For each published column the (input, column) pairs it is computed from."""

    @property
    def ledger(self) -> LedgerOf | None:
        """Its ledger, where it is folded from a log; None for a store that is computed from others."""
        return None

    @property
    def sources(self) -> Sequence[Source]:
        """The stores and ledgers that it is computed from; none for a folded store."""
        return ()

    @property
    def inputs(self) -> list[Store]:
        """The stores behind its sources, one for each, in that order."""
        return [source.store for source in self.sources]

    @property
    def all_inputs(self) -> list[Store]:
        """The stores it is computed from, directly or not; none for a folded store."""
        return [found for store in self.inputs for found in (store, *store.all_inputs)]

    @property
    def ledgers_read(self) -> list[LedgerOf]:
        """The ledgers among its sources."""
        nothing: list[LedgerOf] = []
        return [
            each for s in self.sources for each in s.read(ledger=lambda store: [store.ledger], rows=lambda _: nothing)
        ]

    @property
    def columns_read_of(self) -> Mapping[str, Sequence[str]]:
        """The columns that it reads of each source, by the source's name."""
        return {source.name: list(source.columns) for source in self.sources}

    @property
    def takes_of_ties(self) -> Sequence[str]:
        """What in its query takes one of the rows that tie, in words."""
        return ()

    @property
    def query(self) -> str:
        """The SQL that computes it; "" where none does."""
        return ""

    @property
    def is_maintained(self) -> bool:
        """Whether its history is computed from the changes of its inputs, rather than whole at every snapshot."""
        return True

    @abstractmethod
    def identity(self, snapshot: Snapshot, claims: Sequence[Mapping[str, str]]) -> str:
        """The identity of what it is computed from at a snapshot; `claims` are those of its `inputs`, in that order."""

    def compute(
        self, runner: RelationRunner, tables: Mapping[str, pa.Table], order: RowOrder | None = None
    ) -> pa.Table:
        """Its rows, sorted by key, from the tables of its sources by name; only for a store without a ledger.

        `order` takes the rows of every input in another order than they are stored, and must give the same.
        Raises RuleError.
        """
        raise TypeError(f"{type(self).__name__} is folded from its log, and not computed from other stores")

    @abstractmethod
    def account(self) -> Account:
        """How it is computed, for people. Compiles what can be compiled, or loads it."""

    @abstractmethod
    def followed(self, key: Sequence[str]) -> list[tuple[Folded, dict[str, str]]]:
        """The folded stores whose events are behind the row of a key, with the event columns and values, as text.

        Raises FixInput where the key cannot be followed to events.
        """

    @abstractmethod
    def origin_of(self, source: str, column: str) -> tuple[Store | Log, str]:
        """The store or log, and its column, behind a pair of `lineage`; a ledger's own columns are `ledger.<name>`."""

    @property
    @abstractmethod
    def computed_from(self) -> list[Store | Log]:
        """The logs and stores whose content it depends on directly, each once."""

    # As a source of another store it is its published rows. `LedgerOf` answers the same.

    @property
    def store(self) -> Store:
        """Itself."""
        return self

    @property
    def table(self) -> pa.Schema:
        """The types of its published rows."""
        return arrow_schema(self.columns)

    @property
    def comes_from(self) -> list[Store | Log]:
        """Itself alone."""
        return [self]

    def origin(self, column: str) -> tuple[Store | Log, str]:
        """A column of its own."""
        return self, column

    def read(self, *, ledger: Callable[[Folded], _T], rows: Callable[[Store], _T]) -> _T:
        """What `rows` gives for it."""
        return rows(self)


@dataclass(frozen=True, eq=False, kw_only=True)
class Folded(Store):
    """A store folded from one log, one row per key."""

    computed_by: ClassVar[str] = "fold"

    log: Log

    @property
    def ledger(self) -> LedgerOf:
        """Its ledger, to be read by relations as a table of events with `outcome` and `reason`."""
        return LedgerOf(self)

    @property
    @abstractmethod
    def values(self) -> Schema:
        """The value columns of its state, without key and position."""

    @property
    def deletes(self) -> bool:
        """Whether a row can be a tombstone, which is in the state and not published."""
        return False

    @property
    @abstractmethod
    def columns_read(self) -> Sequence[str]:
        """The event columns the fold reads, besides key and position."""

    @property
    @abstractmethod
    def row_before(self) -> pa.Table:
        """The one row of `folded_columns` that a key has before its first event."""

    @abstractmethod
    def fold(
        self, rows: pa.Table, codes: npt.NDArray[np.int64], events: pa.Table, live: npt.NDArray[np.bool_]
    ) -> FoldResult:
        """Apply events in order to the rows of their keys; the inputs stay as they are.

        `rows` has the columns of `folded_columns`, one row for each key; event i belongs to row `codes[i]`. `events`
        has at least `columns_read`, texts as dictionaries. An event that is not live was delivered before and must
        change nothing; its outcome is ignored. Raises RuleError with `event_index`.
        """

    def fold_again(
        self, rows: pa.Table, codes: npt.NDArray[np.int64], events: pa.Table, live: npt.NDArray[np.bool_]
    ) -> FoldResult:
        """The same fold a second time, in replay; a rule counts the branches that it takes."""
        return self.fold(rows, codes, events, live)

    @property
    def branches(self) -> Sequence[Place]:
        """Where the branches of the fold begin, in the order of the bits of `FoldResult.taken`; none by default."""
        return ()

    @property
    def declared_at(self) -> str:
        """The place of its declaration, for messages: file and line if known, else the store's name."""
        return f"Store {self.name!r}"

    @abstractmethod
    def plain_fold(self) -> PlainFold:
        """The same fold in plain Python, one event at a time, sharing no code with `fold`: what it is compared with."""

    @property
    def declared(self) -> Mapping[str, object]:
        """What is folded, in values that JSON has: for `FoldTask`, which is run by the code version."""
        return {"kind": type(self).__name__, "columns": list(self.columns_read)}

    @property
    @abstractmethod
    def work(self) -> Work:
        """The kind of work that dominates folding it."""

    @property
    def was_compiled(self) -> bool:
        """Whether nothing is left to compile on this machine."""
        return True

    @property
    def reasons(self) -> Mapping[int, str]:
        """The names of the reason codes in its ledger."""
        return {}

    @property
    def folded_columns(self) -> list[str]:
        """The columns of its state that a fold decides on: the values, and the tombstone mark."""
        return [*self.values, *([DELETED] if self.deletes else [])]

    @property
    def state_columns(self) -> Schema:
        """The columns of its state: key, values, tombstone mark where rows can be deleted, position."""
        mark = {DELETED: ColumnType(ColumnKind.BOOLEAN)} if self.deletes else {}
        key = {name: self.log.columns[name] for name in self.log.key_columns}
        return {**key, **self.values, **mark, **POSITION}

    def identity(self, snapshot: Snapshot, claims: Sequence[Mapping[str, str]]) -> str:
        """The identity of the log's cut."""
        return snapshot.cut(self.log.name).id

    def followed(self, key: Sequence[str]) -> list[tuple[Folded, dict[str, str]]]:
        """Its own events of that key."""
        return [(self, dict(zip(self.log.key_columns, key, strict=True)))]

    def origin_of(self, source: str, column: str) -> tuple[Store | Log, str]:
        """The log's column."""
        return self.log, column

    @property
    def computed_from(self) -> list[Store | Log]:
        """The log alone."""
        return [self.log]


@dataclass(frozen=True)
class LedgerOf:
    """The ledger of a folded store as a source: the log's events with outcome and reason."""

    store: Folded

    @property
    def name(self) -> str:
        """The name of the table in SQL."""
        return f"{self.store.name}_ledger"

    @property
    def columns(self) -> Sequence[str]:
        """The names of the table's columns."""
        return list(self.table.names)

    @property
    def table(self) -> pa.Schema:
        """The table's columns: the log's, the day of its event time in UTC, position, provenance, outcome."""
        log = self.store.log
        dated = [pa.field("event_date", pa.date32())] if log.event_time else []
        outcome = [pa.field("outcome", pa.string()), pa.field("reason", pa.string())]
        return pa.schema([*arrow_schema(log.columns), *dated, *arrow_schema(POSITION), *PROVENANCE, *outcome])

    @property
    def comes_from(self) -> list[Store | Log]:
        """The store whose outcomes it holds, and the log whose events."""
        return [self.store, self.store.log]

    def origin(self, column: str) -> tuple[Store | Log, str]:
        """Event columns are the log's; `event_date` is the day of its event time; the rest is the ledger's own."""
        log = self.store.log
        if column in log.columns or column in POSITION:
            return log, column
        if column == "event_date" and log.event_time is not None:
            return log, log.event_time
        return self.store, f"ledger.{column}"

    def read(self, *, ledger: Callable[[Folded], _T], rows: Callable[[Store], _T]) -> _T:
        """What `ledger` gives for its store."""
        return ledger(self.store)


Source = Store | LedgerOf
"""An input of a store: the published rows of a store, or the ledger of a folded one."""


def repeats_text(what: str, log: Log) -> str:
    """How a store of a log treats repeated ids, for `Account.repeats`; `what` names what they never reach."""
    return "".join(f"{each.capitalize()}. " for each in log.assumed) + (
        f"A repeated id never reaches {what}: sealing found it and stored it as duplicate (the same content) or "
        "conflict (another content), full replay finds it again from the ids alone. A duplicate moves only the "
        "position of its key's row, a conflict changes nothing; the ledger has the outcome of both."
    )
