"""The library `eventsourcing`: an aggregate a product, its events triggered and applied in memory, nothing saved."""

from __future__ import annotations

from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from benchmarks.answer import Levels
from benchmarks.peers.plain_loop import events
from benchmarks.program import Program


class InsufficientStockError(Exception):
    """A removal of more than is there."""


class Stock(Aggregate):
    """The units on hand of one product."""

    @event("Registered")
    def __init__(self, product_id: str) -> None:
        self.product_id = product_id
        self.level = 0

    @staticmethod
    def create_id(product_id: str) -> UUID:
        """The aggregate's id, from the product's."""
        return uuid5(NAMESPACE_URL, product_id)

    @event("Added")
    def add(self, event_id: str, quantity: int) -> None:
        """Put units on stock."""
        self.level += quantity

    @event("Removed")
    def remove(self, event_id: str, quantity: int) -> None:
        """Take units off stock."""
        if quantity > self.level:
            raise InsufficientStockError
        self.level -= quantity


def work(data: Path, started: None) -> Levels:
    """Route every event to its aggregate; what is triggered is dropped, as nothing is saved."""
    stocks: dict[str, Stock] = {}
    seen: set[str] = set()
    applied = rejected = duplicate = 0
    for moved in events(data):
        if moved.event_id in seen:
            duplicate += 1
            continue
        seen.add(moved.event_id)
        stock = stocks.get(moved.product_id)
        if stock is None:
            stock = stocks[moved.product_id] = Stock(moved.product_id)
        try:
            (stock.add if moved.event_type == "add" else stock.remove)(moved.event_id, moved.quantity)
            applied += 1
        except InsufficientStockError:
            rejected += 1
        stock.collect_events()
    return Levels(stocks.keys(), [stock.level for stock in stocks.values()], applied, rejected, duplicate)


PROGRAM = Program(work)
