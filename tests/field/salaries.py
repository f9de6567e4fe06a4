"""A project whose key is two columns: salaries by employee and day, and the same with another rule."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from refold import Daily, Delta, Log, Project, Sql, Tantivy, documents, fold, latest_by_key
from refold.landing.debezium import Debezium
from refold.stores.declaration import Folded
from refold.types import date, int64, text

LOG = Log(
    "t",
    key=("emp_no", "from_date"),
    event_id=("lsn", "op", "emp_no", "from_date"),
    columns={"emp_no": int64(), "from_date": date(), "salary": int64(null=True), "op": text(), "lsn": int64()},
    decoder=Debezium({"lsn": ("source.lsn",)}),
)


class Paid(NamedTuple):
    paid: int = 0
    changes: int = 0


@fold(LOG, version=1, sinks=[Sql("paid")])
def paid(row: Paid, event):
    return row._replace(paid=event.salary, changes=row.changes + 1)


def _paid_twice(row: Paid, event):
    return row._replace(paid=2 * event.salary, changes=row.changes + 1)


_paid_twice.__name__ = "paid"
TWICE: Folded = fold(LOG, version=2)(_paid_twice)
salaries = latest_by_key(
    LOG, "salaries", version=1, columns={"salary": int64(null=True)}, sinks=[Sql("salaries"), Delta("salaries")]
)
found = documents("found", left=paid, right=salaries, sinks=[Tantivy("found")])
PROJECT = Project("salaries", Daily(dt.date(2024, 10, 30)), [paid, salaries, found])
