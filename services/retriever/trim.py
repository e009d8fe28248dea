"""Keeps the heap small: little is held beyond what is used."""

import ctypes
import os

# Of <malloc.h>.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGE_BYTES = 2**20
_ARENAS = 2


def bound_heap() -> None:
    """Called before there are threads.

    glibc gives every thread an arena of its own, up to eight a core, and each keeps what was
    freed below what is still held. What is large is mapped alone, whatever was freed before, so
    that it goes back at once. Who sets glibc's own variables is left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    if "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, _ARENAS)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def trim_heap() -> None:
    """glibc keeps what was freed between what is still held, such as the 2 MB of each of
    tantivy's writers.

    Does nothing where the C library has no malloc_trim.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
