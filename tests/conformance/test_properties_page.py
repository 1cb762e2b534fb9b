"""The properties that field reports ask for, in docs/judging.md: what they name exists."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Final

from conformance.observing.questions import cases
from conformance.spec import load_requirements

PAGE: Final = Path(__file__).parents[2] / "docs" / "judging.md"
COUNT: Final = 19


def rows() -> list[str]:
    section = PAGE.read_text().split("## Properties that field reports ask for\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_each_property_has_a_judge_or_a_reason() -> None:
    found = rows()
    assert len(found) == COUNT
    for row in found:
        assert re.search(r"OVL-[A-Z0-9-]+|observed|not judged: ", row), row


def test_requirements_and_questions_of_properties_exist() -> None:
    ids = set(load_requirements())
    names = {one.name for one in cases()}
    asked = {question.name for one in cases() for question in one.questions}
    for row in rows():
        assert set(re.findall(r"OVL-[A-Z0-9-]+", row)) <= ids, row
        for pattern in re.findall(r"`([a-z][a-z-]*\*?)`", row):
            assert fnmatch.filter(names | asked, pattern), (pattern, row)
