"""How much memory work may take for what it can also keep on disk or read again. It never changes a result."""

from __future__ import annotations

import os


def limit_bytes(memory_limit_mb: int | None) -> int:
    """A limit in bytes; None is half of this machine's memory.

    >>> limit_bytes(256)
    268435456
    """
    if memory_limit_mb is not None:
        return memory_limit_mb << 20
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
