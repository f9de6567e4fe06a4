"""What is served, compared with its proof: also under other declarations, and before a rebuild publishes again.

That this audit, `refold verify` and a reader agree in every case of the damage matrix is asserted where the matrix is
(`House.faults`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from refold import Project, open_release
from refold.errors import Damaged
from refold.rebuild import rebuild_all
from refold.repair.served import Served
from tests import shop
from tests.repair.matrix import DAYS, PROJECT, SERVED, House


def _change_a_cell(house: House) -> None:
    """Change what the view `on_hand` serves of one product."""
    with sqlite3.connect(house.database_file) as connection:
        served = "SELECT rows_table, version FROM refold_release WHERE table_name = 'on_hand'"
        ((table, version),) = connection.execute(served).fetchall()
        update = f"UPDATE \"{table}\" SET level = 999 WHERE product = 'product 01' AND refold_version = ?"
        assert connection.execute(update, [version]).rowcount == 1
    connection.close()


def _differing(house: House) -> dict[str, Served]:
    return {each.sink: each for each in house.engine().served.check() if each.differences}


def test_every_sink_of_the_release_is_compared_and_equal(house: House):
    found = house.engine().served.check()
    assert [(each.store, each.sink) for each in found] == [
        ("last_move", "BulkNdjson/moves"), ("last_move", "Tantivy/moves_index"),
        ("on_hand", "Sql/on_hand"), ("on_hand", "Delta/levels"), ("turnover", "Sql/turnover"),
    ]  # fmt: skip
    assert {(each.snapshot, tuple(each.differences)) for each in found} == {(SERVED, ())}


def test_nothing_is_compared_before_the_first_release(tmp_path: Path):
    assert House(tmp_path / "root").engine().served.check() == []


class TestAChangedCell:
    def test_is_named_by_cell(self, house: House):
        _change_a_cell(house)
        (served,) = _differing(house).values()
        (difference,) = served.differences
        assert difference.where.endswith("key 'product 01', column level")
        assert (difference.expected, difference.found) == ("14", "999")

    def test_is_published_again_by_a_rebuild_that_says_so(self, house: House, caplog: pytest.LogCaptureFixture):
        _change_a_cell(house)
        rebuild_all(house.engine(), SERVED)
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        (warning,) = (text for text in warnings if "may not be meant" not in text)
        assert "column level: expected 14, found 999" in warning
        assert warning.endswith("It was published again.")
        assert _differing(house) == {}

    def test_is_said_also_where_a_newer_snapshot_is_released(self, house: House, caplog: pytest.LogCaptureFixture):
        _change_a_cell(house)
        rebuild_all(house.engine(), DAYS[4])
        assert sum("expected 14, found 999" in record.getMessage() for record in caplog.records) == 1
        assert {each.snapshot for each in house.engine().served.check()} == {DAYS[4]}
        assert _differing(house) == {}

    def test_is_refused_by_a_reader(self, house: House):
        _change_a_cell(house)
        opened = open_release(str(house.store), database=house.settings.database)
        with pytest.raises(Damaged, match="are not those that were proven for release 6"):
            opened.sql("on_hand")
        assert len(opened.delta("levels")) == 12

    @pytest.mark.parametrize("changed", ["another rule", "no longer declared"])
    def test_is_found_by_the_digest_where_the_declarations_have_changed(self, house: House, changed: str):
        later = replace(house, project=_OTHERS[changed])
        assert _differing(later) == {}
        _change_a_cell(house)
        (served,) = _differing(later).values()
        (difference,) = served.differences
        release = house.engine().releaser.current()
        assert release is not None
        assert served.sink == "Sql/on_hand"
        assert difference.expected == f"digest {release.digests['on_hand']}"
        assert difference.found not in difference.expected


_ON_HAND, _LAST_MOVE, _ = PROJECT.stores
_OTHERS = {
    "another rule": shop.little(
        {"on_hand": _ON_HAND.sinks, "last_move": _LAST_MOVE.sinks}, moves=PROJECT.log("moves"), version=2
    ),
    "no longer declared": replace(PROJECT, stores=[_LAST_MOVE]),
}


@pytest.mark.parametrize("declared", [PROJECT, _OTHERS["another rule"]])
def test_a_version_that_is_not_the_released_one_is_named(house: House, declared: Project):
    """Also where the declarations have changed, so that there is no content to compare with."""
    engine = house.engine()
    release, older = engine.releaser.current(), house.version("on_hand", DAYS[2])
    assert release is not None
    delta = engine.publisher.target(_ON_HAND, _ON_HAND.sinks[1])
    delta.release(older, engine.releaser.lineage(release, "on_hand"))
    (served,) = _differing(replace(house, project=declared)).values()
    assert served.sink == "Delta/levels"
    assert any(older in each.found for each in served.differences)


def test_a_proof_that_is_gone_is_named(house: House):
    release = house.engine().releaser.current()
    assert release is not None
    for path in (house.store / release.proofs["turnover"]).parent.iterdir():
        path.unlink()
    (served,) = _differing(house).values()
    assert (served.store, served.differences[0].where) == ("turnover", release.proofs["turnover"])


class TestCommands:
    @pytest.fixture
    def refold(self, house: House) -> Callable[..., Result]:
        (house.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.repair.matrix:PROJECT"\n')
        return lambda *words: house.refold(*words, project=house.root)

    def test_say_what_is_served(self, refold: Callable[..., Result]):
        assert f"Served: release 6 of snapshot {SERVED} in 5 sinks, equal to what was proven." in refold("plan").output
        shown = refold("show", "on_hand", "--as-of", DAYS[3]).output
        assert f"Served: release 6 of snapshot {SERVED} in 2 sinks, equal to what was proven." in shown
        assert {tuple(each["differences"]) for each in json.loads(refold("plan", "--json").output)["served"]} == {()}

    def test_say_that_it_differs(self, house: House, refold: Callable[..., Result]):
        _change_a_cell(house)
        for words in (("plan",), ("show", "on_hand"), ("show", "on_hand", "product 02")):
            shown = " ".join(refold(*words).output.split())
            assert f"release 6 of snapshot {SERVED}, with 1 difference from what was proven" in shown
            assert "14" in shown and "999" in shown
        assert "difference" not in refold("show", "last_move").output
        (wrong,) = [each for each in json.loads(refold("plan", "--json").output)["served"] if each["differences"]]
        assert (wrong["sink"], wrong["differences"][0]["found"]) == ("Sql/on_hand", "999")

    def test_verify_fails_for_what_is_served_beside_another_snapshot(self, house: House, refold: Callable[..., Result]):
        """The newest snapshot is whole, and not what is served."""
        assert refold("verify", "on_hand", "--as-of", DAYS[4]).exit_code == 0
        _change_a_cell(house)
        found = refold("verify", "on_hand", "--as-of", DAYS[4])
        assert found.exit_code == 1
        assert f"release 6 of snapshot {SERVED}, with 1 difference" in " ".join(found.output.split())
