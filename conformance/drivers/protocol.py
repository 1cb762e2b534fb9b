"""The seam between the suite and a driver under test.

Words. A *layer* is made on a parent, or on nothing. *get* gives the path of its whole tree and *put* gives it
back. A *diff* is a tar archive of what a layer changes in its parent; *applying* it to an empty layer on an
equal parent makes an equal layer. What a driver refuses, it says by :class:`DriverRefused`; what is no
answer at all (a crash, a hang, a wrong type) is :class:`DriverFailed`. Any other error from an adapter is an error
of the harness.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # for a Dialect alone: a driver and its adapter need no steps of an example
    pass


class DriverRefused(Exception):
    """The driver under test answered with an error; the text is the driver's own.

    ``kind`` is the class of its exception and ``error`` that of the system, such as "No such file or directory";
    "" where an adapter cannot know them.
    """

    def __init__(self, text: str, kind: str = "", error: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.error = error


class DriverFailed(Exception):
    """The driver did not answer a call as a driver does; this is never a refusal, and a test that meets it fails.

    Its process died, it did not answer within the limit of a call, its answer has a wrong type, or an error of its
    code (NameError, TypeError, ...) came instead of a refusal. ``detail`` is for the evidence: a traceback, the
    stack of a call that did not return, or the last output of a process; "" where there is none. ``hangs`` says
    that it took the whole limit of a call, so that nobody tries it again; ``alone``, that it died serving no other.
    ``defect`` is the place in the driver's code that an error came from, such as "remove of driver.py", "" if no
    function of it was called; None for anything but an error of its code.
    """

    def __init__(
        self, text: str, detail: str = "", *, hangs: bool = False, alone: bool = False, defect: str | None = None
    ) -> None:
        super().__init__(text)
        self.detail = detail
        self.defect = defect
        self.hangs = hangs
        self.alone = alone


class TimeUp(BaseException):
    """The time of the run ended during a call: nobody is to blame, and nothing is judged. No test may catch it."""


@dataclass(frozen=True, slots=True)
class CallLimit:
    """How long a driver may take for one call: ``seconds``, and no longer than to the end of the run.

    ``deadline`` is of time.monotonic(), None for a run without a budget.
    """

    seconds: float = 60.0
    deadline: float | None = None

    def left(self) -> float:
        """Seconds for a call that begins now; raises TimeUp."""
        if self.deadline is None:
            return self.seconds
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeUp("the time of this run (--budget) was up before a call of the driver")
        return min(self.seconds, left)

    def exceeded(self, call: str, detail: str = "") -> DriverFailed:
        """What to raise for a call that did not return in time; raises TimeUp itself if the run ended it."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise TimeUp(f"the time of this run (--budget) was up during {call}")
        said = f"the driver did not answer {call} within {self.seconds:g} s (--call-timeout)"
        return DriverFailed(said, detail, hangs=True)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What a call of a driver should leave as it was. ``root`` is device and inode.

    ``descriptors`` and ``threads`` are numbers; ``blocked`` is the signal mask of the main thread, a bit for each
    signal; ``environment`` has the names of the variables that are not as they were when the process began. Of a
    process that is not the harness's own, threads, mask and environment are left out: 0 and nothing.
    """

    cwd: str
    root: tuple[int, int]
    umask: int
    descriptors: int
    threads: int = 0
    blocked: int = 0
    environment: tuple[str, ...] = ()
    pid: int = 0  # of the process itself, which is no state


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of ``changes``: an absolute path within the layer; ``kind`` is add, modify or delete."""

    path: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """Who the driver is, what it declines, and what else it lacks (``absent``): capabilities with reasons."""

    name: str
    version: str
    declined: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdRange:
    """``size`` ids from ``container`` inside are those from ``host`` outside."""

    container: int
    host: int
    size: int


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What a store is opened with.

    ``directory`` is empty, or was used by the same driver before; the adapter keeps everything of the store
    below it. ``options`` are ``KEY=VALUE`` words of the overlay driver without a prefix (``size=10g``);
    ``id_map`` maps users, and groups too unless there is a ``gid_map``; ``image_stores`` are what other stores call
    theirs. ``umask`` is that of the driver's process while it has the store open, None for the usual one
    (DriverSource.sets_umask); ``prefix`` stands before the command of that process (DriverSource.attempt).
    ``limit`` holds for opening, and for every call afterwards.
    """

    directory: Path
    options: tuple[str, ...] = ()
    id_map: tuple[IdRange, ...] = ()
    gid_map: tuple[IdRange, ...] = ()
    image_stores: tuple[Path, ...] = ()
    umask: int | None = None
    prefix: tuple[str, ...] = ()
    limit: CallLimit = field(default_factory=CallLimit)


class DriverUnderTest(Protocol):
    """One driver opened on one home. Every method may raise DriverRefused and DriverFailed, and nothing else.

    What the driver declines (DriverInfo.declined) is never called, but the methods are there. An adapter passes
    calls and answers on, and judges nothing; ``overlay-conformance validate-adapter`` looks whether it does.
    """

    @property
    def home(self) -> str:
        """The directory that holds the driver's layers."""

    @property
    def image_store(self) -> str:
        """What another store is given as an image store, so that it reads this one's layers."""

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        """Make an empty layer; ``parent`` is "" for a base layer.

        An id that exists, or a parent that does not, is refused.

        Without ``options`` it is a layer of an image. ``options`` are those of a read-write layer, or of a layer of
        an image if not ``read_write``.
        """

    def remove(self, layer_id: str) -> None:
        """Remove a layer."""

    def get(self, layer_id: str, label: str = "") -> str:
        """The path of the layer's tree, with an SELinux label if there is one.

        This process sees the tree there, with what is mounted: the driver runs in the same mount namespace. The
        path is absolute and below the directory of the request.
        """

    def put(self, layer_id: str) -> None:
        """Give a tree back; after the last put of a driver that mounts, nothing is mounted there."""

    def exists(self, layer_id: str) -> bool:
        """Whether there is such a layer."""

    def status(self) -> Mapping[str, str]:
        """What the driver says about itself."""

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        """What the driver says about a layer."""

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        """Write the difference from ``parent`` ("" for the whole tree) to a file, as a tar archive."""

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        """Apply an archive; the size that the driver reports, if it does."""

    def diff_size(self, layer_id: str, parent: str) -> int:
        """The size of the difference in bytes."""

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        """What the layer changes in ``parent``."""

    def reopen(self) -> DriverUnderTest:
        """The same home, opened by a driver that knows nothing but what is on disk. The old one is used no more."""

    def leave(self) -> None:
        """End this opening as a process that ends would; layers, and the driver's own mounts, stay as they are."""

    def close(self) -> None:
        """Let go of the home, with nothing left mounted and no process left. Calls that come later are refused."""


class ProcessOfDriver(Protocol):
    """The process that a driver's calls are done in; an opened driver has it as ``process`` where there is one.

    It is no part of DriverUnderTest: most drivers run where nobody can look.
    """

    def state(self) -> ProcessState:
        """What it has just now; raises DriverFailed when it has ended."""


class ReaderInPieces(Protocol):
    """A driver whose diff is a stream that its reader may read as it likes.

    An opened driver has the method where that is so. It is no part of DriverUnderTest: commands and daemons write
    the diff of other drivers to its end.
    """

    @property
    def gives_up(self) -> bool:
        """Whether the stream can be closed before its end, and the driver is then done with it."""

    def diff_in_pieces(self, layer_id: str, parent: str, archive: Path, piece: int, most: int) -> None:
        """As ``diff``, in pieces of ``piece`` bytes; closed after ``most`` bytes, -1 for the end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a driver said when it was opened in a process of its own: all of its words, on whatever channel."""

    opened: bool
    text: str
