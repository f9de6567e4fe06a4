"""How much memory work may use for what it could also keep on disk or read again, and which allocator provides it.

Neither changes a result.
"""

from __future__ import annotations

import ctypes
import os
import sys

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_RETURNED_BYTES = 1 << 18
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_ARENAS = 2


def limit_bytes(memory_limit_mb: int | None) -> int:
    """A limit in bytes; None means half of this machine's memory.

    >>> limit_bytes(256)
    268435456
    """
    if memory_limit_mb is not None:
        return memory_limit_mb << 20
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def share_allocator() -> None:
    """Make Arrow and all threads share one allocator, unless the environment sets another.

    Arrow's own allocator returns the buffers of each segment to the system and then gets new pages, which must be
    cleared, for the next one: verifying ten million events takes a fifth longer and a tenth more memory. The C library
    of Linux keeps freed memory for the thread that freed it, unless the number of its arenas is limited (`mallopt`,
    `M_ARENA_MAX`).
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
    if _LIBC is not None and not {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"} & os.environ.keys():
        mallopt = getattr(_LIBC, "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)


def return_freed_memory() -> None:
    """Make the C library of Linux return large buffers to the system when they are freed, for the whole process.

    For a process whose memory is limited: sealing two million events takes 40 MB less and a tenth more time. By default
    the library learns from each freed buffer to keep larger ones, up to 32 MB.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None and not {"MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        mallopt(_M_MMAP_THRESHOLD, _RETURNED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 4 * _RETURNED_BYTES)


def release_memory() -> None:
    """Return freed memory to the system, where the C library of Linux would keep it.

    After work on many events it keeps a few hundred megabytes; to return and get them again costs about a percent.
    """
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
