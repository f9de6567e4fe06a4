"""How many requests a rebuild of the sample makes, and how long it takes where each takes a round trip.

`python -m benchmarks.requests --days 182` counts what the store's wrapper sees: of a history, of one more day, and of a
run with nothing to do; then the objects by kind. With `--milliseconds 20` the store is on a real S3 server behind a
relay that holds every request for that long. Counts are the same on every machine; seconds are not.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from assets import PROJECT
from refold.config import Settings
from refold.engine import Engine
from refold.rebuild import rebuild_all
from refold.storage.names import kind_of
from refold.storage.objects import ObjectStore
from refold.storage.packs import PackedStore
from refold.storage.wrappers import READS, WRITES, CountingStore, Operation
from tests.s3 import BUCKET, KEYS, serving


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def relay(address: str, seconds: float) -> Iterator[str]:
    """The address of a relay to a server, which holds whatever is sent to it for so long."""
    host, port = address.removeprefix("http://").split(":")

    def pass_on(source: socket.socket, target: socket.socket, wait: float) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(1 << 20):
                time.sleep(wait)
                target.sendall(data)

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                mine, theirs = server.accept()[0], socket.create_connection((host, int(port)))
                for ends in ((mine, theirs, seconds), (theirs, mine, 0.0)):
                    threading.Thread(target=pass_on, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def measured(store: str, root: Path, days: int, *, packs: bool) -> None:
    """Rebuild the sample through some days, once more with one more day, and once more; prints a row for each."""
    assert PROJECT.sample is not None
    PROJECT.sample(root / "landing", False)
    settings = Settings(str(root / "landing"), store, f"sqlite:///{root}/refold.db", root / "search")
    _say("| run | puts | gets | lists | seconds |\n| --- | --: | --: | --: | --: |")
    for run, through in ((f"{days} days", days), ("one more day", days + 1), ("nothing to do", days + 1)):
        counting = list[CountingStore]()

        def opened(url: str, *, must_exist: bool = False, counting: list[CountingStore] = counting) -> ObjectStore:
            found = ObjectStore.open(url, must_exist=must_exist)
            if url == store:
                counting.append(counted := CountingStore(found))
                return PackedStore(counted) if packs else counted
            return found

        key, began = (PROJECT.cadence.start + dt.timedelta(days=through - 1)).isoformat(), time.perf_counter()
        rebuild_all(Engine(PROJECT, settings, opened, now=dt.datetime(2100, 1, 1, tzinfo=dt.UTC)), key)
        calls = sum((each.calls for each in counting), Counter[Operation]())
        puts, gets = sum(calls[op] for op in WRITES), sum(calls[op] for op in (*READS, Operation.EXISTS))
        _say(f"| {run} | {puts} | {gets} | {calls[Operation.LIST]} | {time.perf_counter() - began:.1f} |")
    kinds = Counter(str(kind_of(info.name) or info.name.split("/")[0]) for info in ObjectStore.open(store).list())
    _say(f"\n{kinds.total()} objects: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=26)
    parser.add_argument("--milliseconds", type=float)
    parser.add_argument("--packs", action="store_true", help="Keep the local store in packs, as a remote one is.")
    options = parser.parse_args()
    with ExitStack() as stack:
        root, store = Path(stack.enter_context(tempfile.TemporaryDirectory())), ""
        if options.milliseconds is None:
            store = str(root / "store")
        else:
            (root / "s3").mkdir()
            address = stack.enter_context(serving(root / "s3"))
            address = stack.enter_context(relay(address, options.milliseconds / 1000))
            os.environ |= {"AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", **KEYS}
            store = f"s3://{BUCKET}/store"
        measured(store, root, options.days, packs=options.packs)


if __name__ == "__main__":
    main()
