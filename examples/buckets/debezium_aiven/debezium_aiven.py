"""Products that Debezium captures from PostgreSQL, and Aiven's S3 sink writes as JSON Lines.

The sink is set to `format.output.type=jsonl`, `format.output.envelope=false`, `format.output.fields=value`. Its offsets
are not padded: 10 comes after 9, as a number. A change of key arrives as delete, tombstone (`null`) and create.
"""

import datetime as dt
import gzip
import json
import os
from pathlib import Path
from typing import Any

from refold import DEBEZIUM_POSTGRESQL, ChangeOp, Daily, Log, Project, Sql, decimal, int64, latest_by_key, text
from refold.landing.names import AIVEN

products = Log.of_changes(
    "products",
    DEBEZIUM_POSTGRESQL,
    landing="sink",
    layout=AIVEN,
    suffixes=(".gz",),
    key="id",
    partitions=1,
    columns={"id": int64(), "name": text(null=True), "price": decimal(12, 2, null=True)},
    description="Every change of a product.",
)

latest_products = latest_by_key(
    products,
    "latest_products",
    version=1,
    columns={"name": text(null=True), "price": decimal(12, 2, null=True)},
    delete_when=("op", ChangeOp.DELETE),
    sinks=[Sql("products")],
    description="The products as they are now.",
)


def change(op: str, lsn: int, id_: int, name: str | None = None, price: str | None = None) -> dict[str, Any]:
    """A change event in Debezium's envelope; `decimal.handling.mode=string`."""
    row = {"id": id_, "name": name, "price": price}
    source = {"connector": "postgresql", "db": "shop", "schema": "public", "table": "products"}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return {**sides, "op": op, "source": {**source, "txId": lsn // 10, "lsn": lsn}, "ts_ms": 1_767_600_000_000}


# What the sink wrote: (day, first offset, values).
WRITTEN = [
    (5, 0, [change("r", 10, 1, "bolt", "0.10"), change("r", 10, 2, "nut", "0.05")]),
    (5, 9, [change("u", 20, 1, "bolt", "0.12")]),
    (5, 10, [change("u", 30, 1, "bolt", "0.11")]),
    (6, 11, [change("d", 41, 2), None, change("c", 42, 3, "nut", "0.05")]),
    (6, 14, [change("c", 42, 3, "nut", "0.05")]),  # delivered again
]


def land(folder: Path, late: bool) -> None:
    """Write the objects, as old as they say."""
    for day, offset, values in WRITTEN:
        path = folder / "sink" / f"shop.public.products-0-{offset}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(json.dumps(value) + "\n" for value in values).encode(), mtime=0))
        at = dt.datetime(2026, 1, day, 12, tzinfo=dt.UTC).timestamp()
        os.utime(path, (at, at))


PROJECT = Project("debezium_aiven", cadence=Daily(dt.date(2026, 1, 5)), stores=[latest_products], sample=land)
