"""Rates: what is learnt from observations, and what the file that keeps them survives."""

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

from refold.plan import runs as outcomes
from refold.plan.rates import COLD, FIRST, MEMORY, ONCE, Observation, Rates, learn
from refold.plan.runs import Measured, Outcome, outcomes_file, read_outcomes, record

WORK = {ONCE: 1.0, "keys": 4, "objects": 4, "events": 100_000, "bytes": 4_000_000}
RUN = Outcome("command", "2026-01-01T00:00:00+00:00", "shop", "2026-01-01", "made up", 2.0, 3.0, 300.0, 310.0,
              [Measured("seal", "seal", WORK, 1.0, 1.5)])  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return tmp_path / "cache"


def seal(events: int, *, keys: int = 1, slower: float = 1.0) -> Observation:
    """An observation of a machine that takes 20 ms a key and 8 µs an event."""
    return Observation("seal", {ONCE: 1.0, "keys": keys, "events": events}, slower * (0.02 * keys + 8e-6 * events))


class TestLearning:
    def test_without_observations_the_first_rates_hold(self):
        assert learn([]).predict("seal", WORK) == Rates().predict("seal", WORK) > 0

    def test_what_was_observed_is_predicted_for_sizes_that_were_not(self):
        rates = learn([seal(10_000), seal(50_000, keys=5), seal(20_000, keys=30), seal(100_000, keys=3)])
        for events, keys in ((400_000, 3), (200_000, 60)):
            unseen = seal(events, keys=keys)
            assert rates.predict("seal", unseen.work) == pytest.approx(unseen.amount, rel=0.1)

    def test_one_odd_run_does_not_move_the_rest(self):
        good = [seal(n * 10_000, keys=n % 7 + 1) for n in range(1, 12)]
        odd = replace(good[3], amount=good[3].amount * 30)
        unseen = seal(300_000, keys=9)
        assert learn([*good, odd]).predict("seal", unseen.work) == pytest.approx(unseen.amount, rel=0.15)

    def test_a_slower_machine_is_slower_also_in_what_it_never_did(self):
        slow = learn([seal(n, slower=5) for n in (10_000, 50_000, 100_000)])
        assert slow.predict("expect", {ONCE: 1, "checks": 3}) > 2 * Rates().predict("expect", {ONCE: 1, "checks": 3})
        assert slow.predict(MEMORY, {"ids": 1.0}) == Rates().predict(MEMORY, {"ids": 1.0})

    def test_unknown_kinds_are_left_out(self):
        assert learn([Observation("of another version", {ONCE: 1.0}, 3.0)]) == Rates()

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(sorted(FIRST)), st.floats(0, 1e7), st.floats(0, 100), st.floats(0, 1e5), st.booleans()
            ),
            max_size=12,
        )
    )
    def test_no_rate_is_ever_below_zero_or_no_number(self, found: list[tuple[str, float, float, float, bool]]):
        rates = learn(
            Observation(kind, {ONCE: 1.0, COLD: float(cold), **dict.fromkeys(list(FIRST[kind])[2:], amount)}, took)
            for kind, amount, _, took, cold in found
        )
        for kind, first in FIRST.items():
            predicted = rates.predict(kind, dict.fromkeys(first, 2.0))
            assert 0 <= predicted < float("inf")


class TestTheFile:
    def test_what_is_recorded_is_read(self):
        assert read_outcomes() == []
        record(RUN)
        record(replace(RUN, seconds=4.0))
        assert read_outcomes() == [RUN, replace(RUN, seconds=4.0)]
        assert outcomes_file().is_relative_to(outcomes.cache_folder())

    def test_a_line_that_a_kill_left_open_costs_only_itself(self, caplog: pytest.LogCaptureFixture):
        record(RUN)
        whole = outcomes_file().read_bytes()
        for cut in range(1, len(whole) - 1, 37):
            outcomes_file().write_bytes(whole + whole[:cut])
            record(RUN)
            assert read_outcomes()[0] == RUN == read_outcomes()[-1]
        assert "damaged" in caplog.text

    @pytest.mark.parametrize(
        "line",
        [b"\xff\xfe", b"[]", b"null", b"{}", b'{"format": 99}', b"{" * 5000, b"1" * 6000],
        ids=["bytes", "list", "null", "empty", "other format", "deep", "number"],
    )
    def test_damage_is_told_and_left_out(self, line: bytes, caplog: pytest.LogCaptureFixture):
        record(RUN)
        with outcomes_file().open("ab") as file:
            file.write(line + b"\n")
        record(RUN)
        assert read_outcomes() == [RUN, RUN]
        assert "1 of 3 lines" in caplog.text

    @pytest.mark.parametrize("value", ["x", None, -1, True, float("nan")])
    def test_a_value_that_is_no_amount_is_damage(self, value: object):
        record(RUN)
        body = json.loads(outcomes_file().read_bytes().strip())
        body["steps"][0]["took"] = body["seconds"] = value
        outcomes_file().write_text(json.dumps(body) + "\n")
        assert read_outcomes() == []

    def test_a_cache_that_cannot_be_used_fails_nothing(self, cache: Path, caplog: pytest.LogCaptureFixture):
        cache.write_text("a file stands where the folder should be")
        caplog.set_level(logging.WARNING)
        assert read_outcomes() == []
        assert not record(RUN)
        assert "could not be kept" in caplog.text

    def test_processes_that_record_at_once_lose_nothing(self):
        running = [subprocess.Popen([sys.executable, "-c", _RECORD_SOME, str(n)]) for n in range(3)]
        assert [process.wait(60) for process in running] == [0, 0, 0]
        found = read_outcomes()
        assert len(found) == 75
        assert {outcome.through for outcome in found} == {f"{n} {i}" for n in range(3) for i in range(25)}


_RECORD_SOME = """
import sys
from refold.plan.runs import Measured, Outcome, record

steps = [Measured(f"step {i}", "seal", {"once": 1.0}, 1.0, 1.0) for i in range(100)]  # longer than a page
for i in range(25):
    assert record(Outcome("command", "", "shop", f"{sys.argv[1]} {i}", "", 1.0, 1.0, 1.0, None, steps))
"""
