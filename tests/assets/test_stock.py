"""Stock on a few hand-written days."""

from assets.stock import stock
from refold.testing import assert_replay_equal
from tests.support import moved


def test_units_are_added_removed_and_never_below_zero():
    days = {
        "2026-01-01": [moved("1", "lamp", 10), moved("2", "lamp", -4), moved("3", "cup", -1)],
        "2026-01-02": [],
        "2026-01-03": [moved("4", "lamp", -7), moved("5", "lamp", -6), moved("6", "cup", 2)],
    }
    assert assert_replay_equal(stock, days) == [
        {"product_id": "cup", "level": 2},  # nothing to remove from at first
        {"product_id": "lamp", "level": 0},  # 10 - 4, then 7 is too much, 6 is not
    ]


def test_an_event_delivered_again_counts_once_and_the_first_content_stands():
    days = {
        "2026-01-01": [moved("1", "lamp", 10), moved("1", "lamp", 10)],
        "2026-01-02": [moved("1", "lamp", 10), moved("1", "lamp", 99), moved("2", "lamp", -3)],
    }
    assert assert_replay_equal(stock, days) == [{"product_id": "lamp", "level": 7}]


def test_a_refused_removal_is_not_tried_again_when_it_is_delivered_again():
    days = {"2026-01-01": [moved("1", "lamp", -1), moved("2", "lamp", 5)], "2026-01-02": [moved("1", "lamp", -1)]}
    assert assert_replay_equal(stock, days) == [{"product_id": "lamp", "level": 5}]


def test_what_moved_before_there_was_any_is_a_row_of_nothing():
    assert assert_replay_equal(stock, {"2026-01-01": [moved("1", "lamp", -1)]}) == [{"product_id": "lamp", "level": 0}]


def test_a_record_that_says_no_amount_moves_nothing():
    days = {"2026-01-01": [moved("1", "lamp", 10), {**moved("2", "lamp", 1), "quantity": 0}, "not json"]}
    assert assert_replay_equal(stock, days, quarantined=2) == [{"product_id": "lamp", "level": 10}]
