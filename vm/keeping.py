"""What a cell keeps that was interrupted: the requirements whose tests all ran; and how the rest joins it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from conformance.report.records import BadResults, Part, merge, read
from conformance.spec.verdicts import Verdict

_OPEN: Final = (Verdict.UNTESTED, Verdict.ERROR)


def settled(part: Part) -> frozenset[str]:
    """Requirements of a run that ended early whose tests all ran, and which have a verdict that says something.

    One that shares a test with a requirement that is not settled is not, so that no test has to run again.
    """
    shares = part.shares()
    said = {one.requirement: one.verdict for one in part.results()}
    whole = {name for name, share in shares.items() if 0 < share.tests <= share.ran}
    found = {name for name in whole if said.get(name, Verdict.UNTESTED) not in _OPEN}
    while True:
        shared = {
            name for one in part.outcomes if not found.issuperset(one.requirements) for name in one.requirements
        }
        if not found & shared:
            return frozenset(found)
        found -= shared


def kept(file: Path) -> Part | None:
    """The settled part of an interrupted cell's result file; None if there is nothing of the kind."""
    try:
        (part,) = read(file)
    except (BadResults, ValueError):
        return None
    names = settled(part) if part.run.interrupted else frozenset()
    if not names:
        return None
    tests = {
        backing: {name: count for name, count in counts.items() if name in names}
        for backing, counts in part.run.tests.items()
    }
    run = replace(part.run, selected=tuple(sorted(names)), tests=tests, failure="")
    return Part(run, tuple(one for one in part.outcomes if names.issuperset(one.requirements)))


def joined(before: Part, now: Part) -> Part:
    """One run of both; a test that ran again, for a requirement that was not settled, has failed if it ever did.

    Raises BadResults if they are not of one run.
    """
    failed = {(one.test, one.backing) for one in before.outcomes if one.verdict is Verdict.FAIL}
    again = {(one.test, one.backing) for one in now.outcomes} - failed
    first = tuple(one for one in before.outcomes if (one.test, one.backing) not in again)
    second = tuple(one for one in now.outcomes if (one.test, one.backing) not in failed)
    parts = merge([("what was kept", [Part(before.run, first)]), ("the rest", [Part(now.run, second)])])
    if len(parts) != 1:
        raise BadResults("the driver, the kernel or the suite is another than before the interruption")
    return parts[0]


def keep_evidence(part: Part, source: Path, target: Path) -> None:
    """Copy the evidence folders of a part, as far as they are there and not in the target."""
    for folder in {one.evidence for one in part.outcomes if one.evidence}:
        with suppress(FileNotFoundError, FileExistsError):
            shutil.copytree(source / folder, target / folder)
