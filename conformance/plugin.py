"""The suite within pytest: opens the driver under test, offers the bench, and turns outcomes into verdicts.

With pytest-xdist the controller prepares the session and its workers run the tests; each report carries its
outcome, so that whoever hears of a report (``on_outcome``) hears of a verdict.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyFailure, FlakyStrategyDefinition

from conformance import bench as benches
from conformance.adapters import UnknownDriver, connect, writable_of
from conformance.bench import Bench, Fixtures
from conformance.case import Case, decoded_draws
from conformance.contained import Escaped, contained
from conformance.driver import DriverFailed, DriverRefused, DriverSource
from conformance.findings import Finding, InWords, NotDone
from conformance.health import is_beyond_trust
from conformance.lab import namespace, readonly
from conformance.lab.kernellog import KernelLog
from conformance.lab.scratch import scratch_directory
from conformance.results import TestOutcome, Verdict, exit_code, judge, share_in_driver
from conformance.session import Place, Replay, Session, Wish, prepare
from conformance.spec import VARIES, Requirement, load_capabilities, load_requirements
from conformance.timing import Stopwatch
from conformance.workbench import Deviation, Story

NAME: Final = "overlay-conformance-suite"
EXAMPLES: Final = {"smoke": 2, "standard": 10, "release": 150}
_SESSION: Final = "conformance_session"
_OUTCOME: Final = "conformance_outcome"
UNTESTED: Final = "untested: "
# Options of pytest, pytest-html, pytest-reportlog and pytest-json-report that name a file or a directory.
_REPORTS: Final = ("xmlpath", "basetemp", "log_file", "htmlpath", "report_log", "json_report_file")
_RARE: Final = frozenset(("xfs-quota", "reset"))  # what a host or a machine has to be made for
_UNSHRUNK: Final = "conformance_unshrunk"


def start(config: pytest.Config) -> None:
    """Register the suite with pytest for this run; raises pytest.UsageError for what cannot be run."""
    stack = ExitStack()
    try:
        handed = getattr(config, "workerinput", {}).get(_SESSION)
        # The driver's code is imported after this process was confined.
        session = Session.from_json(json.loads(handed)) if handed else _prepared(config, stack)
        source = contained(connect(config.getoption("driver")))
        if not handed:
            readonly.allow(one for one in source.writable if readonly.is_read_only(one))
    except (UnknownDriver, KeyError) as error:
        stack.close()
        raise pytest.UsageError(str(error)) from error
    stack.callback(source.close)
    config.pluginmanager.register(ConformancePlugin(session, source, stack), NAME)


def _prepared(config: pytest.Config, stack: ExitStack) -> Session:
    known = load_requirements()
    chosen = tuple(config.getoption("requirement")) or tuple(known)
    unknown = set(chosen) - known.keys()
    if unknown:
        raise pytest.UsageError(
            f"no requirement {', '.join(sorted(unknown))}; 'overlay-conformance list' shows all"
        )
    profile = config.getoption("conformance_profile")
    examples = config.getoption("conformance_examples") or EXAMPLES[profile]
    wish = Wish(
        config.getoption("driver"),
        profile,
        examples,
        chosen,
        tuple(config.getoption("backing")),
        config.getoption("conformance_deadline"),
        _replay(config.getoption("conformance_replay")),
        writable_of(config.getoption("driver")),
    )
    directory = config.getoption("conformance_directory")
    if directory is None:
        parent = config.getoption("conformance_scratch") or tempfile.gettempdir()
        directory = stack.enter_context(scratch_directory(Path(parent)))
        wish = replace(wish, writable=(Path(directory), *wish.writable, *_written_by_pytest(config)))
    else:
        wish = replace(wish, writable=(Path(directory).parent, *wish.writable))  # of the worker, with its own files
    scratch = Path(directory)
    stack.callback(namespace.unmount_below, scratch)
    return prepare(wish, scratch)


def _written_by_pytest(config: pytest.Config) -> list[Path]:
    """Where pytest and its plugins write: reports, caches and what they leave beside the tests.

    "/" is not among them, whoever starts pytest there: all else would be writable with it.
    """
    files = [config.getoption(name, None) for name in _REPORTS]
    named = [config.invocation_params.dir / one for one in files if isinstance(one, (str, Path)) and one]
    existing = [next(one for one in path.resolve().parents if one.is_dir()) for path in named]
    places = [config.invocation_params.dir, config.rootpath, *existing]
    return [one for one in dict.fromkeys(one.resolve() for one in places) if one != Path("/")]


def _replay(file: str | None) -> Replay:
    return Replay.from_json(json.loads(Path(file).read_text())) if file else Replay()


class ConformancePlugin:
    """One process's part of a run. ``on_outcome`` and ``on_start`` may be set to follow it."""

    def __init__(self, session: Session, source: DriverSource, stack: ExitStack) -> None:
        self.session = session
        self.source = source
        self.outcomes: list[TestOutcome] = []
        self.on_outcome: Callable[[TestOutcome], None] = lambda _: None
        self.on_start: Callable[[str], None] = lambda _: None
        self._stack = stack
        self._fixtures = Fixtures(session, source, Story(), Stopwatch(), load_requirements(), load_capabilities())
        self.tries = self._fixtures.tries
        self._log: KernelLog | None = None
        if "kernel-log" not in session.lacking:
            self._log = KernelLog()
            stack.callback(self._log.close)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Declare the markers and set hypothesis up."""
        config.addinivalue_line("markers", "requirement(*ids): the requirements that a test checks")
        config.addinivalue_line("markers", "smoke: also in the profile smoke")
        config.addinivalue_line("markers", "release: in the profile release only")
        config.addinivalue_line("markers", "drawn: draws its examples without @given, so that more time finds more")
        config.addinivalue_line("markers", "place_free: the backing filesystem makes no difference")
        load_settings(self.session.examples)

    def pytest_unconfigure(self) -> None:
        """Give everything back."""
        self._stack.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the session to a worker of pytest-xdist."""
        node.workerinput[_SESSION] = json.dumps(self.session.as_json())

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test on every backing filesystem."""
        if "bench" in metafunc.fixturenames:
            places = list(self.session.places)
            if metafunc.definition.get_closest_marker("place_free"):
                places = places[:1]
            names = [place.backing for place in places]
            metafunc.parametrize("bench", places, indirect=True, ids=names)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests of the selected requirements and of the profile; skip what cannot be tested here."""
        items_of_others = [item for item in items if not requirements_of(item)]
        kept = [item for item in items if self._is_selected(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept + items_of_others])
        if self.session.deadline:
            # What time is left for is what can differ the most from machine to machine.
            tests = Counter(one for item in kept for one in requirements_of(item))
            kept.sort(key=functools.partial(_narrowness, self._fixtures.requirements, tests))
        items[:] = items_of_others + kept
        for item in kept:
            reason = benches.reason_to_skip(self._fixtures, requirements_of(item), place_of(item))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
            elif self._is_known(item):
                _do_not_shrink(item)

    def _is_selected(self, item: pytest.Item) -> bool:
        if not set(self.session.selected) & set(requirements_of(item)):
            return False
        replay = self.session.replay
        if replay.only:
            return name_of(item) in replay.cases
        if item.name in replay.settled:
            return False
        if self.session.profile == "smoke":
            return item.get_closest_marker("smoke") is not None
        return self.session.profile == "release" or item.get_closest_marker("release") is None

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest) -> Bench:
        """Where a test gets its stores from."""
        worker = getattr(request.config, "workerinput", {}).get("workerid", "main")
        self._fixtures.story.tape.drawn.clear()
        replayed = decoded_draws(self.session.replay.cases.get(name_of(request.node)))
        return Bench(
            self._fixtures,
            request.param,
            worker,
            replayed if self.session.replay.only else None,
            shrinks=not self._is_known(request.node),
        )

    def _is_known(self, item: pytest.Item) -> bool:
        """Whether its failure is, so that no time is spent on a smaller one."""
        return set(requirements_of(item)) <= set(self.session.replay.unshrunk)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell the progress."""
        self.on_start(nodeid.rpartition("::")[2])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin the test's clock and tell the kernel's log its name; end the run when its time is up."""
        if self.session.deadline and time.monotonic() > self.session.deadline:
            pytest.skip(UNTESTED + "the time of this run (--budget) was up")
        self._fixtures.watch.restart()
        self._fixtures.story.forget_facts()
        self.tries.restart()
        if self._log:
            self._log.news()
            self._log.write(item.name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what happened in one phase of a test into an outcome."""
        report = yield
        if requirements_of(item) and (report.when == "call" or report.outcome != "passed"):
            outcome = self._outcome(item, call, report)
            setattr(report, _OUTCOME, json.dumps(outcome.as_json()))  # ASCII, whatever bytes names have
            if outcome.verdict in (Verdict.FAIL, Verdict.XPASS):
                report.longrepr = _for_people(outcome)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self) -> Generator[None, Any, Any]:
        """Let a report pass to the controller that quotes names which are not UTF-8: execnet ends on them."""
        return _printable((yield))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear of an outcome, of this process or of a worker."""
        fields = getattr(report, _OUTCOME, None)
        if fields:
            outcome = TestOutcome.from_json(json.loads(fields))
            self.outcomes.append(outcome)
            self.on_outcome(outcome)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdicts in one line, after pytest's own."""
        results = judge(self.session.selected, self.outcomes)
        counts = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
        said = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
        share = f"{share_in_driver(self.outcomes):.0%} of the time in the driver or the kernel"
        words = {0: "conforms", 1: "does not conform", 2: "the harness failed", 3: "nothing applicable ran"}
        terminalreporter.write_line(
            f"{self.session.driver}, lane {self.session.lane}: {said}; {share} -> {words[exit_code(results)]}"
        )

    def _outcome(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> TestOutcome:
        requirements = requirements_of(item)
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, Deviation):
            charged = error.requirements or requirements
            # Where the requirement that it is charged to was not selected, the test fails all the same.
            if not isinstance(error, Escaped) or set(charged) & set(self.session.selected):
                requirements = charged
        verdict, reason = _explained(error, report, self.tries.error)
        failed = verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.XFAIL)
        seconds, in_driver = self._fixtures.watch.seconds() if report.when == "call" else (0.0, 0.0)
        said = tuple(self._log.news()) if self._log else ()
        if self._log and is_beyond_trust(self._log.newly_tainted()):
            verdict = Verdict.ERROR
            reason = (
                f"the kernel tainted itself (mask {self._log.newly_tainted():#x}); what follows cannot be trusted:"
                f" reboot\n{reason}"
            )
        return TestOutcome(
            item.name,
            requirements,
            verdict,
            reason,
            tuple(self._fixtures.story.lines) if failed else (),
            place_of(item).backing,
            round(seconds, 4),
            round(in_driver, 4),
            said,
            self._fixtures.story.facts(),
            self._case(item, error, reason) if verdict is Verdict.FAIL else None,
        )

    def _case(self, item: pytest.Item, error: BaseException | None, reason: str) -> dict[str, Any] | None:
        """What the failure can be repeated from; None if something in it has no form."""
        tape = self._fixtures.story.tape
        case = Case(
            test=name_of(item),
            requirements=requirements_of(item),
            backing=place_of(item).backing,
            driver=self.session.driver,
            reason=reason,
            words=tuple(self._fixtures.story.lines),
            drawn=tuple(tape.drawn),
            steps=tuple(tape.steps),
            finding=_finding(error),
            directory=place_of(item).directory,
        )
        try:
            return case.as_json()
        except TypeError:
            return None


def load_settings(examples: int) -> None:
    """Set hypothesis up; tests that are imported afterwards are run so."""
    settings.register_profile(
        "conformance",
        max_examples=examples,
        deadline=None,  # a slow driver is not a wrong one
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("conformance")


def _finding(error: BaseException | None) -> Finding:
    if isinstance(error, Deviation):
        return error.finding
    return NotDone(str(error)) if isinstance(error, DriverRefused) else InWords()


def _do_not_shrink(item: pytest.Item) -> None:
    test = getattr(item, "obj", None)
    # One function is the test of several items, and of several rounds, and takes settings once.
    if getattr(test, "is_hypothesis_test", False) and not hasattr(test, _UNSHRUNK):
        setattr(test, _UNSHRUNK, True)
        settings(settings.get_profile("conformance"), phases=(Phase.explicit, Phase.generate))(test)


def name_of(item: pytest.Item) -> str:
    """The name of a test without its backing filesystem, as cases have it."""
    backing = re.escape(place_of(item).backing)
    return re.sub(rf"\[{backing}\]|(?<=\[){backing}-|-{backing}(?=\])", "", item.name, count=1)


def _narrowness(
    known: Mapping[str, Requirement], tests: Mapping[str, int], item: pytest.Item
) -> tuple[int, bool, int, str]:
    """0 for what varies with kernel, filesystem and overlay's parameters, up to 3 for what varies with nothing.

    Of what varies as much, that comes first which few machines can judge, and of that, what has few ``tests``: a
    requirement has a verdict when the last of its tests has one, so they are kept together, too.
    """
    found = [known[one] for one in requirements_of(item) if one in known]
    common = not any(_RARE & set(one.needs) for one in found)
    least = min(found, key=lambda one: (tests[one.id], one.id))
    return len(VARIES) - max(len(one.varies) for one in found), common, tests[least.id], least.id


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    """The ids that a test declares."""
    return tuple(one for marker in item.iter_markers("requirement") for one in marker.args)


def place_of(item: pytest.Item) -> Place:
    """The backing filesystem that a test is run on."""
    found = getattr(item, "callspec", None)
    place = found.params.get("bench") if found else None
    return place if isinstance(place, Place) else Place("", "")


def _explained(
    error: BaseException | None, report: pytest.TestReport, first: Exception | None
) -> tuple[Verdict, str]:
    """A failure of the driver, or an error of the harness, in words; ``first`` is how the first example failed."""
    if hasattr(report, "wasxfail"):
        return (Verdict.XFAIL if report.skipped else Verdict.XPASS), str(report.wasxfail)
    if report.outcome == "passed":
        return Verdict.PASS, ""
    if report.outcome == "skipped":
        return _skipped(report)
    match error:
        case Deviation():
            return Verdict.FAIL, str(error)
        case DriverFailed():
            return Verdict.FAIL, f"{error}\n{error.detail}".rstrip()
        case DriverRefused():
            return Verdict.FAIL, f"the driver refused a step that it must do: {error}"
        case FlakyFailure():
            return (
                Verdict.FAIL,
                f"failed, and then did not when the same steps were repeated: {error}\n{report.longreprtext}",
            )
        case FlakyStrategyDefinition() if isinstance(first, (Deviation, DriverRefused, DriverFailed)):
            # Whatever the harness draws for a history follows from what it drew before, and how far that came.
            said = "failed, and then in another place when the same steps were repeated in a fresh store"
            return Verdict.FAIL, f"{said}: {first}\n{report.longreprtext}"
    return Verdict.ERROR, report.longreprtext


def _skipped(report: pytest.TestReport) -> tuple[Verdict, str]:
    text = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    reason = text.removeprefix("Skipped: ")
    if reason.startswith(benches.DECLINED):
        return Verdict.DECLINED, reason
    return (Verdict.UNTESTED if reason.startswith(UNTESTED) else Verdict.NOT_APPLICABLE), reason


def _for_people(outcome: TestOutcome) -> str:
    steps = [f"{number:5}. {step}" for number, step in enumerate(outcome.steps, 1)]
    lines = [f"{', '.join(outcome.requirements)} on {outcome.backing}", outcome.reason]
    return "\n".join([*lines, "The smallest steps that show it:", *steps] if steps else lines)


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
