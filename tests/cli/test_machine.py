"""The command line for machines: `--json` of every command, progress in pipes, completion, names that were meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from refold.base.progress import Progress
from refold.cli.group import COMMANDS, cli
from refold.cli.machine import MachineConsole, MachineTable
from refold.cli.terminal import ProgressLines, table


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("machine") / "machined_shop"
    CliRunner().invoke(cli, ["init", str(place), "--yes", "--start", "2026-03-01"], catch_exceptions=False)
    assert refold(place, "rebuild").exit_code == 0
    return place


def refold(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--project", str(project), *arguments], catch_exceptions=False)


def commands(group: click.Group, context: click.Context) -> Iterator[click.Command]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from commands(found, context) if isinstance(found, click.Group) else [found]


def test_every_command_has_json():
    with click.Context(cli) as context:
        without = [each.name for each in commands(cli, context) if not any("--json" in p.opts for p in each.params)]
    assert without == []
    assert COMMANDS


def test_rows_are_exact_and_in_one_schema(project: Path):
    lines = refold(project, "show", "stock", "--json").stdout.splitlines()
    rows, *more = [json.loads(line) for line in lines]
    assert rows["kind"] == "table"
    assert rows["columns"][:2] == ["product_id", "level"]
    assert [(row["product_id"], row["level"]) for row in rows["rows"]] == [("chair", 2), ("cup", 0), ("lamp", 5)]
    assert {each["kind"] for each in more} <= {"text", "table"}
    for words in ("why stock lamp", "release ls", "release show", "log ls", "verify", "explain stock", "prune"):
        found = refold(project, *words.split(), "--json")
        assert found.exit_code == 0, words
        assert {json.loads(line)["kind"] for line in found.stdout.splitlines()} <= {"table", "text"}, words


def test_an_error_is_an_object_too(project: Path):
    found = refold(project, "show", "stokc", "--json")
    error = json.loads(found.stderr)
    assert found.exit_code == 1
    assert error["kind"] == "error"
    assert "Did you mean 'stock'?" in error["message"]


def test_why_is_vertical_in_a_pipe(project: Path):
    shown = refold(project, "why", "stock", "lamp").stdout
    assert max(map(len, (line for line in shown.splitlines() if not line.startswith("Segment ")))) <= 80
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("  outcome")] == [
        "applied",
        "applied",
        "duplicate",
        "applied",
    ]


def test_a_command_that_does_not_exist_is_compared_with_those_that_do(project: Path):
    assert "Did you mean 'rebuild'?" in refold(project, "rebiuld").stderr


def test_long_work_is_reported_in_lines_and_short_work_is_not():
    now, written = [0.0], list[str]()
    report = ProgressLines(written.append, lambda: now[0])
    for seconds in range(25):
        now[0] = float(seconds)
        report(Progress("fold", seconds, 25, rows=1000 * seconds))
    assert written == ["fold: 10 of 25, 10000 rows", "fold: 20 of 25, 20000 rows"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("show st", ["stock"]),
        ("log order stock", ["stock_events"]),
        ("show stock --as-of 2026-03-0", ["2026-03-01", "2026-03-02", "2026-03-03"]),
    ],
)
def test_names_are_completed(project: Path, words: str, expected: list[str]):
    line = ["refold", "--project", str(project), *words.split()]
    done = subprocess.run(
        [Path(sys.executable).parent / "refold"],
        env={
            **os.environ,
            "_REFOLD_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert [row.partition(",")[2] for row in done.stdout.splitlines()] == expected


def test_a_title_is_one_line_over_a_narrow_table_and_one_thing_is_singular(project: Path):
    shown = refold(project, "release", "ls").stdout
    assert "1 release, the newest 1\n" in shown
    title = "A title that is much longer than the one narrow column of its table"
    console = Console(file=StringIO(), width=160)
    console.print(table(title, [{"n": 1}]))
    assert f"{title}\n" in console.file.getvalue().replace(" \n", "\n")


def test_a_number_that_json_does_not_have_is_a_text(capsys: pytest.CaptureFixture[str]):
    rows = [{"share": float("nan")}, {"share": float("inf")}, {"share": 0.5}]
    MachineConsole().print(MachineTable("shares", rows, None))
    assert [row["share"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["nan", "inf", 0.5]
