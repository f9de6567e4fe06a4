"""A sink in somebody else's package, installed as one: nothing in `refold/` knows it, and everything works with it."""

from __future__ import annotations

import importlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

import refold
import refold.engine
from refold.cli.main import cli
from refold.config import Settings
from refold.dagster import EngineResource, build_defs
from refold.errors import FixInput, NotFound
from refold.sinks import Connections, Content, Sql, Target, registry
from refold.testing.sink_conformance import MakeSink, SinkConformance
from tests.release.little import PRODUCTS, Little, build, on_hand

PACKAGE = Path(__file__).parent / "keyvalue"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module of the package, built and installed into a folder that is on the path while these tests run."""
    place = tmp_path_factory.mktemp("package")
    shutil.copytree(PACKAGE, place / "source", ignore=shutil.ignore_patterns("__pycache__"))
    install = ["-m", "uv", "--no-config", "pip", "install", "--offline", "--no-index", "--no-deps", "--quiet"]
    install += ["--no-build-isolation", "--python", sys.executable, "--target", str(place / "installed")]
    subprocess.run([sys.executable, *install, str(place / "source")], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place / "installed"))
        registry._installed.cache_clear()
        yield importlib.import_module("refold_keyvalue")
    registry._installed.cache_clear()
    del sys.modules["refold_keyvalue"]


class TestKeyValue(SinkConformance):
    @pytest.fixture
    def make_sink(self, package: Any) -> MakeSink:
        return package.KeyValue

    @pytest.fixture
    def connections(self, connections: Connections, tmp_path: Path) -> Connections:
        return connections.using(cache=str(tmp_path / "cache"))

    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        Path(target.place, ".building-killed").write_bytes(b"SQLite format 3")


class Places(EngineResource):
    """The places of the little project, with a cache."""

    root: str

    def settings(self) -> Settings:
        return settings_of(Path(self.root))


def settings_of(root: Path) -> Settings:
    environment = {
        "REFOLD_LANDING": str(root / "landing"),
        "REFOLD_STORE": str(root / "store"),
        "REFOLD_DATABASE": f"sqlite:///{root / 'refold.db'}",
        "REFOLD_CONNECTION_CACHE": str(root / "cache"),
    }
    return Settings.from_environment(root, environment)


class Cached(Little):
    """The little project with its levels in a view and in the cache."""

    def engine(self) -> refold.engine.Engine:
        return refold.engine.Engine(self.project, settings_of(self.root), now=self.now)


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("little") / "root").root


@pytest.fixture
def cached(proven: Path, tmp_path: Path, package: Any) -> Cached:
    """Two days published and released."""
    shutil.copytree(proven, tmp_path / "root")
    store = replace(on_hand, sinks=(Sql("on_hand"), package.KeyValue("levels", tags=("hot",))))
    little = Cached(tmp_path / "root")
    little = replace(little, project=replace(little.project, stores=[store]))
    little.publish(0, 1)
    for day in (0, 1):
        little.release(day)
    return little


def levels(little: Cached, **options: Any) -> set[int]:
    found = refold.open_release(str(little.store), **options).rows("levels")
    assert sorted(found["product"].to_pylist()) == sorted(PRODUCTS)
    return set(found["level"].to_pylist())


def run(little: Cached, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    """Run a command on the project, whose module is this one."""
    monkeypatch.setenv("REFOLD_LANDING", str(little.root / "landing"))
    monkeypatch.setenv("REFOLD_STORE", str(little.store))
    monkeypatch.setenv("REFOLD_DATABASE", little.database_url)
    monkeypatch.setenv("REFOLD_CONNECTION_CACHE", str(little.root / "cache"))
    monkeypatch.setattr("tests.release.little.PROJECT", little.project)
    (little.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.release.little:PROJECT"\n')
    return CliRunner().invoke(cli, ["--project", str(little.root), *words])


def damage(little: Cached) -> None:
    """Change one cell of what the cache serves."""
    version = little.releaser().current().versions["on_hand"]
    with closing(sqlite3.connect(little.root / "cache" / "levels" / f"{version}.sqlite")) as connection, connection:
        text = "replace(CAST(document AS TEXT), '\"level\":3', '\"level\":4')"
        changed = connection.execute(f"UPDATE cache SET document = CAST({text} AS BLOB) WHERE key = 'nail'")
        assert changed.rowcount == 1


def test_a_release_is_read_and_rolled_back_without_the_project(cached: Cached):
    opened = refold.open_release(str(cached.store))
    assert opened.release.connections == {"cache": str(cached.root / "cache")}
    assert (levels(cached), levels(cached, number=1)) == ({3}, {1})
    assert opened.rows("levels", "cache").equals(opened.sql("on_hand"))
    cached.releaser().rollback()
    assert levels(cached) == {1}
    assert cached.released() == {"Sql/on_hand": 0, "KeyValue/levels": 0}


def test_a_release_rolls_back_a_sink_that_the_project_no_longer_declares(cached: Cached):
    """By its record alone: class, options and connection are found by the entry point."""
    without = replace(cached, project=replace(cached.project, stores=[replace(on_hand, sinks=(Sql("on_hand"),))]))
    without.releaser().rollback(1)
    assert cached.released() == {"Sql/on_hand": 0, "KeyValue/levels": 0}


def test_a_cache_elsewhere_is_named_to_be_read(cached: Cached, tmp_path: Path):
    shutil.move(cached.root / "cache", tmp_path / "elsewhere")
    with pytest.raises(NotFound, match="where the place is another, name it"):
        refold.open_release(str(cached.store)).rows("levels")
    assert levels(cached, connections={"cache": str(tmp_path / "elsewhere")}) == {3}


def test_without_the_package_its_sink_is_named_and_the_others_are_read(cached: Cached, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "_installed", {"KeyValue": None}.get)
    opened = refold.open_release(str(cached.store))
    with pytest.raises(FixInput, match=r"KeyValue/levels, but no installed package"):
        opened.rows("levels")
    assert len(opened.sql("on_hand")) == len(PRODUCTS)


def test_damage_is_found_by_cell_and_repaired(cached: Cached, monkeypatch: pytest.MonkeyPatch):
    damage(cached)
    engine = cached.engine()
    (difference,) = engine.drifts.find(cached.project.store("on_hand"), engine.chain.get("2026-01-02")).differences
    assert difference.where.endswith("key 'nail', column level")
    assert (difference.expected, difference.found) == ("3", "4")
    found = run(cached, monkeypatch, "verify", "on_hand")
    assert found.exit_code == 1 and "differs: 1" in found.output
    mended = run(cached, monkeypatch, "repair", "on_hand")
    assert mended.exit_code == 0 and "rebuilt and proven equal" in mended.output, mended.output
    assert levels(cached) == {3}
    assert run(cached, monkeypatch, "verify", "on_hand").exit_code == 0


def test_an_unreadable_file_is_found_and_repaired(cached: Cached, monkeypatch: pytest.MonkeyPatch):
    version = cached.releaser().current().versions["on_hand"]
    (cached.root / "cache" / "levels" / f"{version}.sqlite").write_bytes(b"no database at all" * 100)
    assert "rows that can be read" in " ".join(run(cached, monkeypatch, "verify", "on_hand").output.split())
    assert run(cached, monkeypatch, "repair", "on_hand").exit_code == 0
    assert levels(cached) == {3}


def test_a_prune_drops_what_is_old_and_a_release_is_shown(cached: Cached, monkeypatch: pytest.MonkeyPatch):
    assert "KeyValue/levels" in run(cached, monkeypatch, "release", "show").output
    done = run(cached, monkeypatch, "prune", "--keep", "1", "--older-than", "0", "--apply")
    assert done.exit_code == 0 and "Dropped 2 versions" in done.output, done.output
    assert cached.held() == {"Sql/on_hand": [1], "KeyValue/levels": [1]}


def test_dagster_shows_publishes_and_checks_it(cached: Cached):
    defs = build_defs(cached.project, Places(root=str(cached.root)))
    key = dg.AssetKey(["cache", "levels"])
    (spec,) = [spec for spec in defs.resolve_all_asset_specs() if spec.key == key]
    assert "key-value cache `levels`" in (spec.description or "") and "cache" in spec.kinds
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)],
            selection=[key],
            instance=instance,
            resources=defs.resources,
        )
        assert result.success
        (event,) = result.asset_materializations_for_node(result.get_asset_materialization_events()[0].node_name)
    assert str(cached.root / "cache" / "levels") in str(event.metadata["place"].value)


def test_a_name_that_two_packages_provide_is_refused(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2):
        info = tmp_path / f"other{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: other{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[refold.sinks]\nTwice = other{number}:Twice\nLost = gone:Lost\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._installed.cache_clear()
    with pytest.raises(FixInput, match=r"the sink Twice, found other1:Twice, other2:Twice"):
        registry.sink_class("Twice")
    with pytest.raises(FixInput, match="Lost cannot be imported from gone:Lost"):
        registry.sink_class("Lost")
    registry._installed.cache_clear()
