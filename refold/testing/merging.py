"""What a user tests of a store of versions: that its policy is a merge, and that deliveries may come in any order.

`assert_merge` needs Hypothesis.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from refold.errors import FixInput
from refold.landing.jsonl import JsonLines
from refold.log.declaration import POSITION
from refold.stores.declaration import DELETED, Folded
from refold.stores.kinds.versions import VersionStore
from refold.stores.kinds.versions_fold import Side, Values, values_of
from refold.stores.state import KeyedRows


def assert_merge(store: VersionStore, *, examples: int = 200) -> None:
    """Demand that a store's `resolve` is commutative, associative and idempotent, over values drawn by Hypothesis.

    A policy that is not depends on which of two equal writes is called the first.

    Raises AssertionError with the law that fails and values for which it does.
    """
    from hypothesis import Phase, given, settings  # noqa: PLC0415  # the rest of this module does without
    from hypothesis import strategies as st  # noqa: PLC0415

    from refold.testing.strategies import values  # noqa: PLC0415

    drawn = st.fixed_dictionaries({name: values(kind) for name, kind in store.picked.items()})

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate, Phase.shrink]
    )
    @given(st.tuples(drawn, drawn, drawn))
    def holds(three: tuple[Mapping[str, Any], ...]) -> None:
        for law, found, expected in _laws(store, _sides(store, three)):
            shown = json.dumps(three, ensure_ascii=False)
            assert found == expected, (
                f"Store {store.name!r}: {store.versions.resolver} is not {law}: {found} is not {expected}, "
                f"for a, b, c = {shown}"
            )

    holds()


def _sides(store: VersionStore, three: Sequence[Mapping[str, Any]]) -> list[Side]:
    raw = b"".join(json.dumps(each).encode() + b"\n" for each in three)
    found = JsonLines().decode("drawn.jsonl", raw, store.picked)
    return [store.versions.side({"drawn": 1}, kept, False) for kept in values_of(found.rows, store.picked)]


def _laws(store: VersionStore, sides: Sequence[Side]) -> Iterator[tuple[str, Values, Values]]:
    """The laws, each with the two sides of its equation."""

    def both(one: Side, other: Side) -> Side:
        (kept,) = store.versions.resolver.resolve([[one, other]], store.picked)
        return store.versions.side({"drawn": 1}, kept, False)

    a, b, c = sides
    yield "commutative", both(a, b).values, both(b, a).values
    yield "associative", both(both(a, b), c).values, both(a, both(b, c)).values
    yield "idempotent", both(a, a).values, a.values


def assert_order_does_not_matter(store: Folded, records: Sequence[Mapping[str, Any]], *, orders: int = 50) -> str:
    """Deliver records in many orders, in several parts, some of them twice, and demand the same content of every key.

    The orders are the given one, its reverse, and shuffles by a fixed seed. Returns the digest of the rows without
    their places in the log, which no store keeps equal.

    Raises AssertionError with the first order that gives another row, and FixInput where a record is no event.

    >>> from refold import Log, TieBreak, int64, latest_by_version, text, version_vector
    >>> columns = {"n": int64(), "id": text(), "name": text(), "seen": version_vector()}
    >>> log = Log("writes", key="id", event_id="n", columns=columns)
    >>> names = latest_by_version(log, "names", version=1, by="seen", columns=["name"], resolve=TieBreak("name"))
    >>> one, other = ({"n": n, "id": "a", "name": name, "seen": {name: 1}} for n, name in enumerate(["Ann", "Bea"]))
    >>> len(assert_order_does_not_matter(names, [one, other]))
    64
    """
    raw = b"".join(json.dumps(each).encode() + b"\n" for each in records)
    decoded = store.log.decoder.decode(f"delivered{store.log.decoder.suffixes[0]}", raw, store.log.columns)
    if decoded.bad or not len(decoded.rows):
        raise FixInput(f"Expected events of log {store.log.name!r}: {[each.detail for each in decoded.bad[:3]]}.")
    rng, given = random.Random(0), list(range(len(decoded.rows)))
    expected, names = _delivered(store, decoded.rows, [given]), [*store.log.key_columns]
    for number in range(orders):
        again = rng.choices(given, k=max(1, len(given) // 4))
        order = given[::-1] if number == 0 else rng.sample([*given, *again], len(given) + len(again))
        cut = rng.randrange(len(order) + 1)
        found = _delivered(store, decoded.rows, [order[:cut], order[cut:]])
        if found.digest() != expected.digest():
            rows = zip(
                *(each.table.sort_by([(n, "ascending") for n in names]).to_pylist() for each in (expected, found)),
                strict=True,
            )
            one, other = next(pair for pair in rows if pair[0] != pair[1])
            raise AssertionError(
                f"Store {store.name!r} keeps {one} of {given}, and {other} of {order} (records from 0)."
            )
    return expected.digest()


def _delivered(store: Folded, events: pa.Table, parts: Sequence[Sequence[int]]) -> KeyedRows:
    """The rows of all keys after events were delivered, in parts."""
    names = list(store.log.key_columns)
    keys = events.select(names).group_by(names, use_threads=False).aggregate([])
    code_of = {tuple(key.values()): code for code, key in enumerate(keys.to_pylist())}
    codes = np.array([code_of[tuple(key.values())] for key in events.select(names).to_pylist()], dtype=np.int64)
    rows = pa.concat_tables([store.row_before.select(store.folded_columns)] * len(keys)).combine_chunks()
    for part in parts:
        if part:
            taken = events.take(pa.array(part))
            rows = store.fold(rows, codes[list(part)], taken, np.ones(len(part), dtype=np.bool_)).rows
    columns = {name: kind for name, kind in store.state_columns.items() if name not in POSITION}
    table = pa.table({**{n: keys[n] for n in names}, **{n: rows[n] for n in store.folded_columns}})
    assert DELETED not in names
    return KeyedRows(columns, names, table.select(list(columns)))
