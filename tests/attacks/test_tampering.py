"""Somebody edits the store, and makes right the sums and caches that say it is whole."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest

from refold.dedup.content_check import ContentCheck
from refold.errors import Damaged
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.segment import write_segment
from refold.rebuild import rebuild_all
from tests.support import Shop
from tests.three_days import DAYS, LAST, SMALL, layout_of, three_days, write_layout


@pytest.fixture
def forged(tmp_path: Path) -> Shop:
    """One quantity is another in its segment; layout and content check are right for it, what followed is gone."""
    shop = three_days(tmp_path)
    engine, log = shop.engine(), SMALL.log("stock_events")
    path, logs = layout_of(shop, DAYS[1])
    segments = logs[log.name]["segments"]
    file = SegmentFile.from_json(segments[0])
    events = LogReader(engine.objects, engine.chain, log).segment(file).drop_columns(["log_partition"])
    place, field = events.column_names.index("quantity"), events.schema.field("quantity")
    more = [events["quantity"][0].as_py() + 1, *events["quantity"].to_pylist()[1:]]
    events = events.set_column(place, field, pa.array(more, field.type))
    segments[0] = asdict(write_segment(engine.objects, log, file.partition, events))
    write_layout(path, logs)
    chain = shop.engine().chain
    reader = LogReader(engine.objects, chain, log)
    check = ContentCheck(engine.objects, chain, reader)
    recorded = check.recorded(chain.get(DAYS[1]))
    assert recorded is not None
    check.remember(chain.get(DAYS[1]), recorded)
    for name in ("states", "proofs", "releases", "sinks", "delta"):
        shutil.rmtree(shop.store / name)
    shop.database_file.unlink()
    return shop


def test_another_event_is_named_though_the_store_remembers_that_it_was_compared(forged: Shop):
    """A content check is a cache, as easily written as the segment: verify, repair and fresh rebuilds do without."""
    with pytest.raises(Damaged, match="are not those that were sealed"):
        rebuild_all(forged.engine(), fresh=True)
    engine = forged.engine()
    rebuild_all(engine)
    stock = SMALL.store("stock")
    with pytest.raises(Damaged, match=f"snapshot {DAYS[1]}, log partition 0"):
        engine.drifts.find(stock, engine.chain.get(LAST))
