"""`refold release` and `refold prune`, as a person types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.release.little import DAYS, Little

ROOT = Path(__file__).parents[2]


@pytest.fixture
def refold(little: Little):
    """Run a command on the little project."""
    (little.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.release.little:PROJECT"\n')
    return lambda *words: little.refold(*words, project=little.root)


def test_releases_are_listed_shown_rolled_back_and_released_again(little: Little, refold):
    assert "0 releases" in refold("release", "ls").output
    assert refold("release", "show").exit_code == 1
    for day in (0, 1):
        little.release(day)
    back = refold("release", "rollback")
    assert back.exit_code == 0 and f"Served: release 3 of snapshot {DAYS[0]}, rolled back to 1" in back.output
    listed = refold("release", "ls").output
    assert "3 releases" in listed and "rollback to 1" in listed and "2026-02-01T12:00:00" in listed
    shown = refold("release", "show").output
    assert "Delta/levels" in shown and "000000-" in shown and "proofs/last_move" in shown
    assert f"Release 2 of snapshot {DAYS[1]}" in refold("release", "show", "2").output
    assert refold("release", "again", DAYS[1]).exit_code == 0
    assert little.releaser().current().snapshot == DAYS[1]


def test_an_error_is_a_sentence_that_names_what_is_missing(little: Little, refold):
    little.release(0)
    failed = refold("release", "rollback", "9")
    assert failed.exit_code == 1
    assert "There is no release 9: there are 1 to 1." in failed.output


def test_a_prune_shows_first_and_does_it_when_told(little: Little, refold):
    for day in range(3):
        little.release(day)
    held = little.held()
    dry = refold("prune", "--keep", "1", "--older-than", "0")
    assert "10 of 20 versions are to be given up" in dry.output and "Nothing was changed" in dry.output
    assert little.held() == held
    assert "not released yet" in refold("prune", "--all").output
    done = refold("prune", "--keep", "1", "--older-than", "0", "--apply")
    assert done.exit_code == 0 and "Dropped 10 versions" in done.output
    assert set(map(tuple, little.held().values())) == {(2, 3)}
    assert "prune of 10 versions" in refold("release", "ls").output
