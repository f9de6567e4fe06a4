"""Stock-outs on a few hand-written days."""

import datetime as dt

from assets.stock_outs import stock_outs
from refold.testing import assert_replay_equal
from tests.support import moved


def test_a_stock_out_tells_what_was_missed_when_and_what_is_there_now():
    days = {
        "2026-01-01": [
            moved("1", "lamp", 1),
            moved("2", "lamp", -2, occurred_at="2026-01-01T11:00:00Z"),
            moved("3", "cup", 5),
            moved("4", "cup", -5),
        ],
        "2026-01-02": [moved("5", "lamp", -4, occurred_at="2026-01-02T12:00:00Z"), moved("6", "lamp", 8)],
    }
    assert assert_replay_equal(stock_outs, days) == [
        {
            "product_id": "lamp",
            "refused_removals": 2,
            "units_refused": 6,
            "first_refused_at": dt.datetime(2026, 1, 1, 11, tzinfo=dt.UTC),
            "last_refused_at": dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC),
            "level": 9,
        }
    ]
