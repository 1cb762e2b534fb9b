"""What pytest loads: the options of the suite, and the suite itself once a driver is named.

``pytest --pyargs conformance --driver=CONNECTION`` judges a driver with everybody's usual options (-k, -x, -n,
--junit-xml, ...). Without ``--driver`` nothing of the suite but the names of its
profiles is imported, in whatever project this is installed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from conformance.spec.profiles import PROFILES

_SUITE = "conformance"
_NO_DRIVER = "the suite needs a driver: pytest --pyargs conformance --driver=python:refdriver:Driver"
_SUITES = Path(__file__).parent / "suites"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own."""
    group = parser.getgroup("overlay-conformance")
    group.addoption("--driver", metavar="CONNECTION", help="the driver to test, such as python:refdriver:Driver")
    group.addoption(
        "--conformance-profile",
        choices=PROFILES,
        default="standard",
        help="which tests to run, with how many examples",
    )
    group.addoption("--conformance-examples", type=int, metavar="N", help="examples for each property")
    group.addoption(
        "--backing", action="append", default=[], metavar="NAME", help="backing filesystem, or all (repeatable)"
    )
    group.addoption(
        "--requirement", action="append", default=[], metavar="ID", help="only this requirement (repeatable)"
    )
    group.addoption(
        "--conformance-call-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time limit in seconds for each call of the driver (60)",
    )
    group.addoption("--conformance-no-shrink", action="store_true", help="do not shrink failing examples")
    group.addoption("--conformance-scratch", metavar="DIRECTORY", help="directory in which stores are created")
    # For the worker of the command line, which owns the directory and has a deadline.
    group.addoption("--conformance-directory", help=argparse.SUPPRESS)
    group.addoption("--conformance-deadline", type=float, help=argparse.SUPPRESS)
    group.addoption("--conformance-replay", help=argparse.SUPPRESS)
    group.addoption("--conformance-jobs", type=int, default=1, help=argparse.SUPPRESS)
    group.addoption("--conformance-preflight-only", action="store_true", help=argparse.SUPPRESS)
    group.addoption("--conformance-survey", action="store_true", help=argparse.SUPPRESS)
    group.addoption("--conformance-no-preflight", action="store_true", help=argparse.SUPPRESS)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the suite, if there is a driver to judge."""
    if config.getoption("driver"):
        from conformance.harness.plugin import start  # imported for a run only: it brings hypothesis and the lab

        start(config)
    elif config.getoption("pyargs") and any(one.partition("::")[0].split(".")[0] == _SUITE for one in config.args):
        raise pytest.UsageError(_NO_DRIVER)  # before anything is imported, so that this is all that is said


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Say what is missing when the suite is collected without a driver, before pytest warns of its marks."""
    ours = isinstance(collector, pytest.Module) and _SUITES in collector.path.parents
    if ours and not collector.config.getoption("driver"):
        raise pytest.UsageError(_NO_DRIVER)
