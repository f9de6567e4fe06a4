"""The interface of decoders of landing objects: bytes in, rows and bad records out, nothing lost.

A decoder knows one file format and the declared columns; it knows neither storage nor logs. `refold.landing.jsonl` and
`refold.landing.debezium` are decoders; another format implements `Decoder` and is named in a log's declaration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds
from refold.types import Schema, arrow_schema


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
    """The content of one landing object, or of a piece of it.

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

    def after(self, records: int) -> Decoded:
        """The same content where so many records come before it."""
        bad = [replace(record, number=record.number + records) for record in self.bad] if records else self.bad
        return replace(self, lines=self.lines + records, bad=bad)


def joined(columns: Schema, pieces: Iterable[Decoded]) -> Decoded:
    """The content of an object from that of its pieces, in order; perhaps none."""
    found = list(pieces)
    return Decoded(
        pa.concat_tables([arrow_schema(columns).empty_table(), *(piece.rows for piece in found)]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(piece.lines for piece in found)]),
        [record for piece in found for record in piece.bad],
        sum(piece.control for piece in found),
        sum(piece.plain_bytes for piece in found),
    )


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


class ByPieces(ABC):
    """What decoders that decode piece by piece have in common: an object at once is all its pieces."""

    def decode(self, name: str, data: bytes, columns: Schema, key: Sequence[str] = ()) -> Decoded:
        """Decode one object; see `Decoder`.

        Raises:
            UnreadableObject: the object is damaged, larger than the default bounds, or does not fit the columns.
            DeclarationError: a column that no landing, or not this format, may hold.
        """
        return joined(columns, self.pieces(name, [data], columns, key))

    @abstractmethod
    def pieces(
        self,
        name: str,
        data: Iterable[bytes],
        columns: Schema,
        key: Sequence[str] = (),
        bounds: LandingBounds = DEFAULT_BOUNDS,
    ) -> Iterator[Decoded]:
        """Decode one object piece by piece; see `PieceDecoder`."""


@runtime_checkable
class PieceDecoder(Decoder, Protocol):
    """A landing format that is decoded piece by piece, so that memory does not depend on the size of an object."""

    def pieces(
        self, name: str, data: Iterable[bytes], columns: Schema, key: Sequence[str], bounds: LandingBounds
    ) -> Iterator[Decoded]:
        """Decode one object as `decode` does, into pieces whose `joined` content is that of `decode`.

        Args:
            name, columns, key: as of `decode`.
            data: the bytes of the object, in pieces of any size.
            bounds: limits the object and its records.

        Raises:
            UnreadableObject: as `decode`, or a bound is passed. It may be raised after some pieces.
        """
        ...
