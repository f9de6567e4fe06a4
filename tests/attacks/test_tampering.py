"""Somebody edits the store, and makes right the sums and caches that say it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest

from refold.dedup.content_check import ContentCheck
from refold.engine import Engine
from refold.errors import Damaged, RefoldError
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.segment import write_segment
from refold.rebuild import rebuild_all
from refold.storage.objects import canonical_json, sha256_hex
from refold.storage.records import record_bytes
from refold.stores.recheck import Recheck
from tests.support import Shop, moved
from tests.three_days import DAYS, LAST, SMALL, layout_of, three_days, what_readers_see, write_layout


def another_quantity(shop: Shop, day: str) -> None:
    """Have the first event of a day hold another quantity, in its segment and for its layout."""
    engine, log = shop.engine(), SMALL.log("stock_events")
    path, logs = layout_of(shop, day)
    segments = logs[log.name]["segments"]
    file = SegmentFile.from_json(segments[0])
    events = LogReader(engine.objects, engine.chain, log).segment(file).drop_columns(["log_partition"])
    place, field = events.column_names.index("quantity"), events.schema.field("quantity")
    more = [events["quantity"][0].as_py() + 1, *events["quantity"].to_pylist()[1:]]
    events = events.set_column(place, field, pa.array(more, field.type))
    segments[0] = asdict(write_segment(engine.objects, log, file.partition, events))
    write_layout(path, logs)


@pytest.fixture
def forged(tmp_path: Path) -> Shop:
    """One quantity is another in its segment; layout and content check are right for it, what followed is gone."""
    shop = three_days(tmp_path)
    another_quantity(shop, DAYS[1])
    engine = shop.engine()
    check = ContentCheck(
        engine.objects, engine.chain, LogReader(engine.objects, engine.chain, SMALL.log("stock_events"))
    )
    recorded = check.recorded(engine.chain.get(DAYS[1]))
    assert recorded is not None
    check.remember(engine.chain.get(DAYS[1]), recorded)
    for name in ("states", "proofs", "releases", "sinks", "delta"):
        shutil.rmtree(shop.store / name)
    shop.database_file.unlink()
    return shop


def test_a_replay_that_goes_on_compares_the_events_of_its_day(tmp_path: Path):
    """A day that was edited after it was sealed is found before it is served, however long the history is."""
    shop = three_days(tmp_path).declared(recheck=Recheck(snapshots=1, whole_every=100))
    rebuild_all(shop.engine())
    shop.land("dt=2026-01-04/a.jsonl", *[moved(f"3-{n}", f"product {n}", 10 + n) for n in range(6)])
    shop.land("product_changes/dt=2026-01-04/a.jsonl")
    for _ in shop.engine().sealing.seal():
        pass
    before = what_readers_see(shop)
    another_quantity(shop, "2026-01-04")
    with pytest.raises(Damaged, match="snapshot 2026-01-04, log partition"):
        rebuild_all(shop.engine())
    assert what_readers_see(shop) == before


@pytest.mark.parametrize("earlier", [False, True], ids=["of the same day", "of an earlier day"])
def test_a_replay_that_goes_on_finds_the_repeats_of_its_day_itself(tmp_path: Path, earlier: bool):
    """The list of repeats that a layout names is emptied: the event is named, and readers see what they saw."""
    shop = three_days(tmp_path).declared(recheck=Recheck(snapshots=1, whole_every=100))
    rebuild_all(shop.engine())
    events = [moved(f"3-{n}", f"product {n}", 10 + n) for n in range(6)]
    again = moved("0-1", "product 1", 11) if earlier else events[1]
    shop.land("dt=2026-01-04/a.jsonl", *events, again)
    shop.land("product_changes/dt=2026-01-04/a.jsonl")
    for _ in shop.engine().sealing.seal():
        pass
    before = what_readers_see(shop)
    path, logs = layout_of(shop, "2026-01-04")
    assert logs["stock_events"]["repeats"] is not None
    write_layout(path, {**logs, "stock_events": {**logs["stock_events"], "repeats": None}})
    with pytest.raises(RefoldError, match=r"2026-01-04, log partition 0, offset 16.*: expected (duplicate|conflict)"):
        rebuild_all(shop.engine())
    assert what_readers_see(shop) == before


def test_another_event_is_named_though_the_store_remembers_that_it_was_compared(forged: Shop):
    """A content check is a cache, as easily written as the segment: verify, repair and fresh rebuilds do without."""
    with pytest.raises(Damaged, match="are not those that were sealed"):
        rebuild_all(forged.engine(), fresh=True)
    engine = forged.engine()
    rebuild_all(engine)
    stock = SMALL.store("stock")
    with pytest.raises(Damaged, match=f"snapshot {DAYS[1]}, log partition 0"):
        engine.drifts.find(stock, engine.chain.get(LAST))


GONE = Ellipsis
COMMANDS: list[Callable[[Engine], object]] = [
    lambda engine: engine.audit_objects(),
    lambda engine: [engine.drifts.find(store, engine.chain.get(DAYS[1])) for store in SMALL.in_order],
    lambda engine: [list(engine.verify_log(log.name, engine.chain.get())) for log in SMALL.logs],
    lambda engine: list(engine.explainer.why(SMALL.store("stock"), ["product 1"], engine.chain.get())),
    lambda engine: [release.content for release in engine.releaser.pointer.newest_first()],
    rebuild_all,
]
"""What reads records, beside what the rebuild itself reads."""

LAYOUT = f"layouts/{DAYS[1]}-"
RELEASE = "releases/"
WRONG: list[tuple[str, tuple[str | int, ...], object]] = [
    (LAYOUT, ("logs", "stock_events", "segments", 0, "first"), ["0"]),
    (LAYOUT, ("logs", "stock_events", "segments", 0, "pieces", "country", "size"), 1 << 70),
    (LAYOUT, ("logs", "stock_events", "segments", 0, "pieces", "country", "start"), -1),
    (LAYOUT, ("logs", "stock_events", "segments", 0, "pieces", "country"), GONE),
    (LAYOUT, ("logs", "product_changes", "e_tags"), True),
    (f"snapshots/{LAST}", ("logs", "product_changes", "objects", 0, "late"), None),
    ("states/stock/", ("base", "name"), None),
    ("proofs/stock/", ("replay",), "state"),
    (RELEASE, ("format",), "2"),
    (RELEASE, ("proofs",), []),
    (RELEASE, ("proofs", "stock"), 1),
    (RELEASE, ("versions",), True),
    (RELEASE, ("sinks", "stock", 0, "options"), "x"),
    ("sinks/delta/daily_movement/0", ("files", 0), True),
    ("sinks/delta/daily_movement/0", ("columns",), GONE),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same shop, untouched."""
    return three_days(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("record", "path", "value"), WRONG, ids=lambda each: str(each).replace(" ", ""))
def test_a_record_of_wrong_types_is_damage(
    whole: Shop, tmp_path: Path, record: str, path: tuple[str | int, ...], value: object
):
    """Whoever writes a record with its own sum right gets a typed error, from every command that reads it."""
    shutil.copytree(whole.root, tmp_path / "shop")
    shop, *found = Shop(tmp_path / "shop", SMALL), *sorted((whole.store / record).parent.rglob("*.json"))
    names = [file.relative_to(whole.store) for file in found if str(file.relative_to(whole.store)).startswith(record)]
    for name in names:
        body = inner = json.loads((shop.store / name).read_bytes())["body"]
        for step in path[:-1]:
            inner = inner[step]
        if value is GONE:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        place = shop.store / name
        place.unlink()
        if record.startswith("proofs/"):
            place = place.with_name(f"{sha256_hex(canonical_json(body))[:40]}.json")
        place.write_bytes(record_bytes(body))
    assert names
    for command in COMMANDS:
        with suppress(RefoldError):
            command(shop.engine())
