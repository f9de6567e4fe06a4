"""The documentation is complete: every public name, every setting, every page."""

from __future__ import annotations

import re
import tomllib

import refold
from tests.docs.blocks import ROOT

DOCS = ROOT / "docs"
MADE = {"reference/commands.md"}
"""Pages that `make docs` writes."""


def listed(entries: object) -> set[str]:
    """The pages of a navigation."""
    if isinstance(entries, str):
        return {entries}
    values = entries.values() if isinstance(entries, dict) else entries
    return {page for each in values for page in listed(each)}


def test_every_public_name_is_in_the_reference():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    assert sorted(set(refold.__all__) - set(re.findall(r"^::: refold\.(\w+)$", text, re.MULTILINE))) == []


def test_every_setting_is_on_the_page_of_settings():
    page = (DOCS / "reference/settings.md").read_text(encoding="utf-8")
    read = re.findall(r"REFOLD_[A-Z_]*[A-Z]", (ROOT / "refold/config.py").read_text(encoding="utf-8"))
    assert sorted(name for name in set(read) if name not in page) == []


def test_every_page_is_in_the_navigation():
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if "examples" not in page.parts}
    assert listed(nav) == pages | MADE
