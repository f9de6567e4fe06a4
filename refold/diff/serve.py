"""The other end of `refold.diff.remote`: a shadow that answers questions on standard input until it is closed.

Runs in a process of its own, which imports the project from a source tree that is not this one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import refold
from refold.diff.paths import loaded_from
from refold.diff.shadow import Folding, Shadow
from refold.errors import FixInput, Rebuild, RefoldError, Retry
from refold.log.snapshot import SnapshotChain
from refold.project import load_project
from refold.storage.packs import open_packed

Request = Mapping[str, Any]


def serve(request: Request) -> None:
    """Load the project that a request names, say what it declares, and answer what is asked next.

    Every answer is one line of JSON: `ok` with the answer, or `error` with group, kind and message of an error.
    """
    sys.dont_write_bytecode = True
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a project prints must not be taken for an answer
    try:
        server = _Server(request)
    except RefoldError as error:
        _send(answers, _error(error))
        return
    _send(answers, {"ok": {name: asdict(each) for name, each in server.shadow.describe().items()}})
    for line in sys.stdin:
        try:
            answer = {"ok": server.answer(json.loads(line))}
        except RefoldError as error:
            answer = _error(error)
        _send(answers, answer)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table for the other process."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """Read what the other process wrote."""
    with pa.OSFile(str(path), "rb") as file:
        return pa.ipc.open_file(file).read_all()


def folding_of(events: pa.Table, marks: pa.Table, texts: Mapping[str, str]) -> Folding:
    """A folding, read from the tables and texts that the server sent."""
    columns = [*(events[name] for name in ("outcome", "reason")), *(marks[name] for name in ("snapshot", "mark"))]
    arrays = [np.asarray(column) for column in columns]
    return Folding(arrays[0], arrays[1], {int(code): text for code, text in texts.items()}, arrays[2], arrays[3])


class _Server:
    def __init__(self, request: Request) -> None:
        self._folder = Path(request["folder"])
        self._files = 0
        project = load_project(Path(request["root"]))
        _refuse_other_tree(Path(request["repository"]), self._folder)
        objects = open_packed(request["store"], must_exist=True)
        chain = SnapshotChain(objects)
        stores = {store.name: store for store in project.stores}
        self.shadow = Shadow("the other tree", objects, chain, chain.get(request["snapshot"]), stores)
        self._ways: Mapping[str, Callable[[Request], object]] = {
            "fold": lambda asked: self.shadow.fold(asked["columns"])(),
            "rows": lambda asked: self._written(self.shadow.rows(asked["name"])),
            "folding": self._folding,
            "running": self._running,
            "why": self._why,
        }

    def answer(self, request: Request) -> object:
        """The answer to one question, as JSON holds it. Raises RefoldError."""
        return self._ways[request["do"]](request)

    def _folding(self, request: Request) -> dict[str, object]:
        found = self.shadow.folding(request["name"])
        events = pa.table({"outcome": found.outcomes, "reason": found.reasons})
        marks = pa.table({"snapshot": found.snapshots, "mark": found.marks})
        return {"events": self._written(events), "marks": self._written(marks), "texts": dict(found.texts)}

    def _running(self, request: Request) -> str:
        events, touched = (np.array(request[name], dtype=np.int64) for name in ("events", "touched"))
        return self._written(self.shadow.running(request["name"], request["through"], events, touched))

    def _why(self, request: Request) -> dict[str, str]:
        found = self.shadow.why(request["name"], request["key"])
        return {name: self._written(table) for name, table in found.items()}

    def _written(self, table: pa.Table) -> str:
        """Write a table to a new file; returns its name."""
        self._files += 1
        write_table(table, self._folder / f"{self._files}.arrow")
        return f"{self._files}.arrow"


def _refuse_other_tree(repository: Path, folder: Path) -> None:
    """What the project imported must be of the tree that was asked for, or a rule would be compared with itself."""
    found = loaded_from(repository, folder, Path(refold.__file__).resolve().parent)
    if found:
        raise FixInput(
            f"Expected everything to be imported from the tree that was asked for; of the working tree were imported "
            f"{', '.join(found[:5])}.",
            remedy="Import it by a folder of the tree, not by an installation that points to the working tree.",
        )


def _error(error: RefoldError) -> dict[str, object]:
    group = next((each.kind for each in (Retry, Rebuild) if isinstance(error, each)), FixInput.kind)
    return {"error": {"group": group, "kind": error.kind, "message": str(error)}}


def _send(to: Any, answer: Mapping[str, object]) -> None:
    to.write(json.dumps(answer) + "\n")
    to.flush()
