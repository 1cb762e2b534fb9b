"""What was done in one example, as values: from a tape the same can be done again, and written as a script.

The words of a failure (conformance.harness.store.Story) are for reading; the tape has the same steps for replaying.
Paths of files are told by labels, as directories have other names the next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.operations import ops


@dataclass(frozen=True, slots=True)
class Opened:
    """A store was opened ``below`` its own directory; ``image_stores`` are of the form STORE or STORE/BELOW.

    ``at`` is where the store's own directory was, as archives and symlinks made to do harm may name it.
    """

    store: str
    below: str = ""
    at: str = ""
    options: tuple[str, ...] = ()
    id_map: tuple[tuple[int, int, int], ...] = ()
    image_stores: tuple[str, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a driver; ``refused`` is the driver's complaint, ``answer`` what it gave, where that is short.

    ``read_write`` says of which kind of layer the options of ``create`` are.
    """

    store: str
    verb: str
    layer: str = ""
    parent: str = ""
    archive: str = ""
    label: str = ""
    options: Mapping[str, str] | None = None
    refused: str | None = None
    answer: Any = None
    read_write: bool = True


@dataclass(frozen=True, slots=True)
class Did:
    """An operation on the tree that was got last; ``error`` is the errno's name if it failed."""

    store: str
    layer: str
    operation: ops.Operation
    error: str = ""


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive that was made by hand, and what it is in words."""

    label: str
    data: bytes
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Looked:
    """The tree that was got last was looked at, and showed these names."""

    store: str
    layer: str
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Tampered:
    """Something was done to the files of a store while no driver had it open.

    The operation's paths are relative to ``where``, which is "home", or "directory", the store's own.
    ``{link:LAYER}`` in a path or a content stands for what the file ``link`` of that layer holds.
    """

    store: str
    where: str
    operation: ops.Operation


@dataclass(frozen=True, slots=True)
class Waited:
    """The clock went on to the next second."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Something was done that a script cannot repeat, such as calls at a time."""

    what: str


Step = Opened | Called | Did | Archived | Looked | Tampered | Waited | Beyond


@dataclass(slots=True)
class Tape:
    """The steps of the example that runs, or ran last, and what was drawn for it."""

    steps: list[Step] = field(default_factory=list)
    drawn: list[Any] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    def begin(self) -> None:
        """Forget the steps of the example before."""
        self.steps.clear()
        self.labels.clear()
        self.stopped = False

    def add(self, step: Step) -> None:
        """One more step."""
        if not self.stopped:
            self.steps.append(step)

    def stop(self) -> None:
        """What comes now only tidies up after a failure."""
        self.stopped = True

    def label(self, path: str, store: str) -> str:
        """The label of a file, by which all steps know it."""
        name = path.rpartition("/")[2]
        return self.labels.setdefault(path, f"{store}-{name}")
