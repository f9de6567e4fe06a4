"""S3 in earnest: what its answers mean, where credentials come from, large listings, and a whole job despite faults.

Answers that a server on this machine does not give are those that Amazon documents, given by the proxy before it.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from refold import BulkNdjson, Sql
from refold.errors import AccessDenied, FixInput, NotFound, RefoldError, Unavailable
from refold.landing.listing import list_landing
from refold.landing.names import CONFLUENT
from refold.rebuild import rebuild_all
from refold.storage.aws_profile import profile_settings
from refold.storage.objects import ObjectStore
from tests import shop
from tests.s3 import BUCKET, KEYS, Proxy, s3, s3_address
from tests.serving import Answering, serving
from tests.support import Shop, digests

__all__ = ["s3", "s3_address"]

OPERATIONS: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get("a"),
    "put": lambda store: store.put("a", b"1"),
    "create": lambda store: store.create("a", b"1"),
    "list": lambda store: store.list(),
}


def answer(code: str, message: str, more: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>'
    ).encode()


REGION = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
ENDPOINT = "<Endpoint>shop.s3.eu-west-1.amazonaws.com</Endpoint>"
RIGHT = "User: arn:aws:iam::1:user/x is not authorized to perform: s3:PutObject"
REFUSALS = {
    "wrong region": (400, answer("AuthorizationHeaderMalformed", REGION), FixInput, "another region", "eu-west-1"),
    "no redirect": (301, answer("PermanentRedirect", "Use the endpoint.", ENDPOINT), FixInput, "region", "AWS_REGION"),
    "no bucket": (404, answer("NoSuchBucket", "It does not exist"), FixInput, "bucket does not exist", "name of the"),
    "no right": (403, answer("AccessDenied", RIGHT), AccessDenied, "a right is missing.*PutObject", "permissions"),
    "expired": (400, answer("ExpiredToken", "The token has expired."), AccessDenied, "have expired", "Sign in again"),
    "unknown key": (
        403,
        answer("InvalidAccessKeyId", "Unknown."),
        AccessDenied,
        "does not accept",
        "AWS_ACCESS_KEY_ID",
    ),
    "clock": (403, answer("RequestTimeTooSkewed", "Too large."), FixInput, "clock of this machine", "Set the clock"),
}


@pytest.fixture
def url() -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_s3_refuses_for_good_is_fix_input_with_its_cause(s3: Proxy, url: str, refusal: str, operation: str):
    """Each would be retried in vain otherwise, or taken for an object that is not there."""
    status, s3.body, kind, why, remedy = REFUSALS[refusal]
    s3.plan(str(status), ".*", 99)
    with pytest.raises(kind, match=why) as refused:
        OPERATIONS[operation](ObjectStore.open(url, retries_max=1))
    assert not isinstance(refused.value, NotFound)
    assert remedy in refused.value.remedy


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_without_words_is_fix_input(s3: Proxy, url: str, status: int):
    s3.plan(str(status), "HEAD", 1)
    with pytest.raises(FixInput):
        ObjectStore.open(url).exists("a")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", ["429", "500", "503"])
def test_throttling_is_waited_for_and_an_outage_is_unavailable(s3: Proxy, url: str, status: str, operation: str):
    ObjectStore.open(url).put("a", b"1")
    s3.body = answer("SlowDown", "Please reduce your request rate.")
    s3.plan(status, ".*", 2)
    OPERATIONS[operation](ObjectStore.open(url))
    assert len(s3.hit) == 2
    s3.plan(status, ".*", 99)
    with pytest.raises(RefoldError) as failed:
        OPERATIONS[operation](ObjectStore.open(url, retries_max=0))
    assert failed.value.kind in ("unavailable", "commit-unknown")


def test_a_server_that_does_not_answer_is_given_up_and_asked_again(
    s3: Proxy, url: str, monkeypatch: pytest.MonkeyPatch
):
    ObjectStore.open(url).put("a", b"1")
    monkeypatch.setenv("AWS_TIMEOUT", "500 ms")
    s3.stall_seconds = 1.5
    s3.plan("stall", "GET", 1)
    assert ObjectStore.open(url).get("a") == b"1"
    assert len(s3.hit) == 1
    s3.plan("stall", "GET", 99)
    with pytest.raises(Unavailable):
        ObjectStore.open(url, retries_max=0).get("a")


# Credentials


@contextmanager
def granting() -> Iterator[tuple[str, list[str]]]:
    """A server that grants the keys, as those of containers and of machines do, and what it was asked."""
    asked = list[str]()

    class Handler(Answering):
        def do_GET(self) -> None:
            asked.append(self.path)
            until = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            names = dict(zip(("AccessKeyId", "SecretAccessKey"), KEYS.values(), strict=True))
            keys = {**names, "Token": "", "Expiration": until, "LastUpdated": until, "Code": "Success", "Type": "AWS"}
            self.say(b"a-role" if self.path.endswith("/security-credentials/") else json.dumps(keys).encode())

        def do_PUT(self) -> None:
            self.say(b"token")

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}", asked


@pytest.fixture
def keyless(s3: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without keys, whose home is empty."""
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


@pytest.mark.parametrize("source", ["container", "machine"])
def test_containers_and_machines_are_asked_for_credentials(keyless: pytest.MonkeyPatch, url: str, source: str):
    with granting() as (address, asked):
        if source == "machine":
            keyless.setenv("AWS_METADATA_ENDPOINT", address)
        else:
            keyless.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/keys")
            keyless.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/dev/null")
        store = ObjectStore.open(url)
        store.create("a", b"1")
        assert store.get("a") == b"1"
        assert asked


def credentials(home: Path, **profiles: str) -> None:
    folder = home / ".aws"
    folder.mkdir()
    keys = "aws_access_key_id = {}\naws_secret_access_key = {}\n".format(*KEYS.values())
    folder.joinpath("credentials").write_text("".join(f"[{name}]\n{keys}" for name in profiles))
    folder.joinpath("config").write_text("".join(f"[profile {n}]\n{more}\n" for n, more in profiles.items()))


def test_a_profile_of_the_shared_files_is_used(keyless: pytest.MonkeyPatch, url: str, tmp_path: Path):
    credentials(tmp_path, shop="region = eu-west-1")
    keyless.setenv("AWS_PROFILE", "shop")
    ObjectStore.open(url).create("a", b"1")
    assert ObjectStore.open(url).get("a") == b"1"
    keyless.delenv("AWS_REGION")
    assert profile_settings({"HOME": str(tmp_path), "AWS_PROFILE": "shop"})["aws_region"] == "eu-west-1"
    assert profile_settings({"HOME": str(tmp_path), "AWS_PROFILE": "shop", "AWS_ACCESS_KEY_ID": "x"}) == {}
    assert profile_settings({"HOME": str(tmp_path)}) == {}


def test_a_profile_that_has_no_keys_is_refused(keyless: pytest.MonkeyPatch, url: str, tmp_path: Path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile sso]\nsso_session = work\n")
    for name, found in (("sso", "another way to sign in"), ("other", "no such profile")):
        keyless.setenv("AWS_PROFILE", name)
        with pytest.raises(FixInput, match=found) as refused:
            ObjectStore.open(url)
        assert "export-credentials" in refused.value.remedy


# Large listings


@contextmanager
def listing(names: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A server that lists sorted names in pages of a thousand, as S3 does, and the pages that were asked for."""
    pages = list[str]()

    class Handler(Answering):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            start = int(query.get("continuation-token", ["0"])[0])
            pages.append(self.path)
            page = names[start : start + 1000]
            found = "".join(
                f"<Contents><Key>{name}</Key><LastModified>2026-01-30T10:00:00.000Z</LastModified>"
                f"<ETag>&quot;e{start}&quot;</ETag><Size>10</Size></Contents>"
                for name in page
            )
            more = start + 1000 < len(names)
            token = f"<NextContinuationToken>{start + 1000}</NextContinuationToken>" if more else ""
            body = (
                f"<ListBucketResult><Name>b</Name><KeyCount>{len(page)}</KeyCount><MaxKeys>1000</MaxKeys>"
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{found}</ListBucketResult>"
            ).encode()
            self.say(body)

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}", pages


def test_a_hundred_thousand_objects_are_listed_each_once_in_the_order_of_offsets(
    s3: Proxy, monkeypatch: pytest.MonkeyPatch
):
    names = sorted(f"t/partition={n % 4}/t+{n % 4}+{n // 4 * 7}.json" for n in range(100_000))
    with listing(names) as (address, pages):
        monkeypatch.setenv("AWS_ENDPOINT", address)
        landing = list_landing(ObjectStore.open("s3://bucket"), "t", (".json",), CONFLUENT)
    found = [(item.partition, item.offset) for item in landing.objects]
    assert found == [(partition, n * 7) for partition in range(4) for n in range(25_000)]
    assert len(pages) == 100
    assert {item.folder for item in landing.objects} == {"2026-01-30"}


# The whole job


PROJECT = shop.little({"on_hand": [Sql("on_hand")], "last_move": [BulkNdjson("moves")]})
DAYS = shop.DAYS[:2]


def landed(root: Path) -> Shop:
    small = Shop(root, PROJECT)
    for number, day in enumerate(DAYS):
        for kind, quantity in (("add", number + 1), ("remove", 2)):
            event = {"id": f"{number}{kind}", "product": "nut", "quantity": quantity, "kind": kind}
            small.land(f"moves/dt={day}/{kind}.jsonl", event, event, "{", {**event, "id": f"{number}x"})
    return small


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Identities and digests of every snapshot and store on a local folder."""
    small = landed(tmp_path_factory.mktemp("undisturbed"))
    rebuild_all(small.engine(), DAYS[-1])
    return digests(small.engine())


def on_s3(small: Shop, url: str) -> Shop:
    """The shop with landing and store in a bucket."""
    places = {str(small.landing): f"{url}/landing", str(small.store): f"{url}/store"}
    landing = ObjectStore.open(places[str(small.landing)])
    for path in small.landing.rglob("*.jsonl"):
        landing.put(str(path.relative_to(small.landing)), path.read_bytes())

    def opened(place: str, *, must_exist: bool = False) -> ObjectStore:
        return ObjectStore.open(places.get(place, place), must_exist=must_exist)

    return replace(small, open_store=opened)


@pytest.mark.parametrize(
    ("effect", "requests"), [("503", "."), ("drop", "."), ("stall", "(?!.*/probe/)"), ("cut", "GET")]
)
def test_the_whole_job_ends_as_on_a_local_folder_whatever_requests_meet(
    s3: Proxy, url: str, tmp_path: Path, undisturbed: dict, effect: str, requests: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_TIMEOUT", "1 s")
    s3.stall_seconds = 1.5
    small = on_s3(landed(tmp_path), url)
    s3.plan(effect, requests, 10**6, every=12 if effect == "stall" else 7)
    rebuild_all(small.engine(), DAYS[-1])
    assert len(s3.hit) > 2
    s3.plan("none", "$^", 0)
    assert digests(small.engine()) == undisturbed
    assert small.engine().audit_objects() == []


def test_a_job_whose_credentials_end_midway_stops_and_ends_well_with_new_ones(
    s3: Proxy, url: str, tmp_path: Path, undisturbed: dict
):
    small = on_s3(landed(tmp_path), url)
    status, s3.body, kind, *_ = REFUSALS["expired"]
    s3.plan(str(status), "PUT", 10**6)
    s3.skip = 6
    with pytest.raises(kind):
        rebuild_all(small.engine(), DAYS[-1])
    assert s3.hit
    s3.plan("none", "$^", 0)
    rebuild_all(small.engine(), DAYS[-1])
    assert digests(small.engine()) == undisturbed
