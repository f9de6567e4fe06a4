"""What is stored gets damaged, by accident or with care; the check must say so by name, and readers must not notice.

By accident: bytes change. With care: the record names the changed content, and every hash of it is right.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from assets.daily_movement import daily_movement
from assets.logs import stock_events
from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import fold
from refold.engine import Engine
from refold.errors import Damaged, Unproven
from refold.log.segment import from_parquet, to_parquet
from refold.rebuild import rebuild_all
from refold.storage.objects import sha256_hex
from refold.storage.records import read_record, write_record
from refold.stores.checkpoint import record_name
from refold.stores.ledger import LedgerPart
from refold.stores.state import State
from tests.support import Shop, digests, flip, levels
from tests.three_days import DAYS, LAST, SMALL, layout_of, write_layout


def _problems(engine: Engine, store=stock, key: str = LAST) -> list[str]:
    verdict = engine.prover.prove(store, engine.chain.get(key))
    assert verdict.passed == (not verdict.differences)
    return [str(difference) for difference in verdict.differences]


def _refused(shop: Shop, store=stock) -> None:
    """Neither publishing nor releasing takes the damaged state, and what is served stays."""
    engine = shop.engine()
    head = engine.chain.get()
    with pytest.raises((Unproven, Damaged), match=store.name):
        engine.publisher.publish(store, store.sinks[0], head)
    with pytest.raises((Unproven, Damaged), match=store.name):
        engine.releaser.release(head)
    assert engine.releaser.current().snapshot == DAYS[1]


def _ledger_refused(shop: Shop) -> None:
    """No relation reads the damaged ledger, though the proof of the right rows stays."""
    engine = shop.engine()
    assert engine.prover.require(stock, engine.chain.get())
    with pytest.raises(Damaged, match="ledger"):
        engine.builder.tables(daily_movement, engine.chain.get())
    assert shop.engine().releaser.current().snapshot == DAYS[1]


def _forge(engine: Engine, key: str, table: pa.Table | None = None, part: LedgerPart | None = None) -> None:
    """Replace the stock of a snapshot by other rows or outcomes, with every hash and digest right."""
    snapshot = engine.chain.get(key)
    record = engine.builder.require(stock, snapshot)
    before = engine.builder.find(stock, engine.chain.get(DAYS[DAYS.index(key) - 1])) if key != DAYS[0] else None
    table = engine.builder.checkpoints.state(stock, record).table if table is None else table
    part = engine.builder.checkpoints.ledger(record) if part is None else part
    state = State(stock, table, np.arange(len(table)))
    engine.builder.checkpoints.save_state(state, snapshot.cut("stock_events"), part, before)


def _other_outcome(part: LedgerPart, place: int) -> LedgerPart:
    outcomes = part.outcomes.copy()
    outcomes[place] = 3 - outcomes[place]  # applied becomes rejected, and the other way round
    return replace(part, outcomes=outcomes)


def _event(engine: Engine, key: str, place: int) -> str:
    """How an event is named in a difference: its place in the order (log partition, offset)."""
    rows = engine.builder.ledger_rows(stock, engine.chain.get(LAST))
    cut = engine.chain.get(key).logs["stock_events"]
    mine = rows.filter((pa.compute.field("log_seq") >= cut.seq_start) & (pa.compute.field("log_seq") < cut.seq_end))
    row = mine.slice(place, 1).to_pylist()[0]
    return f"log partition {row['log_partition']}, offset {row['log_offset']}, log_seq {row['log_seq']}"


def test_nothing_damaged_is_found_whole(served: Shop):
    engine = served.engine()
    assert [_problems(engine, store) for store in SMALL.in_order] == [[], [], []]
    assert [
        f for log in SMALL.logs for _, found in engine.verify_log(log.name, engine.chain.get()) for f in found
    ] == []


class TestCheckpoint:
    def test_a_flipped_byte_is_found_by_the_name_of_the_object(self, served: Shop):
        name = served.engine().builder.require(stock, served.engine().chain.get()).objects[0].name
        flip(served.store / name)
        with pytest.raises(Damaged, match=name) as failure:
            served.engine().publisher.publish(stock, stock.sinks[0], served.engine().chain.get())
        assert failure.value.remedy
        (problem,) = _problems(served.engine())
        assert problem.startswith(f"checkpoint at snapshot {LAST}: expected a sound checkpoint")
        assert name in problem and "sha256" in problem
        _refused(served)

    def test_a_flipped_byte_is_mended_by_building_again(self, sound: Shop, served: Shop):
        flip(served.store / served.engine().builder.require(stock, served.engine().chain.get()).objects[0].name)
        rebuild_all(served.engine())
        assert digests(served.engine()).items() >= digests(sound.engine()).items()
        assert served.engine().releaser.current().snapshot == LAST

    def test_a_record_that_is_no_json_is_found_and_mended(self, sound: Shop, served: Shop):
        engine = served.engine()
        name = record_name(stock.name, stock.code_version, engine.chain.get().logs["stock_events"].id)
        (served.store / name).write_bytes(b"{")
        assert name in _problems(served.engine())[0]
        rebuild_all(served.engine())
        assert digests(served.engine()).items() >= digests(sound.engine()).items()

    def test_another_level_with_right_hashes_is_found_by_its_key_with_both_rows(self, served: Shop):
        engine = served.engine()
        table = engine.builder.checkpoints.state(stock, engine.builder.require(stock, engine.chain.get())).table
        place = table["product_id"].to_pylist().index("product 4")
        wrong = table["level"].to_numpy().copy()
        right, wrong[place] = int(wrong[place]), 1_000_000
        _forge(engine, LAST, table=table.set_column(1, "level", pa.array(wrong)))
        with pytest.raises(Unproven, match="no passing full replay"):
            served.engine().publisher.publish(stock, stock.sinks[0], engine.chain.get())
        digest, row = _problems(served.engine())
        assert digest.startswith(f"state at snapshot {LAST}: expected ")
        assert row.startswith(
            f"state at snapshot {LAST}, key 'product 4': expected product_id='product 4', level={right},"
        )
        assert "found product_id='product 4', level=1000000," in row
        _refused(served)

    def test_a_row_too_many_and_a_row_too_few_are_found_by_key(self, served: Shop):
        engine = served.engine()
        table = engine.builder.checkpoints.state(stock, engine.builder.require(stock, engine.chain.get())).table
        ghost = pa.table({name: ["ghost" if name == "product_id" else 1] for name in table.column_names})
        kept = table.filter(pa.compute.not_equal(table["product_id"], "product 3"))
        _forge(engine, LAST, table=pa.concat_tables([kept, ghost.cast(table.schema)]))
        rows = [problem for problem in _problems(served.engine()) if ", key " in problem]
        assert rows[0].startswith(f"state at snapshot {LAST}, key 'ghost': expected no row, found product_id='ghost'")
        assert rows[1].startswith(f"state at snapshot {LAST}, key 'product 3': expected product_id='product 3'")
        assert rows[1].endswith("found no row")
        assert len(rows) == 2

    def test_right_hashes_do_not_mend_themselves_but_folding_from_the_beginning_does(self, sound: Shop, served: Shop):
        engine = served.engine()
        table = engine.builder.checkpoints.state(stock, engine.builder.require(stock, engine.chain.get(DAYS[0]))).table
        _forge(engine, DAYS[0], table=table.set_column(1, "level", pa.array(np.full(len(table), 5))))
        with pytest.raises(Unproven, match=f"'stock' at snapshot {DAYS[0]} is not equal to full replay"):
            rebuild_all(served.engine())
        assert served.engine().releaser.current().snapshot == DAYS[1]
        rebuild_all(served.engine(), fresh=True)
        assert digests(served.engine()).items() >= digests(sound.engine()).items()
        assert served.engine().releaser.current().snapshot == LAST

    def test_counts_of_outcomes_that_are_not_those_of_replay_are_found(self, served: Shop):
        engine = served.engine()
        name = record_name(stock.name, stock.code_version, engine.chain.get().logs["stock_events"].id)
        body = read_record(engine.objects, name)
        write_record(engine.objects, name, body | {"outcomes": body["outcomes"] | {"rejected": 0}})
        (problem,) = _problems(served.engine())
        assert problem.startswith(f"ledger at snapshot {LAST}: expected ")
        assert "rejected 3" in problem and "rejected 0" in problem


class TestLedger:
    def test_a_flipped_byte_is_found_by_the_name_of_the_object(self, served: Shop):
        name = served.engine().builder.require(stock, served.engine().chain.get(DAYS[1])).ledger.name
        flip(served.store / name)
        problems = _problems(served.engine())
        assert problems[0].startswith(f"ledger at snapshot {DAYS[1]}: expected a sound ledger part")
        assert name in problems[0]
        _ledger_refused(served)
        rebuild_all(served.engine(), fresh=True)
        assert _problems(served.engine()) == []

    def test_another_outcome_with_right_hashes_is_found_by_its_offset_with_both_outcomes(self, served: Shop):
        engine = served.engine()
        part = engine.builder.checkpoints.ledger(engine.builder.require(stock, engine.chain.get(DAYS[1])))
        place = int(np.flatnonzero(part.outcomes == 0)[3])
        named = _event(engine, DAYS[1], place)
        _forge(engine, DAYS[1], part=_other_outcome(part, place))
        problems = _problems(served.engine())
        assert problems[0] == f"ledger at snapshot {DAYS[1]}, {named}: expected applied, found rejected"
        _ledger_refused(served)
        with pytest.raises(Unproven, match="ledger"):
            rebuild_all(served.engine())

    def test_the_first_of_several_wrong_offsets_is_named(self, served: Shop):
        engine = served.engine()
        part = engine.builder.checkpoints.ledger(engine.builder.require(stock, engine.chain.get()))
        named = _event(engine, LAST, 2)
        _forge(engine, LAST, part=_other_outcome(_other_outcome(part, len(part.outcomes) - 1), 2))
        assert named in _problems(served.engine())[0]

    def test_an_older_part_changed_after_the_proof_reaches_no_analytics(self, served: Shop):
        """The newest record, and so its proof, still stand; the relation must not count what they do not cover."""
        engine = served.engine()
        part = engine.builder.checkpoints.ledger(engine.builder.require(stock, engine.chain.get(DAYS[0])))
        _forge(engine, DAYS[0], part=_other_outcome(part, 0))
        engine = served.engine()
        assert engine.prover.require(stock, engine.chain.get())
        with pytest.raises(Damaged, match="ledger of store 'stock'"):
            engine.builder.tables(daily_movement, engine.chain.get())
        assert _problems(engine, daily_movement) != []


class TestDeduplication:
    def test_a_repeat_that_was_forgotten_is_found_by_its_offset(self, tmp_path: Path, sound: Shop):
        shop = _sealed_only(tmp_path, sound)
        repeats = _change_repeats(shop, DAYS[1], lambda table: table.slice(0, 0))
        engine = shop.engine()
        for _ in engine.fold_history("stock_events", engine.chain.get()):
            pass
        first = repeats.to_pylist()[0]
        named = f"log partition {first['log_partition']}, offset {first['log_offset']}, log_seq {first['log_seq']}"
        problems = _problems(shop.engine())
        assert problems[0] == f"ledger at snapshot {DAYS[1]}, {named}: expected duplicate, found applied"
        assert any(", key 'product 1': expected" in problem for problem in problems)
        with pytest.raises(Unproven, match="'stock' at snapshot"):
            rebuild_all(shop.engine())
        assert shop.engine().releaser.current() is None

    def test_a_duplicate_that_was_called_a_conflict_is_found(self, tmp_path: Path, sound: Shop):
        shop = _sealed_only(tmp_path, sound)
        _change_repeats(shop, DAYS[1], lambda t: t.set_column(3, t.schema.field(3), pa.array([2], pa.uint8())))
        engine = shop.engine()
        engine.build(stock, engine.chain.get())
        assert _problems(shop.engine())[0].endswith("expected duplicate, found conflict")


def _sealed_only(tmp_path: Path, sound: Shop) -> Shop:
    shutil.copytree(sound.landing, tmp_path / "landing")
    shop = Shop(tmp_path, SMALL)
    for _ in shop.engine().sealing.seal():
        pass
    return shop


def _change_repeats(shop: Shop, key: str, change) -> pa.Table:
    """Replace the stored deduplication of a snapshot, with right hashes; returns what it was."""
    objects = shop.engine().objects
    path, value = layout_of(shop, key)
    name = value["stock_events"]["repeats"]["name"]
    table = from_parquet(objects.get(name), name)
    data = to_parquet(change(table))
    objects.put(name, data)
    value["stock_events"]["repeats"]["sha256"] = sha256_hex(data)
    write_layout(path, value)
    return table


class Stock(NamedTuple):
    level: int = 0


def _other_meaning():
    @fold(stock_events, version=1, sinks=stock.sinks, expect=stock.expect)
    def stock_(row: Stock, event):
        """A rule that adds all."""
        return row._replace(level=row.level + event.quantity)

    return replace(stock_, name="stock", rule=replace(stock_.rule, name="stock"))


class TestCodeVersion:
    def test_a_rule_of_other_meaning_has_no_state_and_nothing_is_published(self, served: Shop):
        other = _other_meaning()
        assert other.version == stock.version and other.code_version != stock.code_version
        shop = served.declared(stores=[other, product_catalog])
        engine = shop.engine()
        assert _problems(engine, other) == [
            f"not-built at snapshot {day}: expected a state by code version {other.code_version}, found none"
            for day in DAYS
        ]
        _refused(shop, other)

    def test_a_record_of_another_code_version_is_found_by_both_versions(self, served: Shop):
        engine = served.engine()
        name = record_name(stock.name, stock.code_version, engine.chain.get().logs["stock_events"].id)
        write_record(engine.objects, name, read_record(engine.objects, name) | {"code_version": "1-abcdef012345"})
        (problem,) = _problems(served.engine())
        assert problem == f"code-version at snapshot {LAST}: expected {stock.code_version}, found 1-abcdef012345"
        _refused(served)

    def test_a_state_passed_off_as_that_of_another_rule_differs_from_its_replay(self, served: Shop):
        other = _other_meaning()
        shop = served.declared(stores=[other, product_catalog])
        engine = shop.engine()
        for snapshot in engine.chain:
            cut = snapshot.logs["stock_events"]
            body = asdict(served.engine().builder.require(stock, snapshot)) | {"code_version": other.code_version}
            write_record(engine.objects, record_name(other.name, other.code_version, cut.id), body)
        problems = _problems(shop.engine(), other)
        assert any("expected applied, found rejected" in problem for problem in problems)
        assert any(", key 'product 0'" in problem for problem in problems)
        _refused(shop, other)

    def test_the_new_rule_is_rebuilt_from_the_beginning_and_proven(self, served: Shop):
        shop = served.declared(stores=[_other_meaning(), product_catalog])
        rebuild_all(shop.engine())
        assert levels(shop.engine())["product 0"] == 3 * (10 + 3)


class TestProof:
    @pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"{}")])
    def test_a_damaged_or_missing_proof_stops_publishing(self, served: Shop, damage):
        engine = served.engine()
        _, name = engine.prover.require(stock, engine.chain.get())
        damage(served.store / name)
        _refused_by_name(served)
        assert _problems(served.engine()) == []  # the check writes it again

    def test_the_proof_of_another_state_does_not_count(self, served: Shop):
        engine = served.engine()
        _, name = engine.prover.require(stock, engine.chain.get())
        _, older = engine.prover.require(stock, engine.chain.get(DAYS[0]))
        shutil.copy(served.store / older, served.store / name)
        _refused_by_name(served)


def _refused_by_name(shop: Shop) -> None:
    engine = shop.engine()
    for attempt in (
        lambda: engine.publisher.publish(stock, stock.sinks[0], engine.chain.get()),
        lambda: engine.releaser.release(engine.chain.get()),
    ):
        with pytest.raises((Unproven, Damaged), match=r"stock|proofs/stock"):
            attempt()
    assert engine.releaser.current().snapshot == DAYS[1]
