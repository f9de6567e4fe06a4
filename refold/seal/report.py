"""What sealing one key did, for those who asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refold.errors import RefusedLanding
from refold.landing.listing import Skipped
from refold.log.snapshot import Snapshot


@dataclass(frozen=True)
class SealReport:
    """What sealing one key did: the snapshot, the late objects it took in, and sealed objects that are gone.

    `skipped` are the objects in landing that are not data, of all keys alike. `stopped` says by log why the snapshot
    has nothing new of it. `early` is whether the key was asked for by name before it was due.
    """

    snapshot: Snapshot
    late: Sequence[str]
    vanished: Sequence[str]
    skipped: Sequence[Skipped]
    stopped: Mapping[str, RefusedLanding]
    early: bool = False
