"""An object store whose commits, deletes and sink writes are held to leases.

Commits are decided in their lease, so that a holder that was paused never makes one (`refold.leases.lease`). Deletes
and writes of sinks are refused where the lease is lost. What was sent before is not called back, and is harmless: a
version has the same bytes whoever writes it, a sink moves readers by `put_if` or a lock of its own, and what a late
delete removes is found damaged and made again.
Other writes are of objects whose name determines their content, so that anybody may repeat them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby

from refold.leases.lease import Duty
from refold.leases.leases import Leases
from refold.storage.names import ObjectKind, kind_of
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import WrapperStore

COMMITS = {
    ObjectKind.MANIFEST: Duty.SEAL,
    ObjectKind.REDACTION: Duty.SEAL,
    ObjectKind.LAYOUT: Duty.SEAL,
    ObjectKind.RELEASE: Duty.PUBLISH,
    ObjectKind.RETIRED: Duty.PUBLISH,
}
"""The kinds of object whose creation is a commit, and whose duty that is."""

OF_SINKS = (ObjectKind.DELTA_TABLE, ObjectKind.SEARCH, ObjectKind.SINK_RECORD)
_OF_LOGS = (
    *(ObjectKind.SEGMENT, ObjectKind.REPEATS, ObjectKind.QUARANTINE, ObjectKind.SEEN_IDS),
    *(ObjectKind.RETRY, ObjectKind.RETRY_PLACES),
)


def duty_of(name: str) -> Duty:
    """Whose duty deleting an object is."""
    kind = kind_of(name)
    if kind in COMMITS:
        return COMMITS[kind]
    if kind in OF_SINKS:
        return Duty.PUBLISH
    return Duty.SEAL if kind in _OF_LOGS else Duty.PRUNE


class FencedStore(WrapperStore):
    """Another store, held to the leases of this process."""

    def __init__(self, inner: ObjectStore, leases: Leases) -> None:
        super().__init__(inner)
        self._leases = leases

    def create(self, name: str, data: bytes) -> None:
        """As the other store's; a commit is made under its lease. Raises Fenced too."""
        kind = kind_of(name)
        if kind in COMMITS:
            self._leases.commit(COMMITS[kind], name, data)
        else:
            self._inner.create(name, data)

    def put(self, name: str, data: bytes) -> None:
        """As the other store's; a sink's object is written under the lease of publishing. Raises Fenced too."""
        with self._of_sink(name):
            self._inner.put(name, data)

    def put_if(self, name: str, data: bytes, former: bytes | None) -> None:
        """As the other store's; a sink's object is written under the lease of publishing. Raises Fenced too."""
        with self._of_sink(name):
            self._inner.put_if(name, data, former)

    @contextmanager
    def _of_sink(self, name: str) -> Iterator[None]:
        if kind_of(name) not in OF_SINKS:
            yield
            return
        with self._leases.holding(Duty.PUBLISH):
            self._leases.check(Duty.PUBLISH, name)
            yield

    def delete(self, name: str) -> None:
        """As the other store's, under the lease of whose duty it is. Raises Fenced too."""
        self.delete_all([name])

    def delete_all(self, names: Iterable[str]) -> None:
        """As the other store's, under the lease of whose duty each is. Raises Fenced too."""
        names = list(names)
        groups = groupby(names, key=duty_of) if self.packed else ((duty_of(name), [name]) for name in names)
        for duty, together in groups:
            going = list(together)
            with self._leases.holding(duty):
                self._leases.check(duty, f"the removal of {going[0]}")
                self._inner.delete_all(going)


class SinkFence:
    """The fence of sinks: their writes happen under the lease of publishing, with its token."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    @contextmanager
    def __call__(self, what: str) -> Iterator[int]:
        """Hold the lease, and give its token. Raises Fenced, Unavailable."""
        with self._leases.holding(Duty.PUBLISH):
            self._leases.check(Duty.PUBLISH, what)
            token = self._leases.token(Duty.PUBLISH)
            assert token is not None, "it is held"
            yield token
