"""How the C library manages the large buffers that bodies pass through.

Rule of this file: it tunes, and works without: another C library than glibc has other ways, and is left alone.

glibc gives each buffer above a limit pages of its own, and gives them back to the kernel when the buffer is freed, as
it does with what is free at the top of its heap. For a proxy that reads, joins and frees a few hundred kilobytes at a
time, the kernel then clears the same pages over and over again: a third of all CPU time of large bodies (measured:
`doc/performance.md`).
"""

from __future__ import annotations

import ctypes
from typing import Final

# <malloc.h>
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

#: Buffers up to that come from the heap. What a connection reads or writes at once is smaller.
HEAP_MAX: Final = 8 * 1024 * 1024
#: Free memory at the top of the heap that is kept.
KEPT: Final = 16 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Keep what is freed for the next buffer.

    :returns: whether the C library can be told
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, HEAP_MAX)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT))
