"""What a run found out, for people: a table, the failures with their steps, and one line at the end."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.cli.base import say
from conformance.cli.declining import print_proposals
from conformance.history.printable import one_line
from conformance.history.trace import example_heading
from conformance.report.records import Part, Run
from conformance.spec import Requirement, load_requirements
from conformance.spec.profiles import PROFILES
from conformance.spec.verdicts import RequirementResult, TestOutcome, Verdict, share_in_driver, totals

CONCLUSIONS: Final = {
    0: "conforms",
    1: "does not conform",
    2: "the harness failed",
    3: "nothing applicable ran",
}
_COLOURS: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.XPASS: "bold red",
    Verdict.ERROR: "bold magenta",
    Verdict.XFAIL: "yellow",
    Verdict.DECLINED: "yellow",
    Verdict.NOT_APPLICABLE: "yellow",
    Verdict.UNTESTED: "dim",
}
_SLOWEST: Final = 3  # tests to name
_EXPLAINED: Final = (Verdict.FAIL, Verdict.XPASS, Verdict.ERROR)


def print_summary(console: Console, part: Part, *, code: int, evidence: Path | None = None) -> None:
    """Everything, the conclusion last. ``evidence`` is what paths of evidence are relative to, None for none."""
    results, run = part.results(), part.run
    _print_table(console, results, load_requirements(), _passes(part))
    _print_capabilities(console, part)
    for outcome in _decisive(results):
        _print_outcome(outcome, run, evidence)
    print_proposals(part)
    for note in _notes(part, results):
        say(f"note: {one_line(note)}")
    counts: Counter[Verdict] = Counter()
    for of_level in totals({one.requirement: one.verdict for one in results}, load_requirements()).values():
        counts.update(of_level)
    said = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    where = f"on kernel {run.kernel}, {'+'.join(run.backings)}, privilege level {run.lane}"
    if part.outcomes:
        slowest = sorted(part.outcomes, key=lambda one: -one.seconds)[:_SLOWEST]
        say("slowest: " + ", ".join(f"{one.test} {one.seconds:.1f} s" for one in slowest))
        say(f"{share_in_driver(part.outcomes):.0%} of the test time was spent in the driver or the kernel")
    version = "" if run.version == "unknown" else f" {run.version}"
    say(
        one_line(
            f"{run.connection}{version} {where}, profile {run.profile}, seed {run.seed}:"
            f" {said or 'nothing ran'} -> {_concluded(code, counts, run)}"
        )
    )


def _passes(part: Part) -> dict[str, str]:
    """Of how many of its tests a PASS is, for each requirement; "" where nobody counted."""
    words = {one: share.words(part.run.profile) for one, share in part.shares().items()}
    return {one: f"  ({said})" for one, said in words.items() if said}


def _concluded(code: int, counts: Mapping[Verdict, int], run: Run) -> str:
    if run.interrupted or code not in CONCLUSIONS:
        return f"{run.failure or 'interrupted'}; this is not a conclusion"
    if run.stopped:
        return f"{CONCLUSIONS[code]}; {run.stopped}" if code == 1 else f"{run.stopped}; this is not a conclusion"
    if code == 0 and (counts[Verdict.UNTESTED] or run.expression):
        return "no deviation in the tested requirements"
    return CONCLUSIONS[code]


def _print_table(
    console: Console,
    results: Sequence[RequirementResult],
    requirements: Mapping[str, Requirement],
    passes: Mapping[str, str],
) -> None:
    if not console.is_terminal:
        # In a pipe there is no width to fit in: one line a requirement, for grep and diff.
        for result in results:
            sentence = requirements[result.requirement].sentence
            said = passes.get(result.requirement, "") if result.verdict is Verdict.PASS else ""
            say(f"{result.verdict.value:15} {result.requirement:32} {sentence}{said}")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for result in results:
        verdict = Text(result.verdict.value, style=_COLOURS[result.verdict])
        said = passes.get(result.requirement, "") if result.verdict is Verdict.PASS else ""
        table.add_row(verdict, Text(result.requirement), Text(requirements[result.requirement].sentence + said))
    console.print(table)


def _print_capabilities(console: Console, part: Part) -> None:
    rows = [one for one in part.capabilities() if one.effective != "yes"]
    if not rows:
        return
    table = Table("capability", "declared", "probed", "effective", "reason", box=None, pad_edge=False)
    for one in rows:
        said = (one.name, one.declared, one.probed, one.effective, one.reason)
        table.add_row(*(Text(one_line(text)) for text in said))
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(width=200, highlight=False, file=io.StringIO())
    wide.print(table)
    say(wide.file.getvalue().rstrip("\n") if isinstance(wide.file, io.StringIO) else "")


def _notes(part: Part, results: Sequence[RequirementResult]) -> list[str]:
    quiet = {Verdict.FAIL, Verdict.ERROR, Verdict.XPASS}
    reasons = {one.reason for result in results for one in result.outcomes if one.verdict not in quiet}
    said = Counter(line for outcome in part.outcomes for line in outcome.kernel)
    kernel = {f"the kernel logged {count} times: {line}" for line, count in said.items()}
    facts = {f"observed: {fact}" for outcome in part.outcomes for fact in outcome.facts}
    return sorted({*part.run.notes, *reasons, *kernel, *facts, _without_tests(part)} - {""})


def _without_tests(part: Part) -> str:
    """What to do where the profile has no test of anything that was asked for; "" if it has."""
    if part.outcomes or part.run.failure:
        return ""
    if part.run.expression:
        return (
            f"no test of the selected requirements in profile {part.run.profile} matches -k;"
            " 'overlay-conformance explain ID' names the tests of a requirement"
        )
    if part.run.profile == "release":
        return ""
    *more, last = PROFILES[PROFILES.index(part.run.profile) + 1 :]
    others = f"{', '.join(more)} or {last}" if more else last
    return f"profile {part.run.profile} has no test of the selected requirements; try --profile {others}"


def _decisive(results: Sequence[RequirementResult]) -> list[TestOutcome]:
    """The outcomes to explain, each once however many requirements it decided."""
    found: dict[str, TestOutcome] = {}
    for result in results:
        if result.verdict in _EXPLAINED:
            found |= {outcome.test: outcome for outcome in result.outcomes}
    return list(found.values())


def _print_outcome(outcome: TestOutcome, run: Run, evidence: Path | None) -> None:
    say(f"\n{outcome.verdict.value} {', '.join(outcome.requirements)}  ({outcome.test})")
    say("  " + outcome.reason.replace("\n", "\n  "))
    if outcome.steps:
        say(f"  {example_heading(minimal=run.shrinks)}")
        for number, step in enumerate(outcome.steps, 1):
            say(f"  {number:4}. {step}")
    if outcome.evidence and evidence is not None:
        folder = evidence / outcome.evidence
        script = folder / "repro.sh"
        say(f"  evidence: {script if script.exists() else folder / 'failure.md'}")
    chosen = " ".join(f"--requirement {one}" for one in outcome.requirements)
    limits = f"--seed {run.seed} --examples {run.examples}"
    where = f" --backing {outcome.backing}" if outcome.backing not in ("", "host") else ""
    profile = "" if run.profile == "standard" else f" --profile {run.profile}"
    say(f"  again: overlay-conformance run {shlex.quote(run.connection)} {chosen} {limits}{profile}{where}\n")
