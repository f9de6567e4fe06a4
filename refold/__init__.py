"""Refold: rebuild every derived store by folding the log again, and prove that it is right.

What a project's declarations and its readers import is here; the rest is imported from its own module. Each name
is fetched from its module when it is first asked for, so that the command line can say what it can do in no time.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refold.landing.avro import Avro
    from refold.landing.avro_messages import AvroMessages, schemas_in
    from refold.landing.bounds import LandingBounds
    from refold.landing.change_sources import (
        CANAL,
        DEBEZIUM_MONGODB,
        DEBEZIUM_MYSQL,
        DEBEZIUM_POSTGRESQL,
        DEBEZIUM_SQLSERVER,
        DMS,
        MAXWELL,
        CanalOp,
        ChangeOp,
        DmsOp,
        MaxwellOp,
    )
    from refold.landing.debezium import Debezium
    from refold.landing.delimited import Csv
    from refold.landing.framed import Framed, Framing
    from refold.landing.json_array import JsonArray
    from refold.landing.jsonl import JsonLines
    from refold.landing.layout import Folders
    from refold.landing.names import Names
    from refold.landing.parquet import Parquet
    from refold.landing.protobuf_messages import ProtobufMessages
    from refold.log.declaration import PLACE, Late, Log, Numbered
    from refold.log.limits import ConflictLimits, QuarantineLimits
    from refold.project import Project
    from refold.release.reader import OpenRelease, open_release
    from refold.rules.outcome import Ignored, Rejection, ignore, reject
    from refold.seal.cadence import Daily, Hourly
    from refold.sinks import BulkNdjson, Cache, Delta, Sql, Tantivy
    from refold.sinks.cache_reader import CachedRows
    from refold.sinks.expectations import expect
    from refold.stores.kinds.latest import latest_by_key
    from refold.stores.kinds.latest_fold import NOT_NULL
    from refold.stores.kinds.newest import Ties
    from refold.stores.kinds.relation import documents, relation
    from refold.stores.kinds.rule import fold
    from refold.stores.kinds.versions import TieBreak, conflicts, latest_by_version
    from refold.stores.recheck import Recheck
    from refold.types import binary, boolean, date, decimal, enum, int64, ratio, text, timestamp, version_vector

__all__ = [
    "CANAL",
    "DEBEZIUM_MONGODB",
    "DEBEZIUM_MYSQL",
    "DEBEZIUM_POSTGRESQL",
    "DEBEZIUM_SQLSERVER",
    "DMS",
    "MAXWELL",
    "NOT_NULL",
    "PLACE",
    "Avro",
    "AvroMessages",
    "BulkNdjson",
    "Cache",
    "CachedRows",
    "CanalOp",
    "ChangeOp",
    "ConflictLimits",
    "Csv",
    "Daily",
    "Debezium",
    "Delta",
    "DmsOp",
    "Folders",
    "Framed",
    "Framing",
    "Hourly",
    "Ignored",
    "JsonArray",
    "JsonLines",
    "LandingBounds",
    "Late",
    "Log",
    "MaxwellOp",
    "Names",
    "Numbered",
    "OpenRelease",
    "Parquet",
    "Project",
    "ProtobufMessages",
    "QuarantineLimits",
    "Recheck",
    "Rejection",
    "Sql",
    "Tantivy",
    "TieBreak",
    "Ties",
    "binary",
    "boolean",
    "conflicts",
    "date",
    "decimal",
    "documents",
    "enum",
    "expect",
    "fold",
    "ignore",
    "int64",
    "latest_by_key",
    "latest_by_version",
    "open_release",
    "ratio",
    "reject",
    "relation",
    "schemas_in",
    "text",
    "timestamp",
    "version_vector",
]

_NAMES_OF = {
    "sinks.expectations": "expect",
    "landing.avro": "Avro",
    "landing.avro_messages": "AvroMessages schemas_in",
    "landing.bounds": "LandingBounds",
    "landing.change_sources": "CANAL CanalOp ChangeOp DEBEZIUM_MONGODB DEBEZIUM_MYSQL DEBEZIUM_POSTGRESQL "
    "DEBEZIUM_SQLSERVER DMS DmsOp MAXWELL MaxwellOp",
    "landing.debezium": "Debezium",
    "landing.delimited": "Csv",
    "landing.framed": "Framed Framing",
    "landing.json_array": "JsonArray",
    "landing.jsonl": "JsonLines",
    "landing.layout": "Folders",
    "landing.names": "Names",
    "landing.parquet": "Parquet",
    "log.declaration": "Late Log Numbered PLACE",
    "log.limits": "ConflictLimits QuarantineLimits",
    "landing.protobuf_messages": "ProtobufMessages",
    "project": "Project",
    "seal.cadence": "Daily Hourly",
    "release.reader": "OpenRelease open_release",
    "rules.outcome": "Ignored Rejection ignore reject",
    "sinks": "BulkNdjson Cache Delta Sql Tantivy",
    "sinks.cache_reader": "CachedRows",
    "stores.kinds.latest": "latest_by_key",
    "stores.kinds.latest_fold": "NOT_NULL",
    "stores.kinds.newest": "Ties",
    "stores.kinds.relation": "documents relation",
    "stores.kinds.rule": "fold",
    "stores.kinds.versions": "TieBreak conflicts latest_by_version",
    "stores.recheck": "Recheck",
    "types": "binary boolean date decimal enum int64 ratio text timestamp version_vector",
}
_MODULE_OF = {name: f"refold.{module}" for module, names in _NAMES_OF.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a name at its first use, and keep it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """All public names, also those not imported yet."""
    return sorted({*globals(), *__all__})
