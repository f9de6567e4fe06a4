"""A sealed log whose key or event id is declared otherwise is refused, naming both declarations."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refold import PLACE, Log, int64, text
from refold.errors import DeclarationError
from refold.log.compaction import Compactor, MergeLimits
from refold.rebuild import rebuild_all
from tests import shop
from tests.support import Shop

COLUMNS = {**shop.moves.columns, "shop": text(), "number": int64(), "note": text(null=True)}
MOVES = replace(shop.moves, columns=COLUMNS)
COMPOSITE = replace(MOVES, key=("product", "shop"), event_id=("number", "note"))
BY_PLACE = replace(MOVES, event_id=PLACE)


def declared(root: Path, log: Log) -> Shop:
    return Shop(root, shop.little({"on_hand": []}, moves=log))


def sealed(root: Path, log: Log) -> Shop:
    """Two days have landed, and the first is sealed."""
    here = declared(root, log)
    for day in (0, 1):
        moves = [shop.move(f"{day} {place}", f"product {place % 7}", 5) for place in range(60)]
        more = [{"shop": f"shop {place % 5}", "number": 100 * day + place} for place in range(60)]
        shop.land(here.landing, "moves", shop.DAYS[day], [move | each for move, each in zip(moves, more, strict=True)])
    rebuild_all(here.engine(), shop.DAYS[0])
    return here


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The shop by the declaration that it was sealed under."""
    root = tmp_path_factory.mktemp("identity")
    return {id(log): sealed(root / str(place), log).root for place, log in enumerate((MOVES, COMPOSITE, BY_PLACE))}


OTHER: list[tuple[Log, dict[str, Any], str]] = [
    (MOVES, {"event_id": "number"}, "sealed with event_id='id' and is declared with event_id='number'"),
    (MOVES, {"event_id": PLACE}, "sealed with event_id='id' and is declared with event_id=PLACE"),
    (MOVES, {"event_id": ("id", "shop")}, r"sealed with event_id='id' and is declared with event_id=\('id', 'shop'\)"),
    (MOVES, {"key": "shop"}, "sealed with key='product' and is declared with key='shop'"),
    (MOVES, {"key": ("product", "shop")}, r"sealed with key='product' and is declared with key=\('product', 'shop'\)"),
    (COMPOSITE, {"key": "product"}, "sealed with another key and is declared with key='product'"),
    (COMPOSITE, {"key": ("shop", "product")}, r"another key and is declared with key=\('shop', 'product'\)"),
    (COMPOSITE, {"event_id": "number"}, "sealed with another event_id and is declared with event_id='number'"),
    (COMPOSITE, {"event_id": ("note", "number")}, r"another event_id and is declared with event_id=\('note', 'number'"),
    (BY_PLACE, {"event_id": "id"}, "sealed with another event_id and is declared with event_id='id'"),
    (BY_PLACE, {"key": "shop"}, "sealed with key='product' and is declared with key='shop'"),
]


@pytest.mark.parametrize(("log", "changes", "message"), OTHER)
def test_another_identity_is_refused_and_both_are_named(
    shops: dict[int, Path], log: Log, changes: dict[str, Any], message: str
):
    before = declared(shops[id(log)], log).files()
    other = declared(shops[id(log)], replace(log, **changes))
    with pytest.raises(DeclarationError, match=message):
        rebuild_all(other.engine(), shop.DAYS[1])
    assert other.files() == before


@pytest.mark.parametrize("log", [MOVES, COMPOSITE, BY_PLACE])
def test_the_same_identity_is_taken_also_where_the_log_has_grown(shops: dict[int, Path], log: Log, tmp_path: Path):
    shutil.copytree(shops[id(log)], tmp_path / "copy")
    grown = replace(log, columns={**COLUMNS, "more": text(null=True)})
    rebuild_all(declared(tmp_path / "copy", grown).engine(), shop.DAYS[1])


def test_a_compacted_log_still_shows_its_identity(tmp_path: Path):
    here = sealed(tmp_path, MOVES)
    rebuild_all(here.engine(), shop.DAYS[1])
    engine = here.engine()
    compactor = Compactor(engine.objects, engine.chain, MOVES, MergeLimits(files_min=2))
    compactor.apply(compactor.plan())
    rebuild_all(here.engine())
    with pytest.raises(DeclarationError, match="sealed with event_id='id'"):
        rebuild_all(declared(tmp_path, replace(MOVES, event_id="number")).engine())
