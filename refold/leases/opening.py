"""The leases that the settings name: none, in the object store, or in a database."""

from __future__ import annotations

from refold.config import IN_STORE, Settings
from refold.leases.database_register import DatabaseRegister
from refold.leases.leases import Leases
from refold.leases.register import ObjectRegister, Register
from refold.storage.objects import ObjectStore


def open_leases(settings: Settings, objects: ObjectStore) -> Leases | None:
    """The leases of this process; None where the settings name none. Raises DeclarationError, FixInput."""
    if not settings.leases:
        return None
    in_store = settings.leases == IN_STORE
    register: Register = ObjectRegister(objects) if in_store else DatabaseRegister(settings.leases)
    return Leases(register, objects, seconds=settings.lease_seconds, wait_seconds=settings.lease_wait_seconds)
