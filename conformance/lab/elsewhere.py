"""Calls from another working directory, without a change of that of the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from conformance.lab import libc


def in_directory(directory: str, call: Callable[[], None]) -> None:
    """Call in a thread that has a working directory of its own (unshare(2), CLONE_FS); raises OSError.

    A child process would do as well, but the threads of gRPC make a fork of this one unsafe.
    """
    errors: list[OSError] = []

    def run() -> None:
        try:
            libc.unshare(libc.CLONE_FS)
            os.chdir(directory)
            call()
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
