"""Stores of the shop and of the little project declared otherwise: what the tests compare with. Not a test."""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import NamedTuple

from assets.daily_movement import daily_movement
from assets.logs import Movement, product_changes, stock_events
from assets.product_catalog import product_catalog
from assets.product_search import product_search
from refold import date, decimal, fold, int64, latest_by_key, reject, relation, text
from tests.shop import Level, moves


class Why(IntEnum):
    INSUFFICIENT_STOCK = 1


class Stock(NamedTuple):
    level: int = 0


class Counted(NamedTuple):
    level: int = 0
    movements: int = 0


@fold(stock_events, version=2)
def credit(row: Stock, event):
    """Units on hand; a removal may go below zero."""
    if event.event_type == Movement.ADD:
        return row._replace(level=row.level + event.quantity)
    return row._replace(level=row.level - event.quantity)


@fold(stock_events, version=2)
def doubled(row: Stock, event):
    """Units on hand, where seven are taken for fourteen: rows part while the outcomes are still the same."""
    quantity = event.quantity
    if quantity == 7 and event.event_type == Movement.ADD:
        quantity = 14
    if event.event_type == Movement.ADD:
        return row._replace(level=row.level + quantity)
    if quantity > row.level:
        return reject(Why.INSUFFICIENT_STOCK)
    return row._replace(level=row.level - quantity)


@fold(stock_events, version=2)
def counted(row: Counted, event):
    """The level as it always was, and how many movements made it."""
    match event.event_type:
        case Movement.ADD:
            return row._replace(level=row.level + event.quantity, movements=row.movements + 1)
        case Movement.REMOVE if event.quantity > row.level:
            return reject(Why.INSUFFICIENT_STOCK)
    return row._replace(level=row.level - event.quantity, movements=row.movements + 1)


keeping = latest_by_key(
    product_changes,
    "product_catalog",
    version=2,
    columns={"description": text(null=True), "unit_price": decimal(18, 4, null=True)},
)
"""A catalogue that takes a delete for a change like any other."""

lenient_stock = replace(credit, name="stock")
lenient_movement = replace(daily_movement, reads=(lenient_stock.ledger,))
lenient_search = replace(product_search, reads=(lenient_stock, product_catalog))


@relation(reads=[lenient_stock.ledger], key=["event_date"], returns={"event_date": date(), "events": int64()})
def by_day():
    """Another key than day and country."""
    return "SELECT event_date, count(*) AS events FROM stock_ledger GROUP BY event_date"


@fold(moves, version=2)
def twice(row: Level, event):
    """Bolts come in pairs."""
    if event.product == "bolt":
        return row._replace(level=row.level + 2 * event.quantity)
    return row._replace(level=row.level + event.quantity)
