"""SIGKILL before and after every write of every stage, with readers reading all the while.

Readers see the old release or the new, whole, through the pointer and in one transaction over all views; the next run
completes what was killed, and ends with the same objects and rows as if nothing had happened. The writes are
found in the code: one that no stage here comes by fails `test_every_write_in_the_code_is_killed_at`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.failpoints.conftest import Killed
from tests.failpoints.shop import SQLITE
from tests.failpoints.sites import Site, find_sites
from tests.failpoints.stages import STAGES

POWER = ("seal the first", "seal", "unseal", "redact", "build", "prove", "publish", "check expectations", "release",
         "prune", "compact", "retry the quarantine")  # fmt: skip
IN_DATABASE = [name for name, stage in STAGES.items() if stage.database]


def check(result: dict[str, Any]) -> None:
    assert result["unseen"] == [], "the stage writes in a way that tests.failpoints.watching does not see"
    assert result["cases"]
    told = [f"after write {case['moment']}, {case['died']}: {f}" for case in result["cases"] for f in case["faults"]]
    assert told == []


@pytest.mark.parametrize("stage", STAGES)
def test_whoever_is_killed_leaves_the_old_or_the_new_and_the_next_run_completes_it(stage: str, killed: Killed):
    result = killed(stage, SQLITE)
    check(result)
    assert all(case["readings"] >= 2 for case in result["cases"] if STAGES[stage].readable)


@pytest.mark.parametrize("stage", IN_DATABASE)
def test_on_postgresql_as_well(stage: str, killed: Killed, postgres: str):
    """At the writes that readers could notice: statements, commits, and the pointer."""
    check(killed(stage, postgres))


@pytest.mark.parametrize("stage", POWER)
def test_a_power_cut_at_every_write_leaves_what_the_next_run_completes(stage: str, killed: Killed):
    """F4: of what was not synced a power cut leaves nothing, empty files, or any part; nothing wrong is read then."""
    cases = killed(stage, SQLITE, power=True)["cases"]
    assert len(cases) >= 3
    assert [f"{case['moment']}: {fault}" for case in cases for fault in case["faults"]] == []
    assert [f"{case['moment']}: {case['repaired']}" for case in cases if case["repaired"]] == []


def calls(writes: Iterable[dict[str, Any]]) -> set[tuple[str, int, int]]:
    return {(file, line, column) for write in writes for file, line, column in write["calls"]}


def missing(sites: Iterable[Site], found: set[tuple[str, int, int]]) -> list[str]:
    return [str(site) for site in sites if (site.file, site.line, site.column) not in found]


def test_every_write_in_the_code_is_killed_at(killed: Killed, postgres: str):
    results = [killed(stage, SQLITE) for stage in STAGES] + [killed(stage, postgres) for stage in IN_DATABASE]
    seen = calls(write for result in results for write in result["seen"])
    at = calls(write for result in results for write in result["killed"])
    sites = find_sites()
    assert missing(sites, seen) == [], (
        "No stage comes by these writes: add one to tests/failpoints/stages.py that does, or, where it is no write, "
        "say so in EXEMPT of tests/failpoints/sites.py.\n" + "\n".join(missing(sites, seen))
    )
    # A statement that was only ever a query is none to be killed at.
    changing = calls(write for result in results for write in result["seen"] if write["changes"])
    writing = [s for s in sites if not s.is_statement or (s.file, s.line, s.column) in changing]
    assert missing(writing, at) == []
