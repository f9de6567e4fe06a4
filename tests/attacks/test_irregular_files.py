"""A pipe, socket or device where an object of the store should be: named, and never waited for."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from refold.errors import RefoldError
from refold.storage.objects import ObjectStore
from tests import shop
from tests.support import Shop

WAIT_SECONDS = 20


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/{path.name}")  # a path of a socket has at most 107 bytes
        os.close(folder)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": bound,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


def fault_of(work: Callable[[], object]) -> RefoldError:
    """The error with which some work ends; fails where it does not end."""
    found: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), "it waits for ever"
    (error,) = found
    assert isinstance(error, RefoldError)
    return error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["get", "get_with_info", "get_ranges", "map", "exists", "create"])
def test_nothing_waits_for_it_and_the_error_names_it(tmp_path: Path, kind: str, way: str):
    KINDS[kind](tmp_path / "object")
    store = ObjectStore.open(str(tmp_path))
    more = {"get_ranges": [[(0, 4)]], "create": [b"x"]}.get(way, [])
    error = fault_of(lambda: getattr(store, way)("object", *more))
    assert f"Expected the object object in {tmp_path} to be a file, found {kind}" in str(error)
    store.sync()


@pytest.mark.parametrize("kind", KINDS)
def test_a_rebuild_over_it_ends_and_names_the_object(tmp_path: Path, kind: str):
    house = Shop(tmp_path, shop.little({"on_hand": []}))
    house.land("moves/dt=2026-01-01/a.jsonl", shop.move("1", "cup", 1))
    list(house.engine().sealing.seal("2026-01-01"))
    (manifest,) = (path for path in (house.store / "snapshots").iterdir() if path.suffix == ".json")
    manifest.unlink()
    KINDS[kind](manifest)
    error = fault_of(lambda: list(house.engine().sealing.seal("2026-01-01")))
    assert f"{manifest.name} in {house.store} to be a file, found {kind}" in str(error)
