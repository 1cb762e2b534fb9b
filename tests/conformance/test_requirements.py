"""The registry: its requirements, and the tests of them that pytest collects in each profile."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from conformance import suites
from conformance.selftest.mutants.catalogue import MUTANTS
from conformance.spec import health, load_capabilities, load_requirements, load_retired
from conformance.spec.profiles import PROFILES
from conformance.spec.specification import as_markdown

pytestmark = pytest.mark.mounts

# In a process of its own, which pytest moves into mounts that are read-only.
COLLECT = """
import contextlib, io, json, sys
import pytest

class Listener:
    found = {}

    def pytest_collection_finish(self, session):
        for item in session.items:
            ids = {one for marker in item.iter_markers("requirement") for one in marker.args}
            self.found[item.nodeid] = sorted(ids)

with contextlib.redirect_stdout(io.StringIO()):
    code = pytest.main(sys.argv[1:], plugins=[Listener()])
print(json.dumps(Listener.found))
sys.exit(code)
"""


@functools.cache
def collected(profile: str = "release", *options: str) -> Mapping[str, frozenset[str]]:
    """The requirements of every test of a profile, in the order in which pytest would run them."""
    suite = str(Path(str(suites.__file__)).parent)
    words = ["--collect-only", "-q", "--rootdir", suite, "-c", os.devnull, "--import-mode=importlib"]
    words.append("--assert=plain")  # as in a run: the tests of the suite assert nothing
    entry = ["-p", "conformance.pytest_entry", "-p", "no:cacheprovider", "--driver=python:refdriver:Driver"]
    command = [sys.executable, "-c", COLLECT, suite, *words, *entry, f"--conformance-profile={profile}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {test: frozenset(ids) for test, ids in json.loads(done.stdout).items()}


def test_every_requirement_has_a_test_and_every_test_a_requirement() -> None:
    found = collected()
    assert [test for test, ids in found.items() if not ids] == []
    # How the kernel fares is judged of the whole run, by the run itself.
    assert {one for ids in found.values() for one in ids} == set(load_requirements()) - {health.REQUIREMENT}


def test_explain_names_the_tests_that_pytest_collects_and_the_mutants_of_the_catalogue() -> None:
    tests: dict[str, set[str]] = {}
    for nodeid, ids in collected().items():
        for one in ids:
            tests.setdefault(one, set()).add(nodeid.rpartition("::")[2].partition("[")[0])
    # In a process of its own, which has no markers to check.
    command = [sys.executable, "-m", "conformance.selftest.about", *load_requirements()]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    named = {one: {test["name"] for test in said["tests"]} for one, said in found.items() if said["tests"]}
    assert named == tests
    broken = {one: {mutant.name for mutant in MUTANTS if one in mutant.breaks} for one in load_requirements()}
    assert {one: {mutant["name"] for mutant in said["mutants"]} for one, said in found.items()} == broken
    assert {one["profile"] for said in found.values() for one in said["tests"]} == set(PROFILES)
    written = json.loads((Path(__file__).parents[2] / "conformance" / "selftest" / "about.json").read_text())
    assert written["requirements"] == found, "python -m conformance.selftest.about --write"


def test_each_profile_has_the_tests_of_the_one_before() -> None:
    assert PROFILES == ("smoke", "quick", "standard", "release")
    smoke, quick, standard = (collected(one) for one in PROFILES[:3])
    assert smoke.keys() < quick.keys() < standard.keys()
    assert 10 <= len(smoke) <= 20
    assert len(quick) <= len(standard) / 2


def test_there_are_many_requirements_and_none_is_used_again() -> None:
    requirements = load_requirements()
    assert len(requirements) >= 120
    assert not requirements.keys() & load_retired()
    for requirement in requirements.values():
        assert re.fullmatch(r"OVL-[A-Z0-9]+(-[A-Z0-9]+)+", requirement.id)


def test_every_capability_is_used() -> None:
    needed = {need for requirement in load_requirements().values() for need in requirement.needs}
    of_lanes = {"mounts", "root", "loop"}
    suites_ = Path(__file__).parents[2] / "conformance" / "suites"
    asked = {
        one
        for file in suites_.glob("*.py")
        for one in re.findall(r'bench\.(?:need|has)\("([\w-]+)"', file.read_text())
    }
    assert set(load_capabilities()) - needed - asked - of_lanes == set()


def test_the_published_specification_is_that_of_the_registry() -> None:
    published = Path(__file__).parents[2] / "docs" / "specification.md"
    assert published.read_text() == as_markdown(), "overlay-conformance specification > docs/specification.md"


def test_time_is_spent_on_what_varies_with_most_and_then_on_what_has_few_tests() -> None:
    chosen = ("OVL-OPTION-CASE", "OVL-WHITEOUT-REPLACED", "OVL-APPLY-WHITEOUT-BEFORE", "OVL-LIFE-SIBLINGS")
    words = [f"--requirement={one}" for one in chosen]
    in_time = collected("standard", *words, f"--conformance-deadline={time.monotonic() + 600}")
    assert [re.split(r"\[host", one.rpartition("::")[2])[0] for one in in_time] == [
        "test_siblings_see_nothing_of_one_another",
        *["test_symlinks_below_are_hidden_and_not_followed"] * 2,
        *["test_a_case_is_the_same_after_diff_and_apply"] * 5,
        *["test_a_whiteout_and_then_the_directory"] * 2,
        "test_a_second_archive_takes_nothing_back",
        "test_directories_with_names_alike_are_kept_apart",
        *["test_an_archive_brings_the_same"] * 4,
        "test_keys_are_taken_in_any_case",
        *["test_a_repeated_option_is_one_in_any_case"] * 2,
    ]
