"""Prices from a log of changes, served from a Redis or Valkey cache that can be lost at any time."""

import datetime as dt

from refold import Cache, Daily, Log, Project, decimal, latest_by_key, text

price_changes = Log(
    "price_changes",
    key="product",
    event_id="change_id",
    columns={"change_id": text(), "product": text(empty=False), "price": decimal(12, 2)},
    owner="team:prices",
    description="Every change of a price.",
)

prices = latest_by_key(
    price_changes,
    "prices",
    version=1,
    columns={"price": decimal(12, 2)},
    # Readers would rather ask elsewhere than read prices that nobody has confirmed for two days. What was served before
    # may go after a week: rolling back to it then means publishing it again.
    sinks=[Cache("prices", ttl_seconds=2 * 86_400, former_ttl_seconds=7 * 86_400)],
    description="The price of every product now.",
)

PROJECT = Project("price_cache", cadence=Daily(dt.date(2026, 3, 1)), stores=[prices])
