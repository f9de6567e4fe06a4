"""The shop of this project at work on hand-written landing: what the engine's tests share."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from refold.cli.main import cli
from refold.config import Settings
from refold.engine import Engine
from refold.log.reader import LogReader, Part
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.proof.prover import Difference
from refold.storage.objects import ObjectStore, OpenStore, sha256_hex

ROOT = Path(__file__).parents[1]

LONG_AFTER = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
"""A time at which every day of the tests is over."""


@dataclass(frozen=True)
class Shop:
    """A project in a folder: `landing`, `store`, `refold.db` and the folder of the search sinks are below its root.

    `database` is the URL of another database for its tables; `now` the time by which days are over.
    """

    root: Path
    project: Project
    landing_folder: Path | None = None
    open_store: OpenStore = ObjectStore.open
    database: str = ""
    search: str = "search"
    now: dt.datetime = LONG_AFTER

    @property
    def landing(self) -> Path:
        return self.landing_folder or self.root / "landing"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def database_file(self) -> Path:
        """Where the tables are unless `database` names another database."""
        return self.root / "refold.db"

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.database_file}"

    @property
    def settings(self) -> Settings:
        return Settings(str(self.landing), str(self.store), self.database_url, self.root / self.search)

    def engine(self) -> Engine:
        """A new engine, which knows what is stored and nothing else, like one in another process."""
        return Engine(self.project, self.settings, self.open_store, now=self.now)

    def refold(self, *words: str, project: Path = ROOT, environ: Mapping[str, str] | None = None) -> Result:
        """Run a command on this folder; `project` has the pyproject.toml that names the project."""
        places = {"LANDING": self.settings.landing, "STORE": self.settings.store, "DATABASE": self.settings.database}
        environment = {f"REFOLD_{name}": place for name, place in places.items()} | dict(environ or {})
        return CliRunner().invoke(cli, ["--project", str(project), *words], env=environment)

    def declared(self, **changes: Any) -> Shop:
        """The same folder under another project: `stores=...`, `cadence=...`."""
        return replace(self, project=replace(self.project, **changes))

    def land(self, name: str, *records: Mapping[str, Any] | str | bytes) -> Path:
        """Write a landing object of stock_events (`dt=2026-01-01/a.jsonl`) or, by its full name, of any log."""
        path = self.landing / (name if name.count("/") > 1 else f"stock_events/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(line(record) for record in records)
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return path

    def files(self, below: str = "") -> dict[str, str]:
        """The sha256 of everything in the store by name: what a rerun must leave alone."""
        folder = self.store / below
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.store)): sha256_hex(path.read_bytes()) for path in paths}


def copy_landing(source: Path, target: Path) -> None:
    """Add the objects below one folder to another; copies can be written to, whatever the originals allow."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


def line(record: Mapping[str, Any] | str | bytes) -> bytes:
    """A record as one line of landing."""
    if isinstance(record, Mapping):
        record = json.dumps(record)
    return (record.encode() if isinstance(record, str) else record) + b"\n"


def moved(event_id: str, product_id: str, quantity: int, **more: Any) -> dict[str, Any]:
    """A stock event: units added, or removed where the quantity is negative."""
    kind = "add" if quantity > 0 else "remove"
    event = {"event_id": event_id, "product_id": product_id, "quantity": abs(quantity), "event_type": kind}
    return event | {"occurred_at": "2026-01-01T10:00:00Z"} | more


def changed(lsn: int, op: str, product_id: str, description: str | None = None, price: str | None = None) -> dict:
    """A catalogue change in Debezium's envelope."""
    row = {"product_id": product_id, "description": description, "unit_price": price}
    before, after = (row, None) if op == "d" else (None, row)
    return {"before": before, "after": after, "op": op, "source": {"lsn": lsn}}


def seal_and_prove(engine: Engine, through: str | None = None) -> None:
    """Seal what has landed, fold it and prove every snapshot; nothing is published."""
    for _ in engine.sealing.seal(through):
        pass
    for log in engine.project.logs:
        for _ in engine.fold_history(log.name, engine.chain.get()):
            pass
        for _, verdicts in engine.prove_history(log.name, engine.chain.get()):
            assert all(verdict.passed for verdict in verdicts.values())


def levels(engine: Engine) -> dict[str, int]:
    """The units on hand by product, as built at the newest snapshot."""
    rows = engine.rows(engine.project.store("stock"), engine.chain.get())
    return dict(zip(rows["product_id"].to_pylist(), rows["level"].to_pylist(), strict=True))


def verify_reference(engine: Engine, snapshot: Snapshot) -> list[Difference]:
    """What differs between the stored records of all folded stores up to a snapshot and the reference; none is well."""
    verdicts = engine.compare_with_reference(engine.project.folded, snapshot)
    return [replace(d, where=f"store {v.store.name}, {d.where}") for v in verdicts for d in v.differences]


def outcomes(engine: Engine, key: str | None = None) -> list[tuple[str, str]]:
    """What became of every stock event, as (event id, outcome), by `log_seq`."""
    rows = engine.builder.ledger_rows(engine.project.store("stock"), engine.chain.get(key)).sort_by("log_seq")
    return list(zip(rows["event_id"].to_pylist(), rows["outcome"].to_pylist(), strict=True))


def digests(engine: Engine, stores: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Identity and digests of every snapshot and store: equal here means equal content."""
    found = {}
    for snapshot in engine.chain:
        for store in engine.project.stores:
            record = engine.builder.find(store, snapshot)
            if record is not None and (stores is None or store.name in stores):
                found[f"{snapshot.key} {store.name}"] = (snapshot.id, record.state_digest, record.ledger_digest)
    return found


def pieces(reader: LogReader, snapshot: Snapshot, columns: Sequence[str]) -> list[Part]:
    """The events of a snapshot as folds read them: one part for each segment."""
    return [piece for part in reader.unread(snapshot, columns) for piece in part.pieces()]


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
