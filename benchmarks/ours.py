"""Refold's own programs: what is timed of it, and what is made ready before.

Everything is below the data folder of the log that is measured: `refold-<snapshots>/` holds that log sealed, and
is kept; states and proofs are removed again before a rebuild is timed. A little log is sealed, or rebuilt and verified,
in the same process first, so that compiling and loading kernels is start-up, as it is for the peers.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks import adapter
from benchmarks.answer import Answer
from benchmarks.databases import empty_postgres
from benchmarks.dataset import json_lines, read_about, shape_of
from benchmarks.generate import Shape, Stream, batches, day_key
from benchmarks.program import Program
from refold.engine import Engine

ROOT = Path(__file__).resolve().parents[1]
HISTORY_DAYS = 365
_LITTLE = 2_000
_MILLION = 1_000_000
_HISTORY_STORES = 7


def sealed(data: Path, snapshots: int | None) -> Path:
    """The folder of the log of a data folder, sealed under so many snapshots; made where it is not there.

    None is as many as there are millions of events, so that logs of every size have snapshots of the same.
    """
    folder = _folder(data, snapshots)
    if not _is_made(folder):
        shape = shape_of(data)
        _seal_stream(Stream(shape), folder, _MILLION if snapshots is None else -(-shape.events // snapshots))
        _made(folder)
    return folder


def _folder(data: Path, snapshots: int | None) -> Path:
    return data / f"refold-{'millions' if snapshots is None else snapshots}"


def _is_made(folder: Path) -> bool:
    """Whether a folder was made by the engine as it is now; removes it where it was not."""
    file = folder / "made-by"
    if file.is_file() and file.read_text() == engine_fingerprint():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _made(folder: Path) -> None:
    (folder / "made-by").write_text(engine_fingerprint())


@cache
def engine_fingerprint() -> str:
    """The sha256 of the engine's source that decides what is on disk, so that nothing of another one is measured."""
    refold = ROOT / "refold"
    rooms = [*(refold / "log").glob("*.py"), *(refold / "stores").glob("*.py"), *refold.glob("*.py")]
    return sha256(b"".join(path.read_bytes() for path in sorted(rooms))).hexdigest()


def _seal_stream(stream: Stream, folder: Path, snapshot_events: int) -> None:
    landing = folder / "landing"
    for number, table in enumerate(batches(stream, snapshot_events)):
        adapter.land(iter([table.slice(at, 500_000) for at in range(0, len(table), 500_000)]), landing, number)
    adapter.seal(adapter.open_engine(folder / "store", landing))
    shutil.rmtree(landing)
    landing.mkdir()


def little(data: Path) -> Path:
    """A little sealed log, beside the data folder."""
    folder = data.parent / "little"
    if not _is_made(folder):
        _seal_stream(Stream(Shape(_LITTLE)), folder, _LITTLE // 2)
        _made(folder)
    return folder


def warm_up(data: Path) -> None:
    """Rebuild and verify a little in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(
            little(data), Path(scratch, "little"), copy_function=os.link if _linkable(data) else shutil.copy
        )
        engine = _engine(Path(scratch, "little"))
        adapter.rebuild(engine)
        adapter.verify(engine)


def warm_up_sealing(data: Path) -> None:
    """Seal a little in this process, from Parquet and from gzip JSON Lines."""
    events = next(batches(Stream(Shape(_LITTLE)), _LITTLE))
    with tempfile.TemporaryDirectory() as scratch:
        landings = Path(scratch, "parquet"), Path(scratch, "json")
        adapter.land(iter([events]), landings[0], 0)
        path = landings[1] / "stock_events" / f"dt={day_key(0)}" / "part-0000.jsonl.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(json_lines(events), 1))
        for number, landing in enumerate(landings):
            adapter.seal(adapter.open_engine(Path(scratch, "store", str(number)), landing, json=number == 1))


def _linkable(data: Path) -> bool:
    """Whether the folder for temporary files is on the data's device, where a link does instead of a copy."""
    return data.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev


def _engine(folder: Path, **options: Any) -> Engine:
    return adapter.open_engine(folder / "store", folder / "landing", **options)


def _remove_derived(folder: Path) -> None:
    for name in ("states", "proofs"):
        shutil.rmtree(folder / "store" / name, ignore_errors=True)


# Rebuild and verification.


def _prepare_rebuild(snapshots: int | None) -> Callable[[Path], None]:
    def prepare(data: Path) -> None:
        little(data)
        _remove_derived(sealed(data, snapshots))

    return prepare


def _prepare_verify(snapshots: int | None, *, first: bool) -> Callable[[Path], None]:
    def prepare(data: Path) -> None:
        little(data)
        folder = sealed(data, snapshots)
        engine, compared = _engine(folder), folder / "store" / "checked"
        if not adapter.is_built(engine):
            adapter.rebuild(engine)
        if first:
            shutil.rmtree(compared, ignore_errors=True)
        elif not compared.is_dir():
            adapter.verify(engine)

    return prepare


def _of(work: Callable[[Engine], object], snapshots: int | None, **options: object) -> Callable[..., Engine]:
    def timed(data: Path, started: None) -> Engine:
        engine = _engine(_folder(data, snapshots), **options)
        work(engine)
        return engine

    return timed


def _rebuild(snapshots: int | None, **options: object) -> Program:
    work = _of(adapter.rebuild, snapshots, **options)
    return Program(work, warm_up, prepare=_prepare_rebuild(snapshots), answer=adapter.answer)


def _verify(snapshots: int | None, *, first: bool = False, **options: object) -> Program:
    work = _of(adapter.verify, snapshots, **options)
    return Program(work, warm_up, prepare=_prepare_verify(snapshots, first=first), answer=adapter.answer)


REBUILD, REBUILD_100 = _rebuild(1), _rebuild(100)
VERIFY, VERIFY_100 = _verify(1), _verify(100)
REBUILD_OUT_OF_CORE, VERIFY_OUT_OF_CORE = _rebuild(None, memory_limit_mb=256), _verify(None, memory_limit_mb=256)
FIRST_OUT_OF_CORE = _verify(None, first=True, memory_limit_mb=256)


# More events, on a log that is sealed and built.

_MORE_MAX = 100_000


def _prepare_incremental(data: Path) -> None:
    """The log and a hundredth more: the log sealed and built, the rest landed as Parquet and as JSON Lines."""
    little(data)
    base = data / "refold-more"
    if not _is_made(base):
        shape = shape_of(data)
        more = min(max(1, shape.events // 100), _MORE_MAX)
        stream = Stream(replace(shape, events=shape.events + more))
        parts = batches(stream, more)
        ends = [shape.events // more * day // 10 for day in range(11)]
        for number, (low, high) in enumerate(pairwise(ends)):
            adapter.land((next(parts) for _ in range(low, high)), base / "landing", number)
        adapter.seal(_engine(base))
        adapter.rebuild(_engine(base))
        shutil.rmtree(base / "landing")
        rest = next(parts)
        adapter.land(iter([rest]), base / "landing", 10)
        path = base / "landing-json" / "stock_events" / f"dt={day_key(10)}" / "part-0000.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(json_lines(rest))
        (base / "answer.json").write_text(json.dumps(asdict(_answer_of(stream, parts))))
        _made(base)
    shutil.rmtree(data / "refold-more-work", ignore_errors=True)
    shutil.copytree(base, data / "refold-more-work", copy_function=os.link)


def _answer_of(stream: Stream, rest: Iterator[object]) -> Answer:
    assert next(rest, None) is None, "what is landed last is the last of the log"
    return stream.answer


def _incremental(json_landing: bool) -> Callable[[Path, None], tuple[Engine, Mapping[str, float]]]:
    def work(data: Path, started: None) -> tuple[Engine, Mapping[str, float]]:
        folder, clock = data / "refold-more-work", time.perf_counter()
        landing = folder / ("landing-json" if json_landing else "landing")
        engine = adapter.open_engine(folder / "store", landing, json=json_landing)
        opened = time.perf_counter()
        adapter.seal(engine)
        seal = time.perf_counter()
        adapter.build(engine)
        times = {"open": opened - clock, "seal": seal - opened, "fold": time.perf_counter() - seal}
        return engine, {f"{name}_seconds": value for name, value in times.items()}

    return work


def _start_incremental(data: Path) -> Answer:
    warm_up(data)
    warm_up_sealing(data)
    return Answer(**json.loads((data / "refold-more" / "answer.json").read_text()))


def _incremental_program(json_landing: bool) -> Program:
    return Program(
        _incremental(json_landing),
        _start_incremental,
        prepare=_prepare_incremental,
        answer=lambda found: adapter.answer(found[0]),
        details=lambda found: found[1],
        expected=lambda started: started,
    )


INCREMENTAL, INCREMENTAL_JSON = _incremental_program(False), _incremental_program(True)


# Sealing gzip JSON Lines.


def _prepare_seal(data: Path) -> None:
    shutil.rmtree(data / "refold-sealed", ignore_errors=True)


def _seal(data: Path, started: None) -> int:
    engine = adapter.open_engine(data / "refold-sealed" / "store", data / "landing", json=True)
    events = adapter.seal(engine).events_through
    about = read_about(data) or {}
    assert events == about["events"], f"sealed {events} of {about['events']} events"
    return events


def _no_answer(found: object) -> None:
    return None


SEAL = Program(_seal, warm_up_sealing, prepare=_prepare_seal, answer=_no_answer)


# Publishing a state of as many rows as the log has events.


def prepare_publish(data: Path) -> None:
    """Seal, build and prove, write what is published as `rows.parquet`, and remove the database of the last round."""
    little(data)
    engine = _engine(sealed(data, 1))
    if not adapter.is_built(engine):
        adapter.rebuild(engine)
        adapter.verify(engine)
    if not (data / "rows.parquet").exists():
        pq.write_table(adapter.published_rows(engine), data / "rows.parquet")
    for file in data.glob("refold-1/published.db*"):
        file.unlink()


def _start_publish(database: Callable[[Path], str]) -> Callable[[Path], Engine]:
    def start(data: Path) -> Engine:
        warm_up(data)
        return _engine(data / "refold-1", database=database(data))

    return start


def _start_load(database: Callable[[Path], str]) -> Callable[[Path], tuple[Engine, object]]:
    def start(data: Path) -> tuple[Engine, object]:
        engine = _start_publish(database)(data)
        return engine, adapter.content(engine)

    return start


def _sqlite(data: Path) -> str:
    return f"sqlite:///{data / 'refold-1' / 'published.db'}"


def _publish_program(database: Callable[[Path], str]) -> Program:
    return Program(
        lambda data, engine: adapter.publish(engine),
        _start_publish(database),
        prepare=prepare_publish,
        answer=_no_answer,
    )


def _load_program(database: Callable[[Path], str]) -> Program:
    return Program(
        lambda data, started: adapter.load(*started),
        _start_load(database),
        prepare=prepare_publish,
        answer=_no_answer,
    )


PUBLISH_SQLITE, PUBLISH_POSTGRES = _publish_program(_sqlite), _publish_program(empty_postgres)
LOAD_SQLITE, LOAD_POSTGRES = _load_program(_sqlite), _load_program(empty_postgres)


# Start-up: whole processes.


def _process(*arguments: str) -> Program:
    def work(data: Path, started: None) -> None:
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    return Program(work, answer=_no_answer)


HELP = _process("-c", "from refold.cli.main import cli; cli(['--help'])")
DEFINITIONS = _process("-W", "ignore", "-c", "import dagster_project.definitions")


# A history of many small snapshots, with Dagster and without.


def _prepare_history(data: Path) -> None:
    from examples.shop_landing import write  # noqa: PLC0415  # only here

    if not (data / "landing").is_dir():
        write(data / "landing", days=HISTORY_DAYS)
    for name in ("plain", "dagster"):
        shutil.rmtree(data / name, ignore_errors=True)


def _plain_history(data: Path, started: None) -> int:
    from benchmarks.definitions import PROJECT  # noqa: PLC0415  # seconds, which only a history need take

    return adapter.whole_history(PROJECT, data / "plain", data / "landing")


def _start_dagster(data: Path) -> Callable[[], int]:
    places = {"REFOLD_LANDING": "landing", "REFOLD_STORE": "dagster/store", "DAGSTER_HOME": "dagster/home"}
    os.environ |= {name: str(data / place) for name, place in places.items()}
    os.environ["REFOLD_DATABASE"] = f"sqlite:///{data / 'dagster' / 'refold.db'}"
    os.chdir(ROOT)
    import benchmarks.definitions  # noqa: F401, PLC0415  # loading it is start-up
    from refold.dagster.rebuild import main  # noqa: PLC0415  # brings Dagster

    return lambda: main(["--definitions", "benchmarks.definitions"])


def _dagster_history(data: Path, started: Callable[[], int]) -> int:
    code = started()
    assert code == 0, f"the job ended with {code}"
    return HISTORY_DAYS


def _start_plain(data: Path) -> None:
    import benchmarks.definitions  # noqa: F401, PLC0415  # the same start-up as with Dagster


HISTORY = Program(_plain_history, _start_plain, prepare=_prepare_history, answer=_no_answer)
HISTORY_DAGSTER = Program(
    _dagster_history,
    _start_dagster,
    prepare=_prepare_history,
    answer=_no_answer,
    details=lambda found: {"snapshots_and_stores": found * _HISTORY_STORES},
)
