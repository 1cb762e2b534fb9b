"""Serves a driver as a Docker graph-driver plugin, a process for each home: ``python -m ... MODULE:CLASS``.

Each line of standard input is the path of a socket; a child that has everything imported already serves the driver
on it, and its process id is a line of standard output once it listens. The tests of others open many homes.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import tempfile
from typing import IO, Any

from refdriver.plugin import PluginServer


class _WithFiles:
    """A driver that is given archives as files, as the suite itself gives them: some mutants read one twice."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """From a file that is gone afterwards."""
        with tempfile.TemporaryFile() as file:
            shutil.copyfileobj(archive, file)
            file.seek(0)
            return int(self._inner.apply_diff(layer_id, parent, file))


def main() -> None:
    """Until standard input ends."""
    module, _, name = sys.argv[1].partition(":")
    driver = getattr(importlib.import_module(module), name)

    def with_files(home: str, **asked: Any) -> Any:
        return _WithFiles(driver(home, **asked))

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            server = PluginServer(line.rstrip("\n"), with_files)
            print(os.getpid(), flush=True)
            server.run()
            os._exit(0)


if __name__ == "__main__":
    main()
