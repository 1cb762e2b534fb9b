"""What ``run`` does: judge a driver, tell people, and leave a result file and the evidence of failures."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import click
from rich.console import Console

from conformance.cli.base import ONCE, say, say_error
from conformance.cli.blocks import Blocks
from conformance.cli.choosing import selected
from conformance.cli.consoles import console as new_console
from conformance.cli.events import Events
from conformance.cli.judging import Asked, judge, known_failures, settled
from conformance.cli.summary import print_summary
from conformance.cli.trying import try_driver
from conformance.harness.interruption import Interruption
from conformance.history.printable import printable
from conformance.lab.scratch import scratch_directory
from conformance.report.records import Part, write
from conformance.spec import load_requirements
from conformance.spec.profiles import EXAMPLES
from conformance.spec.verdicts import TestOutcome, Verdict

# Hypothesis tries the simplest example first, so that the second one is the first that is drawn at random.
_FEW: Final = 2


def run_asked(
    driver: str,
    profile: str,
    budget: float | Literal["once"] | None,
    call_timeout: float,
    jobs: int,
    backings: tuple[str, ...],
    ids: tuple[str, ...],
    families: tuple[str, ...],
    expression: str,
    first_only: bool,
    max_failures: int | None,
    no_shrink: bool,
    examples: int | None,
    seed: int | None,
    expectations_file: Path | None,
    scratch: Path | None,
    results_file: Path | None,
    evidence: Path,
    no_evidence: bool,
    preflight_only: bool,
    events_to: str | None,
) -> None:
    """Run the suite as the options of conformance.cli.run say; exits with the status of docs/exit-codes.md."""
    _check_expression(expression)
    if results_file and not results_file.parent.is_dir():
        raise click.UsageError(f"{results_file.parent} is not a directory; create it first")
    if preflight_only:
        if results_file or events_to:
            raise click.UsageError("--preflight-only judges nothing, so it has no --results and no --events")
        sys.exit(try_driver(driver, scratch, backings, call_timeout))
    known = known_failures(expectations_file)
    asked = Asked(
        driver,
        profile,
        budget if isinstance(budget, float) else 0.0,
        jobs,
        backings,
        selected(ids, families),
        examples or (min(_FEW, EXAMPLES[profile]) if budget == ONCE else EXAMPLES[profile]),
        random.SystemRandom().randrange(2**32) if seed is None else seed,
        known,
        expectations_file,
        call_timeout,
        expression,
        1 if first_only else max_failures or 0,
        not no_shrink,
        budget if isinstance(budget, str) else f"{budget:g} s" if budget else "",
    )
    console = new_console(highlight=False)
    blocks = _blocks(console, asked, None if no_evidence else evidence)
    events = _events(events_to, asked)
    interruption = click.get_current_context().find_object(Interruption) or Interruption()
    with interruption.deferred():
        with scratch_directory(scratch) as directory:
            part, told, matchless = judge(asked, directory, console, blocks, events)
            if not no_evidence and any(one.verdict in (Verdict.FAIL, Verdict.ERROR) for one in part.outcomes):
                from conformance.cli.evidence import with_evidence  # it brings every adapter

                part = with_evidence(part, evidence, results_root(results_file), directory, console, interruption)
        if events and events.lost:
            part = part.noting(events.lost)
        unwritten = _written(results_file, part) if results_file else ""
        # What was judged before a signal came is worth a summary, and is no conclusion.
        code = 128 + interruption.signal if interruption.signal else part.exit_code or (1 if matchless else 0)
        code = 2 if unwritten and code in (0, 1, 3) else code
        if events:
            events.end(code)
    if told.failure and not told.interrupted:
        say_error(told.complaint)
    if not told.of_driver:  # nothing was judged then, and the complaint has said why
        print_summary(console, part, blocks, evidence=None if no_evidence else evidence, code=code)
    for line in matchless:
        say_error(f"{expectations_file}: {line}")
    if unwritten:
        say_error(unwritten)
    sys.exit(code)


def _say_while_read(text: str = "") -> None:
    """Print during a run. Nobody may read any more: the summary meets that again, after the results are written."""
    with suppress(BrokenPipeError):
        say(text)


def _blocks(console: Console, asked: Asked, evidence: Path | None) -> Blocks:
    def folder(outcome: TestOutcome) -> str:
        from conformance.evidence.folder import folder_name  # it brings every adapter

        written = evidence is not None and outcome.verdict in (Verdict.FAIL, Verdict.ERROR)
        return str(evidence / folder_name(outcome)) if evidence is not None and written else ""

    def on_terminal(line: str) -> None:
        console.print(printable(line), markup=False, soft_wrap=True)

    return Blocks(
        on_terminal if console.is_terminal else _say_while_read,
        load_requirements(),
        lambda outcome, version: settled(asked, outcome, version),
        folder,
    )


def _written(results_file: Path, part: Part) -> str:
    """Write the result file; why it could not be written, "" if it was."""
    try:
        write(results_file, [part])
    except OSError as error:
        return f"{results_file} could not be written: {error.strerror}; the verdicts are above"
    return ""


def results_root(results_file: Path | None) -> Path:
    """The directory that paths of evidence are relative to."""
    return results_file.parent if results_file else Path()


def _events(where: str | None, asked: Asked) -> Events | None:
    if where is None:
        return None
    try:
        events = Events(where)
    except OSError as error:
        raise click.UsageError(f"--events {where}: {error.strerror}") from error
    events.begin(asked.driver, asked.profile, len(asked.requirements))
    return events


def _check_expression(expression: str) -> None:
    """Refuse what pytest would refuse when everything is set up."""
    if not expression:
        return
    with suppress(ImportError):  # pytest has no public name for it; a version without this one says it itself
        from _pytest.mark.expression import Expression

        try:
            Expression.compile(expression)
        except Exception as error:  # of another class in pytest 8
            raise click.UsageError(
                f"-k {expression!r}: {error}; write names with 'and', 'or', 'not' and brackets"
            ) from error
