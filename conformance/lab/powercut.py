"""Power cuts: a filesystem whose disk loses what was not made safe, at any moment that its log knows.

Two ways. *Recorded*: everything that the disk is told goes into a log as well (device-mapper target log-writes),
and afterwards the disk is restored as it was at any moment of the log. *Cut*: from a moment on, whatever is
written is lost, or refused with EIO (target flakey). Either way the filesystem is mounted again from what is left,
and its journal recovers it, as after a cut.

A disk may keep writes that it was not yet told to make safe, in any order; a *torn* moment has some of them.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.lab import namespace
from conformance.lab.backing import Backing, NoBacking
from conformance.lab.devices import Mapped, loop_device
from conformance.lab.writelog import Entry, between_marks, read_log

_SIZE: Final = 448 << 20  # bytes of a disk, sparse; xfs wants 300 MB
_LOG_SIZE: Final = 2 << 30  # sparse as well
_BTRFS_IOC_START_SYNC: Final = 0x80089418  # linux/btrfs.h, linux/f2fs.h
_BTRFS_IOC_WAIT_SYNC: Final = 0x40089416
_F2FS_IOC_WRITE_CHECKPOINT: Final = 0xF507
_PAUSE: Final = 0.02  # seconds between two commits of somebody else
LOSING: Final = "drop_writes"
REFUSING: Final = "error_writes"


@dataclass(frozen=True, slots=True)
class Moment:
    """A power cut: after so many entries of the log; ``torn`` if some of those that follow were kept too."""

    entries: int
    torn: bool = False

    def __str__(self) -> str:
        return f"after write {self.entries} of the disk" + (" and some of those behind it" if self.torn else "")


class Disk:
    """A disk in a file below ``files``, with a filesystem of a kind; it is mounted on ``target``."""

    def __init__(self, kind: Backing, files: Path, target: Path) -> None:
        self._kind = kind
        self._files = files
        self._target = target
        self._device: Mapped | None = None
        self._data = ""
        self._entries: list[Entry] = []
        self.image = files / "disk"
        target.mkdir(exist_ok=True)

    def format(self) -> None:
        """Make the filesystem."""
        with self.image.open("wb") as file:
            file.truncate(_SIZE)
        _run(*self._kind.make, str(self.image))
        _run("fallocate", "--dig-holes", str(self.image))

    @property
    def target(self) -> Path:
        """Where it is mounted."""
        return self._target

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Mounted, with all writes in the log; unmounted at the end. The image is then as it was before."""
        kept = self._files / "before"
        _copy(self.image, kept)
        with self._log.open("wb") as file:
            file.truncate(_LOG_SIZE)
        with self._mapped("log-writes {data} {log}"):
            yield
        kept.rename(self.image)
        self._entries = self._read()

    @contextmanager
    def powered(self) -> Iterator[None]:
        """Mounted, until :meth:`cut` or the end; unmounted then, and the image is what the disk kept."""
        with self._mapped("linear {data} 0"):
            yield

    def cut(self, how: str = LOSING) -> None:
        """From now on nothing is written: LOSING says that it was, REFUSING gives EIO."""
        assert self._device is not None, "the disk is powered"
        self._device.become(f"flakey {self._data} 0 0 3600 1 {how}")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """With somebody beside who goes on committing, and once more at the end."""
        over = threading.Event()

        def commit_on() -> None:
            while not over.wait(_PAUSE):
                self.commit()

        beside = threading.Thread(target=commit_on)
        beside.start()
        try:
            yield
        finally:
            over.set()
            beside.join()
        self.commit()

    def commit(self) -> None:
        """What filesystems do every few seconds, or when somebody syncs a file: names are made safe, and no data.

        Another's fsync commits the journal of ext4 and xfs; btrfs and f2fs are told to.
        """
        fd = os.open(self._target / "another", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"x")
            os.fsync(fd)
            if self._kind.fstype == "btrfs":
                transaction = fcntl.ioctl(fd, _BTRFS_IOC_START_SYNC, bytes(8))
                fcntl.ioctl(fd, _BTRFS_IOC_WAIT_SYNC, transaction)
            elif self._kind.fstype == "f2fs":
                fcntl.ioctl(fd, _F2FS_IOC_WRITE_CHECKPOINT)
        finally:
            os.close(fd)

    def mark(self, name: str) -> None:
        """A mark in the log."""
        assert self._device is not None, "the disk is being recorded"
        self._device.tell("mark", name)

    @contextmanager
    def mounted(self, image: Path | None = None) -> Iterator[None]:
        """Mounted from a file as any other, after what a power cut left is recovered."""
        if self._kind.fstype == "btrfs":
            # It remembers disks by their id and takes no older state of one that it knows.
            _run("btrfs", "device", "scan", "--forget")
        self._mount(str(image or self.image), "loop")
        try:
            yield
        finally:
            namespace.unmount_below(self._target.parent)

    def moments(self, first: str, last: str, at_most: int) -> list[Moment]:
        """Cuts between two marks, evenly chosen, the first and the last with them: whole ones and torn ones."""
        entries = self._entries
        between = between_marks(entries, first, last)
        kept = [index + 1 for index in between if entries[index].keeps or entries[index].mark]
        chosen = _evenly(kept, at_most)
        torn = [one for one in chosen[:-1] if any(entry.writes for entry in _behind(entries, one))]
        found = [Moment(one) for one in chosen] + [Moment(one, torn=True) for one in torn[: at_most // 2]]
        return sorted(found, key=lambda one: (one.entries, one.torn))

    def begun_at(self, moment: Moment) -> set[str]:
        """The marks that were set before a moment."""
        return {entry.mark for entry in self._entries[: moment.entries] if entry.mark}

    def states(self, moments: Sequence[Moment]) -> Iterator[tuple[Moment, Path]]:
        """The disk as it was at each of these moments, in a file that may be changed; in the order of the log."""
        entries = self._entries
        now, shown = self._files / "now", self._files / "shown"
        _copy(self.image, now)
        done = 0
        with self._log.open("rb") as log:
            for moment in moments:
                _write(log.fileno(), now, entries[done : moment.entries])
                done = moment.entries
                _copy(now, shown)
                if moment.torn:
                    chance = random.Random(moment.entries)
                    some = [one for one in _behind(entries, done) if chance.random() < 0.5]
                    _write(log.fileno(), shown, some)
                yield moment, shown

    @property
    def _log(self) -> Path:
        return self._files / "log"

    def _read(self) -> list[Entry]:
        with self._log.open("rb") as log:
            return list(read_log(log))

    @contextmanager
    def _mapped(self, words: str) -> Iterator[None]:
        self._log.touch()
        with loop_device(self.image) as data, loop_device(self._log) as log:
            self._data = data
            self._device = Mapped(_SIZE, words.format(data=data, log=log))
        try:
            self._mount(self._device.path)
            yield
        finally:
            namespace.unmount_below(self._target.parent)
            self._device.remove()
            self._device = None

    def _mount(self, what: str, *options: str) -> None:
        words = ",".join([*options, *filter(None, [self._kind.options])])
        _run("mount", "-t", self._kind.fstype, *(("-o", words) if words else ()), what, str(self._target))


@contextmanager
def disk(kind: Backing, files: Path, directory: Path) -> Iterator[Disk]:
    """A disk of its own, gone afterwards; its files are below ``files``, and it is mounted in ``directory``."""
    files.mkdir()
    try:
        made = Disk(kind, files, directory / "disk")
        made.format()
        yield made
    finally:
        namespace.unmount_below(directory)
        shutil.rmtree(files)


def _evenly(found: Sequence[int], at_most: int) -> list[int]:
    if len(found) <= at_most:
        return list(found)
    return [found[round(number * (len(found) - 1) / (at_most - 1))] for number in range(at_most)]


def _behind(entries: Sequence[Entry], index: int) -> Iterator[Entry]:
    """What was written after so many entries, and before the next that keeps what is before it."""
    for entry in entries[index:]:
        if entry.keeps:
            return
        if entry.writes:
            yield entry


def _write(log: int, image: Path, entries: Sequence[Entry]) -> None:
    with image.open("r+b", buffering=0) as file:
        for entry in entries:
            if entry.writes:
                os.pwrite(file.fileno(), os.pread(log, entry.size, entry.data), entry.offset)


def _copy(source: Path, target: Path) -> None:
    _run("cp", "--sparse=auto", "--reflink=auto", str(source), str(target))


def _run(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoBacking(f"{' '.join(words)}: {(done.stderr + done.stdout).strip()[-500:]}")
