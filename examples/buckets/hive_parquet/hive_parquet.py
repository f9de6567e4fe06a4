"""Sales that a Spark job writes as Parquet into folders of year, month and day, as Hive names them.

Spark writes the folders of integers without zeros, marks a whole folder by `_SUCCESS`, and keeps unfinished files below
`_temporary`. The columns of the folders are not in the files.
"""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from refold import Daily, Folders, Log, Parquet, Project, Sql, decimal, fold, int64, text, timestamp

sales = Log(
    "sales",
    layout=Folders("year={year}/month={month}/day={day}"),
    decoder=Parquet({"shop": ("place.shop",)}),
    key="shop",
    event_id="sale_id",
    event_time="sold_at",
    columns={"sale_id": int64(), "shop": text(empty=False), "amount": decimal(10, 2), "sold_at": timestamp()},
    description="Every sale.",
)


class Turnover(NamedTuple):
    """What a shop sold."""

    sales: int = 0
    cents: int = 0


@fold(sales, version=1, sinks=[Sql("turnover")])
def turnover(row: Turnover, event: Any) -> Turnover:
    """Number and value of the sales of each shop."""
    return row._replace(sales=row.sales + 1, cents=row.cents + int(event.amount * 100))


# What the job wrote: (day, sales as id, shop and amount).
WRITTEN = [
    (9, [(1, "north", "10.00"), (2, "south", "2.50"), (3, "north", "0.99")]),
    (10, [(4, "south", "7.50")]),
]


def land(folder: Path, late: bool) -> None:
    """Write the files of each day, its marker, and what a job that failed has left."""
    for day, found in WRITTEN:
        at = dt.datetime(2026, 1, day, 15, 30, tzinfo=dt.UTC)
        rows = [
            {"sale_id": number, "place": {"shop": shop}, "amount": Decimal(amount), "sold_at": at}
            for number, shop, amount in found
        ]
        place = folder / "sales" / f"year=2026/month=1/day={day}"
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), place / "part-00000-5f2d.c000.snappy.parquet")
        (place / "_SUCCESS").write_bytes(b"")
    failed = folder / "sales" / "_temporary/0/task_1/year=2026/month=1/day=10/part-00000.parquet"
    failed.parent.mkdir(parents=True, exist_ok=True)
    failed.write_bytes(b"half a file")


PROJECT = Project("hive_parquet", cadence=Daily(dt.date(2026, 1, 9)), stores=[turnover], sample=land)
