"""Which objects in landing are data, and in which order they are sealed."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assets.logs import stock_events
from assets.stock import stock
from refold.errors import ChangedObject, FixInput
from refold.landing.layout import Folders, Skip, landing_order
from refold.landing.listing import list_landing
from refold.plan.history import history_ahead
from refold.storage.objects import ObjectStore
from tests.s3 import BUCKET, KEYS, Proxy, s3, s3_address  # noqa: F401  # the last two are fixtures
from tests.seal.sealing import GOOD, STOCK_ONLY, refused, sealed
from tests.support import Shop, line, moved

DAY = "dt=2026-01-01"
PROJECT = STOCK_ONLY
"""What `refold log skipped` opens."""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, STOCK_ONLY)


def found(*names: str, empty: Sequence[str] = (), layout: Folders = Folders()) -> tuple[list[str], dict[str, Skip]]:  # noqa: B008
    """The data and the skipped objects among objects of some names, all without the folder of the log."""
    store = ObjectStore.open("memory://")
    for name in (*names, *empty):
        store.put(f"t/{name}", b"" if name in empty else b"{}\n")
    landing = list_landing(store, "t", (".json", ".json.gz"), layout)
    return [item.name[2:] for item in landing.objects], {each.info.name[2:]: each.reason for each in landing.skipped}


@pytest.mark.parametrize(
    "name",
    [
        f"{DAY}/_temporary/0/task/a.json",
        f"{DAY}/.hive-staging_hive_2026/-ext-10000/000000_0.json",
        f"{DAY}/_tmp/a.json",
        f"{DAY}/.x/a.json",
        f"_spark_metadata/{DAY}/a.json",
        f".stage/{DAY}/a.json",
        f"{DAY}/partition=0/_x/a.json",
        f"{DAY}/_a.json",
        f"{DAY}/.a.json.crc",
        f"{DAY}/a.json._COPYING_",
        f"{DAY}/_committed_123",
        "_delta_log/00000000000000000000.json",
    ],
)
def test_what_is_hidden_is_not_data_and_is_named(name: str) -> None:
    assert found(f"{DAY}/a.json", name) == ([f"{DAY}/a.json"], {name: Skip.HIDDEN})


@pytest.mark.parametrize(
    "name", [f"{DAY}/a_b.json", f"{DAY}/x.y/a.json", f"{DAY}/_region=eu/a.json", f"-/{DAY}/-.json"]
)
def test_a_name_that_only_looks_hidden_is_data(name: str) -> None:
    assert found(name) == ([name], {})


def test_a_folder_of_the_template_is_not_hidden() -> None:
    layout = Folders("_daily/.day={date}")
    name = "_daily/.day=2026-01-01/a.json"
    assert found(name, layout=layout) == ([name], {})
    below = name.replace("/a.json", "/_x/a.json")
    assert found(below, layout=layout) == ([], {below: Skip.HIDDEN})


@pytest.mark.parametrize(
    "name", [f"{DAY}_$folder$", f"{DAY}/partition=0_$folder$", DAY, f"{DAY}/partition=0", "empty", f"{DAY}/a.csv"]
)
def test_an_object_without_bytes_whose_name_is_not_that_of_data_is_a_marker(name: str) -> None:
    """Object stores list the object `name/` as `name`."""
    assert found(f"{DAY}/a.json", empty=[name]) == ([f"{DAY}/a.json"], {name: Skip.MARKER})


def test_the_marker_of_a_folder_that_is_named_like_data_is_not_data() -> None:
    assert found(f"{DAY}/out.json/a.json", empty=[f"{DAY}/out.json"])[1] == {f"{DAY}/out.json": Skip.MARKER}
    assert found(empty=[f"{DAY}/a.json"]) == ([f"{DAY}/a.json"], {})


@pytest.mark.parametrize(
    "sidecar", ["keys.json", "headers.json", "keys.json.gz", "keys.avro", "headers.snappy.parquet"]
)
def test_kafka_keys_and_headers_beside_values_are_not_data(sidecar: str) -> None:
    name = f"{DAY}/t+0+0000000000.{sidecar}"
    assert found(f"{DAY}/t+0+0000000000.json.gz", name)[1] == {name: Skip.SIDECAR}


def test_kafka_keys_without_values_are_refused_by_name_with_all_else_that_is_not_taken() -> None:
    alone = f"{DAY}/t+0+0000000000.keys.json"
    with pytest.raises(FixInput, match=r"stray\.csv.*\n.*0000000000\.keys\.json") as failure:
        found(f"{DAY}/t+0+0000000009.json", alone, f"{DAY}/stray.csv")
    assert "deletes whose order is unknown" in str(failure.value)
    assert found(f"{DAY}/door.keys.json") == ([f"{DAY}/door.keys.json"], {})


def test_only_a_marker_right_in_the_folder_of_a_day_completes_it() -> None:
    """One in the folder of an hour or a region marks that part, and the others may still be written."""
    store = ObjectStore.open("memory://")
    whole = "t/dt=2026-01-01/_SUCCESS"
    parts = [f"t/dt=2026-01-{name}/_SUCCESS" for name in ("02/_temporary", "03/hour=1", "05/partition=0")]
    parts += ["t/_SUCCESS", "t/region=eu/dt=2026-01-04/_SUCCESS"]
    for name in (whole, *parts):
        store.put(name, b"")
    landing = list_landing(store, "t", (".json",))
    assert landing.marked == {"2026-01-01"}
    assert [each.info.name for each in landing.skipped] == sorted(parts)


offsets = st.integers(0, 2**63 - 1) | st.integers(0, 1200)
styles = st.sampled_from(
    ["{0}+{1}+{2}.json", "{0}-{1}-{2}.json.gz", "{0}_{1}_{2}.json", "{0}({1}_{2}).json", "{0}-{1}-{2}"]
)
topics = st.sampled_from(["t", "orders.v2", "a-1-2", "x_9", "+", "naïve"])


@given(styles, topics, st.integers(0, 12), st.lists(offsets, min_size=2, unique=True), st.sampled_from([1, 5, 10]))
def test_objects_of_one_log_partition_are_in_the_order_of_their_offsets(
    style: str, topic: str, partition: int, starts: list[int], digits: int
) -> None:
    names = [f"t/{DAY}/" + style.format(topic, partition, str(start).zfill(digits)) for start in starts]
    by_number = [name for _, name in sorted(zip(starts, names, strict=True))]
    assert sorted(names, key=landing_order) == by_number


days = st.sampled_from([DAY, "dt=2026-01-02", f"{DAY}/hour=07", f"{DAY}/hour=11"])
padded = st.one_of(
    st.builds("t/{}/{}+{}+{:010}.json".format, days, topics, st.integers(0, 9), st.integers(0, 10**10 - 1)),
    st.builds("t/{}/part-{:05}.jsonl.gz".format, days, st.integers(0, 99_999)),
    st.builds("t/partition={}/{}/{:08}.json".format, st.integers(0, 12), days, st.integers(0, 10**8 - 1)),
    st.uuids().map(lambda one: f"t/{DAY}/part-00000-{one}-c000.json"),
    st.dates(dt.date(1000, 1, 1)).map(lambda day: f"t/year={day:%Y}/month={day:%m}/day={day:%d}/events-{day}.json"),
)


@given(st.lists(padded, max_size=30, unique=True))
@example([f"t/{DAY}/part-{n:05}.jsonl.gz" for n in (9, 10, 99, 100)])
def test_names_with_padded_numbers_keep_the_order_of_their_bytes(names: list[str]) -> None:
    assert sorted(names, key=landing_order) == sorted(names, key=str.encode)


def test_unpadded_folders_of_hours_are_in_the_order_of_the_hours_and_log_partitions_as_they_were() -> None:
    hours = [f"t/{DAY}/hour={hour}/t-0-{hour * 7}.json" for hour in range(24)]
    assert sorted(sorted(hours), key=landing_order) == hours
    partitions = [f"t/{DAY}/partition={p}/a.json" for p in range(12)]
    assert sorted(partitions, key=landing_order) == sorted(partitions)


def test_names_of_equal_numbers_are_in_the_order_of_their_bytes() -> None:
    names = [f"t/{DAY}/t-0-{number}.json" for number in ("010", "0010", "10", "9", "00009")]
    assert [name[len(f"t/{DAY}/t-0-") : -5] for name in sorted(names, key=landing_order)] == [
        "00009", "9", "0010", "010", "10",
    ]  # fmt: skip


def test_objects_are_sealed_planned_and_retried_in_the_order_of_their_offsets(shop: Shop) -> None:
    """A retry reads the records in the order in which they were quarantined."""
    starts = [8, 9, 10, 11, 100]
    for start in random.Random(7).sample(starts, len(starts)):
        shop.land(f"{DAY}/t-0-{start}.jsonl", moved(f"e{start}", "lamp", 1), {"event_id": f"bad{start}"})
    lenient = shop.declared(
        stores=[replace(stock, log=replace(stock_events, quarantine=replace(stock_events.quarantine, share_max=1.0)))]
    )
    names = [f"stock_events/{DAY}/t-0-{start}.jsonl" for start in starts]
    (day,) = history_ahead(lenient.engine()).days
    assert [item.name for item in day.logs["stock_events"].objects] == names
    (report,) = sealed(lenient)
    assert [item.name for item in report.snapshot.logs["stock_events"].objects] == names
    assert [item.object for item in lenient.engine().quarantine()] == names


@dataclass(frozen=True)
class TakesAll(Folders):
    """Takes hidden objects as data too."""

    def skip(self, name: str) -> Skip | None:
        return Skip.HIDDEN if name.endswith("_SUCCESS") else None


def test_a_sealed_object_that_is_skipped_today_has_not_vanished_and_may_not_change(shop: Shop) -> None:
    shop.land(f"{DAY}/a.jsonl", GOOD)
    hidden = shop.land(f"stock_events/{DAY}/_tmp/a.jsonl", moved("hidden", "lamp", 1))
    takes_all = shop.declared(stores=[replace(stock, log=replace(stock_events, layout=TakesAll()))])
    assert sealed(takes_all)[0].snapshot.events == 2
    shop.land("dt=2026-01-02/a.jsonl", moved("later", "lamp", 1))
    (report,) = sealed(shop)
    assert (report.vanished, report.snapshot.events, report.snapshot.events_through) == ([], 1, 3)
    assert [each.info.name for each in report.skipped] == [f"stock_events/{DAY}/_tmp/a.jsonl"]
    hidden.write_bytes(line(moved("hidden", "lamp", 7)))
    shop.land("dt=2026-01-03/a.jsonl", moved("last", "lamp", 1))
    refused(shop, ChangedObject, "_tmp/a.jsonl")
    hidden.unlink()
    assert sealed(shop)[0].vanished == [f"stock_events/{DAY}/_tmp/a.jsonl"]


def test_skipped_objects_are_listed(shop: Shop, tmp_path: Path) -> None:
    shop.land(f"{DAY}/a.jsonl", GOOD)
    shop.land(f"stock_events/{DAY}/_tmp/a.jsonl", GOOD)
    (tmp_path / "pyproject.toml").write_text(f'[tool.refold]\nproject = "{__name__}:PROJECT"\n')
    result = shop.refold("log", "skipped", "stock_events", project=tmp_path)
    assert result.exit_code == 0, result.output
    assert f"stock_events/{DAY}/_tmp/a.jsonl" in result.stdout
    assert "hidden" in result.stdout


def put_signed(address: str, key: str, data: bytes) -> None:
    """Write an object under a key that obstore cannot write, such as one that ends in a slash."""
    host, path = address.removeprefix("http://"), f"/{BUCKET}/{quote(key)}"
    moment = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    scope, sha256 = f"{moment[:8]}/us-east-1/s3/aws4_request", hashlib.sha256(data).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": sha256, "x-amz-date": moment}
    signed = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = hashlib.sha256(f"PUT\n{path}\n\n{lines}\n{signed}\n{sha256}".encode()).hexdigest()
    key_bytes = f"AWS4{KEYS['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{request}"):
        key_bytes = hmac.new(key_bytes, part.encode(), hashlib.sha256).digest()
    credential = f"Credential={KEYS['AWS_ACCESS_KEY_ID']}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={signed}, Signature={key_bytes.hex()}"
    connection = HTTPConnection(host)
    connection.request("PUT", path, data, headers)
    assert connection.getresponse().status == 200


def test_markers_of_folders_in_s3_are_skipped(s3: Proxy, s3_address: str) -> None:  # noqa: F811
    for key in (f"t/{DAY}/", f"t/{DAY}/out.json/", "t/empty/"):
        put_signed(s3_address, f"markers/{key}", b"")
    store = ObjectStore.open(f"s3://{BUCKET}/markers")
    store.put(f"t/{DAY}/out.json/a.json", b"{}\n")
    landing = list_landing(store, "t", (".json",))
    assert [item.name for item in landing.objects] == [f"t/{DAY}/out.json/a.json"]
    assert {each.info.name: each.reason for each in landing.skipped} == dict.fromkeys(
        [f"t/{DAY}", f"t/{DAY}/out.json", "t/empty"], Skip.MARKER
    )
