"""What an application does: `python read_price.py bolt`."""

import os
import sys

from refold import CachedRows
from refold.errors import NotFound, Unavailable


def price_of(product: str, url: str) -> str:
    """The price of a product as the last release shows it, or why there is none."""
    cached = CachedRows(url, "prices")
    try:
        row = cached.get(product)
    except (NotFound, Unavailable) as error:
        return f"ask the database: {error}"
    return f"{product} costs {row['price']}" if row else f"{product} has no price"


if __name__ == "__main__":
    sys.stdout.write(price_of(sys.argv[1], os.environ["REFOLD_CONNECTION_CACHE"]) + "\n")
