"""Settings of the environment, and the pyproject.toml that names a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from refold.config import Settings
from refold.errors import FixInput, NotFound
from refold.project import find_root, load_project
from refold.sinks import Connections
from refold.storage.objects import ObjectStore


@pytest.mark.parametrize(
    ("store", "search"),
    [
        (None, "{root}/.refold/store/search"),
        ("/srv/st%20ore", "/srv/st%20ore/search"),
        ("/srv/store/", "/srv/store/search"),
        ("file:///srv/st%20ore/", "/srv/st ore/search"),
        ("file://localhost/srv/store", "/srv/store/search"),
        ("s3://bucket/store", "{root}/.refold/search"),
        ("memory://", "{root}/.refold/search"),
    ],
)
def test_search_indexes_lie_in_a_local_store(tmp_path: Path, store: str | None, search: str) -> None:
    settings = Settings.from_environment(tmp_path, {"REFOLD_STORE": store} if store else {})
    assert settings.search_folder == Path(search.format(root=tmp_path))


def test_a_store_on_another_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FixInput, match="file://elsewhere/srv/store"):
        Settings.from_environment(tmp_path, {"REFOLD_STORE": "file://elsewhere/srv/store"})


def test_settings_are_shown_without_secrets(tmp_path: Path) -> None:
    names = ("REFOLD_LANDING", "REFOLD_STORE", "REFOLD_DATABASE")
    urls = ("https://hunter2@h/x", "az://c?account_key=hunter2", "postgresql://ann:hun?hunter2@db/shop")
    shown = Settings.from_environment(tmp_path, dict(zip(names, urls, strict=True))).shown()
    assert "hunter2" not in str(shown) and "hun?" not in str(shown)


@pytest.mark.parametrize("text", [b"[tool.refold\n", b"\xff", b"tool = 3\n", b"tool.refold = 3\n"])
def test_a_malformed_pyproject_is_told_in_a_sentence(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(text)
    for ask in (find_root, load_project):
        with pytest.raises(FixInput, match=r"pyproject\.toml, found") as told:
            ask(tmp_path)
        assert told.value.remedy


@pytest.mark.parametrize(
    "project", ["", "assets", ":NAME", ".assets:PROJECT", "no_such_module:PROJECT", "json:NOTHING"]
)
def test_a_setting_that_names_no_project_is_told_in_a_sentence(tmp_path: Path, project: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[tool.refold]\nproject = "{project}"\n')
    with pytest.raises(NotFound, match=r"project|There is no module 'no_such_module'") as told:
        load_project(tmp_path)
    assert told.value.remedy


def test_a_setting_that_names_something_else_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "json:dumps"\n')
    with pytest.raises(FixInput, match=r"a function; expected a refold\.Project"):
        load_project(tmp_path)


def test_a_project_is_found_from_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "json:dumps"\n')
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert find_root(tmp_path / "a" / "b") == tmp_path.resolve()


def test_further_connections_are_named_by_the_environment_and_shown_without_passwords(tmp_path: Path) -> None:
    environment = {"REFOLD_CONNECTION_CACHE": "redis://ann:hunter2@host/0", "REFOLD_CONNECTION_NONE": ""}
    settings = Settings.from_environment(tmp_path, environment)
    assert settings.connections == {"cache": "redis://ann:hunter2@host/0"}
    assert settings.shown()["cache"] == "redis://ann:***@host/0"
    connections = Connections(ObjectStore.open(str(tmp_path / "store")), settings.sink_places)
    assert connections.url("cache") == "redis://ann:hunter2@host/0" and "hunter2" not in repr(connections)
    assert connections.recorded("cache") == "redis://ann:***@host/0"
    assert connections.recorded("search") == str(tmp_path / ".refold" / "store" / "search")
    with pytest.raises(FixInput, match=r"needs the connection 'other'; found only cache, database, search") as told:
        connections.url("other")
    assert "REFOLD_CONNECTION_OTHER" in told.value.remedy
    with pytest.raises(FixInput, match="only without its password"):
        connections.using(cache="redis://ann:***@host/0").url("cache")


@pytest.mark.parametrize("name", ["DATABASE", "OBJECTS", "SEARCH", "STORE", "LANDING"])
def test_a_further_connection_has_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(FixInput, match=f"REFOLD_CONNECTION_{name}"):
        Settings.from_environment(tmp_path, {f"REFOLD_CONNECTION_{name}": "x"})


def test_a_project_names_its_landing_which_the_environment_overrides(tmp_path: Path) -> None:
    table = tmp_path / "pyproject.toml"
    for declared, expected in [("landed", str(tmp_path / "landed")), ("s3://bucket/x", "s3://bucket/x")]:
        table.write_text(f'[tool.refold]\nproject = "shop:PROJECT"\nlanding = "{declared}"\n')
        assert Settings.from_environment(tmp_path, {}).landing == expected
        assert Settings.from_environment(tmp_path, {"REFOLD_LANDING": "/other"}).landing == "/other"
