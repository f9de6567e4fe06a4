"""What a store holds, summed up, so that it can be compared with what another version of the code wrote. Not a test."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

TIMED = ("delta/", "releases/", "search/", "sinks/")
"""Folders whose objects hold times: of these only the names are compared."""


def object_sums(store: Path) -> dict[str, tuple[int, str]]:
    """By folder of a store: how many objects it holds, and a sha256 over their names and bytes.

    Left out is what differs from run to run and from machine to machine: in proofs seconds, versions, and the name that
    follows from these; in layouts the entity tags of landing; of search indexes
    the files, which tantivy names by chance.
    """
    lines: dict[str, set[str]] = {}
    for path in store.rglob("*"):
        if path.is_file():
            name = path.relative_to(store).as_posix()
            lines.setdefault(name.partition("/")[0], set()).add(_line(name, path))
    return {
        folder: (len(found), sha256("".join(sorted(found)).encode()).hexdigest()[:16])
        for folder, found in sorted(lines.items())
    }


def _line(name: str, path: Path) -> str:
    if name.startswith("proofs/"):
        return f"{name.rpartition('/')[0]} {_body(path, 'seconds', 'versions')}\n"
    if name.startswith("layouts/"):
        return f"{name} {_body(path, 'e_tags')}\n"
    if name.startswith("search/tantivy/"):
        return f"{'/'.join(name.split('/')[:4])}\n"
    if name.startswith(TIMED):
        return f"{name}\n"
    return f"{name} {sha256(path.read_bytes()).hexdigest()}\n"


def _body(path: Path, *without: str) -> str:
    """The body of a record as text, without some of its members at any depth."""

    def kept(members: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in members.items() if key not in without}

    return json.dumps(json.loads(path.read_bytes(), object_hook=kept)["body"], sort_keys=True)
