"""The chain of manifests: what is changed in one is seen, and what is no manifest is passed over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assets import PROJECT
from refold.errors import Damaged, FixInput
from refold.log.quarantine import retry_objects
from refold.log.snapshot import LogCut, SealedObject, Snapshot, SnapshotChain, cut_id
from refold.storage.objects import ObjectStore

DAYS = ("2026-01-01", "2026-01-02")


def _cut(parent: LogCut | None) -> LogCut:
    start, content = (parent.ends[0] if parent else 0), [hashlib.sha256(b"x").hexdigest()]
    return LogCut(
        id=cut_id(parent.id if parent else None, "id text", [start + 2], content, 2),
        starts=[start],
        ends=[start + 2],
        seq_start=start,
        seq_end=start + 2,
        content=content,
        schema="id text",
        read=3,
        quarantined=1,
        control=0,
        objects=[SealedObject("sales/a.jsonl", 9, "0" * 64, 3, late=False)],
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two sealed snapshots; the folder of its manifests."""
    chain = SnapshotChain(ObjectStore.open(str(tmp_path)))
    for ordinal, key in enumerate(DAYS):
        head = chain.head
        cut = _cut(head.logs["sales"] if head else None)
        chain.create(Snapshot(key, ordinal, head and head.key, head and head.sha256, {"sales": cut}), {})
    return tmp_path / "snapshots"


def _chain(folder: Path) -> SnapshotChain:
    return SnapshotChain(ObjectStore.open(str(folder.parent)))


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all numbers, texts, truths and nulls of a JSON value."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*place, step))
    else:
        yield place


def _changed(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    return value + 1 if isinstance(value, int) else value[:-1] + ("1" if value[-1:] != "1" else "2")


def _with_right_sha256(body: dict[str, Any]) -> bytes:
    def plain(value: Any) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    return plain({"body": body, "sha256": hashlib.sha256(plain(body)).hexdigest()})


def test_a_manifest_is_read_back_as_it_was_written(folder: Path) -> None:
    chain = _chain(folder)
    assert [snapshot.key for snapshot in chain] == list(DAYS)
    for snapshot in chain:
        data = (folder / f"{snapshot.key}.json").read_bytes()
        assert snapshot.to_bytes() == data
        assert snapshot.sha256 == hashlib.sha256(data).hexdigest()
    assert chain.get(DAYS[1]).parent_sha256 == hashlib.sha256((folder / f"{DAYS[0]}.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("key", DAYS)
def test_any_changed_value_of_a_manifest_is_damage(folder: Path, key: str) -> None:
    path = folder / f"{key}.json"
    sound = path.read_bytes()
    places = list(_places(json.loads(sound)))
    assert ("body", "logs", "sales", "quarantined") in places and len(places) > 20
    for *way, last in places:
        value = json.loads(sound)
        inner = value
        for step in way:
            inner = inner[step]
        inner[last] = _changed(inner[last])
        path.write_text(json.dumps(value))
        with pytest.raises(Damaged, match=key):
            _chain(folder)
    path.write_bytes(sound)
    assert len(_chain(folder)) == 2


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"body":[],"sha256":""}', "\xff"])
def test_a_manifest_that_is_none_is_damage(folder: Path, text: str) -> None:
    (folder / f"{DAYS[1]}.json").write_text(text, encoding="latin-1")
    with pytest.raises(Damaged, match=DAYS[1]):
        _chain(folder)


@pytest.mark.parametrize("other", [2, 0, "1", None])
def test_a_manifest_of_another_format_is_refused(folder: Path, other: object) -> None:
    path = folder / f"{DAYS[1]}.json"
    body = json.loads(path.read_bytes())["body"]
    assert _with_right_sha256(body) == path.read_bytes()
    path.write_bytes(_with_right_sha256(body | {"format": other}))
    with pytest.raises(FixInput, match=f"format {other!r}, expected 1"):
        _chain(folder)


@pytest.mark.parametrize("change", [{"logs": []}, {"logs": {"sales": 3}}, {"id": "0" * 64}, {"key": "2026-01-03"}])
def test_a_manifest_that_cannot_be_one_is_damage_even_with_the_right_sha256(
    folder: Path, change: dict[str, Any]
) -> None:
    path = folder / f"{DAYS[1]}.json"
    path.write_bytes(_with_right_sha256(json.loads(path.read_bytes())["body"] | change))
    with pytest.raises(Damaged, match=f"snapshots/{DAYS[1]}.json"):
        _chain(folder)


def test_a_manifest_under_another_name_is_damage(folder: Path) -> None:
    (folder / f"{DAYS[0]}.json").rename(folder / "2025-12-31.json")
    with pytest.raises(Damaged, match="2025-12-31"):
        _chain(folder)


@pytest.mark.parametrize(
    "name", [".DS_Store", "notes.txt", "2026-01-03.json~", "2026-01-03", "Thumbs.db", "a/2026-01-03.json"]
)
def test_what_is_no_manifest_is_passed_over(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\0\0\0\1Bud1")
    assert [snapshot.key for snapshot in _chain(folder)] == list(DAYS)


def test_what_is_no_retry_of_quarantined_records_is_passed_over(tmp_path: Path) -> None:
    objects, log = ObjectStore.open(str(tmp_path)), PROJECT.logs[0]
    folder = f"retries/{log.name}"
    written = [f"{folder}/{'0' * 32}{log.decoder.suffixes[0]}"]
    for name in (*written, f"{written[0]}.places", f"{folder}/.DS_Store", f"{folder}/notes.jsonl"):
        objects.put(name, b"")
    assert retry_objects(objects, log) == written
