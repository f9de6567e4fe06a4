"""Parts in packs are what objects of their own would be: against a dictionary, kills, damage, and other processes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import pytest

from refold.errors import Conflict, Damaged, NotFound
from refold.storage.objects import ObjectInfo, ObjectStore, sha256_hex
from refold.storage.packs import PackedStore, open_packed
from refold.storage.wrappers import CountingStore, Operation, WrapperStore
from refold.testing.faulty_store import Crash, Effect, Faults, FaultyStore

T = TypeVar("T")

NAMES = [
    f"states/stock/{kind}/{number}.{end}" for kind, end in (("rows", "parquet"), ("v1", "json")) for number in (1, 2, 3)
]
NAMES += ["proofs/stock/claim/1.json", "layouts/2026-01-01/00000000.json", "logs/stock_events/segments/0/1.parquet"]
OTHER = "releases/00000000000000000001.json"
WRITES = (Operation.PUT, Operation.CREATE, Operation.DELETE)


def memory() -> ObjectStore:
    return ObjectStore.open("memory://")


def held(store: ObjectStore) -> dict[str, bytes]:
    """All objects as callers see them, each by every way of reading it."""
    found = {}
    for info in store.list():
        data = store.get(info.name)
        assert store.exists(info.name) and info.size_bytes == len(data)
        assert [bytes(part) for part in store.get_ranges(info.name, [(1, 2), (0, 1 << 30)])] == [data[1:3], data]
        assert bytes(store.map(info.name)) == store.get_with_info(info.name)[0] == data
        found[info.name] = data
    return found


def packs(store: ObjectStore) -> dict[str, bytes]:
    return {info.name: store.get(info.name) for info in store.list("packs")}


@pytest.mark.parametrize("seed", range(25))
def test_packs_hold_what_a_dictionary_holds_whatever_is_killed(seed: int):
    """A process at a time: what is synced is there, what is not may be as a whole, and nothing else is."""
    chance, inner, faults = random.Random(seed), memory(), Faults()
    durable: dict[str, bytes] = {}
    for process in range(8):
        faults.clear()
        store = PackedStore(FaultyStore(inner, faults))
        if chance.random() < 0.5:
            faults.plan(WRITES, chance.choice([Effect.CRASH, Effect.CRASH_AFTER]), after=chance.randrange(4))
        states = [dict(durable)]
        try:
            for step in range(chance.randrange(12)):
                _step(chance, store, states, b"%d %d %d " % (seed, process, step))
            store.sync()
            allowed = states[-1:]
        except Crash:
            allowed = states
        faults.clear()
        durable = held(PackedStore(inner))
        assert any(_allows(states[n:], durable) for n in range(states.index(allowed[0]), len(states)))


def _allows(states: list[dict[str, bytes]], found: dict[str, bytes]) -> bool:
    """Whether what is found is the first state, or that and large parts of later ones, which wait for nothing."""
    large = [part for state in states for part in state.items() if len(part[1]) > 1 << 20]
    return states[0] == {name: data for name, data in found.items() if (name, data) not in large} | {
        name: data for name, data in states[0].items() if (name, found.get(name)) in large
    }


def _step(chance: random.Random, store: PackedStore, states: list[dict[str, bytes]], data: bytes) -> None:
    """Do something, after noting what the store may hold when it was done, as far as that was written."""
    name, now = chance.choice(NAMES), states[-1]
    action = chance.choice(["put", "put", "put", "create", "delete", "sync", "read"])
    if action == "create":
        name = f"releases/{len(data)}-{chance.random()}.json"
        states.append(now | {name: data})
        store.create(name, data)
    elif action == "put":
        data *= chance.choice([1, 50, 200_000]) if name.endswith(".parquet") else 1
        states.append(now | {name: data})
        store.put_soon(name, data)
    elif action == "delete":
        states.append({other: found for other, found in now.items() if other != name})
        store.delete(name)
    elif action == "sync":
        store.sync()
    else:
        assert held(store) == now


def test_a_pack_is_written_before_what_relies_on_it():
    for relying in (
        lambda store: store.sync(),
        lambda store: store.create(OTHER, b"names it"),
        lambda store: store.delete(OTHER),
        lambda store: store.put_if(OTHER, b"names it", None),
    ):
        inner = memory()
        store = PackedStore(inner)
        store.put_soon(NAMES[0], b"rows")
        store.sync("states")
        store.create("leases/seal/00000000000000000001.json", b"a lease names nothing")
        assert held(PackedStore(inner)).keys() == {"leases/seal/00000000000000000001.json"}
        relying(store)
        assert PackedStore(inner).get(NAMES[0]) == b"rows"


def test_what_is_created_is_not_written_over_a_part():
    store = PackedStore(memory())
    store.put(NAMES[0], b"first")
    store.sync()
    store.create(NAMES[0], b"first")
    with pytest.raises(Conflict, match=f"{NAMES[0]}.* first"):
        store.create(NAMES[0], b"second")
    assert store.get(NAMES[0]) == b"first"


def test_other_processes_see_what_is_added_and_what_is_removed():
    inner = memory()
    one, other = PackedStore(inner), PackedStore(inner)
    with pytest.raises(NotFound):
        other.get(NAMES[0])
    for number, name in enumerate(NAMES):
        (one if number % 2 else other).put(name, b"%d" % number)
        (one if number % 2 else other).sync()
    for number, name in enumerate(NAMES):
        assert one.get(name) == other.get(name) == b"%d" % number
    one.delete_all(NAMES[:5])
    assert other.get(NAMES[5]) == b"5" and other.list("states/stock/rows") == []
    with pytest.raises(NotFound):
        other.get(NAMES[0])
    assert not any(other.exists(name) for name in NAMES[:5])


class _Meanwhile(WrapperStore):
    """Does something once, right before a pack is created."""

    def __init__(self, inner: ObjectStore, do: Callable[[], None]) -> None:
        super().__init__(inner)
        self._do: list[Callable[[], None]] = [do]

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        if operation is Operation.CREATE and self._do:
            self._do.pop()()
        return call()


def test_of_two_processes_that_remove_parts_of_one_pack_neither_undoes_the_other():
    inner = memory()
    first = PackedStore(inner)
    for name in NAMES:
        first.put(name, name.encode())
    first.sync()
    PackedStore(_Meanwhile(inner, lambda: PackedStore(inner).delete(NAMES[1]))).delete(NAMES[0])
    assert held(PackedStore(inner)).keys() == set(NAMES[2:])


def test_of_two_processes_that_write_at_once_neither_is_lost():
    inner = memory()
    other = PackedStore(inner)
    other.put(NAMES[1], b"other")
    one = PackedStore(_Meanwhile(inner, other.sync))
    one.put(NAMES[0], b"one")
    one.sync()
    assert held(PackedStore(inner)) == {NAMES[0]: b"one", NAMES[1]: b"other"}


@pytest.mark.parametrize("effect", [Effect.CRASH, Effect.CRASH_AFTER])
@pytest.mark.parametrize("after", range(4))
def test_what_is_removed_is_gone_from_every_pack_also_after_a_kill(effect: Effect, after: int):
    inner, faults = memory(), Faults()
    for _ in range(2):  # the same part in two packs
        store = PackedStore(inner)
        store.put(NAMES[0], b"a secret")
        store.put(NAMES[1], b"kept")
        store.sync()
    faults.plan(WRITES, effect, after=after)
    try:
        PackedStore(FaultyStore(inner, faults)).delete(NAMES[0])
    except Crash:
        PackedStore(inner).delete_all([NAMES[0]] if PackedStore(inner).exists(NAMES[0]) else [])
        again = PackedStore(inner)
        again.list()
        again.sync()
    assert not any(b"a secret" in data for data in packs(inner).values())
    assert held(PackedStore(inner)) == {NAMES[1]: b"kept"}


def test_every_flipped_byte_is_found_in_the_part_that_has_it():
    inner = memory()
    store, parts = PackedStore(inner), {name: f"the part {name}".encode() for name in NAMES}
    for name, data in parts.items():
        store.put(name, data)
    store.sync()
    ((pack, data),) = packs(inner).items()
    sums, starts = (
        {name: sha256_hex(part) for name, part in parts.items()},
        {n: data.index(p) for n, p in parts.items()},
    )
    for place in range(len(data)):
        inner.put(pack, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        wrong = {name for name in NAMES if starts[name] <= place < starts[name] + len(parts[name])}
        found, store = set(), PackedStore(inner)
        for name, sha256 in sums.items():
            try:
                assert store.get_checked(name, sha256) == parts[name]
            except Damaged as error:
                assert name in str(error)
                found.add(name)
        assert found == wrong, place


def test_damage_shows_after_a_part_beside_it_was_removed():
    inner = memory()
    store = PackedStore(inner)
    for name in NAMES[:3]:
        store.put(name, name.encode() * 3)
    store.sync()
    ((pack, data),) = packs(inner).items()
    inner.put(pack, data.replace(NAMES[1].encode() * 3, b"x" * len(NAMES[1]) * 3))
    PackedStore(inner).delete(NAMES[0])
    with pytest.raises(Damaged, match=NAMES[1]):
        PackedStore(inner).get_checked(NAMES[1], sha256_hex(NAMES[1].encode() * 3))
    assert PackedStore(inner).get(NAMES[2]) == NAMES[2].encode() * 3


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:10], lambda data: bytes(len(data))])
def test_a_pack_without_an_index_is_named(damage: Callable[[bytes], bytes]):
    inner = memory()
    store = PackedStore(inner)
    store.put(NAMES[0], b"rows")
    store.sync()
    ((pack, data),) = packs(inner).items()
    inner.put(pack, damage(data))
    with pytest.raises(Damaged, match=f"{pack}.*neither index"):
        PackedStore(inner).get(NAMES[0])


def test_the_index_of_another_pack_is_refused():
    inner = memory()
    store = PackedStore(inner)
    for name in NAMES[:2]:
        store.put(name, b"rows")
        store.sync()
    first, second = packs(inner)
    inner.put(second, inner.get(first))
    with pytest.raises(Damaged, match="its index is that of number 0"):
        PackedStore(inner).list()


def test_a_cut_off_pack_has_the_parts_that_are_left():
    inner = memory()
    store = PackedStore(inner)
    for name in NAMES[:2]:
        store.put(name, b"rows " * 100)
    store.sync()
    ((pack, data),) = packs(inner).items()
    inner.put(pack, data[: data.rindex(b"rows ")])
    sha256 = sha256_hex(b"rows " * 100)
    assert PackedStore(inner).get_checked(NAMES[0], sha256)
    with pytest.raises(Damaged, match=NAMES[1]):
        PackedStore(inner).get_checked(NAMES[1], sha256)


def test_an_older_store_is_read_on_and_what_is_written_again_counts():
    inner = memory()
    for name in NAMES:
        inner.put(name, b"old")
    store = PackedStore(inner)
    assert held(store) == dict.fromkeys(NAMES, b"old")
    store.put(NAMES[0], b"new")
    store.sync()
    store.delete(NAMES[1])
    left = [name for name in NAMES if name != NAMES[1]]
    assert held(PackedStore(inner)) == dict.fromkeys(left, b"old") | {NAMES[0]: b"new"}


def test_a_local_folder_is_in_packs_only_where_it_has_some(tmp_path):
    assert not isinstance(open_packed(str(tmp_path)), PackedStore)
    store = PackedStore(ObjectStore.open(str(tmp_path)))
    store.put(NAMES[0], b"rows")
    store.sync()
    assert held(open_packed(str(tmp_path))) == {NAMES[0]: b"rows"}


def test_many_packs_are_known_by_one_listing_and_their_parts_read_together():
    inner = memory()
    for number in range(40):
        store = PackedStore(inner)
        for part in range(20):
            store.put(f"states/s{part}/v/{number}.json", b"%d %d" % (number, part))
        store.sync()
    counting = CountingStore(inner)
    store = PackedStore(counting)
    for number in range(40):
        for part in range(20):
            assert store.get(f"states/s{part}/v/{number}.json") == b"%d %d" % (number, part)
    assert (counting.calls[Operation.LIST], counting.calls[Operation.GET_RANGES]) == (1, 40)
    assert counting.calls.total() == 41


def test_parts_are_as_old_as_their_pack():
    store = PackedStore(memory())
    store.put(NAMES[0], b"rows")
    assert [info.modified_at for info in store.list("states")] == [None]
    store.sync()
    ((info),) = store.list("states")
    assert isinstance(info, ObjectInfo) and info.modified_at is not None
