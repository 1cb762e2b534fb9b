"""Archives to and from files and pipes, with progress for whoever watches."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Protocol

import click

from refdriver.archive.source import Readable
from refdriver.archive.stream import Chunks
from refdriver.cli.descriptors import can_read, can_write
from refdriver.cli.sending import write_out

_BLOCK = 1 << 20  # bytes between two looks at the clock
_PATIENCE = 1.0  # seconds before a transfer is long enough to be watched


class Archive(Protocol):
    """The part of ArchiveStream that is needed here."""

    def chunks(self) -> Chunks:
        """All chunks."""

    def read(self, size: int, /) -> bytes | None:
        """Up to ``size`` bytes, empty at the end."""


@contextmanager
def output(target: str) -> Iterator[int]:
    """A descriptor for standard output (``-``), or for a file that appears only when it is whole.

    Raises UsageError for a terminal, which an archive would garble, and for a closed standard output, and OSError.
    """
    if target == "-":
        if not can_write(1):
            raise click.UsageError("standard output is closed or read-only; give -o FILE or a pipe")
        if os.isatty(1):
            raise click.UsageError(
                "the archive is binary and standard output is a terminal; give -o FILE or a pipe"
            )
        yield 1
    elif os.path.exists(target) and not os.path.isfile(target):  # a fifo, or /dev/null: nothing to replace
        with open(target, "wb", buffering=0) as file:
            yield file.fileno()
    else:
        with _whole_file(os.path.realpath(target)) as fd:
            yield fd


@contextmanager
def _whole_file(path: str) -> Iterator[int]:
    """A file without a name until it is whole (O_TMPFILE of open(2)): a kill leaves nothing to be swept."""
    directory, name = os.path.split(path)
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        with _named_file(directory, name) as fd:  # a filesystem without such files, such as NFS
            yield fd
        return
    try:
        yield fd
        _give_name(fd, directory, name)
    finally:
        os.close(fd)


def _give_name(fd: int, directory: str, name: str) -> None:
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):
            _link(fd, name, parent)
            return
        # A link cannot replace a file, a rename can.
        passing = f".{name[:100]}.{os.urandom(8).hex()}"
        _link(fd, passing, parent)
        os.rename(passing, name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        os.close(parent)


def _link(fd: int, name: str, directory: int) -> None:
    # With a directory's descriptor it is linkat(2) with AT_SYMLINK_FOLLOW; link(2) would link the symlink in /proc.
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)


@contextmanager
def _named_file(directory: str, name: str) -> Iterator[int]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix=f".{name[:100]}.", dir=directory) as private:
        # Not by mkstemp, whose mode is 0600 whatever the umask says.
        with open(f"{private}/archive", "xb", buffering=0) as file:
            yield file.fileno()
        os.rename(f"{private}/archive", f"{directory}/{name}")


@contextmanager
def input_file(source: str) -> Iterator[io.FileIO]:
    """Standard input (``-``) or a file, unbuffered, so that the driver may let the kernel move the data.

    Raises UsageError for a terminal and for a closed standard input, and OSError.
    """
    if source == "-" and not can_read(0):
        raise click.UsageError("standard input is closed or write-only; give -i FILE or a pipe")
    if source == "-" and os.isatty(0):
        raise click.UsageError("standard input is a terminal, not an archive; give -i FILE or a pipe")
    with io.FileIO(0 if source == "-" else source, "rb", closefd=source != "-") as file:
        yield file


def send(archive: Archive, fd: int, description: str) -> int:
    """Write an archive to a descriptor; the bytes written."""
    if not sys.stderr.isatty():
        return write_out(archive.chunks(), fd)
    written = 0
    with _progress(description, None) as advance:
        while block := archive.read(_BLOCK):
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
            written += len(block)
            advance(len(block))
    return written


@contextmanager
def watched(file: io.FileIO, description: str) -> Iterator[Readable]:
    """The file itself, or on a terminal a reader of it that shows how far it is."""
    if not sys.stderr.isatty():
        yield file
        return
    status = os.fstat(file.fileno())
    with _progress(description, status.st_size if stat.S_ISREG(status.st_mode) else None) as advance:
        yield _Counted(file, advance)


class _Counted:
    def __init__(self, file: io.FileIO, advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance

    def read(self, size: int, /) -> bytes:
        block = self._file.read(size) or b""
        self._advance(len(block))
        return block


@contextmanager
def _progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A line on standard error that appears once the transfer has taken a second, and goes at its end."""
    # The other verbs need none of this, and a plugin is started for each store.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(description, total=total)
    began = time.monotonic()
    with ExitStack() as shown:

        def advance(count: int) -> None:
            progress.advance(task, count)
            if not progress.live.is_started and time.monotonic() - began > _PATIENCE:
                shown.enter_context(progress)

        yield advance
