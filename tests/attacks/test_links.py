"""Symbolic links in landing that lead out of it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from refold.cli.group import cli
from refold.errors import RefusedLanding
from refold.landing.listing import list_landing
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import AllowingLinks

DAY = "stock_events/dt=2026-01-01"


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """Landing with one object, and a file outside it that nobody meant to show."""
    (tmp_path / "landing" / DAY).mkdir(parents=True)
    (tmp_path / "landing" / DAY / "a.jsonl").write_text("{}\n")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "passwd.jsonl").write_text("root:x:0:0\n")
    return tmp_path / "landing"


def _names(store: ObjectStore) -> list[str]:
    return [item.name for item in list_landing(store, "stock_events", (".jsonl",)).objects]


@pytest.mark.parametrize("linked", ["b.jsonl", "folder"])
def test_a_link_out_of_landing_is_refused_with_its_target(landing: Path, linked: str):
    """F19: a link to a file or to a folder; also from the name of a folder beside it that landing's begins with."""
    secret = (landing.parent / "secret").rename(landing.parent / "landing-secret")
    (landing / DAY / linked).symlink_to(secret if linked == "folder" else secret / "passwd.jsonl")
    with pytest.raises(RefusedLanding) as refused:
        _names(ObjectStore.open(str(landing)))
    assert f"{DAY}/{linked}" in str(refused.value) and str(secret / "passwd.jsonl") in str(refused.value)


def test_a_link_within_landing_and_a_linked_landing_are_read(landing: Path):
    """F19: only what leaves landing is refused, and landing itself may be a link."""
    (landing / DAY / "b.jsonl").symlink_to("a.jsonl")
    (landing.parent / "other").symlink_to(landing)
    assert _names(ObjectStore.open(str(landing.parent / "other"))) == [f"{DAY}/a.jsonl", f"{DAY}/b.jsonl"]


def test_links_to_folders_that_are_named_are_read(landing: Path):
    """F19: an operator may name the folders that links may lead to."""
    (landing / DAY / "b.jsonl").symlink_to(landing.parent / "secret" / "passwd.jsonl")
    store = ObjectStore.open(str(landing))
    assert _names(AllowingLinks(store, [landing.parent / "secret"])) == [f"{DAY}/a.jsonl", f"{DAY}/b.jsonl"]
    with pytest.raises(RefusedLanding):
        _names(AllowingLinks(store, [landing.parent / "sec"]))


def test_quarantine_shows_no_foreign_file(landing: Path):
    """F19: `quarantine ls --refused` decodes what waits in landing, and shows its first bytes."""
    (landing / DAY / "b.jsonl").symlink_to(landing.parent / "secret" / "passwd.jsonl")
    project = Path(__file__).parents[2]
    places = {"REFOLD_LANDING": str(landing), "REFOLD_STORE": str(landing.parent / "store")}
    for arguments in (["quarantine", "ls", "--refused"], ["rebuild"], ["plan"]):
        shown = CliRunner().invoke(cli, ["--project", str(project), *arguments], env=places)
        assert "root:x" not in shown.output + shown.stderr, arguments
        assert "symbolic links" in shown.output + shown.stderr, (arguments, shown.output)
