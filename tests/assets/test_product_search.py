"""Search documents on a few hand-written days."""

from decimal import Decimal

from assets.product_search import product_search
from refold.testing import assert_replay_equal
from tests.support import changed, moved


def test_a_document_joins_what_a_product_is_with_how_many_there_are():
    days = {
        "stock_events": {"2026-01-01": [moved("1", "lamp", 10)], "2026-01-02": [moved("2", "lamp", -3)]},
        "product_changes": {"2026-01-01": [changed(1, "c", "lamp", "Lamp", "9.5")]},
    }
    assert assert_replay_equal(product_search, days) == [
        {"product_id": "lamp", "level": 7, "description": "Lamp", "unit_price": Decimal("9.5000")}
    ]


def test_a_product_known_to_one_side_only_has_a_document_too():
    days = {
        "stock_events": {"2026-01-01": [moved("1", "in stock", 1), moved("2", "deleted", 2)]},
        "product_changes": {
            "2026-01-01": [changed(1, "c", "deleted", "Gone", "1"), changed(2, "c", "in catalogue", "New", "2")],
            "2026-01-02": [changed(3, "d", "deleted")],
        },
    }
    rows = assert_replay_equal(product_search, days)
    assert [(row["product_id"], row["level"], row["description"]) for row in rows] == [
        ("deleted", 2, None),
        ("in catalogue", None, "New"),
        ("in stock", 1, None),
    ]
