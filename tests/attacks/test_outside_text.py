"""Names and values that whoever writes to landing chooses, wherever Refold shows them.

Markdown is rendered by another library, which must give back the text and nothing that it could do.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from refold.base.outside import as_code, as_markdown, printable, printable_lines
from refold.cli.group import COMMANDS, cli
from refold.errors import RefoldError
from tests.dagster.house import House, day, small_project
from tests.support import Shop, moved

MARKUP = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PICTURE = "![x](https:a.example)<img src=x>|`~~*_a_*~~[b](c)&amp;$"
MARKS = "\x1b[31m\x07\x9b2J\u202e\u2066\u200b"
TAGS_OF_REFOLD = {"ul", "li", "code", "p", "table", "thead", "tbody", "tr", "th", "td", "strong", "pre", "h2", "h3"}


def _text(rendered: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", rendered)).strip()


def _tags(rendered: str) -> set[str]:
    return set(re.findall(r"<(\w+)", rendered))


@given(st.text(st.sampled_from("ab_*`~[]()<>!#|\\&;:/.-+=$1 \x1b\u202e\n"), max_size=30))
def test_markdown_shows_a_line_as_it_is_written(text: str):
    """F15: rendered, it is one paragraph of the same text; spaces at the ends are not text in Markdown."""
    line = re.sub(r"^[-\d \\n]*|\s+$", "", printable(text))
    rendered = MARKUP.render(as_markdown(line))
    assert _text(rendered) == line.strip()
    assert _tags(rendered) <= {"p"}


@given(st.text(st.sampled_from("a`* <>\\\x1b\u202e\n"), min_size=1, max_size=12))
def test_a_name_as_code_is_shown_as_it_is_written(text: str):
    """F15: also with backticks, alone and at its ends."""
    if not text.strip(" "):
        return  # a name of nothing but spaces is not code in Markdown
    rendered = MARKUP.render(f"- {as_code(text)}")
    assert html.unescape(re.search(r"<code>(.*)</code>", rendered)[1]) == printable(text)


@given(st.text(max_size=20))
def test_nothing_is_left_that_a_terminal_obeys(text: str):
    """F15: everything that is shown is printed, and can be read back."""
    assert all(c.isprintable() for c in printable(text))
    assert all(c.isprintable() or c == "\n" for c in printable_lines(text))
    assert printable_lines(text).count("\n") == text.count("\n")


def test_errors_and_warnings_are_escaped_where_they_are_made(caplog: pytest.LogCaptureFixture):
    """F15: an error also as a traceback shows it, a warning also where logging has no handler of Refold's."""
    assert str(RefoldError(f"a{MARKS}b\nc", remedy=MARKS)) == f"a{printable(MARKS)}b\nc {printable(MARKS)}"
    logging.getLogger("refold").warning("%s", MARKS)
    assert printable(MARKS) in caplog.text and MARKS not in caplog.text


@pytest.fixture
def hostile(tmp_path: Path) -> House:
    """Two days of landing whose names, keys, values and bad records are hostile; the second is late and stopped."""
    house = House(Shop(tmp_path, small_project()))
    shop = house.shop
    shop.land(f"dt={day(1)}/a{PICTURE}\u202e.jsonl", moved("1", PICTURE + MARKS, 5), {"event_id": PICTURE + MARKS})
    shop.land(f"dt={day(1)}/c.jsonl", moved("2", PICTURE + MARKS, -9))
    shop.land(f"dt={day(1)}/_{PICTURE}\u202e")
    shop.land(f"dt={day(1)}/b.jsonl", moved("1", PICTURE + MARKS, 6, country=MARKS))
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "hostile_shop.py").write_text(
        "import datetime as dt\nfrom refold import Daily\nfrom tests.dagster.house import small_project\n"
        "PROJECT = small_project(end=dt.date(2026, 1, 3))\n"
    )
    (tmp_path / "project" / "pyproject.toml").write_text('[tool.refold]\nproject = "hostile_shop:PROJECT"\n')
    return house


COMMANDS_SHOWN = [
    "plan", "conflicts --refused", "conflicts --refused --json", "quarantine ls --refused", "rebuild", "plan", "log ls",
    "log skipped", "log show stock_events 0:0", "log verify --landing", "log compact", "log unseal 2026-01-02",
    "conflicts", "conflicts --json", "quarantine ls", "quarantine ls --json", "quarantine retry", "release ls",
    "release show", "show levels", "show movement", "why levels KEY", "explain levels", "verify", "verify --reference",
    "repair", "prune", "search levels x", "log redact stock_events --place 0:0 --reason KEY --by KEY --yes",
    "log redactions", "log ls", "log ids", "release again", "release rollback", "locks",
    "locks break seal --reason KEY --by KEY", "log audit", "log hot", "log order", "report --out /dev/null",
    "log inspect LANDING",
    "log repartition stock_events --partitions 3 --into memory://",
]  # fmt: skip


def test_no_command_prints_what_a_terminal_obeys(hostile: House):
    """F15: every command, and JSON for machines as well."""
    unseen = {"demo", "init", "sample", "diff"}  # they make what they show, or have a test of their own
    assert {words.split()[0] for words in COMMANDS_SHOWN} == COMMANDS.keys() - unseen
    with click.Context(cli) as context:
        found = {name: cli.get_command(context, name) for name in COMMANDS}
    grouped = {f"{name} {each}" for name, group in found.items() for each in getattr(group, "commands", ())}
    assert grouped == {" ".join(words.split()[:2]) for words in COMMANDS_SHOWN} & grouped
    shown = 0
    for words in COMMANDS_SHOWN:
        given = {"KEY": PICTURE + MARKS, "LANDING": str(hostile.shop.landing)}
        given_words = [given.get(word, word) for word in words.split()]
        result = hostile.shop.refold(*given_words, project=hostile.shop.root / "project")
        printed = result.stdout + result.stderr
        assert [c for c in printed if not c.isprintable() and c != "\n"] == [], words
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
        shown += printable("\u202e") in printed
    assert shown > 8  # otherwise nothing hostile was shown


def test_a_summary_of_a_diff_shows_hostile_values_as_text(hostile: House):
    """F15: it is Markdown for a page of somebody else."""
    hostile.shop.refold("rebuild", project=hostile.shop.root / "project")
    file = hostile.shop.root / "project" / "other.py"
    file.write_text("from tests.dagster.house import small_project\nPROJECT = small_project(refuses=False)\n")
    words = ("diff", "levels", "--against", "other", "--markdown", "-")
    printed = hostile.shop.refold(*words, project=hostile.shop.root / "project")
    assert printed.stdout.startswith("## refold diff"), printed.stderr
    assert _tags(MARKUP.render(printed.stdout)) <= TAGS_OF_REFOLD


def test_no_page_of_dagster_is_given_markup_from_landing(hostile: House):
    """F15: a browser fetched the address of a picture that a landing name gave."""
    hostile.run("rebuild_snapshot", day(1))
    hostile.shop.land(f"dt={day(2)}/{PICTURE}.jsonl.gz").write_bytes(b"\x1f\x8b")
    hostile.shop.land(f"dt={day(1)}/late{PICTURE}.jsonl", moved("9", "cup", 1))
    hostile.rebuild()
    hostile.run("rebuild_snapshot", day(2))
    logs = [entry for run in hostile.instance.get_runs() for entry in hostile.instance.all_logs(run.run_id)]
    pages = [text for entry in logs if entry.dagster_event for text in _markdown(entry.dagster_event)]
    assert any("img" in text for text in pages)
    for text in pages:
        assert _tags(MARKUP.render(text)) <= TAGS_OF_REFOLD, text
        assert [c for c in text if not c.isprintable() and c != "\n"] == []


def _markdown(event: dg.DagsterEvent) -> Iterator[str]:
    """What the UI renders as Markdown of an event: descriptions of checks, and metadata that says it is Markdown."""
    data: Any = event.event_specific_data
    if isinstance(data, dg.AssetCheckEvaluation):
        yield data.description or ""
    found = getattr(data, "materialization", data)
    for value in (getattr(found, "metadata", None) or {}).values():
        if isinstance(value, dg.MarkdownMetadataValue):
            yield value.md_str
