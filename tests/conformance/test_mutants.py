"""The catalogue of mutants: what it says of each. That the suite kills them is for ``selftest`` to show."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commanding import command
from reading import records, verdicts

from conformance import spec
from conformance.lab.backing import BACKINGS, HOST
from conformance.selftest import registered
from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.catalogue import EXCEPTIONS, GROUP, MUTANTS
from conformance.selftest.mutants.mutant import MUTANT, Mutant, mutant
from conformance.selftest.variants.catalogue import VARIANTS
from conformance.selftest.variants.variant import VARIANT
from conformance.spec import load_requirements
from refdriver.mutants.basis import Patched, replaces

REQUIREMENTS = Path(spec.__file__).with_name("requirements")
STEMS = {
    requirement["id"]: path.stem.partition("-")[2]
    for path in REQUIREMENTS.glob("*.toml")
    for family in tomllib.loads(path.read_text())["family"]
    for requirement in family["requirement"]
}


def test_every_requirement_has_a_mutant_that_breaks_it() -> None:
    broken = {one for mutant in MUTANTS for one in mutant.breaks}
    assert broken | EXCEPTIONS.keys() == set(load_requirements())
    assert not broken & EXCEPTIONS.keys()
    assert all(EXCEPTIONS.values())


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = [one.name for one in MUTANTS]
    assert [name for name in names if names.count(name) > 1] == []


@pytest.mark.parametrize("one", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_says_what_it_is(one: Mutant) -> None:
    assert one.source
    assert one.breaks
    assert len(set(one.breaks)) == len(one.breaks)
    assert set(one.breaks) <= set(load_requirements())
    assert one.sentence.endswith(".")
    assert one.sentence != (one.driver.__mro__[1].__doc__ or "").strip().splitlines()[0]
    assert one.backing in {HOST, *(one.name for one in BACKINGS)}


@pytest.mark.parametrize("one", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_is_in_a_file_with_the_stem_of_its_family(one: Mutant) -> None:
    stem = STEMS[one.breaks[0]]
    file = one.driver.__module__.rpartition(".")[2]
    assert file == stem or file.startswith(f"{stem}_")


def modules_of(package: str) -> Iterator[ModuleType]:
    for one in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        yield importlib.import_module(one.name)


@pytest.mark.parametrize(
    ("package", "attribute"),
    [
        ("conformance.selftest.mutants", MUTANT),
        ("conformance.selftest.variants", VARIANT),
        ("refdriver.mutants", MUTANT),
        ("refdriver.variants", VARIANT),
    ],
)
def test_every_driver_is_registered(package: str, attribute: str) -> None:
    """Each public class that wraps or replaces the driver, but for what they have in common."""
    drivers = {
        one
        for module in modules_of(package)
        for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, (Faithful, Patched)) and not name.startswith("_")
        if one.__module__ == module.__name__ not in (f"{package}.basis", f"{package}.rewriting")
    }
    assert drivers
    assert [one.__name__ for one in drivers if attribute not in vars(one)] == []
    known = [*(one.driver for one in MUTANTS), *(one.driver for one in VARIANTS)]
    assert drivers == {one for one in known if one.__module__.startswith(f"{package}.")}


def test_a_subclass_is_not_registered_with_its_base() -> None:
    @mutant(breaks=("OVL-LIFE-CREATE",), source="derived: one")
    class Base:
        """It is wrong."""

    class Derived(Base):
        """It is wrong, too."""

    assert Mutant.of(Base).breaks == ("OVL-LIFE-CREATE",)
    with pytest.raises(KeyError):
        Mutant.of(Derived)


def test_an_entry_point_names_mutants_of_another_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They need not use the decorator: plain values with these names will do."""
    (tmp_path / "theirmutants.py").write_text(
        "from types import SimpleNamespace\n\n\nclass ForgetsLayers:\n    __mutant__ = SimpleNamespace("
        "breaks=('OVL-LIFE-REOPEN',), source='derived: one', backing='host', hard=False, needs='', "
        "basis='their:Driver')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    known = EntryPoints([EntryPoint("their", "theirmutants", GROUP)])
    monkeypatch.setattr(registered, "entry_points", lambda group: known.select(group=group))
    packages = registered.packages_of(GROUP, "conformance.selftest.mutants")
    assert packages == ("conformance.selftest.mutants", "theirmutants")
    (found,) = map(Mutant.of, registered.classes_of("theirmutants", MUTANT))
    assert (found.name, found.basis) == ("ForgetsLayers", "their:Driver")
    assert found.connection == "python:theirmutants:ForgetsLayers"


def test_mutants_of_the_reference_driver_are_not_tried_on_another() -> None:
    words = ["--basis", "refdriver.driver:Driver", "--mutant", "DiffNamesWhiteoutsBare"]
    done = command("selftest", *words)
    assert "NOT-APPLICABLE" in done.stdout, done.stdout + done.stderr
    assert "it replaces functions of refdriver:Driver" in done.stdout


def replacement(original: Any, *args: Any, **kwargs: Any) -> Any:
    return original(*args, **kwargs)


@pytest.mark.parametrize("function", [os.path.join, pytest.importorskip], ids=lambda one: one.__qualname__)
def test_only_functions_of_the_driver_are_replaced(function: Any) -> None:
    with pytest.raises(LookupError):
        replaces(function)(replacement)


def run(driver: str, *words: str, scratch: Path) -> tuple[int, Path, str]:
    """Exit code, result file and output of a run."""
    results = scratch / "results.jsonl"
    options = ["--results", str(results), "--scratch", str(scratch), "--no-evidence", *words]
    env = {**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"}
    done = command("run", driver, *options, env=env)
    return done.returncode, results, done.stdout + done.stderr


@pytest.mark.mounts
def test_run_finds_a_mutant_too_and_says_how_to_repeat_it(scratch: Path) -> None:
    words = ("--requirement", "OVL-LIFE-CREATE", "--seed", "5")
    code, found, output = run(
        "python:conformance.selftest.mutants.life:ExistsIsAlwaysTrue", *words, scratch=scratch
    )
    assert code == 1, output
    assert verdicts(found) == {"OVL-LIFE-CREATE": "FAIL"}
    assert all(one["steps"] for one in records(found, "outcome"))
    assert "\n    steps:    " in output
    assert "--seed 5" in output


@pytest.mark.mounts
def test_the_wrapper_itself_conforms(scratch: Path) -> None:
    """In the profile quick; a selftest of all mutants tries it by all tests of its profile."""
    words = ("--profile", "quick", "--examples", "3", "--seed", "5")
    code, found, output = run("python:conformance.selftest.mutants.basis:Faithful", *words, scratch=scratch)
    assert code == 0, output
    assert set(verdicts(found).values()) <= {"PASS", "NOT-APPLICABLE"}


def operations(steps: list[str]) -> list[str]:
    """The operations of a trace, without the entries of archives that it lists."""
    return [step for step in steps if re.match(r"origin:   [A-Z]", step)]


@pytest.mark.mounts
def test_a_lost_whiteout_shrinks_to_one_deletion(scratch: Path) -> None:
    words = ("--requirement", "OVL-APPLY-ROUND-TRIP", "--seed", "5", "--examples", "40")
    _, found, _ = run("python:conformance.selftest.mutants.archives:ApplyOmitsDeletions", *words, scratch=scratch)
    chains = [one for one in records(found, "outcome") if "origin: create layer-1 on layer-0" in one["steps"]]
    steps = chains[0]["steps"]
    above = steps[steps.index("origin: create layer-1 on layer-0") :]
    assert len(operations(above)) == 1, steps


@pytest.mark.mounts
def test_a_written_case_is_made_as_small_as_a_drawn_one(scratch: Path) -> None:
    words = ("--requirement", "OVL-META-OWNERS", "--seed", "5")
    _, found, _ = run("python:conformance.selftest.mutants.metadata:DiffOmitsOwners", *words, scratch=scratch)
    cases = [one["steps"] for one in records(found, "outcome") if "every-kind" in one["test"]]
    assert operations(cases[0]) == [
        "origin:   CreateFile f content=b'content' mode=0644",
        "origin:   Chown f uid=1000 gid=2000",
    ]


@pytest.mark.mounts
def test_a_failure_is_charged_to_what_it_violates(scratch: Path) -> None:
    of_one_test = ("OVL-WHITEOUT-IN-DIFF", "OVL-DIFF-DETERMINISTIC", "OVL-DIFF-TAR")
    words = ["--seed", "5", "--no-shrink", *(word for one in of_one_test for word in ("--requirement", one))]
    _, found, _ = run("python:conformance.selftest.mutants.tree:DiffOmitsDeletions", *words, scratch=scratch)
    assert verdicts(found) == {one: "FAIL" if one == of_one_test[0] else "PASS" for one in of_one_test}
    _, found, _ = run("python:conformance.selftest.mutants.archives:DiffShufflesEntries", *words, scratch=scratch)
    assert verdicts(found)["OVL-DIFF-DETERMINISTIC"] == "FAIL"
    assert verdicts(found)["OVL-WHITEOUT-IN-DIFF"] == "PASS"


@pytest.mark.mounts
def test_all_tests_of_what_a_diff_holds_are_in_quick(scratch: Path) -> None:
    ids = ("OVL-WHITEOUT-IN-DIFF", "OVL-DIFF-MINIMAL")
    words = ["--profile", "quick", "--seed", "5", "--no-shrink"]
    words += [word for one in ids for word in ("--requirement", one)]
    _, found, _ = run("python:conformance.selftest.mutants.archives:DiffIsWholeTree", *words, scratch=scratch)
    assert {verdicts(found)[one] for one in ids} == {"FAIL"}
