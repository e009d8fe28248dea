"""Runs a tier that does not outlive the process that started it.

    python -m services.stack.child MODULE

Standard input is a pipe that the parent holds open and never writes to. The
kernel closes it however the parent ends, by `kill -9` too; this process then
ends itself as if by SIGTERM. Unlike PR_SET_PDEATHSIG this works on every Unix
and does not mistake the end of a thread of the parent for the parent's.
"""

import os
import runpy
import signal
import sys
import threading
import time

# Longer than a server's drain by default takes.
DRAIN_SECONDS = 30.0


def follow_parent() -> None:
    """Waits for the parent's end, then asks this process to stop, then makes it."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_SECONDS)
    os._exit(1)


def main() -> None:
    module = sys.argv[1]
    threading.Thread(target=follow_parent, name="follow-parent", daemon=True).start()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
