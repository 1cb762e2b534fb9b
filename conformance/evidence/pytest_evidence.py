"""Evidence folders of a run by pytest: what ``run`` leaves, too. pytest loads this in every project.

The worker of ``run`` does not load it: there the command writes the folders.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

_SUITE: Final = "overlay-conformance-suite"  # the name of conformance.harness.plugin
_WRITTEN: Final = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the folders are written."""
    parser.getgroup("overlay-conformance").addoption(
        "--conformance-evidence",
        metavar="DIRECTORY",
        default="overlay-conformance-failures",
        help="directory for evidence folders, '' to write none (overlay-conformance-failures)",
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write a folder for each failure, in the process that hears of all outcomes."""
    config = session.config
    suite = config.pluginmanager.get_plugin(_SUITE)
    where = config.getoption("conformance_evidence")
    if suite is None or not where or hasattr(config, "workerinput"):
        return
    from conformance.evidence.of_pytest import write  # imported for a run only: it brings every adapter

    interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
    config.stash[_WRITTEN] = write(suite, config, config.invocation_params.dir / where, interrupted=interrupted)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the folders are."""
    said = config.stash.get(_WRITTEN, "")
    if said:
        terminalreporter.write_line(said)
