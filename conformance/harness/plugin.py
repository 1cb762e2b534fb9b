"""The suite within pytest: opens the driver under test, offers the bench, and turns outcomes into verdicts.

The tests may run in processes that are forked from this one (conformance.harness.sharing), or, in somebody's own
pytest, in workers of pytest-xdist, for which its controller prepares the session. Each report carries its
outcome, so that whoever hears of a report (``on_outcome``) hears of a verdict.
"""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from conformance.drivers.protocol import TimeUp
from conformance.drivers.registry import UnknownDriver, connect
from conformance.drivers.source import DriverSource
from conformance.harness import stores as benches
from conformance.harness.causing import cause_of
from conformance.harness.collected import Collected, Inventory
from conformance.harness.concluding import Ended, concluded, exit_status, unaccounted
from conformance.harness.contained import Escaped, contained
from conformance.harness.ending import end_on_sigterm
from conformance.harness.lookups import StillFound
from conformance.harness.outcomes import case_of, deviation_of, explained, for_people
from conformance.harness.preflight import Unusable, preflight
from conformance.harness.preparing import prepared
from conformance.harness.selecting import (
    do_not_shrink,
    draws,
    is_selected,
    load_settings,
    name_of,
    narrowness,
    place_of,
    requirements_of,
)
from conformance.harness.session import Session
from conformance.harness.shrinking import Shrinking
from conformance.harness.skips import UNTESTED
from conformance.harness.stores import BackingBench, Fixtures
from conformance.harness.timing import Stopwatch
from conformance.history.case import decoded_draws
from conformance.history.printable import cut, printable
from conformance.history.steps import History
from conformance.history.trace import trace
from conformance.lab import readonly
from conformance.lab.kernellog import KernelLog
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.health import is_beyond_trust
from conformance.spec.naming import counted
from conformance.spec.values import as_plain, from_plain
from conformance.spec.verdicts import (
    TestOutcome,
    Verdict,
    judge,
    share_in_driver,
    with_cut_short,
)

NAME: Final = "overlay-conformance-suite"
UNREACHED: Final = pytest.StashKey[str]()  # of the configuration: why the driver cannot be reached
_SESSION: Final = "conformance_session"
_OUTCOME: Final = "conformance_outcome"
_COLLECTED: Final = "conformance_collected"


def start(config: pytest.Config) -> None:
    """Register the suite with pytest for this run; raises pytest.UsageError for what cannot be run."""
    stack = ExitStack()
    if hasattr(config, "workerinput"):
        end_on_sigterm()
    try:
        handed = getattr(config, "workerinput", {}).get(_SESSION)
        # The driver's code is imported after this process was confined.
        session = from_plain(Session, json.loads(handed)) if handed else prepared(config, stack)
        # Afterwards, so that a process that is started to reach the driver is in the same mount namespace.
        source = contained(connect(config.getoption("driver")))
        if not handed:
            readonly.allow(one for one in source.writable if readonly.is_read_only(one))
    except (UnknownDriver, KeyError) as error:
        stack.close()
        if isinstance(error, UnknownDriver):
            config.stash[UNREACHED] = str(error)
        raise pytest.UsageError(str(error)) from error
    stack.callback(source.close)
    tried = bool(handed) or config.option.collectonly or config.getoption("conformance_no_preflight")
    config.pluginmanager.register(ConformancePlugin(session, source, stack, tried=tried), NAME)


class ConformancePlugin:
    """One process's part of a run. ``on_outcome`` and ``on_start`` may be set to follow it.

    ``on_unusable`` hears why a driver failed the preflight, which is left out if it was ``tried`` before.
    """

    def __init__(self, session: Session, source: DriverSource, stack: ExitStack, *, tried: bool = False) -> None:
        self._tried = tried
        self.on_unusable: Callable[[str], None] = lambda _: None
        self.session = session
        self.source = source
        self.outcomes: list[TestOutcome] = []
        self.on_outcome: Callable[[TestOutcome], None] = lambda _: None
        self.on_start: Callable[[str], None] = lambda _: None
        self.on_collected: Callable[[Inventory], None] = lambda _: None
        self.on_stopped: Callable[[str], None] = lambda _: None  # hears that a limit of failures ended the run
        self._name = "main"  # of this process, for the directories of its stores
        self.exit_status = True  # whether pytest's exit status becomes that of the verdicts
        self._inventory: Inventory | None = None
        self._begun: set[str] = set()
        self._failed = 0
        self._shrinking = Shrinking()
        self._interrupted = False
        self._of_suite: dict[str, Counter[str]] = {}
        self._stack = stack
        self._fixtures = Fixtures(session, source, History(), Stopwatch(), load_requirements(), load_capabilities())
        self.tries = self._fixtures.tries
        self._log: KernelLog | None = None
        if "kernel-log" not in session.lacking:
            self._log = KernelLog()
            stack.callback(self._log.close)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Declare the markers and set hypothesis up."""
        config.addinivalue_line("markers", "requirement(*ids): the requirements that a test checks")
        config.addinivalue_line("markers", "smoke: also in the profiles smoke and quick")
        config.addinivalue_line("markers", "quick: also in the profile quick")
        config.addinivalue_line("markers", "release: in the profile release only")
        config.addinivalue_line("markers", "drawn: draws its examples without @given, so that more time finds more")
        config.addinivalue_line("markers", "place_free: the backing filesystem makes no difference")
        load_settings(self.session.examples, shrinks=self.session.shrinks)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Do the preflight, before pytest-xdist starts workers; a driver that fails it is not judged."""
        if self._tried:
            return
        try:
            outcome = preflight(self._fixtures)
        except Unusable as unusable:
            self.on_unusable(str(unusable))
            raise pytest.UsageError(str(unusable)) from unusable
        except TimeUp:
            return  # no test will begin, and each says so
        if outcome:
            self._take_inventory(Inventory())  # no test is missing where none was to run
            self._take(outcome)
            pytest.exit(f"{for_people(outcome)}\nNothing else was tested.", pytest.ExitCode.TESTS_FAILED)
        if session.config.getoption("conformance_preflight_only"):
            self._take_inventory(Inventory())
            pytest.exit("the driver can be judged", pytest.ExitCode.OK)

    def pytest_unconfigure(self) -> None:
        """Give everything back."""
        self._stack.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the session to a worker of pytest-xdist, and a file for what it collects.

        pytest-xdist tells the controller node ids only, and of a worker that died nothing but these.
        """
        node.workerinput[_SESSION] = json.dumps(as_plain(self.session))
        directory = Path(node.config.getoption("conformance_directory"))
        node.workerinput[_COLLECTED] = str(directory / f"collected-{node.gateway.id}.json")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test on every backing filesystem."""
        if "bench" in metafunc.fixturenames:
            places = list(self.session.places)
            if metafunc.definition.get_closest_marker("place_free"):
                places = places[:1]
            names = [place.backing for place in places]
            metafunc.parametrize("bench", places, indirect=True, ids=names)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests of the selected requirements and of the profile; skip what cannot be tested here.

        It comes first, so that the tests of the suite are counted before -k leaves some out.
        """
        for item in items:
            self._of_suite.setdefault(place_of(item).backing, Counter()).update(set(requirements_of(item)))
        items_of_others = [item for item in items if not requirements_of(item)]
        kept = [item for item in items if is_selected(self.session, item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept + items_of_others])
        if self.session.deadline:
            # What time is left for is what can differ the most from machine to machine.
            tests = Counter(one for item in kept for one in requirements_of(item))
            kept.sort(key=functools.partial(narrowness, self._fixtures.requirements, tests))
        items[:] = items_of_others + kept
        for item in kept:
            self._shrinking.watch(getattr(item, "obj", None))
            reason = benches.reason_to_skip(self._fixtures, requirements_of(item), place_of(item))
            if not reason and config.getoption("conformance_survey"):
                reason = UNTESTED + "it would run"
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
            elif self._is_known(item):
                do_not_shrink(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which tests will run; a worker of pytest-xdist writes it to its file before it tells their ids."""
        tests = {
            item.nodeid: Collected(item.name, requirements_of(item), place_of(item).backing)
            for item in session.items
            if requirements_of(item)
        }
        inventory = Inventory(tests, self._of_suite)
        file = getattr(session.config, "workerinput", {}).get(_COLLECTED)
        if file:
            Path(file).write_text(json.dumps(as_plain(inventory)))
        self._take_inventory(inventory)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Hear of what a worker of pytest-xdist collected; all collect the same."""
        if self._inventory is None:
            self._take_inventory(from_plain(Inventory, json.loads(Path(node.workerinput[_COLLECTED]).read_text())))

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Share the tests among processes, if several are asked for."""
        jobs = 1 if self._fixtures.source.alone else session.config.getoption("conformance_jobs")
        if jobs < 2 or session.testsfailed or session.config.option.collectonly:
            return None
        from conformance.harness.sharing import longest_first, run_shared  # it brings multiprocessing

        order: Iterable[int] = range(len(session.items))
        if not self.session.deadline:  # else they have the order of what matters
            order = longest_first(session.items, draws)
        run_shared(session, jobs, order, self._become)
        return True

    def _become(self, name: str) -> Callable[[], None]:
        """Go on in a forked process, which reaches the driver by itself; the answer ends that."""
        self._name = name
        self.on_outcome, self.on_start = lambda _: None, lambda _: None
        source = contained(connect(self.session.driver))
        self._fixtures = replace(self._fixtures, source=source)
        if self._log:  # two processes would read one descriptor
            self._log = KernelLog()
        return source.close

    def _take_inventory(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.on_collected(inventory)

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest) -> BackingBench:
        """Where a test gets its stores from."""
        worker = getattr(request.config, "workerinput", {}).get("workerid", self._name)
        self._fixtures.history.drawn.clear()
        replayed = decoded_draws(self.session.replay.cases.get(name_of(request.node)))
        return BackingBench(
            self._fixtures,
            request.param,
            worker,
            replayed if self.session.replay.only else None,
            shrinks=self.session.shrinks and not self._is_known(request.node),
        )

    def _is_known(self, item: pytest.Item) -> bool:
        """Whether its failure is, so that no time is spent on a smaller one."""
        return set(requirements_of(item)) <= set(self.session.replay.unshrunk)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell the progress."""
        self._begun.add(nodeid)
        self.on_start(nodeid.rpartition("::")[2])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin the test's clock and tell the kernel's log its name; end the run when its time is up."""
        if self.session.deadline and time.monotonic() > self.session.deadline:
            pytest.skip(UNTESTED + "the time of this run (--budget) was up")
        self._fixtures.watch.restart()
        self._fixtures.history.forget_facts()
        self.tries.restart()
        self._shrinking.restart()
        if self._log:
            self._log.news()
            self._log.write(item.name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """A test that the end of the run cut short is not judged; one in which a call hung has failed by that."""
        try:
            return (yield)
        except TimeUp as error:
            pytest.skip(UNTESTED + str(error))
        except BaseException as error:
            used = getattr(item, "funcargs", {}).get("bench")
            if isinstance(used, BackingBench) and used.hung and not isinstance(error, KeyboardInterrupt):
                raise used.hung from None
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what happened in one phase of a test into an outcome."""
        report = yield
        if requirements_of(item) and (report.when == "call" or report.outcome != "passed"):
            outcome = self._outcome(item, call, report)
            setattr(report, _OUTCOME, json.dumps(as_plain(outcome)))  # ASCII, whatever bytes names have
            if outcome.verdict in (Verdict.FAIL, Verdict.XPASS):
                report.longrepr = for_people(outcome, minimal=self.session.shrinks)
            if outcome.verdict is Verdict.FAIL and item.config.getoption("maxfail") and self._is_known(item):
                report.outcome, report.wasxfail = "skipped", "a known failure"  # no limit of failures counts it
            if outcome.verdict is Verdict.ERROR and report.outcome == "skipped":
                report.outcome, report.longrepr = "failed", for_people(outcome)
                vars(report).pop("wasxfail", None)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self) -> Generator[None, Any, Any]:
        """Let a report pass to the controller that quotes names which are not UTF-8: execnet ends on them."""
        return _printable((yield))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear of an outcome, of this process or of a worker. A failed report without one is an ERROR.

        pytest-xdist makes such a report of the test that a worker died in.
        """
        self._failed += report.outcome == "failed"
        fields = getattr(report, _OUTCOME, None)
        if fields:
            self._take(from_plain(TestOutcome, json.loads(fields)))
            return
        test = self._inventory.tests.get(report.nodeid) if self._inventory else None
        if test and report.outcome == "failed":
            said = report.longrepr if isinstance(report.longrepr, str) else report.longreprtext
            self._take(test.without_outcome(Verdict.ERROR, f"the test reported no outcome: {said}"))

    def _take(self, outcome: TestOutcome) -> None:
        self.outcomes.append(outcome)
        self.on_outcome(outcome)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Account for each test that was collected, and make pytest's exit status that of the verdicts."""
        config = session.config
        options = config.option
        if hasattr(config, "workerinput") or options.collectonly or getattr(options, "setuponly", False):
            return
        limit = config.getoption("maxfail")
        at_limit = bool(limit) and self._failed >= limit
        stopped = bool(session.shouldfail or session.shouldstop or at_limit)
        why = ""
        if at_limit:
            why = f"the run stopped after {counted(self._failed, 'failure')}, as its command line asked"
            self.on_stopped(why)
        if self._inventory is not None:
            ended = Ended(exitstatus, self._interrupted, stopped, why)
            for outcome in unaccounted(self._inventory, self._begun, self.outcomes, ended):
                self._take(outcome)
        if self.exit_status and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            results = judge(self.session.selected, self.outcomes)
            session.exitstatus = exit_status(self._inventory, results, exitstatus, session.testscollected)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from pytest.exit and from pytest-xdist, which gives up when too many workers died."""
        self._interrupted = type(excinfo.value) is KeyboardInterrupt

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        """The verdicts in one line, after pytest's own."""
        selected = self.session.selected
        results = judge(selected, with_cut_short(self.outcomes, selected))
        counts = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
        said = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
        share = f"{share_in_driver(self.outcomes):.0%} of the test time in the driver or the kernel"
        line = f"{self.session.driver}, privilege level {self.session.lane}: {said}; {share}"
        end = concluded(self._inventory, results, Ended(exitstatus, self._interrupted))
        terminalreporter.write_line(printable(f"{line} -> {end}"))

    def _outcome(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> TestOutcome:
        requirements = declared = requirements_of(item)
        error = call.excinfo.value if call.excinfo else None
        if deviation := deviation_of(error, self.tries.error):
            charged = deviation.requirements or requirements
            # Where the requirement that it is charged to was not selected, the test fails all the same.
            if not isinstance(deviation, Escaped) or set(charged) & set(self.session.selected):
                requirements = charged
        verdict, reason = explained(error, report, self.tries.error)
        failed = verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.XFAIL)
        seconds, in_driver = self._fixtures.watch.seconds() if report.when == "call" else (0.0, 0.0)
        said = tuple(self._log.news()) if self._log else ()
        if self._log and is_beyond_trust(self._log.newly_tainted()):
            verdict = Verdict.ERROR
            reason = (
                f"the kernel tainted itself (mask {self._log.newly_tainted():#x}); what follows cannot be trusted:"
                f" reboot\n{reason}"
            )
        history = self._fixtures.history
        others = tuple(one for one in declared if one not in requirements)
        held = isinstance(error, StillFound) and not history.drawn  # of drawn examples, the rest did not run
        return TestOutcome(
            item.name,
            requirements,
            verdict,
            cut(reason),
            tuple(map(cut, trace(history.steps))) if failed else (),
            place_of(item).backing,
            round(seconds, 4),
            round(in_driver, 4),
            said,
            history.facts(),
            case_of(item, self.session.driver, history, error, reason) if verdict is Verdict.FAIL else None,
            cut=() if held else others,
            held=others if held else (),
            cause=cause_of(error, history.steps) if verdict is Verdict.FAIL else None,
            shrink_seconds=round(self._shrinking.took(), 4) if report.when == "call" else 0.0,
        )


def _printable(value: Any) -> Any:
    """The same lists and dictionaries, with escapes in their strings for what is no text."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case dict():
            return {_printable(key): _printable(one) for key, one in value.items()}
        case list() | tuple():
            return type(value)(_printable(one) for one in value)
    return value
