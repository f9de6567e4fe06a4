"""The generated log as files: Parquet by log partition, which the peers read, and gzip JSON Lines, which is sealed.

`python -m benchmarks.dataset --events 1000000` writes the one, `--landing` the other, and beside it `about.json` with
the right answer. About 35 MB a million events as Parquet and 40 MB as gzip JSON Lines. Measured: a million
events take 2 seconds of CPU, or 7 as JSON Lines; 1M peaked at 545 MB and 6M at 664 MB, mostly files that wait to be
full. Nothing here uses the engine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.answer import Answer
from benchmarks.generate import Ints, Shape, Stream, batches, day_key

FORMAT = 1
FILE_EVENTS = 250_000
PARTITIONS = 8
LANDING_FILE_EVENTS = 100_000


class _PartitionFiles:
    """Writes events by log partition, in files of about `FILE_EVENTS` events."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self._folder = folder
        self._waiting: list[list[pa.Table]] = [[] for _ in range(partitions)]
        self._ends = [0] * partitions
        self._files = [0] * partitions

    def add(self, partition: int, events: pa.Table) -> None:
        """Take in the next events of a log partition."""
        offsets = np.arange(self._ends[partition], self._ends[partition] + len(events))
        self._ends[partition] += len(events)
        self._waiting[partition].append(events.append_column("log_offset", pa.array(offsets)))
        if sum(map(len, self._waiting[partition])) >= FILE_EVENTS:
            self._write(partition)

    def close(self) -> None:
        """Write what still waits."""
        for partition, waiting in enumerate(self._waiting):
            if waiting:
                self._write(partition)

    def _write(self, partition: int) -> None:
        folder = self._folder / f"partition={partition:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.concat_tables(self._waiting[partition])
        texts = [name for name in table.column_names if name not in ("event_id", "log_offset", "log_seq")]
        path = folder / f"{self._files[partition]:05d}.parquet"
        # Ids do not repeat, so a dictionary of them is only in the way, also for READ.
        pq.write_table(table, path, compression="zstd", use_dictionary=texts, row_group_size=len(table))
        self._waiting[partition], self._files[partition] = [], self._files[partition] + 1


def write_log(shape: Shape, folder: Path, partitions: int = PARTITIONS) -> Answer:
    """Write the Parquet of a log and its answer, unless they are there; the folder is complete or absent."""
    about = {"format": FORMAT, "partitions": partitions, **asdict(shape)}
    found = _found(folder, about)
    if found is not None:
        return found
    draft = _draft(folder)
    stream, files, start = Stream(shape), _PartitionFiles(draft, partitions), 0
    for table in stream:
        where = murmur2_partitions(table["product_id"].chunk(0), partitions)
        events = table.append_column("log_seq", pa.array(np.arange(start, start + len(table))))
        start += len(table)
        for partition in range(partitions):
            mine = events.filter(pa.array(where == partition))
            if len(mine):
                files.add(partition, mine)
    files.close()
    return _finish(draft, folder, about, stream.answer)


def write_landing(shape: Shape, folder: Path, file_events: int = LANDING_FILE_EVENTS) -> Answer:
    """Write a log as gzip JSON Lines, one folder a day and one file a day, unless it is there."""
    about = {"format": FORMAT, "file_events": file_events, **asdict(shape)}
    found = _found(folder, about)
    if found is not None:
        return found
    draft = _draft(folder)
    stream = Stream(shape)
    for number, table in enumerate(batches(stream, file_events)):
        path = draft / "landing" / "stock_events" / f"dt={day_key(number)}" / "part-0000.jsonl.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(json_lines(table), compresslevel=6, mtime=0))
    return _finish(draft, folder, about, stream.answer)


def _found(folder: Path, about: Mapping[str, Any]) -> Answer | None:
    """The answer of a folder that holds just this already."""
    found = read_about(folder)
    same = found is not None and {name: found.get(name) for name in about} == about
    return Answer(**found["answer"]) if found is not None and same else None


def _draft(folder: Path) -> Path:
    """The path to write to before it is renamed to the folder; removes what is at either path."""
    draft = folder.with_name(f"{folder.name}.draft")
    for old in (draft, folder):
        shutil.rmtree(old, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def _finish(draft: Path, folder: Path, about: Mapping[str, Any], answer: Answer) -> Answer:
    (draft / "about.json").write_text(json.dumps({**about, "answer": asdict(answer)}, indent=1) + "\n")
    draft.rename(folder)
    return answer


def read_about(folder: Path) -> dict[str, Any] | None:
    """What `write_log` wrote about a log; None where there is none."""
    file = folder / "about.json"
    found: dict[str, Any] | None = json.loads(file.read_text()) if file.is_file() else None
    return found


def shape_of(folder: Path) -> Shape:
    """The shape of a generated log. Raises FileNotFoundError where there is none."""
    about = read_about(folder)
    if about is None:
        raise FileNotFoundError(f"{folder} holds no generated log: run `python -m benchmarks.dataset` first.")
    return Shape(**{name: about[name] for name in Shape.__dataclass_fields__})


def json_lines(table: pa.Table) -> bytes:
    """The events as JSON Lines, with null where there is none; no text needs escaping."""
    parts: list[pa.Array] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        texts = column.combine_chunks()
        quoted = not pa.types.is_integer(texts.type)
        if pa.types.is_timestamp(texts.type):
            naive = texts.cast(pa.int64()).cast(pa.timestamp("us")).cast(pa.string())
            texts = pc.binary_join_element_wise(pc.replace_substring(naive, " ", "T"), "Z", "")
        texts = texts.cast(pa.string())
        value = pc.binary_join_element_wise('"', texts, '"', "") if quoted else texts
        parts += [f'"{name}":', pc.fill_null(value, "null"), ","]
    lines = pc.binary_join_element_wise("{", *parts[:-1], "}\n", "")
    return b"".join(line.encode() for line in lines.to_pylist())


def murmur2_partitions(keys: pa.Array, partitions: int) -> Ints:
    """The log partition of each key by Kafka's default partitioner, written again so that nothing here is Refold's."""
    codes = keys.dictionary_encode()
    texts = [key.encode() for key in codes.dictionary.to_pylist()]
    return np.array([_murmur2(text) % partitions for text in texts], dtype=np.int64)[codes.indices.to_numpy()]


def _murmur2(data: bytes) -> int:
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF


def main() -> None:
    """Write one log."""
    parser = argparse.ArgumentParser(prog="benchmarks.dataset", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: .refold/benchmarks/log-EVENTS-SEED")
    parser.add_argument("--landing", action="store_true", help="write gzip JSON Lines in landing folders instead")
    given = parser.parse_args()
    kind = "landing" if given.landing else "log"
    folder = given.to or Path(".refold", "benchmarks", f"{kind}-{given.events}-{given.seed}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    write = write_landing if given.landing else write_log
    write(Shape(given.events, given.seed), folder)


if __name__ == "__main__":
    main()
