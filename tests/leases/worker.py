"""A process that publishes under a lease until somebody else has it; the pauses come from outside. Not a test.

Reads commands and writes one JSON line each: `work` writes until it is fenced, `work N` writes N times and gives up the
lease. A write is the next number of a series, and a row in each of two tables of one transaction.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import sqlalchemy as sa

from refold.errors import Conflict, Fenced
from refold.leases.database_register import DatabaseRegister
from refold.leases.fenced_store import FencedStore, SinkFence
from refold.leases.lease import Duty
from refold.leases.leases import Leases
from refold.leases.register import ObjectRegister, Register
from refold.release.pointer import Pointer
from refold.sinks.database_fenced import FencedDatabase
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import ObjectStore
from refold.storage.records import record_bytes

LEASE_SECONDS = 0.4
LEFT, RIGHT = (
    sa.Table(name, sa.MetaData(), sa.Column("token", sa.BigInteger), sa.Column("number", sa.BigInteger))
    for name in ("shown_left", "shown_right")
)


def main(store: str, database: str, register: str, name: str) -> None:
    objects = ObjectStore.open(store)
    kept: Register = ObjectRegister(objects) if register == "store" else DatabaseRegister(register)
    leases = Leases(kept, objects, holder=name, seconds=LEASE_SECONDS, wait_seconds=30)
    worker = _Worker(leases, FencedStore(objects, leases), FencedDatabase(database, SinkFence(leases)))
    say({"ready": name})
    for line in sys.stdin:
        _, _, count = line.partition(" ")
        worker.work(int(count) if count else None)


class _Worker:
    def __init__(self, leases: Leases, objects: FencedStore, database: FencedDatabase) -> None:
        self._leases, self._objects, self._database = leases, objects, database

    def work(self, count: int | None) -> None:
        done = 0
        try:
            with self._leases.holding(Duty.PUBLISH):
                token = self._leases.token(Duty.PUBLISH)
                say({"held": token})
                while count is None or done < count:
                    self._write(token)
                    done += 1
        except Fenced as error:
            say({"fenced": str(error), "writes": done})
            return
        say({"done": done})

    def _write(self, token: int | None) -> None:
        number = Pointer(self._objects).number() + 1
        body = {"number": number, "token": token, "by": self._leases.holder}
        try:
            self._objects.create(name_of(ObjectKind.RELEASE, number=number), record_bytes(body))
        except Conflict:
            raise AssertionError("two holders wrote one number") from None
        with self._database.writing("shown") as connection:
            for table in (LEFT, RIGHT):
                connection.execute(sa.update(table).values(token=token, number=number))


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
