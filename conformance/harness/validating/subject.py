"""What is validated, and its openings: calls go through a Watch, and paths through the containment of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from conformance.drivers.performing import perform
from conformance.drivers.protocol import CallLimit, DriverInfo, DriverUnderTest, OpenRequest
from conformance.drivers.source import DriverSource
from conformance.harness.contained import contained
from conformance.harness.validating.values import Check, Result, Whose
from conformance.harness.validating.watch import (
    Answered,
    Endless,
    Failed,
    Foreign,
    Misplaced,
    Outcome,
    Refused,
    Watch,
    WatchedRequest,
    watched,
)
from conformance.history.calls import Call, Create, Reopen
from conformance.history.trace import describe

_PAGE: Final = "docs/command-driver.md and docs/adapters.md describe the protocol"


@dataclass(slots=True)
class Opening:
    """A store of the adapter that is open; ``archives`` is the directory of files for diff and apply."""

    driver: DriverUnderTest
    bare: object  # the adapter's own, without the containment
    request: WatchedRequest
    watch: Watch
    archives: Path

    def do(self, call: Call, *, timed: bool = False) -> Outcome:
        """Make a call; its time is kept if it is ``timed``."""
        driver = self.driver
        outcome = self.watch.call(name_of(call) if timed else "", lambda: perform(driver, call, self.archive))
        if isinstance(call, Reopen) and isinstance(outcome, Answered):
            self.driver = outcome.value
        return outcome

    def archive(self, label: str) -> Path:
        """The file of an archive."""
        return self.archives / label


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter, and what the host lets it do. ``own`` says whether it is one of this project.

    The adapters of this project are tested with drivers that are known to be correct, so what goes wrong behind
    them is the driver's.
    """

    source: DriverSource
    own: bool
    directory: Path
    lacking: Mapping[str, str] = field(default_factory=dict)
    limit: CallLimit = field(default_factory=CallLimit)
    watch: Watch = field(default_factory=lambda: Watch(CallLimit().seconds))

    @property
    def info(self) -> DriverInfo:
        """Who the driver is, and what it declines."""
        return self.source.info

    def lacks(self, *capabilities: str) -> str:
        """Why one of these is declined, or cannot be had, and is not called; "" if all are there."""
        for name in capabilities:
            for where in (self.info.declined, self.info.absent, self.lacking):
                if name in where:
                    return f"{name}: {where[name]}"
        return ""

    def open(self, name: str, **asked: Any) -> tuple[Opening | None, Outcome, WatchedRequest]:
        """Open a store in a directory of this name; no opening if that was not answered."""
        directory, archives = self.directory / name, self.directory / f"{name}-archives"
        for one in (directory, archives):
            one.mkdir(exist_ok=True)
        seen = watched(OpenRequest(directory, limit=self.limit, **asked))
        # The containment reads the request, too: what the adapter reads is in the other one.
        opened: list[DriverUnderTest] = []

        def open_bare(request: OpenRequest) -> DriverUnderTest:
            del request
            opened.append(self.source.open(seen))
            return opened[-1]

        source = contained(replace(self.source, open=open_bare))
        outcome = self.watch.call("open", lambda: source.open(OpenRequest(directory, **asked)))
        if not isinstance(outcome, Answered):
            return None, outcome, seen
        return Opening(outcome.value, opened[-1], seen, self.watch, archives), outcome, seen

    def wrong(self, name: str, said: str, following: str, *, certain: bool = False) -> Check:
        """A check that found something; the adapter's if that is ``certain``, unless it is one of this project."""
        whose = Whose.DRIVER if self.own else Whose.ADAPTER if certain else Whose.EITHER
        return Check(name, Result.WRONG, whose, said, following)

    def not_answered(self, name: str, what: str, outcome: Outcome) -> Check:
        """A check in which a call that any driver answers was not answered."""
        match outcome:
            case Foreign(text, where):
                said = f"{what} raised {text} ({where})"
                return Check(
                    name,
                    Result.WRONG,
                    Whose.ADAPTER,
                    said,
                    "raise DriverRefused for a refusal, DriverFailed for no answer",
                )
            case Endless(seconds):
                said = f"{what} did not end within {seconds:g} s"
                following = "end a call after request.limit.left() seconds, and raise request.limit.exceeded(CALL)"
                return Check(name, Result.WRONG, Whose.ADAPTER, said, following)
            case Refused(text):
                return self.wrong(name, f"{what} was refused: {text or 'without a word'}", self._by_hand())
            case Failed(text):
                return self.wrong(name, f"{what} failed: {text}", self._by_hand())
            case Misplaced(text):
                following = "answer the path of the tree, as this process sees it, below request.directory"
                return self.wrong(name, text, following, certain=True)
            case Answered(value):
                return self.wrong(name, f"{what} answered {value!r}", self._by_hand())

    def _by_hand(self) -> str:
        if self.source.next_step:
            return " ".join(self.source.next_step.split("\n"))
        return f"do the same by the driver's own commands: if they do it, it is the adapter; {_PAGE}"


def name_of(call: Call) -> str:
    """The name of a call, as the methods of the protocol have it."""
    if isinstance(call, Create) and call.options is not None:
        return "create, read-write" if call.read_write else "create, with options"
    words = "".join(f"_{one.lower()}" if one.isupper() else one for one in type(call).__name__)
    return words.lstrip("_")


def said_of(call: Call) -> str:
    """The call, in the words of a trace."""
    return describe(call)
