"""Clicks that Amazon Data Firehose writes, compressed with gzip.

Firehose puts JSON objects right after each other, without newlines, into folders of UTC hours, under names that end in
`.gz` alone. It delivers at least once.
"""

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

from refold import Daily, Log, Project, Sql, fold, text, timestamp
from refold.landing.names import FIREHOSE_DAILY

clicks = Log(
    "clicks",
    landing="clicks",
    layout=FIREHOSE_DAILY,
    suffixes=(".gz",),
    key="page",
    event_id="click_id",
    event_time="at",
    columns={"click_id": text(), "page": text(empty=False), "at": timestamp()},
    description="Every click on a page.",
)


class Count(NamedTuple):
    """The clicks of a page."""

    clicks: int = 0


@fold(clicks, version=1, sinks=[Sql("clicks")])
def clicks_by_page(row: Count, event: Any) -> Count:
    """How often each page was clicked; a click that is delivered twice counts once."""
    return row._replace(clicks=row.clicks + 1)


# What Firehose wrote: (day, hour, clicks as id, page and time).
WRITTEN = [
    (5, 0, [("k1", "home", "05T00:10"), ("k2", "home", "05T00:20"), ("k3", "cart", "05T00:30")]),
    (5, 23, [("k4", "cart", "05T23:59")]),
    (7, 10, [("k4", "cart", "05T23:59"), ("k5", "home", "07T10:00")]),  # nobody on the 6th; k4 is delivered again
]


def land(folder: Path, late: bool) -> None:
    """Write the objects."""
    for day, hour, found in WRITTEN:
        records = [{"click_id": click, "page": page, "at": f"2026-01-{at}:00Z"} for click, page, at in found]
        name = f"clicks-1-2026-01-{day:02}-{hour:02}-00-00-0a1b2c3d-{day:04}.gz"
        path = folder / "clicks" / f"2026/01/{day:02}/{hour:02}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(map(json.dumps, records)).encode(), mtime=0))


PROJECT = Project("firehose", cadence=Daily(dt.date(2026, 1, 5)), stores=[clicks_by_page], sample=land)
