"""Standard descriptors that the caller closed.

A process may be started with descriptor 0, 1 or 2 closed (``refdriver diff b >&-``). The next file that it opens
then gets that number, and what is meant for standard output goes into it, such as an archive into the lock file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from typing import Final

# Standard input opened for writing and standard output opened for reading answer EBADF, as if they were closed, so
# that an answer that nobody gets is an error. Messages on standard error are lost, as the caller asked for.
_FLAGS: Final = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)


def open_standard_descriptors() -> None:
    """Open /dev/null on those of the descriptors 0 to 2 that are closed; raises OSError."""
    for number, flags in enumerate(_FLAGS):
        if not _is_open(number):
            opened = os.open(os.devnull, flags)  # the lowest number that is free, and those below are in use
            os.set_inheritable(opened, True)
    # Python gives a closed descriptor no stream, and printing to none is no error.
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def can_read(number: int) -> bool:
    """Whether a descriptor is open for reading."""
    return _is_open(number) and _access_mode(number) != os.O_WRONLY


def can_write(number: int) -> bool:
    """Whether a descriptor is open for writing."""
    return _is_open(number) and _access_mode(number) != os.O_RDONLY


def _access_mode(number: int) -> int:
    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True
