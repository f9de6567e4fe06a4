"""The log of a Delta table, and copies of Refold's own commits in it.

A Delta log has no hashes, so nothing shows that a commit was changed. Refold therefore keeps a copy of each of its own
commits as a record. `refold.sinks.delta` knows what the commits mean.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from deltalake import DeltaTable, Transaction

from refold.errors import Damaged, NotFound
from refold.sinks.base import SinkFault
from refold.storage.objects import ObjectStore, sha256_hex
from refold.storage.records import read_record, write_record

_APP = "refold"
_NUMBERED = re.compile(r"(\d{20})\.json", re.ASCII)


class DeltaLog:
    """One table's log in the folder `log`, and the copies of commits in the folder `copies`."""

    def __init__(self, objects: ObjectStore, log: str, copies: str) -> None:
        self._objects = objects
        self._log = log
        self._copies = copies

    def keep(self, number: int, *, replace: bool = False) -> bool:
        """Keep a copy of a commit if it is Refold's; returns whether it is. `replace` replaces a copy that is there.

        If a process is killed between commit and copy, the next release writes the copy.
        """
        if not replace and self._objects.exists(_name(self._copies, number)):
            return True
        self._objects.adopt(self._log)
        self._objects.sync()
        text = self._text(number)
        if text is None or not _of_refold(text):
            return False
        first = self._bytes(0)
        table = self._identity() if first is None else sha256_hex(first)
        write_record(self._objects, _name(self._copies, number), {"number": number, "table": table, "text": text})
        return True

    def drop_empty(self) -> None:
        """Remove commits without a byte: no tool writes any, but a power cut leaves them."""
        for info in self._objects.list(self._log):
            if info.size_bytes == 0 and _NUMBERED.fullmatch(info.name.rpartition("/")[2]):
                self._objects.delete(info.name)

    def forget(self) -> None:
        """Remove all copies."""
        for number in self._numbers(self._copies):
            self._objects.delete(_name(self._copies, number))

    def exists(self) -> bool:
        """Whether there is anything of a log."""
        return bool(list(self._objects.list(self._log)))

    def is_ours(self) -> bool:
        """Whether any commit of the table is Refold's."""
        if self._numbers(self._copies):
            return True
        return any(_of_refold(self._text(number) or "") for number in self._numbers(self._log))

    def remove(self) -> None:
        """Remove the copies and then the log; a rerun completes what was killed.

        Of the log checkpoints go first and commits from the oldest on, so that readers meanwhile find the table as it
        was or an error, and never one of its earlier versions.
        """
        self.forget()
        names = [info.name for info in self._objects.list(self._log)]
        for name in sorted(names, key=lambda name: (bool(_NUMBERED.fullmatch(name.rpartition("/")[2])), name)):
            self._objects.delete(name)

    def faults(self) -> list[SinkFault]:
        """Commits and copies that are not what they were, and commits of strangers after Refold's last one."""
        identity, found = self._identity(), []
        kept, numbers = self._numbers(self._copies), self._numbers(self._log)
        for number in kept:
            try:
                expected = sha256_hex(self._copy(number, identity).encode())
            except Damaged as error:
                found.append(SinkFault(_name(self._copies, number), "a copy of the commit", str(error)))
                continue
            now = self._bytes(number)
            if now is None and numbers and number < numbers[0]:
                continue  # the library removes old commits that a checkpoint holds
            there = "none" if now is None else f"sha256 {sha256_hex(now)}"
            if there != f"sha256 {expected}":
                found.append(SinkFault(_name(self._log, number), f"sha256 {expected}", there))
        for number in numbers:
            text = self._text(number)
            if number > max(kept, default=-1) and (text is None or not _of_refold(text)):
                found.append(SinkFault(_name(self._log, number), "no commit but Refold's", _author(text)))
        return found

    def restore(self) -> None:
        """Put back every commit that differs from its copy, and every copy that is damaged; a rerun changes nothing."""
        identity, numbers = self._identity(), self._numbers(self._log)
        for number in self._numbers(self._copies):
            try:
                data = self._copy(number, identity).encode()
            except Damaged:
                if not self.keep(number, replace=True):
                    self._objects.delete(_name(self._copies, number))
                continue
            if (not numbers or number >= numbers[0]) and self._bytes(number) != data:
                self._objects.put(_name(self._log, number), data)

    def _copy(self, number: int, identity: str | None) -> str:
        """The text of a commit, from its copy. Raises Damaged where that is damaged, or is of another table."""
        name = _name(self._copies, number)
        body = read_record(self._objects, name) or {}
        if body.get("number") != number or not isinstance(body.get("text"), str):
            raise Damaged(f"The record {name} is that of commit {body.get('number')}.")
        if body.get("table") != identity:
            raise Damaged(f"The record {name} is of a table that begins with commit {body.get('table')}.")
        return str(body["text"])

    def _identity(self) -> str | None:
        """The identity of a table: the sha256 of its first commit, which all sound copies record."""
        recorded: Counter[str] = Counter()
        for number in self._numbers(self._copies):
            with suppress(Damaged):
                recorded[str((read_record(self._objects, _name(self._copies, number)) or {}).get("table"))] += 1
        first = self._bytes(0)
        now = None if first is None else sha256_hex(first)
        return max(recorded, key=lambda each: (recorded[each], each == now), default=now)

    def _numbers(self, folder: str) -> list[int]:
        names = [info.name.rpartition("/")[2] for info in self._objects.list(folder)]
        return [int(found[1]) for name in names if (found := _NUMBERED.fullmatch(name))]

    def _bytes(self, number: int) -> bytes | None:
        try:
            return self._objects.get(_name(self._log, number))
        except NotFound:
            return None

    def _text(self, number: int) -> str | None:
        data = self._bytes(number)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            return None


def transactions_of(lineage: Mapping[str, str]) -> list[Transaction] | None:
    """What a commit says of its release beside its files: the number, in a `txn` action; None where it has none."""
    number = lineage.get("release")
    return None if number is None else [Transaction(_APP, int(number))]


def is_of(table: DeltaTable, lineage: Mapping[str, str]) -> bool:
    """Whether the newest number that a table's log has is that of a release; always where that has no number."""
    number = lineage.get("release")
    return number is None or table.transaction_version(_APP) == int(number)


def _name(folder: str, number: int) -> str:
    return f"{folder}/{number:020d}.json"


def _info(text: str) -> dict[str, object]:
    """The commit's own `commitInfo`; empty where it cannot be read."""
    try:
        actions = [json.loads(line) for line in text.split("\n") if line]
        return dict(next(action["commitInfo"] for action in actions if "commitInfo" in action))
    except (ValueError, TypeError, StopIteration):
        return {}


def _of_refold(text: str) -> bool:
    return "refold.version" in _info(text)


def _author(text: str | None) -> str:
    """Who made a commit that is not Refold's, and how, for people."""
    info = _info(text or "")
    return f"{info.get('operation', 'a commit that cannot be read')} by {info.get('engineInfo', 'an unknown tool')}"
