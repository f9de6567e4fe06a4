"""Children at work, and readers beside them, each in a process of its own that tells what it finds. Not a test."""

from __future__ import annotations

import json
import os
import select
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.failpoints import readers
from tests.failpoints.places import Place
from tests.failpoints.stages import Stage

WAIT_SECONDS = 180
"""How long to wait for a child to say something, before it is taken to hang and ended."""


@dataclass
class Fork:
    """A child at work, and the pipe that it tells its result on."""

    pid: int
    pipe: int

    def result(self) -> dict[str, Any]:
        """Wait for its end."""
        text = b""
        while more := self._more():
            text += more
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        found: dict[str, Any] = json.loads(text) if text else {}
        return found | ({"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {})

    def _more(self) -> bytes:
        if not select.select([self.pipe], [], [], WAIT_SECONDS)[0]:
            os.kill(self.pid, signal.SIGTERM)
            return b""
        return os.read(self.pipe, 65536)


def fork(work: Callable[[int], Any]) -> Fork:
    """Do something in a child, which may tell something itself on the pipe that it is given."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return Fork(pid, read)
    try:
        os.close(read)
        write_all(write, json.dumps(work(write) or {}).encode())
    except BaseException:  # a child never returns to its parent's work
        write_all(write, json.dumps({"error": traceback.format_exc()}).encode())
    finally:
        os._exit(0)


class Reading:
    """A reader in a process of its own, for one kill after the other."""

    def __init__(self) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._commands)
            os.close(self._answers)
            readers.serve(commands, answers)
        os.close(commands)
        os.close(answers)

    def begin(self, place: Place, stage: Stage) -> None:
        """Read a shop from now on, over and over."""
        shop = {"root": str(place.root), "name": place.name, "database": place.url}
        fewer = stage.project == "fewer"
        self._say({"what": "begin", "allowed": stage.allowed, "nothing": stage.old is None, "fewer": fewer, **shop})

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Have it read everything once more from now on, and hear what it found so far; `end` is the last time."""
        self._say({"what": what, **more})
        text = b""
        while not text.endswith(b"\n"):
            more = os.read(self._answers, 65536)
            assert more, "the reader has ended"
            text += more
        found: dict[str, Any] = json.loads(text)
        return found

    def _say(self, order: Mapping[str, Any]) -> None:
        os.write(self._commands, (json.dumps(order) + "\n").encode())


def write_all(pipe: int, data: bytes) -> None:
    with os.fdopen(os.dup(pipe), "wb") as file:
        file.write(data)
