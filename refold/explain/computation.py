"""How a store is computed, for people: compiled or interpreted and why, what it reads, shares and depends on.

Nothing is decided by it, and neither log nor state is read; a rule is compiled, since only that shows that it can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refold.log.declaration import PROVENANCE
from refold.project import Project
from refold.rules.source import Place
from refold.stores.declaration import Store
from refold.stores.folding import columns_to_read


@dataclass(frozen=True)
class Column:
    """A column of a store's row, or of its log and whether folding reads it from the segments."""

    name: str
    type: str
    of: str
    read: bool = False


@dataclass(frozen=True)
class Explanation:
    """How one store is computed.

    `how` is a sentence; `because` and `place` say why a rule is not compiled. `fingerprint_of` lists what its
    code version covers, by kind. `shared_with` are the other stores folded in the same pass over the log. `source` is
    the generated source that is compiled, or a relation's query.
    """

    store: str
    how: str
    because: str | None
    place: Place | None
    code_version: str
    fingerprint_of: Mapping[str, Sequence[str]]
    columns: Sequence[Column]
    inputs: Sequence[str]
    repeats: str
    shared_with: Sequence[str]
    kept: str
    source: str | None


def explain(project: Project, store: Store) -> Explanation:
    """Explain a store of a project, compiling or loading its rule; a rerun gives the same, except for `kept`."""
    account = store.account()
    return Explanation(
        store=store.name,
        how=account.how,
        because=account.because,
        place=account.place,
        code_version=store.code_version,
        fingerprint_of=account.fingerprint_of,
        columns=_columns(store),
        inputs=_inputs(store),
        repeats=account.repeats,
        shared_with=_shared(project, store),
        kept=account.kept,
        source=account.source,
    )


def _inputs(store: Store) -> list[str]:
    if store.ledger is not None:
        return [f"log {store.ledger.store.log.name}"]
    return [
        source.read(
            ledger=lambda each: (
                f"{each.ledger.name}: the ledger of {each.name}, with the events of log {each.log.name}"
            ),
            rows=lambda each: f"{each.name}: the rows of store {each.name}",
        )
        for source in store.sources
    ]


def _columns(store: Store) -> list[Column]:
    """The columns of a row and, for a folded store, those of a segment and which of them its fold reads."""
    if store.ledger is None:
        return [Column(name, str(kind), "row") for name, kind in store.columns.items()]
    folded = store.ledger.store
    read = set(columns_to_read(folded))
    types = {"log_offset": "int64", "log_seq": "int64", **{field.name: str(field.type) for field in PROVENANCE}}
    types |= {name: str(kind) for name, kind in folded.log.columns.items()}
    values = [Column(name, str(kind), "row") for name, kind in folded.values.items()]
    return [*values, *(Column(name, kind, "segment", name in read) for name, kind in types.items())]


def _shared(project: Project, store: Store) -> list[str]:
    """The other stores that are folded in the same pass."""
    logs = [store.ledger.store.log.name] if store.ledger is not None else []
    return [each.name for each in project.folded if each.log.name in logs and each is not store]
