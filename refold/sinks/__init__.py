"""Sinks: where a proven state is published for readers, one module a kind.

Here live the declarations a store's file uses (`Sql`, `Delta`, `BulkNdjson`, `Tantivy`) and the base for further
kinds. Whether a state may be published is decided before, by its proof; when readers move is decided by the release.
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
