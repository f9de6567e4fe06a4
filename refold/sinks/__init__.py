"""Sinks: where a proven state is published for readers, one module a kind.

Put the declarations that a store's file uses here (`Sql`, `Delta`, `BulkNdjson`, `Tantivy`), what every sink promises
(`refold.sinks.base`), the named places they write to (`connections`) and how their classes are found (`registry`).
Whether a state may be published is decided before, by its proof; when readers move is decided by the release.

To add a sink, in this package or another: subclass `Sink` and `Target`, name the class by an entry point of the group
`refold.sinks`, and subclass `refold.testing.sink_conformance.SinkConformance`. Nothing else in Refold changes.
`tests/sinks/keyvalue` is a whole example.
"""

from refold.sinks.base import Content, Hit, Sink, SinkFault, Target
from refold.sinks.connections import Connections
from refold.sinks.delta import Delta
from refold.sinks.ndjson import BulkNdjson
from refold.sinks.registry import sink_class
from refold.sinks.sql import Sql
from refold.sinks.tantivy import Tantivy

__all__ = [
    "BulkNdjson",
    "Connections",
    "Content",
    "Delta",
    "Hit",
    "Sink",
    "SinkFault",
    "Sql",
    "Tantivy",
    "Target",
    "sink_class",
]
