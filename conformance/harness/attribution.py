"""Whose fault an error in a test is: the driver's is a deviation (FAIL), the harness's own stays an error (ERROR).

What lies below the directory of a store is written by the driver under test. A test that reads or changes a file
there and does not find it, or finds something else in its place, has found a deviation. What the machine is short
of (space, descriptors, memory) says nothing about the driver.
"""

from __future__ import annotations

import errno
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.harness.deviation import Deviation
from conformance.history.findings import BadLayout

# What a test reads in a store and cannot parse: archives of diffs, and text in the driver's own files.
UNREADABLE: Final = (UnicodeDecodeError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
OF_THE_MACHINE: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


@contextmanager
def of_the_driver(directory: Path) -> Iterator[None]:
    """An OSError about a path below the directory of a store becomes a Deviation, which names path and error.

    So do bytes that are no archive and no text: the tests of a store parse nothing but what its driver wrote.
    """
    try:
        yield
    except OSError as error:
        path = path_below(error, directory)
        if path is None or error.errno in OF_THE_MACHINE:
            raise
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        raise Deviation(
            f"the driver's file {path} cannot be used as a test does it: expected it to be there, and got {name}"
            f" ({error.strerror})",
            BadLayout(),
        ) from error
    except UNREADABLE as error:
        raise Deviation(f"what the driver wrote cannot be read: {type(error).__name__}: {error}") from error


def path_below(error: OSError, directory: Path) -> str | None:
    """The path that an error is about, relative to a directory above it; None for any other."""
    for name in (error.filename, error.filename2):
        if isinstance(name, (str, bytes)):
            path = os.path.normpath(os.fsdecode(name))
            if path.startswith(f"{directory}/"):
                return os.path.relpath(path, directory)
    return None
