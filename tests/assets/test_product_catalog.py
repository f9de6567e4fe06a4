"""The catalogue on a few hand-written days."""

from decimal import Decimal

from assets.product_catalog import product_catalog
from refold.testing import assert_replay_equal
from tests.support import changed


def test_the_last_change_of_a_product_stands():
    days = {
        "2026-01-01": [changed(1, "r", "lamp", "Lamp", "9.50"), changed(2, "c", "cup", "Cup", "1")],
        "2026-01-02": [changed(3, "u", "lamp", "Red lamp", "12.3456"), changed(4, "u", "cup", None, None)],
    }
    assert assert_replay_equal(product_catalog, days) == [
        {"product_id": "cup", "description": None, "unit_price": None},
        {"product_id": "lamp", "description": "Red lamp", "unit_price": Decimal("12.3456")},
    ]


def test_a_deleted_product_is_gone_until_it_is_created_again():
    created, deleted = changed(1, "c", "lamp", "Lamp", "9.5"), changed(2, "d", "lamp")
    days = {"2026-01-01": [created], "2026-01-02": [deleted]}
    assert assert_replay_equal(product_catalog, days) == []
    days |= {"2026-01-03": [changed(3, "c", "lamp", "New lamp", "8")]}
    assert assert_replay_equal(product_catalog, days) == [
        {"product_id": "lamp", "description": "New lamp", "unit_price": Decimal("8.0000")}
    ]


def test_a_change_delivered_again_does_not_undo_what_came_after_it():
    old, new = changed(1, "c", "lamp", "Lamp", "9"), changed(2, "u", "lamp", "Red lamp", "9")
    assert assert_replay_equal(product_catalog, {"2026-01-01": [old, new], "2026-01-02": [old]}) == [
        {"product_id": "lamp", "description": "Red lamp", "unit_price": Decimal("9.0000")}
    ]
