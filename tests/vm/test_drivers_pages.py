"""The results of builds of real drivers, which are data, and the pages and reports that are made from them."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from conformance.report import records
from conformance.report.records import BadResults
from conformance.spec.verdicts import Verdict
from vm.drivers import page
from vm.drivers.builds import FILES, Builds, load
from vm.drivers.data import Judged, all_of, is_answer, keep, read, why_not_whole
from vm.drivers.deviations import BadDeviations
from vm.drivers.deviations import load as load_deviations
from vm.drivers.page import pages_of
from vm.drivers.table import html_page

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
FILE_IDS: Final = [file.stem for file in FILES]


@pytest.fixture(scope="module", params=FILES, ids=FILE_IDS)
def builds(request: pytest.FixtureRequest) -> Builds:
    """Each file of builds of the project."""
    file: Path = request.param
    return load(file)


@pytest.fixture(scope="module")
def data(builds: Builds) -> Path:
    """The directory of the results of a file of builds."""
    return DOCS.parent / builds.page.data


@pytest.fixture(scope="module")
def published(builds: Builds, data: Path) -> list[Judged]:
    return all_of(builds, data)


def test_all_builds_were_asked_one_question_and_no_cell_is_an_error(
    builds: Builds, published: list[Judged]
) -> None:
    assert published
    assert {one.part.run.specification for one in published} == {published[0].part.run.specification}
    for one in published:
        assert why_not_whole(one.part, builds.question) == "", one.build.name
        assert one.part.run.connection.startswith(one.build.connection.partition("{")[0]), one.build.name
        backing = "host" if one.build.backing == "host" else one.build.backing
        assert one.part.run.backings == (backing,)


def test_the_pages_are_what_the_data_give() -> None:
    names: list[str] = []
    for builds in map(load, FILES):
        made = pages_of(builds, DOCS.parent / builds.page.data, DOCS)
        names += made
        for name, text in made.items():
            assert (DOCS / name).read_text() == text, f"{name}: run 'overlay-conformance drivers pages'"
    there = [f"deviations/{path.name}" for path in (DOCS / "deviations").glob("*.md")]
    assert sorted(names) == sorted([*there, *(load(file).page.name for file in FILES)])


def test_the_page_of_all_requirements_has_a_column_for_each_build(published: list[Judged]) -> None:
    """Its data is JSON in the page, so a name may have escapes."""
    made = html_page(published)
    for one in published:
        assert one.build.line in made
        assert json.dumps(one.version)[1:-1] in made
        for folder in one.scripts:
            assert f"{one.build.name}/{folder}" in made


def test_a_cpu_time_that_was_not_measured_is_no_zero(builds: Builds, data: Path, published: list[Judged]) -> None:
    found = [replace(published[0], cpu=0.0), replace(published[1], cpu=2.4)]
    lines = list(page._verdicts(builds, found, load_deviations(data)))
    rows = [line for line in lines if line.startswith(tuple(f"| {one.build.name} |" for one in found))]
    assert [row.split(" | ")[-1] for row in rows] == ["- |", "2 |"]


def test_a_failure_without_a_judgement_is_an_error(
    builds: Builds, data: Path, published: list[Judged], tmp_path: Path
) -> None:
    judged = next(one for one in published if one.failures)
    requirement, _ = judged.failures[0]
    shutil.copy2(data / f"{judged.build.name}.tar.xz", tmp_path)
    text = (data / "deviations.toml").read_text()
    head, *entries = text.split("[[deviation]]")
    kept = [one for one in entries if f'"{requirement}"' not in one]
    (tmp_path / "deviations.toml").write_text("[[deviation]]".join([head, *kept]))
    with pytest.raises(BadDeviations, match=f"{judged.build.name}: {requirement}: "):
        pages_of(builds, tmp_path, DOCS)


def test_a_requirement_that_every_driver_breaks_needs_an_answer(tmp_path: Path) -> None:
    builds = load()
    data = DOCS.parent / builds.page.data
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    head, *entries = (data / "deviations.toml").read_text().split("[[questioned]]")
    assert entries
    (tmp_path / "deviations.toml").write_text(head)
    with pytest.raises(BadDeviations, match=r"every driver breaks OVL-[A-Z-]+; add a \[\[questioned\]\]"):
        pages_of(builds, tmp_path, DOCS)


def test_every_judgement_is_of_a_failure_that_was_seen(data: Path, published: list[Judged]) -> None:
    deviations = load_deviations(data)
    seen = {
        found.name
        for one in published
        for requirement, outcome in one.failures
        if (found := deviations.of(one.build.line, requirement, outcome))
    }
    assert seen == {one.name for one in deviations.deviation}


def test_what_is_private_has_no_reproducer_in_public(data: Path, published: list[Judged]) -> None:
    deviations = load_deviations(data)
    assert any(deviations.private_requirements(one.build.line) for one in published)
    for one in published:
        hidden = deviations.private_requirements(one.build.line)
        for outcome in one.part.outcomes:
            if hidden & set(outcome.requirements):
                assert outcome.steps == (), one.build.name
                assert outcome.evidence == "", one.build.name
    for deviation in deviations.deviation:
        page = (DOCS / "deviations" / f"{deviation.name}.md").read_text()
        assert ("```" in page) is not deviation.private, deviation.name
        assert not (deviation.private and deviation.report), deviation.name


def test_scripts_of_private_requirements_are_not_kept(builds: Builds, data: Path, tmp_path: Path) -> None:
    build = builds.build[0]
    published = next(one for one in all_of(builds, data) if one.scripts)
    failing = next(one for one in published.part.outcomes if one.evidence in published.scripts)
    part = replace(published.part, outcomes=(failing,))
    records.write(tmp_path / "results.jsonl", [part])
    (tmp_path / failing.evidence).mkdir(parents=True)
    (tmp_path / failing.evidence / "repro.sh").write_text("#!/bin/sh\n")
    (tmp_path / failing.evidence / "failure.md").write_text(f"see {tmp_path}/{failing.evidence}/repro.sh\n")
    for private, kept in (((), {failing.evidence}), (failing.requirements, set())):
        keep(build, tmp_path, tmp_path / "data", private)
        found = read(build, builds, tmp_path / "data")
        assert found
        assert found.scripts.keys() == kept
        with tarfile.open(tmp_path / "data" / f"{build.name}.tar.xz", "r:xz") as archive:
            words = [archive.extractfile(one) for one in archive if one.name.endswith("failure.md")]
            assert [one.read() for one in words if one] == [f"see {one}/repro.sh\n".encode() for one in kept]
        (outcome,) = found.part.outcomes
        assert bool(outcome.steps) is bool(kept)
        assert outcome.cause == failing.cause


@pytest.mark.parametrize("change", ["examples", "requirements", "error", "failure"])
def test_a_result_that_is_not_whole_is_no_answer(builds: Builds, published: list[Judged], change: str) -> None:
    part, question = published[0].part, builds.question
    match change:
        case "examples":
            question = replace(question, examples=question.examples + 1)
        case "requirements":
            question = replace(question, requirements=("OVL-LIFE-CREATE",))
        case "error":
            part = replace(part, outcomes=(replace(part.outcomes[0], verdict=Verdict.ERROR), *part.outcomes[1:]))
        case "failure":
            part = replace(part, run=replace(part.run, failure="no space left\nmore"))
    assert why_not_whole(part, question)
    assert not is_answer(part, question)


def test_an_archive_that_is_none_is_refused(builds: Builds, tmp_path: Path) -> None:
    file = tmp_path / f"{builds.build[0].name}.tar.xz"
    file.write_bytes(b"no archive")
    with pytest.raises(BadResults, match="this is no archive of results"):
        read(builds.build[0], builds, tmp_path)
    with tarfile.open(file, "w:xz"):
        pass
    with pytest.raises(BadResults, match=r"there is no results.jsonl; judge .* again"):
        read(builds.build[0], builds, tmp_path)


# ---- Reports for upstream.


def test_every_report_is_of_a_form_that_a_maintainer_can_act_on() -> None:
    reports = sorted((DOCS / "upstream").glob("*.md"))
    assert len(reports) >= 10
    files = [DOCS.parent / load(file).page.data for file in FILES]
    named = {one.report for data in files for one in load_deviations(data).deviation} - {""}
    assert named <= {path.stem for path in reports}
    for path in reports:
        text = path.read_text()
        for heading in ("Script", "Expected", "Cause", "Suggested direction"):
            assert f"\n## {heading}\n\n" in text, f"{path.name}: {heading}"
        for fact in ("- version: ", "- seen in: ", "- upstream: ", "\nOutput ("):
            assert fact in text, f"{path.name}: {fact}"
        assert "overlay-conformance" not in text.partition("## Expected")[0], path.name
