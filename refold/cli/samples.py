"""The templates of `refold init`: what each declares, and the made-up events of its sample."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Event = Mapping[str, Any]


class Template(NamedTuple):
    """A kind of first store: the name of its log and store, the days of its sample, and an event that arrives late."""

    sentence: str
    log: str
    store: str
    days: Sequence[Sequence[tuple[Any, ...]]]
    late: tuple[Any, ...]
    record: Callable[..., Event]

    def events(self, start: dt.date) -> dict[str, list[Event]]:
        """The records of the sample by day; what is delivered again is as it was."""
        found: dict[str, list[Event]] = {}
        made: dict[int, Event] = {}
        for number, records in enumerate(self.days):
            date = start + dt.timedelta(days=number)
            found[str(date)] = [made.setdefault(each[0], self.record(date, *each)) for each in records]
        return found

    def late_events(self, start: dt.date) -> dict[str, list[Event]]:
        """The record that arrives late, in the first day."""
        return {str(start): [self.record(start, *self.late)]}


def _movement(day: dt.date, number: int, product: str, units: int) -> Event:
    movement = "add" if units > 0 else "remove"
    event = {"event_id": f"e{number}", "product_id": product, "movement": movement, "quantity": abs(units)}
    return {**event, "occurred_at": f"{day}T09:{number:02}:00Z"}


def _booking(day: dt.date, number: int, account: str, amount: str) -> Event:
    kind = "withdrawal" if amount.startswith("-") else "deposit"
    event = {"booking_id": f"b{number}", "account": account, "kind": kind, "amount": amount.removeprefix("-")}
    return {**event, "booked_at": f"{day}T09:{number:02}:00Z"}


def _change(day: dt.date, number: int, key: str, name: str | None, city: str | None) -> Event:
    return {"change_id": number, "op": "upsert" if name else "delete", "id": key, "name": name, "city": city}


TEMPLATES: Mapping[str, Template] = {
    "stock": Template(
        "units on hand per product; a removal that would go below zero is rejected",
        "stock_events",
        "stock",
        [
            [(1, "lamp", 10), (2, "cup", 4), (3, "lamp", -3)],
            [(3, "lamp", -3), (4, "cup", -5), (5, "chair", 2)],  # one delivered again, one without stock
            [(6, "lamp", -2), (7, "cup", -4)],
        ],
        (8, "chair", 1),
        _movement,
    ),
    "account": Template(
        "the balance per account; a withdrawal without cover is refused",
        "bookings",
        "balance",
        [
            [(1, "ann", "100.00"), (2, "bob", "20.00"), (3, "ann", "-30.50")],
            [(3, "ann", "-30.50"), (4, "bob", "-20.01"), (5, "eve", "5.00")],
            [(6, "ann", "-9.50"), (7, "bob", "-20.00")],
        ],
        (8, "eve", "1.00"),
        _booking,
    ),
    "latest": Template(
        "the latest row per key of a log of changes; a delete removes it",
        "row_changes",
        "latest_rows",
        [
            [(1, "a", "Ann", "Bonn"), (2, "b", "Bob", "Kiel")],
            [(2, "b", "Bob", "Kiel"), (3, "a", "Ann", "Mainz"), (4, "c", "Eve", "Trier")],
            [(5, "b", None, None)],
        ],
        (6, "c", "Eve", "Worms"),
        _change,
    ),
}
