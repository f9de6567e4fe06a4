"""Object names have one home: made and recognised there, spelled nowhere else, and shown in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from refold.storage.names import OBJECTS, ObjectKind, folder_of, kind_of, name_of, parts_of, places_of

ROOT = Path(__file__).parents[2]
HOME = ROOT / "refold" / "storage" / "names.py"
HASH = "0123456789abcdef" * 4

NAMES = {
    "snapshots/2026-01-02.json": ("manifest", {"snapshot": "2026-01-02"}),
    "snapshots/redactions/00000007.json": ("redaction", {"number": 7}),
    "layouts/2026-01-02-0123456789abcdef/00000007.json": (
        "layout",
        {"snapshot": "2026-01-02", "manifest": HASH, "number": 7},
    ),
    "logs/moves/segments/0003/00000000000000000042-0123456789abcdef.parquet": (
        "segment",
        {"log": "moves", "partition": 3, "start": 42, "sha256": HASH},
    ),
    f"logs/moves/repeats/{HASH[:32]}.parquet": ("repeats", {"log": "moves", "sha256": HASH}),
    f"logs/moves/quarantine/{HASH[:32]}.parquet": ("quarantine", {"log": "moves", "sha256": HASH}),
    f"logs/moves/seen/{HASH[:32]}.run": ("seen ids", {"log": "moves", "sha256": HASH}),
    f"checked/moves/{HASH[:40]}.json": ("content check", {"log": "moves", "sha256": HASH}),
    f"retries/moves/{HASH[:32]}.jsonl": ("retry", {"log": "moves", "sha256": HASH, "suffix": ".jsonl"}),
    f"retries/moves/{HASH[:32]}.jsonl.places": (
        "retry places",
        {"log": "moves", "sha256": HASH, "suffix": ".jsonl"},
    ),
    f"states/stock/1-abc/{HASH[:40]}.json": (
        "state record",
        {"store": "stock", "code_version": "1-abc", "inputs": HASH},
    ),
    f"states/stock/rows/{HASH[:40]}.parquet": ("rows", {"store": "stock", "sha256": HASH}),
    f"states/stock/changes/{HASH[:40]}.parquet": ("changes", {"store": "stock", "sha256": HASH}),
    f"states/stock/ledger/{HASH[:40]}.parquet": ("ledger part", {"store": "stock", "sha256": HASH}),
    f"partials/sales/{HASH[:40]}.arrow": ("partials", {"store": "sales", "sha256": HASH}),
    f"proofs/stock/{HASH[:40]}/{HASH[:40]}.json": ("proof", {"store": "stock", "claim": HASH, "sha256": HASH}),
    f"expectations/stock/000003-abc-{HASH[:16]}.json": (
        "expectations",
        {"store": "stock", "version": "000003-abc", "suite": HASH},
    ),
    "releases/00000000000000000012.json": ("release", {"number": 12}),
    "retired/00000000000000000012.json": ("retired", {"number": 12}),
    "delta/levels/_delta_log/00000000000000000001.json": (
        "Delta table",
        {"path": "levels/_delta_log/00000000000000000001.json"},
    ),
    "search/bulk/moves/aliases.json": ("search", {"path": "bulk/moves/aliases.json"}),
    "sinks/delta/levels/000001-abc.json": ("sink record", {"path": "delta/levels/000001-abc.json"}),
    "leases/log/moves/0003/00000000000000000012.json": ("lease", {"path": "log/moves/0003", "number": 12}),
}
"""One name of every kind, spelled out, with its kind and parts."""

STRANGE = [
    "notes.txt",
    "snapshots/notes.txt",
    "snapshots/2026-01-02.json.bak",
    "snapshots/٢٠٢٦-01-02.json",
    "layouts/2026-01-02-0123456789abcdef/7.json",
    f"retries/moves/{HASH[:32]}",
    f"states/stock/rows/{HASH[:40]}.json/x",
    f"proofs/stock/{HASH[:40]}.json",
    "releases/12.json",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_made_and_recognised(name: str):
    kind, parts = NAMES[name]
    assert name_of(ObjectKind(kind), **parts) == name
    assert [each for each in OBJECTS if parts_of(each, name)] == [kind]
    assert kind_of(name) == kind
    found = parts_of(ObjectKind(kind), name)
    assert found.keys() == parts.keys()
    assert all(str(value).startswith(found[part]) or int(found[part]) == value for part, value in parts.items())


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_named_otherwise_is_not_refolds(name: str):
    assert kind_of(name) is None


def test_every_kind_is_in_the_table_and_named_here():
    assert list(OBJECTS) == list(ObjectKind)
    assert {kind for kind, _ in NAMES.values()} == set(ObjectKind)


def test_a_folder_holds_what_has_its_parts():
    assert folder_of(ObjectKind.LAYOUT) == "layouts"
    assert folder_of(ObjectKind.LAYOUT, snapshot="2026-01-02", manifest=HASH) == f"layouts/2026-01-02-{HASH[:16]}"
    assert folder_of(ObjectKind.SEGMENT, log="moves") == "logs/moves/segments"
    assert folder_of(ObjectKind.ROWS, store="stock") == "states/stock/rows"
    assert folder_of(ObjectKind.STATE_RECORD, store="stock", code_version="1-abc") == "states/stock/1-abc"
    for name, (kind, parts) in NAMES.items():
        assert name.startswith(f"{folder_of(ObjectKind(kind), **parts)}/")


def test_the_places_of_a_retry_are_beside_it():
    retry, places = (name for name in NAMES if name.startswith("retries/"))
    assert places_of(retry) == places


FOLDERS = sorted({name.partition("/")[0] for name in NAMES})
SPELLED = re.compile(rf"(?<![\w.`/-])({'|'.join(FOLDERS)})/")


def spelled(source: str) -> Iterator[tuple[int, str]]:
    """Where a module spells the folder of an object: in a text that is not prose, or as what is listed."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            if SPELLED.search(node.value):
                yield node.lineno, node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "list":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and argument.value in FOLDERS:
                    yield node.lineno, str(argument.value)


@pytest.mark.parametrize("line", ['name = f"states/{store}/x.json"', 'objects.list("layouts")', 'a = "logs/" + log'])
def test_a_folder_that_a_module_spells_is_found(line: str):
    assert len(list(spelled(line))) == 1
    assert list(spelled(f'"""Prose of {FOLDERS[0]}/ and others."""')) == []


def test_no_other_module_spells_the_folder_of_an_object():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for path in sorted((ROOT / "refold").rglob("*.py"))
        if path not in (HOME, HOME.with_name("sink_names.py"))
        for line, text in spelled(path.read_text())
    ]
    assert found == [], "make the name by refold.storage.names or sink_names"
    assert len(list(spelled(HOME.read_text()))) >= len(OBJECTS)


@pytest.mark.parametrize("kind", [kind for kind, entry in OBJECTS.items() if entry.room != "sinks"])
def test_the_room_of_a_kind_is_the_one_that_names_it(kind: ObjectKind):
    folder = ROOT / "refold" / OBJECTS[kind].room
    assert any(f"ObjectKind.{kind.name}" in path.read_text() for path in folder.rglob("*.py"))


def table() -> str:
    """The table of all kinds of objects, as ARCHITECTURE.md shows it."""
    lines = ["| object | what | written by | damage is found by | repair | prune |", "|---|---|---|---|---|---|"]
    for kind, entry in OBJECTS.items():
        fields = Formatter().parse(entry.template)
        shown = "".join(text + (f"<{part.replace('_', ' ')}>" if part else "") for text, part, _, _ in fields)
        cells = (f"{kind}: `{shown}`", entry.what, f"{entry.room}, {entry.written}", entry.checked)
        lines.append(f"| {' | '.join((*cells, entry.repair, entry.removal))} |")
    return "\n".join(lines)


def test_architecture_shows_the_table():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert table() in text, f"replace the table under 'What is in the store' by:\n\n{table()}"
