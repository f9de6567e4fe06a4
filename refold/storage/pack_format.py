"""The bytes of a pack: an index, the parts one after the other, and the index again.

An index is a record (`refold.storage.records`) of the pack's number and generation, and of each part's name, size and
sha256, in the order of the parts; its size and a mark stand before the first and after the last, so that the first or
the last bytes of a pack are enough to read it. Nothing here reads or writes objects.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from refold.errors import Damaged
from refold.storage.names import ObjectKind, folder_of
from refold.storage.objects import ObjectInfo, sha256_hex
from refold.storage.records import body_of, record_bytes

PACKS = "packs"
"""The folder of packs, which `refold.storage.packs` keeps below the names of their parts."""

_NAME = re.compile(rf"{PACKS}/(\d{{20}})-(\d{{8}})\.pack", re.ASCII)
_MARK = b"RFPACK01"
_SIZE_BYTES = 8
END_BYTES = _SIZE_BYTES + len(_MARK)
"""How many bytes at either end of a pack give the size of the index beside them."""

_OF_PARTS = (
    *(ObjectKind.LAYOUT, ObjectKind.SEGMENT, ObjectKind.CONTENT_CHECK, ObjectKind.STATE_RECORD, ObjectKind.PARTIALS),
    *(ObjectKind.PROOF, ObjectKind.EXPECTATIONS),
)
_FOLDERS = {folder_of(kind).split("/")[0] for kind in _OF_PARTS}

Part = tuple[bytes | memoryview, str]
"""The bytes of a part, and their sha256."""


def is_part(name: str) -> bool:
    """Whether an object may lie in a pack: what is put below folders that no other program reads.

    >>> is_part("proofs/stock/0/1.json"), is_part("releases/00000000000000000012.json")
    (True, False)
    """
    return name.partition("/")[0] in _FOLDERS


def pack_name(number: int, generation: int) -> str:
    """The name of a pack.

    >>> pack_name(3, 1)
    'packs/00000000000000000003-00000001.pack'
    """
    return f"{PACKS}/{number:020d}-{generation:08d}.pack"


def pack_numbers(name: str) -> tuple[int, int] | None:
    """The number and generation of a pack; None where the name is not one of a pack."""
    found = _NAME.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]))


@dataclass(frozen=True)
class Pack:
    """A pack as its index gives it: where each part starts and how many bytes it has, by name; and its own size.

    `modified_at` is when it was written according to the store.
    """

    name: str
    number: int
    generation: int
    size_bytes: int
    places: Mapping[str, tuple[int, int]]
    sums: Mapping[str, str]
    modified_at: dt.datetime | None = field(default=None, compare=False)


def sums_of(parts: Mapping[str, bytes]) -> dict[str, Part]:
    """Parts with their sha256; records come last, beside the index that is read first."""
    names = sorted(parts, key=lambda name: name.endswith(".json"))
    return {name: (parts[name], sha256_hex(parts[name])) for name in names}


def pack_bytes(number: int, generation: int, parts: Mapping[str, Part]) -> bytes:
    """The bytes of a pack.

    Each part keeps the sha256 that it is given, so that damage shows after its pack was written again.
    """
    listed = [[name, len(data), sha256] for name, (data, sha256) in parts.items()]
    index = record_bytes({"number": number, "generation": generation, "parts": listed})
    size = len(index).to_bytes(_SIZE_BYTES, "big")
    return b"".join((_MARK, size, index, *(data for data, _ in parts.values()), index, size, _MARK))


def index_bytes(end: bytes | memoryview, *, first: bool) -> int | None:
    """The size of the index beside an end of a pack (`END_BYTES`); None where that is damaged."""
    end = bytes(end)
    mark, size = (end[: len(_MARK)], end[len(_MARK) :]) if first else (end[_SIZE_BYTES:], end[:_SIZE_BYTES])
    return int.from_bytes(size, "big") if mark == _MARK else None


def read_index(index: bytes | memoryview, name: str, numbers: tuple[int, int], info: ObjectInfo) -> Pack:
    """The pack that was listed so, whose index has these bytes. Raises Damaged, also for the index of another."""
    body = body_of(bytes(index), name)
    if (body["number"], body["generation"]) != numbers:
        raise Damaged(f"The pack {name} is damaged: its index is that of number {body['number']}.")
    listed = body["parts"]
    starts = accumulate((size for _, size, _ in listed), initial=END_BYTES + len(index))
    places = {part: (start, size) for (part, size, _), start in zip(listed, starts, strict=False)}
    sums = {part: sha256 for part, _, sha256 in listed}
    return Pack(name, *numbers, info.size_bytes, places, sums, info.modified_at)


def pack_of_bytes(number: int, generation: int, data: bytes) -> Pack:
    """The pack that was written just now with these bytes."""
    count = index_bytes(data[:END_BYTES], first=True) or 0
    name = pack_name(number, generation)
    index = data[END_BYTES : END_BYTES + count]
    return read_index(index, name, (number, generation), ObjectInfo(name, len(data), ""))


def parts_of_pack(pack: Pack, data: bytes, names: Iterable[str]) -> dict[str, Part]:
    """Some parts of a pack's bytes, with the sha256 that its index gives them."""
    view = memoryview(data)
    places = {name: pack.places[name] for name in names}
    return {name: (view[start : start + size], pack.sums[name]) for name, (start, size) in places.items()}
