"""`refold diff --against module`, as a person and as a pull request's check run it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml
from click.testing import Result

from refold.cli.main import cli
from tests.release.little import DAYS, Little, build

ROOT = Path(__file__).parents[2]
TWICE = ("--against", "tests.diff.variants:twice")
Diff = Callable[..., Result]


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Little:
    """Four days proven, of which the third is served."""
    little = build(tmp_path_factory.mktemp("little"))
    little.publish(2)
    little.release(2)
    (little.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.release.little:PROJECT"\n')
    return little


@pytest.fixture
def diff(little: Little) -> Diff:
    return lambda *words: little.refold("diff", *words, project=little.root)


def as_left(little: Little) -> dict[str, tuple[object, ...]]:
    files = [path for path in sorted(little.root.rglob("*")) if path.is_file()]
    found: dict[str, tuple[object, ...]] = {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files
    }
    listed = little.engine().objects.list()
    return found | {info.name: (info.e_tag, info.size_bytes, info.modified_at) for info in listed}


def test_nothing_is_written_and_what_is_served_stays(little: Little, diff: Diff):
    before, released = as_left(little), little.released()
    assert diff("on_hand", *TWICE, "--why", "bolt").exit_code == 1
    assert as_left(little) == before
    assert little.released() == released


def test_the_exit_code_tells_whether_something_differs(diff: Diff):
    assert diff("on_hand", *TWICE).exit_code == 1
    assert diff("on_hand", *TWICE, "--allow-changes").exit_code == 0
    same = diff("on_hand", "--against", "tests.release.little")
    assert (same.exit_code, "Same code versions" in same.stdout) == (0, True)
    assert diff("--against", "tests.release.little").exit_code == 0
    for wrong in (("--why", "bolt"), ("on_hand", "--limit", "many")):
        assert diff(*wrong, *TWICE).exit_code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("on_hand", "--against", "tests.diff.variants:nothing"), "Expected a store 'nothing' in the module"),
        (("on_hand", "--against", "tests.nowhere:on_hand"), "There is no module 'tests.nowhere'"),
        (("on_hand", *TWICE, "--as-of", "2030-01-01"), "There is no snapshot 2030-01-01"),
        (("on_hand", *TWICE, "--why", "screwdriver"), "no event for the key 'screwdriver'"),
        (("nothing", "--against", "tests.release.little:on_hand"), None),
    ],
)
def test_what_cannot_be_compared_exits_2_with_a_sentence(diff: Diff, words: tuple[str, ...], told: str | None):
    done = diff(*words)
    if told is None:  # a store that is not here is removed whole
        assert done.exit_code == 1 and "removed store" in done.stdout
    else:
        assert done.exit_code == 2 and told in done.stderr


def test_what_is_served_is_compared_unless_another_snapshot_is_asked_for(diff: Diff):
    served = json.loads(diff("on_hand", *TWICE, "--json", "-").stdout)
    assert served["snapshot"] == DAYS[2]
    assert served["stores"][0]["rows"]["changes"][0]["cells"] == {"level": [12, 6]}
    newest = json.loads(diff("on_hand", *TWICE, "--json", "-", "--as-of", DAYS[3]).stdout)
    assert newest["stores"][0]["rows"]["changes"][0]["cells"] == {"level": [20, 10]}


def test_the_summary_for_a_pull_request_is_told_whole(diff: Diff, tmp_path: Path):
    file = tmp_path / "summary.md"
    done = diff("on_hand", *TWICE, "--markdown", str(file))
    assert done.exit_code == 1
    old, new = (json.loads(diff("on_hand", *TWICE, "--json", "-").stdout)["stores"][0][s] for s in ("old", "new"))
    expected = f"""
        ## refold diff: on_hand: differs

        Old: tests.diff.variants:twice. New: the working tree. Both folded from offset 0 through snapshot 2026-01-03, \
in a shadow: nothing was stored or released.

        | store | result | rows, old | rows, new | added | removed | changed | outcomes changed |
        |---|---|--:|--:|--:|--:|--:|--:|
        | on_hand | differs | 5 | 5 | 0 | 0 | 1 | 0 |

        ### on_hand: differs

        Code version {old["code_version"]} → {new["code_version"]}.

        **1 key changes (level in 1)**

        | product | change | column | from | to |
        |---|---|---|---|---|
        | bolt | changed | level | 12 | 6 |

        Again, with the events behind a key: `refold diff on_hand --against tests.diff.variants:twice --as-of \
2026-01-03 --why KEY`

        ### on_hand: 0 of 15 events have another outcome

        The two rules of on_hand first part at log_seq 0 (log partition 1, offset 0; snapshot 2026-01-01; landed \
as moves/dt=2026-01-01/a.jsonl:1).

        |  | log_seq | place | id | product | quantity | kind | by the old rule | by the new rule |
        |---|--:|---|---|---|---|---|---|---|
        | ≠ | 0 | 1:0 | 2026-01-01 bolt | bolt | 1 | add | applied: level=2 | applied: level=1 |
    """
    assert file.read_text() == textwrap.dedent(expected).lstrip("\n")


def test_the_same_summary_goes_to_standard_output_and_the_tables_then_do_not(diff: Diff):
    done = diff("on_hand", *TWICE, "--markdown", "-")
    assert done.stdout.startswith("## refold diff: on_hand: differs\n")
    assert "Compared at snapshot" in done.stderr


def test_values_that_are_markdown_are_shown_letter_by_letter():
    from refold.diff.summary import _md

    assert _md("a|b*<img>`\n") == "a\\|b\\*&lt;img&gt;\\`\\\\n"
    assert _md(1234567) == "1,234,567" and _md(None) == "–"
    assert len(_md("x" * 1000)) < 400


def test_the_example_workflow_runs_a_command_that_exists():
    workflow = yaml.safe_load((ROOT / "examples" / "ci" / "refold-diff.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    (command,) = [step["run"] for step in steps if "refold diff" in step.get("run", "")]
    words = set(command.replace("\\\n", " ").split())
    declared = {option for parameter in cli.get_command(click.Context(cli), "diff").params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= declared
    assert any(step.get("with", {}).get("fetch-depth") == 0 for step in steps)
