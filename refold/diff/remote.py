"""A shadow in another process, over another source tree, so that modules of one name do not meet in one interpreter.

The other process runs the same interpreter with this very Refold (`refold.diff.serve`). What goes between the two is
a line of JSON each way, and Arrow files in a temporary folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

import refold
from refold.diff.described import Described, from_json
from refold.diff.paths import moved_path
from refold.diff.serve import folding_of, read_table
from refold.diff.shadow import Folding, Places
from refold.diff.tree import Commit, write_tree
from refold.errors import FixInput, Rebuild, RefoldError, Retry
from refold.log.snapshot import Snapshot

_START = """
import importlib.util, json, sys
request = json.loads(sys.stdin.readline())
sys.path[:] = request["path"]
home = importlib.util.spec_from_file_location("refold", request["refold"])
sys.modules["refold"] = importlib.util.module_from_spec(home)
home.loader.exec_module(sys.modules["refold"])
from refold.diff.serve import serve
serve(request)
"""
_GROUPS: Mapping[str, type[RefoldError]] = {each.kind: each for each in (Retry, FixInput, Rebuild)}
_LINES_SHOWN = 12


@contextmanager
def remote_shadow(commit: Commit, store_url: str, snapshot: Snapshot) -> Iterator[Remote]:
    """The stores as a commit declares them, folded in a process that ends with the block.

    `store_url` is the store of the sealed log. Raises FixInput where the commit has no project, or it cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="refold-diff-") as name:
        folder = Path(name).resolve()
        project = write_tree(commit, folder)
        request = {
            "path": moved_path(sys.path, commit.repository, folder / "tree"),
            "refold": refold.__file__,
            "root": str(project),
            "repository": str(commit.repository),
            "store": store_url,
            "snapshot": snapshot.key,
            "folder": str(folder),
        }
        with (folder / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", _START],
                cwd=project,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            )
            try:
                yield Remote(commit.label, process, folder, request)
            finally:
                process.kill()
                process.communicate()


class Remote:
    """A side whose declarations are loaded in another process; see `refold.diff.shadow.Side`."""

    def __init__(self, label: str, process: subprocess.Popen[str], folder: Path, request: Mapping[str, object]) -> None:
        self.label = label
        self._process = process
        self._folder = folder
        self._tell(request)
        self._described = {name: from_json(each) for name, each in self._hear().items()}

    def describe(self) -> Mapping[str, Described]:
        """Every store by name."""
        return self._described

    def fold(self, columns: Mapping[str, Sequence[str]]) -> Callable[[], None]:
        """Begin to fold at once; the returned function waits for the end and raises what went wrong."""
        self._tell({"do": "fold", "columns": columns})
        return self._hear

    def rows(self, name: str) -> pa.Table:
        """The published rows of a store."""
        return self._table(self._ask({"do": "rows", "name": name}))

    def folding(self, name: str) -> Folding:
        """Outcomes and marks of a folded store."""
        answer = self._ask({"do": "folding", "name": name})
        return folding_of(self._table(answer["events"]), self._table(answer["marks"]), answer["texts"])

    def running(self, name: str, through: str, events: Places, touched: Places) -> pa.Table:
        """The events of some keys, with the row after each."""
        places = {"events": events.tolist(), "touched": touched.tolist()}
        return self._table(self._ask({"do": "running", "name": name, "through": through, **places}))

    def why(self, name: str, key: Sequence[str]) -> Mapping[str, pa.Table]:
        """The events behind the row of a key."""
        answer = self._ask({"do": "why", "name": name, "key": list(key)})
        return {name: self._table(file) for name, file in answer.items()}

    def _table(self, name: str) -> pa.Table:
        return read_table(self._folder / name)

    def _ask(self, request: Mapping[str, object]) -> Any:
        self._tell(request)
        return self._hear()

    def _tell(self, request: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise self._told(**answer["error"])
        return answer["ok"]

    def _told(self, group: str, kind: str, message: str) -> RefoldError:
        """The other process's error as one of the same group and kind here."""
        error = _GROUPS[group](f"By {self.label}: {self._shown(message)}")
        error.kind = kind
        return error

    def _ended(self) -> RefoldError:
        self._process.wait()
        said = (self._folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        lines = "".join(f"\n  {line}" for line in said[-_LINES_SHOWN:])
        return FixInput(
            f"The declarations of {self.label} could not be worked with; their process ended with "
            f"{self._process.returncode} and said:{self._shown(lines) or ' nothing.'}"
        )

    def _shown(self, message: str) -> str:
        """A message with places in the temporary folder as places in the commit."""
        return message.replace(f"{self._folder / 'tree'}/", f"{self.label}:").replace(
            str(self._folder / "tree"), f"{self.label}:"
        )
