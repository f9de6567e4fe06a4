"""Ids that are repeated with other content: a limit stops sealing with examples; what was sealed is listed whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import ConflictLimits, Log, Sql, text
from refold.dedup.conflicts import conflicts_of
from refold.errors import ConflictLimit
from refold.log.reader import LogReader
from tests import shop
from tests.shop import DAYS, move
from tests.support import Shop

NONE = replace(shop.moves, conflicts=ConflictLimits(), columns=shop.moves.columns | {"note": text(null=True)})


def _house(root: Path, log: Log = NONE) -> Shop:
    return Shop(root, shop.little({"on_hand": [Sql("on_hand")]}, moves=log))


def _land(house: Shop, *days: list[dict[str, Any]]) -> None:
    for day, records in zip(DAYS, days, strict=False):
        shop.land(house.landing, "moves", day, records)


class TestByDefault:
    def test_one_conflict_stops_its_snapshot_with_both_places_and_values(self, tmp_path: Path):
        house = _house(tmp_path)
        _land(house, [move("a", "cup", 1), move("b", "cup", 2)], [move("c", "cup", 1), move("a", "cup", 5, note="?")])
        sealed = []
        with pytest.raises(ConflictLimit) as stopped:
            sealed += [report.snapshot.key for report in house.engine().sealing.seal()]
        assert [snapshot.key for snapshot in house.engine().chain] == [DAYS[0]]
        message = str(stopped.value)
        assert f"Log 'moves' was not sealed at snapshot {DAYS[1]}: 1 of 2 new events of {DAYS[1]} repeat" in message
        assert f"id 'a': moves/dt={DAYS[0]}/a.jsonl line 1 (quantity 1, note None), then " in message
        assert f"moves/dt={DAYS[1]}/a.jsonl line 2 (quantity 5, note '?')" in message
        assert "declare another event_id" in message and "ConflictLimits" in message
        assert stopped.value.kind == "conflict-limit"

    def test_a_repeated_delivery_of_the_same_content_stops_nothing(self, tmp_path: Path):
        house = _house(tmp_path)
        _land(house, [move("a", "cup", 1), move("a", "cup", 1)], [move("a", "cup", 1)])
        assert len(list(house.engine().sealing.seal())) == 2

    def test_a_conflict_within_one_object_and_across_log_partitions_is_seen(self, tmp_path: Path):
        house = _house(tmp_path)
        _land(house, [move("a", "cup", 1), move("a", "pot", 1), *(move("a", f"p{n}", 1) for n in range(9))])
        with pytest.raises(ConflictLimit, match=r"10 of 11 new events(.|\n)*… and 5 more"):
            list(house.engine().sealing.seal())


class TestADeclaredLimit:
    @pytest.mark.parametrize(
        ("limits", "seals"),
        [
            (ConflictLimits(records_max=2), True),
            (ConflictLimits(records_max=1), False),
            (ConflictLimits(records_max=9, share_max=0.5), True),
            (ConflictLimits(records_max=9, share_max=0.49), False),
        ],
    )
    def test_is_passed_by_count_or_by_share(self, tmp_path: Path, limits: ConflictLimits, seals: bool):
        house = _house(tmp_path, replace(NONE, conflicts=limits))
        _land(house, [move("a", "cup", 1), move("b", "cup", 1), move("a", "cup", 2), move("b", "cup", 2)])
        if seals:
            assert len(list(house.engine().sealing.seal())) == 1
        else:
            with pytest.raises(ConflictLimit, match="2 of 4 new events"):
                list(house.engine().sealing.seal())


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["cup", "pot"]), st.integers(1, 3)), max_size=8)


@settings(max_examples=30, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_the_list_is_that_of_a_dictionary(tmp_path_factory: pytest.TempPathFactory, days: list[list[tuple]]):
    house = _house(tmp_path_factory.mktemp("house"), replace(NONE, conflicts=shop.ANY_CONFLICTS))
    _land(house, *([move(*event) for event in day] for day in days))
    engine = house.engine()
    list(engine.sealing.seal(DAYS[len(days) - 1]))
    first, expected = {}, []
    for day, events in zip(DAYS, days, strict=False):
        for line, event in enumerate(events, 1):
            kept = first.setdefault(event[0], (day, line, event))
            if kept[2] != event:
                expected.append((day, *kept, day, line, event))
    found = [
        (
            each.snapshot,
            *(
                side
                for event in (each.first, each.later)
                for side in (
                    event["source_object"].split("dt=")[1][:10],
                    event["source_line"],
                    (event["id"], event["product"], event["quantity"]),
                )
            ),
        )
        for each in conflicts_of(LogReader(engine.objects, engine.chain, house.project.log("moves")), engine.chain)
    ]
    assert sorted(found) == sorted(expected)


class TestCommand:
    @pytest.fixture
    def house(self, tmp_path: Path) -> Shop:
        house = _house(tmp_path, replace(NONE, conflicts=shop.ANY_CONFLICTS))
        _land(house, [move("a", "cup", 1), move("b", "cup", 2)], [move("a", "cup", 5), move("b", "pot", 2)])
        list(house.engine().sealing.seal())
        (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.seal.test_conflicts:PROJECT"\n')
        return house

    def test_shows_both_deliveries_and_what_differs(self, house: Shop):
        shown = " ".join(house.refold("conflicts", project=house.root).output.split())
        assert "moves: 2 conflicts" in shown
        assert "quantity 1" in shown and "quantity 5" in shown and "product cup" in shown and "product pot" in shown
        assert "moves: 2 conflicts, the first 1" in house.refold("conflicts", "--limit", "1", project=house.root).output

    def test_prints_json(self, house: Shop):
        lines = house.refold("conflicts", "moves", "--json", project=house.root).output.splitlines()
        found = [json.loads(line) for line in lines]
        assert [each["columns"] for each in found] == [["quantity"], ["product"]]
        assert found[0]["first"]["quantity"] == 1 and found[0]["later"]["quantity"] == 5
        assert found[0]["later"]["source_object"] == f"moves/dt={DAYS[1]}/a.jsonl"


PROJECT = _house(Path("anywhere"), replace(NONE, conflicts=shop.ANY_CONFLICTS)).project
