"""`refold diff` against git refs: the right tree is loaded, and nothing but this comparison comes of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.diff.conftest import Till
from tests.diff.till import NEW, OLD

Diff = Callable[..., Result]


def as_left(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a folder: inode, time of change and bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in paths}


def test_uncommitted_edits_are_compared_with_the_last_commit_and_nothing_is_touched(
    till: Till, diff: Diff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    till.write(NEW)
    for hook in ("post-checkout", "post-index-change", "pre-auto-gc"):
        script = till.repository / ".git" / "hooks" / hook
        script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/a hook ran'\n")
        script.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of a hook"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "of a hook" / "index"))
    before = as_left(till.repository), as_left(till.places)

    done = diff("--json", "-", "--why", "nail", "on_hand")

    assert done.exit_code == 1, done.stderr
    assert (as_left(till.repository), as_left(till.places)) == before
    assert not (tmp_path / "a hook ran").exists() and not (tmp_path / "of a hook").exists()
    told = json.loads(done.stdout)
    (store,) = told["stores"]
    assert told["old"].startswith("HEAD (") and told["new"] == "the working tree"
    (change,) = store["rows"]["changes"]
    assert (change["kind"], change["key"], change["cells"]) == ("changed", {"item": "nail"}, {"level": [12, -5]})
    refused = "rejected (TOO_MANY)"
    assert store["outcomes"][0]["moves"] == [["applied", refused, 1], [refused, "applied", 1]]
    first = store["outcomes"][0]["first"]
    assert (first["log_seq"], first["event"]["id"], first["origin"]) == (1, "2", "moves/dt=2026-01-01/a.jsonl:2")
    assert (first["old"]["after"], first["new"]["after"]) == ({"level": 20}, {"level": -5})
    assert "level=12" in done.stderr and "level=-5" in done.stderr


def test_all_stores_of_a_branch_are_compared_over_one_fold(till: Till, diff: Diff):
    till.git("switch", "--quiet", "--create", "credit")
    till.write(NEW)
    till.commit("Give credit")
    done = diff("--against", "main", "--json", "-")
    assert done.exit_code == 1, done.stderr
    told = {store["store"]: store for store in json.loads(done.stdout)["stores"]}
    assert {name: store["result"] for name, store in told.items()} == {
        "on_hand": "differs",
        "last_move": "same code version",
        "per_day": "differs",
        "search": "differs",
    }
    assert [(day["key"]["event_date"], day["cells"]) for day in told["per_day"]["rows"]["changes"]] == [
        ("2026-01-01", {"applied": [2, 3]}),
        ("2026-01-02", {"applied": [1, 0]}),
    ]
    (document,) = told["search"]["rows"]["changes"]
    assert document["cells"] == {"level": [12, -5]}
    assert told["on_hand"]["command"] == "refold diff on_hand --against main --as-of 2026-01-02"


def test_the_same_declarations_are_told_at_once_without_reading_the_log(till: Till, diff: Diff):
    shutil.rmtree(till.places / "store" / "logs")
    till.write(OLD.replace('"""Units on hand."""', '"""Units that are on hand."""  # better said'))
    done = diff("--against", till.git("rev-parse", "HEAD").strip())
    assert done.exit_code == 0, done.output
    assert "Same code versions: nothing to compare." in done.stdout


def test_a_ref_that_is_not_there_is_refused_with_those_that_are(till: Till, diff: Diff):
    till.git("tag", "v1")
    for ref in ("mian", "feature/x", "--upload-pack=touch", "HEAD~7"):
        done = diff(f"--against={ref}")
        assert done.exit_code == 2
        assert f"found {ref!r}; it has main, v1." in done.stderr.replace("v1, main", "main, v1"), done.stderr
        assert "git fetch origin" in done.stderr


def test_outside_of_a_repository_a_module_must_be_named(till: Till, diff: Diff):
    shutil.rmtree(till.repository / ".git")
    done = diff()
    assert done.exit_code == 2
    assert "Expected a git repository at" in done.stderr and "--against package.module" in done.stderr


def test_a_shallow_clone_that_lacks_the_ref_says_what_to_fetch(till: Till, diff: Diff, tmp_path: Path):
    first = till.git("rev-parse", "HEAD").strip()
    till.write(NEW)
    till.commit("Give credit")
    till.git("clone", "--quiet", "--depth=1", f"file://{till.repository}", str(tmp_path / "clone"))
    shutil.rmtree(till.repository)
    (tmp_path / "clone").rename(till.repository)
    done = diff("--against", first)
    assert done.exit_code == 2
    assert "This clone is shallow" in done.stderr and "fetch-depth: 0" in done.stderr


def test_stores_on_one_side_alone_are_named(till: Till, diff: Diff):
    till.write(OLD.replace("on_hand, last_move, per_day, search]", "on_hand, per_day, moved]").replace(
        'search = documents("search", left=on_hand, right=last_move)',
        'moved = latest_by_key(moves, "moved", version=1, columns={"kind": enum(Kind)})',
    ))  # fmt: skip
    done = diff("--markdown", "-")
    assert done.exit_code == 1
    assert "| moved | new store | 0 | 2 | 2 | 0 | 0 | – |" in done.stdout
    assert "| search | removed store | 2 | 0 | 0 | 2 | 0 | – |" in done.stdout.replace("\\", "")
    neither = diff("nothing")
    assert neither.exit_code == 2 and "There is no store 'nothing'" in neither.stderr


def test_a_project_that_was_not_there_yet_is_told(till: Till, diff: Diff):
    till.git("rm", "--quiet", "-r", "--cached", "the shop")
    till.git("commit", "--quiet", "--message", "Without the shop")
    done = diff()
    assert done.exit_code == 2
    assert "Expected a project at the shop/pyproject.toml in HEAD (" in done.stderr


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("def (", "SyntaxError"),
        ("@fold(moves, version=1)\ndef broken(row, event):\n    return 1", "expected the parameter row annotated"),
    ],
)
def test_declarations_that_cannot_be_loaded_come_back_with_what_is_wrong(
    till: Till, diff: Diff, broken: str, told: str
):
    till.write(f"{OLD}\n{broken}\n")
    till.commit("Break it")
    till.write(OLD)
    done = diff()
    assert done.exit_code == 2
    assert told in done.stderr and "HEAD (" in done.stderr
    assert "refold-diff-" not in done.stderr


def test_a_rule_that_fails_there_is_told_with_the_event(till: Till, diff: Diff):
    till.write(OLD.replace("return row._replace(level=row.level - event.units)", "return row._replace(level=1 // 0)"))
    till.commit("Divide by zero")
    till.write(OLD)
    done = diff("on_hand")
    assert done.exit_code == 2
    assert done.stderr.startswith("rule\n") or "\nrule\n" in done.stderr
    assert "By HEAD (" in done.stderr and "item 'nail'" in done.stderr


def test_what_a_project_prints_is_no_answer_and_its_own_folders_are_those_of_the_ref(
    till: Till, diff: Diff, monkeypatch: pytest.MonkeyPatch
):
    library = till.folder / "src"
    library.mkdir()
    (library / "credit.py").write_text("CREDIT = 0\n")
    shown = OLD.replace('"""The till."""', 'from credit import CREDIT\nprint("loaded", flush=True)')
    till.write(shown.replace("if event.units > row.level:", "if event.units > row.level + CREDIT:"))
    till.commit("Credit in a library")
    (library / "credit.py").write_text("CREDIT = 10\n")
    monkeypatch.syspath_prepend(library)
    done = diff("on_hand", "--json", "-")
    sys.modules.pop("credit")
    assert done.exit_code == 1, done.stderr
    (store,) = json.loads(done.stdout.partition("\n")[2])["stores"]
    assert store["rows"]["changes"][0]["cells"] == {"level": [12, -5]}


def test_a_rule_that_would_be_compared_with_itself_is_refused(till: Till, diff: Diff):
    (till.folder / "credit.py").write_text("CREDIT = 10\n")
    pointing = f"import sys\nsys.path.insert(0, {os.fspath(till.folder)!r})\nfrom credit import CREDIT\n"
    till.write(pointing + OLD)
    till.commit("Point to the working tree")
    done = diff()
    sys.modules.pop("credit", None)
    assert done.exit_code == 2
    assert "of the working tree were imported credit" in done.stderr
