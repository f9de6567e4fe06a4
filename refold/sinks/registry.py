"""Sink classes by the name that a release records, so that a release is read and mended without its project.

Refold's own sinks are a table here. A sink in another package is found by an entry point of the group `refold.sinks`,
named as its class:

    [project.entry-points."refold.sinks"]
    KeyValue = "refold_keyvalue:KeyValue"

A project may also use a sink class that no entry point names. It is published and released like any other, but only
the project itself can read it: a release records neither its options nor where to find its class.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from refold.errors import FixInput
from refold.sinks.base import Sink
from refold.sinks.cache import Cache
from refold.sinks.delta import Delta
from refold.sinks.ndjson import BulkNdjson
from refold.sinks.sql import Sql
from refold.sinks.tantivy import Tantivy

GROUP = "refold.sinks"
_BUILT_IN: dict[str, type[Sink]] = {each.__name__: each for each in (Sql, Delta, BulkNdjson, Tantivy, Cache)}


def sink_class(name: str) -> type[Sink] | None:
    """The sink class of a name; None where no installed package provides it.

    >>> sink_class("Delta"), sink_class("Unheard")
    (<class 'refold.sinks.delta.Delta'>, None)

    Raises:
        FixInput: several packages provide it, or the one that does cannot be imported or provides something else.
    """
    return _BUILT_IN.get(name) or _installed(name)


@cache
def _installed(name: str) -> type[Sink] | None:
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if len(found) > 1:
        raise FixInput(
            f"Expected one installed package that provides the sink {name}, found {', '.join(sorted(found))}.",
            remedy="Uninstall all but one.",
        )
    return next((_loaded(entry) for entry in found.values()), None)


def _loaded(entry: EntryPoint) -> type[Sink]:
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        raise FixInput(
            f"The sink {entry.name} cannot be imported from {entry.value}: {error}.",
            remedy="Install its package again.",
        ) from error
    if not isinstance(loaded, type) or not issubclass(loaded, Sink) or loaded.__name__ != entry.name:
        raise FixInput(
            f"Expected the sink class {entry.name} at the entry point {entry.value}, found {loaded!r}.",
            remedy="Report it to the package that provides it.",
        )
    return loaded
