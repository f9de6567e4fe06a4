"""Every code block of the README and the documentation does what its page says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Runner, blocks

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_happens(page: Path, monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory() as folder:  # a short path, which does not break lines of tables
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        runner = Runner(Path(folder))
        assert "\n".join(fault for block in blocks(page) for fault in runner.run(block)) == ""
