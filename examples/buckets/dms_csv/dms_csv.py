"""Customers that AWS DMS copies to S3 as CSV: a full load, then changes.

Settings of the endpoint: `IncludeOpForFullLoad=true`, so that loads and changes have the same fields, and a change
sequence (`AR_H_CHANGE_SEQ`) as a column. CSV of DMS has no record of names, and does not show which key a row had
before an update: a primary key that changes would leave the old row, so it must not.
"""

import datetime as dt
import os
from enum import Enum
from pathlib import Path

from refold import Csv, Daily, Log, Project, Sql, enum, int64, latest_by_key, text
from refold.landing.names import DMS


class Op(Enum):
    """The operation, as DMS writes it."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"


customers = Log(
    "customers",
    landing="public/customers",
    layout=DMS,
    decoder=Csv(names=("op", "change_seq", "id", "name", "city")),
    key="id",
    event_id=("id", "change_seq"),
    columns={
        "op": enum(Op),
        "change_seq": text(null=True),
        "id": int64(),
        "name": text(null=True),
        "city": text(null=True),
    },
    description="Every change of a customer.",
)

latest_customers = latest_by_key(
    customers,
    "latest_customers",
    version=1,
    columns={"name": text(null=True), "city": text(null=True)},
    delete_when=("op", Op.DELETE),
    sinks=[Sql("customers")],
    description="The customers as they are now.",
)

WRITTEN = {
    "LOAD00000001.csv": 'I,,1,"Ada, née Byron",London\nI,,2,Grace,\n',
    "LOAD0000000A.csv": "I,,3,Edsger,Rotterdam\n",
    "20260105-140000123.csv": "U,20260105140000000000000001,2,Grace,New York\n",
    "20260106-080000000.csv": "D,20260106080000000000000002,3,Edsger,Rotterdam\n"
    "I,20260106080000000000000003,4,Barbara,Boston\n",
}


def land(folder: Path, late: bool) -> None:
    """Write the objects; the full load as old as the first day."""
    for name, text_ in WRITTEN.items():
        path = folder / "public/customers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_, encoding="utf-8")
        at = dt.datetime(2026, 1, 5, 9, tzinfo=dt.UTC).timestamp()
        os.utime(path, (at, at))


PROJECT = Project("dms_csv", cadence=Daily(dt.date(2026, 1, 5)), stores=[latest_customers], sample=land)
