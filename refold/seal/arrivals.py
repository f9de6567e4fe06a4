"""What sealing checks of new events as they come: how late they are, and that no key is in two log partitions.

Where the log partition of an event follows from its key, no key can be in two; where landing names log partitions, it
can, and then the order of its events is not known. Comes between `decoding` and `new_events`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.encoding import as_one
from refold.errors import RefusedLanding
from refold.landing.listing import LandingObject
from refold.log.declaration import Late, Log
from refold.seal.decoding import Take
from refold.seal.new_events import Partitions

_SHOWN = 5


class Arrivals:
    """The events of one log for one snapshot, handed on to `take`; `check` refuses them, with places.

    `begins` is when the period of the snapshot begins; `items` are the landing objects that the events are from.
    """

    def __init__(self, log: Log, key: str, begins: dt.datetime, items: Iterable[LandingObject], take: Take) -> None:
        self._log, self._key, self._take = log, key, take
        refuses = log.late_max is not None and log.late is Late.REFUSE
        self._oldest = begins - log.late_max if refuses and log.late_max is not None else None
        self._late, self._late_count = list[str](), 0
        self._named = log.partitions > 1 and any(item.partition is not None for item in items)
        self._places: dict[object, tuple[int, str]] = {}
        self._split, self._split_count = list[str](), 0

    def __call__(self, rows: pa.Table, partitions: Partitions) -> None:
        """Look at the next rows, and hand them on."""
        if self._oldest is not None:
            self._look_at_times(rows, self._oldest)
        if self._named:
            self._look_at_keys(rows, partitions)
        self._take(rows, partitions)

    def check(self) -> None:
        """Raises RefusedLanding where an event is later than `late_max` allows, or a key is in two log partitions."""
        if self._late:
            raise RefusedLanding(
                f"Log {self._log.name!r} was not sealed at snapshot {self._key}: expected events of {self._oldest} or "
                f"later (late_max {self._log.late_max}), found {self._late_count:,} older ones:"
                + "".join(f"\n  - {each}" for each in self._late),
                remedy="\nRaise late_max, declare late=Late.REPORT, or move their objects away; nothing of the log is "
                "sealed until then.",
            )
        if self._split:
            raise RefusedLanding(
                f"Log {self._log.name!r} was not sealed at snapshot {self._key}: expected every key in one log "
                f"partition, found {self._split_count:,} events of keys in two, whose order is not known:"
                + "".join(f"\n  - {each}" for each in self._split),
                remedy="\nLand the events of a key in one log partition; nothing of the log is sealed until then.",
            )

    def _look_at_times(self, rows: pa.Table, oldest: dt.datetime) -> None:
        times = rows[self._log.event_time]
        late = pc.fill_null(pc.less(times, pa.scalar(oldest, times.type)), False)
        places = np.flatnonzero(late.to_numpy())
        self._late_count += len(places)
        for place in places[: _SHOWN - len(self._late)].tolist():
            self._late.append(f"{times[place].as_py()} at {_place(rows, place)}")

    def _look_at_keys(self, rows: pa.Table, partitions: Partitions) -> None:
        names = list(self._log.key_columns)
        keys = as_one([rows[name] for name in names])
        found = pa.table({"key": keys, "partition": partitions, "place": np.arange(len(rows))})
        by_both = found.group_by(["key", "partition"], use_threads=False)
        firsts = by_both.aggregate([("place", "min"), ("place", "count")])
        for each in firsts.sort_by("place_min").to_pylist():
            place, partition = each["place_min"], int(each["partition"])
            where = f"log partition {partition}, {_place(rows, place)}"
            first, at = self._places.setdefault(each["key"], (partition, where))
            if first != partition:
                self._split_count += each["place_count"]
                key = self._log.key_of({name: rows[name][place].as_py() for name in names})
                self._split += [f"key {key!r}: {at}; and {where}"] if len(self._split) < _SHOWN else []


def _place(rows: pa.Table, place: int) -> str:
    return f"{rows['source_object'][place].as_py()} record {rows['source_line'][place].as_py()}"
