"""Rates from recorded runs, and the file of recorded runs under damage."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.base.kernel_cache import cache_folder
from refold.plan.rates import UNIT_SECONDS, Measured, Rates, usual_seconds
from refold.plan.runs import RunRecord, Via, read_runs, record, runs_file
from refold.rebuild import StageKind

WORK = {"starts": 1, "keys": 4, "objects": 4, "events": 100_000}
RUN = RunRecord(Via.COMMAND, "2026-01-01T00:00:00+00:00", "shop", "2026-01-01", "made up", 2.0, 3.0, 300.0, 310.0,
                [Measured("seal", StageKind.SEAL, WORK, 1.0, 1.5)])  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return tmp_path / "cache"


def seal(events: int, *, slower: float = 1.0) -> Measured:
    """A stage on a machine that takes `slower` times the usual seconds."""
    work = {"starts": 1, "keys": 1, "events": events}
    return Measured("seal", StageKind.SEAL, work, 1.0, slower * usual_seconds(StageKind.SEAL, work))


def fold(log: str, *, slower: float) -> Measured:
    """Folding 10 snapshots of a log."""
    work = {"folds": 10, "events": 1000}
    return Measured(f"fold {log}", StageKind.FOLD, work, 1.0, slower * usual_seconds(StageKind.FOLD, work))


def predicted(rates: Rates, stage: Measured) -> float:
    """What a stage is expected to take, in usual seconds of its work."""
    return rates.seconds(stage.name, stage.kind, stage.work) / usual_seconds(stage.kind, stage.work)


class TestRates:
    def test_the_usual_seconds_are_the_sum_over_units(self):
        assert usual_seconds(StageKind.SEAL, WORK) == pytest.approx(
            sum(UNIT_SECONDS[StageKind.SEAL][name] * amount for name, amount in WORK.items())
        )

    def test_every_kind_of_stage_has_units(self):
        assert set(UNIT_SECONDS) == set(StageKind)
        assert all(seconds > 0 for units in UNIT_SECONDS.values() for seconds in units.values())

    def test_without_recorded_stages_the_usual_seconds_hold(self):
        assert predicted(Rates(), seal(1000)) == 1.0

    def test_one_odd_run_does_not_move_the_prediction(self):
        rates = Rates([seal(100_000, slower=2.0), seal(100_000, slower=60.0), seal(100_000, slower=2.0)])
        assert predicted(rates, seal(100_000)) == pytest.approx(2.0)

    def test_stages_of_similar_size_count_before_others(self):
        rates = Rates([seal(1_000, slower=5.0), seal(10_000_000, slower=2.0)])
        assert predicted(rates, seal(2_000)) == pytest.approx(5.0)
        assert predicted(rates, seal(9_000_000)) == pytest.approx(2.0)
        assert predicted(rates, seal(300_000)) == pytest.approx(3.5)  # none is similar: all of the kind

    def test_stages_of_the_same_log_count_before_others(self):
        rates = Rates([fold("a", slower=3.0), fold("b", slower=7.0)])
        assert [predicted(rates, fold(log, slower=1)) for log in "abc"] == pytest.approx([3.0, 7.0, 5.0])

    def test_a_slower_machine_is_slower_also_at_what_it_never_did(self):
        rates = Rates(seal(n, slower=5.0) for n in (10_000, 50_000, 100_000))
        assert predicted(rates, fold("a", slower=1)) == pytest.approx(5.0)

    def test_only_the_newest_nine_similar_stages_count(self):
        old, new = [seal(100_000, slower=9.0)] * 30, [seal(100_000, slower=2.0)] * 9
        assert predicted(Rates([*old, *new]), seal(100_000)) == pytest.approx(2.0)
        assert predicted(Rates([*new, *old]), seal(100_000)) == pytest.approx(9.0)

    def test_stages_that_did_not_run_or_had_no_work_count_for_nothing(self):
        idle = Measured("seal", StageKind.SEAL, {"keys": 0}, 0.0, 3.0)
        assert predicted(Rates([idle, replace(seal(1_000), took=None)]), seal(1_000)) == 1.0

    @given(
        st.lists(
            st.tuples(st.sampled_from(sorted(StageKind)), st.floats(0, 1e7), st.none() | st.floats(0, 1e5)),
            max_size=12,
        )
    )
    def test_no_prediction_is_below_zero_or_infinite(self, found: list[tuple[StageKind, float, float | None]]):
        rates = Rates(
            Measured(str(kind), kind, dict.fromkeys(UNIT_SECONDS[kind], amount), 0.0, took)
            for kind, amount, took in found
        )
        for kind, units in UNIT_SECONDS.items():
            assert 0 <= rates.seconds("", kind, dict.fromkeys(units, 2.0)) < float("inf")


class TestTheFile:
    def test_what_is_recorded_is_read(self):
        assert read_runs() == []
        record(RUN)
        record(replace(RUN, seconds=4.0))
        assert read_runs() == [RUN, replace(RUN, seconds=4.0)]
        assert runs_file().is_relative_to(cache_folder())

    def test_a_line_that_a_kill_left_open_costs_only_itself(self, caplog: pytest.LogCaptureFixture):
        record(RUN)
        whole = runs_file().read_bytes()
        for cut in range(1, len(whole) - 1, 37):
            runs_file().write_bytes(whole + whole[:cut])
            record(RUN)
            assert read_runs()[0] == RUN == read_runs()[-1]
        assert "damaged" in caplog.text

    @pytest.mark.parametrize(
        "line",
        [b"\xff\xfe", b"[]", b"null", b"{}", b'{"format": 1, "via": "calibration"}', b"{" * 5000, b"1" * 6000],
        ids=["bytes", "list", "null", "empty", "other format", "deep", "number"],
    )
    def test_damage_is_reported_and_skipped(self, line: bytes, caplog: pytest.LogCaptureFixture):
        record(RUN)
        with runs_file().open("ab") as file:
            file.write(line + b"\n")
        record(RUN)
        assert read_runs() == [RUN, RUN]
        assert "1 of 3 lines" in caplog.text

    @pytest.mark.parametrize("value", ["x", None, -1, True, float("nan")])
    def test_a_value_that_is_not_an_amount_is_damage(self, value: object):
        record(RUN)
        body = json.loads(runs_file().read_bytes().strip())
        body["stages"][0]["took"] = body["seconds"] = value
        runs_file().write_text(json.dumps(body) + "\n")
        assert read_runs() == []

    def test_a_cache_that_cannot_be_used_fails_nothing(self, cache: Path, caplog: pytest.LogCaptureFixture):
        cache.write_text("a file in place of the folder")
        caplog.set_level(logging.WARNING)
        assert read_runs() == []
        assert not record(RUN)
        assert "could not be recorded" in caplog.text

    def test_processes_that_record_at_once_lose_nothing(self):
        running = [subprocess.Popen([sys.executable, "-c", _RECORD_SOME, str(n)]) for n in range(3)]
        assert [process.wait(60) for process in running] == [0, 0, 0]
        found = read_runs()
        assert len(found) == 75
        assert {run.through for run in found} == {f"{n} {i}" for n in range(3) for i in range(25)}


_RECORD_SOME = """
import sys
from refold.plan.rates import Measured
from refold.plan.runs import RunRecord, Via, record
from refold.rebuild import StageKind

stages = [Measured(f"stage {i}", StageKind.SEAL, {"keys": 1}, 1.0, 1.0) for i in range(100)]  # longer than a page
for i in range(25):
    assert record(RunRecord(Via.COMMAND, "", "shop", f"{sys.argv[1]} {i}", "", 1.0, 1.0, 1.0, None, stages))
"""
