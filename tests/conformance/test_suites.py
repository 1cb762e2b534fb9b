"""The suites: each file has the stem of the file of its requirements, and what it imports is little."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import pytest

import conformance
from conformance import suites
from conformance.suites.boundaries import BOUNDARIES
from conformance.suites.cases import CASES
from conformance.suites.lattice import LATTICE

SUITES = sorted(Path(str(suites.__file__)).parent.glob("test_*.py"))
WHITEOUTS = "conformance.suites.test_tree_whiteouts"
CASE = "test_a_case_is_the_same_after_diff_and_apply"  # each has its requirement in its name
MOST_LINES = 1730  # half of the 3,460 that it took before harness.bench


def stems() -> dict[str, str]:
    """The stem of the file that has each requirement: of 04-tree.toml it is "tree"."""
    found: dict[str, str] = {}
    for file in Path(str(files("conformance.spec").joinpath("requirements"))).glob("*.toml"):
        for family in tomllib.loads(file.read_text())["family"]:
            found |= {one["id"]: file.stem.partition("-")[2] for one in family["requirement"]}
    return found


def stem_of(file: Path, known: set[str]) -> str:
    """The stem of a suite, "" if its name begins with none: a further word may follow it."""
    name = file.stem.removeprefix("test_")
    return max((one for one in known if name == one or name.startswith(f"{one}_")), key=len, default="")


# In a process of its own, as the marks of the suites are not those of these tests.
LISTED = """
import importlib, json, sys
for suite in sys.argv[1:]:
    module = importlib.import_module(f"conformance.suites.{suite}")
    for name, function in vars(module).items():
        if not name.startswith("test_"):
            continue
        marks = getattr(function, "pytestmark", [])
        own = [one for mark in marks if mark.name == "requirement" for one in mark.args]
        tests = [
            (value.id, [one for mark in value.marks if mark.name == "requirement" for one in mark.args])
            for mark in marks
            if mark.name == "parametrize"
            for value in mark.args[1]
            if getattr(value, "marks", ())
        ]
        for id, more in tests or [("", [])]:
            print(json.dumps([suite, name, id, own + more]))
"""


@pytest.fixture(scope="module")
def listed() -> list[tuple[str, str, str, set[str]]]:
    """Each test: its suite, its function, the id of a parameter with marks of its own, and its requirements."""
    command = [sys.executable, "-W", "ignore", "-c", LISTED, *(file.stem for file in SUITES)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(suite, name, case, set(ids)) for suite, name, case, ids in map(json.loads, said.splitlines())]


def test_each_suite_has_the_stem_of_its_requirements(listed: list[tuple[str, str, str, set[str]]]) -> None:
    known = stems()
    stem = {file.stem: stem_of(file, set(known.values())) for file in SUITES}
    assert {suite for suite, *_ in listed} == stem.keys()
    assert all(stem.values()), stem
    astray = [one for one in listed if stem[one[0]] not in {known[requirement] for requirement in one[3]}]
    assert not astray


def test_each_case_is_a_test_of_one_suite(listed: list[tuple[str, str, str, set[str]]]) -> None:
    found = [case for _, name, case, _ in listed if name == CASE]
    assert sorted(found) == sorted(f"{one.requirement}-{one.name}" for one in (*CASES, *BOUNDARIES, *LATTICE))


def test_no_two_tests_have_one_name() -> None:
    """Results, stored cases and the kill matrix name a test without its file."""
    names = []
    for file in SUITES:
        tree = ast.parse(file.read_text())
        names += [
            one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")
        ]
    # The cases have their requirement in their name.
    twice = {name for name in names if names.count(name) > 1} - {"test_a_case_is_the_same_after_diff_and_apply"}
    assert not twice


def imports(file: Path) -> set[str]:
    """Modules of the suite that a file imports when it runs; what is for annotations alone is left out."""
    found = set()
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import():
                found |= {one.name for one in node.names}
            case ast.ImportFrom(module=str(module)):
                found |= {module, *(f"{module}.{one.name}" for one in node.names)}
        todo += ast.iter_child_nodes(node)
    return found


def needed(module: str) -> Mapping[str, int]:
    """The lines of every module that a module imports, and that those import."""
    root = Path(str(conformance.__file__)).parent.parent
    found: dict[str, int] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = root.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not file.is_file() or not name.startswith("conformance"):
            continue
        found[name] = len(file.read_text().splitlines())
        todo += imports(file)
    return found


def test_few_files_are_needed_to_understand_a_test() -> None:
    lines = needed(WHITEOUTS)
    assert lines["conformance.harness.bench"]
    assert sum(lines.values()) <= MOST_LINES, lines
