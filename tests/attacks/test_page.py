"""The page of threats: it has a row for every attack that was made, and the tests it names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threats.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (F\d+) \|(.*)\|$", PAGE.partition("## The same attacks before")[0], re.MULTILINE)
BEFORE = re.findall(r"^\| (F\d+) \|(.*)\|$", PAGE.partition("## The same attacks before")[2], re.MULTILINE)


def test_every_attack_has_one_row():
    """Twenty attacks were made, and eleven found by two other attackers; each has one row, in order."""
    assert [name for name, _ in ROWS] == [f"F{number}" for number in range(1, 32)]
    assert [name for name, _ in BEFORE] == [f"F{number}" for number in range(1, 21)]


def test_the_tests_it_names_exist():
    """A row names a file, or a function of a file as pytest does."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert named
    missing = [f"{path} {name}" for path, name in named if not (ROOT / path).is_file() or not _defines(path, name)]
    assert missing == []


def _defines(path: str, test: str) -> bool:
    return not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")
