"""Sinks: where a proven state is published for readers, one module a kind.

Put the declarations that a store's file uses here (`Sql`, `Delta`, `BulkNdjson`, `Tantivy`, `Cache`), what every sink
promises (`refold.sinks.base`), the named places they write to (`connections`) and how their classes are found
(`registry`).
Whether a state may be published is decided before, by its proof; when readers move is decided by the release.

To add a sink, subclass `Sink` and `Target`, and `refold.testing.sink_conformance.SinkConformance` in its tests. Then
name the class where release records can find it: in another package by an entry point of the group `refold.sinks`
(`tests/sinks/keyvalue` is a whole example), in this one in the table of `registry`. A class of a project needs
neither, but only that project can read back what it released.
"""

from refold.sinks.base import Content, Hit, Sink, SinkFault, Target
from refold.sinks.cache import Cache
from refold.sinks.connections import Connections
from refold.sinks.delta import Delta
from refold.sinks.ndjson import BulkNdjson
from refold.sinks.registry import sink_class
from refold.sinks.sql import Sql
from refold.sinks.tantivy import Tantivy

__all__ = [
    "BulkNdjson",
    "Cache",
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
