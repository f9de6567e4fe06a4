"""Monthly revenue on a few hand-written days."""

import datetime as dt
from decimal import Decimal

from assets.monthly_revenue import monthly_revenue
from refold.testing import assert_replay_equal
from tests.support import moved


def test_revenue_is_exact_and_by_month_and_country():
    february = "2026-02-01T00:00:00Z"
    days = {
        "2026-01-31": [
            moved("1", "lamp", 100, unit_price="5"),  # received, not sold
            moved("2", "lamp", -3, unit_price="0.1"),
            moved("3", "lamp", -1, unit_price="0.0001"),
            moved("4", "lamp", -7),  # no price: no revenue
        ],
        "2026-02-01": [
            moved("5", "lamp", -2, unit_price="10.25", country="France", occurred_at=february),
            moved("6", "lamp", -500, unit_price="10", country="France", occurred_at=february),  # refused
        ],
    }
    assert assert_replay_equal(monthly_revenue, days) == [
        {"month": dt.date(2026, 1, 1), "country": None, "units_sold": 4, "revenue": Decimal("0.3001")},
        {"month": dt.date(2026, 2, 1), "country": "France", "units_sold": 2, "revenue": Decimal("20.5000")},
    ]
