"""Plugins of pytest: one measures what each test executes of the correct driver, one lets tests judge a mutant."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conformance.harness import plugin as suite
from conformance.harness.plugin import ConformancePlugin
from conformance.harness.selecting import load_settings, requirements_of
from conformance.selftest.generated.reach import Marker
from conformance.spec.verdicts import PREFLIGHT, TestOutcome, Verdict

_WRONG = (Verdict.FAIL, Verdict.ERROR, Verdict.XPASS)


def suite_of(config: pytest.Config) -> ConformancePlugin:
    """The suite's own plugin, whose exit status is not wanted here."""
    found = config.pluginmanager.get_plugin(suite.NAME)
    assert isinstance(found, ConformancePlugin), "pytest_entry registers it"
    found.exit_status = False
    return found


@dataclass(slots=True)
class Measurer:
    """Marks which test runs. ``names`` are node ids, numbered from 1, ``seconds`` what each took."""

    marker: Marker
    names: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: str = ""  # the first test that did not pass, and why

    def pytest_configure(self, config: pytest.Config) -> None:
        """Listen to the suite's plugin."""
        suite_of(config).on_outcome = self._note

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, bool, bool]:
        """Number a test, and take its time; one that is skipped here executes nothing."""
        self.names.append(item.nodeid)
        self.marker.set(len(self.names))
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = round(time.monotonic() - began, 3)
            self.marker.set(0)

    def _note(self, outcome: TestOutcome) -> None:
        if outcome.verdict in _WRONG and not self.failed:
            self.failed = f"{outcome.test}: {outcome.verdict.value}: {outcome.reason}"


@dataclass(slots=True)
class Control:
    """Runs given tests, on the correct driver. ``failed`` names those that did not pass, with the reason."""

    tests: frozenset[str]
    failed: dict[str, str] = field(default_factory=dict)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Listen to the suite's plugin."""
        suite_of(config).on_outcome = self._note

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that killed."""
        items[:] = [item for item in items if item.nodeid in self.tests]

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave out the files that have none of them."""
        return _has_none(self.tests, collection_path)

    def _note(self, outcome: TestOutcome) -> None:
        if outcome.verdict in _WRONG:
            self.failed[outcome.test] = first_line(outcome.reason)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the suite says of one mutant. ``nodeid`` is the test that killed it, ``test`` its name."""

    killed: bool
    nodeid: str = ""
    test: str = ""
    requirements: tuple[str, ...] = ()
    reason: str = ""


class Judge:
    """Runs given tests in a given order until one fails, without shrinking."""

    def __init__(self, tests: Sequence[str], examples: int) -> None:
        self._order = {test: number for number, test in enumerate(tests)}
        self._examples = examples
        self._session: pytest.Session
        self._now = ""
        self._errors: list[str] = []
        self.unusable = ""
        self.killed: Judgement | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        """Listen to the suite's plugin."""
        found = suite_of(config)
        found.on_outcome = self._note
        found.on_unusable = self._is_unusable
        load_settings(self._examples, shrinks=False)  # for state machines, which take them when they run

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Keep what ends the trial."""
        self._session = session

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that can kill, in their order."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._order and requirements_of(item)),
            key=lambda item: self._order[item.nodeid],
        )

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave out the files that have none of the tests, which saves half the time of a quick kill."""
        return _has_none(self._order, collection_path)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._now = nodeid

    def _is_unusable(self, why: str) -> None:
        self.unusable = why

    def _note(self, outcome: TestOutcome) -> None:
        if outcome.verdict is Verdict.ERROR:
            self._errors.append(f"{outcome.test}: ERROR: {outcome.reason}")
        if outcome.verdict is Verdict.FAIL and not self.killed:
            nodeid = "" if outcome.test == PREFLIGHT else self._now
            self.killed = Judgement(True, nodeid, outcome.test, outcome.requirements, first_line(outcome.reason))
            if outcome.test != PREFLIGHT:
                self._session.shouldfail = "killed"

    @property
    def verdict(self) -> Judgement:
        """The kill, or why there is none."""
        return self.killed or Judgement(False, reason=first_line(self._errors[0]) if self._errors else "")


def _has_none(tests: Iterable[str], file: Path) -> bool | None:
    """Whether a file has none of the tests, as pytest asks; None leaves the decision to others."""
    return None if file.suffix != ".py" or any(one.startswith(f"{file.name}::") for one in tests) else True


def first_line(text: str) -> str:
    """The first line of a reason."""
    return (text.strip().splitlines() or [""])[0][:500]
