"""A till whose declarations lie in a git repository, with its log sealed, proven and released; and its command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold.cli.main import cli
from refold.rebuild import rebuild_all
from tests.diff.till import OLD, PYPROJECT, land, till_engine


@dataclass(frozen=True)
class Till:
    """A repository with a space in its path, and the project in a folder of it that has one too."""

    repository: Path
    places: Path

    @property
    def folder(self) -> Path:
        return self.repository / "the shop"

    @property
    def rules(self) -> Path:
        return self.folder / "till.py"

    def write(self, text: str) -> None:
        """Edit the declarations; nothing is committed."""
        self.rules.write_text(text)

    def git(self, *words: str, **more: str) -> str:
        """Run git as a person would."""
        done = subprocess.run(
            ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.org", *words],
            cwd=self.repository,
            env={k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | more,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def commit(self, message: str) -> str:
        """Commit everything; returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The places of the till, by its old rules: landing, store, database."""
    places = tmp_path_factory.mktemp("till")
    land(places / "landing")
    rebuild_all(till_engine(places))
    return places


@pytest.fixture
def till(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    """The till with one commit on `main`, and the environment of whoever works on it."""
    shutil.copytree(released, tmp_path / "places")
    till = Till(tmp_path / "my repository", tmp_path / "places")
    till.folder.mkdir(parents=True)
    till.write(OLD)
    (till.folder / "pyproject.toml").write_text(PYPROJECT)
    (till.repository / ".gitattributes").write_text("the*shop export-ignore\n")
    till.git("init", "--quiet", "--initial-branch=main")
    till.commit("The rules as they were")
    monkeypatch.setenv("REFOLD_LANDING", str(till.places / "landing"))
    monkeypatch.setenv("REFOLD_STORE", str(till.places / "store"))
    monkeypatch.setenv("REFOLD_DATABASE", f"sqlite:///{till.places / 'till.db'}")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield till
    sys.modules.pop("till", None)


@pytest.fixture
def diff(till: Till) -> Callable[..., Result]:
    """Run `refold diff` on the till as its files are now."""

    def run(*words: str) -> Result:
        sys.modules.pop("till", None)
        return CliRunner().invoke(cli, ["--project", str(till.folder), "diff", *words])

    return run
