"""The evidence folders that ``run`` writes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from conformance.cli.base import say_error
from conformance.cli.progress import Progress
from conformance.drivers.registry import dialect_of
from conformance.drivers.source import Dialect
from conformance.evidence.folder import About, write_folder, write_kernel_folder, write_plain_folder
from conformance.harness.interruption import Interrupted, Interruption
from conformance.report.records import Part, Run
from conformance.spec import Requirement, health, load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict


def with_evidence(
    part: Part,
    evidence: Path,
    root: Path,
    scratch: Path,
    console: Console,
    interruption: Interruption,
) -> Part:
    """The part with an evidence folder for each failure and error; paths are relative to ``root``.

    A folder that cannot be written is a note, no error.
    """
    about = _about(part.run)
    folders: dict[int, Path] = {}
    for outcome in part.outcomes:
        if outcome.verdict is Verdict.ERROR or (outcome.verdict is Verdict.FAIL and not outcome.case):
            of_kernel = outcome.verdict is Verdict.FAIL and outcome.test == health.TEST
            write = write_kernel_folder if of_kernel else write_plain_folder
            try:
                folders[id(outcome)] = write(evidence, outcome, load_requirements(), about)
            except Exception as error:
                part = part.noting(_no_evidence(outcome, error))
    with_case = [outcome for outcome in part.outcomes if outcome.verdict is Verdict.FAIL and outcome.case]
    if with_case:
        found, notes = _folders(with_case, part.run.connection, evidence, about, scratch, console, interruption)
        folders |= found
        part = part.noting(*notes)
    paths = {number: os.path.relpath(folder, root) for number, folder in folders.items()}
    outcomes = tuple(
        replace(outcome, evidence=paths.get(id(outcome), outcome.evidence)) for outcome in part.outcomes
    )
    return Part(part.run, outcomes)


def _no_evidence(outcome: TestOutcome, error: Exception) -> str:
    return f"evidence of {outcome.test} could not be written: {type(error).__name__}: {error}"


def _folders(
    failed: Sequence[TestOutcome],
    connection: str,
    evidence: Path,
    about: About,
    scratch: Path,
    console: Console,
    interruption: Interruption,
) -> tuple[dict[int, Path], list[str]]:
    """The evidence folders by the identity of their outcomes, and a note for each that could not be written.

    After a signal no more scripts are tried, as one may take minutes.
    """
    try:
        dialect = dialect_of(connection)
    except Exception as error:
        return {}, [f"no evidence was written: {type(error).__name__}: {error}"]
    folders: dict[int, Path] = {}
    notes: list[str] = []
    with Progress(console, "writing evidence", say_error) as progress:
        for number, outcome in enumerate(failed, 1):
            progress.say(f"evidence {number} of {len(failed)}: running the reproducer of {outcome.test}")
            about_outcome = (evidence, outcome, load_requirements(), about, dialect, scratch)
            try:
                folder = _folder_in_time(about_outcome, interruption)
            except Exception as error:
                notes.append(_no_evidence(outcome, error))
                continue
            if folder:
                folders[id(outcome)] = folder
    return folders, notes


def _folder_in_time(
    about_outcome: tuple[Path, TestOutcome, Mapping[str, Requirement], About, Dialect | None, Path],
    interruption: Interruption,
) -> Path | None:
    """A folder with a script that was tried, unless a signal comes or came: then without."""
    if interruption.signal is None:
        try:
            with interruption.at_once():
                return write_folder(*about_outcome)
        except Interrupted:
            say_error(f"interrupted by {interruption.words}; the other reproducers are not run")
    return write_folder(*about_outcome, untried=f"the run was interrupted by {interruption.words}")


def _about(run_of: Run) -> About:
    """The run, as an evidence folder describes it."""
    return About(
        run_of.connection,
        run_of.version,
        run_of.suite,
        run_of.kernel,
        run_of.seed,
        run_of.examples,
        run_of.profile,
        run_of.shrinks,
    )
