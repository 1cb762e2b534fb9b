"""Failures as a file of pytest, for the test suite of the driver itself."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from conformance.history.case import Case
from conformance.history.printable import printable
from conformance.spec import Requirement

_WIDE: Final = 90  # characters of a piece of a case
_COMMENT: Final = 8  # lines
_HEAD: Final = """\
# Failures of {driver}, found by overlay-conformance {suite}. Run them as root: pytest FILE
# A test fails while the driver deviates. OVERLAY_CONFORMANCE_DRIVER names another driver, or another version.

import json
import os

from conformance.evidence.replaying import check

DRIVER = os.environ.get("OVERLAY_CONFORMANCE_DRIVER", {connection})
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """A failure to export: ``said`` is the object of its case.json, ``words`` name its cause."""

    said: Mapping[str, Any]
    words: str


def pytest_file(
    failures: Sequence[Exported], connection: str, suite: str, requirements: Mapping[str, Requirement]
) -> str:
    """The text of the file, ASCII only: a test for each failure, with its case. Raises BadCase."""
    names: dict[str, int] = {}
    head = _HEAD.format(driver=_plain(connection), suite=_plain(suite), connection=ascii(connection))
    tests = ["\n".join(_test(one, names, requirements)) for one in failures]
    return "\n\n".join([head, *tests]) + "\n"


def _test(one: Exported, names: dict[str, int], requirements: Mapping[str, Requirement]) -> Iterator[str]:
    case = Case.from_json(one.said)
    name = re.sub(r"[^a-z0-9]+", "_", case.requirements[0].lower())
    names[name] = number = names.get(name, 0) + 1
    yield f"def test_{name}_{number}():"
    for known in (requirements[requirement] for requirement in case.requirements if requirement in requirements):
        yield from _comment(f"{known.id} ({known.level}): {known.sentence}")
    yield from _comment(f"{one.words}; found by {case.test}")
    for step in case.trace:
        yield from _comment(f"  {step}")
    yield "    case = json.loads("
    # No byte that a driver wrote can end a literal: they are ASCII, in the quotes of Python.
    text = json.dumps(one.said)
    yield from (f"        {text[at : at + _WIDE]!a}" for at in range(0, len(text), _WIDE))
    yield "    )"
    yield "    check(case, DRIVER)"
    yield ""


def _comment(text: str) -> list[str]:
    return textwrap.wrap(_plain(text), 100, initial_indent="    # ", subsequent_indent="    # ")[:_COMMENT]


def _plain(text: str) -> str:
    """One line of printable ASCII."""
    return printable(text).encode("ascii", "backslashreplace").decode()
