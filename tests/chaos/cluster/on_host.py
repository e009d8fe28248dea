"""Runs a module as on a host of its own: in the network namespace that the environment names."""

import ctypes
import os
import runpy
import sys

NAMESPACE, MODULE = "CHAOS_NAMESPACE", "CHAOS_MODULE"
_CLONE_NEWNET = 0x40000000


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(os.environ[NAMESPACE]) as namespace:  # noqa: PTH123 - no file to read
        # Of this thread, and of all that it starts; os.setns comes with Python 3.12.
        if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    module = os.environ[MODULE]
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
