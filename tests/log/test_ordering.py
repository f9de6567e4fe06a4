"""Deliveries are compared with the numbers that their producers gave them, and refused where they are too late."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import Daily, Late, Log, Numbered, Project, int64, latest_by_key, text, timestamp, version_vector
from refold.errors import DeclarationError, FixInput, RefusedLanding
from refold.log.ordering import OrderFault, _Producer
from tests.dagster.house import House
from tests.support import Shop

log = Log(
    "tills",
    key="k",
    event_id="id",
    columns={"id": int64(), "k": text(), "till": text(), "n": int64()},
    numbered=Numbered("till", "n"),
)
PROJECT = Project("tills", Daily(dt.date(2026, 1, 1)), [latest_by_key(log, "last", version=1, columns={"n": int64()})])


def landed(root: Path, days: Mapping[str, Sequence[tuple[str, int]]]) -> Shop:
    """Tills and numbers by day, in the order of delivery."""
    shop, number = Shop(root, PROJECT), 0
    for key, deliveries in days.items():
        lines = []
        for till, n in deliveries:
            number += 1
            lines.append(json.dumps({"id": number, "k": str(number % 7), "till": till, "n": n}) + "\n")
        folder = shop.landing / "tills" / f"dt={key}"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text("".join(lines))
    return shop


def sealed(shop: Shop) -> Shop:
    for _ in shop.engine().sealing.seal():
        pass
    return shop


def test_each_fault_is_found_with_its_place(tmp_path: Path):
    second = [("a", 3), ("b", 2), ("a", 5), ("c", 2)]
    days = {"2026-01-01": [("a", 1), ("b", 1), ("a", 2), ("a", 5)], "2026-01-02": second}
    engine = sealed(landed(tmp_path, days)).engine()
    found = engine.order_check("tills").through(engine.chain.get())
    assert [(f.fault, f.snapshot, f.producer, f.first, f.last) for f in found] == [
        (OrderFault.OUT_OF_ORDER, "2026-01-02", "a", 3, 3),
        (OrderFault.REPEATED, "2026-01-02", "a", 5, 5),
        (OrderFault.MISSING, "2026-01-01", "a", 4, 4),
        (OrderFault.MISSING, "2026-01-02", "c", 1, 1),
    ]
    assert found[0].where.endswith("(tills/dt=2026-01-02/a.jsonl record 1)")
    assert found[0].where.startswith("log partition ")
    assert "skipped at log partition" in str(found[2]) and found[2].where.endswith("a.jsonl record 4)")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=20))
def test_numbers_are_followed_as_a_set_would(numbers):
    """The reference keeps every number that was delivered."""
    producer, seen, high = _Producer(1), set[int](), 0
    for number in numbers:
        if number >= producer.next:
            assert number > high
            producer.skip(number, "s", "w")
        else:
            assert producer.fill(number) == (number not in seen)
        seen.add(number)
        high = max(high, number)
        missing = {n for first, (last, _, _) in producer.gaps.items() for n in range(first, last + 1)}
        assert missing == set(range(1, high)) - seen


def test_counters_of_version_vectors_count_by_key(tmp_path: Path):
    vectors = Log(
        "writes", key="k", event_id="id", columns={"id": int64(), "k": text(), "node": text(), "v": version_vector()},
        numbered=Numbered("node", "v"),
    )  # fmt: skip
    store = latest_by_key(vectors, "last", version=1, columns={"node": text()})
    shop = Shop(tmp_path, Project("p", Daily(dt.date(2026, 1, 1)), [store]))
    rows = [(1, "x", "a", {"a": 1}), (2, "y", "a", {"a": 2}), (3, "x", "b", {"a": 1, "b": 1}), (4, "y", "a", {"a": 1})]
    folder = shop.landing / "writes" / "dt=2026-01-01"
    folder.mkdir(parents=True)
    lines = [json.dumps(dict(zip(("id", "k", "node", "v"), row, strict=True))) + "\n" for row in rows]
    (folder / "a.jsonl").write_text("".join(lines))
    engine = sealed(shop).engine()
    (finding,) = engine.order_check("writes").through(engine.chain.get())
    assert (finding.fault, finding.producer, finding.first) == (OrderFault.OUT_OF_ORDER, "a of 'y'", 1)


def test_the_command_and_the_check_show_it(tmp_path: Path):
    shop = landed(tmp_path / "shop", {"2026-01-01": [("a", 1), ("a", 3)]})
    house = House(shop)
    rebuilt = house.rebuild()
    assert rebuilt.success
    assert [each.passed for each in rebuilt.get_asset_check_evaluations() if each.check_name == "order"] == [False]
    result = house.check("log/tills", "2026-01-01")
    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "order"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.log.test_ordering:PROJECT"\n')
    shown = shop.refold("log", "order", project=tmp_path)
    assert (shown.exit_code, "a: number 2 had not been delivered by the end" in shown.output) == (1, True), shown.output
    lines = shop.refold("log", "order", "--json", project=tmp_path).output.splitlines()
    assert [json.loads(each)["fault"] for each in lines] == ["missing"]
    hot = shop.refold("log", "hot", project=tmp_path)
    assert (hot.exit_code, "The keys with the most events" in hot.output) == (0, True), hot.output


def test_hot_counts_what_a_count_of_landing_does(tmp_path: Path):
    engine = sealed(landed(tmp_path, {"2026-01-01": [("a", n) for n in range(1, 30)]})).engine()
    found = engine.hot("tills", engine.chain.get())
    assert found.events == 29
    assert {key: events for key, _, events in found.keys} == {str(k): 5 if k == 1 else 4 for k in range(7)}
    assert found.keys[0][0] == "1"
    largest = max(each.events for each in found.partitions)
    assert found.skew == largest * 4 / 29
    assert sum(each.size_bytes for each in found.partitions) > 0


def late_shop(root: Path, policy: Late) -> Shop:
    """An event in time, and one a second too late."""
    late = Log(
        "late", key="k", event_id="id", columns={"id": int64(), "k": text(), "at": timestamp()}, event_time="at",
        late_max=dt.timedelta(days=1), late=policy,
    )  # fmt: skip
    store = latest_by_key(late, "last", version=1, columns={"at": timestamp()})
    shop = Shop(root, Project("p", Daily(dt.date(2026, 1, 1)), [store]))
    for key, at in (("2026-01-03", "2026-01-02T00:00:00Z"), ("2026-01-04", "2026-01-02T23:59:59Z")):
        folder = shop.landing / "late" / f"dt={key}"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text(json.dumps({"id": int(key[-1]), "k": "x", "at": at}) + "\n")
    return shop


def test_what_is_too_late_is_refused_with_its_place(tmp_path: Path):
    shop = late_shop(tmp_path, Late.REFUSE)
    engine = shop.engine()
    with pytest.raises(RefusedLanding, match=r"found 1 older ones:\n  - 2026-01-02 23:59:59.*a.jsonl record 1"):
        list(engine.sealing.seal())
    assert shop.engine().chain.get().key == "2026-01-03"


def test_what_is_too_late_is_sealed_and_reported_with_its_place_where_that_is_declared(tmp_path: Path):
    engine = sealed(late_shop(tmp_path, Late.REPORT)).engine()
    (finding,) = engine.order_check("late").through(engine.chain.get())
    assert (finding.fault, finding.snapshot) == (OrderFault.LATE, "2026-01-04")
    assert str(finding) == (
        "event time 2026-01-02 23:59:59+00:00 is later than late_max allows, at log partition 2, offset 1 "
        "(late/dt=2026-01-04/a.jsonl record 1)"
    )
    assert engine.order_check("late").through(engine.chain.get("2026-01-03")) == []


def test_a_key_that_lands_in_two_log_partitions_is_refused_with_both_places(tmp_path: Path):
    shop = Shop(tmp_path, PROJECT)
    for partition in (0, 3):
        folder = shop.landing / "tills" / "dt=2026-01-01" / f"partition={partition}"
        folder.mkdir(parents=True)
        row = {"id": partition, "k": "lamp", "till": "a", "n": 1}
        (folder / "a.jsonl").write_text(json.dumps(row) + "\n")
    expected = (
        "key 'lamp': log partition 0, tills/dt=2026-01-01/partition=0/a.jsonl record 1; and "
        "log partition 3, tills/dt=2026-01-01/partition=3/a.jsonl record 1"
    )
    with pytest.raises(RefusedLanding, match=expected):
        list(shop.engine().sealing.seal())


def test_what_is_declared_wrongly_is_named():
    with pytest.raises(DeclarationError) as error:
        Log("l", key="k", event_id="k", columns={"k": text()}, numbered=Numbered("p", "k"), late_max=dt.timedelta(1))
    assert error.value.faults == (
        "numbered names 'p', not declared; expected text or int64 or enum, not null",
        "numbered names 'k', text; expected int64 or versionvector, not null",
        "late_max is about event_time, which is not declared",
    )


def test_a_log_without_numbers_has_no_order(tmp_path: Path):
    other = Log("l", key="k", event_id="k", columns={"k": text()})
    shop = Shop(tmp_path, Project("p", Daily(dt.date(2026, 1, 1)), [latest_by_key(other, "s", version=1, columns={})]))
    engine = shop.engine()
    with pytest.raises(FixInput, match="declares neither that producers number its events nor how late"):
        engine.order_check("l")
