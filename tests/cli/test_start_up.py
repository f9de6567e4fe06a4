"""What starting Refold imports: `refold --help` none of it, the definitions nothing that they do not need."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import click

import refold
import refold.cli
from refold.cli.group import COMMANDS, cli

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "pyarrow", "pandas", "numba", "sqlalchemy", "duckdb", "deltalake", "tantivy", "rich", "dagster")
LATER = ("numba", "pandas", "great_expectations", "alembic")
"""What takes 0.1 to 3 s to import and is needed by some work, and not to know what there is."""


def imported_by(code: str, names: tuple[str, ...]) -> list[str]:
    script = f"import sys\n{code}\nprint(*(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split() if done.stdout.strip() else []


def test_help_imports_no_library_but_the_one_that_prints_it():
    assert imported_by("from refold.cli.main import cli\ncli(['--help'], standalone_mode=False)", HEAVY) == []


def test_definitions_import_what_they_need_and_no_more():
    assert imported_by("import dagster_project.definitions", LATER) == []


def test_help_lists_every_command_with_its_own_sentence():
    for module in pkgutil.iter_modules(refold.cli.__path__):
        importlib.import_module(f"refold.cli.{module.name}")
    assert sorted(cli.commands) == sorted(COMMANDS)
    sentences = {name: " ".join((each.help or "").split("\n\n")[0].split()) for name, each in cli.commands.items()}
    assert sentences == {name: listed.sentence for name, listed in COMMANDS.items()}
    with click.Context(cli) as context:
        assert {name for name in COMMANDS if cli.get_command(context, name) is None} == set()


def test_every_public_name_is_there_and_no_other():
    assert sorted(refold._MODULE_OF) == sorted(refold.__all__)
    assert [name for name in refold.__all__ if getattr(refold, name).__module__.partition(".")[0] != "refold"] == []
    assert set(refold.__all__) <= set(dir(refold))
    assert not hasattr(refold, "anything_else")
