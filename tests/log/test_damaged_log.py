"""What `refold log verify` says of a log that was damaged, by accident or with care for the hashes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from assets.stock import stock
from refold.errors import Damaged
from refold.log.segment import from_parquet, to_parquet
from refold.storage.objects import sha256_hex
from refold.storage.records import record_bytes
from tests.support import Shop, flip, moved
from tests.three_days import DAYS, LAST, SMALL, layout_of, write_layout


def _findings(shop: Shop) -> list[tuple[str, str, str]]:
    engine = shop.engine()
    found = [f for _, each in engine.verify_log("stock_events", engine.chain.get()) for f in each]
    return [(f.check, f.snapshot, f"{f.where}: {f.message}") for f in found]


def _segments(shop: Shop, key: str) -> list[dict]:
    return layout_of(shop, key)[1]["stock_events"]["segments"]


def test_a_flipped_byte_of_a_segment(served: Shop):
    segment = _segments(served, DAYS[1])[0]["name"]
    flip(served.store / segment)
    (finding,) = _findings(served)
    assert finding[:2] == ("segment-hash", DAYS[1]) and segment in finding[2]
    with pytest.raises(Damaged, match=segment):
        served.engine().prover.prove(stock, served.engine().chain.get())


def test_a_missing_segment(served: Shop):
    segment = _segments(served, DAYS[1])[-1]["name"]
    (served.store / segment).unlink()
    (finding,) = _findings(served)
    assert finding[:2] == ("segment-hash", DAYS[1]) and segment in finding[2]


def test_a_segment_in_the_place_of_another(served: Shop):
    one, other = (segment["name"] for segment in _segments(served, DAYS[0])[:2])
    shutil.copy(served.store / one, served.store / other)
    (finding,) = _findings(served)
    assert finding[:2] == ("segment-hash", DAYS[0]) and other in finding[2]


def test_a_segment_in_the_place_of_another_with_right_hashes(served: Shop):
    path, layout = layout_of(served, DAYS[1])
    _, older = layout_of(served, DAYS[0])
    mine, foreign = layout["stock_events"]["segments"], older["stock_events"]["segments"]
    place, other = next(
        (i, s) for i, m in enumerate(mine) for s in foreign if s["end"] - s["start"] == m["end"] - m["start"]
    )
    mine[place] |= {"name": other["name"], "sha256": other["sha256"]}
    write_layout(path, layout)
    found = _findings(served)
    ((check, key, message),) = found
    assert (check, key) == ("segment-hash", DAYS[1])
    assert "belongs to another place" in message or "is damaged in" in message


def test_other_events_with_right_hashes(served: Shop):
    path, layout = layout_of(served, LAST)
    segment = layout["stock_events"]["segments"][0]
    table = from_parquet((served.store / segment["name"]).read_bytes(), segment["name"])
    more = pa.array(table["quantity"].to_numpy() + 1)
    data = to_parquet(table.set_column(table.column_names.index("quantity"), table.schema.field("quantity"), more))
    (served.store / segment["name"]).write_bytes(data)
    segment["sha256"] = sha256_hex(data)
    write_layout(path, layout)
    (finding,) = _findings(served)
    assert finding[:2] == ("content", LAST)
    assert f"partition {segment['partition']}" in finding[2]


def test_an_edited_count_in_the_newest_manifest_with_the_right_hash(served: Shop):
    path = served.store / "snapshots" / f"{LAST}.json"
    body = json.loads(path.read_bytes())["body"]
    body["logs"]["stock_events"]["quarantined"] += 1
    path.write_bytes(record_bytes(body))
    found = _findings(served)
    assert ("accounting", LAST) in {finding[:2] for finding in found}


def test_an_edited_identity_in_the_newest_manifest_with_the_right_hash(served: Shop):
    path = served.store / "snapshots" / f"{LAST}.json"
    body = json.loads(path.read_bytes())["body"]
    body["logs"]["stock_events"]["content"][0] = "0" * 64
    path.write_bytes(record_bytes(body))
    assert any(check == "content" and "identity" in text for check, _, text in _findings(served))


@pytest.mark.parametrize("edit", ["edited", "removed"])
def test_an_older_manifest_edited_or_removed_breaks_the_chain_by_name(served: Shop, edit: str):
    path = served.store / "snapshots" / f"{DAYS[1]}.json"
    body = json.loads(path.read_bytes())["body"]
    body["logs"]["stock_events"]["read"] += 1
    path.write_bytes(record_bytes(body)) if edit == "edited" else path.unlink()
    with pytest.raises(Damaged, match=f"snapshot {LAST} does not continue the chain"):
        served.engine()


def test_a_manifest_that_is_no_json(served: Shop):
    path = served.store / "snapshots" / f"{LAST}.json"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(Damaged, match=f"snapshots/{LAST}.json"):
        served.engine()


@pytest.mark.parametrize("damage", [lambda path: shutil.rmtree(path.parent), lambda path: path.write_bytes(b"[1")])
def test_a_missing_or_brokenlayout_of(served: Shop, damage):
    damage(layout_of(served, DAYS[1])[0])
    (finding,) = _findings(served)
    assert finding[1] == DAYS[1] and "layout" in finding[2]


def test_a_missing_quarantine_or_deduplication(served: Shop):
    name = layout_of(served, DAYS[1])[1]["stock_events"]["repeats"]["name"]
    (served.store / name).unlink()
    (finding,) = _findings(served)
    assert finding[:2] == ("repeats", DAYS[1]) and name in finding[2]


def test_a_key_in_two_partitions(tmp_path: Path):
    shop = Shop(tmp_path, SMALL)
    shop.land("stock_events/dt=2026-01-01/partition=0/a.jsonl", moved("1", "lamp", 1))
    shop.land("stock_events/dt=2026-01-02/partition=3/a.jsonl", moved("2", "lamp", 1))
    for _ in shop.engine().sealing.seal():
        pass
    (finding,) = _findings(shop)
    assert finding[:2] == ("key-partition", "2026-01-02")
    assert "key 'lamp' is in log partitions 0 and 3" in finding[2]


def test_the_cache_of_seen_ids_is_only_a_cache(served: Shop):
    for path in (served.store / "logs" / "stock_events" / "seen").iterdir():
        flip(path)
    served.land("dt=2026-01-04/a.jsonl", moved("0-1", "product 1", 11), moved("0-2", "product 2", 1))
    (report,) = served.engine().sealing.seal()
    engine = served.engine()
    engine.build(stock, report.snapshot)
    assert engine.prover.prove(stock, report.snapshot).passed
    counts = engine.builder.require(stock, report.snapshot).outcomes
    assert (counts["duplicate"], counts["conflict"]) == (3, 1)
