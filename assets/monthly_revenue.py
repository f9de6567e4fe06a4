"""Monthly revenue: what the goods that left the shop were sold for, by month and country."""

from assets.stock import stock
from refold import Delta, date, decimal, int64, relation, text


@relation(
    reads=[stock.ledger],
    key=["month", "country"],
    returns={
        "month": date(),
        "country": text(null=True),
        "units_sold": int64(),
        "revenue": decimal(38, 4),
    },
    sinks=[Delta("monthly_revenue")],
    owner="team:analytics",
)
def monthly_revenue():
    """Units sold and their price, exact, for applied removals that carry a price."""
    return """
        SELECT
            CAST(date_trunc('month', event_date) AS DATE) AS month,
            country,
            sum(quantity) AS units_sold,
            sum(CAST(quantity AS DECIMAL(18, 0)) * unit_price) AS revenue
        FROM stock_ledger
        WHERE outcome = 'applied' AND event_type = 'remove' AND unit_price IS NOT NULL
        GROUP BY month, country
    """
