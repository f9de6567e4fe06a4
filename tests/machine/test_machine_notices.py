"""The machine notices engines that are broken on purpose: without that, its silence would say nothing."""

from __future__ import annotations

import re

import pytest

from tests.machine.machine import prepare
from tests.machine.mutants import MUTANTS
from tests.machine.running import run_batch

BATCH, BATCHES_MAX = 25, 8
SEEDS = {
    "late_events_are_not_deduplicated": 4,
    "the_manifest_is_written_before_its_layout": 2,
    "a_build_resumes_one_snapshot_too_late": 2,
    "checkpoints_are_trusted_blindly": 1,
    "what_is_not_proven_is_published": 6,
    "a_killed_release_is_not_rolled_forward": 1,
    "a_rollback_is_undone_by_the_next_run": 2,
}
"""Where to begin, so that each is noticed within some ten schedules; else 0. From any seed it takes up to a hundred."""

CRASH = re.compile(r"^[\s|]*(TypeError|AttributeError|NameError|KeyError|IndexError|ValueError)\b", re.MULTILINE)
"""What a mutant that no longer fits the engine ends in, which says nothing of the machine."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_is_noticed_within_a_bounded_number_of_schedules(name: str):
    prepare()
    schedules = 0
    with MUTANTS[name]():
        for seed in range(SEEDS.get(name, 0), SEEDS.get(name, 0) + BATCHES_MAX):
            result = run_batch(seed, 0, BATCH, shrink=False)
            schedules += result.schedules
            if result.failure:
                assert not CRASH.search(result.failure), f"it is the mutant that fails: {result.failure}"
                return
    pytest.fail(f"{name}: not noticed in {schedules} schedules")
