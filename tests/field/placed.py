"""A project whose log has no ids: its events are identified by place."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from refold import PLACE, Daily, Log, Project, QuarantineLimits, fold, int64, text

LOG = Log(
    "moves",
    key="shop",
    event_id=PLACE,
    columns={"shop": text(), "n": int64()},
    partitions=1,
    quarantine=QuarantineLimits(share_max=1.0),
)


class Sum(NamedTuple):
    units: int = 0


@fold(LOG, version=1)
def sums(row: Sum, event):
    return row._replace(units=row.units + event.n)


PROJECT = Project("placed", Daily(dt.date(2026, 1, 1)), [sums])
