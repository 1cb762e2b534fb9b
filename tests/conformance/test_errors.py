"""The errors of the harness: one hierarchy, each class with an exit status and a row in the docs."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import conformance
import vm
from conformance.cli.base import main
from conformance.spec.errors import HarnessError

# Drivers' own errors, and what ends a test or a wait inside the suite, are no errors of the harness.
APART = {
    *("DriverRefused", "DriverFailed", "TimeUp", "Deviation", "Difference", "GivenUp", "Refused", "Unspecified"),
    *("WrongType", "_Broken", "CannotMount", "NotStarted", "CannotDecode", "BadLog", "Interrupted", "Escaped"),
    *("Leak", "SharedUpper", "StillFound", "_Unlike", "ControlFailed", "NotRead", "NoAnswer"),
    *("Unsupported", "_TooLong", "_Closed", "_Stop", "Stopped", "Outside"),
}


OURS = ("conformance.", "vm.")


def modules() -> Iterator[str]:
    packages = (
        *pkgutil.walk_packages(conformance.__path__, "conformance."),
        *pkgutil.walk_packages(vm.__path__, "vm."),
    )
    for found in packages:
        left_out = (
            *(".mutants", ".variants", ".generated.driver"),  # of processes of drivers
            *(".suites.", ".__main__", "lab.supervisor", ".python.server"),
        )
        if not any(one in found.name for one in left_out):
            yield found.name


def classes_below(one: type[HarnessError]) -> Iterator[type[HarnessError]]:
    for found in one.__subclasses__():
        yield found
        yield from classes_below(found)


def test_every_error_of_the_harness_is_documented_with_its_status() -> None:
    for name in modules():
        importlib.import_module(name)
    page = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text()
    section = page.partition("### Errors of the harness")[2].partition("\n## ")[0]
    listed = {name: int(status) for status, name in re.findall(r"^\| ([0-9]+) \| `(\w+)`", section, re.M)}
    classes: list[type[HarnessError]] = [HarnessError, *classes_below(HarnessError)]
    wanted = {one.__name__: one.exit_status for one in classes if one.__module__.startswith(OURS)}
    assert listed == wanted


def test_no_error_class_is_outside_of_the_hierarchy() -> None:
    loose = set()
    for name in modules():
        for one in vars(importlib.import_module(name)).values():
            if not isinstance(one, type) or not one.__module__.startswith(OURS):
                continue
            if issubclass(one, BaseException) and not issubclass(one, HarnessError) and one.__name__ not in APART:
                loose.add(f"{one.__module__}.{one.__name__}")
    assert loose == set()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["merge", "FILE", "-o", "OUT"], 1),
        (["report", "FILE", "--junit", "OUT"], 1),
        (["expect", "check", "FILE"], 1),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, words: list[str], status: int) -> None:
    file = tmp_path / "file"
    file.write_text("no such thing")
    said = {"FILE": str(file), "OUT": str(tmp_path / "out")}
    done = CliRunner().invoke(main, [said.get(one, one) for one in words])
    assert done.exit_code == status, done.output
    assert str(file) in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()
