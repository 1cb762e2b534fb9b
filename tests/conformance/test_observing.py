"""Observations: the words for what a tree shows, the questions, and the table of several drivers."""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from conformance.cli import main
from conformance.corpus.tables import vectors
from conformance.corpus.vector import expected_file
from conformance.drivers.protocol import CallLimit
from conformance.drivers.registry import connect
from conformance.harness.observation import FORMAT, LINES, Line, Observation, Observed, Observing
from conformance.harness.validating.subject import Subject
from conformance.harness.validating.watch import Watch
from conformance.observing import seeing
from conformance.observing.question import REFUSED, Case, Question
from conformance.observing.questions import cases
from conformance.observing.seeing import Reading
from conformance.observing.table import BadObservations, Column, as_html, as_markdown, read, rows
from conformance.observing.worker import observations, seen_at
from conformance.operations.archives import file
from conformance.report.schemas import OBSERVATIONS

ROOT = Path(__file__).parents[2]
NAIVE = ROOT / "tests" / "support" / "naive_unpacker.py"
TIME = 1_500_000_000_123_456_789
ABOUT = Observing(FORMAT, "python:x:Y", "y 1", "1", "root", "6.1", "ext4", "0.4.0", "2026-11-26")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A file that is linked, a directory, a symlink and a file that is empty."""
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "a").write_bytes(b"old")
    (root / "b").hardlink_to(root / "a")
    (root / "copy").write_bytes(b"old")
    (root / "empty").touch()
    (root / "s").symlink_to("a")
    (root / "a").chmod(0o640)
    for name in ("a", "d"):
        os.utime(root / name, ns=(TIME, TIME))
    return root


@pytest.mark.parametrize(
    ("read_it", "expected"),
    [
        (seeing.mode(b"a", 0o640), "kept"),
        (seeing.mode(b"a", 0o600), "640"),
        (seeing.mode(b"none", 0o600), "gone"),
        (seeing.owner(b"a", (os.getuid(), os.getgid())), "kept"),
        (seeing.owner(b"a", (7, 8)), f"{os.getuid()}:{os.getgid()}"),
        (seeing.time(b"a", TIME), "kept"),
        (seeing.time(b"a", TIME + 1), "fraction changed"),
        (seeing.time(b"a", TIME + 10**9), "another second"),
        (seeing.time(b"a", TIME + 10**10), "another time"),
        (seeing.time(b"empty", TIME), "time of the call"),
        (seeing.kind(b"s"), "symlink"),
        (seeing.kind(b"d"), "directory"),
        (seeing.one_of(first_word=b"none", second_word=b"d"), "second word"),
        (seeing.one_of(first_word=b"none"), "nothing"),
        (seeing.content(b"a", old_content=b"old"), "old content"),
        (seeing.content(b"a", old_content=b"new"), "other content"),
        (seeing.content(b"empty", old_content=b"old"), "empty file"),
        (seeing.content(b"s", old_content=b"old"), "symlink"),
        (seeing.linked(b"b", b"a", b"old"), "linked"),
        (seeing.linked(b"copy", b"a", b"old"), "copied"),
        (seeing.linked(b"copy", b"none", b"old"), "kept, target gone"),
        (seeing.linked(b"empty", b"a", b"old"), "empty file"),
        (seeing.linked(b"none", b"a", b"old"), "missing"),
        (seeing.names({"as it is": ("d",)}, "d"), "as it is"),
        (seeing.names({"another": ("e",)}, "d"), "d"),
        (seeing.names({}, "e"), "nothing"),
        (seeing.whiteout(b"none", b"none"), "deletes"),
        (seeing.whiteout(b"none", b"a"), "ignored"),
        (seeing.whiteout(b"s", b"a"), "symlink with this name"),
        (seeing.whiteout(b"s", b"none"), "symlink with this name, and deletes"),
    ],
)
def test_words_for_what_a_tree_shows(tree: Path, read_it: Reading, expected: str) -> None:
    assert read_it(seen_at(str(tree))) == expected


def test_names_of_cases_and_questions_are_unique() -> None:
    found = [one.name for one in cases()]
    asked = [question.name for case in cases() for question in case.questions]
    assert len(found) == len(set(found))
    assert len(asked) == len(set(asked))


def answers(driver: str, scratch: Path, of: Sequence[Case] | None = None) -> dict[str, str]:
    source = connect(driver)
    try:
        subject = Subject(source, True, scratch, {}, CallLimit(20), Watch(20))
        return {one.question: one.value for case in of or cases() for one in observations(subject, case)}
    finally:
        source.close()


def decided(found: dict[str, str]) -> list[str]:
    """The questions that the text decides, and whose answer it does not permit."""
    questions = [one for case in cases() for one in case.questions if one.right and one.name in found]
    return [one.name for one in questions if found[one.name] not in one.right]


@pytest.mark.mounts
def test_the_reference_driver_does_what_the_text_decides(scratch: Path) -> None:
    found = answers("python:refdriver:Driver", scratch)
    assert decided(found) == []
    assert found["file-below-a-symlink"] == "replaces the link"
    assert found["implied-directory-mode"] == "755"
    assert found["name-outside"] == REFUSED
    assert found["whiteout-in-a-missing-directory"] == "not made"
    assert found["sparse-1.0"] == REFUSED


def test_an_unpacker_that_is_wrong_is_seen(scratch: Path) -> None:
    """Whiteouts that delete what their own layer has."""
    asked = [one for one in cases() if one.name in ("whiteout-then-file", "file-then-whiteout", "opaque-last")]
    right = scratch / "right.py"
    shutil.copy(NAIVE, right)
    (scratch / "right").mkdir()
    found = answers(f"unpacker:{sys.executable} {right} {{layout}} {{tag}} {{directory}}", scratch / "right", asked)
    assert decided(found) == []
    script = "for one in {layers}; do tar -x -f $one -C {directory}; done; rm -f {directory}/.wh.f {directory}/f"
    (scratch / "wrong").mkdir()
    found = answers(f"unpacker:{script}", scratch / "wrong", asked)
    assert decided(found) == ["whiteout-then-file", "file-then-whiteout", "opaque-last"]


QUESTION = Question("q", "a | question", seeing.kind(b"f"), "it is a file", ("file",))
CASE = Case("layers-of-q", ((file("f"),),), (QUESTION, replace(QUESTION, name="unasked")))


def test_a_table_marks_what_the_text_does_not_permit() -> None:
    columns = [
        Column(replace(ABOUT, name=name), {"q": Observation("layers-of-q", "q", value, detail)})
        for name, value, detail in (("right", "file", ""), ("wrong", "symlink", "<no>"))
    ]
    (row,) = rows(columns, [CASE])
    assert [one.deviates for one in row.cells] == [False, True]
    text = as_markdown(columns, [CASE])
    assert "| [a \\| question](#layers-of-q) | file | **symlink** |" in text
    assert "- layer 1: `file 'f' mode=0644`" in text
    marked = '<td class="deviates" title="&lt;no&gt;"><a href="#case-layers-of-q">symlink</a></td>'
    assert marked in as_html(columns, [CASE])


def test_what_differs_without_privileges_has_a_table_of_its_own() -> None:
    def column(name: str, lane: str, value: str, other: str) -> Column:
        about = replace(ABOUT, name=name, lane=lane)
        given = {
            "q": Observation("layers-of-q", "q", value),
            "unasked": Observation("layers-of-q", "unasked", other),
        }
        return Column(about, given)

    columns = [
        column("one", "root", "file", "file"),
        column("one", "user-namespace", "refused", "file"),
        column("two", "root", "symlink", "file"),
        column("two", "user-namespace", "symlink", "file"),
        column("three", "user-namespace", "symlink", "symlink"),
    ]
    table, _, without = as_markdown(columns, [CASE]).partition("### Without privileges")
    assert "| question | one | two | three |" in table, "what was never observed as root has its column here"
    assert table.count("| [a \\| question](#layers-of-q) | file |") == 2
    assert "| question | one | two |\n" in without
    assert without.count("| [a \\| question](#layers-of-q) |") == 1
    assert "| **refused** | **symlink** |\n" in without
    page = as_html(columns, [CASE])
    assert page.count('<tr id="q">') == page.count('<tr id="unprivileged-q">') == 1
    assert '<tr id="unprivileged-unasked">' not in page
    alone = as_markdown(columns[4:], [CASE])
    assert "Without privileges" not in alone
    assert "| [a \\| question](#layers-of-q) | **symlink** |" in alone


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.xz"])
def test_a_file_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    lines: list[Line] = [ABOUT, Observation("c", "q", "file"), Observed(0)]
    data = "".join(json.dumps(LINES.plain(one)) + "\n" for one in lines).encode()
    (tmp_path / name).write_bytes(lzma.compress(data) if name.endswith("xz") else data)
    column = read(tmp_path / name)
    assert column.about == ABOUT
    assert column.answers["q"].value == "file"


@pytest.mark.parametrize("lines", [[], [ABOUT], [ABOUT, Observed(2)], [Observation("c", "q", "file"), Observed(0)]])
def test_a_file_that_is_not_whole_is_refused(
    tmp_path: Path, lines: list[Observing | Observation | Observed]
) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text("".join(json.dumps(LINES.plain(one)) + "\n" for one in lines))
    with pytest.raises(BadObservations, match="is not whole: observe the driver again"):
        read(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_text('{"record": "run"}\n[]\n')
    with pytest.raises(BadObservations, match="is no file of 'observe --output'"):
        read(tmp_path / "o.jsonl")


def test_the_command_writes_what_the_schema_says(scratch: Path) -> None:
    path = scratch / "o.jsonl"
    words = ["observe", "unpacker:gnutar", "--case", "same-name-twice", "--scratch", str(scratch), "-o", str(path)]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0, told.output
    assert "same-name-twice                 last" in told.output
    schema = json.loads(OBSERVATIONS.read_text())
    for line in path.read_text().splitlines():
        jsonschema.validate(json.loads(line), schema)
    told = CliRunner().invoke(main, ["divergence", str(path)])
    assert told.exit_code == 0
    assert "two entries of one name" in told.output


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ("exit 3; {layout} {directory}", "the command exited with status 3"),
        ("echo {layout} {directory}", "shows nothing"),
    ],
)
def test_a_tool_that_does_nothing_is_no_column(scratch: Path, tool: str, why: str) -> None:
    """One that cannot run would seem to refuse every archive."""
    path = scratch / "o.jsonl"
    told = CliRunner().invoke(main, ["observe", f"unpacker:{tool}", "--scratch", str(scratch), "-o", str(path)])
    assert told.exit_code == 2
    assert f"the driver does not show two plain layers, so no answer would tell anything: {why}" in told.stderr
    assert not path.exists()


def test_a_case_that_is_not_there_is_refused_with_a_suggestion() -> None:
    told = CliRunner().invoke(main, ["observe", "unpacker:gnutar", "--case", "same-name-twise"])
    assert told.exit_code == 2
    assert "same-name-twice" in told.stderr


def test_the_html_page_leads_from_an_answer_to_its_layers_and_its_vector(tmp_path: Path) -> None:
    page, corpus = tmp_path / "page.html", "corpus"
    (column,) = (ROOT / "docs" / "divergence").glob("umoci-0.6.0.jsonl.xz")
    told = CliRunner().invoke(main, ["divergence", str(column), "--html", str(page), "--corpus", f"{corpus}/"])
    assert told.exit_code == 0, told.output
    text = page.read_text()
    assert '<td><a href="#case-same-name-twice">last</a></td>' in text
    assert '<h3 id="case-same-name-twice">' in text
    there = {f"{corpus}/{expected_file(one)}" for one in vectors()}
    links = set(re.findall(r'href="([^"#]+)"', text))
    assert len(links) >= 50
    assert links <= there
    told = CliRunner().invoke(main, ["divergence", str(column), "--corpus", corpus])
    assert told.exit_code == 2
    assert "add --html FILE" in told.stderr


def test_the_page_says_what_changed_between_versions() -> None:
    data = ROOT / "docs" / "divergence"
    text = as_markdown([read(data / f"umoci-{one}.jsonl.xz") for one in ("0.4.7", "0.6.0")], cases())
    assert "- umoci 0.4.7 and umoci 0.6.0: a whiteout of the name .wh.: refused, then empties the tree\n" in text
    assert "### Differences between versions" not in as_markdown([read(data / "umoci-0.6.0.jsonl.xz")], cases())


def test_the_page_is_what_its_data_gives() -> None:
    columns = [read(path) for path in sorted((ROOT / "docs" / "divergence").glob("*.jsonl.xz"))]
    assert len(columns) >= 12
    assert as_markdown(columns, cases()) in (ROOT / "docs" / "divergence.md").read_text()
