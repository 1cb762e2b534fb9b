"""The process that tries generated mutants: it measures what the tests reach, and forks a child for each mutant.

The first child runs the suite on the correct driver: every test has to pass, and the lines that each executes say
which tests can kill which mutant. A mutant that no test executes survives without a trial. For the others those
tests come first that killed mutants of the same module before, then the quick ones, and the first failure ends the
trial. A driver that cannot be imported, or fails in the preflight, is stillborn: any use of it would show the
mutation.

The load of the machine must decide nothing. A trial that did not end, and a kill by the limit of a call, are tried
again alone. At the end the correct driver runs all tests that killed, as the mutants did, without a trace: what a
test says that fails now is undecided.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import given, settings, strategies

from conformance import suites
from conformance.drivers.registry import connect, kind_of
from conformance.harness.channel import Channel
from conformance.harness.events import Collected, Failed, Finished, Judged, Testing
from conformance.harness.events import GeneratedFate as Fate
from conformance.harness.selecting import load_settings
from conformance.harness.serving import serve
from conformance.harness.session import Replay
from conformance.harness.task import Task
from conformance.harness.worker import ENDED_WELL, arguments
from conformance.lab import namespace
from conformance.lab.backing import HOST
from conformance.selftest.children import LOG, Children, failure_of, print_to_log
from conformance.selftest.generated import CONNECTION, MUTATION, REACH
from conformance.selftest.generated.judging import Control, Judge, Judgement, Measurer, first_line
from conformance.selftest.generated.reach import Marker, Reach
from conformance.selftest.mutants import basis
from conformance.spec import load_requirements
from conformance.spec.profiles import EXAMPLES
from conformance.spec.values import as_plain, from_plain

_SEEN: Final = "seen.json"
_REACHED: Final = "reached"
_MEASURING: Final = 1800.0  # seconds, at least
_NUMBERS: Final = 200
_TRACED: Final = 300.0  # seconds for a call that is traced
_OVERHEAD: Final = 0.05  # seconds that any test takes besides
_HUNG: Final = "the driver did not answer"  # what is said of a call that reached its limit
_CHANCE: Final = 0.1  # kills that a test is credited with before it has killed anything
_Seen = TypeVar("_Seen")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One mutant to try: its id, its module, the lines of its statement, and the file with its mutated source.

    ``imported`` says whether the statement is executed when the module is imported, so that any test may show it.
    """

    id: str
    module: str
    statement: tuple[int, int]
    imported: bool
    mutation: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """What the controller asks for. ``budget`` and ``call_timeout`` are in seconds, ``basis`` is MODULE:CLASS.

    ``selected`` are the requirements whose tests are run, all if it is empty. ``killed`` are mutants that were
    killed before, with the names of the tests. ``kept`` is a file for what the tests execute, or empty. The tests
    are run on the filesystems ``backings``.
    """

    scratch: str
    parent: int
    basis: str
    profile: str
    seed: int
    call_timeout: float
    budget: float
    jobs: int
    attempts: tuple[Attempt, ...]
    selected: tuple[str, ...] = ()
    killed: Mapping[str, str] = field(default_factory=dict)
    kept: str = ""
    backings: tuple[str, ...] = (HOST,)


@dataclass(frozen=True, slots=True)
class _Work:
    """What one child does: a mutant, and the tests that execute what is mutated."""

    attempt: Attempt
    tests: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the child with the correct driver leaves: see judging.Measurer; ``failed`` is empty if all passed."""

    names: tuple[str, ...]
    seconds: Mapping[str, float]
    failed: str


@dataclass(frozen=True, slots=True)
class _Controlled:
    """What the child leaves that runs the tests that killed: names of those that fail, with the reason."""

    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Trial:
    """What the child of a mutant leaves."""

    fate: Fate
    seconds: float
    verdict: Judgement


class ControlFailed(Exception):
    """The correct driver fails the suite, so that its mutants prove nothing; the text says what failed."""


def main() -> None:
    """Try all; exits with 0 when all events are reported, whatever they say."""
    serve(Attempts, _run)


def _run(task: Attempts, events: Channel) -> None:
    namespace.enter_pid_namespace()  # so that nothing outlives it
    os.environ[basis.BASIS] = task.basis
    load_settings(EXAMPLES[task.profile], shrinks=False)  # before the tests, which take them when imported
    kind_of("python")  # which imports its adapter
    for found in pkgutil.iter_modules(suites.__path__, f"{suites.__name__}."):
        importlib.import_module(found.name)
    _warm_hypothesis_up(Path(task.scratch))
    try:
        _Trials(task, events).all()
    except ControlFailed as failed:
        events.tell(Failed(str(failed)))
        return
    source = connect(f"python:{task.basis}")
    events.tell(Finished(version=source.info.version))
    source.close()


def _warm_hypothesis_up(scratch: Path) -> None:
    """Let hypothesis look for constants in all modules here, which takes a second, and not in each child.

    It looks when it first draws a constant, which is once in twenty numbers.
    """
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(scratch / "hypothesis")

    @given(strategies.lists(strategies.integers(), min_size=_NUMBERS, max_size=_NUMBERS))
    @settings(max_examples=5, database=None)
    def nothing(numbers: list[int]) -> None:
        del numbers

    nothing()


class _Trials:
    """All of them, and what they taught about the order of the tests."""

    def __init__(self, task: Attempts, events: Channel) -> None:
        self._task = task
        self._events = events
        self._kills: dict[str, Counter[str]] = defaultdict(Counter)  # of each module, by test
        self._killed = dict(task.killed)

    def all(self) -> None:
        """Measure, and try each mutant that some test executes."""
        self._events.tell(Collected(len(self._task.attempts)))
        reach = self._measured()
        work = []
        for one in self._task.attempts:
            tests = frozenset(reach.seconds) if one.imported else reach.of(one.module, one.statement)
            if tests:
                work.append(_Work(one, tests))
            else:
                self._tell(one, 0, 0.0, Fate.SURVIVED, Judgement(False, reason="no test executes it"))
        # Those that take the least come first, so that an interrupted run leaves the most.
        work.sort(key=lambda one: sum(reach.seconds[test] for test in one.tests))
        self._pass(self._pass(work, reach, self._task.jobs), reach, 1, last=True)
        self._prove(reach)

    def _pass(self, work: Sequence[_Work], reach: Reach, jobs: int, *, last: bool = False) -> list[_Work]:
        """Try each; those that load may have decided, unless it is the ``last`` pass."""
        again = []
        budget = self._task.budget * (2 if last else 1)
        children = self._children(lambda one, scratch: self._judge(one, reach, scratch), budget)
        for tried, scratch, status in children.each(work, jobs, self._begun):
            seconds, fate, verdict = self._read(scratch, status, budget)
            if not last and (fate is Fate.UNDECIDED or _HUNG in verdict.reason):
                again.append(tried)
                continue
            if verdict.nodeid:
                self._kills[tried.attempt.module][verdict.nodeid] += 1
                self._killed[tried.attempt.id] = verdict.test
            self._tell(tried.attempt, len(tried.tests), seconds, fate, verdict)
        return again

    def _prove(self, reach: Reach) -> None:
        """Run the tests that killed on the correct driver; what one of them says that fails is undecided."""
        names = set(self._killed.values())
        tests = frozenset(one for one in reach.seconds if one.partition("::")[2] in names)
        if not tests:
            return
        control = _Work(Attempt(self._task.basis, "", (0, 0), False, ""), tests)
        children = self._children(self._control, _MEASURING)
        for _, scratch, status in children.each([control], 1, self._begun):
            failed = failure_of(scratch, status, _MEASURING)
            seen = dict.fromkeys(names, failed) if failed else _left(_Controlled, scratch).failed
            for id_, test in self._killed.items():
                if test in seen:
                    said = f"the correct driver fails {test}, too: {seen[test]}"
                    self._events.tell(Judged(id_, Fate.UNDECIDED, test, (), said, 0, 0.0))

    def _control(self, one: _Work, scratch: Path) -> None:
        listener = Control(one.tests)
        code = self._run_suite(scratch, listener, self._task.call_timeout, preflight=False)
        ended = _ended_badly(code, scratch)
        failed = dict.fromkeys(self._killed.values(), ended) if ended and not listener.failed else listener.failed
        _leave(_Controlled(failed), scratch)

    def _tell(self, one: Attempt, reached: int, seconds: float, fate: Fate, verdict: Judgement) -> None:
        self._events.tell(
            Judged(one.id, fate, verdict.test, verdict.requirements, verdict.reason, reached, seconds)
        )

    def _begun(self, one: _Work) -> None:
        self._events.tell(Testing(one.attempt.id))

    def _children(self, run: Callable[[_Work, Path], None], budget: float) -> Children[_Work]:
        return Children(Path(self._task.scratch), budget=lambda _: budget, enter=self._events.close, run=run)

    # ---- The correct driver

    def _measured(self) -> Reach:
        """What each test executes of the correct driver; raises ControlFailed."""
        if self._task.kept and Path(self._task.kept).exists():
            return Reach.kept(Path(self._task.kept))
        nothing = _Work(Attempt(self._task.basis, "", (0, 0), False, ""), frozenset())
        reach = Reach({}, {})
        for _, scratch, status in self._children(self._measure, _MEASURING).each([nothing], 1, self._begun):
            failed = failure_of(scratch, status, _MEASURING)
            seen = _Measured((), {}, failed) if failed else _left(_Measured, scratch)
            if seen.failed:
                raise ControlFailed(
                    f"{self._task.basis} fails without a mutation, so its mutants prove nothing: {seen.failed}"
                )
            reach = Reach.read(scratch / _REACHED, seen.names, seen.seconds)
            if self._task.kept:
                reach.keep(Path(self._task.kept))
        return reach

    def _measure(self, one: _Work, scratch: Path) -> None:
        del one
        os.environ[REACH] = str(scratch / _REACHED)
        listener = Measurer(Marker(scratch / _REACHED))
        code = self._run_suite(scratch, listener, max(self._task.call_timeout, _TRACED), preflight=False)
        failed = listener.failed or _ended_badly(code, scratch)
        _leave(_Measured(tuple(listener.names), listener.seconds, failed), scratch)

    # ---- A mutant

    def _judge(self, one: _Work, reach: Reach, scratch: Path) -> None:
        began = time.monotonic()
        os.environ[MUTATION] = one.attempt.mutation
        kills = self._kills[one.attempt.module]

        def worth(test: str) -> float:
            return (kills[test] + _CHANCE) / (reach.seconds[test] + _OVERHEAD)

        judge = Judge(sorted(sorted(one.tests), key=worth, reverse=True), EXAMPLES[self._task.profile])
        code = self._run_suite(scratch, judge, self._task.call_timeout, preflight=True)
        verdict = judge.verdict
        if judge.unusable or code == pytest.ExitCode.USAGE_ERROR:
            fate, verdict = Fate.STILLBORN, Judgement(False, reason=judge.unusable or _last_line(scratch))
        elif verdict.killed:
            fate = Fate.KILLED
        else:
            fate = Fate.SURVIVED
            reason = verdict.reason or first_line(_ended_badly(code, scratch))
            verdict = Judgement(False, reason=reason)
        _leave(_Trial(fate, round(time.monotonic() - began, 3), verdict), scratch)

    def _read(self, scratch: Path, status: int, budget: float) -> tuple[float, Fate, Judgement]:
        """What a child left; a trial that did not end decides nothing."""
        failure = failure_of(scratch, status, budget)
        if failure:
            return budget, Fate.UNDECIDED, Judgement(False, reason=first_line(failure))
        seen = _left(_Trial, scratch)
        return seen.seconds, seen.fate, seen.verdict

    def _run_suite(self, scratch: Path, listener: object, call_timeout: float, *, preflight: bool) -> int:
        print_to_log(scratch)
        wanted = Task(
            CONNECTION,
            str(scratch),
            os.getppid(),
            self._task.selected,
            self._task.profile,
            EXAMPLES[self._task.profile],
            self._task.seed,
            self._task.backings,
            call_timeout=call_timeout,
            preflight=preflight,
        )
        replay = scratch / "replay.json"
        replay.write_text(json.dumps(as_plain(Replay(unshrunk=tuple(load_requirements())))))
        (scratch / "round").mkdir()
        words = [*arguments(wanted, 0, scratch / "round"), f"--conformance-replay={replay}"]
        return int(pytest.main(words, plugins=[listener]))


def _leave(seen: object, scratch: Path) -> None:
    (scratch / _SEEN).write_text(json.dumps(as_plain(seen)))


def _left(kind: type[_Seen], scratch: Path) -> _Seen:
    return from_plain(kind, json.loads((scratch / _SEEN).read_text()))


def _ended_badly(code: int, scratch: Path) -> str:
    return "" if code in ENDED_WELL else f"pytest ended with {code!r}:\n{_log(scratch)[-4000:]}"


def _log(scratch: Path) -> str:
    return (scratch / LOG).read_text(errors="backslashreplace")


def _last_line(scratch: Path) -> str:
    """What pytest said of a driver that it could not connect."""
    lines = [line for line in _log(scratch).splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


if __name__ == "__main__":
    main()
