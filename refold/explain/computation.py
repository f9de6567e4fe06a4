"""How a store is computed, for people: compiled or interpreted and why, what it reads, shares and depends on.

Nothing is decided by it, and neither log nor state is read; a rule is compiled, since only that shows that it can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from refold.log.declaration import PROVENANCE
from refold.project import Project
from refold.rules.kernel_cache import cache_folder, kernel_file, unusable_because
from refold.rules.rule import Rule
from refold.rules.source import Place
from refold.stores.declaration import Folded, LatestStore, LedgerOf, Relation, RuleStore, Store
from refold.stores.folding import columns_to_read

_DELIVERIES = (
    "A repeated id never reaches {what}: sealing found it and stored it as duplicate (the same content) or conflict "
    "(another content), full replay finds it again from the ids alone. Its key's row keeps its values and takes its "
    "position; the ledger has its outcome."
)


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

    `how` is a sentence; `because` and `place` say why a rule is not compiled. `fingerprint_of` is what its code version
    covers, by kind. `shared_with` are the other stores folded in the same pass over the log. `source` is the generated
    source that is compiled, or a relation's query.
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
    """Explain a store of a project. A rule is compiled for it, or loaded; a rerun says the same, but for what is kept.

    Raises TypeError for a kind of store there is nothing to say about.
    """
    if isinstance(store, RuleStore):
        return _of_rule(project, store)
    if isinstance(store, LatestStore):
        return _of_latest(project, store)
    if isinstance(store, Relation):
        return _of_relation(store)
    raise TypeError(f"{type(store).__name__} cannot be explained")


def _of_rule(project: Project, store: RuleStore) -> Explanation:
    rule = store.rule
    before = rule.was_compiled
    compiled = rule.compile()
    how = "compiled by numba and folded by columns, log partitions at once, without the interpreter's lock"
    return Explanation(
        store=store.name,
        how=f"A rule, {how}." if compiled else "A rule, interpreted: Python runs it event by event, with equal result.",
        because=None if rule.refusal is None else rule.refusal.sentence,
        place=None if rule.refusal is None else rule.refusal.place,
        code_version=store.code_version,
        fingerprint_of=_fingerprinted(rule),
        columns=[*_row_columns(store), *_log_columns(store)],
        inputs=[f"log {store.log.name}"],
        repeats=_DELIVERIES.format(what="the rule"),
        shared_with=_shared(project, store),
        kept=_kept(rule, before) if compiled else "",
        source=rule.lowered,
    )


def _of_latest(project: Project, store: LatestStore) -> Explanation:
    deletes = (
        "" if store.delete_when is None else f"; {store.delete_when[0]} = {store.delete_when[1]!r} deletes the key"
    )
    covered = {
        "columns of the log": [f"{name} {kind}" for name, kind in store.log.columns.items()],
        "key": [store.log.key],
        "columns kept": [f"{name} {kind}" for name, kind in store.picked.items()],
        "delete_when": [f"{store.delete_when[0]} = {store.delete_when[1]!r}"] if store.delete_when else [],
    }
    return Explanation(
        store=store.name,
        how=f"The last event of each key, by columns; there is no rule to compile{deletes}.",
        because=None,
        place=None,
        code_version=store.code_version,
        fingerprint_of=covered,
        columns=[*_row_columns(store), *_log_columns(store)],
        inputs=[f"log {store.log.name}"],
        repeats=_DELIVERIES.format(what="the row's values"),
        shared_with=_shared(project, store),
        kept="",
        source=None,
    )


def _of_relation(store: Relation) -> Explanation:
    inputs = [
        f"{each.name}: the ledger of {each.store.name}, with the events of log {each.store.log.name}"
        if isinstance(each, LedgerOf)
        else f"{each.name}: the rows of store {each.name}"
        for each in store.reads
    ]
    return Explanation(
        store=store.name,
        how="A relation: DuckDB runs its query over its inputs at the same snapshot, whole at every snapshot.",
        because=None,
        place=None,
        code_version=store.code_version,
        fingerprint_of={
            "query": ["its text"],
            "columns": [f"{name} {kind}" for name, kind in store.columns.items()],
            "key": list(store.key),
        },
        columns=[Column(name, str(kind), "row") for name, kind in store.columns.items()],
        inputs=inputs,
        repeats="A ledger has a row for every delivery, with its outcome; the query says which it counts.",
        shared_with=[],
        kept="",
        source=store.sql,
    )


def _row_columns(store: Folded) -> list[Column]:
    return [Column(name, str(kind), "row") for name, kind in store.values.items()]


def _log_columns(store: Folded) -> list[Column]:
    """The columns of a segment, and which of them a fold of this store reads."""
    read = set(columns_to_read(store))
    types = {"log_offset": "int64", "log_seq": "int64", **{field.name: str(field.type) for field in PROVENANCE}}
    types |= {name: str(kind) for name, kind in store.log.columns.items()}
    return [Column(name, kind, "segment", name in read) for name, kind in types.items()]


def _shared(project: Project, store: Folded) -> list[str]:
    return [each.name for each in project.folded if each.log.name == store.log.name and each is not store]


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
    told = "loaded from" if before else "compiled now, and kept in"
    return f"{told} {kernel_file(rule.lowered or '')}"
