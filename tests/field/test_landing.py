"""Landing as other tools leave it: cases from public reports, each with the right answer."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import pytest

from refold import Daily, Debezium, Log, Project, QuarantineLimits, enum, fold, latest_by_key
from refold.landing.decoder import BadRecord
from refold.log.reader import LogReader
from refold.stores.declaration import Store
from refold.types import int64, text, timestamp
from tests.support import Shop, copy_landing, seal_and_prove, verify_reference

MOVES = Log(
    "moves",
    key="sku",
    event_id="id",
    columns={"id": text(), "sku": text(), "n": int64(), "at": timestamp()},
    quarantine=QuarantineLimits(share_max=1.0),
)


class Units(NamedTuple):
    units: int = 0


@fold(MOVES, version=1)
def units(row: Units, event):
    return row._replace(units=row.units + event.n)


def case(shared_data: Path, name: str, tmp_path: Path, store: Store = units) -> Shop:
    """A case whose landing is sealed, folded and proven; skipped where there is none."""
    folder = shared_data / "field" / name / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    (day,) = [path.name[-10:] for path in folder.glob("*/dt=*") if path.is_dir()]
    shop = Shop(tmp_path, Project("field", Daily(dt.date.fromisoformat(day)), [store]))
    copy_landing(folder, shop.landing)
    seal_and_prove(shop.engine())
    return shop


def rows(shop: Shop) -> list[dict[str, object]]:
    """The rows at the newest snapshot."""
    engine = shop.engine()
    (store,) = engine.project.stores
    return engine.rows(store, engine.chain.get()).to_pylist()


def sums(shop: Shop) -> dict[object, object]:
    """The sum of `n` by `sku`."""
    return {row["sku"]: row["units"] for row in rows(shop)}


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


def test_kafka_keys_beside_values_are_not_data(shared_data: Path, tmp_path: Path) -> None:
    log = Log("t", key="id", event_id="id", columns={"id": int64(), "name": text()})
    shop = case(shared_data, "sidecars", tmp_path, latest_by_key(log, "names", version=1, columns={"name": text()}))
    assert {row["id"]: row["name"] for row in rows(shop)} == {1: "ann", 2: "bob"}
    assert [Path(each.info.name).name for each in shop.engine().sealing.sealer().skipped()] == [
        "t+0+0000000000.keys.json"
    ]


class Op(Enum):
    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"


def test_offsets_without_padding_are_sealed_in_the_order_of_their_numbers(shared_data: Path, tmp_path: Path) -> None:
    log = Log(
        "t",
        key="id",
        event_id="lsn",
        columns={"lsn": int64(), "id": int64(), "status": text(null=True), "op": enum(Op)},
        decoder=Debezium({"lsn": ("source.lsn",)}),
    )
    columns = {"status": text(null=True)}
    store = latest_by_key(log, "tickets", version=1, columns=columns, delete_when=("op", Op.DELETE))
    shop = case(shared_data, "unpadded_offsets", tmp_path, store)
    assert {row["id"]: row["status"] for row in rows(shop)} == {7: "closed"}
    engine = shop.engine()
    names = [Path(each.name).stem for each in engine.chain.get().cut("t").objects]
    assert names == ["t-0-8", "t-0-9", "t-0-10", "t-0-11", "t-0-12"]
    assert verify_reference(engine, engine.chain.get()) == []
