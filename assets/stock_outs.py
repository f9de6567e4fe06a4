"""Stock-outs: the products whose removals were refused for want of stock, and how much was missed."""

from assets.stock import stock
from refold import Delta, expect, int64, relation, text, timestamp


@relation(
    reads=[stock.ledger, stock],
    key=["product_id"],
    returns={
        "product_id": text(),
        "refused_removals": int64(),
        "units_refused": int64(),
        "first_refused_at": timestamp(),
        "last_refused_at": timestamp(),
        "level": int64(),
    },
    sinks=[Delta("stock_outs")],
    expect=[expect("column_values_to_be_between", column="refused_removals", min_value=1)],
    owner="team:analytics",
)
def stock_outs():
    """One row per product that ever ran out while somebody wanted it, with its level now."""
    return """
        SELECT
            product_id,
            count(*) AS refused_removals,
            sum(quantity) AS units_refused,
            min(occurred_at) AS first_refused_at,
            max(occurred_at) AS last_refused_at,
            max(stock.level) AS level
        FROM stock_ledger
        JOIN stock USING (product_id)
        WHERE outcome = 'rejected' AND reason = 'INSUFFICIENT_STOCK'
        GROUP BY product_id
    """
