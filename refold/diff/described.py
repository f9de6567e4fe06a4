"""The declaration of a store by one side, and whether two sides can be compared at all, before anything is folded.

Plain texts, so that a process can send its declarations to another. `refold.diff.shadow` folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refold.errors import FixInput
from refold.log.snapshot import Snapshot
from refold.stores.declaration import Folded, Store
from refold.types import Schema

Columns = Mapping[str, str]
"""Column names with their types as text, in order."""

_ALIKE = ({"int64", "decimal"}, {"text", "enum"})


@dataclass(frozen=True)
class FoldedInput:
    """A folded store that a store is computed from, or is: its code version, its log as declared, its state."""

    code_version: str
    log: str
    log_key: Sequence[str]
    event_id: Sequence[str]
    event_time: str | None
    log_columns: Columns
    state: Columns


@dataclass(frozen=True)
class Described:
    """The declaration of a store by one side.

    Attributes:
        code_version: of the store itself.
        key, columns: of what is published.
        folded: the folded stores it is computed from, by name; itself alone, where it is one.
        relations: the code versions of the relations it is computed from, by name; its own too, where it is one.
    """

    code_version: str
    key: Sequence[str]
    columns: Columns
    folded: Mapping[str, FoldedInput]
    relations: Mapping[str, str]


@dataclass(frozen=True)
class SchemaChange:
    """A column that one declaration has otherwise than the other; None where a side does not have it."""

    column: str
    old: str | None
    new: str | None


def described(store: Store, name_of: Callable[[Store], str]) -> Described:
    """What a store's declaration says; `name_of` gives the name that a store is compared under."""
    return Described(
        code_version=store.code_version,
        key=list(store.key),
        columns=_texts(store.columns),
        folded={name_of(each): _folded_input(each) for each in folded_behind(store)},
        relations={name_of(each): each.code_version for each in _relations_behind(store)},
    )


def from_json(value: Mapping[str, object]) -> Described:
    """What `dataclasses.asdict` made of a description, read back."""
    fields = dict(value)
    folded = fields.pop("folded")
    assert isinstance(folded, dict)
    return Described(**fields, folded={name: FoldedInput(**each) for name, each in folded.items()})  # type: ignore[arg-type]


def folded_behind(store: Store) -> list[Folded]:
    """The folded stores a store is computed from, or the store itself, each once, in the order they are read."""
    if store.ledger is not None:
        return [store.ledger.store]
    return list(dict.fromkeys(each for needed in store.inputs for each in folded_behind(needed)))


def _relations_behind(store: Store) -> list[Store]:
    if store.ledger is not None:
        return []
    below = [each for needed in store.inputs for each in _relations_behind(needed)]
    return list(dict.fromkeys([store, *below]))


def _folded_input(store: Folded) -> FoldedInput:
    log = store.log
    return FoldedInput(
        code_version=store.code_version,
        log=log.name,
        log_key=list(log.key_columns),
        event_id=list(log.id_columns),
        event_time=log.event_time,
        log_columns=_texts(log.columns),
        state=_texts(store.state_columns),
    )


def _texts(columns: Schema) -> dict[str, str]:
    return {name: str(column) for name, column in columns.items()}


def require_comparable(name: str, old: Described, new: Described) -> None:
    """Two sides must be folded from the same events. Raises FixInput, telling every way in which they are not."""
    faults = []
    if name in old.folded and name in new.folded and old.folded[name].log != new.folded[name].log:
        faults.append(f"log {old.folded[name].log!r} became {new.folded[name].log!r}")
    before = {each.log: each for each in old.folded.values()}
    for log, now in {each.log: each for each in new.folded.values()}.items():
        was = before.get(log, now)
        faults += [
            f"the {what} of log {log!r} became {', '.join(b)!r} from {', '.join(a)!r}"
            for what, a, b in (("key", was.log_key, now.log_key), ("event id", was.event_id, now.event_id))
            if a != b
        ]
        faults += [f"log {log!r}: {fault}" for fault in differing_columns(was.log_columns, now.log_columns)]
    if faults:
        raise FixInput(
            f"Store {name!r} cannot be compared, because its log is declared otherwise: {'; '.join(faults)}.",
            remedy="Two rules are compared over the same events: compare with a declaration of the same log.",
        )


def require_sealed(side: str, store: Described, snapshot: Snapshot) -> None:
    """The logs behind a store must be declared with the columns they were sealed with. Raises FixInput."""
    for each in store.folded.values():
        sealed, found = snapshot.cut(each.log).schema, "\n".join(f"{n} {t}" for n, t in each.log_columns.items())
        if sealed and sealed != found:
            columns = dict(line.split(" ", 1) for line in sealed.split("\n"))
            faults = differing_columns(columns, each.log_columns) or ["its columns are in another order"]
            raise FixInput(
                f"Log {each.log!r} is declared otherwise by {side} than it was sealed up to snapshot "
                f"{snapshot.key}: {'; '.join(faults)}.",
                remedy="Compare over a log that was sealed with these columns.",
            )


def differing_columns(old: Columns, new: Columns) -> list[str]:
    """How two declarations of columns differ, one sentence part per column; none where at most their order does.

    >>> differing_columns({"a": "int64", "b": "text"}, {"a": "int64?", "c": "date"})
    ["column 'a' became int64? from int64", "column 'c' was added", "column 'b' was removed"]
    """
    return [
        f"column {change.column!r} "
        + (f"became {change.new} from {change.old}" if change.old and change.new else "")
        + ("" if change.old else "was added")
        + ("" if change.new else "was removed")
        for change in schema_changes(old, new)
    ]


def schema_changes(old: Columns, new: Columns) -> list[SchemaChange]:
    """The columns that differ: the new declaration's in its order, then those it does not have any more."""
    names = [*new, *(name for name in old if name not in new)]
    return [SchemaChange(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def same_kind(old: str, new: str, *, alike: bool = False) -> bool:
    """Whether two types hold the same values but for null; `alike` takes any two whose values can be compared.

    >>> same_kind("int64", "int64?"), same_kind("int64", "decimal(9, 2)"), same_kind("int64", "text", alike=True)
    (True, False, False)
    >>> same_kind("int64", "decimal(9, 2)", alike=True)
    True
    """
    if old.rstrip("?") == new.rstrip("?"):
        return True
    kinds = {text.rstrip("?").partition("(")[0] for text in (old, new)}
    return alike and (len(kinds) == 1 or kinds in _ALIKE)
