"""``list`` and ``explain``, names with their suggestions, and help in groups."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from commanding import command

from conformance.cli import main
from conformance.cli.base import VERBS
from conformance.cli.run import run as run_verb
from conformance.selftest.variants.catalogue import VARIANTS
from conformance.spec import is_core, load_capabilities, load_requirements
from conformance.spec.naming import family_named, slug, suggestion

COMMAND = [sys.executable, "-m", "conformance"]
DRIVER = "python:refdriver:Driver"


def said(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="overlay-conformance")


def listed(*words: str) -> list[str]:
    """The ids that ``list`` prints."""
    told = said("list", *words)
    assert told.exit_code == 0, told.output
    return [line.split()[0] for line in told.stdout.splitlines()]


def test_filters_join() -> None:
    known, capabilities = load_requirements(), load_capabilities()
    assert listed() == list(known)
    assert listed("--level", "should") == [one.id for one in known.values() if one.level == "SHOULD"]
    assert listed("--core") == [one.id for one in known.values() if is_core(one, capabilities)]
    assert listed("--capability", "changes", "--capability", "diff-size") == [
        one.id for one in known.values() if {"changes", "diff-size"} & set(one.needs)
    ]
    families = [one.id for one in known.values() if one.family in ("life cycle", "sizes")]
    assert listed("--family", "life-cycle", "--family", "sizes") == families
    both = listed("--family", "Life Cycle", "--level", "SHOULD")
    assert both == [one for one in listed("--level", "SHOULD") if one in families]
    assert 0 < len(both) < len(families)


def test_a_filter_that_nothing_passes_says_so() -> None:
    told = said("list", "--family", "sizes", "--capability", "reset")
    assert (told.exit_code, told.stdout) == (0, "")
    assert "no requirement has all of these properties" in told.stderr


def test_json_has_the_requirements() -> None:
    found = json.loads(said("list", "--json", "--family", "life-cycle").stdout)
    assert found["format"] == 1
    for one in found["requirements"]:
        requirement = load_requirements()[one["id"]]
        assert (one["level"], one["sentence"]) == (requirement.level, requirement.sentence)
        assert one["consequence"] == requirement.consequence
        assert one["core"] is is_core(requirement, load_capabilities())
        assert "why_not" not in one


@pytest.mark.mounts
@pytest.mark.slow
def test_what_would_run_for_a_driver_is_what_a_run_judges(scratch: Path) -> None:
    driver = f"{DRIVER}?decline=diff-size:it has none"
    chosen = ["--family", "sizes", "--family", "life-cycle", "--profile", "quick"]
    told = command("list", "--for", driver, *chosen, "--json")
    results = scratch / "results.jsonl"
    words = ["--no-evidence", "--results", str(results), "--scratch", str(scratch)]
    assert command("run", driver, *chosen, *words).returncode == 0
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    verdicts = {one["requirement"]: one["verdict"] for one in lines if one["record"] == "result"}
    ran = {one["requirement"]: one.get("ran") for one in lines if one["record"] == "result"}
    found = json.loads(told.stdout)
    assert (found["driver"], found["profile"]) == (driver, "quick")
    seen = set()
    for one in found["requirements"]:
        seen.add(one["why_not"].partition(":")[0])
        if one["why_not"] == "no test in profile quick":
            assert one["id"] not in verdicts
        elif one["why_not"]:
            assert one["why_not"].partition(":")[0] == verdicts[one["id"]]
        else:
            assert verdicts[one["id"]] == "PASS"
            assert ran[one["id"]] == one["tests"]
    assert {"", "DECLINED", "no test in profile quick"} <= seen
    declined = [one["why_not"] for one in found["requirements"] if one["why_not"].startswith("DECLINED")]
    assert set(declined) == {"DECLINED: it has none"}


@pytest.mark.mounts
def test_a_driver_that_cannot_be_reached_has_no_list() -> None:
    told = command("list", "--for", "pyton:a:B")
    assert (told.returncode, told.stdout) == (2, "")
    assert "did you mean 'python'?" in told.stderr


@pytest.mark.slow
def test_explain_has_tests_mutants_and_commands_that_work() -> None:
    told = said("explain", "ovl-gate-btrfs", "--driver", DRIVER)
    assert told.exit_code == 0
    assert "  test: test_btrfs_takes_a_later_kernel (conformance/suites/test_opening_gates.py)\n" in told.stdout
    assert "test_the_whole_matrix (conformance/suites/test_opening_gates.py, profile release only)" in told.stdout
    assert "  broken by the mutant BtrfsGateRefusesKernel47: The gate of btrfs" in told.stdout
    commands = [line.partition(": ")[2] for line in told.stdout.splitlines() if line.startswith("  run ")]
    assert len(commands) == 2
    for shown in commands:
        words = shlex.split(shown)
        assert words[:3] == ["overlay-conformance", "run", DRIVER]
        run_verb.make_context("run", words[2:])  # click accepts every option


@pytest.mark.slow
def test_explain_names_the_profile_and_the_filesystem_that_a_requirement_needs() -> None:
    known = load_requirements().values()
    one = next(one for one in known if one.backing and one.privileges == "root")
    assert (
        f"run it alone: sudo overlay-conformance run DRIVER --requirement {one.id}"
        in said("explain", one.id).stdout
    )
    assert f"--backing {one.backing[0]}" in said("explain", one.id).stdout


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("ruin",), "run"),
        (("explain", "OVL-LIFE-CRATE"), "OVL-LIFE-CREATE"),
        (("list", "--family", "life-cicle"), "life-cycle"),
        (("list", "--capability", "aplly"), "apply"),
        (("list", "--profile", "smke"), "smoke"),
        (("list", "--backing", "xsf"), "xfs"),
        (("list", "--level", "MUSST"), "MUST"),
        (("run", DRIVER, "--requirement", "OVL-LIFE-CRATE"), "OVL-LIFE-CREATE"),
        (("run", DRIVER, "--family", "Metdata"), "metadata"),
        (("run", DRIVER, "--profile", "standart"), "standard"),
        (("run", DRIVER, "--backing", "ext3"), "ext4"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else one,
)
def test_a_name_that_does_not_exist_has_a_suggestion(words: tuple[str, ...], meant: str) -> None:
    told = said(*words)
    assert told.exit_code == 2
    assert f"(did you mean {meant!r}?)" in told.stderr


def test_what_resembles_nothing_has_no_suggestion() -> None:
    assert suggestion("zzz", ["life cycle"]) == ""
    assert "did you mean" not in said("zzzzzz").stderr


def test_every_family_has_a_slug_of_its_own() -> None:
    families = {one.family for one in load_requirements().values()}
    assert len({slug(one) for one in families}) == len(families)
    for one in families:
        assert family_named(slug(one), families) == family_named(one.upper(), families) == one
    assert family_named("life", families) is None


def test_the_help_has_every_command_and_option_once_in_a_group() -> None:
    text = said("--help").stdout
    for name, verb in VERBS.items():
        assert text.count(f"\n  {name} ") == 1
        assert text.index(f"\n{verb.group}:") < text.index(f"\n  {name} ")
    text = said("run", "--help").stdout
    assert text.index("Where to begin:") < text.index("Choice of tests:") < text.index("Other options:")
    for one in run_verb.params:
        if isinstance(one, click.Option):
            assert sum(line.startswith(f"  {one.opts[0]} ") for line in text.splitlines()) == 1, one.opts


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("selftest", "--mutant", "diffomitsdeletion"), "DiffOmitsDeletions"),
        (("selftest", "--variant", "{}"), "{}"),
        (("selftest", "--profile", "quik"), "quick"),
        (("selftest", "--profile", "x"), ""),
        (("matrix", "list", "--driver", "refdrivr"), "refdriver"),
        (("matrix", "list", "--backing", "etx4"), "ext4"),
        (("matrix", "list", "--kernel", "k6_12"), "k6-12"),
        (("run", "python:x:Y", "--backing", "etx4"), "ext4"),
        (("list", "--profile", "standart"), "standard"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_name_that_is_not_known_says_what_is_meant(words: tuple[str, ...], meant: str) -> None:
    name = VARIANTS[0].name
    words = tuple(one.replace("{}", f"{name}x") for one in words)
    told = said(*words)
    assert told.exit_code == 2
    text = " ".join(told.output.split())
    assert ("did you mean" in text) == bool(meant)
    assert not meant or f"(did you mean {meant.replace('{}', name)!r}?)" in text
