"""A shop whose carts are written at two counters that do not wait for each other, and its table of conflicts."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from refold import (
    Daily,
    Delta,
    Log,
    Project,
    Sql,
    TieBreak,
    conflicts,
    int64,
    latest_by_version,
    text,
    version_vector,
)

writes = Log(
    "cart_writes",
    key="cart",
    event_id="id",
    columns={"id": text(), "cart": text(), "vector": version_vector(), "lamps": int64(0), "rugs": int64(0)},
)


class Cart(NamedTuple):
    lamps: int = 0
    rugs: int = 0


def most_of_each(one: Cart, other):
    """No article that either counter put in is lost."""
    if other.lamps > one.lamps:
        one = one._replace(lamps=other.lamps)
    if other.rugs > one.rugs:
        one = one._replace(rugs=other.rugs)
    return one


KEPT = ["lamps", "rugs"]
carts = latest_by_version(
    writes,
    "carts",
    version=1,
    by="vector",
    columns=KEPT,
    resolve=most_of_each,
    sinks=[Sql("carts"), Delta("carts")],
)
fullest = latest_by_version(writes, "carts", version=1, by="vector", columns=KEPT, resolve=TieBreak("lamps"))
cart_conflicts = conflicts(carts, "cart_conflicts", sinks=[Sql("cart_conflicts"), Delta("cart_conflicts")])

PROJECT = Project("carts", Daily(dt.date(2026, 1, 1)), [carts, cart_conflicts])
