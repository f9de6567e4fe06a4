"""Names by template: what the names of sink connectors say, and logs sealed from landing that is laid out so."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from refold import Daily, Folders, Hourly, Log, Project, int64, latest_by_key, text
from refold.errors import DeclarationError, RefusedLanding
from refold.landing import names
from refold.landing.layout import Layout, Skip, Slot
from refold.landing.listing import list_landing
from refold.landing.names import Names
from refold.storage.objects import ObjectStore
from tests.support import Shop, seal_and_prove

ARRIVED = dt.datetime(2026, 1, 31, 23, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("layout", "name", "slot"),
    [
        (names.CONFLUENT, "partition=12/shop.orders+12+0000000042.json", Slot("2026-01-31", 12, 42, 0)),
        (names.CONFLUENT, "partition=1/o+2+0.json", None),
        (
            names.CONFLUENT_DAILY,
            "year=2026/month=01/day=30/hour=23/o+3+0000000007.snappy.parquet",
            Slot("2026-01-30", 3, 7, 0),
        ),
        (names.CONFLUENT_DAILY, "year=2026/month=01/day=30/o+3+7.json.gz", Slot("2026-01-30", 3, 7, 0)),
        (names.CONFLUENT_HOURLY, "year=2026/month=01/day=30/hour=05/o+3+7.json", Slot("2026-01-30T05", 3, 7, 0)),
        (names.CONFLUENT_FIELDS, "country=DE/shop=2/o+0+9.avro", Slot("2026-01-31", 0, 9, 0)),
        (names.AIVEN, "shop-orders-4-11.gz", Slot("2026-01-31", 4, 11, 0)),
        (names.AIVEN, "shop-orders.gz", None),
        (names.LENSES, "orders(5_00000099).json", Slot("2026-01-31", 5, 99, 1)),
        (names.LENSES, "orders/5/99.json", Slot("2026-01-31", 5, 99, 0)),
        (names.FIREHOSE, "2026/01/30/05/stream-1-2026-01-30-05-00-00-uuid", Slot("2026-01-30T05", None, None, 0)),
        (names.FIREHOSE_DAILY, "2026/01/30/05/stream-1-x.gz", Slot("2026-01-30", None, None, 0)),
        (names.DMS, "LOAD0000000A.csv", Slot("2026-01-31", None, None, 0)),
        (names.DMS, "20260130-123456789.csv", Slot("2026-01-30", None, None, 1)),
        (Names("{any}/d={date}/{partition}-{offset}"), "x/d=2026-01-30/07-3", Slot("2026-01-30", 7, 3, 0)),
        (Names("{any}", arrival="hour"), "a.json", Slot("2026-01-31T23", None, None, 0)),
    ],
)
def test_a_name_says_key_log_partition_and_offset(layout: Names, name: str, slot: Slot | None) -> None:
    assert layout.slot(name, ARRIVED) == slot


def test_without_the_time_of_arrival_the_log_partition_is_known_and_the_key_is_none_of_a_cadence() -> None:
    slot = names.AIVEN.slot("o-4-11")
    assert slot == Slot(names.UNKNOWN_ARRIVAL, 4, 11, 0)
    assert not Daily().is_key(slot.folder)


def test_faults_of_templates_are_all_named() -> None:
    with pytest.raises(DeclarationError) as failure:
        Names("{topic}", "{year}-{any}", "{when}/{date}", "{", "{hour}", arrival="week")
    assert len(failure.value.faults) == 5
    with pytest.raises(DeclarationError, match="arrival='day'"):
        Names("{topic}-{partition}")


def listed(store: ObjectStore, layout: Layout) -> tuple[list[str], dict[str, Skip]]:
    landing = list_landing(store, "t", (".json",), layout, folder="in")
    return [item.name[3:] for item in landing.objects], {each.info.name[3:]: each.reason for each in landing.skipped}


def test_objects_are_ordered_by_offset_as_a_number_whatever_folder_they_are_in() -> None:
    """Where records decide the folder, a later hour may begin at a lower offset."""
    store = ObjectStore.open("memory://")
    for name in ("hour=05/o+0+100.json", "hour=06/o+0+20.json", "hour=05/o+1+3.json", "hour=07/o+0+9.json"):
        store.put(f"in/year=2026/month=01/day=30/{name}", b"{}\n")
    ordered, _ = listed(store, names.CONFLUENT_DAILY)
    assert [name.rpartition("+")[2] for name in ordered if "+0+" in name] == ["9.json", "20.json", "100.json"]


def test_patterns_choose_one_of_several_topics_in_a_folder() -> None:
    store = ObjectStore.open("memory://")
    for name in ("orders-0-0.json", "orders-0-5.json", "stock-0-0.json", "orders-1-0.tmp.json", ".hidden-0-0.json"):
        store.put(f"in/{name}", b"{}\n")
    layout = Names("{topic}-{partition}-{offset}", arrival="day", include=("orders-*",), exclude=("*.tmp.json",))
    ordered, skipped = listed(store, layout)
    assert ordered == ["orders-0-0.json", "orders-0-5.json"]
    assert {*skipped.values()} == {Skip.EXCLUDED}
    assert len(skipped) == 3
    store.put("in/dt=2026-01-30/a.json", b"{}\n")
    store.put("in/dt=2026-01-30/b.json", b"{}\n")
    assert listed(store, Folders(include=("dt=*",), exclude=("*b.json",)))[0] == ["dt=2026-01-30/a.json"]


def test_keys_of_tombstones_without_values_are_refused() -> None:
    store = ObjectStore.open("memory://")
    store.put("in/o/tombstone/o+0+3.keys.json", b"{}\n")
    with pytest.raises(RefusedLanding, match="deletes whose order is unknown"):
        listed(store, names.CONFLUENT_FIELDS)


ORDERS = Log(
    "orders",
    key="id",
    event_id="seq",
    columns={"seq": int64(), "id": text(), "status": text()},
    partitions=2,
    landing="topics/shop.public.orders",
)

LAYOUTS = {
    "confluent": (names.CONFLUENT, "partition={p}/shop.public.orders+{p}+{o}.json"),
    "confluent-daily": (names.CONFLUENT_DAILY, "year=2026/month=01/day={d}/hour={h}/shop.public.orders+{p}+{o}.json"),
    "confluent-fields": (names.CONFLUENT_FIELDS, "country=DE/shop.public.orders+{p}+{o}.json"),
    "aiven": (names.AIVEN, "shop.public.orders-{p}-{o}.json"),
    "lenses": (names.LENSES, "shop.public.orders({p}_{o}).json"),
    "firehose": (names.FIREHOSE_DAILY, "2026/01/{d}/{h}/orders-{p}-{o:>05}.json"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_log_is_sealed_in_the_order_of_its_offsets_from_each_layout(kind: str, tmp_path: Path) -> None:
    """Two days of two log partitions, 3 records an object from offset 0 on, 9 and 12 sort against their texts."""
    layout, pattern = LAYOUTS[kind]
    log = replace(ORDERS, layout=layout)
    store = latest_by_key(log, "status", version=1, columns={"status": text()})
    shop = Shop(tmp_path, Project("buckets", Daily(dt.date(2026, 1, 30)), [store]))
    newest = {}
    for partition in (0, 1):
        for offset in range(0, 24, 3):
            day = 30 + (offset >= 12)
            name = pattern.format(p=partition, o=offset, d=day, h=f"{offset % 12:02}")
            path = shop.landing / "topics" / "shop.public.orders" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [
                {"seq": 100 * partition + o, "id": f"{partition}{o % 2}", "status": f"s{o}"}
                for o in range(offset, offset + 3)
            ]
            newest |= {row["id"]: row["status"] for row in rows}
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            written_at = dt.datetime(2026, 1, day, 12, tzinfo=dt.UTC).timestamp()
            os.utime(path, (written_at, written_at))
    seal_and_prove(shop.engine())
    engine = shop.engine()
    assert [snapshot.events for snapshot in engine.chain] == [24, 24]
    assert {row["id"]: row["status"] for row in engine.rows(store, engine.chain.get()).to_pylist()} == newest
    assert newest == {"00": "s22", "01": "s23", "10": "s22", "11": "s23"}


def test_the_full_load_of_dms_comes_before_its_changes(tmp_path: Path) -> None:
    log = replace(ORDERS, layout=names.DMS, landing="public/orders", partitions=1)
    store = latest_by_key(log, "status", version=1, columns={"status": text()})
    shop = Shop(tmp_path, Project("buckets", Daily(dt.date(2026, 1, 30)), [store]))
    folder = shop.landing / "public" / "orders"
    folder.mkdir(parents=True)
    for name, seq, status in (("20260130-110000000", 2, "new"), ("LOAD00000001", 1, "old")):
        path = folder / f"{name}.json"
        path.write_text(json.dumps({"seq": seq, "id": "a", "status": status}) + "\n")
        os.utime(path, (ARRIVED.timestamp() - 86400,) * 2)
    seal_and_prove(shop.engine())
    engine = shop.engine()
    assert [row["status"] for row in engine.rows(store, engine.chain.get()).to_pylist()] == ["new"]


def test_a_cadence_needs_names_of_its_keys() -> None:
    store = latest_by_key(replace(ORDERS, layout=names.FIREHOSE), "status", version=1, columns={"status": text()})
    with pytest.raises(DeclarationError, match="YYYY/MM/DD/HH/<any>, are not those of a cadence"):
        Project("buckets", Daily(dt.date(2026, 1, 30)), [store])
    Project("buckets", Hourly(dt.datetime(2026, 1, 30, tzinfo=dt.UTC)), [store])


def test_hive_folders_of_a_public_report(shared_data: Path) -> None:
    folder = shared_data / "field" / "hive_folders" / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    landing = list_landing(ObjectStore.open(str(folder)), "moves", (".json",), names.CONFLUENT_DAILY)
    assert [(item.folder, item.partition, item.offset) for item in landing.objects] == [("2017-06-07", 0, 0)]


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (names.CONFLUENT_DAILY, "year=2026/month=01/day=30/_temporary/0/t+3+17.json"),
        (names.CONFLUENT_FIELDS, ".staging/t+3+17.json"),
        (names.CONFLUENT_FIELDS, "_tmp/country=DE/t+3+17.json"),
        (names.AIVEN, ".t-3-17.json"),
        (names.AIVEN, "t-3-17.json._COPYING_"),
        (names.FIREHOSE_DAILY, "2026/01/30/05/_committed_1.json"),
    ],
)
def test_what_is_hidden_or_unfinished_is_not_data_though_a_template_fits(layout: Names, name: str) -> None:
    store = ObjectStore.open("memory://")
    store.put(f"in/{name}", b"{}\n")
    assert listed(store, layout) == ([], {name: Skip.HIDDEN})


def test_what_a_template_spells_is_not_hidden() -> None:
    store = ObjectStore.open("memory://")
    store.put("in/_out/_orders-0-7.json", b"{}\n")
    assert listed(store, Names("_out/_orders-{partition}-{offset}", arrival="day"))[0] == ["_out/_orders-0-7.json"]
