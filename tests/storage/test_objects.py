"""Storage by URL: whatever cannot work is explained in a sentence, no secret is shown, and no file is passed over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from refold.errors import Conflict, FixInput, NotFound, RefoldError, Retry, Unavailable
from refold.landing.listing import list_landing
from refold.sinks.database import Database
from refold.storage.objects import ObjectStore
from refold.storage.urls import local_path, mask_url

SUFFIXES = (".jsonl",)
DAY = "sales/dt=2026-01-01"


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    (folder / DAY).mkdir(parents=True)
    (folder / DAY / "a.jsonl").write_text("{}\n")
    return folder


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")


def _names(folder: Path) -> list[str]:
    return [item.name for item in list_landing(ObjectStore.open(str(folder)), "sales", SUFFIXES).objects]


def _is_a_note(error: RefoldError) -> bool:
    """One line with what failed, why, and a remedy, and none of the storage library's internals."""
    text = str(error)
    told = ("Expected" in text or "Cannot" in text) and bool(error.remedy)
    return told and "\n" not in text and "Debug" not in text


# What cannot be opened or asked


@pytest.mark.parametrize("url", ["/dev/null/x", "file:///dev/null/x", "gibberish://x", "s3://", "az://x", "~nobody9/x"])
@pytest.mark.parametrize("must_exist", [False, True])
def test_a_place_that_can_be_no_store_is_refused_in_a_sentence(url: str, must_exist: bool) -> None:
    with pytest.raises(FixInput) as told:
        ObjectStore.open(url, must_exist=must_exist)
    assert _is_a_note(told.value)
    assert url.removeprefix("file://") in str(told.value)


@pytest.mark.parametrize("must_exist", [False, True])
def test_a_store_on_a_plain_file_is_refused(tmp_path: Path, must_exist: bool) -> None:
    (tmp_path / "plain").write_text("text")
    with pytest.raises(FixInput) as told:
        ObjectStore.open(str(tmp_path / "plain"), must_exist=must_exist)
    assert _is_a_note(told.value) and str(tmp_path / "plain") in str(told.value)
    assert (tmp_path / "plain").read_text() == "text"


def test_a_url_that_is_refused_shows_no_password() -> None:
    with pytest.raises(FixInput) as told:
        ObjectStore.open("gibberish://ann:hunter2@x?token=hunter2")
    assert "hunter2" not in str(told.value) and "gibberish://ann:***@x?token=***" in str(told.value)
    assert told.value.__cause__ is None and told.value.__suppress_context__


ASKING: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get("a"),
    "put": lambda store: store.put("a", b""),
    "create": lambda store: store.create("a", b""),
    "exists": lambda store: store.exists("a"),
    "delete": lambda store: store.delete("a"),
    "list": lambda store: store.list("a"),
}


@pytest.mark.usefixtures("nobody_answers")
def test_an_endpoint_that_does_not_answer_is_unavailable() -> None:
    store = ObjectStore.open("s3://bucket/prefix")
    with pytest.raises(Unavailable) as told:
        store.get("a")
    assert _is_a_note(told.value) and "s3://bucket/prefix" in str(told.value) and isinstance(told.value, Retry)
    assert "hunter2" not in str(told.value)


@pytest.mark.usefixtures("nobody_answers")
@pytest.mark.parametrize("asking", ASKING)
def test_every_operation_reports_that_nobody_answers(asking: str) -> None:
    with pytest.raises(Unavailable, match="is unavailable") as told:
        ASKING[asking](ObjectStore.open("s3://bucket/prefix", retries_max=0))
    assert _is_a_note(told.value)


@pytest.mark.usefixtures("nobody_answers")
def test_a_token_in_a_store_url_is_not_in_the_librarys_words() -> None:
    store = ObjectStore.open("https://ann:hunter2@127.0.0.1:9/x?sig=hunter2", retries_max=0)
    with pytest.raises(Unavailable) as told:
        store.get("a")
    assert "hunter2" not in str(told.value) and "https://ann:***@127.0.0.1:9/x" in str(told.value)


@pytest.mark.parametrize("name", ["a\nb", "../a", "a\x7f"])
@pytest.mark.parametrize("asking", ["get", "put"])
def test_a_name_that_no_object_can_have_is_refused(tmp_path: Path, name: str, asking: str) -> None:
    store = ObjectStore.open(str(tmp_path))
    with pytest.raises(FixInput, match="expected a name in UTF-8"):
        store.get(name) if asking == "get" else store.put(name, b"")


def test_a_write_below_a_file_is_refused(tmp_path: Path) -> None:
    store = ObjectStore.open(str(tmp_path))
    store.put("a", b"")
    with pytest.raises(FixInput) as told:
        store.put("a/b", b"")
    assert _is_a_note(told.value) and "a/b" in str(told.value)


@pytest.mark.parametrize("url", ["memory://", ""])
def test_what_was_told_before_is_told_as_before(url: str, tmp_path: Path) -> None:
    store = ObjectStore.open(url or str(tmp_path))
    with pytest.raises(NotFound):
        store.get("a")
    store.create("a", b"1")
    with pytest.raises(Conflict):
        store.create("a", b"2")
    assert store.get("a") == b"1" and store.exists("a") and not store.exists("b")
    store.delete("a")
    store.delete("a")
    assert store.list() == []


def test_a_database_whose_folder_cannot_be_made_is_refused_in_a_sentence() -> None:
    database = Database("sqlite:////dev/null/x/refold.db")
    with pytest.raises(FixInput) as told, database.reading():
        pass
    assert _is_a_note(told.value) and "sqlite:////dev/null/x/refold.db" in str(told.value)


# Local places


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/tmp/st%20ore", "/tmp/st%20ore"),
        ("file:///tmp/st%20ore", "/tmp/st ore"),
        ("file:///tmp/st%20ore/", "/tmp/st ore"),
        ("file://localhost/tmp/x", "/tmp/x"),
        ("FILE:///tmp/x", "/tmp/x"),
        ("file:/tmp/x", "/tmp/x"),
        ("file:///tmp/a%23b%3Fc%25d", "/tmp/a#b?c%d"),
        ("/tmp/a#b?c", "/tmp/a#b?c"),
        ("/tmp/x//", "/tmp/x"),
        ("s3://bucket/x", None),
        ("memory://", None),
    ],
)
def test_a_local_place_is_the_path_that_its_url_means(url: str, expected: str | None) -> None:
    assert local_path(url) == (Path(expected).resolve() if expected else None)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1).filter(lambda n: n not in "..~"))
def test_the_url_that_python_makes_of_a_path_means_that_path(name: str) -> None:
    assert local_path((Path("/tmp/nowhere") / name).as_uri()) == Path("/tmp/nowhere").resolve() / name


@pytest.mark.parametrize(
    "url",
    [
        "file://elsewhere/tmp/x",
        "file://./x",
        "file:x",
        "file://",
        "file:///a?b",
        "file:///a#b",
        "file:///%00",
        "file:///%FF",
    ],
)
def test_a_file_url_that_is_no_path_of_this_machine_is_refused(url: str) -> None:
    with pytest.raises(FixInput) as told:
        local_path(url)
    assert _is_a_note(told.value) and url in str(told.value)


def test_a_store_is_made_where_its_url_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (f"file://{tmp_path}/st%20ore", f"file://localhost{tmp_path}/st%20ore/"):
        store = ObjectStore.open(url)
        store.put("a", b"1")
        assert store.location == str(tmp_path / "st ore")
    assert [path.name for path in tmp_path.iterdir()] == ["st ore"]


# Masking

FRAGMENTS = st.lists(st.text("ZQXJW", min_size=9, max_size=9), min_size=1, max_size=4)


@st.composite
def secrets(draw: st.DrawFn, between: str) -> tuple[str, list[str]]:
    """A secret of unmistakable fragments with characters of URLs between them, and the fragments."""
    fragments = draw(FRAGMENTS)
    marks = [draw(st.sampled_from([*between, "", "key=", "x="])) for _ in fragments]
    return "".join(f + m for f, m in zip(fragments, marks, strict=True)), fragments


PLACES = {
    "postgresql://ann:{}@db/shop": "@:/?#&%+ ;\n",
    "postgresql+psycopg2://ann@corp:{}@db:5432/shop?connect_timeout=3": "@:/?#&%+ ;\n",
    "postgresql://:{}@db/shop?password=abc": "@:/?#&%+ ;\n",
    "s3://AKIA:{}@bucket/x": "@:/?#&%+ ;\n",
    "https://{}@host/x": "@?#&%+ ;\n",
    "https://{}@host:8080/x@y": "@?#&%+ ;\n",
    "s3://{}@bucket/x": "@?#&%+ ;\n",
    "az://{}@container/x": "@?#&%+ ;\n",
    "gs://{}@bucket": "@?#&%+ ;\n",
    "az://container/x?account_key={}": "@:/?#%+ ;\n",
    "az://container?account_key={}&x=1": "@:/?#%+ ;\n",
    "https://ann:abc@h/x?sig={}": "@:/?#%+ ;\n",
    "https://h/x#access_token={}": "@:/?#%+ ;\n",
    "https://h/x?a=1&X-Amz-Signature={}": "@:/?#%+ ;\n",
    "postgresql:///db?host=/run&sslpassword={}": "@:/?#%+ ;\n",
    "postgresql://ann@db/shop?p%61ssword={}": "@:/?#%+ ;\n",
    **{
        f"https://h/x?{name}={{}}": "@:/?#%+ ;\n"
        for name in ("sas", "key", "pwd", "Password", "client_secret", "SAS_TOKEN")
    },
}


@pytest.mark.parametrize("place", PLACES)
@given(data=st.data())
def test_no_part_of_a_secret_is_shown(place: str, data: st.DataObject) -> None:
    secret, fragments = data.draw(secrets(PLACES[place]))
    shown = mask_url(place.format(secret))
    assert [fragment for fragment in fragments if fragment in shown] == []
    assert mask_url(shown) == shown


@given(data=st.data())
def test_no_password_that_sqlalchemy_would_use_is_shown(data: st.DataObject) -> None:
    secret, _ = data.draw(secrets(":/?#&%+ ;"))
    url = f"postgresql://ann:{secret}@db/shop"
    assert (make_url(url).password or "") not in mask_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:hun?ter@db/shop", "postgresql://ann:***@db/shop"),
        ("az://container?account_key=abc", "az://container?account_key=***"),
        ("https://token@h", "https://***@h"),
        ("https://h/x?sas=a&key=b&pwd=c&page=4", "https://h/x?sas=***&key=***&pwd=***&page=4"),
    ],
)
def test_a_secret_is_hidden_and_the_rest_shown(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////tmp/x.db",
        "sqlite:////tmp/ann:b@c.db",
        "postgresql://ann@db:5432/shop?connect_timeout=3&application_name=x",
        "abfss://container@account.dfs.core.windows.net/store",
        "s3://bucket/dt=2026-01-01/a@b",
        "file:///tmp/a@b",
        "/tmp/a:b@c",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(url: str) -> None:
    assert mask_url(url) == url


# Landing on a local folder


def test_landing_holds_what_a_walk_finds(landing: Path) -> None:
    outside = landing / "elsewhere"
    outside.mkdir()
    (outside / "o.jsonl").write_text("{}\n")
    for name in ("c d.jsonl", "e%20f.jsonl", "g#x.jsonl", "é.jsonl", "q?.jsonl", "back\\slash.jsonl"):
        (landing / DAY / name).write_text("{}\n")
    (landing / DAY / "dir#3").mkdir()
    (landing / DAY / "dir#3" / "i.jsonl").write_text("{}\n")
    (landing / DAY / "linked").symlink_to(outside)
    (landing / DAY / "link.jsonl").symlink_to(outside / "o.jsonl")
    (landing / DAY / "_SUCCESS").touch()
    (landing / DAY / ".half.jsonl#1").touch()
    found = _names(landing)
    here = landing / DAY
    names = [p.relative_to(landing).as_posix() for p in [*here.rglob("*.jsonl"), here / "linked" / "o.jsonl"]]
    assert found == sorted(names, key=str.encode)
    assert len(found) == 10
    assert all(ObjectStore.open(str(landing)).get(name) == b"{}\n" for name in found)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("dangling.jsonl", lambda path: path.symlink_to("/nonexistent")),
        ("b.jsonl#1", lambda path: path.write_text("{}\n")),
        ("2026#07", lambda path: path.write_text("{}\n")),
        ("pipe.jsonl", _pipe),
    ],
)
def test_what_the_listing_would_drop_is_refused_by_name(
    landing: Path, name: str, make: Callable[[Path], object]
) -> None:
    make(landing / DAY / name)
    with pytest.raises(FixInput) as told:
        _names(landing)
    assert f"{DAY}/{name}" in str(told.value) and "a.jsonl," not in str(told.value) and told.value.remedy
    (landing / DAY / name).unlink()
    assert _names(landing) == [f"{DAY}/a.jsonl"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"\xff.jsonl", "%FF.jsonl"), (b"n\nl.jsonl", r"n\nl.jsonl"), (b"del\x7f.jsonl", r"del\x7f.jsonl")],
)
def test_a_landing_object_with_an_impossible_name_is_refused_by_name(landing: Path, name: bytes, shown: str) -> None:
    (landing / DAY / os.fsdecode(name)).touch()
    with pytest.raises(FixInput) as told:
        _names(landing)
    assert _is_a_note(told.value) and f"{DAY}/{shown}" in str(told.value)


@pytest.mark.parametrize("target", ["loop", "."])
def test_links_in_a_circle_are_refused_by_name(landing: Path, target: str) -> None:
    (landing / DAY / "loop").symlink_to(target)
    with pytest.raises(FixInput, match="loop") as told:
        _names(landing)
    assert _is_a_note(told.value)


def test_a_log_that_is_no_folder_is_refused_and_one_that_is_not_there_is_empty(landing: Path) -> None:
    shutil.rmtree(landing / "sales")
    assert _names(landing) == []
    for make in (lambda path: path.symlink_to("/nonexistent"), lambda path: path.write_text("")):
        make(landing / "sales")
        with pytest.raises(FixInput, match="sales"):
            _names(landing)
        (landing / "sales").unlink()
