"""Landing as other tools leave it: cases from public reports, each with the right answer."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from refold import Daily, Log, Project, QuarantineLimits, fold
from refold.landing.decoder import BadRecord
from refold.log.reader import LogReader
from refold.types import int64, text, timestamp
from tests.support import Shop, copy_landing, seal_and_prove

MOVES = Log(
    "moves",
    key="sku",
    event_id="id",
    columns={"id": text(), "sku": text(), "n": int64(), "at": timestamp()},
    quarantine=QuarantineLimits(share_max=1.0),
)


class Units(NamedTuple):
    units: int = 0


def project(log: Log, start: dt.date) -> Project:
    """A project that sums `n` by `sku`."""

    @fold(log, version=1)
    def units(row: Units, event):
        return row._replace(units=row.units + event.n)

    return Project("field", Daily(start), [units])


def case(shared_data: Path, name: str, tmp_path: Path, log: Log = MOVES, **changes: object) -> Shop:
    """A case whose landing is sealed, folded and proven; skipped where there is none."""
    folder = shared_data / "field" / name / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    days = sorted(path.name[-10:] for path in (folder / log.name).iterdir() if path.is_dir())
    shop = Shop(tmp_path, project(replace(log, **changes), dt.date.fromisoformat(days[0])))
    copy_landing(folder, shop.landing)
    seal_and_prove(shop.engine())
    return shop


def sums(shop: Shop) -> dict[str, int]:
    """The sum of `n` by `sku` at the newest snapshot."""
    engine = shop.engine()
    rows = engine.rows(engine.project.stores[0], engine.chain.get())
    return dict(zip(rows[engine.project.logs[0].key].to_pylist(), rows["units"].to_pylist(), strict=True))


def bad_records(shop: Shop) -> list[BadRecord]:
    return [item.record for item in shop.engine().quarantine()]


def test_times_of_java_without_seconds_are_read(shared_data: Path, tmp_path: Path) -> None:
    shop = case(shared_data, "java_times", tmp_path)
    assert bad_records(shop) == []
    assert sum(sums(shop).values()) == 300


def test_fifteen_forms_of_a_time_are_read_or_refused_with_their_reason(shared_data: Path, tmp_path: Path) -> None:
    shop = case(shared_data, "iso_times", tmp_path)
    reasons = {"below-microseconds": 1, "no-zone": 1, "leap-second": 1, "hour-24": 1}
    assert Counter(record.reason for record in bad_records(shop)) == reasons
    engine = shop.engine()
    events = LogReader(engine.objects, engine.chain, engine.project.log("moves")).events(engine.chain.get())
    read = dict(zip(events["sku"].to_pylist(), events["at"].to_pylist(), strict=True))
    day = dt.datetime(2025, 12, 15, tzinfo=dt.UTC)
    early, late = day.replace(hour=2, minute=12, second=34), day.replace(hour=22, minute=6, second=40)
    millis, hour = dt.timedelta(milliseconds=977), dt.timedelta(hours=1)
    assert read == {
        "2025-12-15T02:12:34.977+01:00": early + millis - hour,
        "2025-12-15T02:12:34.977+0100": early + millis - hour,
        "2025-12-15T02:12:34.977+01": early + millis - hour,
        "2025-12-15T02:12:34,977+02:00": early + millis - 2 * hour,
        "2025-12-15T22:06:40.055209000Z": late.replace(microsecond=55_209),
        "2025-12-15T11:00:00-08:30": day + 19.5 * hour,
        "2025-12-15T00:00Z": day,
        "2025-12-15T02:12:34-00:00": early,
        "2025-12-15 02:12:34 UTC": early,
        "2025-12-15T02:12:34Z[UTC]": early,
        "2025-12-15 02:12:34+00": early,
    }


def test_many_objects_on_a_line_are_events_of_their_own(shared_data: Path, tmp_path: Path) -> None:
    shop = case(shared_data, "many_objects_on_a_line", tmp_path)
    assert bad_records(shop) == []
    assert shop.engine().chain.get().events == sum(sums(shop).values()) == 540


def test_empty_objects_hold_no_records_and_are_recorded(shared_data: Path, tmp_path: Path) -> None:
    shop = case(shared_data, "empty_gzip", tmp_path)
    assert sums(shop) == {"lamp": 1}
    objects = {Path(o.name).name: o.records for o in shop.engine().chain.get().cut("moves").objects}
    assert objects == {"a.jsonl.gz": 1, "b.jsonl.gz": 0, "c.jsonl.gz": 0, "d.jsonl": 0}


def test_folders_of_unfinished_writes_are_not_data(shared_data: Path, tmp_path: Path) -> None:
    assert sums(case(shared_data, "uncommitted_folders", tmp_path)) == {"lamp": 2}


def test_markers_of_folders_are_not_data(shared_data: Path, tmp_path: Path) -> None:
    assert sums(case(shared_data, "folder_marker", tmp_path)) == {"lamp": 2}
