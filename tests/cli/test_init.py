"""`refold init`: what it writes is a project that runs at once, in an empty folder and with an empty home."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold.cli.init import project_files
from refold.cli.main import cli
from refold.cli.samples import TEMPLATES

BIN = Path(sys.executable).parent
SERVED = {
    "stock": ("stock_view", [("chair", 2), ("cup", 0), ("lamp", 5)]),
    "account": ("balances", [("ann", 60), ("bob", 0), ("eve", 5)]),
    "latest": ("latest_rows_view", [("a", "Ann", "Mainz"), ("c", "Eve", "Trier")]),
}
"""What the rows of each sample are, worked out by hand."""


@dataclass
class Place:
    """A folder with a project of every template, in which programs are run with an empty home."""

    folder: Path

    def run(self, below: str, program: str, *arguments: str) -> str:
        paths = os.pathsep.join(str(self.folder / f"my_{template}") for template in TEMPLATES)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "MYPYPATH": paths}
        done = subprocess.run(
            [BIN / program, *arguments],
            cwd=self.folder / below,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def refold(self, *commands: str) -> str:
        """Several commands in one process, which takes seconds to start."""
        calls = "; ".join(f"cli({command.split()}, standalone_mode=False)" for command in commands)
        return self.run(".", "python", "-c", f"from refold.cli.main import cli; {calls}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("empty"))
    (made.folder / "home").mkdir()
    made.refold(*(f"init my_{each} --template {each} --start 2026-03-01" for each in TEMPLATES))
    return made


def test_every_template_is_rebuilt_and_served(place: Place):
    place.refold(*(f"--project my_{template} rebuild" for template in TEMPLATES))
    for template, (view, expected) in SERVED.items():
        with sqlite3.connect(place.folder / f"my_{template}" / ".refold" / "refold.db") as connection:
            rows = connection.execute(f"SELECT * FROM {view}")
            assert sorted(row[: len(expected[0])] for row in rows) == expected
    assert SERVED.keys() == TEMPLATES.keys()


def test_its_own_test_passes(place: Place):
    assert "1 passed" in place.run("my_account", "pytest", "-q", "-p", "no:cacheprovider")


def test_mypy_accepts_the_stores(place: Place):
    packages = [word for template in TEMPLATES for word in ("-p", f"my_{template}")]
    assert "no issues" in place.run(".", "mypy", "--strict", "--cache-dir", "mypy", *packages)


def test_dagster_finds_and_loads_it(place: Place):
    assert "Validation successful" in place.run("my_stock", "dagster", "definitions", "validate")


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments], catch_exceptions=False)


def test_a_project_with_landing_has_no_sample_and_names_the_landing():
    written = project_files("shop", "stock", "moves", "s3://bucket/landing", dt.date(2026, 3, 1))
    assert "shop/sample.py" not in written
    assert "sample" not in written["shop/__init__.py"] + written[".github/workflows/check.yml"] + written["README.md"]
    assert tomllib.loads(written["pyproject.toml"])["tool"]["refold"]["landing"] == "s3://bucket/landing"


def test_nothing_is_overwritten_and_names_that_cannot_be_used_are_all_named(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    refused = init(str(tmp_path), "--name", "shop", "--yes")
    assert refused.exit_code == 1
    assert "found README.md" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    wrong = init(str(tmp_path / "new"), "--name", "json", "--log", "Two Words", "--yes")
    assert wrong.exit_code == 1
    assert "'json' is the name of an installed package" in wrong.stderr
    assert "expected a lower-case Python name such as shop, found 'Two Words'" in wrong.stderr
    assert not (tmp_path / "new").exists()
