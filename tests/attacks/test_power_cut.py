"""After a power cut that emptied files: what landing still gives is sealed again, and nothing is accepted unseen.

That a local store leaves no such files, because it syncs them, is shown at every write by
`tests/failpoints/test_killed_at_every_write.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refold.rebuild import rebuild_all
from tests.support import Shop
from tests.three_days import DAYS, LAST, three_days

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, set[str]]:
    """A shop with three days released, and the names of all files that are of the third day."""
    shop = three_days(tmp_path_factory.mktemp("original"))
    chain = shop.engine().chain
    before = {
        name
        for name in _files(shop)
        if LAST not in name and not name.startswith(("states", "proofs", "expectations", "search", "sinks", "checked"))
    }
    rebuild_all(shop.engine(), LAST)
    named = {s.name for log in ("stock_events", "product_changes") for d in DAYS[:2]
             for s in chain.layout(chain.get(d), log).segments}  # fmt: skip
    young = {name for name in _files(shop) if "/segments/" in name and name not in named}
    return shop, young | (_files(shop).keys() - before)


@pytest.fixture
def shop(original: tuple[Shop, set[str]], tmp_path: Path) -> Shop:
    """A copy with a project file, so that commands work on it."""
    root = tmp_path / "copy"
    shutil.copytree(original[0].root, root)
    (root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.three_days:SMALL"\n')
    return Shop(root, original[0].project)


def _files(shop: Shop) -> Files:
    return {
        path.relative_to(shop.store).as_posix(): path.read_bytes() for path in shop.store.rglob("*") if path.is_file()
    }


def _emptied(shop: Shop, names: set[str], *folders: str, left: bytes = b"") -> None:
    chosen = [name for name in names if name.startswith(folders or "")]
    assert chosen
    for name in chosen:
        (shop.store / name).write_bytes(left)


def test_the_newest_day_is_sealed_again_from_landing(shop: Shop, original: tuple[Shop, set[str]]):
    """F4: all commands called the store damaged, and nothing but a copy could help."""
    whole = _files(shop)
    _emptied(shop, original[1])
    refused = shop.refold("show", "stock", project=shop.root)
    assert refused.exit_code and "`refold repair`" in refused.output
    listed = shop.refold("repair", project=shop.root)
    assert listed.exit_code == 1 and "refold repair --drop-empty" in listed.output
    dropped = shop.refold("repair", "--drop-empty", project=shop.root)
    assert "Dropped: releases/00000000000000000002.json" in dropped.output
    assert f"Sealed again from landing: {LAST}; it is the snapshot that was sealed before." in dropped.output
    assert shop.refold("rebuild", project=shop.root).exit_code == 0
    assert shop.refold("verify", project=shop.root).exit_code == 0
    now, kept = _files(shop), ("snapshots/", "logs/", "states/")
    assert {name for name in whole if name.startswith(kept) and now.get(name) != whole[name]} == set()
    served = shop.engine().releaser.current()
    assert served is not None and served.snapshot == LAST


@pytest.mark.parametrize("left", [b"", b"\0" * 512], ids=["empty", "zeros"])
@pytest.mark.parametrize("folders", [("snapshots/",), ("layouts/",), ("snapshots/", "layouts/", "logs/")], ids="-".join)
def test_a_part_of_the_newest_day_is_sealed_again(
    shop: Shop, original: tuple[Shop, set[str]], folders: tuple[str, ...], left: bytes
):
    whole = _files(shop)
    _emptied(shop, original[1], *folders, left=left)
    dropped = shop.refold("repair", "--drop-empty", project=shop.root)
    assert f"Sealed again from landing: {LAST}; it is the snapshot that was sealed before." in dropped.output
    assert dropped.exit_code == 0, dropped.output
    now, kept = _files(shop), ("snapshots/", "logs/", "states/", "releases/")
    assert {name for name in whole if name.startswith(kept) and now.get(name) != whole[name]} == set()
    assert shop.engine().audit_objects() == []


def test_an_empty_newest_release_gives_way_to_the_one_before(shop: Shop, original: tuple[Shop, set[str]]):
    _emptied(shop, original[1], "releases/")
    shop.refold("repair", "--drop-empty", project=shop.root)
    served = shop.engine().releaser.current()
    assert served is not None and (served.number, served.snapshot) == (1, DAYS[1])
    assert shop.engine().audit_objects() == []


def test_what_landing_no_longer_gives_is_not_sealed_in_its_place(shop: Shop):
    """Only the layout is empty: the manifest is put back, so that both can be restored from a copy."""
    manifest = shop.store / f"snapshots/{LAST}.json"
    before = manifest.read_bytes()
    layout = next((shop.store / "layouts").glob(f"{LAST}-*/*.json"))
    layout.write_bytes(b"")
    landed = next((shop.landing / "stock_events" / f"dt={LAST}").iterdir())
    landed.write_bytes(landed.read_bytes().splitlines(keepends=True)[0])
    refused = shop.refold("repair", "--drop-empty", project=shop.root)
    assert refused.exit_code and f"Landing no longer gives the snapshot {LAST}" in refused.output
    assert manifest.read_bytes() == before
    assert layout.read_bytes() == b""
    assert list((shop.store / "layouts").glob(f"{LAST}-*/*.json")) == [layout]


def test_an_empty_manifest_in_the_middle_is_not_dropped(shop: Shop):
    """What follows it shows that it was sealed, and what its bytes were."""
    manifest = shop.store / f"snapshots/{DAYS[1]}.json"
    manifest.write_bytes(b"")
    assert shop.refold("repair", "--drop-empty", project=shop.root).exit_code
    assert manifest.read_bytes() == b""
    assert (shop.store / f"snapshots/{LAST}.json").read_bytes()
