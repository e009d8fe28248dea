"""Gives heap that was freed back to the system."""

import ctypes


def trim_heap() -> None:
    """glibc keeps what was freed between what is still held, such as the 2 MB of each of
    tantivy's writers.

    Does nothing where the C library has no malloc_trim.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
