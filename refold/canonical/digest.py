"""The digest of a table: a hash tree over fixed buckets of the key's hash.

Version 1, frozen:

- Every row falls into one of 4,096 buckets by the top 12 bits of the hash of its key, encoded as a row of its own.
- A leaf is the sha256 of its rows' canonical bytes, sorted as bytes and joined with nothing between; the leaf of a
  bucket without rows is 32 zero bytes.
- A node is the sha256 of the 16 nodes below it, joined in order; three levels lead from 4,096 leaves to one top.
- The digest is the sha256 of `refold table 1\\n`, the schema's text, `\\n`, and the top; the schema's text is one line
  `name type` per column (`refold.types.describe`), without a last line break.

An update costs in proportion to the buckets that changed, and two trees show in which buckets they differ. Bytes and
hashes are those of `refold.canonical.encoding`; golden vectors are in `tests/canonical/test_digest.py`. This module
knows nothing of logs, stores or storage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.encoding import Hashes, encode_rows

BUCKETS = 4096
_FAN_OUT = 16
_EMPTY = bytes(32)

Buckets = npt.NDArray[np.uint16]


def bucket_of(keys: Sequence[pa.Array | pa.ChunkedArray]) -> Buckets:
    """The bucket of each row, from its key columns; shape (rows,), values below 4,096."""
    return buckets_of(encode_rows(keys).hashes())


def buckets_of(hashes: Hashes) -> Buckets:
    """The bucket of each row, from the hash of its key."""
    return (hashes >> np.uint64(52)).astype(np.uint16)


class DigestTree:
    """The leaves of one table's digest, kept so that a change costs only its buckets.

    `schema` is the text of the columns (`refold.types.describe`). It enters the digest, so the same bytes under other
    column names or types have another digest.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.leaves = [_EMPTY] * BUCKETS
        self._nodes = _empty_nodes()
        self._stale = set[int]()

    @classmethod
    def of(cls, schema: str, table: pa.Table, key: Sequence[str]) -> DigestTree:
        """The tree of a whole table. The order of its rows does not matter; repeated rows count."""
        tree = cls(schema)
        buckets = bucket_of([table[name] for name in key])
        tree.update(table, buckets, np.unique(buckets))
        return tree

    def update(self, table: pa.Table, buckets: Buckets, touched: npt.NDArray[np.uint16]) -> None:
        """Recompute the `touched` buckets from `table`, whose rows are in `buckets`."""
        halves = np.array_split(touched, 2)
        found = each(lambda half: _leaves(table, buckets, half), halves, [len(table)] * len(halves))
        for half, leaves in zip(halves, found, strict=True):
            for bucket, leaf in zip(half.tolist(), leaves, strict=True):
                self.leaves[bucket] = leaf
        self._stale.update((touched // _FAN_OUT).tolist())

    def digest(self) -> str:
        """The root, as 64 hexadecimal digits."""
        below, stale = self.leaves, self._stale
        for level in self._nodes:  # only the nodes above leaves that were updated
            for node in stale:
                level[node] = hashlib.sha256(b"".join(below[node * _FAN_OUT : (node + 1) * _FAN_OUT])).digest()
            below, stale = level, {node // _FAN_OUT for node in stale}
        self._stale = set()
        return hashlib.sha256(b"refold table 1\n" + self.schema.encode() + b"\n" + below[0]).hexdigest()

    def differing(self, other: DigestTree) -> list[int]:
        """The buckets in which two tables differ, ascending."""
        return [i for i, (a, b) in enumerate(zip(self.leaves, other.leaves, strict=True)) if a != b]


def _empty_nodes() -> list[list[bytes]]:
    """The nodes above leaves without rows, level by level, the top last."""
    nodes, node, count = list[list[bytes]](), _EMPTY, BUCKETS
    while count > 1:
        count, node = count // _FAN_OUT, hashlib.sha256(node * _FAN_OUT).digest()
        nodes.append([node] * count)
    return nodes


def _leaves(table: pa.Table, buckets: Buckets, wanted: npt.NDArray[np.uint16]) -> list[bytes]:
    """The leaves of some buckets, in their order."""
    flags = np.zeros(BUCKETS, dtype=np.bool_)
    flags[wanted] = True
    rows = np.flatnonzero(flags[buckets])
    part = table.take(pa.array(rows)) if len(rows) < len(table) else table
    joined = encode_rows(part.columns, len(part)).joined_by(buckets[rows], BUCKETS)
    bounds, content = joined.offsets.tolist(), joined.data.data
    ranges = ((bounds[bucket], bounds[bucket + 1]) for bucket in wanted.tolist())
    return [hashlib.sha256(content[start:end]).digest() if end > start else _EMPTY for start, end in ranges]


def table_digest(schema: str, table: pa.Table, key: Sequence[str]) -> str:
    """The digest of a table's content, whatever the order of its rows.

    >>> a = pa.table({"k": ["x", "y"], "n": [1, 2]})
    >>> table_digest("k text\\nn int64", a, ["k"]) == table_digest("k text\\nn int64", a.take([1, 0]), ["k"])
    True
    """
    return DigestTree.of(schema, table, key).digest()
