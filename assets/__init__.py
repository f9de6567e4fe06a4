"""The derived stores of this project, one file each, and the project they make up.

A new store is one file here, one line in `PROJECT`, and one test that calls `refold.testing.assert_replay_equal`.
"""

import datetime as dt
from pathlib import Path

from assets.daily_movement import daily_movement
from assets.monthly_revenue import monthly_revenue
from assets.product_catalog import product_catalog
from assets.product_search import product_search
from assets.sell_through import sell_through
from assets.stock import stock
from assets.stock_outs import stock_outs
from refold import Daily, Project


def _sample(folder: Path, late: bool) -> object:
    from examples.shop_landing import write, write_late  # noqa: PLC0415  # only `refold sample` needs it

    return write_late(folder) if late else write(folder)


PROJECT = Project(
    "shop",
    cadence=Daily(start=dt.date(2010, 12, 1), end=dt.date(2011, 6, 2)),  # a live log has no end
    stores=[
        stock,
        product_catalog,
        daily_movement,
        stock_outs,
        sell_through,
        monthly_revenue,
        product_search,
    ],
    sample=_sample,
)
