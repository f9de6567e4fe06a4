"""Sell-through on a few hand-written days."""

from assets.sell_through import sell_through
from refold.testing import assert_replay_equal
from tests.support import moved


def test_sell_through_is_what_left_over_what_came():
    days = {
        "2026-01-01": [moved("1", "lamp", 8), moved("2", "lamp", -2), moved("3", "cup", 3)],
        "2026-01-02": [moved("4", "lamp", -4), moved("5", "lamp", -99), moved("6", "vase", -1)],
    }
    assert assert_replay_equal(sell_through, days) == [
        {"product_id": "cup", "units_added": 3, "units_removed": 0, "sell_through": 0.0},
        {"product_id": "lamp", "units_added": 8, "units_removed": 6, "sell_through": 0.75},
    ]
