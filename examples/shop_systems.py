"""The systems of a small homeware shop, day by day: tills, warehouse and catalogue, and the faults they have.

What is delivered, line by line. How lines become landing files, and the right answers, are in
`examples.shop_landing`. Everything is made up. Chance comes from `random.Random.getrandbits` alone.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

Event = dict[str, str | int | None]
T = TypeVar("T")

_RANGES = {
    "Linen": ("Napkin Set", "Tea Towel", "Table Runner", "Apron", "Cushion Cover"),
    "Stoneware": ("Mug", "Serving Bowl", "Milk Jug", "Butter Dish", "Crème Brûlée Dish"),
    "Brass": ("Candle Holder", "Door Hook", "Hand Bell", "Letter Tray", "Lantern"),
    "Glass": ("Carafe", "Bud Vase", "Tumbler Set", "Storage Jar", "Cake Dome"),
    "Beech": ("Bread Board", "Rolling Pin", "Spice Rack", "Coat Hanger", "Peg Rail"),
    "Enamel": ("Colander", "Pie Dish", "Watering Can", "Bread Bin", "Teapot"),
}
_COLOURS = ("Cream", "Forest Green", "Dusty Pink", "Slate Blue", "Mustard", "Charcoal", "White", "Terracotta")
_COUNTRIES = ("United Kingdom",) * 31 + ("Germany", "Germany", "France", "France", "Ireland", "Netherlands", "Norway")
_PACKS = (1, 1, 1, 2, 2, 2, 3, 4, 4, 6, 6, 8, 12, 12, 24, 36)
_BAD_KINDS = ("cut off", "negative quantity", "null key", "unknown event type", "not a number")
_NEVER_STOCKED = (23, 41)
_NOT_IN_CATALOGUE = 52


class Draws:
    """The one source of chance: whole numbers from `getrandbits`, whose algorithm (MT19937) does not change."""

    def __init__(self, seed: int) -> None:
        self._bits = random.Random(seed).getrandbits

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        return self._bits(64) % bound

    def pick(self, items: Sequence[T]) -> T:
        """One of the items; one that occurs twice comes twice as often."""
        return items[self.below(len(items))]

    def uuid(self) -> str:
        """A UUID of version 4, as text."""
        digits = f"{self._bits(128):032x}"
        variant = "89ab"[int(digits[16], 16) % 4]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class Paper(NamedTuple):
    """What movements that belong together share; goods from the warehouse come without an invoice."""

    day: dt.date
    minute: int
    country: str | None = None
    invoice_no: str | None = None
    customer_id: str | None = None


class Line(NamedTuple):
    """One line as it is delivered, and what it means: an event, a catalogue change, or what is wrong with it."""

    text: str
    event: Event | None = None
    wrong: str = ""


def event_line(event: Event) -> Line:
    """The line by which the shop's systems deliver an event."""
    return Line(json.dumps(event, ensure_ascii=False), event)


@dataclass
class Product:
    """One product: its place in the demand, how many units a receipt brings, and what the catalogue says of it."""

    product_id: str
    description: str
    pence: int
    weight: int
    lot: int
    listed: bool = False
    deleted: bool = False

    @property
    def unit_price(self) -> str:
        """The price in pounds, as text."""
        return f"{self.pence // 100}.{self.pence % 100:02d}"

    def entry(self) -> dict[str, str]:
        """The catalogue's row."""
        return {"product_id": self.product_id, "description": self.description, "unit_price": self.unit_price}


def assortment(draws: Draws) -> list[Product]:
    """Sixty products, the best sellers first."""
    names = [
        f"{_COLOURS[(7 * n + 3 * half) % len(_COLOURS)]} {material} {thing}"
        for half in range(2)
        for n, (material, thing) in enumerate((m, t) for m, things in _RANGES.items() for t in things)
    ]
    ids = [str(21000 + 37 * n) for n in range(len(names))]
    ids[8], ids[31] = "21340A", "21340a"
    products = []
    for rank in range(len(ids)):
        weight = 12000 // (rank + 4)
        pence = 100 * draws.below(19) + draws.pick((25, 50, 75, 95))
        products.append(Product(ids[rank], names.pop(draws.below(len(names))), pence, weight, 24 * (1 + weight // 50)))
    return products


@dataclass
class Shop:
    """The shop from day to day: what it has, what is on its way, and what its systems send."""

    draws: Draws
    scale: int
    products: list[Product] = field(init=False)
    stock: dict[str, int] = field(default_factory=dict)
    on_order: list[tuple[dt.date, Product]] = field(default_factory=list)
    history: dict[dt.date, list[Event]] = field(default_factory=dict)
    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=600))
    refused: deque[Event] = field(default_factory=lambda: deque(maxlen=40))
    last_change: dict[str, Line] = field(default_factory=dict)
    outdated: list[Line] = field(default_factory=list)
    invoice: int = 536000
    lsn: int = 0

    def __post_init__(self) -> None:
        self.products = assortment(self.draws)
        self._stocked = [product for n, product in enumerate(self.products) if n not in _NEVER_STOCKED]
        self._wheel = [product for product in self.products for _ in range(product.weight // 60)]

    def day(self, number: int, day: dt.date) -> list[Line]:
        """The stock lines of the `number`-th trading day, in order of delivery."""
        events = [*self._receipts(number, day), *self._sales(day)]
        for event in events:
            self._book(event)
        lines = [event_line(event) for event in events]
        self._send_again_today(lines)
        if number % 4 == 3:
            again = [self.draws.pick(self.recent) for _ in range(5)]
            again += [self.refused.popleft() for _ in range(min(3, len(self.refused)))]
            lines[:0] = [event_line(event) for event in again]
        if number % 17 == 6:
            self._insert(lines, event_line(self._contradicted(self.recent)))
        if number % 9 == 5:
            for _ in range(2):
                self._insert(lines, self._bad(day))
        self.recent.extend(events)
        self.history[day] = events
        return lines

    def offline_till(self, day: dt.date) -> list[Line]:
        """What an offline till sends weeks later: that day's sales and returns, some known, one contradicted."""
        events = [event for n in range(4) for event in self._invoice_lines(day, 600 + 7 * n)]
        events += [self._movement("add", self.draws.pick(self._stocked), 4, Paper(day, 700)) for _ in range(3)]
        that_day = self.history[day]
        known = [self.draws.pick(that_day), self.draws.pick(that_day), self._contradicted(that_day)]
        lines = [event_line(event) for event in [*events, *known]]
        self._insert(lines, self._bad(day))
        return lines

    def changes(self, number: int, day: dt.date) -> list[Line]:
        """The catalogue's change events of the `number`-th trading day."""
        lines: list[Line] = []
        if number == 0:
            listed = [p for n, p in enumerate(self.products) if n != _NOT_IN_CATALOGUE]
            lines = [self._create(product, day) for product in listed]
        if number % 29 == 12:
            lines += [self.draws.pick(self.outdated), self.draws.pick(self.outdated)]
        if number % 5 == 2:
            lines += [self._reprice(day) for _ in range(2 + self.draws.below(3))]
        if number % 19 == 7:
            lines.append(self._delete(self.draws.pick([p for p in self.products[20:] if p.listed]), day))
        if number % 19 == 15 and (gone := [p for p in self.products if p.deleted and not p.listed]):
            gone[0].pence += 50
            lines.append(self._create(gone[0], day))
        return lines

    def _receipts(self, number: int, day: dt.date) -> Iterator[Event]:
        if number == 0:
            self.on_order = [(day, product) for product in self._stocked]
        elif day.weekday() in (0, 3):
            coming = Counter(product.product_id for _, product in self.on_order)
            for product in self._stocked:
                if self.stock.get(product.product_id, 0) * 10 < product.lot * 6 and not coming[product.product_id]:
                    self.on_order.append((day + dt.timedelta(days=2 + self.draws.below(6)), product))
        due = [product for when, product in self.on_order if when <= day]
        self.on_order = [(when, product) for when, product in self.on_order if when > day]
        for product in due:
            units = product.lot * self.scale
            yield self._movement("add", product, units, Paper(day, 400 + self.draws.below(60)))

    def _sales(self, day: dt.date) -> Iterator[Event]:
        busy = 16 if day.month == 12 else 8 if day.weekday() == 6 else 12
        minutes = sorted(480 + self.draws.below(600) for _ in range((busy + 2 * self.draws.below(9)) * self.scale))
        for minute in minutes:
            yield from self._invoice_lines(day, minute)

    def _invoice_lines(self, day: dt.date, minute: int) -> Iterator[Event]:
        """One invoice: a customer's purchase of a few products, or (one in thirty) a return of one."""
        self.invoice += 1
        customer = str(12300 + self.draws.below(900)) if self.draws.below(5) else None
        country = self.draws.pick(_COUNTRIES)
        if self.draws.below(30) == 0:
            product = self.draws.pick(self._stocked)
            paper = Paper(day, minute, country, f"C{self.invoice}", customer)
            yield self._movement("add", product, 1 + self.draws.below(4), paper)
            return
        paper = Paper(day, minute, country, str(self.invoice), customer)
        for _ in range(1 + self.draws.below(14)):
            product = self.draws.pick(self._wheel)
            yield self._movement("remove", product, self.draws.pick(_PACKS), paper)

    def _movement(self, event_type: str, product: Product, quantity: int, paper: Paper) -> Event:
        return {
            "event_id": self.draws.uuid(),
            "product_id": product.product_id,
            "quantity": quantity,
            "event_type": event_type,
            "occurred_at": f"{paper.day.isoformat()}T{paper.minute // 60:02d}:{paper.minute % 60:02d}:00Z",
            "country": paper.country,
            "invoice_no": paper.invoice_no,
            "unit_price": product.unit_price if paper.invoice_no else None,
            "customer_id": paper.customer_id,
        }

    def _book(self, event: Event) -> None:
        """Keep the shop's own count, by which it orders; the expected answer has a count of its own."""
        product_id, quantity = str(event["product_id"]), int(event["quantity"] or 0)
        level = self.stock.get(product_id, 0)
        if event["event_type"] == "add":
            self.stock[product_id] = level + quantity
        elif quantity <= level:
            self.stock[product_id] = level - quantity
        else:
            self.refused.append(event)

    def _send_again_today(self, lines: list[Line]) -> None:
        for _ in range(1 + self.draws.below(2)):
            at = self.draws.below(len(lines))
            event = lines[at].event
            if event is not None:
                written_otherwise = json.dumps({**event, "till": "T2"}, sort_keys=True, separators=(",", ":"))
                lines.insert(at + 1 + self.draws.below(len(lines) - at), Line(written_otherwise, event))

    def _contradicted(self, events: Sequence[Event]) -> Event:
        first = self.draws.pick(events)
        return {**first, "quantity": int(first["quantity"] or 0) + 1}

    def _bad(self, day: dt.date) -> Line:
        event = self._movement("remove", self.draws.pick(self.products), 2, Paper(day, 610))
        wrong = self.draws.pick(_BAD_KINDS)
        spoiled: dict[str, Event] = {
            "negative quantity": {"quantity": -2},
            "null key": {"product_id": None},
            "unknown event type": {"event_type": "adjust"},
        }
        text = json.dumps({**event, **spoiled.get(wrong, {})}, ensure_ascii=False)
        if wrong == "cut off":
            text = text[: len(text) // 2]
        if wrong == "not a number":
            text = text.replace('"quantity": 2', '"quantity": NaN')
        return Line(text, None, wrong)

    def _insert(self, lines: list[Line], line: Line) -> None:
        lines.insert(self.draws.below(len(lines) + 1), line)

    def _change(self, op: str, before: dict[str, str] | None, after: dict[str, str] | None, day: dt.date) -> Line:
        self.lsn += 1
        source = {"connector": "postgresql", "db": "shop", "schema": "public", "table": "products"}
        moment = 1000 * (86400 * (day - dt.date(1970, 1, 1)).days + 25200 + self.lsn % 3600)
        record = {
            "before": before,
            "after": after,
            "op": op,
            "ts_ms": moment,
            "source": {**source, "lsn": self.lsn, "txId": self.lsn, "snapshot": "false"},
        }
        row = after or before or {}
        line = Line(json.dumps(record, ensure_ascii=False), {"op": op, "lsn": self.lsn, **row})
        if row["product_id"] in self.last_change:
            self.outdated.append(self.last_change[row["product_id"]])
        self.last_change[row["product_id"]] = line
        return line

    def _create(self, product: Product, day: dt.date) -> Line:
        product.listed = True
        return self._change("c", None, product.entry(), day)

    def _reprice(self, day: dt.date) -> Line:
        product = self.draws.pick([p for p in self.products if p.listed])
        before = product.entry()
        product.pence += 5 * (1 + self.draws.below(12))
        if self.draws.below(4) == 0:
            product.description = product.description.removesuffix(", Boxed") + ", Boxed"
        return self._change("u", before, product.entry(), day)

    def _delete(self, product: Product, day: dt.date) -> Line:
        product.listed, product.deleted = False, True
        return self._change("d", product.entry(), None, day)
