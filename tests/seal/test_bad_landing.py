"""What cannot be taken in is refused by name, with a remedy, and never sealed by halves."""

from __future__ import annotations

import datetime as dt
import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from assets.logs import stock_events
from assets.stock import stock
from refold import Daily, Log, Project, QuarantineLimits, fold, int64, latest_by_key, text
from refold.engine import Engine
from refold.errors import ChangedObject, FixInput, NotFound, RuleError, UnreadableObject, UnsettledObject
from refold.rebuild import rebuild_all
from tests.seal.sealing import GOOD, ids, ids_of, refused, sealed, with_log
from tests.support import Shop, digests, levels, line, moved

WHOLE = gzip.compress(line(moved("2", "lamp", 7)) * 50, mtime=0)
UNREADABLE: dict[str, tuple[str, bytes]] = {
    "a gzip cut off": ("b.jsonl.gz", WHOLE[:-9]),
    "a gzip cut off in its header": ("b.jsonl.gz", WHOLE[:5]),
    "half a header under a plain name": ("b.jsonl", WHOLE[:5]),
    "a damaged gzip": ("b.jsonl.gz", WHOLE[:30] + bytes([WHOLE[30] ^ 255]) + WHOLE[31:]),
    "a wrong checksum": ("b.jsonl.gz", WHOLE[:-8] + bytes(4) + WHOLE[-4:]),
    "neither text nor gzip under a gzip name": ("b.jsonl.gz", b"{" + WHOLE[1:]),
    "a gzip cut off under a plain name": ("b.jsonl", WHOLE[:-9]),
}


@pytest.mark.parametrize(("name", "data"), UNREADABLE.values(), ids=list(UNREADABLE))
def test_an_object_that_cannot_be_read_stops_its_snapshot_until_it_is_repaired(
    shop: Shop, tmp_path: Path, name: str, data: bytes
):
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5))
    sealed(shop)
    shop.land("dt=2026-01-02/a.jsonl", moved("3", "lamp", 1))
    broken = shop.land(f"dt=2026-01-02/{name}")
    broken.write_bytes(data)
    refused(shop, UnreadableObject, f"stock_events/dt=2026-01-02/{name}")
    broken.unlink()
    shop.land("dt=2026-01-02/b.jsonl.gz", moved("2", "lamp", 7))
    sealed(shop)
    assert ids(shop) == ids_of(tmp_path / "other", shop.landing)


def test_empty_plain_objects_hold_no_records(shop: Shop):
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5))
    shop.land("dt=2026-01-01/empty.jsonl")
    shop.land("dt=2026-01-01/nothing.jsonl.gz")
    (report,) = sealed(shop)
    assert [o.records for o in report.snapshot.logs["stock_events"].objects] == [1, 0, 0]


def test_empty_objects_and_gzip_under_any_name_are_read(shop: Shop):
    folder = shop.landing / "stock_events" / "dt=2026-01-01"
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5)).rename(folder / "b.jsonl.gz")
    shop.land("dt=2026-01-01/c.jsonl.gz", moved("2", "lamp", 5)).rename(folder / "d.json")
    (folder / "e.jsonl.gz").write_bytes(b"")
    (report,) = sealed(shop)
    assert [o.records for o in report.snapshot.logs["stock_events"].objects] == [1, 1, 0]


def test_a_quarantined_record_that_begins_like_gzip_is_not_retried(shop: Shop):
    shop = with_log(shop, quarantine=QuarantineLimits(share_max=1.0))
    shop.land("dt=2026-01-01/a.jsonl", GOOD, b"\x1f\x8b\x08\0", b"oops")
    assert sealed(shop)[0].snapshot.logs["stock_events"].quarantined == 2
    assert shop.engine().retry_quarantine() == {"stock_events": []}


def test_a_changed_object_is_refused_with_both_hashes_and_what_was_sealed_stands(shop: Shop):
    path = shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5))
    (report,) = sealed(shop)
    sha256 = report.snapshot.logs["stock_events"].objects[0].sha256
    whole = path.read_bytes()
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 6))
    shop.land("dt=2026-01-02/a.jsonl", moved("2", "lamp", 1))
    error = refused(shop, ChangedObject, "stock_events/dt=2026-01-01/a.jsonl", sha256)
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", str(error)))) == 2
    path.write_bytes(whole)  # restored, with another time of change
    assert [report.snapshot.key for report in sealed(shop)] == ["2026-01-02"]


def test_a_vanished_object_is_reported_and_what_was_sealed_stands(shop: Shop):
    path = shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5))
    sealed(shop)
    path.unlink()
    shop.land("dt=2026-01-02/a.jsonl", moved("2", "lamp", 1))
    (report,) = sealed(shop)
    assert report.vanished == ["stock_events/dt=2026-01-01/a.jsonl"]
    rebuild_all(shop.engine())
    assert levels(shop.engine()) == {"lamp": 6}


def test_an_object_that_is_gone_after_its_declared_age_is_not_reported(shop: Shop):
    """What expires is counted by the days of snapshots: on the third day the first is two days old."""
    shop = with_log(shop, expires_after=dt.timedelta(days=2))
    paths = [shop.land(f"dt=2026-01-0{day}/a.jsonl", moved(str(day), "lamp", 5)) for day in (1, 2)]
    sealed(shop)
    for path in paths:
        path.unlink()
    shop.land("dt=2026-01-03/a.jsonl", moved("3", "lamp", 1))
    (report,) = sealed(shop)
    assert report.vanished == ["stock_events/dt=2026-01-02/a.jsonl"]


@pytest.mark.parametrize(
    "name",
    ["dt=2026-01-01/a.csv", "dt=2026-01-01/a", "dt=2026-1-1/a.jsonl", "dt=2026-01-01x/a.jsonl", "stray/x/a.jsonl"],
)
def test_an_object_that_cannot_be_taken_is_refused_by_name(shop: Shop, name: str):
    shop.land("dt=2026-01-01/good.jsonl", GOOD)
    shop.land(f"stock_events/{name}", "x")
    refused(shop, FixInput, f"stock_events/{name}", "dt=YYYY-MM-DD")


def test_an_object_beside_the_folders_of_days_is_refused_by_name(shop: Shop):
    shop.land("dt=2026-01-01/good.jsonl", GOOD)
    (shop.landing / "stock_events" / "a.jsonl").write_bytes(line(GOOD))
    refused(shop, FixInput, "stock_events/a.jsonl")


def test_markers_and_hidden_objects_are_no_data(shop: Shop):
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    shop.land("dt=2026-01-01/_SUCCESS")
    shop.land("dt=2026-01-01/.a.jsonl.crc", "x")
    (report,) = sealed(shop)
    assert report.snapshot.logs["stock_events"].read == 1


def test_a_landing_that_is_not_there_is_refused_by_its_path(shop: Shop):
    with pytest.raises(NotFound, match=str(shop.landing)) as failure:
        rebuild_all(shop.engine())
    assert failure.value.remedy
    shop.landing.mkdir()
    with pytest.raises(NotFound, match="holds no data"):
        rebuild_all(shop.engine())


def test_a_partition_that_the_log_does_not_have_is_refused_by_name(shop: Shop):
    shop.land("stock_events/dt=2026-01-01/partition=4/a.jsonl", GOOD)
    refused(shop, FixInput, "partition=4/a.jsonl", "has 4")


def test_another_declaration_than_the_sealed_one_is_refused(shop: Shop):
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    sealed(shop)
    for changes, says in (
        ({"columns": dict(stock_events.columns) | {"note": text()}}, "'note' was added"),
        ({"partitions": 8}, "sealed with 4 log partitions and is declared with 8"),
    ):
        with pytest.raises(FixInput, match="stock_events") as failure:
            sealed(with_log(shop, **changes))
        assert says in str(failure.value)


def test_a_log_declared_later_begins_with_the_next_snapshot_and_what_was_sealed_stands(shop: Shop):
    orders = Log("orders", key="shop", event_id="n", columns={"n": int64(), "shop": text()})
    last = latest_by_key(orders, "last_orders", version=1, columns={"n": int64()})
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    rebuild_all(shop.engine())
    before = ids(shop)
    more = shop.declared(stores=[stock, last])
    more.land("orders/dt=2026-01-01/a.jsonl", {"n": 1, "shop": "Graz"})
    more.land("orders/dt=2026-01-02/a.jsonl", {"n": 2, "shop": "Graz"}, {"n": 1, "shop": "Graz"})
    head = rebuild_all(more.engine())
    engine = more.engine()
    assert ids(more).items() >= before.items()
    assert {name: cut.seq_end for name, cut in head.logs.items()} == {"stock_events": 1, "orders": 3}
    assert [row["n"] for row in engine.rows(last, head).to_pylist()] == [2]
    assert levels(engine) == {"lamp": 5}
    for log in more.project.logs:
        assert [f for _, found in engine.verify_log(log.name, head) for f in found] == []


def test_a_snapshot_that_was_refused_leaves_nothing_that_counts(shop: Shop, tmp_path: Path):
    """A later key fails; those before it are sealed, whole, and a rerun after repair adds the rest."""
    for day in (1, 2, 3):
        shop.land(f"dt=2026-01-0{day}/a.jsonl", moved(str(day), "lamp", day))
    broken = shop.land("dt=2026-01-03/b.jsonl.gz")
    broken.write_bytes(b"\x1f\x8b")
    with pytest.raises(UnreadableObject):
        rebuild_all(shop.engine())
    assert sorted(ids(shop)) == ["2026-01-01", "2026-01-02"]
    assert shop.engine().releaser.current() is None
    broken.unlink()
    rebuild_all(shop.engine())
    assert ids(shop) == ids_of(tmp_path / "other", shop.landing)
    assert levels(shop.engine()) == {"lamp": 6}
    assert len(digests(shop.engine())) == 3


class Share(NamedTuple):
    share: int = 0


@fold(stock_events, version=1)
def shares(row: Share, event):
    """A rule that cannot take every event that the log may hold."""
    return row._replace(share=100 // (event.quantity - 7))


def test_a_rule_that_fails_names_the_event_and_the_state_before_it_stays(tmp_path: Path):
    shop = Shop(tmp_path, Project("shares", Daily(dt.date(2026, 1, 1)), [shares]))
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 8))
    shop.land("dt=2026-01-02/a.jsonl", moved("2", "lamp", 9), moved("3", "lamp", 7), moved("4", "lamp", 8))
    with pytest.raises(
        RuleError,
        match=r"'shares' failed at log partition 0, offset 2 \(log_seq 2, product_id 'lamp', landing .*a.jsonl:2\)",
    ):
        rebuild_all(shop.engine())
    engine = shop.engine()
    assert [engine.builder.find(shares, snapshot) is not None for snapshot in engine.chain] == [True, False]
    assert engine.rows(shares, engine.chain.get("2026-01-01")).to_pylist()[0]["share"] == 100
    assert engine.releaser.current() is None


Refusal = Callable[[Engine], object]
REFUSALS: dict[str, tuple[Refusal, str]] = {
    "a key that is no day": (lambda engine: list(engine.sealing.seal("today")), "'today'"),
    "a key before the first": (lambda engine: list(engine.sealing.seal("2020-01-01")), "2020-01-01"),
    "a snapshot that is not there": (lambda engine: engine.chain.get("2026-01-09"), "2026-01-09"),
    "a store that is not there": (lambda engine: engine.project.store("stocks"), "'stocks'"),
    "a log that is not there": (lambda engine: engine.project.log("stocks"), "'stocks'"),
}


@pytest.mark.parametrize(("ask", "says"), REFUSALS.values(), ids=list(REFUSALS))
def test_asking_for_what_is_not_there_is_answered_by_name(shop: Shop, ask: Refusal, says: str):
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    sealed(shop)
    with pytest.raises(FixInput, match=says):
        ask(shop.engine())


def test_an_object_that_is_listed_and_gone_is_named(shop: Shop):
    """Object stores list a key that ends in a slash without it, and then do not find it."""
    shop.land("dt=2026-01-01/a.jsonl", GOOD)
    sealer = shop.engine().sealing.sealer()
    (shop.landing / "stock_events/dt=2026-01-01/a.jsonl").unlink()
    with pytest.raises(UnsettledObject, match=r"listed the object stock_events/dt=2026-01-01/a\.jsonl.*ends in '/'"):
        list(sealer.seal(["2026-01-01"]))
