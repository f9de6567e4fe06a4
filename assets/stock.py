"""Stock: the units on hand of every product, folded from the movements of goods."""

from enum import IntEnum
from typing import Annotated, NamedTuple

from assets.logs import Movement, stock_events
from refold import Sql, expect, fold, reject


class Why(IntEnum):
    """Why a movement is refused."""

    INSUFFICIENT_STOCK = 1


class Stock(NamedTuple):
    """A product before its first event has nothing on hand."""

    level: Annotated[int, "Units on hand, never below zero."] = 0


@fold(
    stock_events,
    version=1,
    sinks=[Sql("stock_view")],
    expect=[
        expect("column_values_to_be_between", column="level", min_value=0),
        expect("column_values_to_be_unique", column="product_id"),
    ],
)
def stock(row: Stock, event):
    """Units on hand of one product. A removal that would go below zero is rejected."""
    match event.event_type:
        case Movement.ADD:
            return row._replace(level=row.level + event.quantity)
        case Movement.REMOVE if event.quantity > row.level:
            return reject(Why.INSUFFICIENT_STOCK)
    return row._replace(level=row.level - event.quantity)
