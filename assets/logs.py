"""The two logs of the shop: what moved in and out of stock, and what changed in the catalogue."""

from enum import Enum

from refold import ConflictLimits, Debezium, JsonLines, Log, decimal, enum, int64, text, timestamp


class Movement(Enum):
    """What an event does to stock."""

    ADD = "add"
    REMOVE = "remove"


class Op(Enum):
    """What a change event did to a catalogue row, as Debezium writes it."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"


CONFLICTS = ConflictLimits(records_max=1000)
"""The sample delivers some ids again with other content, so that one sees what becomes of them."""

stock_events = Log(
    "stock_events",
    key="product_id",
    event_id="event_id",
    event_time="occurred_at",
    columns={
        "event_id": text().described("One delivery of a movement; the same again is a duplicate."),
        "product_id": text().described("The product, as the shop numbers it."),
        "quantity": int64(1, 10**6).described("How many units moved."),
        "event_type": enum(Movement).described("Whether units came in or went out."),
        "occurred_at": timestamp(),
        "country": text(null=True).described("Where the customer is; null for goods received."),
        "invoice_no": text(null=True).described("The invoice of a sale or a return."),
        "unit_price": decimal(18, 4, null=True).described("What one unit was sold for."),
        "customer_id": text(null=True).described("Who bought; null where the shop does not know."),
    },
    decoder=JsonLines(),
    conflicts=CONFLICTS,
    owner="team:inventory",
    description="Every movement of goods: receipts and returns add units, sales remove them.",
)

product_changes = Log(
    "product_changes",
    key="product_id",
    event_id="lsn",
    columns={
        "lsn": int64(0),
        "op": enum(Op),
        "product_id": text(),
        "description": text(null=True),
        "unit_price": decimal(18, 4, null=True),
    },
    decoder=Debezium(paths={"lsn": ("source.lsn",)}),
    conflicts=CONFLICTS,
    owner="team:catalogue",
    description="Every change of the product catalogue, captured from its database in commit order.",
)
