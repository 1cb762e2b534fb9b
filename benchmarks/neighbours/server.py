"""Serves a driver as a Docker graph-driver plugin, a process for each home: ``python -m ... MODULE:CLASS``.

Each line of standard input is the path of a socket; a child that has everything imported already serves the driver
on it, and its process id is a line of standard output once it listens. The tests of others open many homes.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

from refdriver.plugin import PluginServer


def main() -> None:
    """Until standard input ends."""
    module, _, name = sys.argv[1].partition(":")
    driver = getattr(importlib.import_module(module), name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            server = PluginServer(line.rstrip("\n"), driver)
            print(os.getpid(), flush=True)
            server.run()
            os._exit(0)


if __name__ == "__main__":
    main()
