"""What a run found out, for people: a table, the failures with their steps, and one line at the end."""

from __future__ import annotations

import io
import shlex
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.cli.base import say
from conformance.cli.blocks import Blocks
from conformance.cli.declining import print_proposals
from conformance.history.printable import cut, one_line
from conformance.report.causes import EXPLAINED, Failures, causes_of
from conformance.report.matrix import matrix_of
from conformance.report.records import Part, Run
from conformance.report.statement import CONFORMANT, NOT_CONFORMANT, UNDETERMINED, Statement, statements
from conformance.spec import Requirement, load_capabilities, load_requirements
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
_WORTH_SAYING: Final = 1.0  # second of shrinking
_SLOWEST: Final = 3  # tests to name
_EACH: Final = 40  # requirements, of which each has a line
_NARROW, _WIDE = 80, 140  # columns: the fewest, and those in a pipe
_MORE: Final = 12  # causes of which the number of failures is said
_FACTS: Final = 5
LEFT_OUT: Final = "not applicable: "  # harness.skips has the same, and brings pytest
_REASON: Final = 300  # characters of why a capability is missing
_CHOSEN: Final = 3  # requirements that a command names


def print_summary(console: Console, part: Part, blocks: Blocks, *, code: int, evidence: Path | None = None) -> None:
    """Everything, the conclusion last. ``evidence`` is the directory of the evidence folders, None for none.

    ``blocks`` has printed the failures that it heard of; others are printed first.
    """
    results, run = part.results(), part.run
    failed = _decisive(results)
    for one in failed:
        blocks.show(one)
    _print_verdicts(console, results, load_requirements(), part, blocks)
    _print_capabilities(console, part)
    for note in _notes(part, results):
        say(f"note: {one_line(note)}")
    _print_failures(failed, run, blocks, evidence)
    print_proposals(part, blocks.absent)
    counts: Counter[Verdict] = Counter()
    for of_level in totals({one.requirement: one.verdict for one in results}, load_requirements()).values():
        counts.update(of_level)
    said = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    where = f"on kernel {run.kernel}, {'+'.join(run.backings)}, privilege level {run.lane}"
    if part.outcomes:
        slowest = sorted(part.outcomes, key=lambda one: -one.seconds)[:_SLOWEST]
        say("slowest: " + ", ".join(f"{one.test} {one.seconds:.1f} s" for one in slowest))
        say(f"{share_in_driver(part.outcomes):.0%} of the test time was spent in the driver or the kernel")
        shrinking = sum(one.shrink_seconds for one in part.outcomes)
        if shrinking >= _WORTH_SAYING:
            took = sum(one.seconds for one in part.outcomes)
            say(f"{shrinking:.0f} s of {took:.0f} s of test time were spent on shrinking failing examples")
    statement = _statement(part)
    if statement:
        because = statement.because.partition(": ")[0]
        say(one_line(f"statement: {statement.conclusion}, as {because} ({statement.effort})"))
    version = "" if run.version == "unknown" else f" {run.version}"
    say(
        one_line(
            f"{run.connection}{version} {where}, profile {run.profile}, seed {run.seed}:"
            f" {said or 'nothing ran'} -> {_concluded(code, counts, run, statement)}"
        )
    )


def _passes(part: Part) -> dict[str, str]:
    """Of how many of its tests a PASS is, for each requirement; "" where nobody counted."""
    words = {one: share.words(part.run.profile) for one, share in part.shares().items()}
    return {one: f"  ({said})" for one, said in words.items() if said}


def _statement(part: Part) -> Statement | None:
    """What can be claimed after this run alone; None if nothing was judged."""
    requirements = load_requirements()
    if not part.outcomes or any(
        one not in requirements for outcome in part.outcomes for one in outcome.requirements
    ):
        return None
    (found,) = statements(matrix_of([part], requirements), requirements, load_capabilities())
    return found


def _concluded(code: int, counts: Mapping[Verdict, int], run: Run, statement: Statement | None) -> str:
    """The conclusion: "conforms" only where the statement says so; the exit status alone is no claim."""
    if run.interrupted or code not in CONCLUSIONS:
        return f"{run.failure or 'interrupted'}; this is not a conclusion"
    if run.stopped:
        return f"{CONCLUSIONS[code]}; {run.stopped}" if code == 1 else f"{run.stopped}; this is not a conclusion"
    claimed = statement.conclusion if statement else UNDETERMINED
    if code == 0 and claimed == NOT_CONFORMANT:
        return "no deviation besides known failures; not conformant"
    if code == 0 and (claimed != CONFORMANT or counts[Verdict.UNTESTED]):
        return "no deviation in the tested requirements"
    if code == 1 and claimed != NOT_CONFORMANT:
        return "does not conform to requirements of level SHOULD" if counts[Verdict.FAIL] else CONCLUSIONS[1]
    return CONCLUSIONS[code]


def _print_verdicts(
    console: Console,
    results: Sequence[RequirementResult],
    requirements: Mapping[str, Requirement],
    part: Part,
    blocks: Blocks,
) -> None:
    """A line for each requirement; of more than a screen of them, their ids by verdict."""
    if len(results) > _EACH:
        _print_ids(results, part, blocks, max(console.width, _NARROW) if console.is_terminal else _WIDE)
        return
    passes = _passes(part)
    table = Table(box=None, pad_edge=False, show_header=False)
    for result in results:
        sentence = requirements[result.requirement].sentence
        sentence += passes.get(result.requirement, "") if result.verdict is Verdict.PASS else ""
        if console.is_terminal:
            verdict = Text(result.verdict.value, style=_COLOURS[result.verdict])
            table.add_row(verdict, Text(result.requirement), Text(sentence))
        else:  # in a pipe there is no width to fit in: one line a requirement, for grep and diff
            say(f"{result.verdict.value:15} {result.requirement:32} {sentence}")
    if console.is_terminal:
        console.print(table)


def _print_ids(results: Sequence[RequirementResult], part: Part, blocks: Blocks, width: int) -> None:
    """The ids by verdict: a failure with the numbers of its blocks, a PASS of some tests with their number."""
    shares = part.shares()
    for verdict in Verdict:
        words = []
        for result in (one for one in results if one.verdict is verdict):
            share = shares.get(result.requirement)
            numbers = sorted({blocks.number(one) for one in result.outcomes}) if verdict in EXPLAINED else []
            partial = share if verdict is Verdict.PASS and share and share.ran < share.tests else None
            after = f"[{','.join(map(str, numbers))}]" if numbers else ""
            after = f"({partial.ran}/{partial.tests})" if partial else after
            words.append(result.requirement + after)
        if words:
            about = " (passed/tests, where a profile leaves out tests)" if any("(" in one for one in words) else ""
            about = " [number of the block]" if verdict in EXPLAINED else about
            say(f"{verdict.value} {len(words)}{about}:")
            for line in textwrap.wrap(" ".join(words), width, break_on_hyphens=False, break_long_words=False):
                say(f"  {line}")


def _print_capabilities(console: Console, part: Part) -> None:
    rows = [one for one in part.capabilities() if one.effective != "yes"]
    if not rows:
        return
    table = Table("capability", "declared", "probed", "effective", "reason", box=None, pad_edge=False)
    for one in rows:
        first = cut(one.reason.partition("\n")[0], _REASON)  # the evidence has a traceback
        said = (one.name, one.declared, one.probed, one.effective, first)
        table.add_row(*(Text(one_line(text)) for text in said))
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(width=200, highlight=False, file=io.StringIO())
    wide.print(table)
    say(wide.file.getvalue().rstrip("\n") if isinstance(wide.file, io.StringIO) else "")


def _notes(part: Part, results: Sequence[RequirementResult]) -> list[str]:
    """Each reason once: none that another note or a capability of the host has."""
    quiet = {Verdict.FAIL, Verdict.ERROR, Verdict.XPASS}
    reasons = {one.reason for result in results for one in result.outcomes if one.verdict not in quiet}
    said = Counter(line for outcome in part.outcomes for line in outcome.kernel)
    kernel = {f"the kernel logged {count} times: {line}" for line, count in said.items()}
    facts = {f"observed: {fact}" for outcome in part.outcomes for fact in outcome.facts}
    if len(facts) > _FACTS:
        facts = {f"observed: {len(facts)} choices that the requirements leave open; they are in the result file"}
    notes = {*part.run.notes, *reasons, *kernel, *facts, _without_tests(part)} - {""}
    known = {*part.run.notes, *part.run.lacking.values()}
    return sorted(one for one in notes if one.removeprefix(LEFT_OUT) not in known or one in known)


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
        if result.verdict in EXPLAINED:
            found |= {outcome.test: outcome for outcome in result.outcomes}
    return list(found.values())


def _script(cause: Failures, evidence: Path) -> Path | None:
    """The first reproducer that shows a failure of this cause."""
    folders = [evidence / Path(one.evidence).name for one in cause.outcomes if one.evidence]
    return next((folder / "repro.sh" for folder in folders if (folder / "repro.sh").exists()), None)


def _print_failures(failed: Sequence[TestOutcome], run: Run, blocks: Blocks, evidence: Path | None) -> None:
    """How many failures are like the one in a block, where the evidence is, and how to repeat one."""
    if not failed:
        return
    causes = sorted(causes_of(failed), key=lambda one: -len(one.outcomes))
    for cause in causes[:_MORE]:
        others = len(cause.outcomes) - 1
        several = f", {len(cause.requirements)} requirements" if len(cause.requirements) > 1 else ""
        said = [f"{others} more like this{several}: {one_line(cause.words)}"] if others else []
        script = _script(cause, evidence) if evidence is not None else None
        said += [f"reproducer: {one_line(str(script))}"] if script else []
        if said:
            say(f"[{blocks.number(cause.outcomes[0])}] {'; '.join(said)}")
    few = sum(len(cause.outcomes) > 1 for cause in causes[_MORE:])
    if few:
        say(f"{few} other causes have more than one failure; 'report --html' lists them")
    if evidence is not None and any(one.evidence for one in failed):
        where = one_line(str(evidence))
        say(f"evidence: {where}, a folder for each failure, with failure.md, and repro.sh where a script shows it")
    ids = list(dict.fromkeys(one for outcome in failed for one in outcome.requirements))
    chosen = " ".join(f"--requirement {one}" for one in ids) if len(ids) <= _CHOSEN else "--requirement ID"
    backings = {one.backing for one in failed} - {"", "host"}
    where = f" --backing {backings.pop()}" if len(backings) == 1 else ""
    profile = "" if run.profile == "standard" else f" --profile {run.profile}"
    limits = f"--seed {run.seed} --examples {run.examples}"
    say(f"again: overlay-conformance run {shlex.quote(run.connection)} {chosen} {limits}{profile}{where}")
