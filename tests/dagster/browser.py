"""A real `dagster dev` over a small landing, its API, and a headless browser to look at its pages."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support import Shop

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# A background job of a shell ignores SIGINT, by which Dagster ends what it started.
_INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
LAUNCH = """
mutation($given: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $given) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } runs(limit: 20) { status tags { key value } } }
  }
}
"""


@dataclass
class Served:
    """A running `dagster dev`; `backfill` is set once its own API has taken one of three days."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    days: list[str]
    thread: Thread | None = None
    backfill: str = ""
    problem: str = ""

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL query."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def log(self) -> str:
        return (self.folder / "dev.log").read_text()

    def launch(self) -> None:
        """Wait for the server, then launch a backfill of all partitioned assets over the days."""
        try:
            self._wait(90)
            nodes = self.ask("{assetNodes{assetKey{path} isPartitioned}}")["assetNodes"]
            chosen = [node["assetKey"] for node in nodes if node["isPartitioned"]]
            given = {"assetSelection": chosen, "partitionNames": self.days, "title": "three days"}
            self.backfill = self.ask(LAUNCH, given=given)["launchPartitionBackfill"]["backfillId"]
        except (AssertionError, KeyError, OSError) as error:
            self.problem = f"{error!r}\n{self.log()}"

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.ask("{version}")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def finished(self, seconds: float = 240) -> dict[str, Any]:
        """The backfill once it is over, or as it is when the seconds have passed."""
        assert self.thread is not None
        self.thread.join(120)
        assert self.backfill, self.problem
        deadline = time.monotonic() + seconds
        while True:
            found: dict[str, Any] = self.ask(STATUS, id=self.backfill)["partitionBackfillOrError"]
            if found["status"] not in ("REQUESTED", "IN_PROGRESS") or time.monotonic() > deadline:
                return found
            time.sleep(0.5)

    def page(self, path: str, *shown: str) -> str:
        """A page's document once it shows all of the texts; as it is after five looks, where it does not.

        A browser without a window draws as long as its scripts are busy, and does not count those beside the page, such
        as the one that lays out the lineage.
        """
        assert CHROMIUM is not None
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1700,1400"]
        profile = f"--user-data-dir={self.folder / 'browser'}"
        command = [CHROMIUM, *options, profile, "--virtual-time-budget=20000", "--dump-dom"]
        address = f"http://127.0.0.1:{self.port}/{path}"
        for _ in range(5):
            run = subprocess.run([*command, address], capture_output=True, text=True, timeout=90, check=True)
            if all(text in run.stdout for text in shown):
                break
        return run.stdout

    def stop(self) -> None:
        """End the server and what it started, by the session it was given."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


def serve(shop: Shop, days: list[str]) -> Served:
    """Start `dagster dev` from a directory of its own and begin a backfill in the background."""
    home = shop.root / "home"
    home.mkdir(parents=True)
    (home / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    settings = shop.settings
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", str(home)),
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
        "PYTHONPATH": str(ROOT),
        "DAGSTER_HOME": str(home),
        "REFOLD_LANDING": settings.landing,
        "REFOLD_STORE": settings.store,
        "REFOLD_DATABASE": settings.database,
    }
    command = ["-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    with (shop.root / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _INTERRUPTIBLE, *command],
            cwd=shop.root,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    served = Served(process, port, shop.root, days)
    served.thread = Thread(target=served.launch, daemon=True)
    served.thread.start()
    return served
