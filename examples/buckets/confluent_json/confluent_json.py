"""Orders that Confluent's S3 sink writes as JSON with its default partitioner.

Its JSON has no schema: amounts are base64 of unscaled decimals, and times are milliseconds. Both are declared. A name
holds log partition and offset but no day, so that an object belongs to the day on which the store says it was written.
"""

import base64
import datetime as dt
import json
import os
from pathlib import Path

from refold import Daily, Log, Project, Sql, decimal, int64, latest_by_key, text, timestamp
from refold.landing.names import CONFLUENT

orders = Log(
    "orders",
    landing="topics/shop.orders",
    layout=CONFLUENT,
    key="order_id",
    event_id=("order_id", "version"),
    event_time="changed_at",
    partitions=2,
    columns={
        "order_id": text(empty=False),
        "version": int64(1),
        "status": text(),
        "amount": decimal(12, 2, encoding="base64"),
        "changed_at": timestamp(epoch="ms"),
    },
    description="Every change of an order.",
)

latest_orders = latest_by_key(
    orders,
    "latest_orders",
    version=1,
    columns={"status": text(), "amount": decimal(12, 2)},
    order_by="version",
    sinks=[Sql("orders")],
    description="Every order as it is now.",
)

# What the connector wrote: (day, log partition, first offset, records of order, version, status and cents).
WRITTEN = [
    (5, 0, 0, [("a", 1, "placed", 1999), ("b", 1, "placed", 500)]),
    (5, 1, 0, [("c", 1, "placed", 1)]),
    (6, 0, 2, [("a", 2, "paid", 1999)]),
    (6, 0, 9, [("a", 2, "paid", 1999), ("b", 2, "void", -500)]),  # a compacted topic leaves gaps; one came twice
]


def land(folder: Path, late: bool) -> None:
    """Write the objects, as old as they say."""
    for day, partition, offset, records in WRITTEN:
        path = folder / "topics/shop.orders" / f"partition={partition}" / f"shop.orders+{partition}+{offset:010}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        at = dt.datetime(2026, 1, day, 12, tzinfo=dt.UTC).timestamp()
        path.write_text("".join(json.dumps(_record(each, at)) + "\n" for each in records))
        os.utime(path, (at, at))


def _record(order: tuple[str, int, str, int], at: float) -> dict[str, object]:
    order_id, version, status, cents = order
    amount = base64.b64encode(cents.to_bytes(2, signed=True)).decode()
    return {"order_id": order_id, "version": version, "status": status, "amount": amount, "changed_at": int(at * 1000)}


PROJECT = Project("confluent_json", cadence=Daily(dt.date(2026, 1, 5)), stores=[latest_orders], sample=land)
