"""The evidence folders of a run by pytest."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import pytest

from conformance.drivers.registry import dialect_of
from conformance.evidence.folder import About, write_folder, write_kernel_folder, write_plain_folder
from conformance.harness.plugin import ConformancePlugin
from conformance.history.printable import printable
from conformance.spec import health, load_requirements
from conformance.spec.verdicts import Verdict


def write(suite: ConformancePlugin, config: pytest.Config, evidence: Path, *, interrupted: bool) -> str:
    """Write a folder for each failure and error; a line that says where they are, "" if there are none.

    A folder that cannot be written is named in the line, and changes no verdict.
    """
    session = suite.session
    failed = [one for one in suite.outcomes if one.verdict in (Verdict.FAIL, Verdict.ERROR)]
    if not failed:
        return ""
    about = About(
        session.driver,
        suite.source.info.version,
        importlib.metadata.version("overlay-conformance"),
        platform.release(),
        config.getoption("hypothesis_seed", None),
        session.examples,
        config.getoption("conformance_profile"),
    )
    requirements, dialect = load_requirements(), dialect_of(session.driver)
    scratch = Path(config.getoption("conformance_directory"))
    why_not = "the run was interrupted" if interrupted else ""
    lost = []
    for outcome in failed:
        try:
            if outcome.verdict is Verdict.FAIL and outcome.case is not None:
                write_folder(evidence, outcome, requirements, about, dialect, scratch, untried=why_not)
            elif outcome.verdict is Verdict.FAIL and outcome.test == health.TEST:
                write_kernel_folder(evidence, outcome, requirements, about)
            else:
                write_plain_folder(evidence, outcome, requirements, about)
        except Exception as error:
            lost.append(f"{outcome.test} ({type(error).__name__}: {error})")
    said = f"evidence: {evidence}, a folder for each failure, with failure.md, and repro.sh where a script shows it"
    return printable(f"{said}; not written: {', '.join(lost)}" if lost else said)
