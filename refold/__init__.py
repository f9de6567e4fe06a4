"""Refold: rebuild every derived store by folding the log again, and prove that it is right.

What a project's declarations and its readers import stands here; the rest is imported from its own module.
"""

from refold.expectations import expect
from refold.landing.debezium import Debezium
from refold.landing.jsonl import JsonLines
from refold.log.declaration import Log, QuarantineLimits
from refold.project import Daily, Project
from refold.reading import OpenRelease, open_release
from refold.rules.outcome import ignore, reject
from refold.sinks import BulkNdjson, Delta, Sql, Tantivy
from refold.stores.declaration import documents, fold, latest_by_key, relation
from refold.types import binary, boolean, date, decimal, enum, int64, ratio, text, timestamp

__all__ = [
    "BulkNdjson",
    "Daily",
    "Debezium",
    "Delta",
    "JsonLines",
    "Log",
    "OpenRelease",
    "Project",
    "QuarantineLimits",
    "Sql",
    "Tantivy",
    "binary",
    "boolean",
    "date",
    "decimal",
    "documents",
    "enum",
    "expect",
    "fold",
    "ignore",
    "int64",
    "latest_by_key",
    "open_release",
    "ratio",
    "reject",
    "relation",
    "text",
    "timestamp",
]
