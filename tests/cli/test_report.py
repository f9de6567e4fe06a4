"""`refold report`: a page that says what a release serves and what changed, and loads nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from refold.cli.main import cli
from refold.engine import open_engine
from refold.project import load_project
from refold.release.releaser import utc_now


class Page(HTMLParser):
    """The rows of all tables, the names of elements and of attributes; elements that are not closed are left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements, self.attributes, self.open = set[str](), set[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases; before the second an event for `chair` landed late, with a record that is no event."""
    place = tmp_path_factory.mktemp("report") / "reported_shop"
    refold = CliRunner()
    for words in (["init", str(place), "--yes", "--start", "2026-03-01"], ["--project", str(place), "rebuild"]):
        assert refold.invoke(cli, words, catch_exceptions=False).exit_code == 0
    refold.invoke(cli, ["--project", str(place), "sample", "--late"], catch_exceptions=False)
    bad = place / ".refold" / "landing" / "stock_events" / "dt=2026-03-04" / "bad.jsonl"
    bad.parent.mkdir()
    bad.write_text(
        "<script>\n" + '{"event_id": "e9", "product_id": "<b>", "movement": "add", "quantity": 1, '
        '"occurred_at": "2026-03-04T09:00:00Z"}\n' * 3
    )
    (place / "reported_shop" / "logs.py").write_text(
        (place / "reported_shop" / "logs.py")
        .read_text()
        .replace('description="Every', 'quarantine=QuarantineLimits(share_max=0.5), description="Every')
        .replace("import Log,", "import Log, QuarantineLimits,")
    )
    assert refold.invoke(cli, ["--project", str(place), "rebuild"], catch_exceptions=False).exit_code == 0
    return place


def written(project: Path, *arguments: str) -> str:
    out = project / "page.html"
    done = CliRunner().invoke(cli, ["--project", str(project), "report", "--out", str(out), *arguments])
    assert done.exit_code == 0, done.output
    return out.read_text(encoding="utf-8")


def test_it_says_what_is_served_what_changed_and_what_is_in_quarantine(project: Path):
    page = Page(written(project))
    assert page.open == []
    engine = open_engine(load_project(project), project, utc_now())
    served = engine.releaser.current()
    assert served is not None
    (stock,) = [row for row in page.rows if row[:2] == ["stock", served.snapshot] and row[2] == "Sql/stock_view"]
    assert stock[3] == served.versions["stock"]
    assert ["stock", "1", "0", "1", "2", ""] in page.rows  # `<b>` is new, `chair` has one more, two are as they were
    assert ["stock_events", "not-json", "1"] in page.rows
    assert [row[:2] for row in page.rows if row[0] == "lamp"] == [["lamp", "4"]]  # three events, one of them twice


def test_it_loads_nothing_and_runs_nothing(project: Path):
    text = written(project)
    page = Page(text)
    assert page.elements & {"script", "link", "img", "iframe", "object", "b"} == set()
    assert page.attributes & {"src", "href", "onload", "style"} == set()
    assert re.findall(r"https?://|@import|url\(", text) == []


def test_the_first_release_has_none_before_it(project: Path):
    assert "This is the first release." in written(project, "1")
