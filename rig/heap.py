"""How this process keeps its memory, where malloc is glibc's; elsewhere nothing is changed."""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
KEPT_BYTES = 256 << 20


def use_one_heap() -> None:
    """Have all threads share one heap.

    Each would have its own, and as threads take turns all of them fill: some MB an hour with nothing to show for it.
    """
    _set(M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Have freed memory wait for the pictures to come.

    Dask has its workers give back all that is freed (MALLOC_TRIM_THRESHOLD_). Each picture then lies in pages that the
    kernel must clear first: 40 % more processor time.
    """
    _set(M_MMAP_THRESHOLD, KEPT_BYTES)
    _set(M_TRIM_THRESHOLD, KEPT_BYTES)


def _set(parameter: int, value: int) -> None:
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        ctypes.CDLL(None).mallopt(parameter, value)
