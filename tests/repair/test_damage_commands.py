"""Damage as a person meets it: `refold verify` names it, and `refold repair` mends it or says what must be restored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from click.testing import Result

from tests.repair.matrix import OLDER, House
from tests.support import flip

Run = Callable[..., Result]


@pytest.fixture
def refold(house: House) -> Run:
    """Run a command on the copy."""
    (house.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.repair.matrix:PROJECT"\n')
    return lambda *words: house.refold(*words, project=house.root)


def test_a_whole_store_is_reported_as_intact(refold: Run):
    done = refold("verify")
    assert done.exit_code == 0
    assert "All objects in the store are intact." in done.output


@pytest.mark.parametrize("kind", ["repeats", "seen ids", "changes", "ledger part", "proof", "expectations", "retry"])
def test_what_follows_from_the_log_is_named_and_mended(house: House, refold: Run, kind: str):
    name = house.asked()[-1] if kind == "seen ids" else house.names(kind)[-1]
    flip(house.store / name)
    found = refold("verify")
    assert found.exit_code == 1
    assert "Damaged objects in the store: 1" in found.output
    assert name in found.output and "`refold repair`" in found.output
    mended = refold("repair")
    assert mended.exit_code == 0, mended.output
    assert f"Repaired: {kind} {name}" in mended.output
    assert refold("verify").exit_code == 0


@pytest.mark.parametrize("kind", ["layout", "release"])
def test_what_follows_from_nothing_is_named_and_must_be_restored(house: House, refold: Run, kind: str):
    name = house.names(kind)[-1]
    before = (house.store / name).read_bytes()
    flip(house.store / name)
    found = refold("verify")
    assert found.exit_code == 1
    assert name in found.output and "Restore it from a copy" in found.output
    left = refold("repair")
    assert left.exit_code == 1
    assert f"Cannot be repaired: {kind} {name}" in left.output
    (house.store / name).write_bytes(before)
    assert refold("repair").exit_code == 0
    assert refold("verify").exit_code == 0


def test_a_segment_is_sealed_again_from_landing_or_must_be_restored(house: House, refold: Run):
    name = house.names("segment")[-1]
    before = (house.store / name).read_bytes()
    flip(house.store / name)
    found = refold("verify")
    assert found.exit_code == 1
    assert name in found.output and "`refold repair` seals it again from landing" in found.output
    house.landing.rename(house.root / "expired")
    left = refold("repair")
    assert left.exit_code == 1
    assert f"Cannot be repaired: segment {name}" in left.output and "restore it from a copy" in left.output
    (house.root / "expired").rename(house.landing)
    assert refold("repair").exit_code == 0
    assert (house.store / name).read_bytes() == before
    assert refold("verify").exit_code == 0


def test_a_manifest_is_named_by_every_command(house: House, refold: Run):
    name = house.names("manifest")[1]
    flip(house.store / name)
    for words in (("verify",), ("log", "verify"), ("release", "show"), ("repair",)):
        found = refold(*words)
        assert found.exit_code == 1
        assert name in found.output


def test_a_damaged_pointer_is_named_where_it_is_shown(house: House, refold: Run):
    name = house.names("release")[-1]
    flip(house.store / name)
    for words in (("release", "show"), ("release", "ls")):
        found = refold(*words)
        assert found.exit_code == 1
        assert name in found.output


@pytest.mark.parametrize("kind", ["segment", "repeats", "quarantine"])
def test_the_log_is_verified_alone_too(house: House, refold: Run, kind: str):
    name = house.names(kind)[0]
    (house.store / name).unlink()
    found = refold("log", "verify")
    assert found.exit_code == 1
    assert name in found.output


def test_a_row_that_was_served_before_is_named_and_published_again(house: House, refold: Run):
    older = house.version("turnover", OLDER)
    with sqlite3.connect(house.root / "refold.db") as connection:
        ((rows_table,),) = connection.execute("SELECT rows_table FROM refold_release WHERE table_name = 'turnover'")
        connection.execute(
            f'UPDATE "{rows_table}" SET moved = 77 WHERE product = ? AND refold_version = ?', ["product 04", older]
        )
    connection.close()
    found = refold("verify")
    assert found.exit_code == 1
    assert "key 'product 04', column moved" in found.output and "77" in found.output
    mended = refold("repair")
    assert mended.exit_code == 0
    assert f"Published again: sql/turnover at snapshot {OLDER}" in mended.output
    assert refold("verify").exit_code == 0
