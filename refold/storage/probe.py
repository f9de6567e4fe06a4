"""The probe of conditional writes: whether a store refuses to write what exists, before anything depends on it.

Snapshots, layouts and releases are written once because a store refuses to create an object twice. A store that ignores
the condition would let two processes overwrite each other without an error. Remote stores are probed by the first
`create` of a process; on local folders and in memory the condition is not left to a server.
"""

from __future__ import annotations

from typing import Protocol

from refold.errors import Conflict, UnsafeStore
from refold.storage.names import PROBE

_DATA = b"Refold writes this object to learn whether the store honours conditional writes. Keep it, or remove it.\n"
_OLD_TAG = "0" * 32
"""An entity tag that no object has: those of servers depend on content or are random."""

_passed: set[str] = set()


class Probed(Protocol):
    """The part of an object store that is probed."""

    url: str
    probe_key: str | None

    def try_create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet. Raises Conflict."""

    def try_replace(self, name: str, data: bytes, e_tag: str) -> None:
        """Replace an object that must have an entity tag. Raises Conflict."""


def require_conditions(store: Probed) -> None:
    """Refuse a store that ignores the conditions of writes; each is probed once by a process.

    The object `PROBE` stays, so that all later probes write nothing.

    Raises:
        UnsafeStore: the store created an object that existed, or replaced one that had another entity tag.
        Unavailable: it did not answer.
    """
    if store.probe_key is None or store.probe_key in _passed:
        return
    faults = []
    if _accepts_create(store) and _accepts_create(store):
        faults.append("creating an object that exists (If-None-Match: *)")
    if _accepts_replace(store):
        faults.append("replacing an object that has another entity tag (If-Match)")
    if faults:
        raise UnsafeStore(
            f"The store {store.url} ignores conditions of writes: expected it to refuse {' and '.join(faults)} at "
            f"{PROBE}, found that it accepted. Another process could overwrite a snapshot or release unnoticed.",
            remedy="Use a store that honours them (Amazon S3, Google Cloud Storage and Azure do), update the server, "
            "or remove the proxy that drops these headers. Nothing but the probe was written.",
        )
    _passed.add(store.probe_key)


def _accepts_create(store: Probed) -> bool:
    try:
        store.try_create(PROBE, _DATA)
    except Conflict:
        return False
    return True


def _accepts_replace(store: Probed) -> bool:
    try:
        store.try_replace(PROBE, _DATA, _OLD_TAG)
    except Conflict:
        return False
    return True
