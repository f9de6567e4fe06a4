"""Landing objects that change between listing and reading are refused, and nothing of them is sealed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import pytest

from refold.errors import FixInput, NotFound, UnsettledObject
from refold.landing.listing import read_listed, read_pieces
from refold.storage.objects import ObjectInfo, ObjectStore
from refold.storage.wrappers import WrapperStore
from tests.s3 import BUCKET, Proxy, s3, s3_address
from tests.seal.sealing import STOCK_ONLY, ids, ids_of, sealed
from tests.support import Shop, line, moved

__all__ = ["s3", "s3_address"]

EVENTS = [moved(str(number), "lamp", 5) for number in range(4)]
WHOLE = b"".join(map(line, EVENTS))


def replaced(path: Path, data: bytes) -> None:
    """Another file of the same name and time, as a tool writes it that keeps times."""
    times = path.stat()
    other = path.with_name("_other")
    other.write_bytes(data)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(path)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked(to: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(to)

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "shrinks at the end of a line": lambda path: os.truncate(path, len(line(EVENTS[0]))),
    "becomes empty": lambda path: os.truncate(path, 0),
    "grows": lambda path: path.write_bytes(WHOLE + line(moved("9", "lamp", 1))),
    "is replaced by one of the same size": lambda path: replaced(path, WHOLE.replace(b"lamp", b"lump")),
    "is removed": Path.unlink,
    "becomes a pipe": piped,
    "becomes a folder": lambda path: (path.unlink(), path.mkdir()),
    "becomes a device": linked("/dev/zero"),
    "becomes a file of the kernel": linked("/proc/self/status"),
}


class Changing(WrapperStore):
    """A store of which something changes each time after it was listed, once `change` is set."""

    change: Callable[[], object] | None = None

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        found = list(super().scan(prefix))
        if self.change is not None:
            self.change()
        return found

    def unlisted(self, prefix: str, listed: object) -> list[str]:
        return []  # as if what it reports of local folders had been found in order a moment before the change

    def outside(self, names: Sequence[str]) -> dict[str, Path]:
        return {}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_landing_object_that_changes_after_it_was_listed_is_not_sealed(
    tmp_path: Path, change: Callable[[Path], object]
):
    """F12: half of an object that shrank was sealed with exit code 0, and a pipe was waited for without end."""
    stores: list[Changing] = []

    def open_store(url: str, *, must_exist: bool = False) -> ObjectStore:
        if not url.endswith("landing"):
            return ObjectStore.open(url, must_exist=must_exist)
        stores.append(Changing(ObjectStore.open(url, must_exist=must_exist)))
        stores[-1].change = lambda: change(path)
        return stores[-1]

    shop = Shop(tmp_path, STOCK_ONLY, open_store=open_store)
    path = shop.land("dt=2026-01-01/a.jsonl", *EVENTS)
    expected = ids_of(tmp_path / "other", shop.landing)
    with pytest.raises(UnsettledObject, match=r"a\.jsonl with \d+ bytes .* found .*Run again"):
        sealed(shop)
    assert ids(shop) == {}
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(WHOLE)
    again = Shop(tmp_path, STOCK_ONLY)
    sealed(again)
    assert ids(again) == expected


def test_a_sealed_object_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path):
    """F12, where the entity tag of a sealed object differs and its bytes are compared."""
    landing = tmp_path / "landing"
    landing.mkdir()
    store = ObjectStore.open(str(landing))
    (landing / "a").write_bytes(b"1")
    (listed,) = store.list()
    assert read_listed(store, listed) == b"1"
    piped(landing / "a")
    with pytest.raises(UnsettledObject):
        read_listed(store, listed)


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_large_object_that_changes_while_it_is_read_in_pieces_is_refused(
    tmp_path: Path, change: Callable[[Path], object], after: int
):
    """F12, for objects that are not held whole; the change is before the first piece, or between two."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(WHOLE)
    store = ObjectStore.open(str(tmp_path))
    (listed,) = store.list()
    assert b"".join(read_pieces(store, listed, 100)) == WHOLE and len(WHOLE) > 400
    pieces = read_pieces(store, listed, 100)
    assert b"".join(islice(pieces, after)) == WHOLE[: after * 100]
    change(path)
    with pytest.raises(UnsettledObject):
        list(pieces)


@pytest.mark.parametrize("name", ["../a", "b/../../a", "/a", "./a", "", "b//a"])
def test_no_name_leads_out_of_a_local_store(tmp_path: Path, name: str):
    (tmp_path / "a").write_bytes(b"1")
    store = ObjectStore.open(str(tmp_path / "store"))
    for read in (store.get_with_info, lambda name: store.get_ranges(name, [(0, 1)])):
        with pytest.raises((FixInput, NotFound)):
            read(name)


def test_names_that_need_escapes_are_read_as_listed(tmp_path: Path):
    names = ["a b%20é#x.txt", "dt=2026-01-01/ü+1+2.json", "[x]^|`{}"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    store = ObjectStore.open(str(tmp_path))
    assert {info.name: read_listed(store, info).decode() for info in store.list()} == {name: name for name in names}


def test_an_object_of_s3_is_read_as_listed_or_refused(s3: Proxy):
    """F12 on a real S3 server: sizes and entity tags of listing and reading have the same form, and are compared."""
    store = ObjectStore.open(f"s3://{BUCKET}/{uuid.uuid4().hex}", retries_max=0)
    store.put("ü b.jsonl", WHOLE)
    store.put("empty", b"")
    listed = {info.name: info for info in store.list()}
    assert all(info.e_tag for info in listed.values())
    assert [read_listed(store, info) for info in listed.values()] == [b"", WHOLE]
    for data in (WHOLE[:100], WHOLE.replace(b"lamp", b"lump"), WHOLE + b"\n"):
        store.put("ü b.jsonl", data)
        with pytest.raises(UnsettledObject):
            read_listed(store, listed["ü b.jsonl"])
    store.delete("ü b.jsonl")
    with pytest.raises(UnsettledObject):
        read_listed(store, listed["ü b.jsonl"])
