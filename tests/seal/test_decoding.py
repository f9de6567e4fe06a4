"""Objects are decoded ahead and at once; what is sealed, and what is refused, are as if it were one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from refold.errors import UnreadableObject
from refold.seal import decoding
from tests.seal.sealing import ids, ids_of, sealed
from tests.support import Shop, moved


def land(shop: Shop, days: int = 3, objects: int = 7) -> None:
    for day in range(1, days + 1):
        for number in range(objects):
            events = [moved(f"{day}-{number}-{n}", f"product {n % 5}", 1) for n in range(number + 1)]
            shop.land(f"dt=2026-01-0{day}/part-{number}.jsonl", *events)


@pytest.mark.parametrize("cores", [1, 5])
@pytest.mark.parametrize("ahead", [0, 1 << 30])
def test_snapshots_are_the_same_however_many_threads_decode_how_far_ahead(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, ahead: int
):
    land(shop)
    expected = ids_of(tmp_path / "whole", shop.landing)
    monkeypatch.setattr(decoding, "cores", lambda: cores)
    monkeypatch.setattr(decoding, "AHEAD_BYTES", ahead)
    sealed(shop)
    assert ids(shop) == expected
    assert len(expected) == 3


def test_what_is_wrong_with_an_object_is_told_when_its_turn_comes(shop: Shop):
    land(shop)
    (shop.landing / "stock_events" / "dt=2026-01-03" / "part-9.jsonl.gz").write_bytes(b"\x1f\x8b no gzip")
    reports = shop.engine().sealing.seal()
    assert [next(reports).snapshot.key, next(reports).snapshot.key] == ["2026-01-01", "2026-01-02"]
    with pytest.raises(UnreadableObject, match=r"dt=2026-01-03/part-9\.jsonl\.gz"):
        next(reports)
    assert list(ids(shop)) == ["2026-01-01", "2026-01-02"]


def test_a_sealer_that_was_left_in_the_middle_can_be_asked_again(shop: Shop):
    land(shop)
    sealer = shop.engine().sealing.sealer()
    first = sealer.seal(["2026-01-01", "2026-01-02", "2026-01-03"])
    assert next(first).snapshot.key == "2026-01-01"
    first.close()
    assert [report.snapshot.key for report in sealer.seal(["2026-01-02", "2026-01-03"])] == ["2026-01-02", "2026-01-03"]
