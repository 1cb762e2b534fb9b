"""The pytest plugin: opens the driver under test, offers the workbench, and turns outcomes into verdicts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyFailure

from conformance.driver import DriverRefused, DriverSource
from conformance.lab import namespace
from conformance.results import TestOutcome, Verdict
from conformance.spec import Requirement
from conformance.workbench import Deviation, Story, Workbench

_DECLINED = "declined: "
_NOT_APPLICABLE = "not applicable: "


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a run is about. ``lacking`` names capabilities that this host has not, and why."""

    source: DriverSource
    scratch: Path
    requirements: dict[str, Requirement]
    selected: frozenset[str]
    privileged: bool
    examples: int
    seed: int
    lacking: dict[str, str]


class Bench:
    """Opens stores of the driver under test, each in a directory of its own."""

    def __init__(self, config: RunConfig, story: Story) -> None:
        self.privileged = config.privileged
        self.story = story
        self._config = config
        self._made = 0

    @contextmanager
    def store(self, name: str = "", path: Callable[[Path], Path] | None = None) -> Iterator[Workbench]:
        """A fresh store, gone afterwards. The first of an example begins its story.

        ``path`` may choose the store's directory below the one given, for tests of long or strange paths.
        """
        if name in ("", "origin"):
            self.story.begin()
        self._made += 1
        directory = self._config.scratch / f"s{self._made}"
        directory.mkdir()
        home = path(directory) if path else directory
        home.mkdir(parents=True, exist_ok=True)
        try:
            workbench = Workbench(self._config.source.open(home), directory, self.story, name)
            yield workbench
            workbench.driver.close()
        finally:
            namespace.unmount_below(directory)
            shutil.rmtree(directory)


class ConformancePlugin:
    """Registered with pytest for one run; ``report`` is told of each test's outcome, and ``begin`` of its start."""

    def __init__(
        self, config: RunConfig, begin: Callable[[str], None], report: Callable[[TestOutcome], None]
    ) -> None:
        self._config = config
        self._begin = begin
        self._report = report
        self._story = Story()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Declare the marker and set hypothesis up."""
        config.addinivalue_line("markers", "requirement(*ids): the requirements that a test checks")
        settings.register_profile(
            "conformance",
            max_examples=self._config.examples,
            deadline=None,  # a slow driver is not a wrong one
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("conformance")

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests of the selected requirements; skip, with a reason, what cannot be tested here."""
        kept = [item for item in items if self._config.selected & set(requirements_of(item))]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
        for item in items:
            reason = self._reason_to_skip(requirements_of(item))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))

    def _reason_to_skip(self, requirements: tuple[str, ...]) -> str:
        for requirement in requirements:
            for need in self._config.requirements[requirement].needs:
                if need in self._config.source.info.declined:
                    return _DECLINED + self._config.source.info.declined[need]
                if need in self._config.lacking:
                    return _NOT_APPLICABLE + self._config.lacking[need]
        return ""

    @pytest.fixture
    def bench(self) -> Bench:
        """Where a test gets its stores from."""
        return Bench(self._config, self._story)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell the progress."""
        self._begin(nodeid.rpartition("::")[2])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what happened in one phase of a test into an outcome."""
        report = yield
        if report.when == "call" or report.outcome != "passed":
            self._report(self._outcome(item, call, report))
        return report

    def _outcome(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> TestOutcome:
        name, requirements = item.name, requirements_of(item)
        if report.outcome == "passed":
            return TestOutcome(name, requirements, Verdict.PASS)
        if report.outcome == "skipped":
            reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
            reason = reason.removeprefix("Skipped: ")
            verdict = Verdict.DECLINED if reason.startswith(_DECLINED) else Verdict.NOT_APPLICABLE
            return TestOutcome(name, requirements, verdict, reason)
        error = call.excinfo.value if call.excinfo else None
        return TestOutcome(name, requirements, *_explained(error, report.longreprtext), tuple(self._story.lines))


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    """The ids that a test declares."""
    return tuple(one for marker in item.iter_markers("requirement") for one in marker.args)


def _explained(error: BaseException | None, trace: str) -> tuple[Verdict, str]:
    """A failure of the driver, or an error of the harness, in words."""
    match error:
        case Deviation():
            return Verdict.FAIL, str(error)
        case DriverRefused():
            return Verdict.FAIL, f"the driver refused a step that it must do: {error}"
        case FlakyFailure():
            return Verdict.FAIL, f"failed, and then did not when the same steps were repeated: {error}\n{trace}"
    return Verdict.ERROR, trace
