"""The anchor outside the store: with it a store that was replaced or rolled back as a whole is noticed and named."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from refold import Sql, open_release
from refold.engine import Engine
from refold.errors import Conflict, FixInput, NotAnchored, Unavailable
from refold.rebuild import rebuild_all
from refold.release.anchor import Anchor
from refold.release.anchor_places import DatabasePlace, ObjectPlace, open_place
from refold.release.signing import Key
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import ObjectStore
from refold.storage.records import record_bytes
from tests.postgres import postgres, postgres_url
from tests.shop import DAYS, land, little, move
from tests.support import LONG_AFTER, Shop

__all__ = ["postgres", "postgres_url"]

PROJECT = little({"on_hand": [Sql("on_hand")], "offers": [Sql("offers")]})


@dataclass(frozen=True)
class Anchored:
    """A shop of two logs, and where its releases are anchored."""

    shop: Shop
    anchor: str
    key: Path | None = None

    def engine(self) -> Engine:
        settings = replace(self.shop.settings, anchor=self.anchor, anchor_key=self.key)
        return Engine(self.shop.project, settings, now=LONG_AFTER)

    def day(self, number: int, quantity: int = 1) -> None:
        """Land a day of both logs and rebuild through it."""
        land(self.shop.landing, "moves", DAYS[number], [move(DAYS[number], "cup", quantity)])
        land(self.shop.landing, "prices", DAYS[number], [{"id": DAYS[number], "product": "cup", "price": 1}])
        rebuild_all(self.engine())

    def findings(self) -> list[str]:
        return [f"{each.where}: expected {each.expected}, found {each.found}" for each in self.engine().check_anchor()]

    def record(self, number: int) -> Path:
        """The record of a release."""
        return self.shop.store / name_of(ObjectKind.RELEASE, number=number)

    def held(self, name: str) -> Path:
        """The store as it is now, kept elsewhere."""
        return Path(shutil.copytree(self.shop.store, self.shop.root / name))

    def put_back(self, kept: Path) -> None:
        shutil.rmtree(self.shop.store)
        shutil.copytree(kept, self.shop.store)

    def is_refused(self, match: str) -> None:
        """Whether nobody is served and nothing is released."""
        before = self.shop.files()
        with pytest.raises(NotAnchored, match=match):
            open_release(str(self.shop.store), anchor=self.anchor, anchor_key=self.key)
        with pytest.raises(NotAnchored, match=match):
            self.engine().releaser.release(self.engine().chain.get(), again=True)
        served = self.served()
        with pytest.raises(NotAnchored, match=match):
            rebuild_all(self.engine())
        assert self.served() == served
        assert self.shop.files() == before

    def served(self) -> list[tuple[object, ...]]:
        """What readers of the database get."""
        with closing(sqlite3.connect(self.shop.database_file)) as database:
            return database.execute("SELECT * FROM on_hand ORDER BY product").fetchall()


@pytest.fixture
def anchored(tmp_path: Path) -> Anchored:
    found = Anchored(Shop(tmp_path, PROJECT), str(tmp_path / "anchor"))
    found.day(0)
    return found


def make_keys(folder: Path) -> tuple[Path, Path]:
    """A private key and its public one, in files."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_what_its_owner_does_is_anchored(anchored: Anchored):
    """Releases, a rollback, a prune and a rerun have no finding, and readers are served."""
    for number in (1, 2):
        anchored.day(number)
    anchored.engine().releaser.rollback()
    anchored.engine().releaser.roll_forward()
    engine = anchored.engine()
    engine.pruner.apply(engine.pruner.plan(1, 0))
    assert engine.anchor is not None
    confirmed = [entry for entry in engine.anchor.entries() if entry.confirmed]
    assert [entry.release for entry in confirmed] == engine.releaser.pointer.numbers()
    assert [entry.rolled_back_to for entry in confirmed][:4] == [None, None, None, 2]
    assert anchored.findings() == []
    assert open_release(str(anchored.shop.store), anchor=anchored.anchor).snapshot == DAYS[1]
    assert open_release(str(anchored.shop.store), anchor=anchored.anchor, number=3).number == 3


def test_a_replaced_store_is_named_by_log_and_position(anchored: Anchored):
    """F16: the insider builds everything anew from another landing; one log is his, the other as it was."""
    anchored.day(1)
    shop = anchored.shop
    forged = Anchored(Shop(shop.root, PROJECT, shop.root / "forged"), "")
    shutil.rmtree(shop.store)
    shop.database_file.unlink()
    forged.day(0)
    forged.day(1, quantity=5)
    assert forged.engine().audit_objects() == []
    (first, second, log) = anchored.findings()
    assert first.startswith("release 1: ") and second.startswith("release 2: ")
    assert log.startswith(f"log moves at snapshot {DAYS[1]}, equal through snapshot {DAYS[0]}, so from log_seq 1 on")
    anchored.is_refused("was not announced")


def test_a_store_that_was_rolled_back_is_not_a_rollback(anchored: Anchored):
    """F16: an old copy of the whole store is consistent, and its owner's rollback is another thing."""
    kept = anchored.held("kept")
    anchored.day(1)
    rebuilt = anchored.held("rebuilt")
    anchored.put_back(kept)
    (release, *logs) = anchored.findings()
    assert release.startswith("release 2: expected") and release.endswith("none: the store was rolled back")
    assert [text.partition(" at")[0] for text in logs] == ["log moves", "log prices"]
    assert all("found no such snapshot" in text for text in logs)
    anchored.is_refused("confirms release 2 of snapshot 2026-01-02, and the newest in the store is release 1")
    anchored.put_back(rebuilt)
    anchored.engine().releaser.rollback()
    assert anchored.findings() == []
    shutil.rmtree(anchored.shop.store)
    anchored.shop.store.mkdir()
    with pytest.raises(NotAnchored, match="the newest in the store is nothing"):
        open_release(str(anchored.shop.store), anchor=anchored.anchor)


def test_a_release_that_refold_did_not_make_is_named(anchored: Anchored):
    """F16: whoever can write to the store adds a number that serves something else."""
    anchored.day(1)
    body = json.loads((anchored.record(1)).read_bytes())["body"] | {"number": 3}
    (anchored.record(3)).write_bytes(record_bytes(body))
    (finding,) = anchored.findings()
    assert finding.startswith("release 3: expected no release that is not announced")
    anchored.is_refused("release 3 with sha256 .* was not announced")
    with pytest.raises(NotAnchored, match="not announced"):
        anchored.engine().releaser.rollback(2)


def test_a_redaction_is_no_finding_and_its_removal_is(anchored: Anchored):
    """F16: events that the owner puts aside leave what was anchored; the record cannot be taken away afterwards."""
    anchored.day(1)
    engine = anchored.engine()
    redactor = engine.redactor("moves")
    own = {"reason": "a mistake", "by": "shop keeper", "at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC)}
    made = redactor.excluding(redactor.with_values(["product"], ["cup"]), **own)
    redactor.commit(made)
    assert anchored.findings() == []
    anchored.day(2)
    assert anchored.findings() == []
    (anchored.shop.store / made.name).unlink()
    assert any(text.startswith("redaction 1: expected the record") for text in anchored.findings())


def test_an_anchor_begins_with_what_is_released_then(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A store that had none gets one; what was released before is taken as it is, and said."""
    plain = Anchored(Shop(tmp_path, PROJECT), "")
    plain.day(0)
    plain.day(1)
    found = replace(plain, anchor=str(tmp_path / "anchor"))
    found.day(2)
    assert "from release 2 on, as it is now" in caplog.text
    assert found.engine().anchor and [e.release for e in found.engine().anchor.entries()] == [2, 3, 3]
    assert found.findings() == []


def test_signed_entries_are_verified_by_the_public_key(tmp_path: Path):
    """Whoever can write to the anchor, and has no key, can neither change an entry nor add one."""
    private, public = make_keys(tmp_path)
    found = Anchored(Shop(tmp_path, PROJECT), str(tmp_path / "anchor"), private)
    found.day(0)
    reader = replace(found, key=public)
    assert reader.findings() == []
    assert open_release(str(found.shop.store), anchor=found.anchor, anchor_key=public).number == 1
    land(found.shop.landing, "moves", DAYS[1], [move(DAYS[1], "cup", 1)])
    with pytest.raises(FixInput, match=r"public\.pem is a public key"):
        rebuild_all(reader.engine())
    entry = tmp_path / "anchor" / "0000000002.json"
    true = entry.read_text()
    entry.write_text(true.replace('"confirmed":true', '"confirmed":false'))
    (finding,) = reader.findings()
    assert "Entry 2" in finding and "its signature is not that of the key" in finding
    assert len(found.findings()) == 1 and replace(found, key=None).findings() == []
    other, _ = make_keys(tmp_path / "anchor")
    assert "Entry 1" in replace(found, key=other).findings()[0]


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused_by_name(tmp_path: Path, text: str):
    (tmp_path / "key.pem").write_text(text)
    with pytest.raises(FixInput, match=r"key\.pem"):
        Key.read(tmp_path / "key.pem")


def test_entries_that_were_changed_removed_or_are_of_another_project_are_named(anchored: Anchored):
    """Without a key: each entry names the sha256 of the one before."""
    anchored.day(1)
    folder = Path(anchored.anchor)
    edits: dict[str, Callable[[Path], object]] = {
        "0000000002": lambda path: path.write_text(path.read_text().replace(DAYS[0], DAYS[1])),
        "0000000003": lambda path: path.unlink(),
        "0000000004": lambda path: path.write_text("[]"),
        "0000000001": lambda path: path.write_bytes((folder / "0000000002.json").read_bytes()),
    }
    for name, edit in edits.items():
        kept = (folder / f"{name}.json").read_bytes()
        edit(folder / f"{name}.json")
        (finding,) = anchored.findings()
        assert finding.startswith(f"anchor {folder}") and "ntry " in finding, name
        (folder / f"{name}.json").write_bytes(kept)
    assert anchored.findings() == []
    with pytest.raises(NotAnchored, match="belongs to project"):
        Anchor(anchored.engine().objects, open_place(anchored.anchor), "another").entries()


@pytest.mark.parametrize(
    ("field", "value"),
    [("release", "2"), ("record", []), ("confirmed", 1), ("snapshot", {}), ("logs", {"moves": ["id"]}), ("logs", 1.5),
     ("redactions", [1]), ("redactions", {}), ("rolled_back_to", "1"), ("previous", None)],
)  # fmt: skip
def test_an_entry_with_values_of_other_types_is_refused(anchored: Anchored, field: str, value: object):
    """Whether it is looked at, or something is released after it."""
    place = max(Path(anchored.anchor).glob("*.json"))
    whole = json.loads(place.read_bytes())
    whole["entry"][field] = value
    place.unlink()
    place.write_text(json.dumps(whole))
    (finding,) = anchored.findings()
    assert "it is not an entry" in finding
    with pytest.raises(NotAnchored, match="it is not an entry"):
        anchored.engine().require_anchored()


@dataclass
class Losing:
    """A place that adds what it should, or does not, and loses the answer: one of each kind of entry."""

    inner: ObjectPlace
    adds: bool
    place: str = "losing"
    lost: set[bool] = field(default_factory=set)

    def count(self) -> int:
        return self.inner.count()

    def get(self, number: int) -> bytes:
        return self.inner.get(number)

    def add(self, number: int, entry: bytes) -> None:
        confirmed = json.loads(entry)["entry"]["confirmed"]
        if confirmed in self.lost:
            return self.inner.add(number, entry)
        self.lost.add(confirmed)
        if self.adds:
            self.inner.add(number, entry)
        raise Unavailable("The answer was lost.")


@pytest.mark.parametrize("adds", [True, False])
def test_a_lost_answer_stops_a_release_before_it_and_never_after(anchored: Anchored, adds: bool):
    """What is announced in vain releases nothing; what could not be confirmed is confirmed by the next run."""
    land(anchored.shop.landing, "moves", DAYS[1], [move(DAYS[1], "cup", 1)])
    place = Losing(ObjectPlace(ObjectStore.open(anchored.anchor)), adds)

    def rebuild() -> None:
        engine = anchored.engine()
        engine.anchor = Anchor(engine.objects, place, PROJECT.name)
        rebuild_all(engine)

    with pytest.raises(Unavailable):
        rebuild()
    assert anchored.engine().releaser.pointer.number() == 1 and anchored.findings() == []
    rebuild()
    assert anchored.engine().releaser.pointer.number() == 2
    rebuild()
    assert anchored.findings() == []
    assert anchored.engine().anchor.entries()[-1].confirmed
    assert open_release(str(anchored.shop.store), anchor=anchored.anchor).number == 2


def test_of_two_that_add_an_entry_one_follows_the_other(anchored: Anchored):
    """Each place refuses another entry under a number that is taken, and takes the same one again."""
    database = DatabasePlace(f"sqlite:///{anchored.shop.root / 'anchor.db'}")
    for place in (ObjectPlace(ObjectStore.open(str(anchored.shop.root / "other"))), database):
        assert place.count() == 0
        place.add(1, b"{}")
        place.add(1, b"{}")
        with pytest.raises(Conflict):
            place.add(1, b"[]")
        assert (place.count(), place.get(1)) == (1, b"{}")
    engine = anchored.engine()
    assert engine.anchor is not None
    for record in (b"one", b"other"):
        release = json.loads((anchored.record(1)).read_bytes())["body"]
        engine.anchor.announce(2, record_bytes(release | {"released_by": record.decode()}))
    assert [(e.release, e.confirmed) for e in engine.anchor.entries()] == [
        (1, False),
        (1, True),
        (2, False),
        (2, False),
    ]
    assert anchored.findings() == []


def test_a_database_holds_an_anchor(tmp_path: Path, postgres: str):
    """On SQLite and on PostgreSQL, there also with the right to add rows alone."""
    import psycopg2  # only where there is a server

    for url in (f"sqlite:///{tmp_path / 'anchor.db'}", postgres.replace("postgresql://", "postgresql+psycopg2://")):
        found = Anchored(Shop(tmp_path / url[:6], PROJECT), url)
        found.shop.root.mkdir()
        found.day(0)
        kept = found.held("kept")
        found.day(1)
        assert found.findings() == []
        assert open_release(str(found.shop.store), anchor=url).number == 2
        found.put_back(kept)
        found.is_refused("rolled back")
    with psycopg2.connect(postgres) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT number FROM refold_anchor ORDER BY number")
        assert [number for (number,) in cursor.fetchall()] == [1, 2, 3, 4]


def test_the_check_of_what_is_served_fails_in_dagster(anchored: Anchored):
    """It is what the hourly schedule runs."""
    from refold.dagster import results  # Dagster takes a while to load

    kept, store = anchored.held("kept"), PROJECT.store("on_hand")
    anchored.day(1)
    assert results.check_served(anchored.engine(), store, store.sinks).passed
    anchored.put_back(kept)
    with pytest.raises(NotAnchored, match="rolled back"):
        results.check_served(anchored.engine(), store, store.sinks)


def test_verify_shows_what_is_not_anchored_and_exits_1(anchored: Anchored, monkeypatch: pytest.MonkeyPatch):
    """The environment names the anchor; `refold verify` says where the store is held against it."""
    project = anchored.shop.root / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.attacks.test_anchor:PROJECT"\n')
    monkeypatch.setenv("REFOLD_ANCHOR", anchored.anchor)
    shown = anchored.shop.refold("verify", project=project)
    assert shown.exit_code == 0 and "is what was anchored in" in shown.stdout, shown.output
    kept = anchored.held("kept")
    anchored.day(1)
    anchored.put_back(kept)
    shown = anchored.shop.refold("verify", project=project)
    assert shown.exit_code == 1 and "found none: the store was rolled back" in shown.stdout
