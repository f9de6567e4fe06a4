"""An insider replaces the whole store and the database, consistently: every hash, proof and release is right."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refold import Daily, Project, int64, latest_by_key, text
from refold.log.compaction import Compactor, MergeLimits
from refold.rebuild import rebuild_all
from refold.seal.against_landing import Compared
from refold.storage.objects import sha256_hex
from refold.storage.records import record_bytes
from tests.field import placed
from tests.support import Shop, copy_landing, moved, seal_and_prove
from tests.three_days import DAYS, SMALL

PROJECT = SMALL.with_cadence(Daily(dt.date(2026, 1, 1), dt.date(2026, 1, 4)))
FORGED = f"stock_events/dt={DAYS[1]}/a.jsonl"
Lines = list[str]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Three days that are served; the second has a bad record, and the third two objects."""
    shop = Shop(tmp_path, PROJECT)
    for number, day in enumerate(DAYS):
        events = [moved(f"{number}-{n}", f"product {n}", 10 + n) for n in range(6)]
        shop.land(f"dt={day}/a.jsonl", *events, *(['{"event_id": "bad"}'] if number == 1 else []))
        shop.land(f"product_changes/dt={day}/a.jsonl")
    shop.land(f"dt={DAYS[2]}/b.jsonl", moved("2-b", "product 1", 1))
    for _ in shop.engine().sealing.seal():
        pass
    return shop


def replace_all(shop: Shop, edit: Callable[[Lines], Lines], *, served: bool = False) -> None:
    """Make the store, and with `served` the database, anew from a landing in which one object is another one."""
    forged = shop.root / "forged"
    copy_landing(shop.landing, forged)
    (forged / FORGED).write_text("\n".join(edit((forged / FORGED).read_text().splitlines())) + "\n")
    shutil.rmtree(shop.store)
    shop.database_file.unlink(missing_ok=True)
    engine = Shop(shop.root, PROJECT, forged).engine()
    if served:
        rebuild_all(engine)
    for _ in engine.sealing.seal():
        pass


def keep_the_sum_that_landing_has(shop: Shop) -> None:
    """Have the manifests say that the forged object was the one that landing has."""
    engine, true = shop.engine(), sha256_hex((shop.landing / FORGED).read_bytes())
    parent = None
    for snapshot in engine.chain:
        body = json.loads((shop.store / snapshot.name).read_bytes())["body"] | {"parent_sha256": parent}
        for item in body["logs"]["stock_events"]["objects"]:
            item["sha256"] = true if item["name"] == FORGED else item["sha256"]
        data = record_bytes(body)
        (shop.store / snapshot.name).write_bytes(data)
        parent = sha256_hex(data)
        (layout,) = (shop.store / "layouts").glob(f"{snapshot.key}-*/*.json")
        named = json.loads(layout.read_bytes())["body"] | {"manifest": parent}
        layout.write_bytes(record_bytes(named))
        layout.parent.rename(layout.parent.with_name(f"{snapshot.key}-{parent[:16]}"))


def is_whole(shop: Shop) -> bool:
    """Whether the checks that know only the store find nothing."""
    engine = shop.engine()
    findings = [
        f for log in PROJECT.logs for _, found in engine.verify_log(log.name, engine.chain.get()) for f in found
    ]
    served = [difference for each in engine.served.check() for difference in each.differences]
    return not (findings or engine.audit_objects() or served)


def compared(shop: Shop) -> list[Compared]:
    engine = shop.engine()
    return [each for log in PROJECT.logs for each in engine.compare_with_landing(log.name, engine.chain.get())]


def numbers(found: list[Compared]) -> tuple[int, int, int]:
    """How many events are equal, how many were not compared, and how many objects are gone."""
    return sum(each.events for each in found), sum(each.left for each in found), sum(len(each.gone) for each in found)


EDITS: dict[str, Callable[[Lines], Lines]] = {
    "a value": lambda lines: [*lines[:3], lines[3].replace('"quantity": 13', '"quantity": 14'), *lines[4:]],
    "a key": lambda lines: [*lines[:3], lines[3].replace("product 3", "product 4"), *lines[4:]],
    "an event less": lambda lines: [*lines[:3], *lines[4:]],
    "the last event less": lambda lines: [*lines[:5], *lines[6:]],
    "an event more": lambda lines: [*lines[:3], json.dumps(moved("new", "product 3", 1)), *lines[3:]],
    "one more at the end": lambda lines: [*lines, json.dumps(moved("new", "product 3", 1))],
    "two exchanged": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_another_log_is_named_by_its_first_event_that_did_not_land(shop: Shop, edit: str):
    """F16: also where the manifests name the objects as landing has them; the place is found by plain comparison."""
    landed = [line for line in (shop.landing / FORGED).read_text().splitlines() if "quantity" in line]
    forged = [line for line in EDITS[edit]((shop.landing / FORGED).read_text().splitlines()) if "quantity" in line]
    replace_all(shop, EDITS[edit])
    keep_the_sum_that_landing_has(shop)
    assert is_whole(shop)
    findings = [(each.snapshot, *finding) for each in compared(shop) for finding in each.findings]
    assert {snapshot for snapshot, _, _ in findings} == {DAYS[1]}
    first = next(
        (n for n, (a, b) in enumerate(zip(landed, forged, strict=False)) if a != b), min(len(landed), len(forged))
    )
    named = [where for _, where, text in findings if "event" in text or "as in landing, found" in text]
    if first < len(forged):
        assert any(f"(log_seq {6 + first})" in where for where in named), findings
    else:
        assert any(re.search(rf"{FORGED}:{first + 1}$", where) for where in named), findings


def test_a_bad_record_that_was_taken_out_of_quarantine_is_named(shop: Shop):
    """F16: quarantine is compared as well."""
    replace_all(shop, lambda lines: lines[:-1])
    keep_the_sum_that_landing_has(shop)
    findings = [finding for each in compared(shop) for finding in each.findings]
    assert any(where == f"{FORGED} line 7" and "1 bad records of landing, found 0" in text for where, text in findings)


def test_what_was_sealed_is_what_landed_also_after_compaction_and_a_late_object(shop: Shop):
    """The honest log has no finding, however it came to be."""
    assert is_whole(shop) and numbers(compared(shop)) == (19, 0, 0)
    log = PROJECT.log("stock_events")
    compactor = Compactor(shop.engine().objects, shop.engine().chain, log, MergeLimits(files_min=2))
    assert compactor.apply(compactor.plan()).files
    assert [each.findings for each in compared(shop) if each.findings] == []
    longer = shop.declared(cadence=Daily(dt.date(2026, 1, 1), dt.date(2026, 1, 5)))
    longer.land(f"dt={DAYS[0]}/late.jsonl", moved("late", "product 9", 1), "no event")
    longer.land("dt=2026-01-04/a.jsonl", moved("4", "product 9", 1))
    longer.land("product_changes/dt=2026-01-04/a.jsonl")
    for _ in longer.engine().sealing.seal():
        pass
    found = compared(longer)
    assert [each.findings for each in found if each.findings] == [] and numbers(found) == (21, 0, 0)


def test_a_record_that_is_retried_is_compared_where_it_was_sealed(tmp_path: Path):
    """A record in quarantine may be an event by a later declaration, and is sealed again by a retry."""
    narrow = replace(placed.LOG, columns={"shop": text(), "n": int64(0, 3)})
    stores = [latest_by_key(narrow, "sums", version=1, columns={"n": int64()})]
    shop = Shop(tmp_path, placed.PROJECT)
    good = {"shop": "a", "n": 1}
    shop.land("moves/dt=2026-01-01/a.jsonl", good, {"shop": "a", "n": 5}, good)
    seal_and_prove(Shop(tmp_path, Project("field", placed.PROJECT.cadence, stores)).engine())
    assert [len(items) for items in shop.engine().retry_quarantine().values()] == [1]
    shop.land("moves/dt=2026-01-02/b.jsonl", good)
    seal_and_prove(shop.engine())
    engine = shop.engine()
    found = list(engine.compare_with_landing("moves", engine.chain.get()))
    assert [(each.events, each.left, each.readable, each.findings) for each in found] == [(2, 0, 1, []), (2, 0, 0, [])]


def test_what_landing_no_longer_holds_is_counted(shop: Shop):
    """Events of removed objects are not compared, and those after them are."""
    (shop.landing / FORGED).unlink()
    (shop.landing / f"stock_events/dt={DAYS[2]}/a.jsonl").unlink()
    found = compared(shop)
    assert [each.findings for each in found if each.findings] == [] and numbers(found) == (7, 12, 2)


def test_a_link_out_of_landing_is_not_compared(shop: Shop):
    """F19: a link that leaves landing is as good as gone."""
    outside = (shop.landing / FORGED).rename(shop.root / "outside.jsonl")
    (shop.landing / FORGED).symlink_to(outside)
    assert numbers(compared(shop)) == (13, 6, 1)


def test_the_command_names_the_event_and_exits_1(shop: Shop, tmp_path: Path):
    """`refold log verify` alone finds nothing in a store that is consistent; with --landing it does."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.attacks.test_insider:PROJECT"\n')
    shown = shop.refold("log", "verify", "--landing", project=project)
    assert shown.exit_code == 0 and "19 events equal, 0 not compared" in shown.stdout, shown.output
    replace_all(shop, EDITS["a value"], served=True)
    assert is_whole(shop)
    assert shop.refold("log", "verify", project=project).exit_code == 0
    shown = shop.refold("log", "verify", "--landing", project=project)
    assert shown.exit_code == 1
    assert "(log_seq 9)" in shown.stdout and "expected quantity 13" in shown.stdout and "with sha256" in shown.stdout
