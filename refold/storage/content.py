"""Objects that are named after their own content, so that a rerun writes the same ones.

Records, which carry their own sha256, are in `refold.storage.records`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import ObjectStore, sha256_hex


@dataclass(frozen=True)
class StoredObject:
    """An object and the sha256 of its bytes, for integrity; never part of an identity."""

    name: str
    sha256: str


def put_content(objects: ObjectStore, kind: ObjectKind, data: bytes, **parts: Any) -> StoredObject:
    """Store bytes under the name that their sha256 and the other parts give; a rerun writes the same object.

    Callers `sync` or `create` before they end.
    """
    sha256 = sha256_hex(data)
    stored = StoredObject(name_of(kind, sha256=sha256, **parts), sha256)
    objects.put_soon(stored.name, data)
    return stored
