"""The history of an example: what was done to a driver, step by step, with the outcome of each step.

A step is recorded once, here. The trace that a person reads (history.trace), the case file (history.case), the
reproducer (evidence.reproducer) and the size of a minimal example are derived from these values.
Archives have labels, as their directories have other names the next time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.history.calls import Call
from conformance.operations import ops


@dataclass(frozen=True, slots=True)
class Opened:
    """A store was opened ``below`` its own directory; ``image_stores`` are of the form STORE or STORE/BELOW.

    ``at`` is where the store's own directory was, as hostile archives and symlinks may name it.
    """

    store: str
    below: str = ""
    at: str = ""
    options: tuple[str, ...] = ()
    id_map: tuple[tuple[int, int, int], ...] = ()
    gid_map: tuple[tuple[int, int, int], ...] = ()  # that of users if there is none
    image_stores: tuple[str, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a driver; ``refused`` is the driver's complaint, ``answer`` what it gave, where that is short.

    ``failed`` says that ``refused`` is no refusal: the driver crashed, hung, or its code or answer is wrong.
    ``listing`` has the entries of the archive that a diff wrote, a line each, where the example failed.
    """

    store: str
    call: Call
    refused: str | None = None
    answer: Any = None
    listing: tuple[str, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Did:
    """An operation on the tree that was got last; ``error`` is the errno's name if it failed."""

    store: str
    layer: str
    operation: ops.Operation
    error: str = ""


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive that a test wrote; ``words`` describe it, an entry each."""

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
    """The test waited one second."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Something that a script cannot repeat, such as concurrent calls."""

    what: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A sentence for whoever reads the trace; nothing was done to the driver."""

    text: str
    store: str = ""


Step = Opened | Called | Did | Archived | Looked | Tampered | Waited | Beyond | Noted


@dataclass(slots=True)
class History:
    """The steps of the example that runs, or ran last; what was drawn for it; and facts, of all examples of a test.

    Hypothesis runs the minimal failing example last, so the history of a failure is the minimal one.
    """

    steps: list[Step] = field(default_factory=list)
    drawn: list[Any] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)  # of archives, by path
    files: dict[str, str] = field(default_factory=dict)  # the other way round
    stopped: bool = False
    _facts: dict[str, set[str]] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget the steps of the example before."""
        self.steps.clear()
        self.files.clear()
        self.labels.clear()
        self.stopped = False

    def add(self, step: Step) -> None:
        """One more step."""
        if not self.stopped:
            self.steps.append(step)

    def note(self, text: str, store: str = "") -> None:
        """A sentence for the trace."""
        self.add(Noted(text, store))

    def stop(self) -> None:
        """The test failed: what comes now only tidies up."""
        self.stopped = True

    def label(self, path: str | Path, store: str) -> str:
        """The label of a file, by which all steps know it, whichever store it came from."""
        if str(path) in self.labels:
            return self.labels[str(path)]
        label, number = f"{store}-{Path(path).name}", 1
        while self.files.setdefault(label, str(path)) != str(path):
            number += 1
            label = f"{store}-{number}-{Path(path).name}"
        self.labels[str(path)] = label
        return label

    def file_of(self, label: str) -> Path:
        """The file that a label was given to; raises KeyError for a label that :meth:`label` did not give."""
        return Path(self.files[label])

    def record(self, what: str, seen: str) -> None:
        """A fact: what was seen where the requirements leave it open."""
        self._facts.setdefault(what, set()).add(seen)

    def facts(self) -> tuple[str, ...]:
        """What was recorded since the test began, a sentence each."""
        return tuple(f"{what}: {', '.join(sorted(seen))}" for what, seen in sorted(self._facts.items()))

    def forget_facts(self) -> None:
        """A new test begins."""
        self._facts.clear()
