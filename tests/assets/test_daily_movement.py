"""Daily movement on a few hand-written days."""

import datetime as dt

from assets.daily_movement import daily_movement
from refold.testing import assert_replay_equal
from tests.support import moved


def test_movement_is_counted_by_the_day_of_the_event_and_country():
    late, on_time = "2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z"
    days = {
        "2026-01-01": [moved("1", "lamp", 10), moved("2", "lamp", -4, country="France")],
        "2026-01-02": [
            moved("2", "lamp", -4, country="France"),  # delivered again: moves nothing
            moved("3", "lamp", -5, country="France", occurred_at=late),
            moved("4", "lamp", -2, country="France", occurred_at=on_time),  # 1 is left: refused
        ],
    }
    rows = assert_replay_equal(daily_movement, days)
    assert [tuple(row.values()) for row in rows] == [
        (dt.date(2026, 1, 1), None, 1, 10, 0, 0),
        (dt.date(2026, 1, 1), "France", 2, 0, 9, 0),
        (dt.date(2026, 1, 2), "France", 0, 0, 0, 1),
    ]
