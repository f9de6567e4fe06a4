"""The log that is measured: made up, seeded, the same events on every machine, whatever their number.

`Stream` gives them in memory, in the order of arrival; `benchmarks.dataset` writes them as files. The first million of
ten is the same million: events are made in chunks, each from a generator of its own, and what one chunk hands to the
next has a fixed size, so that memory does not grow with the log.

Keys are drawn by Zipf's law (exponent 1.1); 2% of the events are re-deliveries of earlier ones, half of them from the
same chunk and half from anywhere before; 1% are removals of more than is there. Columns are those of `stock_events`.
The stream keeps the levels as it goes, and so knows the right answer. Nothing here uses the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.answer import Answer, levels_digest

CHUNK_EVENTS = 250_000
_KEPT = 65_536  # earlier events that a later chunk may deliver again
_START_US = 1_575_158_400_000_000  # 2019-12-01, so that a billion events end before 2030
_STEP_US = 300_000
_COUNTRIES = 38

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """What is generated.

    Attributes:
        events: how many, re-deliveries included.
        seed: another one gives other events of the same kind.
        products: how many keys there may be.
        zipf: the exponent of their skew; None takes them in turn, which with `products` = `events` gives every event
            a key of its own.
        redelivered, insufficient: shares of all events.
    """

    events: int
    seed: int = 1
    products: int = 100_000
    zipf: float | None = 1.1
    redelivered: float = 0.02
    insufficient: float = 0.01

    @classmethod
    def wide(cls, events: int, seed: int = 1) -> Shape:
        """Every event adds to a key of its own: a state of as many rows, to publish."""
        return cls(events, seed, products=events, zipf=None, redelivered=0.0, insufficient=0.0)


@dataclass
class _Events:
    """Events by columns; all other columns follow from `number`, the place of the first delivery."""

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    product: Ints
    quantity: Ints
    removes: npt.NDArray[np.bool_]
    number: Ints

    def take(self, rows: Ints) -> _Events:
        """The events at some rows."""
        return _Events(**{name: column[rows] for name, column in vars(self).items()})

    def joined(self, other: _Events) -> _Events:
        """These events, then others."""
        mine, theirs = vars(self), vars(other)
        return _Events(**{name: np.concatenate([mine[name], theirs[name]]) for name in mine})


@dataclass
class Stream:
    """The events of a shape in the order of arrival; iterate once, then `answer` is the answer over all of them."""

    shape: Shape
    applied: int = 0
    rejected: int = 0
    duplicate: int = 0
    _levels: Ints = field(init=False)
    _seen: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self._levels = np.zeros(self.shape.products, dtype=np.int64)
        self._seen = np.zeros(self.shape.products, dtype=np.bool_)

    def __iter__(self) -> Iterator[pa.Table]:
        """Tables of at most `CHUNK_EVENTS` events with the columns of `stock_events`."""
        kept = _nothing()
        for chunk in range(-(-self.shape.events // CHUNK_EVENTS)):
            start = chunk * CHUNK_EVENTS
            rng = np.random.Generator(np.random.PCG64([self.shape.seed, chunk]))
            events = self._chunk(rng, start, min(CHUNK_EVENTS, self.shape.events - start), kept)
            kept = self._keep(rng, kept, events, start)
            yield self._table(events)

    @cached_property
    def _cumulative(self) -> npt.NDArray[np.float64]:
        weights = np.arange(1, self.shape.products + 1, dtype=np.float64) ** -(self.shape.zipf or 0.0)
        return np.cumsum(weights) / weights.sum()

    @cached_property
    def _names(self) -> pa.Array:
        ranks = np.random.Generator(np.random.PCG64(self.shape.seed)).permutation(self.shape.products)
        return pc.binary_join_element_wise("SKU-", pc.utf8_lpad(pa.array(ranks).cast(pa.string()), 7, "0"), "")

    def _chunk(self, rng: np.random.Generator, start: int, count: int, kept: _Events) -> _Events:
        # Always a whole chunk is drawn, so that the first events of a longer log are those of a shorter one.
        n, shape = CHUNK_EVENTS, self.shape
        ids = rng.integers(0, 2**64, (2, n), dtype=np.uint64)
        ids[0] = (ids[0] & np.uint64(0xFFFFFFFFFFFF0FFF)) | np.uint64(0x4000)
        ids[1] = (ids[1] & np.uint64(0x3FFFFFFFFFFFFFFF)) | np.uint64(0x8000000000000000)
        number = np.arange(start, start + n)
        drawn = rng.random((4, n))
        if shape.zipf is None:
            product, kind = number % shape.products, np.zeros(n)
        else:
            product, kind = np.searchsorted(self._cumulative, drawn[0]), drawn[1]
        fresh = _Events(ids[0], ids[1], product, rng.integers(1, 101, n), np.zeros(n, dtype=np.bool_), number)
        again = drawn[2] < shape.redelivered
        source = _sources(again, drawn[3], rng.integers(0, 2, n), len(kept.number))
        applied, rejected = _decide(
            self._levels, fresh.product[:count], kind[:count], shape.insufficient, again, fresh.quantity, fresh.removes
        )
        self.applied, self.rejected = self.applied + applied, self.rejected + rejected
        self.duplicate += int(again[:count].sum())
        self._seen[fresh.product[:count][~again[:count]]] = True
        return kept.joined(fresh).take(source[:count])

    def _keep(self, rng: np.random.Generator, kept: _Events, events: _Events, start: int) -> _Events:
        """A sample of fixed size of all events so far."""
        fresh = events.take(np.flatnonzero(events.number >= start))
        fresh = fresh.take(rng.permutation(len(fresh.number)))
        if len(kept.number) < _KEPT:
            return kept.joined(fresh).take(np.arange(min(_KEPT, len(kept.number) + len(fresh.number))))
        share = rng.random(_KEPT) < CHUNK_EVENTS / (start + CHUNK_EVENTS)
        choice = np.arange(_KEPT)
        choice[share] = _KEPT + np.arange(int(share.sum())) % len(fresh.number)
        return kept.joined(fresh).take(choice)

    def _table(self, events: _Events) -> pa.Table:
        invoice = events.number // 20
        mixed = (invoice * 2654435761) & 0xFFFFFFFF
        country = np.where(mixed % 10 < 9, 0, mixed // 10 % _COUNTRIES)
        customer = pa.array(12346 + mixed % 4372, mask=mixed % 4 == 0).cast(pa.string())
        cents = 25 + events.product * 7919 % 9975
        at = pa.array(_START_US + events.number * _STEP_US).cast(pa.timestamp("us", "UTC"))
        return pa.table(
            {
                "event_id": uuid_texts(events.high, events.low),
                "product_id": self._names.take(pa.array(events.product)),
                "quantity": events.quantity,
                "event_type": pa.array(["add", "remove"]).take(pa.array(events.removes.astype(np.int8))),
                "occurred_at": at,
                "country": pa.array([f"Country {n:02d}" for n in range(_COUNTRIES)]).take(pa.array(country)),
                "invoice_no": pa.array(536365 + invoice).cast(pa.string()),
                "unit_price": _decimals(100 * cents),
                "customer_id": customer,
            }
        )

    @property
    def answer(self) -> Answer:
        """The answer over all events that were given out."""
        keys = self._names.filter(pa.array(self._seen))
        return Answer(levels_digest(keys, self._levels[self._seen]), self.applied, self.rejected, self.duplicate)


def _nothing() -> _Events:
    ids, ints = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    return _Events(ids, ids, ints, ints, np.zeros(0, dtype=np.bool_), ints)


@numba.njit(cache=True)
def _decide(levels, product, kind, insufficient, again, quantity, removes):  # type: ignore[no-untyped-def]
    """Decide in order what each event does, so that removals are insufficient exactly where that is wanted."""
    applied = rejected = 0
    for i in range(product.size):
        if again[i]:
            continue
        level = levels[product[i]]
        if 0.5 <= kind[i] < 0.5 + insufficient and level < 990_000:
            quantity[i] += level
            removes[i] = True
            rejected += 1
            continue
        if kind[i] >= 0.5 and level > 0:
            quantity[i] = min(quantity[i], level)
            removes[i] = True
            levels[product[i]] = level - quantity[i]
        else:
            levels[product[i]] = level + quantity[i]
        applied += 1
    return applied, rejected


@numba.njit(cache=True)
def _sources(again, drawn, far, kept):  # type: ignore[no-untyped-def]
    """For each place the row it shows: of the `kept` earlier events, then of this chunk."""
    source = np.arange(again.size) + kept
    if again.size and kept == 0:
        again[0] = False
    for i in range(again.size):
        if again[i]:
            if kept and (far[i] or i == 0):
                source[i] = int(drawn[i] * kept)
            else:
                source[i] = source[int(drawn[i] * i)]
    return source


def uuid_texts(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> pa.Array:
    """UUIDs as the usual 36 characters.

    >>> uuid_texts(np.array([0x0123456789AB4DEF], np.uint64), np.array([0x8123456789ABCDEF], np.uint64))[0].as_py()
    '01234567-89ab-4def-8123-456789abcdef'
    """
    raw = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    pairs = np.stack([digits[np.arange(256) >> 4], digits[np.arange(256) & 15]], axis=1)
    out = np.full((len(high), 36), ord("-"), dtype=np.uint8)
    place = 0
    for start, end in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 16)):
        width = 2 * (end - start)
        out[:, place : place + width] = pairs[raw[:, start:end]].reshape(len(high), width)
        place += width + 1
    offsets = np.arange(len(high) + 1, dtype=np.int32) * 36
    return pa.StringArray.from_buffers(len(high), pa.py_buffer(offsets), pa.py_buffer(out))


def _decimals(unscaled: Ints) -> pa.Array:
    """Not negative numbers of ten thousandths as decimal(18, 4)."""
    words = np.zeros((len(unscaled), 2), dtype="<i8")
    words[:, 0] = unscaled
    return pa.Array.from_buffers(pa.decimal128(18, 4), len(unscaled), [None, pa.py_buffer(words)])


def batches(stream: Stream, count: int) -> Iterator[pa.Table]:
    """The events of a stream in tables of `count`; the last may be shorter."""
    waiting = None
    for table in stream:
        waiting = table if waiting is None else pa.concat_tables([waiting, table])
        while len(waiting) >= count:
            yield waiting.slice(0, count).combine_chunks()
            waiting = waiting.slice(count)
    if waiting is not None and len(waiting):
        yield waiting.combine_chunks()


def day_key(number: int) -> str:
    """The key of the snapshot with a number, counted in days from 2020-01-01."""
    return str(np.datetime64("2020-01-01") + number)
