"""The container: nobody else's machine reaches its server unless somebody opens it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTENS = "0A"


def _listening(port: int) -> set[str]:
    """The addresses at which something listens on a port, as the kernel writes them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, _, state = line.split()[1:4]
            address, _, number = local.partition(":")
            if state == LISTENS and int(number, 16) == port:
                found.add(address)
    return found


def test_the_server_of_the_image_listens_on_loopback(tmp_path: Path):
    """F20: the command of the Dockerfile, with a free port and this folder instead of its own."""
    (command,) = re.findall(r"^CMD (\[.+\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [{"4000": str(port), "/app": str(ROOT)}.get(word, word) for word in json.loads(command)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")}
    server = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env=environment | {"DAGSTER_HOME": str(tmp_path)},
        stdout=(tmp_path / "said").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 240
        while not (found := _listening(port)) and time.monotonic() < end and server.poll() is None:
            time.sleep(0.1)
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # while it starts it ignores that it is to end
        server.wait(30)
    assert found, (tmp_path / "said").read_text()
    assert found <= {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def test_every_stage_of_the_image_has_the_base_that_a_build_names():
    """F20: a digest given to the build pins all of it."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["$BASE", "$BASE"]
    assert re.findall(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE) == ["docker.io/library/debian:bookworm-slim"]
