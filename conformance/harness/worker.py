"""The process in which a run takes place, in mounts of its own; started by the controller, and dying with it.

It reads its task from standard input and writes events, one JSON object a line, to standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from conformance.harness import plugin as suite
from conformance.harness.channel import Teller
from conformance.harness.collected import Inventory
from conformance.harness.ending import end_on_sigterm
from conformance.harness.events import Collected, Failed, Finished, Opened, Testing
from conformance.harness.selecting import draws
from conformance.harness.serving import isolated, logged, serve
from conformance.harness.session import Replay
from conformance.harness.task import Task
from conformance.spec import load_stems
from conformance.spec.values import as_plain
from conformance.spec.verdicts import TestOutcome, Verdict

_SUITES: Final = Path(__file__).parents[1] / "suites"
_ENTRY: Final = "conformance.pytest_entry"
# Plugins of pytest that write files of their own, or that collect garbage several times at the end: 0.2 s of a run.
_UNUSED: Final = (
    "cacheprovider",
    "junitxml",
    "pastebin",
    "doctest",
    "stepwise",
    "unraisableexception",
    "threadexception",
)
_NOT_TRIED: Final = (Verdict.NOT_APPLICABLE, Verdict.DECLINED, Verdict.UNTESTED)
ENDED_WELL: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class _Listener:
    """Follows a round in pytest and tells of it; ``generated`` says whether another round would find more."""

    def __init__(self, events: Teller, round_number: int, *, replayed: bool, final: bool) -> None:
        self._events = events
        self._round = round_number
        self._replayed = replayed
        self._final = final
        self.generated = False
        self.unreached = ""  # why the driver cannot be reached
        self.unusable = ""  # why the driver failed the preflight
        self.collected = False
        self.stopped = ""  # why a limit of failures ended the round
        self.settled: list[str] = []
        self._drawn: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, object, object]:
        """Hear why the suite was not started; pytest itself says that its usage was wrong."""
        try:
            return (yield)
        finally:
            self.unreached = config.stash.get(suite.UNREACHED, "")

    def pytest_configure(self, config: pytest.Config) -> None:
        """Listen to the suite's plugin."""
        plugin = config.pluginmanager.get_plugin(suite.NAME)
        assert isinstance(plugin, suite.ConformancePlugin), "pytest_entry registers it"
        session, info = plugin.session, plugin.source.info
        plugin.on_start = lambda test: self._events.tell(Testing(test))
        plugin.on_outcome = self._tell_outcome
        plugin.on_unusable = self._is_unusable
        plugin.on_collected = self._tell_collected
        plugin.on_stopped = self._is_stopped
        plugin.exit_status = False  # pytest's own says here whether pytest ended well
        if self._round == 0:
            alone = plugin.source.alone
            self._events.tell(
                Opened(
                    info.name,
                    info.version,
                    session.lane,
                    tuple(place.backing for place in session.places),
                    info.declined,
                    session.lacking,
                    (*session.notes, *([f"one process runs the tests: {alone}"] if alone else [])),
                    info.absent,
                )
            )

    def _is_unusable(self, why: str) -> None:
        self.unusable = why

    def _is_stopped(self, why: str) -> None:
        self.stopped = why

    def _tell_outcome(self, outcome: TestOutcome) -> None:
        if self._replayed and not self._final and outcome.verdict is not Verdict.FAIL:
            return  # what does not fail any more is tried like all others
        self.settled.append(outcome.test)
        self.generated |= outcome.test in self._drawn and outcome.verdict not in _NOT_TRIED
        self._events.tell(outcome)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """After the first round, only what draws its examples is worth another one."""
        drawn = [item for item in items if draws(item)]
        self._drawn = {item.name for item in drawn}
        if self._round and not self._replayed:
            items[:] = drawn

    def _tell_collected(self, inventory: Inventory) -> None:
        """Tell which tests there are; after the first round, those of it that draw their examples."""
        self.collected = True
        if self._round == 0:
            self._events.tell(Collected(len(inventory.tests), inventory))


def main() -> None:
    """Run one task; exits with 0 when all events are reported, whatever they say."""
    end_on_sigterm()
    serve(Task, _confined)


def _confined(task: Task, events: Teller) -> None:
    """Run the task in namespaces of its own, with what is printed in a file."""
    isolated(task.driver, Path(task.scratch), task.parent)
    with logged(Path(task.scratch)):
        _run(task, events)


def _run(task: Task, events: Teller) -> None:
    deadline = time.monotonic() + task.budget if task.budget else None
    settled: tuple[str, ...] = ()
    if task.replay:
        listener = _Listener(events, 0, replayed=True, final=task.replay_only)
        replay = Replay(task.replay, only=True, unshrunk=task.unshrunk)
        if not _round(task, events, listener, "replay", replay, None) or task.replay_only:
            return
        if listener.stopped:
            events.tell(Finished(stopped=listener.stopped))
            return
        task = replace(task, preflight=False)
        settled = tuple(listener.settled)
    number = 0
    while True:
        listener = _Listener(events, number, replayed=False, final=True)
        replay = Replay(settled=settled, unshrunk=task.unshrunk)
        if not _round(task, events, listener, number, replay, deadline):
            return
        task = replace(task, preflight=False)
        number += 1
        # Smoke asks whether the adapter is right, which more examples say nothing of.
        time_left = deadline is not None and time.monotonic() < deadline
        if listener.stopped or task.profile == "smoke" or not time_left or not listener.generated:
            break
    events.tell(Finished(number, stopped=listener.stopped))


def _round(
    task: Task, events: Teller, listener: _Listener, number: int | str, replay: Replay, deadline: float | None
) -> bool:
    """One run of pytest; whether it ended well. The end of a replay alone is the end of the task."""
    directory = Path(task.scratch) / f"round-{number}"
    directory.mkdir()
    file = Path(task.scratch) / f"replay-{number}.json"
    file.write_text(json.dumps(as_plain(replay)))
    words = arguments(task, number if isinstance(number, int) else 0, directory, deadline)
    code = pytest.main([*words, f"--conformance-replay={file}"], plugins=[listener])
    if why := listener.unreached or listener.unusable:
        events.tell(Failed(why, of_driver=True))
        return False
    if code not in ENDED_WELL or not listener.collected:
        sys.stdout.flush()
        text = (Path(task.scratch) / "log").read_text(errors="backslashreplace")
        events.tell(Failed(f"pytest ended with {code!r}:\n{text[-4000:]}"))
        return False
    if task.replay_only:
        events.tell(Finished())
    return True


def suites_of(selected: Sequence[str]) -> list[Path]:
    """The files that have the tests of some requirements, so that pytest imports and collects no others.

    A suite has the stem of its requirements; what it checks besides is written in it.
    """
    stems = {load_stems()[one] for one in selected}
    return [
        file
        for file in sorted(_SUITES.glob("test_*.py"))
        if any(file.stem == f"test_{stem}" or file.stem.startswith(f"test_{stem}_") for stem in stems)
        or any(one in file.read_text(encoding="utf-8") for one in selected)
    ]


def arguments(task: Task, number: int, directory: Path, deadline: float | None = None) -> list[str]:
    """The command line of pytest for one round of a task, with its scratch in ``directory``."""
    # The tests of the suite raise, and assert nothing, so that their modules need no rewriting.
    words = [
        "-p",
        _ENTRY,
        "-p",
        "hypothesispytest",
        "--assert=plain",
        *(word for one in _UNUSED for word in ("-p", f"no:{one}")),
    ]
    words += [
        *map(str, suites_of(task.selected) or [_SUITES]),
        "-q",
        "--rootdir",
        str(_SUITES),
        "-c",
        os.devnull,
        # pytest lists each directory from here down to a suite. A directory above may refuse that (mode 0711).
        "--confcutdir",
        str(_SUITES),
        "--import-mode=importlib",
    ]
    words += [f"--driver={task.driver}", f"--conformance-profile={task.profile}"]
    words += [f"--conformance-examples={task.examples}", f"--conformance-directory={directory}"]
    words += [f"--hypothesis-seed={task.seed + number}", f"--conformance-call-timeout={task.call_timeout}"]
    words += [f"--backing={name}" for name in task.backings]
    words += [f"--requirement={one}" for one in task.selected]
    if task.expression:
        words += ["-k", task.expression]
    if task.max_failures:
        words.append(f"--maxfail={task.max_failures}")
    if not task.shrinks:
        words.append("--conformance-no-shrink")
    if task.preflight_only:
        words.append("--conformance-preflight-only")
    if task.survey:
        words.append("--conformance-survey")
    if not task.preflight:
        words.append("--conformance-no-preflight")
    if deadline is not None:
        words.append(f"--conformance-deadline={deadline}")
    if task.jobs > 1:
        # pytest keeps what a test prints in one file, which several processes cannot share.
        words += [f"--conformance-jobs={task.jobs}", "--capture=no"]
    return words


if __name__ == "__main__":
    main()
