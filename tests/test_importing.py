"""A mistake in a project's own code is named by file and line, with what was expected; there is no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MISTAKES: dict[str, tuple[str, list[str]]] = {
    "SyntaxError": (
        "x = 1\ny = (\n",
        ["fix-input", "'mine' cannot be imported: SyntaxError: '(' was never closed", "mine.py, line 2", "y = ("],
    ),
    "IndentationError": ("def f():\nreturn 1\n", ["IndentationError", "mine.py, line 2", "return 1"]),
    "NameError": (
        "from refold import Project\nPROJECT = Projet('x')\n",
        ["NameError: name 'Projet' is not defined", "mine.py, line 2", "PROJECT = Projet('x')", "Expected 'Project'"],
    ),
    "TypeError of a keyword": (
        "from refold import Log\n\nLOG = Log('moves', keey='sku')\n",
        [
            "TypeError: Log.__init__() got an unexpected keyword argument 'keey'",
            "mine.py, line 3",
            "Expected Log(name, columns, key, event_id, ",
        ],
    ),
    "TypeError of a missing argument": (
        "from refold import decimal\nprice = decimal(18)\n",
        [
            "TypeError: decimal() missing 1 required positional argument",
            "line 2",
            "Expected decimal(precision, scale, ",
        ],
    ),
    "TypeError in a function": (
        "def deep():\n    return 1 + 'x'\n\ndeep()\n",
        ["TypeError: unsupported operand", "mine.py, line 2", "return 1 + 'x'"],
    ),
    "ImportError of a module": (
        "import json\nimport no_such_module\n",
        ["fix-input", "ModuleNotFoundError: No module named 'no_such_module'", "mine.py, line 2"],
    ),
    "ImportError of a name": (
        "from refold import latest_by_kee\n",
        ["ImportError: cannot import name 'latest_by_kee'", "mine.py, line 1", "Expected 'latest_by_key'"],
    ),
    "AttributeError": (
        "import datetime as dt\nstart = dt.datte(2026, 1, 1)\n",
        ["AttributeError: module 'datetime' has no attribute 'datte'", "mine.py, line 2", "'date'"],
    ),
    "ValueError": ("import datetime\n\n\ndatetime.date(2026, 2, 30)\n", ["ValueError: day is out of range", "line 4"]),
    "KeyError": ("{}['a']\n", ["KeyError: 'a'", "mine.py, line 1"]),
    "ZeroDivisionError": ("1 / 0\n", ["ZeroDivisionError: division by zero", "mine.py, line 1"]),
    "an error in a module that is imported": (
        "import helper\n",
        ["'mine' cannot be imported: NameError: name 'nothing' is not defined", "helper.py, line 2", "nothing"],
    ),
    "an error in a library that was given rubbish": (
        "import json\njson.loads('{')\n",
        ["JSONDecodeError", "mine.py, line 2", "json.loads('{')"],
    ),
    "sys.exit": ("import sys\nsys.exit(0)\n", ["fix-input", "sys.exit: 0", "mine.py, line 2"]),
    "a bad declaration": (
        "from refold import Log, text\n\nLOG = Log('a b', columns={'x': text(null=True)}, key='x', event_id='y')\n",
        ["declaration", "Log 'a b' cannot be used as declared", "'x' is text?", "'y'", "Declared in mine.py, line 3."],
    ),
    "no such name": (
        "import datetime as dt\nfrom refold import *\nSHOP = Project('x', Daily(dt.date(2026, 1, 1)), [])\n",
        ["not-found", "has no 'PROJECT'; its projects are: mine:SHOP"],
    ),
    "a name of something else": ("PROJECT = 3\n", ["fix-input", "is a int; expected a refold.Project"]),
}


def run(folder: Path, *words: str, module: str = "refold") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFOLD_")}
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "mine:PROJECT"\n')
    (tmp_path / "helper.py").write_text("x = 1\nnothing\n")
    return tmp_path


def assert_told_once(output: str, says: list[str]) -> None:
    assert [text for text in says if text not in output] == []
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.strip()]
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(("source", "says"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_of_a_project_is_named_by_file_and_line(folder: Path, source: str, says: list[str]) -> None:
    (folder / "mine.py").write_text(source)
    done = run(folder, "plan")
    assert (done.returncode, done.stdout) == (1, "")
    assert_told_once(done.stderr, says)


@pytest.mark.parametrize("module", ["refold.dagster.rebuild"])
def test_the_command_of_dagster_says_the_same(folder: Path, module: str) -> None:
    source, says = MISTAKES["NameError"]
    (folder / "mine.py").write_text(source)
    done = run(folder, module=module)
    assert done.returncode == 1
    assert_told_once(done.stdout + done.stderr, says)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("mine", 'Set it, for example to "mine:PROJECT"'),
        ("mine.py:SHOP", 'Set it, for example to "mine:SHOP"'),
        ("shop/mine.py:SHOP", 'Set it, for example to "shop.mine:SHOP"'),
        ("mine:SHOP.PROJECT", 'Expected [tool.refold] with project = "module:NAME"'),
        ("nowhere:PROJECT", "There is no module 'nowhere'"),
        ("mine.below:PROJECT", "There is no module 'mine.below'"),
    ],
)
def test_a_setting_that_names_no_project_says_how_to_name_one(folder: Path, setting: str, says: str) -> None:
    (folder / "mine.py").write_text("PROJECT = 1\n")
    (folder / "pyproject.toml").write_text(f'[tool.refold]\nproject = "{setting}"\n')
    done = run(folder, "plan")
    assert done.returncode == 1
    assert_told_once(done.stderr, ["not-found", says])


def test_a_folder_that_is_not_there_is_not_looked_for_further_up(folder: Path) -> None:
    done = run(folder, "--project", "nowhere", "plan")
    assert done.returncode == 1
    assert_told_once(done.stderr, ["not-found", str(folder / "nowhere")])


def test_a_missing_landing_is_told_once(folder: Path) -> None:
    """A rebuild makes a forecast first, which finds the same."""
    (folder / "mine.py").write_text(
        "import datetime as dt\nfrom refold import Daily, Log, Project, latest_by_key, text\n"
        "LOG = Log('moves', columns={'id': text()}, key='id', event_id='id')\n"
        "ROWS = latest_by_key(LOG, name='rows', version=1, columns={'id': text()})\n"
        "PROJECT = Project('shop', Daily(dt.date(2026, 1, 1)), [ROWS])\n"
    )
    for module, words in (("refold", ["rebuild"]), ("refold.dagster.rebuild", ["--definitions", "json"])):
        done = run(folder, *words, module=module)
        assert done.returncode == 1
        assert_told_once(done.stdout + done.stderr, ["landing" if module == "refold" else "'json' has no `defs`"])
