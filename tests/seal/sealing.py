"""A shop that keeps stock and nothing else, sealed and refused: what the tests of bad input share. Not a test."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.logs import stock_events
from assets.stock import stock
from refold import Daily, Project
from refold.errors import RefoldError
from refold.seal.report import SealReport
from tests.support import Shop, moved

STOCK_ONLY = Project("stock", Daily(dt.date(2026, 1, 1)), [stock])
GOOD = moved("good", "lamp", 5)


def with_log(shop: Shop, **changes: Any) -> Shop:
    """The shop with its log declared otherwise, and the store over that log."""
    return shop.declared(stores=[replace(stock, log=replace(stock_events, **changes))])


def sealed(shop: Shop, through: str | None = None) -> list[SealReport]:
    """Seal what has landed."""
    return list(shop.engine().sealing.seal(through))


def refused(shop: Shop, kind: type[RefoldError], *says: str) -> RefoldError:
    """Sealing is refused with a repair note, and not a snapshot more is there than before."""
    before = ids(shop)
    manifests = shop.files("snapshots")
    with pytest.raises(kind) as failure:
        sealed(shop)
    assert [text for text in says if text not in str(failure.value)] == []
    assert failure.value.remedy
    assert shop.files("snapshots") == manifests
    assert ids(shop) == before
    return failure.value


def ids(shop: Shop) -> dict[str, str]:
    """The identities of all snapshots by key."""
    return {snapshot.key: snapshot.id for snapshot in shop.engine().chain}


def ids_of(root: Path, landing: Path) -> dict[str, str]:
    """The identities that the same landing gets where nothing ever went wrong."""
    other = Shop(root, STOCK_ONLY)
    shutil.copytree(landing, other.landing)
    sealed(other)
    return ids(other)
