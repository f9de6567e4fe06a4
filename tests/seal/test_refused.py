"""Limits by day of landing, against a count by hand; and what is refused, listed before anything is sealed."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refold import ConflictLimits, QuarantineLimits, Sql
from refold.errors import QuarantineLimit, RefusedLanding
from tests import shop
from tests.shop import DAYS, move
from tests.support import Shop

LIMITS = QuarantineLimits(share_max=0.2, records_max=4, records_min=1)
SINKS = {"on_hand": [Sql("on_hand")]}


class TestLimitsOfQuarantine:
    @pytest.mark.parametrize(
        ("found", "passed"),
        [
            ((0, 0, 0, 0), False),
            ((3, 3, 90, 90), False),  # a small day
            ((4, 79, 90, 9000), True),  # 4 are more than 5 % of 79
            ((4, 80, 90, 9000), False),
            ((1000, 10**6, 90, 10**9), False),
            ((1001, 10**6, 90, 10**9), True),
            ((1, 2, 1 << 20, 1 << 20), False),  # a small day by its bytes
            ((1, 100, (1 << 20) + 1, 20 * (1 << 20)), True),  # one record, and more than 5 % of the bytes
            ((1, 100, (1 << 20) + 1, 20 * (1 << 20) + 20), False),
            ((1, 10**6, (64 << 20) + 1, 10**12), True),
            ((1, 100, (1 << 20) + 1, 0), False),  # a decoder that does not say how large an object is
        ],
    )
    def test_are_a_share_a_number_and_a_minimum_of_records_and_of_bytes(self, found: tuple[int, ...], passed: bool):
        assert QuarantineLimits().passed(*found) is passed

    def test_one_line_that_holds_a_whole_day_stops_it(self, tmp_path: Path):
        house = Shop(tmp_path, shop.little(SINKS, moves=replace(shop.moves, quarantine=QuarantineLimits())))
        house.land(f"moves/dt={DAYS[0]}/a.jsonl", b"{" + b" " * (1 << 20), *(move(str(n), "cup", 1) for n in range(99)))
        with pytest.raises(QuarantineLimit, match=r"1 of 100 records \(1,048,577 of [0-9,]+ bytes\)"):
            list(house.engine().sealing.seal())


RECORDS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 2), st.booleans()), max_size=7)


@settings(max_examples=40, deadline=None)
@given(st.lists(RECORDS, min_size=3, max_size=3), st.sampled_from([0, 1, 2]), st.sampled_from([0.3, 1.0]))
@example([[], [("a", 1, False)] * 3, [("a", 2, False)] * 3], 1, 1.0)
def test_days_that_wait_together_are_counted_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, days: list[list[tuple[str, int, bool]]], records: int, share: float
):
    """Three days enter one snapshot: the dry run and sealing refuse them exactly where a day alone passes a limit."""
    limits = ConflictLimits(records_max=records, share_max=share)
    log = replace(shop.moves, quarantine=LIMITS, conflicts=limits)
    house = Shop(tmp_path_factory.mktemp("house"), shop.little(SINKS, moves=log))
    shop.land(house.landing, "moves", DAYS[0], [])
    list(house.engine().sealing.seal(DAYS[2]))
    contents: dict[str, int] = {}
    refused, bad, conflicts = False, 0, 0
    for day, found in zip(DAYS, days, strict=False):
        house.land(f"moves/dt={day}/b.jsonl", *("{" if broken else move(i, "cup", n) for i, n, broken in found))
        events = [(i, n) for i, n, broken in found if not broken]
        counts = Counter(contents.setdefault(i, n) != n for i, n in events)
        broken = len(found) - len(events)
        bad, conflicts = bad + broken, conflicts + counts[True]
        refused = refused or counts[True] > records or counts[True] > share * len(events)
        refused = refused or broken > 4 or (broken > 1 and broken > 0.2 * len(found))
    (run,) = house.engine().sealing.dry_run(DAYS[3])
    before = house.files()
    assert (bool(run.errors), len(run.bad), run.count_conflicts()) == (refused, bad, conflicts)
    assert len(list(run.conflicts())) == conflicts
    assert house.files() == before
    if refused:
        with pytest.raises(RefusedLanding):
            list(house.engine().sealing.seal(DAYS[3]))
    else:
        list(house.engine().sealing.seal(DAYS[3]))
        assert len(house.engine().quarantine()) == bad


class TestCommands:
    @pytest.fixture
    def house(self, tmp_path: Path) -> Shop:
        """A day that is sealed, and one of which a conflict, bad records and an object are refused."""
        house = Shop(tmp_path, PROJECT)
        house.land(f"moves/dt={DAYS[0]}/a.jsonl", move("a", "cup", 1))
        list(house.engine().sealing.seal())
        house.land(f"moves/dt={DAYS[1]}/a.jsonl", move("a", "cup", 5), "{one", "{two")
        house.land(f"moves/dt={DAYS[1]}/b.jsonl.gz").write_bytes(b"\x1f\x8b")
        (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.seal.test_refused:PROJECT"\n')
        return house

    def test_show_conflicts_that_wait_with_both_contents_and_all_errors(self, house: Shop):
        before = house.files()
        result = house.refold("conflicts", "moves", "--refused", project=house.root)
        shown = " ".join((result.output + result.stderr).split())
        assert result.exit_code == 0
        assert "moves: 1 conflict in landing" in shown and "quantity 1" in shown and "quantity 5" in shown
        assert all(kind in shown for kind in ("unreadable-object", "quarantine-limit", "conflict-limit"))
        assert house.files() == before
        (line,) = house.refold("conflicts", "--refused", "--json", project=house.root).stdout.splitlines()
        assert json.loads(line)["later"]["source_object"] == f"moves/dt={DAYS[1]}/a.jsonl"

    def test_show_records_that_wait_and_those_in_quarantine(self, house: Shop):
        shown = " ".join(house.refold("quarantine", "ls", "--refused", project=house.root).output.split())
        assert "2 records in landing that cannot be events" in shown and "{one" in shown and "not-json" in shown
        lines = house.refold("quarantine", "ls", "moves", "--refused", "--json", project=house.root).stdout.splitlines()
        found = [json.loads(line) for line in lines]
        assert [(each["record"], base64.b64decode(each["raw_base64"])) for each in found] == [
            (2, b"{one"),
            (3, b"{two"),
        ]
        assert "0 records in quarantine" in house.refold("quarantine", "ls", project=house.root).output

    def test_say_which_objects_wait_in_sealed_folders(self, house: Shop):
        (house.landing / "moves" / f"dt={DAYS[1]}" / "b.jsonl.gz").rename(
            house.landing / "moves" / f"dt={DAYS[0]}/b.jsonl.gz"
        )
        shown = " ".join(house.refold("log", "ls", project=house.root).output.split())
        assert f"moves/dt={DAYS[0]}/ (1 object) waits: it landed late." in shown


STRICT = replace(shop.moves, quarantine=QuarantineLimits(records_min=0), conflicts=ConflictLimits())
PROJECT = shop.little(SINKS, moves=STRICT)
