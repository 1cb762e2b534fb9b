"""Which tests judge a requirement, and which mutants break it: a process that imports both.

``python -m conformance.selftest.about --write`` writes about.json, the index that ``explain`` reads; a test
compares it with what is imported. Where another distribution has mutants, ``explain`` starts ``python -m
conformance.selftest.about ID...``, which prints the same as JSON. Only modules whose text can name the
requirement are imported then, so that it takes a second.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from conformance.harness.worker import suites_of
from conformance.selftest.mutants.mutant import MUTANT, Mutant
from conformance.selftest.registered import classes_of, packages_of
from conformance.spec import load_requirements
from conformance.spec.values import as_plain

INDEX: Final = Path(__file__).with_name("about.json")
# As in conformance.selftest.mutants.catalogue, which imports every mutant.
_GROUP: Final = "overlay_conformance.mutants"
_OWN: Final = "conformance.selftest.mutants"


@dataclass(frozen=True, slots=True)
class Test:
    """A function of a suite; ``profile`` is the smallest profile that has it."""

    __test__ = False  # pytest would take it for a test class

    name: str
    file: str
    profile: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A mutant that breaks a requirement, and what is wrong with it."""

    name: str
    sentence: str
    connection: str


@dataclass(frozen=True, slots=True)
class About:
    """What the suite has of one requirement."""

    tests: tuple[Test, ...]
    mutants: tuple[Broken, ...]


def about(requirement: str) -> About:
    """The tests and the mutants of a requirement, each in the order of its file."""
    tests = [
        Test(name, path.name, profile)
        for path in suites_of([requirement])
        for name, profile in _tests_of(importlib.import_module(f"conformance.suites.{path.stem}"), requirement)
    ]
    mutants = [
        Broken(one.name, one.sentence, one.connection)
        for name in _modules_naming(requirement)
        for one in map(Mutant.of, classes_of(name, MUTANT))
        if requirement in one.breaks
    ]
    return About(tuple(tests), tuple(mutants))


def _tests_of(module: ModuleType, requirement: str) -> Iterator[tuple[str, str]]:
    """The names and profiles of the test functions of a module that have the requirement, also by a parameter."""
    for name, function in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(function) and function.__module__ == module.__name__:
            marks = list(getattr(function, "pytestmark", ()))
            params = [one for mark in marks if mark.name == "parametrize" for one in mark.args[1]]
            chosen = [list(marks), *([*marks, *one.marks] for one in params if hasattr(one, "marks"))]
            profiles = [
                _profile({mark.name for mark in all_of}) for all_of in chosen if _is_about(all_of, requirement)
            ]
            if profiles:
                yield name, min(profiles, key=_PROFILES.index)


_PROFILES: Final = ("smoke", "quick", "standard", "release")


def _profile(names: set[str]) -> str:
    return next((one for one in ("release", "smoke", "quick") if one in names), "standard")


def _is_about(marks: list[Any], requirement: str) -> bool:
    return any(mark.name == "requirement" and requirement in mark.args for mark in marks)


def _modules_naming(requirement: str) -> Iterator[str]:
    for package in packages_of(_GROUP, _OWN):
        spec = importlib.util.find_spec(package)
        for one in pkgutil.iter_modules(spec.submodule_search_locations if spec else None, f"{package}."):
            found = importlib.util.find_spec(one.name)
            if found and found.origin and requirement in Path(found.origin).read_text(encoding="utf-8"):
                yield one.name


def index() -> str:
    """The content of about.json: a line for each requirement."""
    lines = [f" {json.dumps(one)}: {json.dumps(as_plain(about(one)))}" for one in load_requirements()]
    packages = json.dumps(packages_of(_GROUP, _OWN)[1:])
    return f'{{"packages": {packages},\n"requirements": {{\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        INDEX.write_text(index())
    else:
        sys.stdout.write(json.dumps({one: as_plain(about(one)) for one in sys.argv[1:]}))
