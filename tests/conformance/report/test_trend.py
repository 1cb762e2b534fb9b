"""What changed between two result files: NEW, STILL, GONE, FIXED, and what differs besides the driver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from making import PARTS, REQUIREMENTS, RUN

from conformance.cli import main
from conformance.report import records
from conformance.report.records import BadResults, Part, Run
from conformance.report.trend import SCHEMA, Change, Trend, compare
from conformance.report.trendmarkdown import trend_markdown
from conformance.spec import load_requirements
from conformance.spec.values import as_plain
from conformance.spec.verdicts import TestOutcome, Verdict

KNOWN = load_requirements()
ONE, OTHER = REQUIREMENTS[:2]
HOST = replace(RUN, backings=("host",))


def part(verdicts: Mapping[str, Verdict], run: Run = HOST, backing: str = "host", reason: str = "wrong") -> Part:
    found = [
        TestOutcome(f"test_{name}", (name,), verdict, "" if verdict is Verdict.PASS else reason, backing=backing)
        for name, verdict in verdicts.items()
    ]
    return Part(run, tuple(found))


def trend(old: Part, new: Part) -> Trend:
    return compare([old], [new], KNOWN)


def changes(found: Trend) -> list[tuple[str, str, Change]]:
    return [(one.requirement, one.place, one.change) for one in found.changes]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(one=PARTS)
def test_a_result_compared_with_itself_is_only_still(one: Part) -> None:
    found = trend(one, one)
    assert {changed.change for changed in found.changes} <= {Change.STILL}
    assert not found.differences
    assert found.exit_code != 1


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(one=PARTS, other=PARTS)
def test_if_the_arguments_swap_so_do_the_changes(one: Part, other: Part) -> None:
    there, back = changes(trend(one, other)), changes(trend(other, one))
    swapped = {
        Change.NEW: {Change.FIXED, Change.GONE},
        Change.FIXED: {Change.NEW},
        Change.GONE: {Change.NEW},
        Change.STILL: {Change.STILL},
        Change.LOST: {Change.GAINED},
        Change.GAINED: {Change.LOST},
    }
    assert [one[:2] for one in there] == [one[:2] for one in back]
    for (_, _, first), (_, _, second) in zip(there, back, strict=True):
        assert second in swapped[first]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(one=PARTS, other=PARTS)
def test_the_json_is_as_the_schema_says(one: Part, other: Part) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    said = json.loads(json.dumps(as_plain(trend(one, other))))
    jsonschema.Draft202012Validator(schema).validate(said)


@pytest.mark.parametrize(
    ("before", "after", "change", "code"),
    [
        (Verdict.PASS, Verdict.FAIL, Change.NEW, 1),
        (Verdict.PASS, Verdict.XFAIL, Change.NEW, 0),
        (Verdict.DECLINED, Verdict.FAIL, Change.NEW, 1),
        (Verdict.FAIL, Verdict.FAIL, Change.STILL, 0),
        (Verdict.FAIL, Verdict.XFAIL, Change.STILL, 0),
        (Verdict.FAIL, Verdict.PASS, Change.FIXED, 0),
        (Verdict.XFAIL, Verdict.XPASS, Change.FIXED, 0),
        (Verdict.FAIL, Verdict.DECLINED, Change.GONE, 3),
        (Verdict.FAIL, Verdict.ERROR, Change.GONE, 2),
        (Verdict.PASS, Verdict.ERROR, Change.LOST, 2),
        (Verdict.PASS, Verdict.DECLINED, Change.LOST, 3),
        (Verdict.NOT_APPLICABLE, Verdict.PASS, Change.GAINED, 3),
        (Verdict.PASS, Verdict.PASS, None, 0),
        (Verdict.DECLINED, Verdict.UNTESTED, None, 3),
    ],
)
def test_each_change_has_its_exit_status(before: Verdict, after: Verdict, change: Change | None, code: int) -> None:
    run = replace(HOST, selected=(ONE,))
    found = trend(part({ONE: before}, run), part({ONE: after}, run))
    assert changes(found) == ([(ONE, "", change)] if change else [])
    assert found.exit_code == code


def test_what_was_not_selected_is_named_once_and_is_no_change() -> None:
    old = part(dict.fromkeys((ONE, OTHER), Verdict.PASS), replace(HOST, selected=(ONE, OTHER)))
    new = part({ONE: Verdict.PASS}, replace(HOST, selected=(ONE,)))
    found = trend(old, new)
    assert not found.changes
    assert [(one.what, one.old, one.new) for one in found.differences] == [
        ("selected requirements", f"2, of these only here {OTHER}", "1")
    ]


def test_a_failure_that_was_not_selected_is_gone() -> None:
    old = part({OTHER: Verdict.FAIL}, replace(HOST, selected=(OTHER,)))
    found = trend(old, part({ONE: Verdict.PASS}, replace(HOST, selected=(ONE,))))
    assert changes(found) == [(OTHER, "", Change.GONE)]


@pytest.mark.parametrize(
    ("field", "value", "what", "of_driver"),
    [
        ("suite", "9.9", "version of the suite", False),
        ("profile", "quick", "profile", False),
        ("seed", 99, "seed", False),
        ("examples", 1, "examples", False),
        ("kernel", "7.1", "kernel", False),
        ("expression", "x", "selected tests (-k)", False),
        ("version", "2.0", "version of the driver", True),
        ("declined", {"quota": "no"}, "declined capabilities", True),
    ],
)
def test_what_differs_besides_is_named(field: str, value: Any, what: str, of_driver: bool) -> None:
    changed: dict[str, Any] = {field: value}
    new = part({ONE: Verdict.PASS}, replace(HOST, **changed))
    (differing,) = trend(part({ONE: Verdict.PASS}), new).differences
    assert (differing.what, differing.of_driver) == (what, of_driver)


def test_a_failure_on_another_filesystem_is_new_although_the_requirement_failed_before() -> None:
    both = part({ONE: Verdict.FAIL}, RUN, "ext4").outcomes
    old = Part(RUN, both + part({ONE: Verdict.PASS}, RUN, "xfs").outcomes)
    new = Part(RUN, both + part({ONE: Verdict.FAIL}, RUN, "xfs").outcomes)
    found = [one for one in changes(trend(old, new)) if one[0] == ONE]
    assert found == [(ONE, "ext4", Change.STILL), (ONE, "xfs", Change.NEW)]


def test_patch_releases_of_kernels_are_the_same_place() -> None:
    def runs(patch: int) -> list[Part]:
        return [part({ONE: Verdict.FAIL}, replace(HOST, kernel=f"{series}.{patch}")) for series in ("6.1", "6.12")]

    found = compare(runs(4), runs(5), KNOWN)
    assert {(one.place, one.change) for one in found.changes if one.requirement == ONE} == {
        ("Linux 6.1", Change.STILL),
        ("Linux 6.12", Change.STILL),
    }


def test_two_kinds_of_drivers_are_not_compared() -> None:
    other = part({ONE: Verdict.PASS}, replace(HOST, connection="containers-storage:vfs"))
    with pytest.raises(BadResults, match="two kinds of drivers"):
        trend(part({ONE: Verdict.PASS}), other)


def test_failures_of_one_cause_are_one_group() -> None:
    reason = "the tree of a differs from the expected tree:\nunexpected: 'b'"
    found = trend(
        part(dict.fromkeys((ONE, OTHER), Verdict.PASS)),
        part(dict.fromkeys((ONE, OTHER), Verdict.FAIL), reason=reason),
    )
    (group,) = found.groups(Change.NEW)
    assert group.cause == "deleted or hidden entries are visible"
    assert tuple(group.requirements) == (ONE, OTHER)


def test_a_failure_that_has_another_cause_now_says_so() -> None:
    tree = "the tree of a differs from the expected tree:\n"
    old = part({ONE: Verdict.FAIL}, reason=f"{tree}unexpected: 'b'")
    found = trend(old, part({ONE: Verdict.FAIL}, reason=f"{tree}missing: 'b'"))
    (group,) = found.groups(Change.STILL)
    assert group.cause == "entries are missing"
    assert group.others == ("deleted or hidden entries are visible",)


# ---- The command.


def report(tmp_path: Path, old: Part, new: Part, *options: str) -> Result:
    files = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    for file, one in zip(files, (old, new), strict=True):
        records.write(file, [one])
    return CliRunner().invoke(main, ["report", str(files[1]), "--against", str(files[0]), *options])


def test_the_terminal_says_what_is_new_and_the_exit_status_is_1(tmp_path: Path) -> None:
    old = part(dict.fromkeys((ONE, OTHER), Verdict.PASS))
    done = report(tmp_path, old, part({ONE: Verdict.FAIL, OTHER: Verdict.DECLINED}, replace(HOST, version="2.0")))
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert "driver: version of the driver: 1.0 -> 2.0" in lines
    assert "NEW 1 (it fails, and did not fail before):" in lines
    assert f"    {ONE}" in lines
    assert "LOST 1 (it passed, and has no verdict any more):" in lines
    assert "    now: DECLINED: wrong" in lines
    assert lines[-1] == "1 requirement compared: 1 NEW, 1 LOST -> failures are new"
    assert not any("may come from what differs" in line for line in lines), "only the driver's version differs"


def test_a_doubt_is_said_where_the_suite_differs(tmp_path: Path) -> None:
    old, new = (part({ONE: Verdict.PASS}, replace(HOST, suite=suite)) for suite in ("0.3.0", "0.4.0"))
    done = report(tmp_path, old, new)
    assert done.exit_code == 0
    assert "differs: version of the suite: 0.3.0 -> 0.4.0" in done.output
    assert "a change of a verdict may come from what differs" in done.output


def test_json_markdown_and_page_have_the_trend(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("trend.json", "report.md", "page.html")]
    options = ("--trend", str(files[0]), "--markdown", str(files[1]), "--html", str(files[2]))
    done = report(tmp_path, part({ONE: Verdict.PASS}), part({ONE: Verdict.FAIL}), *options)
    assert done.exit_code == 1
    said = json.loads(files[0].read_text())
    assert said["counts"]["NEW"] == 1
    assert said["format"] == 1
    assert files[1].read_text().startswith("# overlay-conformance: failures are new\n")
    assert "## Failures" in files[1].read_text()
    assert '"name":"NEW"' in files[2].read_text()


def test_markdown_of_a_driver_that_says_markup_is_no_markup() -> None:
    hostile = part({ONE: Verdict.FAIL}, reason="expected a|b, found <b>*x*</b>\n# heading")
    text = trend_markdown(trend(part({ONE: Verdict.PASS}), hostile))
    assert "<b>" not in text
    assert "\n# heading" not in text


def test_a_file_that_cannot_be_used_is_not_a_new_failure(tmp_path: Path) -> None:
    new, old = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    records.write(new, [part({ONE: Verdict.PASS})])
    old.write_text("no results\n")
    done = CliRunner().invoke(main, ["report", str(new), "--against", str(old)])
    assert done.exit_code == 2
    done = CliRunner().invoke(main, ["report", str(new), "--trend", str(tmp_path / "trend.json")])
    assert done.exit_code == 2
    assert "--against" in done.output


def test_the_schema_is_printed() -> None:
    done = CliRunner().invoke(main, ["schema", "--trend"])
    assert done.output == SCHEMA.read_text()
