"""What all tests share: real mounts are made in a private mount namespace, which dies with the process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from skips import allowed_skips, forbidden
from warm import forked_workers

from refdriver import trees
from refdriver.linux import libc

# For benchmarks/, which is in no distribution; at the end, so that all else is what is installed.
sys.path.append(str(Path(__file__).parent.parent))

# Of processes that tests start: plugins of hypothesis come with packages that only other tests need, such as trio.
os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"
# The examples that hypothesis keeps are no part of a checkout.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(_CACHE / "overlay-conformance" / "hypothesis"))

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

MEMORY = Path("/dev/shm")
ROOM = 4 << 30  # bytes


def keep_files_in_memory() -> None:
    """Put the files of tests in memory, where there is room: a third of the time would go into syncs of a disk.

    Whoever names a place by TMPDIR gets it.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_mount():
        return
    if shutil.disk_usage(MEMORY).free >= ROOM and os.access(MEMORY, os.W_OK):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # which may be known already


class NoForbiddenSkips:
    """Fails a run with CI=true if a test was skipped that tests/allowed-skips.toml does not name."""

    def __init__(self) -> None:
        self._skipped: list[tuple[str, str]] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "wasxfail"):
            self._note(report)

    def _note(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self._skipped.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        if forbidden(self._skipped, allowed_skips()) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = forbidden(self._skipped, allowed_skips())
        if lines:
            terminalreporter.section("skips that tests/allowed-skips.toml does not allow", red=True)
            terminalreporter.write_line("\n".join(lines))


def pytest_configure(config: pytest.Config) -> None:
    keep_files_in_memory()
    # With xdist the controller sees all reports, and its workers have a workerinput.
    if os.environ.get("CI") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(NoForbiddenSkips(), "no-forbidden-skips")
    config.addinivalue_line("markers", "mounts: makes real mounts, so it needs root")
    config.addinivalue_line("markers", "slow: takes more than two seconds of CPU; not in tox -e quick")
    # A shell without job control starts what is in the background with Ctrl-C ignored, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid() == 0:
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE, None)
    if not (config.option.collectonly or getattr(config.option, "numprocesses", None)):  # this process runs tests
        stack = ExitStack()
        stack.enter_context(forked_workers())
        config.add_cleanup(stack.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("mounts"):
            item.add_marker(pytest.mark.skip(reason="needs root for real mounts; run with sudo"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory on a filesystem that overlay can use as upper, gone after the test with what it holds."""
    path = Path(tempfile.mkdtemp(prefix="overlay-conformance-test-"))
    yield path.resolve()
    trees.remove_tree(str(path.resolve()))
