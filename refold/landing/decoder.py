"""The interface of decoders of landing objects: bytes in, rows and bad records out, nothing lost.

A decoder knows one file format and the declared columns; it knows neither storage nor logs. `refold.landing.jsonl` and
`refold.landing.debezium` are decoders; another format implements `Decoder` and is named in a log's declaration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.types import Schema


@dataclass(frozen=True)
class BadRecord:
    """One record that cannot be an event: its number (from 1), a stable reason, a sentence, and its raw bytes.

    The decoder numbers the records of an object, by lines or otherwise; its `unit` is the word for one.
    """

    number: int
    reason: str
    detail: str
    raw: bytes


@dataclass(frozen=True)
class Decoded:
    """The content of one landing object.

    Attributes:
        rows: one row per good record, in the order of the object, with exactly the declared columns and types.
        lines: the number (from 1) that the decoder gives the record of each row; int64, shape (rows,). A record that
            moves a row to another key is two rows of one number.
        bad: the records that cannot be events, by ascending number.
        control: records that the format uses for itself and that are no events (heartbeats and the like).
        plain_bytes: the size of the object before compression; 0 where the decoder does not say.
    """

    rows: pa.Table
    lines: npt.NDArray[np.int64]
    bad: Sequence[BadRecord]
    control: int = 0
    plain_bytes: int = 0

    @property
    def read(self) -> int:
        """All records that the object held: events, bad records and control records; one that is two events is two."""
        return len(self.rows) + len(self.bad) + self.control


class Decoder(Protocol):
    """One landing format."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The file name endings this decoder takes, such as `.jsonl.gz`; a retry is written under the first."""
        ...

    @property
    def unit(self) -> str:
        """What the decoder counts in an object, such as `line`; error messages put it before the number."""
        ...

    def encode(self, raws: Sequence[bytes]) -> bytes:
        """The object, under the first suffix, that holds the raw bytes of some bad records, in order."""
        ...

    def decode(self, name: str, data: bytes, columns: Schema, key: Sequence[str] = ()) -> Decoded:
        """Decode one object into rows of exactly the declared columns.

        Args:
            name: the object's name, for errors and compression.
            data: its bytes.
            columns: the declared columns.
            key: those of the log's key, for formats in which one record can change the rows of two keys.

        Raises:
            UnreadableObject: the object as a whole cannot be read, such as a truncated gzip.
        """
        ...
