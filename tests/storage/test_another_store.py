"""A store in somebody else's few lines: what the interface asks for is enough to seal, fold and prove."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from refold.errors import Conflict, NotFound
from refold.storage.objects import ObjectInfo, ObjectStore, sha256_hex
from tests.seal.sealing import STOCK_ONLY
from tests.support import Shop, digests, moved


class DictStore(ObjectStore):
    """Objects in a dictionary; only what the interface declares abstract."""

    url, location = "dict://", None

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        if name not in self.objects:
            raise NotFound(f"There is no object {name}.")
        return self.objects[name]

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        return [memoryview(self.get(name))[start : start + size] for start, size in ranges]

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = data

    def try_create(self, name: str, data: bytes) -> None:
        if self.objects.setdefault(name, data) is not data:
            raise Conflict(f"There is an object {name}.")

    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        if self.objects.get(name) != former:
            raise Conflict(f"The object {name} is another one.")
        self.objects[name] = data

    def exists(self, name: str) -> bool:
        return name in self.objects

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        for name, data in reversed(self.objects.items()):
            if name.startswith(f"{prefix}/" if prefix else ""):
                yield ObjectInfo(name, len(data), sha256_hex(data))


def test_a_history_in_another_store_is_the_same(shop: Shop):
    for day in (1, 2, 3):
        events = [moved(f"e{day} {number}", f"p{number % 3}", number - 2 or 1) for number in range(7)]
        shop.land(f"dt=2026-01-0{day}/a.jsonl", *events, events[0])
    other = DictStore()

    def opened(url: str, *, must_exist: bool = False) -> ObjectStore:
        return other if url == str(shop.store) else ObjectStore.open(url, must_exist=must_exist)

    found = [_history(each) for each in (shop, replace(shop, open_store=opened))]
    assert found[0] == found[1] and len(found[0]) == 3
    written = {name: sha256_hex(data) for name, data in other.objects.items() if not name.startswith("proofs/")}
    assert written == {name: sha for name, sha in shop.files().items() if not name.startswith("proofs/")}


def _history(shop: Shop) -> dict[str, tuple[str, ...]]:
    assert shop.project is STOCK_ONLY
    engine = shop.engine()
    list(engine.sealing.seal())
    list(engine.fold_history("stock_events", engine.chain.get()))
    for _, verdicts in engine.prove_history("stock_events", engine.chain.get()):
        assert all(verdict.passed for verdict in verdicts.values())
    return digests(shop.engine())
