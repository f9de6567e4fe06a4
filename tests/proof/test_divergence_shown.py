"""Where a fold went wrong is shown by `refold verify` and by Dagster's check: differences, offset, picture, remedy."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from assets.daily_movement import daily_movement
from assets.stock import stock
from refold import Daily, Project
from refold.cli.main import cli
from refold.dagster import results
from refold.log.reader import LogReader
from refold.proof.picture import EQUAL, LEDGER, NOT_BUILT, STATE, Picture, space_strip
from refold.proof.prover import Verdict
from refold.stores.building import deliveries_of
from refold.stores.folding import columns_to_read, fold_events
from refold.stores.state import Result
from tests.support import Shop, moved
from tests.three_days import LAST, three_days

DAYS = [f"2026-01-0{day}" for day in range(1, 7)]
SMALL = Project("shown", Daily(dt.date(2026, 1, 1)), [stock])


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Six days of stock; the fold of the fourth lost an event, and those after it went on from there."""
    shop = Shop(tmp_path_factory.mktemp("wrong"), SMALL)
    for number, day in enumerate(DAYS):
        shop.land(f"dt={day}/a.jsonl", *(moved(f"{number}-{n}", f"product {n % 40}", 5 + n) for n in range(80)))
    engine = shop.engine()
    for _ in engine.sealing.seal():
        pass
    snapshots, record = engine.chain.through(DAYS[-1]), engine.builder.build(stock, engine.chain.get(DAYS[2]))
    state = engine.builder.checkpoints.state(stock, record)
    for snapshot in snapshots[3:]:
        reader = LogReader(engine.objects, engine.chain, stock.log)
        events = reader.events(snapshot, columns_to_read(stock))
        deliveries = deliveries_of(reader, snapshot)
        kept = np.arange(1 if snapshot is snapshots[3] else 0, len(events))
        part = fold_events(state, events.take(pa.array(kept)), deliveries[kept])
        if len(kept) < len(events):
            outcomes, reasons = np.insert(part.outcomes, 0, 0), np.insert(part.reasons, 0, 0)
            part = type(part)(outcomes, reasons)
        cut = snapshot.cut(stock.log.name)
        record = engine.builder.checkpoints.save_state(state, cut, part, record)
    return shop


@pytest.fixture
def shop(wrong: Shop, tmp_path: Path) -> Shop:
    shutil.copytree(wrong.root, tmp_path / "shop")
    return Shop(tmp_path / "shop", SMALL)


def _first_event(shop: Shop) -> dict:
    engine = shop.engine()
    return LogReader(engine.objects, engine.chain, stock.log).events(engine.chain.get(DAYS[3])).to_pylist()[0]


def _verdict(shop: Shop) -> Verdict:
    engine = shop.engine()
    return engine.prover.prove(stock, engine.chain.get())


def test_the_check_tells_differences_the_first_wrong_offset_and_shows_the_picture(shop: Shop):
    verdict = _verdict(shop)
    event = _first_event(shop)
    at = f"log partition {event['log_partition']}, offset {event['log_offset']}, log_seq {event['log_seq']}"

    result = results.replay(verdict)

    assert not result.passed
    assert at in result.text
    found = result.metadata
    assert found["first wrong offset"] == at
    assert found["cause"].startswith("events: The stored row follows if the event was left out")
    assert found["what to do"].startswith(f"Run `refold repair stock --as-of {DAYS[-1]}`")
    assert found["first difference"] == str(verdict.differences[0])
    assert isinstance(found["differences"], dg.TableMetadataValue)
    where = {record.data["what"]: record.data["found"] for record in found["where stored and replayed part"].records}
    assert where["agree until"] == f"snapshot {DAYS[2]}" and where["part at"] == f"snapshot {DAYS[3]}"
    assert event["event_id"] in where["event"] and where["segment"].startswith("logs/stock_events/segments/")
    assert where["outcome"] == "stored applied, by replay applied"
    picture = found["picture"]
    assert isinstance(picture, dg.MarkdownMetadataValue)
    first, history, *spaces, _, last = picture.value.splitlines()
    assert (first, last) == ("```text", "```")
    assert history.split()[1] == "···▒▒▒"
    assert [line.split()[2] for line in spaces] == [DAYS[3], DAYS[-1]]


def test_a_verdict_that_passed_shows_no_picture_and_no_remedy(shop: Shop):
    engine = shop.engine()
    verdict = engine.prover.prove(stock, engine.chain.get(DAYS[2]))
    assert verdict.passed and verdict.divergence is None
    assert (verdict.remedy, verdict.picture.lines()) == ("", [])
    assert not {"picture", "what to do", "cause"} & results.replay(verdict).metadata.keys()


def _cli(shop: Shop, monkeypatch: pytest.MonkeyPatch, *arguments: str):
    settings = shop.settings
    for name, value in (("LANDING", settings.landing), ("STORE", settings.store), ("DATABASE", settings.database)):
        monkeypatch.setenv(f"REFOLD_{name}", value)
    command = ["--project", str(Path(__file__).parents[2]), *arguments]
    return CliRunner().invoke(cli, command, catch_exceptions=False)


def test_verify_prints_table_picture_and_remedy_and_repair_mends_it(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    event = _first_event(shop)
    shown = _cli(shop, monkeypatch, "verify", "stock", "--as-of", DAYS[-1])
    assert shown.exit_code == 1
    told = " ".join(shown.output.split())
    assert "differs:" in told and "stock: where stored and replayed part" in told
    assert f"offset {event['log_offset']}, log_seq {event['log_seq']}" in told
    assert "history ···▒▒▒ 2026-01-01 to 2026-01-06" in told
    assert f"Run `refold repair stock --as-of {DAYS[-1]}`" in told
    before = shop.files("states")

    mended = _cli(shop, monkeypatch, "repair", "stock", "--as-of", DAYS[-1])

    assert mended.exit_code == 0
    assert "rebuilt and proven equal to full replay" in " ".join(mended.output.split())
    sound = {name: sha for name, sha in shop.files("states").items() if name in before and before[name] != sha}
    records = [name for name in before if name.endswith(".json")]
    assert set(sound) < set(records) and len(sound) == 3, "only the records from the wrong one on were written again"
    assert _cli(shop, monkeypatch, "verify", "stock", "--as-of", DAYS[-1]).exit_code == 0


def test_a_wrong_relation_is_computed_again(tmp_path: Path):
    shop = three_days(tmp_path)
    engine = shop.engine()
    head = engine.chain.get(LAST)
    record = engine.builder.require(daily_movement, head)
    table = engine.builder.checkpoints.rows(record, daily_movement.columns, daily_movement.key)
    at = len(table.columns) - 1
    wrong = table.set_column(at, table.schema.field(at), pa.array([7] * len(table), table.schema.field(at).type))
    engine.builder.checkpoints.save_result(Result(daily_movement, wrong), record.inputs, None)
    engine = shop.engine()
    drift = engine.drifts.find(daily_movement, head)
    assert next(iter(drift.differences)).what == "state"
    assert any(mark != EQUAL for mark in drift.picture.lines()[0].split()[-1])
    assert "computes it again" in drift.remedy
    assert engine.drifts.repair(drift).passed
    assert shop.engine().drifts.find(daily_movement, head).differences == []


def test_a_cell_in_a_sink_is_shown_in_key_space(shop: Shop):
    engine = shop.engine()
    for _ in engine.builder.fold_history([stock], engine.chain.get(), fresh=True):
        pass
    assert engine.prover.prove(stock, engine.chain.get()).passed
    (sink,) = stock.sinks
    engine.publisher.publish(stock, sink, engine.chain.get())
    connection = sqlite3.connect(shop.root / "refold.db")
    (table,) = next(
        row for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if row[0].startswith("stock_view")
    )  # fmt: skip
    connection.execute(f'UPDATE "{table}" SET level = 1 WHERE product_id = ?', ["product 3"])
    connection.commit()
    connection.close()
    drift = shop.engine().drifts.find(stock, engine.chain.get())
    assert drift.verdict.passed and drift.differences
    strip, _ = drift.picture.lines()
    assert strip.startswith(f"keys in {sink.kind}/{sink.name}")
    assert sum(mark != EQUAL for mark in strip.split()[-1]) == 1
    assert drift.remedy.startswith("The state is sound.")


def test_long_histories_are_drawn_by_the_worst_of_each_group():
    marks = [EQUAL] * 1000
    marks[10], marks[500], marks[501] = NOT_BUILT, STATE, LEDGER
    keys = [(dt.date.fromordinal(737000 + n)).isoformat() for n in range(1000)]
    history, legend = Picture(list(zip(keys, marks, strict=True))).lines()
    strip = history.removeprefix("history" + " " * 14)[:64]
    assert (strip[0], strip[32], strip.count(EQUAL)) == (NOT_BUILT, LEDGER, 62)
    assert "(blank) not built" in legend


def test_a_bucket_never_vanishes_in_its_column():
    for bucket in (0, 63, 64, 4095):
        strip = space_strip([bucket])
        assert strip[bucket // 64] == "▁" and strip.count(EQUAL) == 63
    assert space_strip(range(4096)) == "█" * 64
