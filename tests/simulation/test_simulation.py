"""Sealers, builders, publishers, a pruner, a compactor and readers in virtual time, with faults by seed.

`python -m tests.simulation --seeds 10000` runs many more.
"""

from __future__ import annotations

import pytest

from tests.simulation.simulation import shrink, simulate
from tests.simulation.world import Safeguard


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_what_is_promised_holds_whatever_happens(first: int):
    """No reader sees a mix, state equals replay at the end, fencing holds, nothing is lost, everything ends."""
    for seed in range(first, first + 10):
        outcome = simulate(seed)
        assert outcome.violation == "", f"seed {seed}: {outcome.violation}"
        assert len(outcome.faults) > 5


@pytest.mark.parametrize("safeguard", Safeguard)
def test_without_a_safeguard_a_violation_is_found_and_shrunk(safeguard: Safeguard):
    """Within 1,000 seeds, so that the simulator can see; none of the faults that are left can be left out."""
    found = next(outcome for seed in range(1000) if (outcome := simulate(seed, safeguard)).violation)
    least = shrink(found, safeguard)
    assert least.violation and len(least.faults) <= min(len(found.faults), 6)
    for fault in least.faults:
        assert not simulate(least.seed, safeguard, frozenset(least.faults) - {fault}).violation


def test_a_seed_gives_the_same_run_again():
    assert simulate(7) == simulate(7)
    assert simulate(7) != simulate(8)


def test_without_faults_nothing_is_wrong_and_it_is_soon_over():
    outcome = simulate(3, kept=frozenset())
    assert (outcome.violation, outcome.faults) == ("", ())
    assert outcome.seconds < 200
