"""Product catalogue: the latest description and price of every product that is not deleted."""

from assets.logs import Op, product_changes
from refold import Sql, decimal, expect, latest_by_key, text

product_catalog = latest_by_key(
    product_changes,
    "product_catalog",
    version=1,
    columns={"description": text(null=True), "unit_price": decimal(18, 4, null=True)},
    delete_when=("op", Op.DELETE),
    sinks=[Sql("product_catalog", round_decimals=True)],
    expect=[
        expect("column_values_to_be_unique", column="product_id"),
        expect("column_values_to_not_be_null", column="unit_price", severity="warn"),
    ],
    description="One row per product in the catalogue, as its last change left it.",
)
