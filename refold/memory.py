"""How much memory work may take for what it can also keep on disk or read again, and where it comes from.

Neither changes a result.
"""

from __future__ import annotations

import os

import pyarrow as pa


def limit_bytes(memory_limit_mb: int | None) -> int:
    """A limit in bytes; None is half of this machine's memory.

    >>> limit_bytes(256)
    268435456
    """
    if memory_limit_mb is not None:
        return memory_limit_mb << 20
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def share_allocator() -> None:
    """Let Arrow take memory from where all others take it, unless ARROW_DEFAULT_MEMORY_POOL says otherwise.

    An allocator of its own gives the buffers of each segment back to the system and gets new pages, which must be
    cleared, for the next one: verification of ten million events then takes a fifth longer and a tenth more memory.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
