"""The little shop that the machine works on, declared twice: once interpreted, once compiled.

A rule store that rejects and ignores, a latest-by-key store that deletes, and a relation over the ledger of one and
the states of both. Sinks: three views in one SQLite database, one bulk export.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from refold import BulkNdjson, Project, Sql, int64, relation, text
from refold.engine import Engine
from refold.storage.objects import ObjectStore, OpenStore
from refold.storage.wrappers import WrapperStore, wrapped
from refold.stores.declaration import Store
from refold.stores.kinds.rule import RuleStore
from refold.stores.relating import RelationRunner
from tests import shop, support
from tests.machine.model import PARTITIONS
from tests.shop import START, moves

__all__ = ["COMPILED", "INTERPRETED", "SINKS", "START", "VIEWS", "Shop", "compile_rules", "moves"]
assert moves.partitions == PARTITIONS

VIEWS = {"on_hand": "stock_view", "last_move": "last_view"}
"""The SQL view of each store that has one."""

SINKS = {"Sql/stock_view": "on_hand", "Sql/last_view": "last_move", "BulkNdjson/tally_docs": "tally"}
"""The store behind each sink, by title."""


def _tally(on_hand: RuleStore, last_move: Store) -> list[Store]:
    @relation(
        reads=[on_hand.ledger, on_hand, last_move],
        key=["product", "outcome"],
        returns={"product": text(), "outcome": text(), "events": int64(), "units": int64(), "level": int64(),
                 "last": int64(null=True)},
        sinks=[BulkNdjson("tally_docs")],
    )  # fmt: skip
    def tally() -> str:
        """Events and units by product and outcome, beside the product's level and its last quantity."""
        return """
            SELECT l.product, l.outcome, count(*) AS events, sum(l.quantity) AS units, max(s.level) AS level,
                   max(m.quantity) AS last
            FROM on_hand_ledger l JOIN on_hand s ON s.product = l.product
            LEFT JOIN last_move m ON m.product = l.product
            GROUP BY l.product, l.outcome
        """

    return [tally]


def _project() -> Project:
    return shop.little({store: [Sql(view)] for store, view in VIEWS.items()}, more=_tally)


INTERPRETED, COMPILED = _project(), _project()
_runner = RelationRunner()


def compile_rules() -> None:
    """Load the compiled rule; the interpreted project has a rule of its own, which stays as it is."""
    for store in COMPILED.folded:
        if isinstance(store, RuleStore):
            assert store.rule.compile(), store.rule.interpreted_because


class Shop(support.Shop):
    """The project in a folder, opened anew as often as needed.

    `wrap` makes of every store the one that the engine is given; mutants make a broken one of it.
    """

    wrap: Callable[[ObjectStore], ObjectStore] = WrapperStore

    def __init__(self, root: Path) -> None:
        super().__init__(root, INTERPRETED)
        (self.landing / moves.name).mkdir(parents=True)

    def engine(self, compiled: bool = False, open_store: OpenStore = ObjectStore.open) -> Engine:
        """A new engine, which knows what is stored and nothing else, as one in another process.

        Two things are shared with the others, because making them takes most of the time: DuckDB's connections, which
        keep nothing between queries, and a store's connected sinks, for as long as the engine lives.
        """
        engine = Engine(
            COMPILED if compiled else INTERPRETED, self.settings, wrapped(self.wrap, open_store), now=self.now
        )
        engine.builder.runner = _runner
        engine.publisher.target = cache(engine.publisher.target)  # type: ignore[method-assign]
        return engine
