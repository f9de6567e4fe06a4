"""Product search: one document per product, joining what it is with how many there are."""

from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import BulkNdjson, Tantivy, documents, expect

product_search = documents(
    "product_search",
    left=stock,
    right=product_catalog,
    how="full",
    version=1,
    sinks=[BulkNdjson("product_search"), Tantivy("product_search")],
    expect=[expect("column_values_to_be_unique", column="product_id")],
    owner="team:search",
    description="Every product that is in the catalogue or ever was in stock, with description, price and level.",
)
