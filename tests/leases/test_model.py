"""Every interleaving of processes that hold one lease is searched: nobody writes with an older token than was taken."""

from __future__ import annotations

import pytest

from tests.leases.model import Safeguard, search


def test_no_interleaving_lets_a_former_holder_write():
    """Three processes, three tokens, every order of their steps."""
    states, way = search(processes=3)
    assert way == []
    assert states > 10_000


@pytest.mark.parametrize("safeguard", Safeguard)
def test_without_a_safeguard_the_search_finds_a_violation(safeguard: Safeguard):
    """The way is short and ends with the late write."""
    _, way = search(processes=2, without=safeguard)
    assert way, safeguard
    assert "after" in way[-1]
    assert len(way) < 15
