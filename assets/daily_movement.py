"""Daily movement: what moved each day and country, and how many removals were refused."""

from assets.stock import stock
from refold import Delta, date, expect, int64, relation, text


@relation(
    reads=[stock.ledger],
    key=["event_date", "country"],
    returns={
        "event_date": date(),
        "country": text(null=True),
        "applied_events": int64(),
        "units_added": int64(),
        "units_removed": int64(),
        "rejected_events": int64(),
    },
    sinks=[Delta("daily_movement")],
    expect=[
        expect("column_values_to_be_between", column=name, min_value=0) for name in ("units_added", "units_removed")
    ],
    owner="team:analytics",
)
def daily_movement():
    """Units added and removed per day of the event and country, from what was applied."""
    return """
        SELECT
            event_date,
            country,
            count(*) FILTER (outcome = 'applied') AS applied_events,
            coalesce(sum(quantity) FILTER (outcome = 'applied' AND event_type = 'add'), 0) AS units_added,
            coalesce(sum(quantity) FILTER (outcome = 'applied' AND event_type = 'remove'), 0) AS units_removed,
            count(*) FILTER (outcome = 'rejected') AS rejected_events
        FROM stock_ledger
        WHERE outcome IN ('applied', 'rejected')
        GROUP BY event_date, country
    """
