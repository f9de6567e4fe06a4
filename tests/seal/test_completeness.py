"""Gaps and overlaps of source offsets by the names of sealed objects, against a plain count of every offset."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import Daily, Log, Project, int64, latest_by_key, text
from refold.landing.names import CONFLUENT_DAILY, LENSES
from refold.log.manifest import SealedObject
from refold.log.snapshot import Snapshot
from refold.seal.completeness import Gap, completeness
from tests.support import Shop

LOG = Log(
    "orders", key="sku", event_id="id", columns={"id": int64(), "sku": text()}, partitions=2, layout=CONFLUENT_DAILY
)
PROJECT = Project("audit", Daily(dt.date(2026, 1, 30)), [latest_by_key(LOG, "ids", version=1, columns={"id": int64()})])


def landed(shop: Shop, day: int, partition: int, start: int, ids: range) -> None:
    folder = shop.landing / "orders" / f"year=2026/month=01/day={day}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": n, "sku": f"{partition}"}) + "\n" for n in ids]
    (folder / f"orders+{partition}+{start:010}.json").write_text("".join(lines))


def test_gaps_overlaps_and_days_are_named_and_end_the_command_with_1(tmp_path: Path) -> None:
    shop = Shop(tmp_path, PROJECT)
    landed(shop, 28 + 2, 0, 0, range(10))
    landed(shop, 30, 0, 10, range(10, 20))
    landed(shop, 31, 0, 25, range(25, 30))
    landed(shop, 31, 0, 28, range(28, 40))
    landed(shop, 31, 1, 7, range(100, 103))
    list(shop.engine().sealing.seal())
    found = shop.engine().completeness("orders", shop.engine().chain.get())
    names = [(each.gap, each.place, each.what) for each in found.findings]
    day = "orders/year=2026/month=01/day="
    assert names == [
        (
            Gap.MISSING,
            "log partition 0",
            f"Offsets 20 to 24 are in no object, between {day}30/orders+0+0000000010.json and "
            f"{day}31/orders+0+0000000025.json.",
        ),
        (
            Gap.OVERLAP,
            "log partition 0",
            f"Offsets 28 to 29 are in {day}31/orders+0+0000000025.json and in {day}31/orders+0+0000000028.json.",
        ),
    ]
    assert [tuple(each) for each in found.ranges] == [(0, 4, 0, 40), (1, 1, 7, 10)]
    (tmp_path / "pyproject.toml").write_text(f'[tool.refold]\nproject = "{__name__}:PROJECT"\n')
    shown = shop.refold("log", "audit", "orders", "--json", project=tmp_path)
    assert shown.exit_code == 1
    assert [json.loads(text)["gap"] for text in shown.stdout.splitlines()] == ["missing", "overlap"]
    assert "Offsets 20 to 24" in " ".join(shop.refold("log", "audit", project=tmp_path).stdout.split())


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    shop = Shop(tmp_path_factory.mktemp("audit"), PROJECT)
    landed(shop, 30, 0, 0, range(1))
    list(shop.engine().sealing.seal())
    return shop.engine().chain.get()


def of_objects(sealed: Snapshot, key: str, objects: Sequence[tuple[str, int]]) -> Snapshot:
    """A snapshot of a key that took in objects of some names and numbers of records."""
    items = [SealedObject(name, 1, "", records, False) for name, records in objects]
    cut = replace(sealed.cut("orders"), objects=items, read=sum(records for _, records in objects))
    return replace(sealed, key=key, logs={"orders": cut})


RANGES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 9)), max_size=9)


@given(RANGES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_reported_offsets_are_those_that_no_object_holds_or_several_do(
    sealed: Snapshot, drawn: list[tuple[int, int, int]], by_last: bool
) -> None:
    """Counted offset by offset. Names hold the first or the last offset."""
    log = replace(LOG, layout=LENSES) if by_last else LOG
    objects, holders = [], Counter[tuple[int, int]]()
    for partition, start, records in dict.fromkeys(drawn):
        offset = start + records - 1 if by_last else start
        if offset < 0:
            continue
        day = "orders/year=2026/month=01/day=30"
        name = f"orders/x({partition}_{offset}).json" if by_last else f"{day}/x+{partition}+{start}.json"
        objects.append((name, records))
        holders.update((partition, n) for n in range(start, start + records))
    found = completeness(log, [of_objects(sealed, "2026-01-30", objects)])
    reported: dict[Gap, set[tuple[int, int]]] = {Gap.MISSING: set(), Gap.OVERLAP: set()}
    for each in found.findings:
        words = each.what.split()
        place = int(each.place.split()[-1])
        reported[each.gap] |= {(place, n) for n in range(int(words[1]), int(words[3]) + 1)}
    ends = {r.partition: (r.start, r.end) for r in found.ranges}
    missing = {(p, n) for p, (start, end) in ends.items() for n in range(start, end) if not holders[p, n]}
    for (partition, (start, end)), cells in zip(ends.items(), found.covered, strict=True):
        assert cells == drawn_again(start, end, {n: holders[partition, n] for n in range(start, end)})
    assert reported == {Gap.MISSING: missing, Gap.OVERLAP: {at for at, count in holders.items() if count > 1}}


def drawn_again(start: int, end: int, holders: Mapping[int, int]) -> str:
    """The picture of a range offset by offset."""
    span = max(end - start, 1)
    count = min(50, span)
    cells = [range(start + n * span // count, start + (n + 1) * span // count) for n in range(count)]
    if end == start:
        return "·"
    marks = []
    for cell in cells:
        found = [holders[n] for n in cell]
        mark = "█" if all(found) else "▒" if any(found) else "·"
        marks.append("╳" if max(found) > 1 else mark)
    return "".join(marks)


def test_snapshots_without_records_or_out_of_proportion_are_named(sealed: Snapshot) -> None:
    counts = [0, 100, 110, 0, 9, 1200, 105, 0]
    snapshots = [of_objects(sealed, f"2026-01-{day:02}", [("orders/a.json", n)]) for day, n in enumerate(counts, 1)]
    found = completeness(LOG, snapshots)
    assert [(each.gap, each.place) for each in found.findings] == [
        (Gap.EMPTY, "2026-01-04"),
        (Gap.FEW, "2026-01-05"),
        (Gap.MANY, "2026-01-06"),
    ]
    assert found.without_offset == 8
