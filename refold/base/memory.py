"""How much memory work may take for what it can also keep on disk or read again, and where it comes from.

Neither changes a result.
"""

from __future__ import annotations

import ctypes
import os
import sys

import pyarrow as pa

_M_ARENA_MAX = -8
_ARENAS = 2


def limit_bytes(memory_limit_mb: int | None) -> int:
    """A limit in bytes; None is half of this machine's memory.

    >>> limit_bytes(256)
    268435456
    """
    if memory_limit_mb is not None:
        return memory_limit_mb << 20
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def share_allocator() -> None:
    """Let Arrow and all threads take memory from the same place, unless the environment says otherwise.

    An allocator of Arrow's own gives the buffers of each segment back to the system and gets new pages, which must be
    cleared, for the next one: verification of ten million events then takes a fifth longer and a tenth more memory. And
    the C library of Linux keeps what each of many threads freed for that thread alone, unless it may only have a few
    such places (`mallopt`, `M_ARENA_MAX`).
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux" and not {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"} & os.environ.keys():
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)
