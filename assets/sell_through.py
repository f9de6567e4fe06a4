"""Sell-through: the share of the units received of every product that has left the shop."""

from assets.stock import stock
from refold import Delta, expect, int64, ratio, relation, text


@relation(
    reads=[stock.ledger],
    key=["product_id"],
    returns={
        "product_id": text(),
        "units_added": int64(),
        "units_removed": int64(),
        "sell_through": ratio(null=True),
    },
    sinks=[Delta("sell_through")],
    expect=[expect("column_values_to_be_between", column="sell_through", min_value=0, max_value=1)],
    owner="team:analytics",
)
def sell_through():
    """Units removed over units added per product, from what was applied; null where nothing was ever added."""
    return """
        SELECT product_id, units_added, units_removed, units_removed / nullif(units_added, 0) AS sell_through
        FROM (
            SELECT
                product_id,
                coalesce(sum(quantity) FILTER (event_type = 'add'), 0) AS units_added,
                coalesce(sum(quantity) FILTER (event_type = 'remove'), 0) AS units_removed
            FROM stock_ledger
            WHERE outcome = 'applied'
            GROUP BY product_id
        )
    """
